"""Is an estimate above a value? t tests and intervals from a cluster-robust standard error, percentile p beside them.

The t forms are the ones that analyses use: with few or unequal clusters the percentile bootstrap rejects too often
(measured in ``docs/calibration.tsv``), the t form with the degrees of freedom of the clusters much less so.
A standard error of 0 or an undefined one gives NaN, never a p of 0: the caller says ``Undefined``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr, stdtrit

from regulens.errors import ParameterError

Array = np.ndarray | float


def _statistic(estimate: Array, se: Array, null_value: Array) -> np.ndarray:
    se = np.asarray(se, dtype=np.float64)
    t = np.full(np.broadcast_shapes(np.shape(estimate), se.shape), np.nan)
    gap = np.broadcast_to(np.asarray(estimate, np.float64) - null_value, t.shape)
    return np.divide(gap, se, out=t, where=np.broadcast_to(se > 0, t.shape))


def _p(value: np.ndarray) -> np.ndarray:
    """Keep p in (0, 1]: a t tail that underflows is reported as the smallest positive number."""
    return np.where(np.isnan(value), np.nan, np.clip(value, np.finfo(np.float64).tiny, 1.0))


def test_greater(estimate: Array, se: Array, null_value: Array, df: Array) -> np.ndarray:
    """One-sided p of "the true value is above `null_value`": upper tail of t at ``(estimate - null) / se``.

    Parameters
    ----------
    estimate, se, df
        Scalars or shape ``(score,)``; ``df > 0``.

    Returns
    -------
    p in (0, 1]; NaN where `se` is 0 or not finite.

    Examples
    --------
    >>> round(float(test_greater(0.6, 0.05, 0.5, 9)), 4)
    0.0383
    """
    return _p(stdtr(np.asarray(df, np.float64), -_statistic(estimate, se, null_value)))


def test_two_sided(estimate: Array, se: Array, null_value: Array, df: Array) -> np.ndarray:
    """Two-sided p of "the true value is not `null_value`"; see `test_greater`."""
    return _p(2.0 * stdtr(np.asarray(df, np.float64), -np.abs(_statistic(estimate, se, null_value))))


# functions called test_* would be collected when a test module imports them
test_greater.__test__ = False
test_two_sided.__test__ = False


def interval(estimate: Array, se: Array, df: Array, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """``estimate -+ t(1 - (1 - level)/2, df) * se``; not cut at 0 or 1, so that a wide interval looks wide.

    Examples
    --------
    >>> [round(float(x), 3) for x in interval(0.6, 0.05, 9, 0.95)]
    [0.487, 0.713]
    """
    if not 0.0 < level < 1.0:
        message = f"Expected a level in (0, 1), got {level}. Use 0.95 for a 95 % interval."
        raise ParameterError(message)
    half = stdtrit(np.asarray(df, np.float64), 0.5 + level / 2) * np.asarray(se, np.float64)
    estimate = np.asarray(estimate, np.float64)
    return estimate - half, estimate + half


def one_sided_p(draws: np.ndarray, null_value: float) -> np.ndarray:
    """Percentile p: ``(1 + #{draw <= null_value}) / (1 + n)`` over the finite bootstrap draws.

    Descriptive: it inherits the percentile interval's optimism with few clusters. Analyses test by `test_greater`.

    Parameters
    ----------
    draws
        Shape ``(draw,)`` or ``(score, draw)``; NaN draws (no positives resampled) are left out.

    Returns
    -------
    Shape ``(score,)``; NaN where no draw is finite.

    Examples
    --------
    >>> one_sided_p(np.array([0.4, 0.6, 0.7]), 0.5).tolist()
    [0.5]
    """
    draws = np.atleast_2d(np.asarray(draws, dtype=np.float64))
    finite = np.isfinite(draws)
    n = finite.sum(1)
    below = (finite & (draws <= null_value)).sum(1)
    return np.where(n > 0, (1.0 + below) / (1.0 + n), np.nan)
