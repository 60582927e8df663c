"""Which pairs look like a true edge in how much both genes are expressed, without being one?

Keeps, for every positive, the expression level and detection rate of both genes; breaks which regulator goes with
which target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.compiled import kernel
from regulens.errors import AlignmentError, ParameterError
from regulens.nulls.base import NullSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedPairs:
    """Positives, each with its own matched negatives.

    Parameters
    ----------
    pos_regulator, pos_target
        Grid position of each matched positive, int64 ``(positive,)``.
    neg_regulator, neg_target
        Grid positions of all negatives, int64 ``(negative,)``, grouped by positive.
    start
        Negatives of positive k are ``start[k]:start[k + 1]``; int64 ``(positive + 1,)``.
    available
        Candidates that each matched positive had, int64 ``(positive,)``.
    unmatched
        Grid positions ``(n, 2)`` of positives without a single candidate.
    n_widened
        Positives for which both tolerances had to be widened.
    """

    pos_regulator: np.ndarray
    pos_target: np.ndarray
    neg_regulator: np.ndarray
    neg_target: np.ndarray
    start: np.ndarray
    available: np.ndarray
    unmatched: np.ndarray
    n_widened: int

    @property
    def n_pos(self) -> int:
        """Matched positives."""
        return len(self.pos_regulator)

    @property
    def owner(self) -> np.ndarray:
        """Position of the positive each negative belongs to, shape ``(negative,)``."""
        return np.repeat(np.arange(self.n_pos), np.diff(self.start))


def similar_genes(mean: np.ndarray, detection: np.ndarray, *, tolerance: float) -> np.ndarray:
    """Which gene (column) matches which (row): ``mean_y`` within ``(1 ± tolerance) mean_x`` and detection likewise.

    ``|det_y - det_x| <= tolerance * max(det_x, 0.05)``. Not symmetric. A gene matches itself.

    Examples
    --------
    >>> similar_genes(np.array([1.0, 1.1, 2.0]), np.array([0.5, 0.5, 0.5]), tolerance=0.2).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    x, y = mean[:, None], mean[None, :]
    slack = 1e-12 * np.maximum(x, 1.0)  # the edge of the interval belongs to it
    level = (y >= (1 - tolerance) * x - slack) & (y <= (1 + tolerance) * x + slack)
    gap = np.abs(detection[None, :] - detection[:, None])
    return level & (gap <= tolerance * np.maximum(detection, 0.05)[:, None] + 1e-12)


@kernel
def _draw(row_ok, row_start, col_ok, col_start, allowed, uniform, start, out_row, out_col):
    """For every positive, a partial Fisher-Yates draw from its candidates, in compiled code."""
    buffer_row = np.empty(allowed.size, np.int64)
    buffer_col = np.empty(allowed.size, np.int64)
    for k in range(start.size - 1):
        n = 0
        for a in range(row_start[k], row_start[k + 1]):
            i = row_ok[a]
            for b in range(col_start[k], col_start[k + 1]):
                j = col_ok[b]
                if allowed[i, j]:
                    buffer_row[n] = i
                    buffer_col[n] = j
                    n += 1
        for d in range(start[k + 1] - start[k]):
            pick = d + min(int(uniform[k, d] * (n - d)), n - d - 1)
            i, j = buffer_row[pick], buffer_col[pick]
            buffer_row[pick], buffer_col[pick] = buffer_row[d], buffer_col[d]
            buffer_row[d], buffer_col[d] = i, j
            out_row[start[k] + d] = i
            out_col[start[k] + d] = j


def _ragged(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column positions of the True cells row by row, and where each row starts."""
    columns = np.nonzero(mask)[1].astype(np.int64)
    return columns, np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64)


def match_pairs(
    positive: np.ndarray, allowed: np.ndarray, *, mean: np.ndarray, detection: np.ndarray, own: np.ndarray,
    rng: np.random.Generator, tolerance: float = 0.2, widened: float = 0.4, min_candidates: int = 5,
    max_negatives: int = 50,
) -> MatchedPairs:  # fmt: skip
    """Negatives for every positive, matched on expression of both genes.

    For a positive (t, g) the candidates are all allowed pairs (t', g') with t' similar to t and g' similar to g
    (see `similar_genes`); t' runs over the grid's regulators. With fewer than `min_candidates` both tolerances are
    widened, and counted. ``min(max_negatives, available)`` are drawn without replacement, every candidate as likely.

    Parameters
    ----------
    positive
        Bool ``(regulator, target)``: positives to match (observed ones).
    allowed
        Bool, same shape: pairs that may serve as negatives (observed, not positive, no self-pairs).
    mean, detection
        Shape ``(gene,)``, over the cells attention was read in.
    own
        Gene position of each regulator, shape ``(regulator,)``.
    rng
        Named stream.

    Returns
    -------
    Positives in grid order with their negatives; those without any candidate are listed apart.
    """
    if positive.shape != allowed.shape or positive.shape != (len(own), len(mean)) or len(detection) != len(mean):
        message = (
            f"Expected positive and allowed of shape ({len(own)}, {len(mean)}) (regulator, target), got "
            f"{positive.shape} and {allowed.shape}. Take all from one universe."
        )
        raise AlignmentError(message)
    if (positive & allowed).any():
        message = "Expected no positive among the pairs that may serve as negatives, got some. Remove them."
        raise ParameterError(message)
    i, j = (x.astype(np.int64) for x in np.nonzero(positive))
    rows, cols, available = [], [], []
    count = allowed.astype(np.float64)
    for width in (tolerance, widened):
        similar = similar_genes(mean, detection, tolerance=width)
        rows.append(similar[np.ix_(own, own)])
        cols.append(similar)
        full = rows[-1].astype(np.float64) @ count @ similar.T.astype(np.float64)  # candidates of every grid pair
        available.append(np.rint(full[i, j]).astype(np.int64))
    wide = available[0] < min_candidates
    have = np.where(wide, available[1], available[0])
    keep = have > 0
    unmatched = np.column_stack([i, j])[~keep]
    i, j, wide, have = i[keep], j[keep], wide[keep], have[keep]
    row_ok, row_start = _ragged(np.where(wide[:, None], rows[1][i], rows[0][i]))
    col_ok, col_start = _ragged(np.where(wide[:, None], cols[1][j], cols[0][j]))
    take = np.minimum(have, max_negatives)
    start = np.concatenate([[0], np.cumsum(take)]).astype(np.int64)
    out_row, out_col = np.empty(start[-1], np.int64), np.empty(start[-1], np.int64)
    uniform = rng.random((len(i), max_negatives))
    _draw(row_ok, row_start, col_ok, col_start, np.ascontiguousarray(allowed), uniform, start, out_row, out_col)
    return MatchedPairs(
        pos_regulator=i, pos_target=j, neg_regulator=out_row, neg_target=out_col, start=start, available=have,
        unmatched=unmatched, n_widened=int(wide.sum()),
    )  # fmt: skip


SPEC = NullSpec(
    name="expression_matched",
    version=1,
    function=match_pairs,
    summary="for every positive, pairs of equally expressed and equally often detected genes that are no edge",
    preserves="mean expression and detection rate of both genes, within the tolerance",
    randomises="which regulator goes with which target",
    exchangeable="a positive and its matched negatives, given the score's other causes",
    reference="Rosenbaum & Rubin 1985 (matching); Stuart 2010 (balance)",
    parameters={"tolerance": 0.2, "widened": 0.4, "min_candidates": 5, "max_negatives": 50},
)
