"""Permuted AUROCs against relabelled pairs, their distribution; draws are shared and do not depend on threads."""

from __future__ import annotations

from itertools import pairwise

import numba
import numpy as np
import pytest
from scipy import stats

from regulens.errors import AlignmentError, ParameterError
from regulens.rng import stream
from regulens.stats import permuted_labels
from regulens.stats._rank_kernels import TILE_BITS, sort_keys
from regulens.stats.permuted_labels import _Sets, permuted_auroc, twice_ranks
from regulens.stats.power import auroc_null_se
from regulens.stats.ranking import auroc


def data(n: int = 700, rows: int = 3, decimals: int = 1):
    rng = stream(0, f"permuted/{n}/{rows}")
    group = rng.integers(0, 7, n)
    label = rng.random(n) < np.array([0.05, 0.1, 0.0, 0.3, 0.5, 1.0, 0.02])[group]
    return np.round(rng.normal(size=(rows, n)), decimals), label, group


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_equal_scipy(dtype):
    rng = stream(1, "ranks")
    for x in (
        np.round(rng.normal(size=3000), 2), rng.normal(size=3000) * 10.0 ** rng.integers(-30, 30, 3000),
        np.array([0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, 5.0]), np.ones(9),
    ):  # fmt: skip
        x = x.astype(dtype)
        assert (twice_ranks(x) == 2 * stats.rankdata(x)).all()
        assert (np.argsort(sort_keys(x), kind="stable") == np.argsort(x + dtype(0), kind="stable")).all()


@pytest.mark.parametrize("n", [700, 3 * (1 << TILE_BITS) + 5])
def test_each_draw_is_the_auroc_of_its_own_labels(n):
    scores, label, group = data(n, rows=18)
    found = permuted_auroc(scores, label, group=group, draws=20, rng=stream(2, "d"))
    picked, _ = _Sets(label, group, stream(2, "d")).draw(20)
    for d in range(20):
        moved = np.zeros(n, bool)
        moved[picked[d]] = True
        assert moved.sum() == label.sum()
        assert (np.bincount(group, moved, 7) == np.bincount(group, label, 7)).all()
        np.testing.assert_allclose(found[:, d], auroc(scores, moved), rtol=0, atol=1e-13)


def test_distribution_is_that_of_the_mann_whitney_statistic():
    scores, label, _ = data(decimals=12)
    found = permuted_auroc(scores, label, draws=4000, rng=stream(3, "d"))
    wanted = auroc_null_se(int(label.sum()), int((~label).sum()))
    np.testing.assert_allclose(found.std(1), wanted, rtol=0.05)
    np.testing.assert_allclose(found.mean(1), 0.5, atol=4 * wanted / np.sqrt(4000))


def test_every_pair_is_drawn_equally_often():
    label = np.arange(60) < 12
    picked, _ = _Sets(label, np.arange(60) % 3, stream(4, "even")).draw(6000)
    count = np.bincount(picked.ravel(), minlength=60)
    assert stats.chisquare(count).pvalue > 0.001
    # a draw starts from the order that the last one left: what they share must still be chance (3 times 4 of 20)
    shared = np.array([np.isin(a, b).sum() for a, b in pairwise(picked)])
    assert abs(shared.mean() - 3 * 16 / 20) < 4 * shared.std() / np.sqrt(shared.size)


def test_draws_are_shared_between_scores_blocks_types_and_threads(monkeypatch):
    scores, label, group = data(rows=20)
    whole = permuted_auroc(scores, label, group=group, draws=30, rng=stream(5, "d"))
    blocks = permuted_auroc(iter([scores[:3], scores[3:]]), label, group=group, draws=30, rng=stream(5, "d"))
    np.testing.assert_array_equal(whole, blocks)
    small = permuted_auroc(scores.astype(np.float32), label, group=group, draws=30, rng=stream(5, "d"))
    np.testing.assert_array_equal(whole, small)
    for threads in (1, 3):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        np.testing.assert_array_equal(permuted_auroc(scores, label, group=group, draws=30, rng=stream(5, "d")), whole)


def test_more_draws_than_are_held_at_once_continue_the_same_stream(monkeypatch):
    scores, label, _ = data()
    whole = permuted_auroc(scores, label, draws=25, rng=stream(6, "d"))
    monkeypatch.setattr(permuted_labels, "_HELD", int(label.sum()) * 10)
    np.testing.assert_array_equal(permuted_auroc(scores, label, draws=25, rng=stream(6, "d")), whole)
    with pytest.raises(ParameterError, match=r"Expected scores that can be read again.*got an iterator"):
        permuted_auroc(iter([scores]), label, draws=25, rng=stream(6, "d"))


def test_one_class_is_undefined_and_refusals():
    scores, label, _ = data()
    assert np.isnan(permuted_auroc(scores, np.zeros(700, bool), draws=3, rng=stream(0, "x"))).all()
    assert np.isnan(permuted_auroc(scores, np.ones(700, bool), draws=3, rng=stream(0, "x"))).all()
    with pytest.raises(ParameterError, match=r"Expected at least one draw, got 0"):
        permuted_auroc(scores, label, draws=0, rng=stream(0, "x"))
    with pytest.raises(AlignmentError, match=r"Expected one group per pair"):
        permuted_auroc(scores, label, group=np.zeros(3, int), draws=3, rng=stream(0, "x"))
    with pytest.raises(ParameterError, match=r"Expected scores without NaN"):
        permuted_auroc(np.full(700, np.nan), label, draws=3, rng=stream(0, "x"))
