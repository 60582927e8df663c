"""What do the usual numbers say about very many scores, each looked at once? AUROC with error, precision, top k."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from regulens.errors import ParameterError
from regulens.stats._kernels import count_codes, over_scores, placements
from regulens.stats.delong import DeLong, finished, spread
from regulens.stats.ranking import checked, codes
from regulens.stats.top_lists import TopK


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankingSummary:
    """The ranking metrics of many scores on the same pairs.

    Parameters
    ----------
    auroc
        With DeLong's standard errors and intervals: for independent pairs, so a lower bound of the error in a network.
    average_precision
        Shape ``(score,)``; NaN without positives.
    top
        Hits among the strongest pairs, or None where no k was asked for.
    n_pos, n_neg
        Positives and negatives.
    """

    auroc: DeLong
    average_precision: np.ndarray
    top: TopK | None
    n_pos: int
    n_neg: int

    @property
    def prevalence(self) -> float:
        """Chance value of the average precision and of the precision at k."""
        return self.n_pos / (self.n_pos + self.n_neg)


def ranking_summary(
    scores: np.ndarray | Iterable[np.ndarray], label: np.ndarray, *, k: Sequence[int] = ()
) -> RankingSummary:
    """AUROC with DeLong's error, average precision, and hits at several k, from one sweep per score.

    Same numbers as `auroc`, `average_precision`, `delong` and `top_k`, at the price of one of them; one block of
    scores is held at a time.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``, or an iterable of such blocks (float32 or float64); no NaN.
    label
        Bool, shape ``(pair,)``.
    k
        Lengths of lists, each in [1, number of pairs].

    Examples
    --------
    >>> y = np.array([True, False, True, False])
    >>> found = ranking_summary(np.array([[4.0, 3.0, 2.0, 1.0]]), y, k=[2])
    >>> found.auroc.estimate.tolist(), found.average_precision.round(4).tolist(), found.top.precision.tolist()
    ([0.75], [0.8333], [[0.5]])
    """
    wanted = np.asarray(list(k), dtype=np.int64)
    label = np.asarray(label)
    n_pairs, n_pos = label.size, int(label.sum())
    n_neg = n_pairs - n_pos
    if wanted.size and (wanted.min() < 1 or wanted.max() > n_pairs):
        message = f"Expected whole k in [1, {n_pairs}] (the number of pairs), got {list(k)}. Choose smaller ones."
        raise ParameterError(message)
    rows: list[np.ndarray] = []
    for block in [scores] if isinstance(scores, np.ndarray) else scores:
        values, is_positive = checked(block, label)
        rows += over_scores(lambda s, v=values, y=is_positive: _one(v[s], y, n_pos, n_neg, wanted), len(values))
    if not rows:
        message = "Expected at least one score, got none. Select scores first."
        raise ParameterError(message)
    table = np.stack(rows)
    return RankingSummary(
        auroc=finished(table[:, 0], table[:, 1], table[:, 2], n_pos, n_neg, is_difference=False),
        average_precision=table[:, 3],
        top=TopK(k=wanted, true_positives=table[:, 4:], n_pos=n_pos, n_pairs=n_pairs) if wanted.size else None,
        n_pos=n_pos,
        n_neg=n_neg,
    )


def _one(values: np.ndarray, label: np.ndarray, n_pos: int, n_neg: int, k: np.ndarray) -> np.ndarray:
    """AUROC, its two placement variances, average precision, hits at every k, of one score."""
    code, m = codes(values, label)
    pos, neg = count_codes(code, label, m)
    below, above, wins = placements(pos, neg)
    out = np.full(4 + k.size, np.nan)
    if n_pos and n_neg:
        out[0] = wins / (float(n_pos) * float(n_neg))
    if n_pos > 1 and n_neg > 1:
        out[1], out[2] = spread(below / n_neg, pos), spread(above / n_pos, neg)
    found = np.cumsum(pos[::-1])
    taken = found + np.cumsum(neg[::-1])
    if n_pos:
        hit = pos[::-1] > 0
        out[3] = float(np.sum(pos[::-1][hit] * (found[hit] / taken[hit])) / n_pos)
    # an empty group repeats the place of the one before: the same point of the curve twice
    out[4:] = np.interp(k, np.concatenate([[0], taken]), np.concatenate([[0], found]))
    return out
