"""How alike do rows of two matrices rank the same columns? Spearman of every row with every row, missing left out.

With the diagonal of the result as the observation, a permutation of the rows of one matrix is a sum of other entries:
columns stay where they are, so what all rows share (a prominent column is high in every row) is in every draw as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.compiled import kernel
from regulens.errors import AlignmentError, ParameterError

#: A correlation this close to ±1 is taken as this on Fisher's scale, where ±1 has no place.
NEARLY_ONE = 1 - 1e-6


@kernel
def _twice_midranks(values, order, n_order, other, out):
    """Twice the mid-ranks of the columns observed in both rows, into `out`; returns their number."""
    i, n = 0, 0
    while i < n_order:
        while i < n_order and np.isnan(other[order[i]]):
            i += 1
        if i == n_order:
            break
        value = values[order[i]]
        j, tied = i, 0
        while j < n_order and values[order[j]] == value:
            if not np.isnan(other[order[j]]):
                tied += 1
            j += 1
        for k in range(i, j):
            if not np.isnan(other[order[k]]):
                out[order[k]] = 2 * n + tied + 1
        n += tied
        i = j
    return n


@kernel
def _rows_with_rows(a, b, order_a, order_b, n_a, n_b, as_before, rho, count):
    rank_a, rank_b = np.zeros(a.shape[1], np.int64), np.zeros(a.shape[1], np.int64)
    for i in range(a.shape[0]):
        n = 0
        for j in range(b.shape[0]):
            if j == 0 or not as_before[j]:  # the same columns as in the row before: the same ranks
                n = _twice_midranks(a[i], order_a[i], n_a[i], b[j], rank_a)
            _twice_midranks(b[j], order_b[j], n_b[j], a[i], rank_b)
            count[i, j] = n
            centre = n + 1  # twice the mean rank
            aa, bb, ab = 0.0, 0.0, 0.0
            for k in range(n_a[i]):
                column = order_a[i, k]
                if not np.isnan(b[j, column]):
                    x, y = float(rank_a[column] - centre), float(rank_b[column] - centre)
                    aa += x * x
                    bb += y * y
                    ab += x * y
            rho[i, j] = ab / np.sqrt(aa * bb) if aa > 0 and bb > 0 else np.nan


def rows_with_rows(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's rho of every row of `a` with every row of `b` over the columns that both observed.

    Mid-ranks are made anew among these columns, so each entry equals ``scipy.stats.spearmanr`` of the two rows without
    their missing values.

    Parameters
    ----------
    a, b
        Float64, shapes ``(row, column)``, NaN where missing; equal numbers of columns.

    Returns
    -------
    rho
        Shape ``(row of a, row of b)``; NaN where a row is constant, or no column is shared.
    count
        Columns shared, int64, same shape.

    Examples
    --------
    >>> rho, n = rows_with_rows(np.array([[1.0, 2.0, 3.0, np.nan]]), np.array([[1.0, 3.0, 2.0, 9.0]]))
    >>> rho.tolist(), n.tolist()
    ([[0.5]], [[3]])
    """
    a, b = (np.ascontiguousarray(x, dtype=np.float64) for x in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        message = f"Expected two matrices with the same columns, got {a.shape} and {b.shape}. Align them first."
        raise AlignmentError(message)
    rho, count = np.full((len(a), len(b)), np.nan), np.zeros((len(a), len(b)), dtype=np.int64)
    orders = [np.argsort(x, axis=1, kind="stable") for x in (a, b)]  # missing values sort to the end
    missing = np.isnan(b)
    as_before = np.append(False, (missing[1:] == missing[:-1]).all(axis=1))
    _rows_with_rows(a, b, *orders, (~np.isnan(a)).sum(axis=1), (~missing).sum(axis=1), as_before, rho, count)
    return rho, count


def signs_with_signs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of columns with equal sign, of every row with every row, among columns where neither is zero or missing.

    Returns
    -------
    share, count
        Shapes ``(row of a, row of b)``; NaN where no column counts.

    Examples
    --------
    >>> share, n = signs_with_signs(np.array([[1.0, -1.0, 0.0]]), np.array([[2.0, 3.0, 4.0]]))
    >>> share.tolist(), n.tolist()
    ([[0.5]], [[2]])
    """
    x, y = (np.sign(np.nan_to_num(np.asarray(m, dtype=np.float64))) for m in (a, b))
    count = np.abs(x) @ np.abs(y).T
    with np.errstate(invalid="ignore"):
        share = np.where(count > 0, (x @ y.T + count) / 2 / count, np.nan)
    return share, count.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowPermutation:
    """Mean agreement of rows that belong together, and its draws when rows are dealt out at random.

    Parameters
    ----------
    observed
        Mean over the rows that count, on the scale of the draws.
    draws
        Shape ``(draw,)``.
    dropped
        Draws that were left out because too few columns matched.
    """

    observed: float
    draws: np.ndarray
    dropped: int


def permuted_rows(
    agreement: np.ndarray, count: np.ndarray, *, draws: int, min_matched: int, rng: np.random.Generator
) -> RowPermutation:
    """Deal the rows of `a` out among those of `b` at random, and average the agreement each time.

    Parameters
    ----------
    agreement
        Square, shape ``(row of a, row of b)``, the diagonal is what belongs together; NaN where undefined, and then
        left out of the mean.
    count
        Columns behind each entry.
    min_matched
        Draws with fewer columns over all rows are dropped and counted.

    Examples
    --------
    >>> m = np.eye(4)
    >>> null = permuted_rows(m, np.full((4, 4), 50), draws=99, min_matched=10, rng=np.random.default_rng(0))
    >>> null.observed, bool(null.draws.mean() < 0.5)
    (1.0, True)
    """
    n = len(agreement)
    if agreement.shape != (n, n) or count.shape != (n, n):
        message = f"Expected square matrices of one shape, got {agreement.shape} and {count.shape}."
        raise ParameterError(message)
    column = np.arange(n)
    order = rng.permuted(np.tile(column, (draws, 1)), axis=1)  # which row of a goes to each row of b
    value, matched = agreement[order, column], count[order, column]
    there = np.isfinite(value)
    kept = there.any(axis=1) & (np.where(there, matched, 0).sum(axis=1) >= min_matched)
    total = np.where(there, value, 0.0).sum(axis=1)
    own = np.diagonal(agreement)
    observed = float(own[np.isfinite(own)].mean()) if np.isfinite(own).any() else float("nan")
    return RowPermutation(
        observed=observed, draws=total[kept] / there.sum(axis=1)[kept], dropped=int((~kept).sum())
    )  # fmt: skip


def fisher(rho: np.ndarray) -> np.ndarray:
    """``atanh(rho)``; a correlation of exactly ±1, which only a handful of columns can have, stays finite."""
    return np.arctanh(np.clip(rho, -NEARLY_ONE, NEARLY_ONE))
