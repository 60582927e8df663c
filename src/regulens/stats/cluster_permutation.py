"""Do two quantities rise together when rows come in clusters? Spearman's rho with whole clusters permuted.

Rows of one cluster (edges of a regulator, layers of a model, cells of a donor) are not exchangeable one by one. What
is exchanged is the cluster: its label where one quantity is constant within clusters, or its whole block of values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from regulens.errors import AlignmentError, ParameterError
from regulens.stats.bootstrap_tests import interval
from regulens.stats.jackknife import compact, effective_df, jackknife_variance
from regulens.stats.permutation import permutation_p
from regulens.types.estimates import Estimate, Undefined

#: Fewer clusters that can change places say nothing: 3! permutations are all there are.
MIN_CLUSTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterCorrelation:
    """Spearman's rho over rows in clusters, with a permutation p and a jackknife interval over clusters.

    Parameters
    ----------
    rho
        With the t interval of the delete-one-cluster jackknife, or the reason why there is none.
    value
        Rho itself.
    p
        In [1 / (1 + draws), 1].
    n_rows, n_clusters, n_exchanged
        Rows, clusters, and clusters that can change places.
    method
        In words.
    """

    rho: Estimate | Undefined
    value: float
    p: float
    n_rows: int
    n_clusters: int
    n_exchanged: int
    method: str


def _rho(x: np.ndarray, y: np.ndarray) -> float:
    a, b = rankdata(x) - 0.5 * (x.size + 1), rankdata(y) - 0.5 * (y.size + 1)
    length = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / length if length > 0 else math.nan


def spearman_by_cluster(
    x: np.ndarray,
    y: np.ndarray,
    cluster: np.ndarray,
    *,
    draws: int = 999,
    side: Literal["greater", "less", "two-sided"] = "two-sided",
    level: float = 0.95,
    unit: str = "cluster",
    rng: np.random.Generator,
) -> ClusterCorrelation | Undefined:
    """Spearman's rho of `x` and `y` over rows, tested by permuting clusters.

    Where `y` is the same in all rows of a cluster (or `x` is: then they change roles), the clusters' values are dealt
    anew to the clusters, whatever their sizes. Otherwise clusters of equal size exchange their blocks of `y`, row for
    row; a cluster alone of its size stays. With one row per cluster this is the plain permutation test.

    Parameters
    ----------
    x, y
        Finite, shape ``(row,)``.
    cluster
        Integers, shape ``(row,)``.
    draws
        > 0.
    unit
        What a cluster is, for `Estimate.unit`.

    Returns
    -------
    `Undefined` where a quantity is constant or fewer than `MIN_CLUSTERS` clusters can change places.

    Examples
    --------
    >>> g = np.random.default_rng(0)
    >>> found = spearman_by_cluster(np.arange(12.0), np.arange(12.0) ** 2, np.arange(12), rng=g)
    >>> found.value, found.p
    (1.0, 0.002)
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        message = (
            f"Expected two vectors of one length without NaN, got shapes {x.shape} and {y.shape}. Leave rows out where "
            "either is undefined."
        )
        raise AlignmentError(message)
    if draws < 1 or side not in ("greater", "less", "two-sided"):
        message = f"Expected draws > 0 and side 'greater', 'less' or 'two-sided', got {draws} and {side!r}."
        raise ParameterError(message)
    number, n = compact(cluster, x.size, "cluster")
    if x.size == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Undefined(reason="no rows" if x.size == 0 else "one of the quantities is constant")
    first = np.zeros(n, np.int64)
    first[number[::-1]] = np.arange(x.size)[::-1]
    if (x == x[first][number]).all():
        x, y = y, x
    by_label = bool((y == y[first][number]).all())
    size = np.bincount(number, minlength=n)
    groups = [np.arange(n)] if by_label else [np.flatnonzero(size == k) for k in np.unique(size)]
    exchanged = int(sum(g.size for g in groups if g.size > 1))
    if exchanged < MIN_CLUSTERS:
        return Undefined(reason=f"{exchanged} of {n} clusters can change places; a test needs {MIN_CLUSTERS}")
    value = _rho(x, y)
    order = np.argsort(number, kind="stable")
    start = np.cumsum(size) - size
    null = np.empty(draws)
    ranks_x = rankdata(x) - 0.5 * (x.size + 1)
    for d in range(draws):
        source = np.arange(n)
        for g in groups:
            source[g] = rng.permutation(g)
        if by_label:
            moved = y[first][source][number]
        else:
            moved = np.empty_like(y)
            place = np.arange(x.size) - np.repeat(start, size)
            moved[order] = y[order[np.repeat(start[source], size) + place]]
        ranks = rankdata(moved) - 0.5 * (x.size + 1)
        length = math.sqrt(float(ranks_x @ ranks_x) * float(ranks @ ranks))
        null[d] = float(ranks_x @ ranks) / length if length > 0 else 0.0
    p = float(permutation_p(value, null, side=side)[0])
    words = "values of clusters permuted" if by_label else "whole clusters of equal size exchanged"
    return ClusterCorrelation(
        rho=_jackknife(x, y, number, n, value, level, unit), value=value, p=p, n_rows=x.size, n_clusters=n,
        n_exchanged=exchanged, method=f"Spearman, {words}, {draws} permutations",
    )  # fmt: skip


def _jackknife(
    x: np.ndarray, y: np.ndarray, number: np.ndarray, n: int, value: float, level: float, unit: str
) -> Estimate | Undefined:
    """Rho with the t interval of leaving every cluster out in turn."""
    moved = np.array([_rho(x[number != c], y[number != c]) - value for c in range(n)])
    if not np.isfinite(moved).all():
        return Undefined(reason="without one of the clusters a quantity is constant")
    # centred on their mean: rho is not linear, and its jackknife bias is no part of its variance
    se = math.sqrt(float(jackknife_variance(moved - moved.mean())))
    if se < 1e-12:
        return Undefined(reason="the standard error is 0: rho is the same without any cluster")
    low, high = interval(value, se, float(effective_df(moved - moved.mean())), level)
    return Estimate(
        value=value, low=float(low), high=float(high), level=level, n_units=n, unit=unit, se=se,
        method=f"delete-one jackknife over {n} clusters, t interval",
    )  # fmt: skip
