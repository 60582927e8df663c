"""How much does an estimate move when one gene is left out? Delete-one-cluster deviations and what follows from them.

Pairs share regulators and targets, so pairs are not the unit of replication. Leaving out every regulator in turn,
and every target in turn, gives two sets of deviations; their sums of squares are the standard error, their
concentration on a few genes the degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from regulens.errors import AlignmentError
from regulens.stats._kernels import (
    cluster_wins,
    count_codes,
    over_scores,
    pairs_by_cluster,
    placements,
    squared_gap,
)
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """AUROC of a score, or the mean AUROC of several, that others are held against; from `AurocSweeps`.

    Parameters
    ----------
    estimate
        AUROC.
    regulator, target
        Its deviations, shapes ``(regulator,)`` and ``(target,)``.
    psi
        Influence of every pair, shape ``(edge,)``; see `regulens.stats.ranking.influence`.
    """

    estimate: float
    regulator: np.ndarray
    target: np.ndarray
    psi: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Swept:
    """What one sweep over the pairs leaves of a score: AUROC, deviations, and the influence by code."""

    area: float
    moved: list[np.ndarray]
    code: np.ndarray
    of_pos: np.ndarray
    of_neg: np.ndarray
    squares: float


class AurocSweeps:
    """AUROCs of many scores of the same pairs, their deviations, and those of their differences to others.

    Every score is swept once, whatever is asked of it. Memory is that of one score per thread, however many there
    are.

    Parameters
    ----------
    label
        Bool, shape ``(edge,)``.
    regulator, target
        Integers, shape ``(edge,)``.

    Examples
    --------
    >>> i, j = (a.ravel() for a in np.indices((4, 5)))
    >>> sweeps = AurocSweeps(i + j > 5, i, j)
    >>> own, gap = sweeps.paired(np.stack([i + j, i]), [sweeps.baseline(j)])
    >>> own.estimate.round(2).tolist(), gap.estimate.round(2).tolist()
    ([1.0, 0.84], [0.11, -0.05])
    """

    def __init__(self, label: np.ndarray, regulator: np.ndarray, target: np.ndarray) -> None:
        self.label = np.asarray(label)
        self.n_pos = int(self.label.sum())
        self.n_neg = self.label.size - self.n_pos
        ways = compact(regulator, self.label.size, "regulator"), compact(target, self.label.size, "target")
        self._clusters = []
        self._kept = []
        for cluster, n in ways:
            order, start, pos = pairs_by_cluster(cluster.astype(np.int32), self.label, n)
            self._clusters.append((order, start, pos))
            self._kept.append((self.n_pos - pos).astype(np.float64) * (self.n_neg - (np.diff(start) - pos)))

    @property
    def is_defined(self) -> bool:
        """Whether there are positives and negatives."""
        return self.n_pos > 0 and self.n_neg > 0

    def _swept(self, values: np.ndarray) -> _Swept:
        code, m = codes(values, self.label)
        pos, neg = count_codes(code, self.label, m)
        below, above, wins = placements(pos, neg)
        area = wins / (float(self.n_pos) * float(self.n_neg))
        moved = []
        for (order, start, n_pos), kept in zip(self._clusters, self._kept):
            gone = cluster_wins(code, below, above, order, start, n_pos)
            left = np.full(gone.size, np.nan)
            np.divide(wins - gone, kept, out=left, where=kept > 0)
            moved.append(left - area)
        of_pos, of_neg = (below / self.n_neg - area) / self.n_pos, (above / self.n_pos - area) / self.n_neg
        # no matrix product: its threads would compete with those over the scores
        squares = float(np.sum(pos * np.square(of_pos) + neg * np.square(of_neg)))
        return _Swept(area=area, moved=moved, code=code, of_pos=of_pos, of_neg=of_neg, squares=squares)

    def _empty(self, rows: int) -> Deviations:
        n_regulators, n_targets = (len(n_pos) for _, _, n_pos in self._clusters)
        return Deviations(
            estimate=np.full(rows, np.nan), regulator=np.full((rows, n_regulators), np.nan),
            target=np.full((rows, n_targets), np.nan), edge_variance=np.full(rows, np.nan),
        )  # fmt: skip

    def _scores(self, scores: np.ndarray) -> np.ndarray:
        return checked(scores, self.label)[0]

    def own(self, scores: np.ndarray) -> Deviations:
        """AUROC of every score, shape ``(score, edge)``, with its deviations."""
        scores = self._scores(scores)
        if not self.is_defined or not len(scores):
            return self._empty(len(scores))

        def one(s: int) -> tuple[float, np.ndarray, np.ndarray, float]:
            swept = self._swept(scores[s])
            return swept.area, *swept.moved, swept.squares

        return _stacked(over_scores(one, len(scores)))

    def baseline(self, scores: np.ndarray) -> Baseline:
        """The AUROC of one score, shape ``(edge,)``, or the mean AUROC of several, as something to be held against."""
        scores = self._scores(scores)
        if not self.is_defined:
            nothing = self._empty(1)
            return Baseline(estimate=np.nan, regulator=nothing.regulator[0], target=nothing.target[0],
                            psi=np.full(self.label.size, np.nan))  # fmt: skip

        def one(s: int) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
            w = self._swept(scores[s])
            return w.area, *w.moved, np.where(self.label, w.of_pos[w.code], w.of_neg[w.code])

        n, total = len(scores), None
        for found in over_scores(one, n):
            total = found if total is None else tuple(a + b for a, b in zip(total, found))
        assert total is not None
        area, regulator, target, psi = total if n == 1 else (part / n for part in total)
        return Baseline(estimate=float(area), regulator=regulator, target=target, psi=psi)

    def paired(self, scores: np.ndarray, baselines: Sequence[Baseline]) -> tuple[Deviations, Deviations]:
        """AUROC of every score, and its difference to a baseline on identical pairs, each with its deviations.

        Parameters
        ----------
        scores
            Shape ``(score, edge)``.
        baselines
            One for all scores, or one per score.
        """
        scores = self._scores(scores)
        n = len(scores)
        if len(baselines) not in (1, n):
            message = f"Expected one baseline or one per score ({n}), got {len(baselines)}. Repeat it or select."
            raise AlignmentError(message)
        if not self.is_defined or not n:
            return self._empty(n), self._empty(n)

        def one(s: int) -> tuple[tuple, tuple]:
            w, base = self._swept(scores[s]), baselines[s if len(baselines) > 1 else 0]
            squares = squared_gap(w.code, self.label, w.of_pos, w.of_neg, base.psi)
            apart = w.area - base.estimate, w.moved[0] - base.regulator, w.moved[1] - base.target, squares
            return (w.area, *w.moved, w.squares), apart

        own, gap = zip(*over_scores(one, n))
        return _stacked(own), _stacked(gap)


def _stacked(found: Iterable[tuple]) -> Deviations:
    estimate, regulator, target, edge_variance = (np.array(part) for part in zip(*found))
    return Deviations(estimate=estimate, regulator=regulator, target=target, edge_variance=edge_variance)


def auroc_deviations(scores: np.ndarray, label: np.ndarray, regulator: np.ndarray, target: np.ndarray) -> Deviations:
    """Exact AUROC without each regulator and without each target, from one sweep per score.

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
    return AurocSweeps(label, regulator, target).own(scores)


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
    sweeps = AurocSweeps(label, regulator, target)
    if len(baseline) == 1:
        return sweeps.paired(scores, [sweeps.baseline(baseline[0])])[1]
    if not sweeps.is_defined:
        return sweeps.own(scores)
    found = [sweeps.paired(scores[s], [sweeps.baseline(baseline[s])])[1] for s in range(len(scores))]
    return Deviations(
        estimate=np.concatenate([d.estimate for d in found]), regulator=np.concatenate([d.regulator for d in found]),
        target=np.concatenate([d.target for d in found]),
        edge_variance=np.concatenate([d.edge_variance for d in found]),
    )  # fmt: skip


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
