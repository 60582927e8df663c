"""What is the AUROC of many label draws when no score moves? Ranks are made once and summed at drawn positives."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from regulens.compiled import kernel
from regulens.errors import AlignmentError, ParameterError
from regulens.stats._kernels import over_scores


@kernel
def sums_at(values, positions):
    """Sum of `values` at each row of `positions`, shape ``(draw,)``."""
    out = np.empty(positions.shape[0], np.float64)
    for d in range(positions.shape[0]):
        total = 0.0
        for k in range(positions.shape[1]):
            total += values[positions[d, k]]
        out[d] = total
    return out


def mid_ranks(scores: np.ndarray) -> np.ndarray:
    """Mid-ranks of every score, 1 .. n, float64 shape ``(score, edge)``."""
    return np.stack(list(over_scores(lambda s: rankdata(scores[s]), len(scores))))


def auroc_at(ranks: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """AUROC of every score under every draw of the positives.

    ``(sum of the positives' mid-ranks - n_pos (n_pos + 1) / 2) / (n_pos n_neg)``: that of
    `regulens.stats.ranking.auroc` on the drawn labels.

    Parameters
    ----------
    ranks
        From `mid_ranks`, shape ``(score, edge)``.
    positions
        Positions of the positives in each draw, integers, no position twice in a row, shape ``(draw, n_pos)``.

    Returns
    -------
    Float64, shape ``(score, draw)``.

    Examples
    --------
    >>> auroc_at(mid_ranks(np.array([[1.0, 2.0, 2.0, 3.0]])), np.array([[3], [1], [0]])).tolist()
    [[1.0, 0.5, 0.0]]
    """
    n_pos, n = positions.shape[1], ranks.shape[1]
    if not 0 < n_pos < n:
        message = f"Expected at least one positive and one negative among {n} pairs, got {n_pos} positives."
        raise ParameterError(message)
    if positions.size and (positions.min() < 0 or positions.max() >= n):
        message = f"Expected positions in [0, {n - 1}], got {positions.min()} to {positions.max()}. Use the same pairs."
        raise AlignmentError(message)
    sums = np.stack(list(over_scores(lambda s: sums_at(ranks[s], positions), len(ranks))))
    return (sums - 0.5 * n_pos * (n_pos + 1)) / (float(n_pos) * float(n - n_pos))
