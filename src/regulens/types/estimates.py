"""What a number is: `Estimate`, `Undefined`, `NullDistribution`. No other form of a result is passed around."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from regulens.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Undefined:
    """A quantity that has no value, with the reason. Never a float in disguise.

    >>> Undefined(reason="no positives").reason
    'no positives'
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its interval, the way the interval was made, and the unit that was resampled.

    Parameters
    ----------
    value, low, high
        Finite, ``low <= value <= high``.
    level
        Nominal coverage of ``[low, high]``, in (0, 1).
    method
        How the interval was made, e.g. ``"bootstrap over regulators, percentile, B=2000"``.
    n_units, unit
        Number and kind of independent units (``"regulator"``, ``"cell"``, ...).
    se
        Standard error where the method yields one.
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    method: str
    n_units: int
    unit: str
    se: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high) + (() if self.se is None else (self.se,))
        if not all(math.isfinite(x) for x in numbers):
            message = f"Expected finite numbers in an Estimate, got {numbers}. Use Undefined(reason=...)."
            raise ParameterError(message)
        if not self.low <= self.value <= self.high:
            message = f"Expected low <= value <= high, got {self.low}, {self.value}, {self.high}."
            raise ParameterError(message)

    @classmethod
    def from_draws(
        cls, value: float, draws: np.ndarray, *, level: float = 0.95, method: str, n_units: int, unit: str
    ) -> Estimate | Undefined:
        """Percentile interval of bootstrap `draws`; widened to the point where it would miss it.

        Draws that are not finite (a resample without positives) are left out and counted in `method`;
        fewer than 100 finite draws, or fewer than half of them, give `Undefined`.
        """
        if not math.isfinite(value):
            return Undefined(reason="the point estimate is not defined")
        finite = draws[np.isfinite(draws)]
        if finite.size < max(100, draws.size // 2):
            return Undefined(reason=f"only {finite.size} of {draws.size} resamples gave a value")
        tail = (1 - level) / 2
        low, high = np.quantile(finite, [tail, 1 - tail])
        lost = draws.size - finite.size
        if lost:
            method = f"{method} ({lost} resamples undefined)"
        return cls(
            value=float(value),
            low=float(min(low, value)),
            high=float(max(high, value)),
            level=level,
            method=method,
            n_units=n_units,
            unit=unit,
            se=float(finite.std(ddof=1)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullDistribution:
    """Draws of a statistic under a null, with what the null keeps and what it randomises.

    Parameters
    ----------
    observed
        The same statistic, computed by the same callable, on the data.
    draws
        Shape ``(draw,)``, finite.
    scheme, preserves, randomises
        Name of the null and, in words, what it keeps and what it breaks.
    stream
        Name of the random stream.

    Examples
    --------
    >>> null = NullDistribution(observed=2.0, draws=np.array([0., 1., 3.]), scheme="s", preserves="p",
    ...                         randomises="r", stream="x")
    >>> null.p_value()
    0.5
    """

    observed: float
    draws: np.ndarray
    scheme: str
    preserves: str
    randomises: str
    stream: str

    def __post_init__(self) -> None:
        draws = np.array(self.draws, dtype=np.float64)
        if draws.ndim != 1 or draws.size == 0 or not np.isfinite(draws).all():
            message = "Expected a non-empty vector of finite draws, got another shape or non-finite values."
            raise ParameterError(message)
        draws.flags.writeable = False
        object.__setattr__(self, "draws", draws)

    def p_value(self) -> float:
        """One-sided (greater) permutation p, ``(1 + #{draw >= observed}) / (1 + n)``; never 0."""
        return float((1 + np.count_nonzero(self.draws >= self.observed)) / (1 + self.draws.size))

    def z(self) -> float | Undefined:
        """(observed − mean) / SD of the draws; undefined when the draws do not vary."""
        sd = float(self.draws.std(ddof=1)) if self.draws.size > 1 else 0.0
        if sd == 0.0:
            return Undefined(reason="the null does not vary")
        return float((self.observed - self.draws.mean()) / sd)
