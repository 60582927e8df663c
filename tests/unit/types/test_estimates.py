import numpy as np
import pytest

from regulens.errors import ParameterError
from regulens.types.estimates import Estimate, NullDistribution, Undefined


def estimate(**changes):
    return Estimate(
        **({"value": 0.6, "low": 0.5, "high": 0.7, "method": "m", "n_units": 9, "unit": "regulator"} | changes)
    )


@pytest.mark.parametrize("changes", [{"value": float("nan")}, {"high": float("inf")}, {"se": float("nan")}])
def test_an_estimate_refuses_what_is_not_finite(changes):
    with pytest.raises(ParameterError, match=r"Undefined\(reason"):
        estimate(**changes)


def test_an_estimate_lies_in_its_interval():
    with pytest.raises(ParameterError, match="low <= value <= high"):
        estimate(value=0.8)


def test_draws_that_miss_the_point_widen_the_interval():
    made = Estimate.from_draws(0.9, np.linspace(0.4, 0.6, 500), method="m", n_units=3, unit="regulator")
    assert made.high == 0.9
    assert made.low == pytest.approx(0.405, abs=0.001)


def test_too_few_defined_draws_are_undefined_and_some_are_counted():
    draws = np.full(500, np.nan)
    assert isinstance(Estimate.from_draws(0.5, draws, method="m", n_units=3, unit="u"), Undefined)
    draws[:400] = np.linspace(0.4, 0.6, 400)
    assert "100 resamples undefined" in Estimate.from_draws(0.5, draws, method="m", n_units=3, unit="u").method
    assert isinstance(Estimate.from_draws(float("nan"), draws, method="m", n_units=3, unit="u"), Undefined)


def test_a_permutation_p_is_never_zero_and_counts_ties():
    null = NullDistribution(observed=1.0, draws=np.zeros(99), scheme="s", preserves="p", randomises="r", stream="x")
    assert null.p_value() == 0.01
    assert isinstance(null.z(), Undefined)
    tied = NullDistribution(observed=0.0, draws=np.zeros(99), scheme="s", preserves="p", randomises="r", stream="x")
    assert tied.p_value() == 1.0


@pytest.mark.parametrize("draws", [np.array([]), np.array([np.nan]), np.zeros((2, 2))])
def test_a_null_refuses_draws_that_are_no_draws(draws):
    with pytest.raises(ParameterError):
        NullDistribution(observed=1.0, draws=draws, scheme="s", preserves="p", randomises="r", stream="x")
