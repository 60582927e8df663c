"""How good is the top of the list? Average precision and precision at several depths from one sweep per score.

Equal to `regulens.stats.ranking.average_precision` and `early_precision`, which look at one number at a time.
"""

from __future__ import annotations

import numpy as np

from regulens.stats._kernels import count_codes, over_scores
from regulens.stats.ranking import checked, codes


def top_of_list(scores: np.ndarray, label: np.ndarray, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and precision at every depth, ties in expectation.

    Parameters
    ----------
    scores
        Shape ``(score, edge)``; larger is stronger.
    label
        Bool, shape ``(edge,)``, with at least one positive.
    ks
        Depths, each in [1, number of pairs].

    Returns
    -------
    Average precision ``(score,)`` and precisions ``(score, depth)``.

    Examples
    --------
    >>> ap, at = top_of_list(np.array([[3.0, 2.0, 1.0]]), np.array([True, False, True]), (1, 2))
    >>> ap.round(4).tolist(), at.tolist()
    ([0.8333], [[1.0, 0.5]])
    """
    scores, label = checked(scores, label)
    n_pos = int(label.sum())
    depth = np.asarray(ks, dtype=np.float64)

    def one(s: int) -> tuple[float, np.ndarray]:
        code, m = codes(scores[s], label)
        pos, neg = (c[::-1] for c in count_codes(code, label, m))
        size = pos + neg
        found, taken = np.cumsum(pos), np.cumsum(size)
        hit = pos > 0
        precision = float(np.sum(pos[hit] * (found[hit] / taken[hit])) / n_pos)
        share = np.clip((depth[:, None] - (taken - size)[None, :]) / np.maximum(size, 1)[None, :], 0.0, 1.0)
        return precision, share @ pos / depth

    found = list(over_scores(one, len(scores)))
    return np.array([f[0] for f in found]), np.array([f[1] for f in found]).reshape(len(scores), len(depth))
