"""How often does a positive beat its own matched negatives, and how sure is that when genes are shared?"""

from __future__ import annotations

import numpy as np

from regulens.nulls.expression_matched import MatchedPairs
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import Deviations


def wins(pairs: MatchedPairs, values: np.ndarray) -> np.ndarray:
    """1 where a positive scores above its negative, ½ at a tie, 0 below.

    Parameters
    ----------
    values
        Scores on the grid, shape ``(score, regulator, target)``.

    Returns
    -------
    Shape ``(score, negative)``.
    """
    pos = values[:, pairs.pos_regulator, pairs.pos_target][:, pairs.owner]
    neg = values[:, pairs.neg_regulator, pairs.neg_target]
    return (pos > neg) + 0.5 * (pos == neg)


def _without(cluster_neg: np.ndarray, cluster_pos: np.ndarray, pairs: MatchedPairs, h: np.ndarray) -> np.ndarray:
    """Mean over positives without each cluster's positives and negatives, shape ``(cluster,)``."""
    n_clusters = int(max(cluster_neg.max(), cluster_pos.max())) + 1
    owner, size = pairs.owner, np.diff(pairs.start)
    total = np.bincount(owner, weights=h, minlength=pairs.n_pos)
    # Only cells (positive, cluster) that hold a negative differ from the full share.
    cell, where = np.unique(owner * n_clusters + cluster_neg, return_inverse=True)
    k, c = cell // n_clusters, cell % n_clusters
    lost = np.bincount(where, weights=h)
    count = size[k] - np.bincount(where)
    share = total / size
    kept = np.divide(total[k] - lost, count, out=np.zeros(len(k)), where=count > 0)
    own = cluster_pos[k] == c  # the positive itself leaves with this cluster
    alive = (count > 0) & ~own
    change = np.bincount(c[~own], weights=(np.where(alive, kept, 0.0) - share[k])[~own], minlength=n_clusters)
    gone = np.bincount(c[~own], weights=(~alive)[~own].astype(np.float64), minlength=n_clusters)
    mass = share.sum() - np.bincount(cluster_pos, weights=share, minlength=n_clusters) + change
    n = pairs.n_pos - np.bincount(cluster_pos, minlength=n_clusters) - gone
    return np.divide(mass, n, out=np.full(n_clusters, np.nan), where=n > 0)


def conditional_inference(pairs: MatchedPairs, h: np.ndarray) -> Inference:
    r"""Conditional AUROC of each row of `h`, or of a difference of such rows, with its clustered error.

    .. math:: A = \frac{1}{n}\sum_{k=1}^{n} \frac{1}{m_k} \sum_{e \in N(k)} h_{ke}

    Leaving out a regulator (or a target) leaves out its positives with their negatives, and its negatives of other
    positives as well: a popular regulator among the negatives is shared by many positives.

    Parameters
    ----------
    h
        Shape ``(score, negative)``, from `wins`; linear contrasts of rows are allowed.
    """
    n, size, owner = pairs.n_pos, np.diff(pairs.start), pairs.owner
    estimate, moved, spread = [], ([], []), []
    clusters = []
    for pos, neg in ((pairs.pos_regulator, pairs.neg_regulator), (pairs.pos_target, pairs.neg_target)):
        number = np.unique(np.concatenate([pos, neg]), return_inverse=True)[1]
        clusters.append((number[: len(pos)], number[len(pos) :]))
    width = int(max(pairs.neg_target.max(), pairs.pos_target.max())) + 1
    edge = np.unique(pairs.neg_regulator * width + pairs.neg_target, return_inverse=True)[1]
    for row in h:
        share = np.bincount(owner, weights=row, minlength=n) / size
        a = float(share.mean())
        estimate.append(a)
        for way, (pos, neg) in enumerate(clusters):
            moved[way].append(_without(neg, pos, pairs, row) - a)
        by_negative = np.bincount(edge, weights=(row - a) / (n * size[owner]))
        spread.append(float((((share - a) / n) ** 2).sum() + (by_negative**2).sum()))
    return default_se(
        Deviations(
            estimate=np.array(estimate),
            regulator=np.array(moved[0]),
            target=np.array(moved[1]),
            edge_variance=np.array(spread),
        )
    )
