"""What do the strongest pairs contain, what could they contain, and what is the early part of the ROC curve worth?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regulens.errors import ParameterError
from regulens.stats._kernels import count_codes, over_scores
from regulens.stats.ranking import checked, codes


def _counts_from_the_top(values: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives per group of tied pairs, strongest first; empty groups left out."""
    code, m = codes(values, label)
    pos, neg = (c[::-1] for c in count_codes(code, label, m))
    kept = pos + neg > 0
    return pos[kept], neg[kept]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopK:
    """Hits among the k strongest pairs of every score.

    Parameters
    ----------
    k
        Shape ``(k,)``.
    true_positives
        Expected over a random order of tied pairs, float64, shape ``(score, k)``.
    n_pos, n_pairs
        Positives and pairs.
    """

    k: np.ndarray
    true_positives: np.ndarray
    n_pos: int
    n_pairs: int

    @property
    def precision(self) -> np.ndarray:
        """``TP / k``, shape ``(score, k)``; chance is the prevalence."""
        return self.true_positives / self.k

    @property
    def recall(self) -> np.ndarray:
        """``TP / n_pos``, shape ``(score, k)``; chance is ``k / n_pairs``; NaN without positives."""
        return self.true_positives / self.n_pos if self.n_pos else np.full(self.true_positives.shape, np.nan)

    @property
    def f1(self) -> np.ndarray:
        """``2 TP / (k + n_pos)``, shape ``(score, k)``; NaN without positives."""
        return 2.0 * self.true_positives / (self.k + self.n_pos) if self.n_pos else self.recall


def top_k(scores: np.ndarray, label: np.ndarray, k: Sequence[int] | np.ndarray) -> TopK:
    """Precision, recall and F1 at several `k` of many scores, each ranked once.

    A tie that straddles a cut enters with the share that fits, the expectation over a random order of tied pairs, so
    that no value depends on the order of the pairs.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``; no NaN.
    k
        Each in [1, number of pairs].

    Examples
    --------
    >>> found = top_k(np.array([4.0, 3.0, 3.0, 1.0]), np.array([True, True, False, False]), [1, 2])
    >>> found.precision.tolist(), found.recall.tolist()
    ([[1.0, 0.75]], [[0.5, 0.75]])
    """
    scores, label = checked(scores, label)
    k = np.atleast_1d(np.asarray(k))
    if k.ndim != 1 or k.size == 0 or k.dtype.kind not in "iu" or k.min() < 1 or k.max() > label.size:
        message = f"Expected whole k in [1, {label.size}] (the number of pairs), got {k.tolist()}. Choose smaller ones."
        raise ParameterError(message)

    def one(s: int) -> np.ndarray:
        pos, neg = _counts_from_the_top(scores[s], label)
        taken = np.concatenate([[0], np.cumsum(pos + neg)]).astype(np.float64)
        found = np.concatenate([[0], np.cumsum(pos)]).astype(np.float64)
        return np.interp(k, taken, found)

    hits = np.stack(list(over_scores(one, len(scores)))) if len(scores) else np.empty((0, k.size))
    return TopK(k=k.astype(np.int64), true_positives=hits, n_pos=int(label.sum()), n_pairs=label.size)


def partial_auroc(
    scores: np.ndarray, label: np.ndarray, *, max_fpr: float = 0.1, standardised: bool = True
) -> np.ndarray:
    """Area under the ROC curve up to a false positive rate, ties by straight lines.

    Parameters
    ----------
    max_fpr
        In (0, 1].
    standardised
        True (default): McClish's (1989) ``(1 + (A - f^2/2) / (f - f^2/2)) / 2``, 0.5 at chance and 1 at best; equal to
        ``sklearn.metrics.roc_auc_score(max_fpr=)``. False: the area A itself, in [0, `max_fpr`], ``f^2/2`` at chance.

    Returns
    -------
    Float64, shape ``(score,)``; NaN without positives or negatives.

    Examples
    --------
    >>> y = np.array([True, False, True, False, False])
    >>> partial_auroc(np.array([5.0, 4, 3, 2, 1]), y, max_fpr=0.5, standardised=False).round(4).tolist()
    [0.3333]
    """
    scores, label = checked(scores, label)
    if not 0.0 < max_fpr <= 1.0:
        message = f"Expected max_fpr in (0, 1], got {max_fpr}. Use 1 for the whole curve."
        raise ParameterError(message)
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    if n_pos == 0 or n_neg == 0:
        return np.full(len(scores), np.nan)

    def one(s: int) -> float:
        pos, neg = _counts_from_the_top(scores[s], label)
        tpr = np.concatenate([[0.0], np.cumsum(pos) / n_pos])
        fpr = np.concatenate([[0.0], np.cumsum(neg) / n_neg])
        stop = int(np.searchsorted(fpr, max_fpr, side="right"))
        if stop < fpr.size:  # the curve is cut inside a step: up to there, by a straight line
            at = np.interp(max_fpr, fpr[stop - 1 : stop + 1], tpr[stop - 1 : stop + 1])
            tpr, fpr = np.append(tpr[:stop], at), np.append(fpr[:stop], max_fpr)
        return float(np.trapezoid(tpr, fpr))

    area = np.fromiter(over_scores(one, len(scores)), dtype=np.float64, count=len(scores))
    if not standardised:
        return area
    least = 0.5 * max_fpr**2
    return 0.5 * (1.0 + (area - least) / (max_fpr - least))
