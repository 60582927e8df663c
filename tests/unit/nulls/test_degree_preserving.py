"""Curveball draws keep both margins, make no forbidden pair, and reach every network equally often."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.nulls import NULLS
from regulens.nulls.degree_preserving import SPEC, degree_preserving, degree_preserving_draws, jaccard_floor
from regulens.nulls.rank_sums import auroc_at, mid_ranks
from regulens.rng import stream
from regulens.stats.ranking import auroc


def network(n_regulators=12, n_genes=40, seed=0):
    """Unequal degrees, self-pairs and some unobserved pairs forbidden, some regulators without targets."""
    rng = stream(seed, "network")
    odds = np.exp(rng.normal(0, 1, (n_regulators, 1)) + rng.normal(0, 1, (1, n_genes)))
    allowed = rng.random((n_regulators, n_genes)) > 0.1
    allowed[np.arange(n_regulators), np.arange(n_regulators)] = False
    positive = allowed & (rng.random(allowed.shape) < np.minimum(odds / odds.mean() * 0.12, 0.9))
    positive[3] = False
    return positive, allowed


def as_grid(found, allowed):
    grid = np.zeros((len(found.positions), *allowed.shape), dtype=bool)
    i, j = np.nonzero(allowed)
    for d, row in enumerate(found.positions):
        grid[d, i[row], j[row]] = True
    return grid


def test_margins_stay_and_forbidden_pairs_never_appear():
    positive, allowed = network()
    found = degree_preserving_draws(positive, allowed, draws=100, rng=stream(1, "d"))
    grid = as_grid(found, allowed)
    np.testing.assert_array_equal(grid.sum(axis=2), np.tile(positive.sum(axis=1), (100, 1)))
    np.testing.assert_array_equal(grid.sum(axis=1), np.tile(positive.sum(axis=0), (100, 1)))
    assert not (grid & ~allowed).any()
    np.testing.assert_array_equal(np.flatnonzero(positive[allowed]), found.observed)
    assert found.n_identical == 0
    assert found.trades_per_row >= 5
    assert found.n_rows == positive.any(axis=1).sum()


def test_jaccard_is_that_of_the_grids():
    positive, allowed = network()
    found = degree_preserving_draws(positive, allowed, draws=20, rng=stream(1, "d"))
    grid = as_grid(found, allowed)
    np.testing.assert_allclose(
        found.jaccard, (grid & positive).sum(axis=(1, 2)) / (grid | positive).sum(axis=(1, 2))
    )  # fmt: skip
    assert (found.jaccard >= found.jaccard_floor).all()


def test_short_chains_are_seen_to_mix_badly():
    positive, allowed = network(40, 120)
    short = degree_preserving_draws(positive, allowed, draws=50, rng=stream(1, "d"), trades_per_row=1.0)
    long = degree_preserving_draws(positive, allowed, draws=50, rng=stream(1, "d"))
    assert short.jaccard.mean() > 1.2 * short.jaccard_mixed
    assert long.jaccard.mean() < 1.1 * long.jaccard_mixed
    assert long.jaccard_mixed >= long.jaccard_floor


def all_networks(positive, allowed):
    """Every network with these margins, by brute force."""
    cells = np.argwhere(allowed)
    found = []
    for bits in product([False, True], repeat=len(cells)):
        y = np.zeros_like(positive)
        y[tuple(cells.T)] = bits
        if (y.sum(axis=0) == positive.sum(axis=0)).all() and (y.sum(axis=1) == positive.sum(axis=1)).all():
            found.append(y)
    return found


def test_every_network_is_equally_likely():
    positive = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    allowed = np.ones((3, 4), dtype=bool)
    allowed[0, 3] = allowed[2, 0] = False
    every = all_networks(positive, allowed)
    found = as_grid(degree_preserving_draws(positive, allowed, draws=20_000, rng=stream(1, "d")), allowed)
    counts = np.array([(found == y).all(axis=(1, 2)).sum() for y in every])
    assert counts.sum() == 20_000
    assert len(every) > 5
    expected = 20_000 / len(every)
    assert ((counts - expected) ** 2 / expected).sum() < len(every) + 5 * np.sqrt(2 * len(every))


def test_the_check_of_uniformity_can_fail():
    """A twin that gives the first row every shared chance (no dealing back) does not reach networks equally often."""
    positive = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    every = all_networks(positive, np.ones((3, 4), dtype=bool))
    rng, y, counts = stream(1, "twin"), positive.copy(), np.zeros(len(every))
    for _ in range(4000):
        r, s = rng.choice(3, 2, replace=False)
        a, b = np.flatnonzero(y[r] & ~y[s]), np.flatnonzero(y[s] & ~y[r])
        if len(a) and len(b):  # swaps the lowest target of both, instead of dealing
            y[r, a[0]], y[s, a[0]], y[s, b[0]], y[r, b[0]] = False, True, False, True
        counts += [(y == e).all() for e in every]
    expected = 4000 / len(every)
    assert ((counts - expected) ** 2 / expected).sum() > len(every) + 5 * np.sqrt(2 * len(every))


def test_aurocs_are_those_of_drawn_labels():
    positive, allowed = network()
    scores = np.round(stream(2, "s").normal(size=(2, allowed.sum())), 1)
    draws = degree_preserving_draws(positive, allowed, draws=15, rng=stream(1, "d"))
    found = degree_preserving(scores, positive, allowed, draws=15, rng=stream(1, "d"))
    for d, row in enumerate(draws.positions):
        label = np.zeros(allowed.sum(), dtype=bool)
        label[row] = True
        np.testing.assert_allclose(found[:, d], auroc(scores, label), atol=1e-13)


def test_scores_of_one_gene_alone_do_not_vary_under_the_null():
    positive, allowed = network()
    i, j = np.nonzero(allowed)
    rng = stream(3, "m")
    scores = np.stack([rng.normal(size=40)[j], rng.normal(size=12)[i], rng.normal(size=len(i))])
    sd = degree_preserving(scores, positive, allowed, draws=50, rng=stream(1, "d")).std(axis=1)
    assert (sd[:2] < 1e-12).all()
    assert sd[2] > 1e-3


def test_the_observed_network_is_one_of_the_draws_where_degrees_are_all_there_is():
    """Rank of the observed AUROC among the draws is uniform: labels depend on degrees only, scores on pairs."""
    rng = stream(5, "level")
    p = []
    for _ in range(200):
        positive, allowed = network(seed=int(rng.integers(1 << 30)))
        scores = rng.normal(size=(1, allowed.sum()))
        null = degree_preserving(scores, positive, allowed, draws=39, rng=rng, trades_per_row=1.0)[0]
        observed = auroc(scores, positive[allowed])[0]
        p.append((1 + (null >= observed).sum()) / 40)
    rejected = (np.array(p) <= 0.05).mean()
    assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert abs(np.mean(p) - 0.5) < 3 * np.sqrt(1 / 12 / 200) + 0.02


def test_networks_that_cannot_change_are_seen():
    positive = np.zeros((4, 6), dtype=bool)
    positive[:, :2] = True  # all regulators share all targets: nothing to trade
    found = degree_preserving_draws(positive, np.ones((4, 6), bool), draws=10, rng=stream(1, "d"))
    assert found.n_identical == 10
    assert found.trades_per_row == 0
    assert found.jaccard_floor <= 1


def test_floor_of_the_overlap():
    assert jaccard_floor(np.ones((2, 3), bool), np.ones((2, 3), bool)) == 1.0
    assert jaccard_floor(np.eye(4, dtype=bool), np.ones((4, 4), bool)) == 0.0


def test_rank_sums_refuse_positions_of_other_pairs():
    ranks = mid_ranks(np.array([[1.0, 2.0, 3.0]]))
    with pytest.raises(AlignmentError, match="Expected positions"):
        auroc_at(ranks, np.array([[3]]))
    with pytest.raises(ParameterError, match="Expected at least one positive"):
        auroc_at(ranks, np.array([[0, 1, 2]]))


@pytest.mark.parametrize(
    ("positive", "kwargs", "error"),
    [
        (np.ones((2, 2), bool), {"allowed": np.eye(2, dtype=bool)}, AlignmentError),
        (np.array([[1, 0], [0, 0]], bool), {}, ParameterError),
        (np.eye(2, dtype=bool), {"draws": 0}, ParameterError),
        (np.eye(2, dtype=bool), {"trades_per_row": 0.0}, ParameterError),
    ],
)
def test_refusals_name_what_was_expected(positive, kwargs, error):
    given = {"allowed": np.ones((2, 2), bool), "draws": 3} | kwargs
    with pytest.raises(error, match="Expected"):
        degree_preserving_draws(positive, rng=stream(1, "p"), **given)


def test_table_of_nulls():
    assert NULLS["degree_preserving"] is SPEC
