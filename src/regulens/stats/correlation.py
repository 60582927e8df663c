"""How do two genes rise and fall together over cells? Spearman correlation of many columns with many, average ties."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from regulens.compiled import kernel
from regulens.errors import AlignmentError, ParameterError
from regulens.stats._kernels import over_scores
from regulens.stats.permuted_labels import twice_ranks

_BLOCK = 256


@kernel
def _unit_ranks(twice_rank):
    """Average ranks minus their mean, divided by their root sum of squares; NaN for a constant column."""
    n = twice_rank.size
    out = np.empty(n, np.float64)
    total = 0.0
    for k in range(n):
        centred = 0.5 * twice_rank[k] - 0.5 * (n + 1)
        out[k] = centred
        total += centred * centred
    scale = 1.0 / np.sqrt(total) if total > 0.0 else np.nan
    for k in range(n):
        out[k] *= scale
    return out


def _standardised(matrix: np.ndarray | sp.csc_matrix, start: int, stop: int) -> np.ndarray:
    """Unit-length centred ranks of some columns, shape ``(column, cell)``; NaN for constant columns."""

    def one(k: int) -> np.ndarray:
        if sp.issparse(matrix):
            column = np.zeros(matrix.shape[0], matrix.dtype)
            at = slice(matrix.indptr[start + k], matrix.indptr[start + k + 1])
            column[matrix.indices[at]] = matrix.data[at]
        else:
            column = np.ascontiguousarray(matrix[:, start + k])
        if np.isnan(column).any():
            message = f"Expected values without NaN, got some in column {start + k}. Leave those cells or genes out."
            raise ParameterError(message)
        short = column.astype(np.float32)
        if (short == column).all():  # counts, or single precision already: half as much to sort
            column = short
        return _unit_ranks(twice_ranks(column))

    return np.stack(list(over_scores(one, stop - start)))


def spearman(a: np.ndarray | sp.spmatrix, b: np.ndarray | sp.spmatrix) -> np.ndarray:
    """Spearman's rho of every column of `a` with every column of `b`.

    Pearson correlation of average ranks; equal to ``scipy.stats.spearmanr``. Work is one rank per column and one
    matrix product per block of columns, so nothing of shape cells x all genes is held for `b`. With ``b is a`` each
    column is ranked once and half of the products are formed.

    Parameters
    ----------
    a, b
        Shape ``(cell, column)``, dense or sparse, the same cells; no NaN; at least 2 cells.

    Returns
    -------
    Float64, shape ``(columns of a, columns of b)``, in [-1, 1]; NaN where a column is constant: the pair has no
    correlation, which is not a correlation of 0.

    Examples
    --------
    >>> x = np.array([[1.0, 5.0], [2.0, 5.0], [9.0, 5.0]])
    >>> spearman(x, -x).round(6).tolist()
    [[-1.0, nan], [nan, nan]]
    """
    is_same = a is b
    a, b = (sp.csc_matrix(m) if sp.issparse(m) else np.atleast_2d(np.asarray(m)) for m in (a, b))
    if a.shape[0] != b.shape[0] or a.shape[0] < 2:
        message = f"Expected two matrices over the same 2 or more cells, got {a.shape} and {b.shape}. Align the cells."
        raise AlignmentError(message)
    out = np.empty((a.shape[1], b.shape[1]))
    if out.size == 0:
        return out
    left = _standardised(a, 0, a.shape[1])
    for start in range(0, b.shape[1], _BLOCK):
        stop = min(start + _BLOCK, b.shape[1])
        if is_same:
            np.matmul(left[:stop], left[start:stop].T, out=out[:stop, start:stop])
            out[start:stop, :start] = out[:start, start:stop].T
            continue
        np.matmul(left, _standardised(b, start, stop).T, out=out[:, start:stop])
    return np.clip(out, -1.0, 1.0, out=out)
