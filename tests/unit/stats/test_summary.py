"""One sweep gives the numbers of four functions."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.delong import delong
from regulens.stats.ranking import auroc, average_precision
from regulens.stats.summary import ranking_summary
from regulens.stats.top_lists import top_k


def data(share: float = 0.1):
    rng = stream(0, "summary")
    label = rng.random(900) < share
    return np.round(rng.normal(size=(5, 900)) + 0.5 * label, 1), label


def test_equals_the_separate_functions():
    scores, label = data()
    found = ranking_summary(iter([scores[:2], scores[2:].astype(np.float64)]), label, k=[1, 50, 900])
    np.testing.assert_array_equal(found.auroc.estimate, auroc(scores, label))
    np.testing.assert_array_equal(found.auroc.se, delong(scores, label).se)
    np.testing.assert_array_equal(found.average_precision, average_precision(scores, label))
    np.testing.assert_allclose(found.top.true_positives, top_k(scores, label, [1, 50, 900]).true_positives, atol=1e-12)
    assert found.prevalence == pytest.approx(label.mean())
    assert ranking_summary(scores, label).top is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_class(share):
    scores, label = data(share)
    found = ranking_summary(scores, label)
    assert np.isnan(found.auroc.estimate).all() and all(found.auroc.undefined)
    assert (found.average_precision == 1).all() if share else np.isnan(found.average_precision).all()


def test_refusals():
    scores, label = data()
    with pytest.raises(ParameterError, match=r"Expected whole k.*got"):
        ranking_summary(scores, label, k=[901])
    with pytest.raises(ParameterError, match=r"Expected at least one score, got none"):
        ranking_summary(iter([]), label)
