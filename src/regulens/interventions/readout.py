"""What is measured of a run? Named read-outs, each with its place in the computation order.

A read-out sees an intervention only if it lies strictly behind everything that the intervention changes. Asking
for another one is an error: the attention of a layer cannot tell what the heads of that layer, or of a later one, do,
and would report "no effect" of an ablation that could not have had any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from regulens.errors import ParameterError
from regulens.interventions.places import Place, Stage, check_layer
from regulens.interventions.tokens import column_of
from regulens.models.base import AbstractAdapter, LayerAttention, TokenBatch
from regulens.types.attention import Direction
from regulens.types.genes import GeneVocabulary

if TYPE_CHECKING:
    import torch

    from regulens.types.attention import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One finished forward pass, as read-outs see it.

    Parameters
    ----------
    adapter
        The model.
    batch
        Tokens as they were run, changes of the input included.
    states
        Hidden states after the embedding and after every layer.
    attention
        By layer, for the layers that some read-out needs.
    """

    adapter: AbstractAdapter
    batch: TokenBatch
    states: list[torch.Tensor]
    attention: dict[int, LayerAttention] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readout:
    """A named measurement.

    Parameters
    ----------
    name
        For tables.
    place
        Where the measured thing is computed, given the model.
    function
        The measurement; first axis of its result is the cell. NaN where a cell lacks what is measured.
    check
        Refuses, before anything is run, a model that cannot answer.
    layer
        Layer whose attention is needed; −1 for none.
    """

    name: str
    place: Callable[[ModelCard], Place]
    function: Callable[[Run], np.ndarray]
    check: Callable[[AbstractAdapter], None]
    layer: int = -1


def hidden(layer: int) -> Readout:
    """State after a layer.

    Parameters
    ----------
    layer
        Zero-based, as heads are counted: ``hidden(0)`` is the state after the first layer.

    Returns
    -------
    Read-out of shape ``(cell, position, width)``; padded positions mean nothing.
    """

    def check(adapter: AbstractAdapter) -> None:
        check_layer(layer, adapter.card)

    return Readout(
        name=f"hidden(L{layer:02d})",
        place=lambda _: Place(layer, Stage.STATE),
        function=lambda run: run.states[layer + 1].cpu().numpy(),
        check=check,
    )


def cell_embedding(how: Literal["auto", "cls", "mean"] = "auto") -> Readout:
    """Embedding of each cell from the state after the last layer.

    Parameters
    ----------
    how
        ``"cls"``: the first token, as published for scGPT (without its scaling to unit length); ``"mean"``: the mean
        over tokens of genes, as published for Geneformer (there of the last layer but one); ``"auto"``: the first
        where the model has ``<cls>``, else the second.

    Returns
    -------
    Read-out of shape ``(cell, width)``, float64.
    """
    if how not in ("auto", "cls", "mean"):
        message = f"Expected how to be 'auto', 'cls' or 'mean', got {how!r}."
        raise ParameterError(message)

    def check(adapter: AbstractAdapter) -> None:
        if how == "cls" and "<cls>" not in adapter.card.special_tokens:
            message = f"Expected a model with <cls> for cell_embedding('cls'), got {adapter.card.name} without. "
            raise ParameterError(message + "Use cell_embedding('mean').")

    def function(run: Run) -> np.ndarray:
        state = run.states[-1].double().cpu().numpy()
        if how == "cls" or (how == "auto" and "<cls>" in run.adapter.card.special_tokens):
            return state[:, 0]
        genes = (run.batch.gene >= 0)[:, :, None]
        count = genes.sum(1)
        total = np.where(genes, state, 0.0).sum(1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    return Readout(
        name=f"cell_embedding({how})",
        place=lambda card: Place(card.n_layers - 1, Stage.STATE),
        function=function,
        check=check,
    )


def later_attention(
    layer: int, head: int, regulator: str, target: str, *, genes: GeneVocabulary, direction: Direction | str
) -> Readout:
    """Attention between two genes in a layer behind the intervention.

    Parameters
    ----------
    layer, head
        Zero-based.
    regulator, target
        Approved symbols.
    genes
        Vocabulary of the cells that the batch was made from (``cells.genes``).
    direction
        Which of the two is the query, see `regulens.types.attention.Direction`.

    Returns
    -------
    Read-out of shape ``(cell,)``, in [0, 1]; NaN where a cell has not both genes. Several tokens of a gene are summed
    as keys and averaged as queries.
    """
    direction = Direction(direction)
    pair = (regulator, target) if direction is Direction.REGULATOR_ATTENDS else (target, regulator)
    for symbol in pair:
        column_of(symbol, genes)

    def check(adapter: AbstractAdapter) -> None:
        check_layer(layer, adapter.card)
        if not 0 <= head < adapter.card.n_heads:
            message = f"Expected a head in 0 … {adapter.card.n_heads - 1} of {adapter.card.name}, got {head}."
            raise ParameterError(message + " Heads count from 0.")
        for symbol in pair:
            column_of(symbol, genes, adapter)

    def function(run: Run) -> np.ndarray:
        query, key = (run.batch.gene == column_of(symbol, genes) for symbol in pair)
        out = np.full(len(run.batch.cell), np.nan)
        for cell in np.flatnonzero(query.any(1) & key.any(1)):
            rows = _rows(run.attention[layer], int(cell), head, np.flatnonzero(query[cell]))
            out[cell] = rows[:, key[cell]].sum(1).mean()
        return out

    return Readout(
        name=f"attention(L{layer:02d}_H{head:02d}, {regulator} → {target}, {direction})",
        place=lambda _: Place(layer, Stage.ATTENTION),
        function=function,
        check=check,
        layer=layer,
    )


def _rows(layer: LayerAttention, cell: int, head: int, queries: np.ndarray) -> np.ndarray:
    """Rows of one head of one cell, float64, shape ``(query, key)``."""
    import torch

    from regulens.models.kernel import query_rows

    one, only = slice(cell, cell + 1), slice(head, head + 1)
    q, k, v = (x[one, only] for x in (layer.q, layer.k, layer.v))
    part = replace(
        layer,
        q=q, k=k, v=v, lse=layer.lse[one, only],
        key_mask=None if layer.key_mask is None else layer.key_mask[one],
        key_bias=None if layer.key_bias is None else layer.key_bias[one],
        probabilities=None,
    )  # fmt: skip
    return query_rows(part, torch.as_tensor(queries))[0, 0].double().cpu().numpy()
