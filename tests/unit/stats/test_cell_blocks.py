"""Weighted partitions are resampled cells; the interval covers what other cells would have given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.rng import stream
from regulens.stats.cell_blocks import block_weights, cell_bootstrap, pooled_auroc_draws
from regulens.stats.ranking import auroc
from regulens.types.attention import AttentionSummary, Direction, ModelCard
from regulens.types.estimates import Estimate, Undefined

N_REGULATORS, N_GENES = 6, 25


def card(n_layers: int, n_heads: int) -> ModelCard:
    return ModelCard(
        name="m", family="f", spec="s", n_layers=n_layers, n_heads=n_heads, width=4, vocabulary_size=9, max_length=9,
        n_parameters=1, sha256="x", namespace="symbol", tokenisation="t", normalisation="n", activation="a",
    )  # fmt: skip


def summary(partitions: int = 8, layers: int = 2, heads: int = 3, donors: int = 2) -> AttentionSummary:
    rng = stream(0, f"store/{partitions}")
    counts = rng.integers(2, 9, (partitions, N_REGULATORS, N_GENES)).astype(np.int32)
    shape = (partitions, layers, heads, 2, N_REGULATORS, N_GENES)
    sums = rng.gamma(2.0, size=shape) * counts[:, None, None, None]
    frame = pd.DataFrame(
        {"partition": range(partitions), "donor": [f"d{p % donors}" for p in range(partitions)],
         "cell_state": "all", "block": np.arange(partitions) // donors, "n_cells": 9}
    )  # fmt: skip
    return AttentionSummary(
        sums=sums, counts=counts, partitions=frame, genes=tuple(f"g{k}" for k in range(N_GENES)),
        regulators=tuple(f"g{k}" for k in range(N_REGULATORS)), card=card(layers, heads),
    )  # fmt: skip


def pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    i, j = (a.ravel() for a in np.indices((N_REGULATORS, N_GENES)))
    keep = i != j
    return stream(1, "pairs").random(keep.sum()) < 0.2, i[keep], j[keep]


def test_the_plain_auroc_is_that_of_the_merged_store():
    store, (label, i, j) = summary(), pairs()
    found = cell_bootstrap(
        store, label, i, j, scores=[(1, 2), (0, None), (None, None)], draws=4, min_cells=1,
        direction=Direction.TARGET_ATTENDS, rng=stream(0, "b"),
    )  # fmt: skip
    assert found.names == ("L01_H02", "L00_mean", "pooled")
    total = store.pair_counts()[i, j]
    for value, layer, head in ((found.auroc[0], 1, [2]), (found.auroc[1], 0, [0, 1, 2])):
        merged = store.layer_sums(layer, Direction.TARGET_ATTENDS)[head].mean(0)[i, j]
        assert value == pytest.approx(auroc(merged / total, label)[0], abs=1e-12)
    everything = np.mean([store.layer_sums(k, Direction.TARGET_ATTENDS).mean(0) for k in (0, 1)], axis=0)[i, j]
    assert found.auroc[2] == pytest.approx(auroc(everything / total, label)[0], abs=1e-12)


def test_whole_weights_are_repeated_partitions():
    store, (label, i, j) = summary(), pairs()
    sums = store.sums[:, 0, 0, 0][:, i, j]
    counts = store.counts[:, i, j]
    weight = np.array([0, 2, 1, 3, 0, 0, 1, 1.0])
    rows = np.repeat(np.arange(8), weight.astype(int))
    wanted = auroc(sums[rows].sum(0) / counts[rows].sum(0), label)[0]
    assert pooled_auroc_draws(sums, counts, label, weight[None], min_cells=1)[0] == pytest.approx(wanted, abs=1e-12)


def test_a_pair_that_a_draw_hardly_saw_is_missing_from_it():
    label = np.array([True, False, False, True])
    sums, counts = np.array([[9.0, 1, 2, 0], [9.0, 1, 2, 9]]), np.array([[9, 9, 9, 0], [9, 9, 9, 9]])
    found = pooled_auroc_draws(sums, counts, label, np.array([[1.0, 0], [0, 1], [0, 0]]), min_cells=5)
    assert found[:2].tolist() == [1.0, 1.0] and np.isnan(found[2])
    # as a zero it would have been the last of all
    assert auroc(np.array([1.0, 1 / 9, 2 / 9, 0.0]), label)[0] == 0.5


def test_weights_stay_within_strata_and_have_the_variance_of_the_mean():
    stratum = np.repeat([0, 1, 2], [4, 6, 1])
    w = block_weights(stratum, draws=20_000, rng=stream(2, "w"))
    for g, n in ((0, 4), (1, 6), (2, 1)):
        np.testing.assert_allclose(w[:, stratum == g].sum(1), n)
    x = np.arange(4.0)
    means = w[:, :4] @ x / 4
    assert means.var() == pytest.approx(x.var(ddof=1) / 4, rel=0.04)


def test_strata_come_from_the_partitions_and_scores_share_their_draws():
    store, (label, i, j) = summary(), pairs()
    options = {"draws": 30, "min_cells": 1}
    one = cell_bootstrap(store, label, i, j, scores=[(0, 0), (1, 1)], rng=stream(3, "b"), **options)
    own = cell_bootstrap(
        store, label, i, j, scores=[(1, 1)], stratum=list(store.partitions["donor"]), rng=stream(3, "b"), **options
    )
    np.testing.assert_array_equal(one.draws[1:], own.draws)
    assert (one.n_blocks, one.df, one.n_fixed) == (8, 6, 0)
    some = cell_bootstrap(store, label, i, j, scores=[(0, 0)], partitions=[0, 2, 4, 1], rng=stream(3, "b"), **options)
    assert (some.n_blocks, some.df, some.n_fixed) == (3, 2, 1)
    (estimate,) = some.estimates()
    assert isinstance(estimate, Estimate) and "1 blocks alone" in estimate.method


def test_no_interval_has_a_reason():
    store, (label, i, j) = summary(partitions=2), pairs()
    run = {"scores": [(0, 0)], "draws": 20, "min_cells": 1, "rng": stream(0, "x")}
    (lone,) = cell_bootstrap(store, label, i, j, **run).estimates()
    assert isinstance(lone, Undefined) and "0 blocks" in lone.reason
    (empty,) = cell_bootstrap(summary(), np.zeros(label.size, bool), i, j, **run).estimates()
    assert isinstance(empty, Undefined) and "no positives" in empty.reason


def test_interval_covers_the_expected_auroc_of_other_cells():
    rng = stream(4, "coverage")
    label = rng.random(300) < 0.2
    true = 0.35 * label + rng.normal(0, 0.3, 300)

    def cells() -> tuple[np.ndarray, np.ndarray]:
        counts = rng.integers(3, 8, (20, 300))
        effect = rng.normal(0, 0.5, (20, 300)) + rng.normal(0, 0.5, (20, 1)) * label
        return (true + effect) * counts, counts

    ones, stratum = np.ones((1, 20)), np.repeat([0, 1, 2, 3], 5)
    truth = np.mean([pooled_auroc_draws(*cells(), label, ones, min_cells=1)[0] for _ in range(300)])
    hits, naive = [], []
    for _ in range(120):
        sums, counts = cells()
        weights = block_weights(stratum, draws=60, rng=rng)
        draws = pooled_auroc_draws(sums, counts, label, weights, min_cells=1)
        value = pooled_auroc_draws(sums, counts, label, ones, min_cells=1)[0]
        hits.append(abs(value - truth) <= 2.12 * draws.std(ddof=1))  # t, 16 df
        naive.append(abs(value - truth) <= 2.12 * draws.std(ddof=1) / np.sqrt(5))
    assert np.mean(hits) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 120) - 0.01
    assert np.mean(naive) < 0.75


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scores": [(2, 0)]}, ParameterError), ({"scores": [(0, 3)]}, ParameterError),
        ({"scores": [(None, 1)]}, ParameterError), ({"scores": [(0, 0)], "draws": 0}, ParameterError),
        ({"scores": [(0, 0)], "stratum": [1, 2]}, AlignmentError),
    ],
)  # fmt: skip
def test_refusals(options, error):
    with pytest.raises(error, match=r"^Expected .*got"):
        cell_bootstrap(summary(), *pairs(), rng=stream(0, "x"), **options)
