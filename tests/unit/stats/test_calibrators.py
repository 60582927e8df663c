"""Maps and calibrators against scikit-learn; none of them falls; separation, one label and constants."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from regulens.errors import ParameterError
from regulens.stats.calibrators import (
    CALIBRATORS,
    Curve,
    Flat,
    LogitMap,
    RankMap,
    fit_beta,
    fit_isotonic,
    fit_platt,
    shift_prevalence,
)


def sample(seed, n=6000, a=0.8, b=0.8, c=-2.0):
    rng = np.random.default_rng(seed)
    u = rng.uniform(0.001, 0.999, size=n)
    return u, rng.random(n) < expit(a * np.log(u) - b * np.log1p(-u) + c)


def test_rank_map_is_the_share_below_with_ties_halved():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 6, size=200).astype(float)
    found = RankMap.fit(train)(train)
    np.testing.assert_allclose(found, (rankdata(train) - 0.5) / len(train), atol=1e-12)
    outside = RankMap.fit(train)(np.array([-5.0, 99.0]))
    np.testing.assert_allclose(outside, [0.5 / 200, 1 - 0.5 / 200])


def test_logit_map_is_centred_on_the_training_side():
    train = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(LogitMap.fit(train)(np.array([2.0, 2.0 + train.std()])), [0.5, expit(1)])
    assert LogitMap.fit(np.ones(4))(np.array([7.0])).tolist() == [0.5]


@pytest.mark.parametrize("mapping", [RankMap, LogitMap])
def test_maps_need_scores(mapping):
    with pytest.raises(ParameterError, match="Expected training scores"):
        mapping.fit(np.array([]))


def test_platt_is_logistic_regression_on_log_odds():
    u, y = sample(0)
    found = fit_platt(u, y)
    oracle = LogisticRegression(C=1e10, tol=1e-12, max_iter=1000).fit(logit(u)[:, None], y)
    assert isinstance(found, Curve)
    assert found.a == pytest.approx(oracle.coef_[0, 0], abs=2e-3)  # Platt's targets move it by the order of 1/n
    assert found.c == pytest.approx(oracle.intercept_[0], abs=5e-3)


def test_platts_targets_are_what_moves_it():
    """With his targets given as weighted labels, scikit-learn's fit is the same to rounding."""
    u, y = sample(1, n=300)
    high, low = (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2)
    target = np.where(y, high, low)
    x = logit(np.concatenate([u, u]))[:, None]
    oracle = LogisticRegression(C=1e12, tol=1e-13, max_iter=5000).fit(
        x, np.repeat([1, 0], len(u)), sample_weight=np.concatenate([target, 1 - target])
    )
    found = fit_platt(u, y)
    np.testing.assert_allclose([found.a, found.c], [oracle.coef_[0, 0], oracle.intercept_[0]], rtol=1e-4)


def test_beta_recovers_its_own_curve_and_contains_platts():
    u, y = sample(2, n=60_000, a=1.6, b=0.4)
    found = fit_beta(u, y)
    assert (found.a, found.b, found.c) == (
        pytest.approx(1.6, abs=0.1),
        pytest.approx(0.4, abs=0.1),
        pytest.approx(-2.0, abs=0.15),
    )
    grid = np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(Curve(a=0.7, b=0.7, c=-1)(grid), Curve(a=0.7, b=0.7 + 1e-13, c=-1)(grid), atol=1e-9)


def test_beta_leaves_a_negative_coefficient_out():
    u, y = sample(3, a=-0.6, b=1.5)
    found = fit_beta(u, y)
    assert found.a == 0.0
    assert found.b > 0
    assert (np.diff(found(np.linspace(0.01, 0.99, 50))) >= 0).all()


def test_isotonic_is_scikit_learns():
    for seed in range(3):
        u, y = sample(seed, n=700)
        u = np.round(u, 2)
        oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(u, y)
        grid = np.linspace(0, 1, 333)
        np.testing.assert_allclose(fit_isotonic(u, y)(grid), oracle.predict(grid), atol=1e-9)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_score_that_falls_is_read_as_the_base_rate(name):
    u, y = sample(4, a=-1.0, b=-1.0)
    p = CALIBRATORS[name](u, y)(np.linspace(0.01, 0.99, 20))
    assert (np.diff(p) >= 0).all()
    assert np.ptp(p) < 0.05
    assert p[0] == pytest.approx(y.mean(), abs=0.03)


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("label", [True, False])
def test_one_label_or_one_score_gives_the_base_rate(name, label):
    u = np.linspace(0.1, 0.9, 8)
    found = CALIBRATORS[name](u, np.full(8, label))
    assert isinstance(found, Flat)
    assert found(u).tolist() == [float(label)] * 8
    y = np.arange(8) % 4 == 0
    assert CALIBRATORS[name](np.full(8, 0.5), y)(u).tolist() == [0.25] * 8


@pytest.mark.parametrize("name", CALIBRATORS)
def test_separated_labels_stay_finite(name):
    u = np.linspace(0.01, 0.99, 40)
    p = CALIBRATORS[name](u, u > 0.5)(u)
    assert np.isfinite(p).all()
    assert p.min() >= 0
    assert p.max() <= 1
    assert p[u > 0.6].min() > 0.5 > p[u < 0.4].max()


def test_shifted_prevalence_is_bayes_rule():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400_000)
    y = rng.random(len(x)) < expit(x - 1)
    keep = ~y | (rng.random(len(x)) < 0.25)  # the same scores within each label, fewer responses
    p = shift_prevalence(expit(x - 1), old=float(y.mean()), new=float(y[keep].mean()))[keep]
    bins = np.digitize(p, [0.05, 0.1, 0.2, 0.4])
    for b in range(5):
        at = bins == b
        error = float(np.sqrt((p[at] * (1 - p[at])).sum()) / at.sum())
        assert abs(p[at].mean() - y[keep][at].mean()) < 4 * error
        assert abs(expit(x - 1)[keep][at].mean() - y[keep][at].mean()) > 4 * error  # without the correction
    with pytest.raises(ParameterError, match="Expected base rates"):
        shift_prevalence(p, old=0.0, new=0.5)
