"""Nearest negatives, equal propensity and equal co-expression: what is kept is kept, what is lost is counted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from regulens.errors import AlignmentError, ParameterError, StatisticsError
from regulens.nulls import NULLS
from regulens.nulls import coexpression_matched as coexpression
from regulens.nulls import propensity_matched as propensity
from regulens.nulls.nearest import balance_table, nearest_negatives
from regulens.rng import stream
from regulens.stats.ranking import auroc


def units(n=600, seed=0):
    rng = stream(seed, "units")
    x = rng.normal(size=(n, 2))
    return x, rng.random(n) < 1 / (1 + np.exp(2 - 1.5 * x[:, 0] + 0.5 * x[:, 1])), rng


def test_neighbours_are_scikit_learns():
    x, y, _ = units()
    found = nearest_negatives(x[:, 0], y, ratio=3, caliper=np.inf)
    distance, _ = NearestNeighbors(n_neighbors=3).fit(x[~y, :1]).kneighbors(x[y, :1])
    ours = np.abs(x[found.negative, 0] - x[found.positive, 0][found.owner]).reshape(-1, 3)
    np.testing.assert_allclose(np.sort(ours, axis=1), distance, atol=1e-12)
    assert found.coverage == 1.0
    assert not y[found.negative].any()
    assert found.largest_reuse == np.bincount(found.negative).max()


def test_the_caliper_is_kept_and_what_it_costs_is_counted():
    x, y, _ = units()
    found = nearest_negatives(x[:, 0], y, ratio=5, caliper=0.02)
    assert (np.abs(x[found.negative, 0] - x[found.positive, 0][found.owner]) <= 0.02).all()
    assert len(found.positive) + len(found.unmatched) == y.sum()
    short = (np.diff(found.start) < 5).sum()
    assert found.counts() == {
        "positives without a negative inside the caliper": len(found.unmatched),
        "positives with fewer negatives than asked for": short,
        "most positives that share one negative": found.largest_reuse,
    }
    edge = nearest_negatives(np.array([0.0, 0.5]), np.array([True, False]), ratio=1, caliper=0.5)
    assert edge.coverage == 1.0


@pytest.mark.parametrize("y", [np.zeros(5, bool), np.ones(5, bool)])
def test_one_class_gives_no_match(y):
    found = nearest_negatives(np.arange(5.0), y, ratio=1, caliper=1.0)
    assert len(found.positive) == len(found.negative) == 0
    assert found.coverage == 0.0
    assert balance_table(np.arange(5.0)[:, None], ["x"], y, found)["smd_after"].tolist() == [0.0]  # no class, no spread


def test_propensity_takes_out_the_features_and_leaves_what_they_do_not_know():
    x, y, rng = units(2000)
    found = propensity.propensity_matched(x, ["a", "b"], y, np.arange(2000) % 5)
    assert found.balance["smd_before"].max() > 0.5
    assert found.is_balanced
    signal = y + rng.normal(size=2000)
    for score, low, high in ((x[:, 0], 0.45, 0.55), (signal, 0.7, 0.9)):
        m = found.matched
        pooled = np.concatenate([score[m.positive], score[m.negative]])
        assert low < auroc(pooled[None], np.arange(pooled.size) < len(m.positive))[0] < high


def test_log_odds_are_out_of_fold():
    """A feature that names each unit cannot help: within the fold's own units it was never fitted."""
    _, y, _ = units(400)
    fold = np.arange(400) % 4
    leak = np.zeros((400, 4))
    leak[np.arange(400), fold] = y  # a twin in which every fold's label is a feature of that fold alone
    found = propensity.propensity_matched(leak, list("abcd"), y, fold)
    assert abs(auroc(found.log_odds[None], y)[0] - 0.5) < 0.1


def test_a_match_that_is_not_balanced_says_so():
    rng = stream(1, "bad")
    y = np.arange(200) < 40
    x = np.where(y, 5.0, 0.0)[:, None] + 0.1 * rng.normal(size=(200, 1))
    found = propensity.propensity_matched(x, ["x"], y, rng.integers(4, size=200), caliper=np.inf)
    assert not found.is_balanced
    strict = propensity.propensity_matched(x, ["x"], y, rng.integers(4, size=200))
    assert strict.matched.coverage == 0.0


def test_coexpression_is_equal_after_matching():
    rng = stream(2, "rho")
    rho = np.clip(rng.normal(0, 0.3, 5000), -0.95, 0.95)
    y = rng.random(5000) < 0.02 + 0.2 * np.abs(rho)
    matched, balance = coexpression.coexpression_matched(rho, y)
    assert balance["smd_before"][0] > 0.3
    assert balance["smd_after"][0] < 0.02
    assert matched.coverage > 0.95
    copy = np.abs(rho) + 1e-3 * rng.normal(size=5000)
    wins = copy[matched.positive][matched.owner] > copy[matched.negative]
    conditional = np.mean(np.add.reduceat(wins.astype(float), matched.start[:-1]) / np.diff(matched.start))
    assert abs(conditional - 0.5) < 0.02
    assert abs(auroc(copy[None], y)[0] - 0.5) > 0.1  # without matching the copy is found


def test_refusals_name_what_was_expected():
    x, y, _ = units(50)
    with pytest.raises(AlignmentError, match="Expected one finite value"):
        nearest_negatives(np.full(50, np.nan), y, ratio=1, caliper=1.0)
    with pytest.raises(ParameterError, match="Expected ratio"):
        nearest_negatives(x[:, 0], y, ratio=0, caliper=1.0)
    with pytest.raises(AlignmentError, match="Expected finite features"):
        propensity.propensity_matched(x, ["a"], y, np.arange(50) % 2)
    with pytest.raises(StatisticsError, match="Expected positives and negatives outside fold"):
        propensity.propensity_matched(x, ["a", "b"], y, np.zeros(50, int))


def test_table_of_nulls():
    assert NULLS["propensity_matched"] is propensity.SPEC
    assert NULLS["coexpression_matched"] is coexpression.SPEC
