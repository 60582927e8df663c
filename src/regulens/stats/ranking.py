"""How well does a score put positives above negatives? AUROC, average precision and early precision, exact under ties.

Ties count one half (mid-ranks), so a constant score has an AUROC of exactly 0.5. All functions take many scores of
the same pairs at once, shape ``(score, edge)``, and compute each in float64.
"""

from __future__ import annotations

import numpy as np

from regulens.errors import AlignmentError, ParameterError
from regulens.stats._kernels import codes_of, count_codes, over_scores, placements


def checked(scores: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as ``(score, edge)`` and labels as bool ``(edge,)``; raises when they disagree."""
    scores = np.asarray(scores)
    scores = scores[None, :] if scores.ndim == 1 else scores
    label = np.asarray(label)
    if label.dtype != np.bool_:
        if label.size and not np.isin(label, (0, 1)).all():
            message = "Expected labels that are true or false (or 1 and 0), got other values. Threshold them first."
            raise ParameterError(message)
        label = label.astype(bool)
    if scores.ndim != 2 or label.ndim != 1 or scores.shape[1] != label.size:
        message = (
            f"Expected scores of shape (score, edge) and one label per edge, got {scores.shape} and {label.shape}. "
            "Put scores and labels on the same pairs first."
        )
        raise AlignmentError(message)
    return scores, label


def codes(values: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, int]:
    """Cells of the line cut by the positives' values (see `_kernels`), for one score; raises on NaN."""
    code, m = codes_of(np.ascontiguousarray(values, dtype=np.float64), label)
    if m < 0:
        message = (
            "Expected scores without NaN, got some. A pair that was never observed is missing, not scored: "
            "leave it out of the pairs."
        )
        raise ParameterError(message)
    return code, m


def auroc(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Probability that a random positive scores above a random negative, ties counting one half.

    The Mann-Whitney statistic over ``n_pos * n_neg`` (Hanley & McNeil 1982). Equal to
    ``sklearn.metrics.roc_auc_score``.

    Parameters
    ----------
    scores
        Shape ``(score, edge)`` or ``(edge,)``; larger is stronger; no NaN. float32 is compared exactly.
    label
        Bool, shape ``(edge,)``.

    Returns
    -------
    Float64, shape ``(score,)``, in [0, 1]; NaN for every score when there are no positives or no negatives.

    Raises
    ------
    AlignmentError
        Scores and labels do not have the same number of pairs.
    ParameterError
        A score is NaN, or a label is neither true nor false.

    Examples
    --------
    >>> auroc(np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), np.array([False, True, True])).tolist()
    [1.0, 0.5]
    """
    scores, label = checked(scores, label)
    n_pos = int(label.sum())
    denominator = float(n_pos) * float(label.size - n_pos)

    def one(s: int) -> float:
        code, m = codes(scores[s], label)
        wins = placements(*count_codes(code, label, m))[2]
        return wins / denominator if denominator else np.nan

    return np.fromiter(over_scores(one, len(scores)), dtype=np.float64, count=len(scores))


def influence(scores: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and the share that every pair has in its error: the linearised statistic.

    For a positive e, ``psi_e = (V10_e - A) / n_pos`` with V10 the share of negatives it beats; for a negative,
    ``psi_e = (V01_e - A) / n_neg`` with V01 the share of positives that beat it (placements; DeLong, DeLong &
    Clarke-Pearson 1988). A resample with weights ``1 + d_e`` has the AUROC ``A + sum_e d_e psi_e`` to first order.

    Returns
    -------
    AUROC of shape ``(score,)`` and psi of shape ``(score, edge)``, float64; every row of psi sums to 0. NaN
    without positives or negatives. For very many pairs use `regulens.stats.auroc_inference.auroc_parts`, which
    never holds psi.

    Examples
    --------
    >>> a, psi = influence(np.array([[3.0, 1.0, 2.0]]), np.array([True, True, False]))
    >>> a.tolist(), psi.tolist()
    ([0.5], [[0.25, -0.25, 0.0]])
    """
    scores, label = checked(scores, label)
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    area = np.full(len(scores), np.nan)
    psi = np.full(scores.shape, np.nan)
    if n_pos == 0 or n_neg == 0:
        return area, psi

    def one(s: int) -> None:
        code, m = codes(scores[s], label)
        below, above, wins = placements(*count_codes(code, label, m))
        a = wins / (float(n_pos) * float(n_neg))
        area[s] = a
        psi[s] = np.where(label, (below[code] / n_neg - a) / n_pos, (above[code] / n_pos - a) / n_neg)

    for _ in over_scores(one, len(scores)):
        pass
    return area, psi


def average_precision(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Mean precision at the rank of each positive, tied pairs entering together.

    ``AP = sum_n (R_n - R_{n-1}) P_n`` over the distinct score values; no interpolation. Equal to
    ``sklearn.metrics.average_precision_score``. Its chance value is the prevalence, not 0.5.

    Returns
    -------
    Float64, shape ``(score,)``, in (0, 1]; NaN without positives. Without negatives it is 1.

    Examples
    --------
    >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])).round(4).tolist()
    [0.8333]
    """
    scores, label = checked(scores, label)
    n_pos = int(label.sum())

    def one(s: int) -> float:
        code, m = codes(scores[s], label)
        if n_pos == 0:
            return np.nan
        pos, neg = count_codes(code, label, m)
        found = np.cumsum(pos[::-1])
        taken = found + np.cumsum(neg[::-1])
        hit = pos[::-1] > 0
        return float(np.sum(pos[::-1][hit] * (found[hit] / taken[hit])) / n_pos)

    return np.fromiter(over_scores(one, len(scores)), dtype=np.float64, count=len(scores))


def early_precision(scores: np.ndarray, label: np.ndarray, *, k: int) -> np.ndarray:
    """Share of positives among the `k` strongest pairs; a tie that straddles the cut counts in expectation.

    The expectation is over a random order of the tied pairs, so the value does not depend on the order of the
    edges. With ``k = n_pos``, divided by the prevalence, this is the early precision ratio (Pratapa et al. 2020).

    Parameters
    ----------
    k
        In [1, number of pairs].

    Returns
    -------
    Float64, shape ``(score,)``, in [0, 1].

    Examples
    --------
    >>> early_precision(np.array([2.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False]), k=2).tolist()
    [0.75]
    """
    scores, label = checked(scores, label)
    if not 1 <= k <= label.size:
        message = f"Expected k in [1, {label.size}] (the number of pairs), got {k}. Choose a smaller k."
        raise ParameterError(message)

    def one(s: int) -> float:
        code, m = codes(scores[s], label)
        pos, neg = (c[::-1] for c in count_codes(code, label, m))
        size = pos + neg
        before = np.cumsum(size) - size
        share = np.clip((k - before) / np.maximum(size, 1), 0.0, 1.0)
        return float(np.sum(share * pos) / k)

    return np.fromiter(over_scores(one, len(scores)), dtype=np.float64, count=len(scores))
