"""What do heads and MLPs put out on average? Means over a stated set of cells, streamed, for mean-ablation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regulens.errors import ParameterError
from regulens.interventions.recording import checkpoint_of
from regulens.models.base import AbstractAdapter, Edits, LayerAttention, TokenBatch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Means:
    """Mean output of every head and MLP over all real tokens (special ones included) of some cells.

    Parameters
    ----------
    heads
        Float64, shape ``(layer, head, head_width)``.
    mlp
        Float64, shape ``(layer, width)``.
    cells
        Words: which cells.
    n_cells, n_tokens
        How many entered; padding does not.
    model
        sha256 of the checkpoint.
    """

    heads: np.ndarray
    mlp: np.ndarray
    cells: str
    n_cells: int
    n_tokens: int
    model: str


def component_means(adapter: AbstractAdapter, batches: Iterable[TokenBatch], *, cells: str) -> Means:
    """Run batches one after the other and average what heads and MLPs put out.

    Parameters
    ----------
    adapter
        The model, normally without intervention.
    batches
        Any number of batches; only one is in memory at a time if they come from a generator.
    cells
        Words that say which cells these are ("200 T cells of donor 1"); part of every result that uses the means.

    Returns
    -------
    Every token weighs the same, so that long cells weigh more than short ones. Independent of how cells are cut into
    batches, up to rounding.

    Raises
    ------
    ParameterError
        When there is no token, or no words for the cells.
    """
    if not cells.strip():
        message = "Expected words that say which cells the means are of, got none. Give cells='…'."
        raise ParameterError(message)
    heads: dict[int, np.ndarray] = {}
    mlps: dict[int, np.ndarray] = {}
    n_cells = n_tokens = 0
    for batch in batches:

        def add(sums: dict[int, np.ndarray], layer: int, values: torch.Tensor, mask: np.ndarray = batch.mask) -> None:
            """Add the sum over real tokens of ``(cell, position, …)``."""
            found = values.double().cpu().numpy()[mask].sum(0)
            sums[layer] = sums[layer] + found if layer in sums else found

        def head_output(layer: LayerAttention, out: torch.Tensor, add=add) -> torch.Tensor:
            add(heads, layer.layer, out.transpose(1, 2))
            return out

        def mlp_output(layer: int, out: torch.Tensor, add=add) -> torch.Tensor:
            add(mlps, layer, out)
            return out

        adapter.forward(batch, edits=Edits(head_output=head_output, mlp_output=mlp_output))
        n_cells, n_tokens = n_cells + len(batch.cell), n_tokens + int(batch.mask.sum())
    layers = list(range(adapter.card.n_layers))
    if n_tokens == 0 or sorted(heads) != layers or sorted(mlps) != layers:
        message = (
            f"Expected tokens that pass through the heads and MLPs of {len(layers)} layers, got {n_tokens} tokens and "
            f"outputs of {len(heads)} and {len(mlps)} layers. Give at least one cell with tokens."
        )
        raise ParameterError(message)
    return Means(
        heads=np.stack([heads[i] for i in layers]) / n_tokens,
        mlp=np.stack([mlps[i] for i in layers]) / n_tokens,
        cells=cells,
        n_cells=n_cells,
        n_tokens=n_tokens,
        model=checkpoint_of(adapter),
    )
