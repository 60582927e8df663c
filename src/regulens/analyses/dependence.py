"""How strongly do two scores go together over pairs that share genes? Rank correlations with a gene jackknife.

Ranks are made once; leaving out a gene (as regulator and as target) removes its pairs' share of the moments, so that
all delete-one values cost one pass over the pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from regulens.stats.bootstrap_tests import interval
from regulens.types.estimates import Estimate, Undefined


def _moments(x: np.ndarray, own: np.ndarray, regulator: np.ndarray, target: np.ndarray, n_genes: int) -> np.ndarray:
    """Sums of 1, x_a and x_a x_b over all pairs (row 0) and without each gene, shape ``(1 + gene, 1 + v + v*v)``."""
    v = len(x)
    columns = [np.ones(x.shape[1]), *x, *(x[a] * x[b] for a in range(v) for b in range(v))]
    gene = own[regulator]
    out = np.empty((1 + n_genes, len(columns)))
    for c, column in enumerate(columns):
        out[0, c] = column.sum()
        out[1:, c] = out[0, c] - (
            np.bincount(target, weights=column, minlength=n_genes)
            + np.bincount(gene, weights=column, minlength=n_genes)
        )
    return out


def _correlations(moments: np.ndarray, v: int) -> np.ndarray:
    """Correlation matrices, shape ``(row, v, v)``; NaN where a variable does not vary."""
    n = moments[:, 0]
    mean = moments[:, 1 : 1 + v] / n[:, None]
    second = moments[:, 1 + v :].reshape(-1, v, v) / n[:, None, None]
    cov = second - mean[:, :, None] * mean[:, None, :]
    sd = np.sqrt(np.maximum(np.einsum("gii->gi", cov), 0.0))
    scale = sd[:, :, None] * sd[:, None, :]
    return np.divide(cov, scale, out=np.full_like(cov, np.nan), where=scale > 1e-12)


def _estimate(value: float, left: np.ndarray, *, level: float, words: str) -> Estimate | Undefined:
    if not np.isfinite(value) or not np.isfinite(left).all() or len(left) < 3:
        return Undefined(reason="a variable does not vary")
    n = len(left)
    se = float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
    low, high = interval(value, se, float(n - 1), level)
    return Estimate(
        value=value, low=float(min(low, value)), high=float(max(high, value)), level=level,
        method=f"delete-one jackknife over {n} genes, ranks held, {words}", n_units=n, unit="gene", se=se,
    )  # fmt: skip


def jackknifed_correlations(
    variables: np.ndarray, quantities: dict[str, Callable[[np.ndarray], np.ndarray]], *, own: np.ndarray,
    regulator: np.ndarray, target: np.ndarray, n_genes: int, level: float,
) -> dict[str, Estimate | Undefined]:  # fmt: skip
    """Functions of the correlation matrix of several variables, each with a gene-jackknife t interval.

    Parameters
    ----------
    variables
        Ranks (or 0/1 labels), shape ``(variable, edge)``; centred here.
    quantities
        Name to a function of correlation matrices ``(row, variable, variable)`` that returns ``(row,)``.
    own
        Gene position of each regulator.
    """
    x = variables - variables.mean(axis=1, keepdims=True)
    present = np.unique(np.concatenate([own[regulator], target]))
    moments = _moments(x, own, regulator, target, n_genes)[np.concatenate([[0], 1 + present])]
    r = _correlations(moments, len(x))
    found = {}
    for name, function in quantities.items():
        value = function(r)
        found[name] = _estimate(float(value[0]), value[1:], level=level, words="t interval")
    return found


def partial(r_ab: np.ndarray, r_ac: np.ndarray, r_bc: np.ndarray) -> np.ndarray:
    """Correlation of a and b given c, ``(r_ab - r_ac r_bc) / sqrt((1 - r_ac^2)(1 - r_bc^2))``.

    >>> round(float(partial(np.array(0.5), np.array(0.5), np.array(0.5))), 4)
    0.3333
    """
    scale = np.sqrt(np.maximum((1 - r_ac**2) * (1 - r_bc**2), 0.0))
    return np.divide(r_ab - r_ac * r_bc, scale, out=np.full(np.shape(scale), np.nan), where=scale > 1e-12)


def within_regulators(
    a: np.ndarray, b: np.ndarray, *, regulator: np.ndarray, target: np.ndarray, n_regulators: int, n_genes: int,
    level: float,
) -> Estimate | Undefined:  # fmt: skip
    """Mean over regulators of the Spearman correlation of `a` and `b` among a regulator's targets.

    The jackknife leaves out one target at a time (in every row), or one regulator's row; both errors are added in
    square. Regulators with fewer than 3 targets, or with a constant score, have no correlation and are left out.
    """
    ranks = np.zeros((2, n_regulators, n_genes))
    seen = np.zeros((n_regulators, n_genes), dtype=bool)
    seen[regulator, target] = True
    for k, x in enumerate((a, b)):
        grid = np.full((n_regulators, n_genes), np.nan)
        grid[regulator, target] = x
        rank = rankdata(grid, axis=1, nan_policy="omit")
        mean = np.divide(np.nansum(rank, axis=1), np.maximum(seen.sum(axis=1), 1))
        ranks[k] = np.where(seen, rank - mean[:, None], 0.0)
    x, y = ranks
    n = seen.sum(axis=1, keepdims=True).astype(np.float64)

    def correlate(m, sx, sy, sxx, syy, sxy) -> np.ndarray:
        m = np.maximum(m, 1.0)
        vx, vy = sxx - sx**2 / m, syy - sy**2 / m
        scale = np.sqrt(np.maximum(vx * vy, 0.0))
        return np.divide(sxy - sx * sy / m, scale, out=np.full(scale.shape, np.nan), where=scale > 1e-9)

    total = [q.sum(axis=1, keepdims=True) for q in (x, y, x * x, y * y, x * y)]
    full = correlate(n, *total)[:, 0]
    ok = np.isfinite(full) & (n[:, 0] >= 3)
    if ok.sum() < 3:
        return Undefined(reason="fewer than 3 regulators have a rank correlation")
    without = correlate(n - seen, *(t - q for t, q in zip(total, (x, y, x * x, y * y, x * y))))[ok]
    by_target = np.nanmean(np.where(np.isfinite(without), without, full[ok][:, None]), axis=0)[seen.any(axis=0)]
    rows = full[ok]
    value = float(rows.mean())
    by_row = (rows.sum() - rows) / (len(rows) - 1)
    parts = [(len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum() for left in (by_target, by_row)]
    se = float(np.sqrt(sum(parts)))
    low, high = interval(value, se, float(len(rows) - 1), level)
    return Estimate(
        value=value, low=float(min(low, value)), high=float(max(high, value)), level=level,
        method=f"delete-one jackknife over {len(rows)} regulators and {len(by_target)} targets, ranks held, t interval",
        n_units=len(rows), unit="regulator and target", se=se,
    )  # fmt: skip
