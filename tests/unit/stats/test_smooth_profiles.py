"""The depth trend holds its level on profiles that wander; a test that counts layers does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.smooth_profiles import BOUND, depth_trend, spearman_with_depth, surrogates


def wandering(n: int, rho: float, count: int, name: str = "") -> np.ndarray:
    """Profiles of an AR(1) process, a random walk for ``rho = 1``; no trend."""
    noise = stream(0, f"wandering/{n}/{rho}/{name}").normal(size=(count, n + 200))
    out = np.zeros_like(noise)
    for k in range(1, n + 200):
        out[:, k] = (rho if rho < 1 else (0.0 if k < 200 else 1.0)) * out[:, k - 1] + noise[:, k]
    return out[:, 200:]


def smooth(n: int, length: float, count: int) -> np.ndarray:
    """Moving averages of noise with Gaussian weights: smooth, without a trend."""
    noise = stream(0, f"smooth/{n}/{length}").normal(size=(count, n + 80))
    weight = np.exp(-np.square(np.arange(-40, 41) / length))
    return np.stack([np.convolve(row, weight, mode="valid") for row in noise])


def rejected(profiles: np.ndarray, **options) -> float:
    return float((depth_trend(profiles, rng=stream(1, "p"), **options).p <= 0.05).mean())


def bound(n: int) -> float:
    return 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize("n", [6, 8, 12, 18])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 1.0])
def test_level_on_autocorrelated_profiles(n, rho):
    assert rejected(wandering(n, rho, 300), draws=500) <= bound(300)


@pytest.mark.parametrize(("n", "length"), [(8, 2.0), (12, 3.0), (18, 2.0), (18, 4.0)])
def test_level_on_smooth_profiles(n, length):
    assert rejected(smooth(n, length, 300), draws=500) <= bound(300)


def test_a_test_that_counts_layers_is_the_broken_twin():
    profiles = wandering(18, 0.9, 300)
    p = np.array([stats.spearmanr(np.arange(18), y).pvalue for y in profiles])
    assert (p <= 0.05).mean() > 0.4


@pytest.mark.parametrize("method", ["phase", "ar1", "gp"])
def test_plain_surrogates_are_better_than_counting_layers_but_not_exact(method):
    profiles = wandering(12, 0.9, 150)
    found = rejected(profiles, draws=199, method=method)
    counted = np.mean([stats.spearmanr(np.arange(12), y).pvalue <= 0.05 for y in profiles])
    assert found < counted
    if method == "phase":  # why it is not the default
        assert found > bound(150)


def test_power_where_a_trend_stands_out_of_rough_noise():
    rough = 6 * np.linspace(0, 1, 18) + stream(2, "rough").normal(0, 0.7, (200, 18))
    assert rejected(rough, draws=1000) > 0.5
    assert rejected(rough[:, ::3], draws=1000) < 0.1  # six layers say nothing


def test_rho_equals_scipy_and_a_linear_trend_does_not_move_the_residual():
    profiles = np.round(stream(3, "rho").normal(size=(20, 12)), 1)
    wanted = [stats.spearmanr(np.arange(12), y).statistic for y in profiles]
    np.testing.assert_allclose(spearman_with_depth(profiles), wanted, atol=1e-12)
    plain = depth_trend(profiles, draws=50, rng=stream(0, "a"))
    tilted = depth_trend(profiles + 3 * np.arange(12), draws=50, rng=stream(0, "a"))
    np.testing.assert_allclose(plain.residual_autocorrelation, tilted.residual_autocorrelation, atol=1e-9)


def test_p_is_the_same_for_scaled_and_turned_profiles():
    profiles = wandering(12, 0.5, 5)
    runs = [depth_trend(y, draws=200, rng=stream(0, "same")).p for y in (profiles, 5 * profiles + 2, -profiles)]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])
    assert (runs[0] >= BOUND).all()


def test_phase_surrogates_keep_the_spectrum():
    for n in (11, 12):
        y = wandering(n, 0.6, 1)[0]
        drawn = surrogates(y, kind="phase", draws=50, rng=stream(0, "phase"))
        wanted = np.abs(np.fft.rfft(y - y.mean()))
        np.testing.assert_allclose(np.abs(np.fft.rfft(drawn)), np.broadcast_to(wanted, (50, wanted.size)), atol=1e-9)
        assert np.abs(drawn - drawn[0]).max() > 0.1


def test_fitted_surrogates_follow_the_memory_of_the_profile():
    def memory(kind, rho):
        y = wandering(60, rho, 1, "memory")[0]
        drawn = surrogates(y, kind=kind, draws=400, rng=stream(0, "fit"))
        return np.mean([np.corrcoef(d[1:], d[:-1])[0, 1] for d in drawn])

    for kind in ("ar1", "gp"):
        assert memory(kind, 0.0) < 0.3 < memory(kind, 0.9)


@pytest.mark.parametrize(
    ("profile", "words"),
    [(np.arange(5.0), "5 layers"), (np.ones(12), "constant"), (np.r_[np.nan, np.arange(11.0)], "no value")],
)
def test_no_trend_has_a_reason(profile, words):
    found = depth_trend(np.stack([profile, profile]), rng=stream(0, "x"))
    assert words in found.undefined[1] and np.isnan(found.p).all()


def test_undefined_profiles_do_not_touch_their_neighbours():
    profiles = np.stack([np.ones(12), wandering(12, 0.3, 1)[0]])
    found = depth_trend(profiles, draws=100, rng=stream(0, "n"))
    assert found.undefined == ("the profile is constant", "") and np.isfinite(found.p[1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: surrogates(np.ones(9), kind="phase", draws=3, rng=stream(0, "x")),
        lambda: surrogates(np.arange(9.0), kind="wavelet", draws=3, rng=stream(0, "x")),
        lambda: depth_trend(np.arange(9.0), draws=0, rng=stream(0, "x")),
    ],
)
def test_refusals(call):
    with pytest.raises(ParameterError, match=r"^Expected .*got"):
        call()
