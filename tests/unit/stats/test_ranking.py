"""Edge cases and refusals of the ranking statistics."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.stats import ranking


def test_one_class_is_undefined():
    scores = np.arange(4.0)[None]
    assert np.isnan(ranking.auroc(scores, np.zeros(4, bool))).all()
    assert np.isnan(ranking.auroc(scores, np.ones(4, bool))).all()
    assert np.isnan(ranking.average_precision(scores, np.zeros(4, bool))).all()
    area, psi = ranking.influence(scores, np.zeros(4, bool))
    assert np.isnan(area).all() and np.isnan(psi).all()


@pytest.mark.parametrize("function", [ranking.auroc, ranking.average_precision, ranking.influence])
def test_nan_scores_are_refused(function):
    with pytest.raises(ParameterError, match=r"Expected scores without NaN, got some\. .*leave it out"):
        function(np.array([[1.0, np.nan, 0.0]]), np.array([True, False, False]))


def test_shapes_and_labels_are_checked():
    with pytest.raises(AlignmentError, match="Expected scores of shape"):
        ranking.auroc(np.zeros((2, 3)), np.zeros(4, bool))
    with pytest.raises(ParameterError, match="true or false"):
        ranking.auroc(np.zeros((1, 3)), np.array([0, 1, 2]))
    assert ranking.auroc(np.arange(3.0), np.array([0, 1, 1])).tolist() == [1.0]


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_its_range_is_refused(k):
    with pytest.raises(ParameterError, match=r"Expected k in \[1, 4\]"):
        ranking.early_precision(np.zeros((1, 4)), np.ones(4, bool), k=k)


def test_inputs_are_not_written_to():
    scores, label = np.array([[3.0, 1.0, 2.0]]), np.array([True, False, True])
    scores.flags.writeable = label.flags.writeable = False
    ranking.auroc(scores, label)
    ranking.influence(scores, label)
    assert scores.tolist() == [[3.0, 1.0, 2.0]]


def test_ties_with_the_positive_at_the_cut_count_in_expectation():
    scores = np.array([[5.0, 1.0, 1.0, 1.0]])
    assert ranking.early_precision(scores, np.array([False, True, False, False]), k=2).tolist() == [1 / 6]


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.0, -0.0, 1.0, -0.0, 0.0, -1.0]),
        np.array([-np.inf, np.inf, 0.0, 5e-324, -5e-324, np.inf]),
        np.array([1e308, -1e308, 1e-308, 0.0, 1e308, 3.0]),
        np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_codes_are_places_among_the_positives(values):
    """Extreme values go through every kind of bucket; the oracle is a plain search."""
    for bits in range(1, 2 ** len(values) - 1):
        label = np.array([bits >> k & 1 for k in range(len(values))], dtype=bool)
        u = np.unique(values[label])
        wanted = 2 * np.searchsorted(u, values) + np.isin(values, u)
        np.testing.assert_array_equal(ranking.codes(values, label)[0], wanted)


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_codes_of_long_tails(spread):
    rng = np.random.default_rng(0)
    for values in (np.exp(spread * rng.normal(size=3000)), -np.exp(spread * rng.normal(size=3000))):
        label = rng.random(3000) < 0.3
        u = np.unique(values[label])
        np.testing.assert_array_equal(
            ranking.codes(values, label)[0], 2 * np.searchsorted(u, values) + np.isin(values, u)
        )
