"""Ranks of rows against rows: scipy as the oracle, missing left out, and exchanged rows as a null with its level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from regulens.errors import AlignmentError, ParameterError
from regulens.stats.permutation import permutation_p
from regulens.stats.row_agreement import fisher, permuted_rows, rows_with_rows, signs_with_signs


def test_every_entry_is_scipys_spearman_over_shared_columns():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (5, 40)).astype(float), rng.normal(size=(4, 40)).round(1)
    a[rng.random(a.shape) < 0.2], b[rng.random(b.shape) < 0.3] = np.nan, np.nan
    a[4] = np.where(np.isnan(a[4]), np.nan, 3.0)  # constant
    b[2] = np.where(np.isnan(b[1]), np.nan, rng.normal(size=40))  # missing where the row before is
    rho, count = rows_with_rows(a, b)
    for i in range(5):
        for j in range(4):
            there = np.isfinite(a[i]) & np.isfinite(b[j])
            assert count[i, j] == there.sum()
            if i == 4:
                assert np.isnan(rho[i, j])
            else:
                assert abs(rho[i, j] - spearmanr(a[i, there], b[j, there])[0]) <= 1e-12


def test_rows_that_share_nothing_or_are_of_other_length():
    a = np.array([[1.0, 2.0, np.nan, np.nan]])
    rho, count = rows_with_rows(a, a[:, ::-1])
    assert np.isnan(rho[0, 0]) and count[0, 0] == 0
    with pytest.raises(AlignmentError, match=r"same columns, got \(1, 4\) and \(1, 3\)"):
        rows_with_rows(a, a[:, :3])


def test_signs_by_hand():
    a, b = np.array([[1.0, -2.0, 0.0, np.nan, 3.0]]), np.array([[5.0, 1.0, 1.0, 1.0, 0.0], [-1.0, -1.0, 1, 1, -1]])
    share, count = signs_with_signs(a, b)
    assert share.tolist() == [[0.5, 1 / 3]] and count.tolist() == [[2, 3]]
    assert np.isnan(signs_with_signs(np.zeros((1, 3)), np.ones((1, 3)))[0][0, 0])


def test_exchanged_rows_by_brute_force():
    rng = np.random.default_rng(1)
    m, count = rng.normal(size=(4, 4)), np.full((4, 4), 20)
    null = permuted_rows(m, count, draws=2000, min_matched=10, rng=rng)
    from itertools import permutations

    every = np.array([np.mean([m[p[j], j] for j in range(4)]) for p in permutations(range(4))])
    assert null.observed == pytest.approx(np.diagonal(m).mean()) and null.dropped == 0
    assert np.abs(null.draws[:, None] - every).min(axis=1).max() <= 1e-12
    assert abs(null.draws.mean() - every.mean()) <= 4 * every.std() / np.sqrt(2000)


def test_draws_of_few_pairs_are_dropped_and_counted():
    count = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 5]])
    value = np.where(count > 0, 0.3, np.nan)
    null = permuted_rows(value, count, draws=300, min_matched=10, rng=np.random.default_rng(2))
    kept = len(null.draws)
    assert null.dropped + kept == 300 and 0.08 < kept / 300 < 0.28  # all three in place: one of six permutations
    assert permuted_rows(value, count, draws=9, min_matched=16, rng=np.random.default_rng(2)).draws.size == 0
    with pytest.raises(ParameterError, match="square matrices"):
        permuted_rows(value[:2], count[:2], draws=9, min_matched=1, rng=np.random.default_rng(2))


def test_a_perfect_rank_stays_finite_on_fishers_scale():
    assert np.isfinite(fisher(np.array([-1.0, 1.0]))).all() and np.isnan(fisher(np.array([np.nan]))[0])


def world(rng, rows: int, columns: int, *, own: float, groups: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices that share what columns are like and nothing else; the first `rows` columns are the rows' own."""
    column = rng.normal(size=columns)
    column[:rows] += own
    out = []
    for _ in range(2):
        x = 1.5 * (column + 0.5 * rng.normal(size=columns)) + rng.normal(size=(rows, columns))
        if groups:
            x += rng.normal(size=(groups, columns))[rng.integers(0, groups, rows)]
        x *= np.exp(0.5 * rng.normal(size=(rows, 1)))
        np.fill_diagonal(x, np.nan)
        out.append(x)
    return out[0], out[1]


def rejections(n: int, *, rows: int, columns: int, own: float, keep_own: bool, groups: int = 0, size: bool = False):
    rng, rejected = np.random.default_rng(rows * columns), 0
    for _ in range(n):
        a, b = world(rng, rows, columns, own=own, groups=groups)
        if size:
            a, b = np.abs(a), np.abs(b)
        if not keep_own:
            a, b = a[:, rows:], b[:, rows:]
        rho, count = rows_with_rows(a, b)
        null = permuted_rows(fisher(rho), count, draws=99, min_matched=10, rng=rng)
        rejected += permutation_p(null.observed, null.draws)[0] <= 0.05
    return rejected


@pytest.mark.parametrize("size", [False, True])
def test_prominent_columns_do_not_make_rows_agree(size):
    n = 150
    assert rejections(n, rows=9, columns=150, own=3.0, keep_own=False, size=size) <= binom.ppf(0.999, n, 0.05)


def test_own_columns_would_make_rows_agree():
    """The broken twin: a row's own column is missing in it, so exchanged rows lack one prominent column more."""
    n = 60
    assert rejections(n, rows=40, columns=200, own=3.0, keep_own=True) > binom.ppf(0.999, n, 0.05)


@pytest.mark.long
@pytest.mark.parametrize("size", [False, True])
@pytest.mark.parametrize(("rows", "columns", "groups"), [(6, 120, 0), (9, 290, 3), (25, 290, 5), (40, 300, 0)])
def test_level_in_many_worlds(rows, columns, groups, size):
    n = 1000
    found = rejections(n, rows=rows, columns=columns, own=3.0, keep_own=False, groups=groups, size=size)
    assert binom.ppf(0.0005, n, 0.05) <= found <= binom.ppf(0.9995, n, 0.05)
