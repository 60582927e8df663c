"""Rho over clustered rows: equal to scipy row by row, sound where rows of a cluster move together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from regulens.errors import AlignmentError, ParameterError
from regulens.rng import stream
from regulens.stats.cluster_permutation import spearman_by_cluster
from regulens.types.estimates import Estimate, Undefined


def clustered(rng, clusters: int = 12, size: int = 8, *, constant: bool = True, unequal: bool = False):
    """Independent x and y that both have cluster effects."""
    sizes = rng.integers(2, 2 * size, clusters) if unequal else np.full(clusters, size)
    number = np.repeat(np.arange(clusters), sizes)
    x = rng.normal(size=clusters)[number] + 0.5 * rng.normal(size=number.size)
    y = rng.normal(size=clusters)[number] + (0 if constant else 0.5 * rng.normal(size=number.size))
    return x, y, number


def test_one_row_per_cluster_is_the_plain_permutation_test():
    rng = stream(0, "plain")
    x = rng.normal(size=25)
    y = 0.4 * x + rng.normal(size=25)
    found = spearman_by_cluster(x, y, np.arange(25), draws=4000, rng=stream(1, "p"))
    wanted = stats.spearmanr(x, y)
    assert found.value == pytest.approx(wanted.statistic)
    assert found.p == pytest.approx(wanted.pvalue, abs=0.02)
    assert isinstance(found.rho, Estimate) and found.rho.low < found.value < found.rho.high


@pytest.mark.parametrize(("constant", "unequal"), [(True, False), (True, True), (False, False)])
def test_level_with_cluster_effects_in_both_quantities(constant, unequal):
    rng = stream(2, f"level/{constant}/{unequal}")
    p, rows = [], []
    for _ in range(120):
        x, y, number = clustered(rng, constant=constant, unequal=unequal)
        p.append(spearman_by_cluster(x, y, number, draws=59, rng=rng).p)
        rows.append(stats.spearmanr(x, y).pvalue)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)
    assert np.mean(np.array(rows) <= 0.05) > 0.2  # the broken twin takes rows for independent


def test_power_and_sides():
    rng = stream(3, "power")
    x, y, number = clustered(rng, clusters=30)
    y = y + 2 * np.array([x[number == c].mean() for c in range(30)])[number]
    up, down = (spearman_by_cluster(x, y, number, side=s, draws=199, rng=rng).p for s in ("greater", "less"))
    assert up == 0.005 and down > 0.9


def test_roles_change_where_the_first_is_constant_within_clusters():
    x, y, number = clustered(stream(4, "roles"))
    one = spearman_by_cluster(x, y, number, draws=99, rng=stream(5, "r"))
    two = spearman_by_cluster(y, x, number, draws=99, rng=stream(5, "r"))
    assert (one.value, one.p) == (two.value, two.p)
    assert "values of clusters permuted" in one.method


def test_blocks_move_whole_and_only_to_clusters_of_their_size():
    # within each cluster y copies x: blocks that move whole keep a high correlation, rows that move alone would not
    number = np.repeat(np.arange(8), 10)
    within = np.tile(np.arange(10.0), 8)
    x, y = within + 0.01 * number, within + 0.02 * np.array([3, 1, 6, 0, 7, 2, 5, 4])[number]
    found = spearman_by_cluster(x, y, number, draws=199, rng=stream(6, "b"))
    assert found.value > 0.95 and found.p > 0.1 and "exchanged" in found.method
    sizes = np.array([3, 3, 3, 3, 5, 7])
    ragged = np.repeat(np.arange(6), sizes)
    rng = stream(7, "ragged")
    found = spearman_by_cluster(rng.normal(size=24), rng.normal(size=24), ragged, draws=50, rng=rng)
    assert (found.n_exchanged, found.n_clusters) == (4, 6)


def test_undefined_has_reasons():
    rng = stream(8, "u")
    x = rng.normal(size=9)
    few = spearman_by_cluster(x, rng.normal(size=9), np.repeat([0, 1, 2], 3), rng=rng)
    assert isinstance(few, Undefined) and "3 of 3 clusters" in few.reason
    assert "constant" in spearman_by_cluster(x, np.ones(9), np.arange(9), rng=rng).reason
    assert "no rows" in spearman_by_cluster(x[:0], x[:0], np.arange(0), rng=rng).reason
    exact = spearman_by_cluster(np.arange(12.0), np.arange(12.0), np.arange(12), rng=rng)
    assert isinstance(exact.rho, Undefined) and exact.value == 1.0


def test_refusals():
    rng = stream(9, "r")
    with pytest.raises(AlignmentError, match=r"^Expected two vectors.*got"):
        spearman_by_cluster(np.ones(3), np.ones(4), np.arange(3), rng=rng)
    with pytest.raises(ParameterError, match=r"^Expected draws.*got"):
        spearman_by_cluster(np.arange(4.0), np.arange(4.0), np.arange(4), draws=0, rng=rng)
