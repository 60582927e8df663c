"""How much does an estimate move when one gene is left out? Delete-one-cluster deviations and what follows from them.

Pairs share regulators and targets, so pairs are not the unit of replication. Leaving out every regulator in turn,
and every target in turn, gives two sets of deviations; their sums of squares are the standard error, their
concentration on a few genes the degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.errors import AlignmentError
from regulens.stats._kernels import cluster_sweep, count_codes, over_scores, placements, positives_by_cluster
from regulens.stats.ranking import checked, codes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deviations:
    """Estimates of several scores on the same pairs, and how each moves when one cluster is left out.

    Parameters
    ----------
    estimate
        Shape ``(score,)``.
    regulator
        Estimate without a regulator minus estimate with all, shape ``(score, regulator)``. NaN where nothing is
        left to estimate from.
    target
        The same for targets, shape ``(score, target)``.
    edge_variance
        Variance that independent pairs would give, shape ``(score,)``.
    """

    estimate: np.ndarray
    regulator: np.ndarray
    target: np.ndarray
    edge_variance: np.ndarray

    @property
    def n_regulators(self) -> int:
        """Regulators that have at least one pair."""
        return self.regulator.shape[1]

    @property
    def n_targets(self) -> int:
        """Targets that have at least one pair."""
        return self.target.shape[1]


def compact(cluster: np.ndarray, n_edges: int, name: str) -> tuple[np.ndarray, int]:
    """Cluster ids renumbered 0 .. C-1 without gaps, int64 shape ``(edge,)``, and C."""
    cluster = np.asarray(cluster)
    if cluster.shape != (n_edges,) or cluster.dtype.kind not in "iu":
        message = (
            f"Expected one integer {name} per pair, shape ({n_edges},), got {cluster.dtype} {cluster.shape}. "
            "Use the row or column numbers of the universe."
        )
        raise AlignmentError(message)
    if n_edges and cluster.min() >= 0 and cluster.max() < 4 * n_edges + 1024:  # a table lookup instead of a sort
        present = np.bincount(cluster) > 0
        number = np.cumsum(present) - 1
        return number[cluster], int(present.sum())
    unique, number = np.unique(cluster, return_inverse=True)
    return number.astype(np.int64), len(unique)


class _Layout:
    """What all scores of one set of pairs share: labels, compact clusters, class sizes per cluster."""

    def __init__(self, label: np.ndarray, regulator: np.ndarray, target: np.ndarray) -> None:
        self.label = label
        self.n_pos = int(label.sum())
        self.n_neg = label.size - self.n_pos
        self.positive = np.flatnonzero(label)
        ways = compact(regulator, label.size, "regulator"), compact(target, label.size, "target")
        self.clusters = [(cluster.astype(np.int32), n) for cluster, n in ways]
        self.kept = []
        for cluster, n in self.clusters:
            pos = np.bincount(cluster, weights=label, minlength=n)
            neg = np.bincount(cluster, minlength=n) - pos
            self.kept.append((self.n_pos - pos) * (self.n_neg - neg))

    def one(self, values: np.ndarray) -> tuple[float, list[np.ndarray], float]:
        """AUROC, deviations by regulator and by target, and the sum of squared psi, of one score."""
        code, pos, neg = self._counted(values)
        below, above, wins = placements(pos, neg)
        area = wins / (float(self.n_pos) * float(self.n_neg))
        positive = self.positive[np.argsort(code[self.positive], kind="stable")]
        (by_regulator, n), (by_target, k) = self.clusters
        lost = cluster_sweep(
            code, self.label, below, above, by_regulator, by_target,
            *positives_by_cluster(code, positive, by_regulator, n),
            *positives_by_cluster(code, positive, by_target, k),
        )  # fmt: skip
        moved = []
        for gone, kept in zip(lost, self.kept):
            left = np.full(gone.size, np.nan)
            np.divide(wins - gone, kept, out=left, where=kept > 0)
            moved.append(left - area)
        of_pos, of_neg = self._psi_of_codes(below, above, area)
        # no matrix product: its threads would compete with those over the scores
        return area, moved, float(np.sum(pos * np.square(of_pos) + neg * np.square(of_neg)))

    def psi(self, values: np.ndarray) -> np.ndarray:
        """Influence of every pair, shape ``(edge,)``; see `regulens.stats.ranking.influence`."""
        code, pos, neg = self._counted(values)
        below, above, wins = placements(pos, neg)
        of_pos, of_neg = self._psi_of_codes(below, above, wins / (float(self.n_pos) * float(self.n_neg)))
        return np.where(self.label, of_pos[code], of_neg[code])

    def _counted(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        code, m = codes(values, self.label)
        return code, *count_codes(code, self.label, m)

    def _psi_of_codes(self, below: np.ndarray, above: np.ndarray, area: float) -> tuple[np.ndarray, np.ndarray]:
        return (below / self.n_neg - area) / self.n_pos, (above / self.n_pos - area) / self.n_neg


def _collect(layout: _Layout, rows: int, one) -> Deviations:
    if layout.n_pos == 0 or layout.n_neg == 0:
        nan = np.full((rows, 1), np.nan)
        n_regulators, n_targets = (n for _, n in layout.clusters)
        return Deviations(
            estimate=nan[:, 0],
            regulator=np.repeat(nan, n_regulators, axis=1),
            target=np.repeat(nan, n_targets, axis=1),
            edge_variance=nan[:, 0],
        )
    found = list(over_scores(one, rows))
    return Deviations(
        estimate=np.array([f[0] for f in found]),
        regulator=np.array([f[1] for f in found]),
        target=np.array([f[2] for f in found]),
        edge_variance=np.array([f[3] for f in found]),
    )


def auroc_deviations(scores: np.ndarray, label: np.ndarray, regulator: np.ndarray, target: np.ndarray) -> Deviations:
    """Exact AUROC without each regulator and without each target, from one sweep per score.

    Memory is that of one score per thread, however many scores there are.

    Parameters
    ----------
    scores
        Shape ``(score, edge)``; no NaN.
    label
        Bool, shape ``(edge,)``.
    regulator, target
        Integers, shape ``(edge,)``.
    """
    scores, label = checked(scores, label)
    layout = _Layout(label, regulator, target)

    def one(s: int) -> tuple[float, np.ndarray, np.ndarray, float]:
        area, (by_regulator, by_target), squares = layout.one(scores[s])
        return area, by_regulator, by_target, squares

    return _collect(layout, len(scores), one)


def auroc_difference_deviations(
    scores: np.ndarray, baseline: np.ndarray, label: np.ndarray, regulator: np.ndarray, target: np.ndarray
) -> Deviations:
    """As `auroc_deviations`, for AUROC(score) - AUROC(baseline) on identical pairs.

    Parameters
    ----------
    baseline
        Shape ``(edge,)``, ``(1, edge)`` or ``(score, edge)``.
    """
    scores, label = checked(scores, label)
    baseline, _ = checked(baseline, label)
    if len(baseline) not in (1, len(scores)):
        message = f"Expected one baseline or one per score ({len(scores)}), got {len(baseline)}. Repeat it or select."
        raise AlignmentError(message)
    layout = _Layout(label, regulator, target)
    is_defined = layout.n_pos > 0 and layout.n_neg > 0
    shared = (*layout.one(baseline[0])[:2], layout.psi(baseline[0])) if len(baseline) == 1 and is_defined else None

    def one(s: int) -> tuple[float, np.ndarray, np.ndarray, float]:
        area, moved, _ = layout.one(scores[s])
        area0, moved0, psi0 = shared or (*layout.one(baseline[s])[:2], layout.psi(baseline[s]))
        gap = layout.psi(scores[s]) - psi0
        return area - area0, moved[0] - moved0[0], moved[1] - moved0[1], float(gap @ gap)

    return _collect(layout, len(scores), one)


def mean_deviations(
    values: np.ndarray, regulator: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> Deviations:
    """As `auroc_deviations`, for the (weighted) mean of one value per unit, e.g. one conditional AUROC per positive.

    Parameters
    ----------
    values
        Shape ``(score, unit)``; no NaN.
    regulator, target
        Integers, shape ``(unit,)``.
    weight
        Shape ``(unit,)``, >= 0; equal by default.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    n = values.shape[1]
    weight = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    if weight.shape != (n,) or not np.isfinite(values).all() or not np.isfinite(weight).all() or (weight < 0).any():
        message = f"Expected finite values and one weight >= 0 per unit ({n}), got others. Leave undefined units out."
        raise AlignmentError(message)
    total = weight.sum()
    estimate = values @ weight / total if total > 0 else np.full(len(values), np.nan)
    weighted = (values - estimate[:, None]) * weight
    moved = []
    for cluster, count in (compact(regulator, n, "regulator"), compact(target, n, "target")):
        kept = total - np.bincount(cluster, weights=weight, minlength=count)
        sums = np.stack([np.bincount(cluster, weights=w, minlength=count) for w in weighted])
        left = np.full(sums.shape, np.nan)
        np.divide(-sums, kept[None, :], out=left, where=np.broadcast_to(kept > 1e-12 * total, sums.shape))
        moved.append(left)
    spread = (weighted**2).sum(1) / total**2 if total > 0 else np.full(len(values), np.nan)
    return Deviations(estimate=estimate, regulator=moved[0], target=moved[1], edge_variance=spread)


def jackknife_variance(deviation: np.ndarray) -> np.ndarray:
    """``(C - 1) / C * sum of squared deviations``, over the last axis (the clusters)."""
    n = deviation.shape[-1]
    return (n - 1) / n * np.square(deviation).sum(-1)


def effective_df(deviation: np.ndarray) -> np.ndarray:
    """Degrees of freedom of a sum of squares that a few clusters may dominate, in [1, C - 1].

    Satterthwaite's (1946) ``(sum v)^2 / sum v^2`` with both sums estimated without bias from Gaussian
    contributions (``E d^4 = 3 v^2``): ``3 (sum d^2)^2 / sum d^4 - 2``. Equal clusters give about C - 1, one
    dominating cluster gives 1.

    Parameters
    ----------
    deviation
        Shape ``(..., cluster)``.

    Examples
    --------
    >>> effective_df(np.array([1.0, -1.0, 1.0, -1.0])).item(), effective_df(np.array([9.0, 0.1, 0.1, 0.1])).item() < 1.1
    (3.0, True)
    """
    n = deviation.shape[-1]
    largest = np.abs(deviation).max(-1, keepdims=True)
    scaled = np.divide(deviation, largest, out=np.zeros_like(deviation), where=largest > 0)  # d^4 must not underflow
    square = np.square(scaled)
    fourth = np.square(square).sum(-1)
    ratio = np.divide(square.sum(-1) ** 2, fourth, out=np.ones_like(fourth), where=fourth > 0)
    return np.clip(3.0 * ratio - 2.0, 1.0, max(n - 1, 1))


def two_way_variance(by_regulator: np.ndarray, by_target: np.ndarray, by_edge: np.ndarray) -> np.ndarray:
    """Variance with two crossed clusters: ``V_regulator + V_target - V_edge``, at least the larger of the two.

    Cameron, Gelbach & Miller (2011); the floor keeps an unlucky subtraction from shrinking the error below what
    one way of clustering shows.
    """
    return np.maximum(np.maximum(by_regulator, by_target), by_regulator + by_target - by_edge)
