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


def _without(
    cluster_neg: np.ndarray, cluster_pos: np.ndarray, pairs: MatchedPairs, h: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Mean over positives without each cluster's positives and negatives, shape ``(cluster,)``."""
    n_clusters = int(max(cluster_neg.max(), cluster_pos.max())) + 1
    owner = pairs.owner
    share = np.bincount(owner, weights=weight * h, minlength=pairs.n_pos)
    # Only cells (positive, cluster) that hold a negative differ from the full share.
    cell, where = np.unique(owner * n_clusters + cluster_neg, return_inverse=True)
    k, c = cell // n_clusters, cell % n_clusters
    lost = np.bincount(where, weights=weight * h)
    left = 1.0 - np.bincount(where, weights=weight)
    some = np.bincount(where) < np.diff(pairs.start)[k]  # negatives remain
    kept = np.divide(share[k] - lost, left, out=np.zeros(len(k)), where=some & (left > 0))
    own = cluster_pos[k] == c  # the positive itself leaves with this cluster
    alive = some & ~own
    change = np.bincount(c[~own], weights=(np.where(alive, kept, 0.0) - share[k])[~own], minlength=n_clusters)
    gone = np.bincount(c[~own], weights=(~alive)[~own].astype(np.float64), minlength=n_clusters)
    mass = share.sum() - np.bincount(cluster_pos, weights=share, minlength=n_clusters) + change
    n = pairs.n_pos - np.bincount(cluster_pos, minlength=n_clusters) - gone
    return np.divide(mass, n, out=np.full(n_clusters, np.nan), where=n > 0)


def conditional_inference(pairs: MatchedPairs, h: np.ndarray, *, weight: np.ndarray | None = None) -> Inference:
    r"""Conditional AUROC of each row of `h`, or of a difference of such rows, with its clustered error.

    .. math:: A = \frac{1}{n}\sum_{k=1}^{n} \sum_{e \in N(k)} w_e h_{ke}

    Leaving out a regulator (or a target) leaves out its positives with their negatives, and its negatives of other
    positives as well: a popular regulator among the negatives is shared by many positives. Weights are held.

    Parameters
    ----------
    h
        Shape ``(score, negative)``, from `wins`; linear contrasts of rows are allowed.
    weight
        Shape ``(negative,)``, summing to 1 within each positive's set; equal by default.
    """
    n, size, owner = pairs.n_pos, np.diff(pairs.start), pairs.owner
    weight = 1.0 / size[owner] if weight is None else weight
    estimate, moved, spread = [], ([], []), []
    clusters = []
    for pos, neg in ((pairs.pos_regulator, pairs.neg_regulator), (pairs.pos_target, pairs.neg_target)):
        number = np.unique(np.concatenate([pos, neg]), return_inverse=True)[1]
        clusters.append((number[: len(pos)], number[len(pos) :]))
    width = int(max(pairs.neg_target.max(), pairs.pos_target.max())) + 1
    edge = np.unique(pairs.neg_regulator * width + pairs.neg_target, return_inverse=True)[1]
    for values in h:
        row = values - values[0]  # weights sum to 1 but for rounding: a constant row must stay exactly constant
        share = np.bincount(owner, weights=weight * row, minlength=n)
        a = float(share.mean())
        estimate.append(float(values[0]) + a)
        for way, (pos, neg) in enumerate(clusters):
            moved[way].append(_without(neg, pos, pairs, row, weight) - a)
        by_negative = np.bincount(edge, weights=weight * (row - a) / n)
        spread.append(float((((share - a) / n) ** 2).sum() + (by_negative**2).sum()))
    return default_se(
        Deviations(
            estimate=np.array(estimate),
            regulator=np.array(moved[0]),
            target=np.array(moved[1]),
            edge_variance=np.array(spread),
        )
    )
