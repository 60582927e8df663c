"""Calibration errors, Brier parts and log loss against scikit-learn; sums that must be exact; what is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from regulens.errors import ParameterError
from regulens.stats.calibration_error import brier_parts, equal_mass, equal_width, log_loss

STRATEGIES = {"uniform": (equal_width, 10), "quantile": (equal_mass, 15)}


def sample(seed, n=4000, ties=False):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 6, size=n)
    if ties:
        p = np.round(p, 1)
    return p, rng.random(n) < p**1.4


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bins_are_scikit_learns(strategy, ties):
    make, n_bins = STRATEGIES[strategy]
    for seed in range(3):
        p, y = sample(seed, ties=ties)
        predicted, observed = make(p, y, n_bins).curve()
        true, prob = calibration_curve(y, p, n_bins=n_bins, strategy=strategy)
        np.testing.assert_allclose(predicted, prob, rtol=0, atol=1e-12)
        np.testing.assert_allclose(observed, true, rtol=0, atol=1e-12)


def test_ece_is_the_formula_and_a_twin_that_forgets_the_sizes_is_caught():
    p, y = sample(1)
    bins = equal_width(p, y)
    edges = np.linspace(0, 1, 11)
    plain = sum(
        at.mean() * abs(y[at].mean() - p[at].mean())
        for at in ((p > a) & (p <= b) if a else p <= b for a, b in pairwise(edges))
        if at.any()
    )
    assert bins.ece == pytest.approx(plain, abs=1e-12)
    mean, share = bins.curve()
    assert abs(np.abs(mean - share).mean() - bins.ece) > 0.01  # unweighted bins are another number


@pytest.mark.parametrize("ties", [False, True])
def test_brier_parts_add_up(ties):
    for seed in range(5):
        p, y = sample(seed, ties=ties)
        for bins in (equal_width(p, y), equal_mass(p, y)):
            parts = brier_parts(p, y, bins)
            assert parts.brier == pytest.approx(brier_score_loss(y, p), abs=1e-14)
            total = parts.reliability - parts.resolution + parts.uncertainty + parts.within
            assert total == pytest.approx(parts.brier, abs=1e-13)
            assert parts.reliability >= 0
            assert 0 <= parts.resolution <= parts.uncertainty


def test_bins_of_one_probability_leave_nothing_within():
    p, y = sample(3)
    p = np.floor(p * 10) / 10 + 0.05  # every bin has one value
    assert brier_parts(p, y, equal_width(p, y)).within == pytest.approx(0, abs=1e-13)
    assert abs(brier_parts(p, y, equal_width(p, y, 3)).within) > 1e-4


def test_the_base_rate_has_no_error_and_no_resolution():
    _, y = sample(4)
    p = np.full(len(y), y.mean())
    parts = brier_parts(p, y, equal_mass(p, y))
    assert equal_width(p, y).ece == pytest.approx(0, abs=1e-12)
    assert parts.resolution == pytest.approx(0, abs=1e-12)
    assert parts.brier == pytest.approx(parts.uncertainty)


def test_log_loss_is_scikit_learns():
    p, y = sample(5)
    assert log_loss(p, y) == pytest.approx(sklearn_log_loss(y, np.clip(p, 1e-6, 1 - 1e-6)), abs=1e-12)
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([True, False])))


@pytest.mark.parametrize("p", [np.array([0.2, 1.2]), np.array([0.2, np.nan]), np.array([0.2]), np.array([])])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ParameterError, match=r"Expected one probability in \[0, 1\]"):
        equal_width(p, np.zeros(2 if p.size else 0, dtype=bool))
