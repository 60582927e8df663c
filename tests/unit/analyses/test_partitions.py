"""Merging partitions by hand gives the pooled scores, and cells are found by partition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regulens.analyses.partitions import PartitionView
from regulens.errors import AlignmentError
from regulens.scorers.attention import attention_scores
from regulens.testing.worlds import make_world


def _three(world):
    """The world's partitions, merged and split into three that add up to them."""
    summary = world.summary
    sums = np.asarray(summary.sums).sum(axis=0, keepdims=True, dtype=np.float64)
    counts = np.asarray(summary.counts).sum(axis=0, keepdims=True)
    share = np.array([0.5, 0.3, 0.2])[:, None, None, None, None, None]
    parts = np.stack([counts[0] // 3, counts[0] // 3, counts[0] - 2 * (counts[0] // 3)])
    table = pd.DataFrame({"partition": range(3), "cell_state": ["a", "a", "b"], "donor": "all", "block": [0, 1, 0],
                          "n_cells": [80, 80, 80]})  # fmt: skip
    return replace(
        summary, sums=sums[0][None] * share, counts=parts.astype(np.int32), partitions=table,
        cell_partition=np.repeat([0, 1, 2], 80),
    )  # fmt: skip


def _view(world) -> PartitionView:
    summary = _three(world)
    return PartitionView(summary=summary, universe=world.universe, cell_partition=summary.cell_partition, min_cells=5)


def test_merged_sums_over_merged_counts_are_the_scores_of_all_cells():
    world = make_world("planted_pairs", seed=1, n_regulators=10, n_genes=40, n_edges=30)
    view = _view(world)
    scores = attention_scores(world.summary).on(world.universe)
    counts = view.counts().sum(axis=0)
    seen = scores.observed
    for name, layer in (("pooled", None), ("L01_mean", 1)):
        mean = view.sums(layer).sum(axis=0)[seen] / counts[seen]
        np.testing.assert_allclose(mean, scores.values[scores.names.index(name)][seen], rtol=1e-12)


def test_a_subset_of_partitions_is_its_own_mean():
    world = make_world("planted_pairs", seed=1, n_regulators=10, n_genes=40, n_edges=30)
    view = _view(world)
    part = view.scores(np.array([1, 2]), min_cells=1)
    counts, sums = view.counts()[1:].sum(axis=0), view.sums()[1:].sum(axis=0)
    seen = part.observed
    np.testing.assert_allclose(part.values[part.names.index("pooled")][seen], sums[seen] / counts[seen], rtol=1e-12)
    assert view.cells_of(np.array([2])).tolist() == list(range(160, 240))


def test_partitions_that_the_store_does_not_have_are_refused():
    world = make_world("planted_pairs", seed=1, n_regulators=10, n_genes=40, n_edges=30)
    with pytest.raises(AlignmentError, match="below 3, got 3"):
        PartitionView(summary=_three(world), universe=world.universe, cell_partition=np.array([3]), min_cells=5)
