"""How far above its degree null is an AUROC, and how sure is that when regulators and targets, not pairs, are the unit?

With labels y and their mean p over degree-preserving draws, the excess is ``sum rank (y - p) / (n_pos n_neg)``. Since
y - p sums to zero in every row and every column, the ranks may be replaced by what is left of them after a row and a
column effect are taken out, which changes no value but lets the contribution of each gene be read off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.compiled import kernel
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import Deviations


def without_margins(
    values: np.ndarray, weight: np.ndarray, row: np.ndarray, column: np.ndarray, *, tol: float = 1e-10, most: int = 500
) -> np.ndarray:
    """Residual of `values` after the weighted least-squares row and column effects.

    Alternating projections: rows and columns are centred in turn until nothing moves (or `most` rounds; what is left
    then only costs precision of the error, never bias of the excess).

    Parameters
    ----------
    values, weight
        Shape ``(pair,)``; weights >= 0.
    row, column
        Integers, shape ``(pair,)``.

    Examples
    --------
    >>> i, j = np.indices((3, 4)).reshape(2, -1)
    >>> bool(np.abs(without_margins(5.0 * i - 2.0 * j, np.ones(12), i, j)).max() < 1e-9)
    True
    """
    out = np.array(values, dtype=np.float64)
    total = [np.bincount(c, weights=weight) for c in (row, column)]
    scale = float(np.ptp(out)) or 1.0
    for _ in range(most):
        moved = 0.0
        for cluster, mass in zip((row, column), total):
            mean = np.bincount(cluster, weights=weight * out) / np.where(mass > 0, mass, 1.0)
            mean[mass <= 0] = 0.0
            out -= mean[cluster]
            moved = max(moved, float(np.abs(mean).max()))
        if moved < tol * scale:
            break
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Excess:
    """Excess of several scores over the degree null, with and without each regulator.

    Parameters
    ----------
    found
        One entry per score; `estimate` is observed AUROC minus mean AUROC of the draws.
    without
        For the first score, one entry per regulator that is left out.
    regulators
        Rows of the universe that `without` leaves out: those with positives.
    """

    found: Inference
    without: Inference
    regulators: np.ndarray


def _contributions(residual: np.ndarray, surplus: np.ndarray, i: np.ndarray, j: np.ndarray, shape: tuple) -> np.ndarray:
    grid = np.zeros(shape)
    grid[i, j] = residual * surplus
    return grid


def degree_excess(
    ranks: np.ndarray, label: np.ndarray, share: np.ndarray, regulator: np.ndarray, target: np.ndarray
) -> Excess:
    r"""Excess AUROC over the degree null with the two-way delete-one jackknife.

    .. math:: \delta = \frac{1}{n_+} \sum_e h_e, \quad h_e = \tilde r_e (y_e - p_e) / n_-, \qquad
              \delta_{(-i)} = \frac{\sum_{e \notin i} h_e}{n_+ - n_{+i}}

    with ranks freed of row and column effects, least squares with weights ``p (1 - p)``: the efficient score of a
    pair effect beside effects of both genes. Errors of the margins then cancel to first order, which is why the null
    mean need not be drawn anew without each gene.

    Parameters
    ----------
    ranks
        Mid-ranks, shape ``(score, pair)``.
    label
        Bool, shape ``(pair,)``.
    share
        Share of the draws in which a pair is positive, shape ``(pair,)``.
    regulator, target
        Row and column of each pair, shape ``(pair,)``.

    Returns
    -------
    Regulators and targets without positives have no part: no degree-preserving draw gives them one.
    """
    n_pos = int(label.sum())
    n_neg = len(label) - n_pos
    used = np.flatnonzero(label | (share > 0))
    rows, i = np.unique(regulator[used], return_inverse=True)
    columns, j = np.unique(target[used], return_inverse=True)
    y, p = label[used].astype(np.float64), share[used]
    shape = (len(rows), len(columns))
    positives = np.zeros(shape)
    positives[i, j] = y
    of_row, of_column = positives.sum(axis=1), positives.sum(axis=0)
    deviations, first = [], None
    for values in ranks:
        residual = without_margins(values[used], p * (1 - p), i, j) / n_neg
        h = _contributions(residual, y - p, i, j, shape)
        estimate = float(((values[used] * (y - p)).sum()) / (float(n_pos) * float(n_neg)))
        deviations.append(_deviations(h, positives, estimate, n_pos, of_row, of_column))
        first = h if first is None else first
    assert first is not None
    return Excess(
        found=default_se(_stacked(deviations)),
        without=default_se(_leave_each_out(first, positives, n_pos, of_row, of_column)),
        regulators=rows,
    )


def _deviations(
    h: np.ndarray, positives: np.ndarray, estimate: float, n_pos: int, of_row: np.ndarray, of_column: np.ndarray
) -> Deviations:
    total = h.sum()
    value = total / n_pos
    moved = []
    for axis, count in ((1, of_row), (0, of_column)):
        kept = n_pos - count
        left = np.full(len(count), np.nan)
        np.divide(total - h.sum(axis=axis), kept, out=left, where=kept > 0)
        moved.append((left - value)[None])
    return Deviations(
        estimate=np.array([estimate]), regulator=moved[0], target=moved[1],
        edge_variance=np.array([np.square(h - positives * value).sum() / n_pos**2]),
    )  # fmt: skip


def _stacked(parts: list[Deviations]) -> Deviations:
    return Deviations(
        estimate=np.concatenate([d.estimate for d in parts]),
        regulator=np.concatenate([d.regulator for d in parts]),
        target=np.concatenate([d.target for d in parts]),
        edge_variance=np.concatenate([d.edge_variance for d in parts]),
    )


def _leave_each_out(
    h: np.ndarray, positives: np.ndarray, n_pos: int, of_row: np.ndarray, of_column: np.ndarray
) -> Deviations:
    """The excess without each regulator, and its own jackknife over the other regulators and the targets."""
    row, column, total = h.sum(axis=1), h.sum(axis=0), h.sum()
    kept = (n_pos - of_row)[:, None]  # (left out, 1)
    nan = np.full((len(row), 1), np.nan)
    estimate = np.divide((total - row)[:, None], kept, out=nan.copy(), where=kept > 0)

    def minus(h_gone: np.ndarray, n_gone: np.ndarray) -> np.ndarray:
        rest = kept - n_gone
        value = np.divide((total - row)[:, None] - h_gone, rest, out=np.full(rest.shape, np.nan), where=rest > 0)
        return value - estimate

    by_row = minus(np.tile(row, (len(row), 1)), np.tile(of_row, (len(row), 1)))
    np.fill_diagonal(by_row, 0.0)  # it is gone already
    by_column = minus(column[None, :] - h, of_column[None, :] - positives)
    square = np.square(h).sum(axis=1), (h * positives).sum(axis=1)
    # sum over the other rows of (h - y estimate)^2
    e = estimate[:, 0]
    edges = (square[0].sum() - square[0]) - 2 * e * (square[1].sum() - square[1]) + e**2 * kept[:, 0]
    variance = np.divide(edges, kept[:, 0] ** 2, out=nan[:, 0].copy(), where=kept[:, 0] > 0)
    return Deviations(estimate=e, regulator=by_row, target=by_column, edge_variance=variance)


@kernel
def _without_row(ranks, code, row, pair_row, positions, observed, out, seen):
    """AUROC without each row's pairs: `out` (row, draw) of the draws, `seen` (row,) of the observed positives.

    `row` are the rows to leave out, `pair_row` the row of every pair; slot k of every draw lies in one row.
    """
    n_pairs = ranks.size
    n_codes = 0
    for e in range(n_pairs):
        n_codes = max(n_codes, code[e] + 1)
    half = np.empty(n_codes, np.float64)
    count = np.empty(n_codes, np.int64)
    for r in range(row.size):
        count[:] = 0
        gone = 0
        for e in range(n_pairs):
            if pair_row[e] == row[r]:
                count[code[e]] += 1
                gone += 1
        below = 0
        for c in range(n_codes):  # pairs of this row below a value, ties one half
            half[c] = below + 0.5 * count[c]
            below += count[c]
        for d in range(positions.shape[0] + 1):
            total = 0.0
            n = 0
            for k in range(observed.size):
                e = observed[k] if d == positions.shape[0] else positions[d, k]
                if pair_row[e] != row[r]:
                    total += ranks[e] - half[code[e]]
                    n += 1
            kept = n_pairs - gone - n
            value = np.nan
            if n > 0 and kept > 0:
                value = (total - 0.5 * n * (n + 1)) / (float(n) * float(kept))
            if d == positions.shape[0]:
                seen[r] = value
            else:
                out[r, d] = value


def auroc_without_regulator(
    ranks: np.ndarray, pair_row: np.ndarray, rows: np.ndarray, positions: np.ndarray, observed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC on the pairs of all other regulators, for every regulator left out.

    Parameters
    ----------
    ranks
        Mid-ranks of one score, shape ``(pair,)``.
    pair_row
        Regulator of every pair.
    rows
        Regulators to leave out.
    positions, observed
        Positives of the draws ``(draw, n_pos)`` and of the data ``(n_pos,)``.

    Returns
    -------
    Draws, shape ``(left out, draw)``, and observed values, shape ``(left out,)``; NaN where no positive is left.
    """
    code = np.unique(ranks, return_inverse=True)[1].astype(np.int32)
    out, seen = np.empty((len(rows), len(positions))), np.empty(len(rows))
    _without_row(
        ranks, code, rows.astype(np.int64), pair_row.astype(np.int64), np.ascontiguousarray(positions),
        observed, out, seen,
    )  # fmt: skip
    return out, seen
