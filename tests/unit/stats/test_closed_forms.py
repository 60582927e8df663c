"""Golden values of power, t tests, equivalence, permutation p; refusals of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from regulens.errors import ParameterError
from regulens.stats.bootstrap_tests import interval, one_sided_p
from regulens.stats.bootstrap_tests import test_greater as greater
from regulens.stats.bootstrap_tests import test_two_sided as two_sided
from regulens.stats.equivalence import tost
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.stats.permutation import permutation_p
from regulens.stats.power import auroc_null_se, correlation_n, detectable_n, minimum_detectable_auroc


@pytest.mark.parametrize(("m", "wanted"), [(1, 784.89), (1000, 2398.30), (10_000, 2922.93), (1_000_000, 3960.10)])
def test_detectable_n_golden(m, wanted):
    assert round(detectable_n(10.0, alpha=0.05, power=0.8, n_tests=m), 2) == wanted


def test_detectable_n_scales_with_the_square_of_tails_and_noise():
    assert detectable_n(10.0, inflation=1.5) == pytest.approx(2.25 * detectable_n(10.0))
    assert detectable_n(5.0) == pytest.approx(detectable_n(10.0) / 4)


def test_correlation_n_golden():
    assert round(correlation_n(0.2, alpha=0.001), 1) == 418.4
    assert round(correlation_n(0.2, alpha=0.001, sides=1), 1) == 379.1
    assert correlation_n(-0.2) == correlation_n(0.2)


@pytest.mark.parametrize(("n_pos", "wanted"), [(18, 0.068), (27, 0.056), (28, 0.055), (35, 0.049), (161, 0.023)])
def test_null_se_golden(n_pos, wanted):
    assert round(auroc_null_se(n_pos, 1_000_000), 3) == wanted


def test_null_se_of_the_matched_set():
    assert round(auroc_null_se(27, 1304), 3) == 0.056


def test_minimum_detectable_auroc():
    se = auroc_null_se(27, 1304)
    wanted = 0.5 + (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * se
    assert minimum_detectable_auroc(27, 1304) == pytest.approx(wanted, abs=1e-12)
    assert minimum_detectable_auroc(27, 1304, design_effect=4.0) - 0.5 == pytest.approx(2 * (wanted - 0.5))


@pytest.mark.parametrize(
    "call",
    [
        lambda: auroc_null_se(0, 5), lambda: minimum_detectable_auroc(5, 5, design_effect=0),
        lambda: detectable_n(0.0), lambda: detectable_n(1.0, n_tests=0), lambda: detectable_n(1.0, alpha=1.0),
        lambda: correlation_n(0.0), lambda: correlation_n(0.2, sides=3), lambda: tost(0, 1, 5, delta=0),
        lambda: interval(0, 1, 5, 95), lambda: benjamini_hochberg(np.array([0.5, np.nan])),
        lambda: benjamini_hochberg(np.ones((2, 2))), lambda: permutation_p(1.0, np.zeros((2, 3))),
        lambda: permutation_p(1.0, np.array([np.nan])), lambda: permutation_p(1.0, np.ones(3), side="both"),
    ],
)  # fmt: skip
def test_refusals_have_expected_and_got(call):
    with pytest.raises(ParameterError, match=r"^Expected .*got"):
        call()


def test_t_forms_equal_scipy():
    t = (0.6 - 0.5) / 0.04
    assert greater(0.6, 0.04, 0.5, 7.3) == pytest.approx(stats.t.sf(t, 7.3), rel=1e-10)
    assert two_sided(0.4, 0.04, 0.5, 7.3) == pytest.approx(2 * stats.t.sf(t, 7.3), rel=1e-10)
    low, high = interval(0.6, 0.04, 7.3, 0.9)
    np.testing.assert_allclose((low, high), stats.t.interval(0.9, 7.3, 0.6, 0.04))


def test_p_is_never_zero_and_undefined_without_a_standard_error():
    assert 0 < greater(1.0, 1e-9, 0.5, 1e6) <= 1
    assert np.isnan(greater(0.6, 0.0, 0.5, 5)) and np.isnan(two_sided(0.6, np.nan, 0.5, 5))
    assert np.isnan(tost(0.0, 0.0, 5, delta=0.1))
    assert greater(np.array([0.6, 0.4]), 0.05, 0.5, 5).shape == (2,)


@pytest.mark.parametrize("estimate", [-0.02, 0.0, 0.011, 0.019])
@pytest.mark.parametrize("se", [0.002, 0.006, 0.02])
def test_tost_agrees_with_the_ninety_percent_interval(estimate, se):
    low, high = interval(estimate, se, 12, 0.90)
    assert (tost(estimate, se, 12, delta=0.02) < 0.05) == (low > -0.02 and high < 0.02)


def test_tost_around_another_centre():
    assert tost(0.51, 0.003, 30, delta=0.02, centre=0.5) == pytest.approx(float(tost(0.01, 0.003, 30, delta=0.02)))


def test_permutation_p():
    draws = np.arange(99.0)
    assert permutation_p(1000.0, draws).item() == 0.01
    assert permutation_p(-1.0, draws, side="less").item() == 0.01
    assert permutation_p(1000.0, draws, side="two-sided").item() == 0.02
    assert permutation_p(49.0, draws, side="two-sided").item() == 1.0
    assert permutation_p(0.1 + 0.2, np.array([0.3])).item() == 1.0  # equal up to rounding is a tie


def test_bootstrap_p_leaves_undefined_draws_out():
    assert one_sided_p(np.array([0.4, 0.6, np.nan, 0.7]), 0.5).item() == 0.5
    assert math.isnan(one_sided_p(np.array([np.nan]), 0.5).item())
