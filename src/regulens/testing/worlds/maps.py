"""How does attention of single cells become the sums and counts that the store keeps?

A gene is a token of a cell that has a count of it. Every co-present pair gets attention from its map, which belongs to
the cell's state and donor, times noise of the cell; partitions (state x donor x random block) sum over their cells.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.attention.layout import lay_out
from regulens.testing.worlds.draft import N_DONORS, N_STATES, Cause, Draft
from regulens.types.attention import AttentionSummary, ModelCard
from regulens.types.cells import Cells

#: Log attention of an ordinary pair.
BASE = -7.0


def _card(n_layers: int, n_heads: int) -> ModelCard:
    return ModelCard(
        name="world", family="synthetic", spec="synthetic", n_layers=n_layers, n_heads=n_heads, width=8,
        vocabulary_size=0, max_length=0, n_parameters=0, sha256="", namespace="symbol", tokenisation="none",
        normalisation="none", activation="none", demonstration=True,
    )  # fmt: skip


def _along_layers(noise: np.ndarray, smooth: float) -> np.ndarray:
    """Unit-variance noise made autoregressive along its first axis."""
    out = noise.copy()
    for k in range(1, len(out)):
        out[k] = smooth * out[k - 1] + np.sqrt(1 - smooth**2) * noise[k]
    return out


def group_maps(draft: Draft, cause: Cause) -> np.ndarray:
    """Expected log attention, float32, shape ``(state, donor, layer, head, direction, regulator, gene)``."""
    rng = draft.rng("maps")
    grid = (draft.n_regulators, draft.n_genes)
    backward = 0.3 * draft.pairs(draft.prominence) if cause.backward is None else cause.backward
    shape = (N_STATES, N_DONORS, draft.n_layers, *grid)
    signal = np.stack([np.broadcast_to(x, shape) for x in (cause.forward, backward)], axis=3)
    pair = cause.pair_noise * rng.normal(size=(2, *grid))
    head = cause.head_noise * _along_layers(rng.normal(size=(draft.n_layers, draft.n_heads, 2, *grid)), cause.smooth)
    group = cause.group_noise * rng.normal(size=(N_STATES, N_DONORS, 2, *grid))
    out = signal[:, :, :, None] + (head + pair) + group[:, :, None, None]
    return np.asarray(out + BASE, dtype=np.float32)


def summarise(draft: Draft, cause: Cause, cells: Cells) -> AttentionSummary:
    """Attention of every cell, summed over the cells of each partition."""
    layout = lay_out(
        cells, np.asarray(cells.counts.getnnz(axis=1)), partition_by=("cell_state", "donor"), n_blocks="auto",
        max_cells=None, batch_tokens=1 << 20, seed=draft.seed,
    )  # fmt: skip
    cell_partition = layout.cell_partition(cells.n_cells)
    table: pd.DataFrame = layout.partitions
    token = cause.counts > 0
    maps = np.exp(group_maps(draft, cause))
    rng = draft.rng("cells")
    spread = np.asarray(cause.cell_noise, dtype=np.float32)
    sums = np.empty((len(table), *maps.shape[2:]), dtype=np.float32)
    counts = np.empty((len(table), *maps.shape[-2:]), dtype=np.int32)
    for p in range(len(table)):
        members = np.flatnonzero(cell_partition == p)
        met = token[members][:, draft.own, None] & token[members][:, None, :] & draft.candidate
        own = maps[draft.state[members[0]], draft.donor[members[0]]]
        counts[p] = met.sum(axis=0)
        if spread.any():
            total = np.zeros(own.shape, dtype=np.float32)
            for pair in met:  # one cell at a time: its noise is as large as all its maps
                noise = rng.standard_normal(own.shape, dtype=np.float32)
                noise *= spread
                np.exp(noise, out=noise)
                total += noise * pair
            sums[p] = own * total
        else:
            sums[p] = own * counts[p]
    return AttentionSummary(
        sums=sums, counts=counts, partitions=table, genes=draft.genes,
        regulators=tuple(draft.genes[k] for k in draft.own), card=_card(draft.n_layers, draft.n_heads),
        cell_partition=cell_partition,
    )  # fmt: skip
