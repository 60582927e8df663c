"""What would the attention of the mean cell be? The map of the mean, for comparison with the mean of the maps.

For every group of cells the states that enter a layer are averaged gene by gene, over the cells in which the gene is a
token, and the layer's queries and keys are made of these means once::

    x̄[g]   = mean over cells (and tokens) of x[g]           the residual stream, in float64
    q̄, k̄   = query and key of x̄                            with the norm that stands before them, and with biases
    Ā[q, k] = exp(q̄·k̄·scale − lse[q])                      over all tokens of the mean cell

Some studies compare models by such maps because one cell a group is cheap. It is another quantity than the mean of the
maps: with logits ``xᵀMy``, E[xᵀMy] = E[x]ᵀM E[y] + tr(M Cov(y, x)), so what varies together between cells of a group is
exactly what the mean cell leaves out; and its softmax runs over all genes that the group has, not over those of a cell.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regulens.attention.accumulate import PairAxes, add_counts, add_layer, clear_own, places
from regulens.attention.layout import Layout, Unit, lay_out, lengths_for
from regulens.attention.memory import BATCH_TOKENS
from regulens.attention.recipes import Recipe, recipe_for
from regulens.attention.result import Attention, stored_content
from regulens.errors import CaptureError, ParameterError
from regulens.io import store
from regulens.models.base import AbstractAdapter, LayerAttention, TokenBatch
from regulens.models.kernel import attend
from regulens.models.spec import options_of
from regulens.parallel import single_thread
from regulens.provenance import digest_frame, digest_of, digest_strings
from regulens.types.attention import AttentionSummary
from regulens.types.cells import Cells

#: Raised whenever the numbers would change with the same inputs.
ALGORITHM = 1
#: What `query_key` may differ by from the tapped queries and keys, relative to the largest of them.
_SAME = 1e-5


@dataclass(slots=True, eq=False)
class _Means:
    """Sums of the states of a group, by place: one a gene, one a token without a gene.

    Parameters
    ----------
    place
        Number of every place by ``gene``, or by ``-2 − token`` for tokens without a gene, in ascending order.
    sums
        Float64, shape ``(layer, place, width)``.
    tokens
        Tokens that were added, shape ``(place,)``.
    """

    place: np.ndarray
    sums: torch.Tensor
    tokens: np.ndarray

    def add(self, batch: TokenBatch, states: list[torch.Tensor]) -> None:
        """Add the states of a batch that enter each layer."""
        name = np.where(batch.gene >= 0, batch.gene, -2 - batch.tokens)[batch.mask]
        at = np.searchsorted(self.place, name)
        self.tokens += np.bincount(at, minlength=len(self.place))
        mask, index = torch.from_numpy(batch.mask), torch.from_numpy(at)
        for total, state in zip(self.sums, states):
            total.index_add_(0, index, state.cpu()[mask].double())


def mean_cell_attention(
    adapter: AbstractAdapter,
    cells: Cells,
    *,
    genes: Sequence[str],
    regulators: Sequence[str],
    partition_by: Sequence[str] = ("cell_state", "donor"),
    max_cells: int | None = None,
    seed: int = 0,
    recipe: str = "probability",
    batch_tokens: int = BATCH_TOKENS,
    out: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Attention:
    """Attention between regulators and targets in the mean cell of every group.

    Memory: ``8 × layers × genes and other tokens of a group × width`` bytes for one group at a time, beside the result.

    Parameters
    ----------
    genes, regulators, partition_by, max_cells, seed, batch_tokens, progress
        As for `regulens.attention.extract.extract`; groups are its partitions.
    recipe
        ``"probability"``, ``"logit"`` or ``"log_probability"``; see `recipes`.
    out
        Where the store goes; None keeps the sums in memory. A finished store of the same inputs is reused, an
        unfinished one is begun again.

    Returns
    -------
    Of kind ``mean_cell``, ``mean_cell_logit`` or ``mean_cell_log_probability``. A pair counts the cells in which both
    genes are tokens, as in an extraction, so that both have the same observed pairs; the sum is the value in the mean
    cell times that count. Several groups therefore merge into the mean of their maps, weighted by these counts; for one
    mean cell of all cells, leave `partition_by` empty.

    Raises
    ------
    AlignmentError
        When an axis names a gene that the cells do not have.
    ParameterError
        When the model is causal, the recipe weights by values, or the adapter does not offer `query_key`.
    CaptureError
        When the queries and keys that the adapter offers are not those of its forward pass.
    DigestMismatchError
        When the store at `out` belongs to other inputs.
    """
    genes, regulators = tuple(genes), tuple(regulators)
    axes = PairAxes.build(cells.genes, genes, regulators)
    chosen = _recipe(recipe, adapter)
    lengths = lengths_for(adapter, cells)
    layout = lay_out(
        cells, lengths, partition_by=partition_by, n_blocks=1, max_cells=max_cells, batch_tokens=batch_tokens, seed=seed
    )
    card, n = adapter.card, len(layout.partitions)
    kind = "mean_cell" if recipe == "probability" else f"mean_cell_{recipe}"
    model = (card.sha256, card.family, card.n_layers, card.n_heads, card.max_length, card.tokenisation)
    order = [(u.partition, u.index, u.batches) for u in layout.units]
    key = digest_of(
        kind, ALGORITHM, model, options_of(card.spec), cells.digest, digest_strings(genes), digest_strings(regulators),
        digest_frame(layout.partitions), order, seed,
    )  # fmt: skip
    if out is not None and Path(out).exists():
        if progress is not None:
            progress(layout.n_cells, layout.n_cells)
        return Attention.open(out, key=key, card=card)
    sums = np.zeros((n, card.n_layers, card.n_heads, 2, len(regulators), len(genes)), dtype=np.float32)
    counts = np.zeros((n, len(regulators), len(genes)), dtype=np.int32)
    scale = _checked(adapter, cells, layout, seed)
    places_seen, done = [], 0
    for partition in range(n):
        units = [u for u in layout.units if u.partition == partition]
        with single_thread():
            means = _mean_states(adapter, cells, units, axes, seed, counts[partition])
            values = _read(adapter, means, axes, chosen, scale)
        clear_own(values, counts[partition], axes)
        sums[partition] = values * counts[partition]
        places_seen.append(len(means.place))
        done += sum(u.n_cells for u in units)
        if progress is not None:
            progress(done, layout.n_cells)
    summary = AttentionSummary(
        sums=sums,
        counts=counts,
        partitions=layout.partitions,
        genes=genes,
        regulators=regulators,
        card=card,
        kind=kind,
        digest=key,
        facts={
            "n_cells": layout.n_cells,
            "n_partitions": n,
            "cells_without_known_genes": len(layout.empty),
            "cells_not_drawn": layout.not_drawn,
            "tokens_in_mean_cell_median": float(np.median(places_seen)),
            "n_pairs_met": int((counts > 0).any(axis=0).sum()),
        },
    )
    if out is None:
        return Attention(summary)
    _write(Path(out), summary, seed)
    return Attention.open(out, key=key, card=card)


def _write(out: Path, summary: AttentionSummary, seed: int) -> None:
    """Write a store beside its place and move it there."""
    partial = out.with_name(f"{out.name}.partial")
    content = stored_content(
        genes=summary.genes, regulators=summary.regulators, partitions=summary.partitions, card=summary.card, seed=seed,
        kind=summary.kind,
    )  # fmt: skip
    store.require_space(out.parent, int(summary.sums.nbytes))
    with store.disk(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
    store.create(partial, key=summary.digest, content={**content, "facts": summary.facts}, shape=summary.sums.shape)
    for partition in range(len(summary.partitions)):
        store.write_partition(partial, partition, summary.sums[partition], summary.counts[partition])
    store.complete(partial, out)


def _recipe(name: str, adapter: AbstractAdapter) -> Recipe:
    """Recipe that makes sense for a mean cell of this model."""
    if name == "value_weighted":
        message = (
            "Expected recipe 'probability', 'logit' or 'log_probability' for a mean cell, got 'value_weighted'. "
            "Extract the mean of the maps with it instead."
        )
        raise ParameterError(message)
    if adapter.card.causal:
        message = (
            f"Expected a model that sees all tokens, got {adapter.card.name}, which is causal: a mean cell has no "
            "order of tokens. Extract the mean of the maps instead."
        )
        raise ParameterError(message)
    return recipe_for(name, adapter)


@torch.no_grad()
def _checked(adapter: AbstractAdapter, cells: Cells, layout: Layout, seed: int) -> float:
    """Make sure on one cell that `query_key` of the entering states is what the forward pass uses; returns its scale.

    This is what tells a model with a norm before its queries from one without: whoever forgets the norm, or takes
    the state of another place, is found out here.
    """
    row = layout.units[0].batches[0][:1]
    seen: list[LayerAttention] = []
    states = adapter.forward(_tokens(adapter, cells, row, seed), tap=seen.append)
    for layer in seen:
        offered = adapter.query_key(layer.layer, states[layer.layer])
        if offered is None:
            message = (
                f"Expected a model that says how a layer makes queries and keys, got {adapter.card.name} "
                f"({adapter.card.family}). Give its adapter the method query_key, or extract the mean of the maps."
            )
            raise ParameterError(message)
        for mine, used in zip(offered, (layer.q, layer.k)):
            gap = float((mine - used).abs().max()) if mine.shape == used.shape else float("inf")
            if not gap <= _SAME * float(used.abs().max()):
                message = (
                    f"Expected query_key of {adapter.card.name} to give the queries and keys of layer {layer.layer}, "
                    f"got others (largest difference {gap:.1e}). Apply the norm before them, and start from the state "
                    "that enters the layer."
                )
                raise CaptureError(message)
    return seen[0].scale


def _tokens(adapter: AbstractAdapter, cells: Cells, rows: tuple[int, ...], seed: int) -> TokenBatch:
    some = cells.load(np.array(rows, dtype=np.int64))
    return adapter.tokenize(some, np.arange(some.n_cells), seed=seed)


def _mean_states(
    adapter: AbstractAdapter, cells: Cells, units: list[Unit], axes: PairAxes, seed: int, counts: np.ndarray
) -> _Means:
    """Add up the states of the cells of a group, and count the pairs that meet in them."""
    batches = [rows for unit in units for rows in unit.batches]
    # Tokens are made twice, which is cheap, so that no more places are held than the group has.
    named = (_tokens(adapter, cells, rows, seed) for rows in batches)
    seen = [np.unique(np.where(b.gene >= 0, b.gene, -2 - b.tokens)[b.mask]) for b in named]
    place = np.unique(np.concatenate(seen))
    means = _Means(
        place=place,
        sums=torch.zeros((adapter.card.n_layers, len(place), adapter.card.width), dtype=torch.float64),
        tokens=np.zeros(len(place), dtype=np.int64),
    )
    for rows in batches:
        batch = _tokens(adapter, cells, rows, seed)
        means.add(batch, adapter.forward(batch))
        add_counts(counts, places(batch, axes))
    return means


@torch.no_grad()
def _read(adapter: AbstractAdapter, means: _Means, axes: PairAxes, recipe: Recipe, scale: float) -> np.ndarray:
    """Blocks of the mean cell, float64, shape ``(layer, head, direction, regulator, target)``."""
    gene = np.maximum(means.place, -1)[None, :]
    mask = np.ones(gene.shape, dtype=bool)
    one = TokenBatch(tokens=np.zeros_like(gene), values=None, gene=gene, mask=mask, cell=np.zeros(1, dtype=np.int64))
    found = [dataclasses.replace(place, length=gene.shape[1]) for place in places(one, axes)]
    card = adapter.card
    values = np.zeros((card.n_layers, card.n_heads, 2, len(axes.own), int(axes.target.max()) + 1))
    number = torch.from_numpy(means.tokens)[:, None]
    like = next(adapter.module.parameters())
    for layer in range(card.n_layers):
        state = (means.sums[layer] / number).to(like.device, like.dtype)[None]
        offered = adapter.query_key(layer, state)
        assert offered is not None  # checked on the first cell
        q, k = offered
        _, lse, _ = attend(q, k, k, scale=scale)
        add_layer(values, LayerAttention(layer=layer, q=q, k=k, v=k, lse=lse, scale=scale, key_mask=None), found,
                  recipe=recipe)  # fmt: skip
    return values
