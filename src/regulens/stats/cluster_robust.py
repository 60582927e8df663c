"""How uncertain is a sum over pairs that share genes? Cluster sums and cluster-robust standard errors."""

from __future__ import annotations

import numpy as np

from regulens.stats.jackknife import compact, effective_df, two_way_variance


def cluster_sums(psi: np.ndarray, cluster: np.ndarray, n_clusters: int) -> np.ndarray:
    """Sum of `psi` over the pairs of every cluster.

    Parameters
    ----------
    psi
        Shape ``(score, edge)``.
    cluster
        Integers in [0, n_clusters), shape ``(edge,)``.

    Returns
    -------
    Float64, shape ``(score, cluster)``; 0 for a cluster without pairs.

    Examples
    --------
    >>> cluster_sums(np.array([[1.0, 2.0, 4.0]]), np.array([0, 2, 0]), 3).tolist()
    [[5.0, 0.0, 2.0]]
    """
    psi = np.atleast_2d(psi)
    return np.stack([np.bincount(cluster, weights=row, minlength=n_clusters) for row in psi])


def cluster_contributions(psi: np.ndarray, cluster: np.ndarray, *, label: np.ndarray | None = None) -> np.ndarray:
    """Cluster sums of `psi`, scaled up by leverage when `label` is given.

    A cluster that holds the share h of the positives has its positives' sum divided by ``1 - h`` (negatives
    likewise), which is what leaving it out would do to a difference of two means. Without `label` large clusters look
    too harmless.

    Returns
    -------
    Shape ``(score, cluster present)``; inf or NaN where one cluster holds all positives or all negatives.
    """
    psi = np.atleast_2d(psi)
    number, n = compact(cluster, psi.shape[1], "cluster")
    if label is None:
        return cluster_sums(psi, number, n)
    label = np.asarray(label, dtype=bool)
    out = np.zeros((len(psi), n))
    for is_class in (label, ~label):
        share = np.bincount(number, weights=is_class, minlength=n) / max(int(is_class.sum()), 1)
        sums = cluster_sums(np.where(is_class, psi, 0.0), number, n)
        with np.errstate(divide="ignore", invalid="ignore"):
            out += sums / (1.0 - share)
    return out


def cluster_se(
    psi: np.ndarray, regulator: np.ndarray, target: np.ndarray | None = None, *, label: np.ndarray | None = None
) -> np.ndarray:
    """Cluster-robust standard error of a statistic with influence `psi`: one-way, or two-way with `target`.

    One-way: ``sqrt(C/(C-1) sum_c s_c^2)`` with s_c the sum of psi over cluster c. Two-way: variances by regulator
    and by target added, the variance by pair subtracted, floored (Cameron, Gelbach & Miller 2011).
    With `label` the sums are corrected for leverage and the factor is ``(C-1)/C``, the jackknife's.

    The plain form rejects too often with unequal clusters; tests use `auroc_inference`, or this with `label`
    and `cluster_df`.

    Parameters
    ----------
    psi
        Shape ``(score, edge)``, e.g. from `regulens.stats.ranking.influence`, or a difference of two of them.

    Returns
    -------
    Shape ``(score,)``; NaN with fewer than two clusters.
    """
    psi = np.atleast_2d(psi)
    parts = []
    for cluster in (regulator,) if target is None else (regulator, target):
        sums = cluster_contributions(psi, cluster, label=label)
        n = sums.shape[1]
        if n < 2:
            return np.full(len(psi), np.nan)
        factor = n / (n - 1) if label is None else (n - 1) / n
        parts.append(factor * np.square(sums).sum(1))
    if target is None:
        return np.sqrt(parts[0])
    return np.sqrt(two_way_variance(parts[0], parts[1], np.square(psi).sum(1)))


def cluster_df(
    psi: np.ndarray, regulator: np.ndarray, target: np.ndarray | None = None, *, label: np.ndarray | None = None
) -> np.ndarray:
    """Degrees of freedom that go with `cluster_se`, shape ``(score,)``: `effective_df`, the smaller of the ways."""
    ways = (regulator,) if target is None else (regulator, target)
    return np.min([effective_df(cluster_contributions(psi, c, label=label)) for c in ways], axis=0)
