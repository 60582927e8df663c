"""How well does every row rank its own pairs? AUROC, average precision and recall row by row, and their mean's error.

Rows are perturbations: each has its own list of genes that respond. A mean over rows has two sources of error, the
draw of rows and the draw of genes, because the same genes are ranked in every row; `mean_auroc_deviations` gives both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.compiled import kernel
from regulens.errors import AlignmentError, ParameterError
from regulens.stats._kernels import over_scores
from regulens.stats.jackknife import Deviations, compact
from regulens.stats.ranking import checked


@kernel
def _walk(values, label, start, k, place, area, precision, hits):
    """Fill placements (pair), AUROC, average precision (row) and expected hits among the k strongest (row, k)."""
    for r in range(start.size - 1):
        a = start[r]
        n = start[r + 1] - a
        order = np.argsort(values[a : a + n])
        n_pos = 0
        for e in range(n):
            n_pos += label[a + e]
        n_neg = n - n_pos
        wins = 0.0
        summed = 0.0
        found = 0
        top = n - 1
        while top >= 0:  # groups of tied pairs, strongest first
            low = top
            pos = 0
            while low >= 0 and values[a + order[low]] == values[a + order[top]]:
                pos += label[a + order[low]]
                low -= 1
            size = top - low
            taken = n - 1 - top
            above = found + 0.5 * pos
            below = n_neg - (taken - found) - 0.5 * (size - pos)
            for q in range(low + 1, top + 1):
                e = a + order[q]
                if label[e]:
                    place[e] = below / n_neg if n_neg > 0 else np.nan
                else:
                    place[e] = above / n_pos if n_pos > 0 else np.nan
            wins += pos * below
            for i in range(k.size):  # a tie that straddles the cut counts in expectation
                room = min(max(k[i] - taken, 0), size)
                hits[r, i] += pos * room / size
            found += pos
            summed += pos * found / (taken + size)
            top = low
        area[r] = wins / (1.0 * n_pos * n_neg) if n_pos > 0 and n_neg > 0 else np.nan
        precision[r] = summed / n_pos if n_pos > 0 else np.nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Pairs laid out row by row.

    Parameters
    ----------
    label
        Bool, shape ``(pair,)``.
    start
        First pair of every row and the number of pairs, shape ``(row + 1,)``.
    target
        Target of every pair, renumbered 0 .. T−1, shape ``(pair,)``.
    n_targets
        T.
    """

    label: np.ndarray
    start: np.ndarray
    target: np.ndarray
    n_targets: int

    @classmethod
    def build(cls, label: np.ndarray, row: np.ndarray, target: np.ndarray) -> Rows:
        """From one row and one target per pair; rows must come in ascending order, so that pairs lie together."""
        label, row = np.asarray(label, dtype=bool), np.asarray(row)
        if row.shape != label.shape or (row.size and (np.diff(row) < 0).any()):
            message = f"Expected one ascending row per pair ({label.size}), got others. Sort the pairs by row first."
            raise AlignmentError(message)
        number, n = compact(np.asarray(target), label.size, "target")
        start = np.append(np.flatnonzero(np.diff(row, prepend=-1)), label.size).astype(np.int64)
        return cls(label=label, start=start, target=number, n_targets=n)

    @property
    def n_pos(self) -> np.ndarray:
        """Positives of every row, int64 shape ``(row,)``."""
        return np.diff(np.concatenate([[0], np.cumsum(self.label)])[self.start]).astype(np.int64)

    @property
    def n_neg(self) -> np.ndarray:
        """Negatives of every row, int64 shape ``(row,)``."""
        return np.diff(self.start) - self.n_pos

    def row(self) -> np.ndarray:
        """Number of the row of every pair, shape ``(pair,)``."""
        return np.repeat(np.arange(self.start.size - 1), np.diff(self.start))

    def placements(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share of the other class of its row that a pair is on the right side of, ``(pair,)``; AUROCs ``(row,)``.

        For a positive the share of its row's negatives below it, for a negative the share of positives above it; ties
        count one half.
        """
        place, area, *_ = self._walked(values, np.empty(0, dtype=np.int64))
        return place, area

    def _walked(self, values: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, ...]:
        values = np.ascontiguousarray(values, dtype=np.float64)
        if values.shape != self.label.shape or not np.isfinite(values).all():
            message = f"Expected one finite score per pair ({self.label.size}), got others. Leave missing pairs out."
            raise ParameterError(message)
        n = self.start.size - 1
        out = np.full(values.size, np.nan), np.full(n, np.nan), np.full(n, np.nan), np.zeros((n, k.size))
        _walk(values, self.label, self.start, k, *out)
        return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowMetrics:
    """Ranking metrics of every row and score; NaN in a row without positives (AUROC: or negatives).

    Parameters
    ----------
    auroc, average_precision
        Shape ``(score, row)``.
    recall
        Share of a row's positives among its k strongest pairs, shape ``(score, row, k)``; ties that straddle the cut
        count in expectation.
    recall_by_chance
        ``min(k, pairs of the row) / pairs of the row``, shape ``(row, k)``.
    """

    auroc: np.ndarray
    average_precision: np.ndarray
    recall: np.ndarray
    recall_by_chance: np.ndarray


def row_metrics(scores: np.ndarray, rows: Rows, *, k: tuple[int, ...] = ()) -> RowMetrics:
    """AUROC, average precision and recall at k of every score in every row.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``, finite, pairs in the order of `rows`.

    Examples
    --------
    >>> rows = Rows.build(np.array([1, 0, 0, 1, 1, 0]) > 0, np.repeat([0, 1], 3), np.tile([0, 1, 2], 2))
    >>> found = row_metrics(np.array([[3.0, 2, 1, 1, 2, 2]]), rows, k=(1,))
    >>> found.auroc.tolist(), found.recall[0, :, 0].tolist()
    ([[1.0, 0.25]], [1.0, 0.25])
    """
    scores, _ = checked(scores, rows.label)
    wanted = np.asarray(k, dtype=np.int64)
    if wanted.size and wanted.min() < 1:
        message = f"Expected whole k >= 1, got {list(k)}. Choose lengths of lists."
        raise ParameterError(message)
    found = list(over_scores(lambda s: rows._walked(scores[s], wanted)[1:], len(scores)))
    n_pos, size = rows.n_pos.astype(np.float64), np.diff(rows.start).astype(np.float64)
    hits = np.stack([f[2] for f in found]) if found else np.empty((0, size.size, wanted.size))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(n_pos[:, None] > 0, hits / n_pos[:, None], np.nan)
    empty = np.empty((0, size.size))
    return RowMetrics(
        auroc=np.stack([f[0] for f in found]) if found else empty,
        average_precision=np.stack([f[1] for f in found]) if found else empty, recall=recall,
        recall_by_chance=np.minimum(wanted[None, :] / size[:, None], 1.0),
    )  # fmt: skip


def _clusters(rows: Rows, keep: np.ndarray, cluster: np.ndarray | None) -> np.ndarray:
    n = rows.start.size - 1
    labels = np.arange(n) if cluster is None else np.asarray(cluster)
    if labels.shape != (n,):
        message = f"Expected one cluster per row ({n}), got shape {labels.shape}."
        raise AlignmentError(message)
    return np.unique(labels[keep], return_inverse=True)[1]


def mean_deviations_over_rows(
    values: np.ndarray, *, cluster: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over rows, its delete-one deviations, and the variance of the mean of independent rows.

    Parameters
    ----------
    values
        Shape ``(score, row)``, no NaN.
    cluster
        Group of every row (perturbations of one complex), left out together; every row its own by default.

    Returns
    -------
    Shapes ``(score,)``, ``(score, cluster)``, ``(score,)``.
    """
    values = np.atleast_2d(values)
    n = values.shape[1]
    number = np.arange(n) if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1]
    mean = values.mean(1)
    centred = values - mean[:, None]
    count = np.bincount(number)
    total = np.stack([np.bincount(number, weights=c) for c in centred])
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = np.where(n > count, -total / (n - count), np.nan)
    return mean, moved, np.square(centred).sum(1) / max(n - 1, 1) / n


def _moved_by_target(place: np.ndarray, area: np.ndarray, rows: Rows, keep: np.ndarray) -> np.ndarray:
    """Mean AUROC without each target minus the mean with all, shape ``(target,)``, exact."""
    n_pos, n_neg = rows.n_pos[keep].astype(np.float64), rows.n_neg[keep].astype(np.float64)
    of_row = np.full(rows.start.size - 1, -1)
    of_row[keep] = np.arange(keep.sum())
    number = of_row[rows.row()]
    pair = np.flatnonzero(number >= 0)
    r, label = number[pair], rows.label[pair]
    a = area[keep][r]
    left = np.where(label, n_pos[r] - 1, n_neg[r] - 1)
    # leaving out a pair takes its wins away and one member of its class: (n A - place) / (n - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        gone = np.where(left > 0, (a - place[pair]) / left, -a)
    target = rows.target[pair]
    change = np.bincount(target, weights=gone, minlength=rows.n_targets)
    lost = np.bincount(target, weights=left <= 0, minlength=rows.n_targets)
    total, n = area[keep].sum(), keep.sum()
    out = np.full(rows.n_targets, np.nan)
    np.divide(total + change, n - lost, out=out, where=n > lost)
    return (out - total / n)[np.bincount(target, minlength=rows.n_targets) > 0]


def _influence(place: np.ndarray, area: np.ndarray, rows: Rows, keep: np.ndarray) -> np.ndarray:
    """What every pair contributes to the mean over kept rows, shape ``(pair,)``; 0 outside."""
    number = rows.row()
    size = np.where(rows.label, rows.n_pos[number], rows.n_neg[number])
    psi = (place - area[number]) / np.maximum(size, 1) / keep.sum()
    return np.where(keep[number], psi, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """What one sweep over the pairs leaves of a score.

    Parameters
    ----------
    area
        AUROC of every row that has positives and negatives.
    moved
        Mean AUROC without each target minus the mean with all, shape ``(target,)``.
    psi
        Influence of every pair on the mean, shape ``(pair,)``.
    """

    area: np.ndarray
    moved: np.ndarray
    psi: np.ndarray


def sweep(values: np.ndarray, rows: Rows) -> Sweep:
    """Sweep one score, shape ``(pair,)``; rows without positives or negatives are left out."""
    keep = (rows.n_pos > 0) & (rows.n_neg > 0)
    place, area = rows.placements(values)
    return Sweep(
        area=area[keep], moved=_moved_by_target(place, area, rows, keep), psi=_influence(place, area, rows, keep)
    )


def deviations_of(
    sweeps: list[Sweep], rows: Rows, *, baseline: Sweep | None = None, cluster: np.ndarray | None = None
) -> Deviations:
    """Mean AUROC of swept scores, or their differences to that of `baseline`, with the deviations of both ways.

    Parameters
    ----------
    cluster
        As in `mean_deviations_over_rows`, shape ``(row,)``.
    """
    keep = (rows.n_pos > 0) & (rows.n_neg > 0)
    if not keep.any() or not sweeps:
        nan = np.full((len(sweeps), 1), np.nan)
        return Deviations(estimate=nan[:, 0], regulator=nan, target=nan, edge_variance=nan[:, 0])
    if baseline is not None:
        b = baseline
        sweeps = [Sweep(area=w.area - b.area, moved=w.moved - b.moved, psi=w.psi - b.psi) for w in sweeps]
    mean, by_row, _ = mean_deviations_over_rows(
        np.stack([w.area for w in sweeps]), cluster=_clusters(rows, keep, cluster)
    )
    return Deviations(
        estimate=mean, regulator=by_row, target=np.stack([w.moved for w in sweeps]),
        edge_variance=np.array([float(np.square(w.psi).sum()) for w in sweeps]),
    )  # fmt: skip


def mean_auroc_deviations(
    scores: np.ndarray, rows: Rows, *, baseline: np.ndarray | None = None, cluster: np.ndarray | None = None
) -> Deviations:
    """Mean over rows of the AUROC within the row (or of its difference to another score's), without row, without gene.

    Rows without positives or negatives are left out. A row whose only positive is left out with its target leaves the
    mean for that deviation.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``.
    baseline
        Shape ``(pair,)``: the deviations are then those of mean AUROC(score) − mean AUROC(baseline).
    cluster
        As in `mean_deviations_over_rows`, shape ``(row,)``.

    Returns
    -------
    `Deviations` whose `regulator` are rows (or clusters of them) and whose `target` are targets.
    """
    scores, _ = checked(scores, rows.label)
    if not ((rows.n_pos > 0) & (rows.n_neg > 0)).any():
        return deviations_of([Sweep(area=np.empty(0), moved=np.empty(0), psi=np.empty(0))] * len(scores), rows)
    base = None if baseline is None else sweep(baseline, rows)
    found = list(over_scores(lambda s: sweep(scores[s], rows), len(scores)))
    return deviations_of(found, rows, baseline=base, cluster=cluster)
