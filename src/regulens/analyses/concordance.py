"""Do several judges put the same things in the same order? Kendall's W and tau, with ties."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau, rankdata


def kendall_w(values: np.ndarray) -> float:
    """Kendall's coefficient of concordance, corrected for ties (Kendall & Babington Smith 1939).

    ``W = 12 S / (m^2 (n^3 - n) - m sum T)`` with S the spread of the rank sums and ``T = sum (t^3 - t)`` over the tie
    groups of a judge. 1 is full agreement, 0 none at all.

    Parameters
    ----------
    values
        Shape ``(judge, thing)``, larger is better. Judges to whom all things are equal have no order: leave them out.

    Returns
    -------
    NaN with fewer than 2 judges or 2 things.

    Examples
    --------
    >>> kendall_w(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    1.0
    """
    values = np.atleast_2d(values)
    m, n = values.shape
    if m < 2 or n < 2:
        return float("nan")
    ranks = rankdata(values, axis=1)
    spread = float(np.square(ranks.sum(axis=0) - m * (n + 1) / 2).sum())
    ties = sum(float((np.unique(row, return_counts=True)[1] ** 3.0).sum() - n) for row in ranks)
    scale = m**2 * (n**3 - n) - m * ties
    return 12 * spread / scale if scale > 0 else float("nan")


def tau_matrix(values: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of every two judges, shape ``(judge, judge)``; NaN where one of them has no order.

    Examples
    --------
    >>> tau_matrix(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    m = len(values)
    out = np.full((m, m), np.nan)
    varied = [np.ptp(row) > 0 for row in values]
    for a in range(m):
        for b in range(a, m):
            if varied[a] and varied[b]:
                out[a, b] = out[b, a] = 1.0 if a == b else float(kendalltau(values[a], values[b]).statistic)
    return out
