"""Is an estimate close enough to nothing to say so? Two one-sided tests."""

from __future__ import annotations

import numpy as np

from regulens.errors import ParameterError
from regulens.stats.bootstrap_tests import Array, test_greater


def tost(estimate: Array, se: Array, df: Array, *, delta: float, centre: Array = 0.0) -> np.ndarray:
    """p of "the true value lies within ``centre -+ delta``" (two one-sided t tests, Schuirmann 1987).

    The larger of the two one-sided p-values. ``p < alpha`` holds exactly when the ``1 - 2 alpha`` t interval lies
    inside the margin. A p above alpha says nothing about a difference.

    Parameters
    ----------
    delta
        Half width of the margin, > 0, fixed before data is seen.

    Returns
    -------
    p in (0, 1]; NaN where `se` is 0 or not finite.

    Examples
    --------
    >>> float(tost(0.001, 0.005, 50, delta=0.02)) < 0.05
    True
    """
    if not delta > 0:
        message = f"Expected a margin delta above 0, got {delta}. Register the smallest effect of interest first."
        raise ParameterError(message)
    estimate = np.asarray(estimate, np.float64) - np.asarray(centre, np.float64)
    return np.maximum(test_greater(estimate, se, -delta, df), test_greater(-estimate, se, -delta, df))
