r"""Does a gene's expression differ between groups of cells and one group of controls? Welch and Mann-Whitney, chunked.

Thousands of groups share the controls, and most values are zero: one pass over the cells gives sums and sums of
squares of every group, from which Welch's test follows; ranks are formed per gene among its non-zero values once,
for all groups. Cells come in blocks, so that counts may stay in their file; results do not depend on the blocks.

Welch (1947), Biometrika 34:28; Mann & Whitney (1947), Ann. Math. Stat. 18:50. Both equal `scipy.stats.ttest_ind` with
``equal_var=False`` and `scipy.stats.mannwhitneyu` with ``method="asymptotic"`` (continuity correction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy import special

from regulens.errors import AlignmentError, ParameterError
from regulens.parallel import workers
from regulens.stats._differential_kernels import add_moments, collect, count_entries, rank_sums

#: Non-zero values laid out by gene at a time for ranks: 12 bytes each and as many again while they are sorted.
RANK_ENTRIES = 1 << 24
#: Values of (group, gene) for which p is worked out at a time.
_AT_ONCE = 1 << 20
#: A variance below this share of the mean square is rounding: the values are all the same.
_ROUNDING = 1e-12

#: First row and expression of consecutive blocks of cells, CSR with columns of genes, values >= 0.
Blocks = Callable[[], Iterable[tuple[int, sp.csr_matrix]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupMoments:
    """Size, mean and variance of every group.

    Parameters
    ----------
    n
        Cells, int64, shape ``(group,)``.
    mean
        Shape ``(group, gene)``; NaN for a group without cells.
    variance
        Same shape, with n − 1; NaN for a group of fewer than two cells, 0 where all values are the same.
    """

    n: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupDifferences:
    """Groups against controls.

    Parameters
    ----------
    effect
        Mean of the group minus mean of the controls, shape ``(group, gene)``.
    se
        Welch's standard error of `effect`; NaN where either has fewer than two cells.
    p
        Two-sided; NaN where nothing can be tested: fewer than two cells (Welch), no cell, or no variation in either.
        A p too small for a float is 0.
    n
        Cells per group, shape ``(group,)``.
    n_controls
        Control cells.
    """

    effect: np.ndarray
    se: np.ndarray
    p: np.ndarray
    n: np.ndarray
    n_controls: int


def group_moments(blocks: Blocks, group: np.ndarray, *, n_groups: int, n_genes: int) -> GroupMoments:
    """Mean and variance of every gene in every group of cells, in one pass.

    Parameters
    ----------
    blocks
        Gives the cells in blocks, in order.
    group
        Group of every cell, int, shape ``(cell,)``; −1 is in none.

    Examples
    --------
    >>> x = sp.csr_matrix([[1.0, 0.0], [3.0, 0.0], [5.0, 2.0]])
    >>> found = group_moments(lambda: [(0, x)], np.array([0, 0, 1]), n_groups=2, n_genes=2)
    >>> found.mean.tolist(), found.variance[0].tolist()
    ([[2.0, 0.0], [5.0, 2.0]], [2.0, 0.0])
    """
    group = _checked(group, n_groups)
    total, squares = np.zeros((n_groups, n_genes)), np.zeros((n_groups, n_genes))
    for part, block in _aligned(blocks, group, n_genes):
        add_moments(block.indptr, block.indices, block.data.astype(np.float64, copy=False), part, total, squares)
    n = np.bincount(group[group >= 0], minlength=n_groups)
    step = max(_AT_ONCE // max(n_genes, 1), 1)
    for start in range(0, n_groups, step):  # in place: sums become means, sums of squares become variances
        mean, spread = total[start : start + step], squares[start : start + step]
        size = n[start : start + step, None].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            limit = _ROUNDING * spread
            spread -= mean**2 / size
            mean /= size
            # What is left of a difference of nearly equal sums is rounding, not variance.
            spread[spread <= limit] = 0.0
            spread /= size - 1
    squares[n < 2] = np.nan
    return GroupMoments(n=n, mean=total, variance=squares)


def welch(found: GroupMoments, *, control: int, borrow: bool = False) -> GroupDifferences:
    """Welch's t-test of every group against the group `control`, per gene.

    Parameters
    ----------
    borrow
        Whether a group without variation takes the variance of the other one. A rare gene is silent in all cells of
        a small group by chance; Welch to the letter then takes the group's mean for exact, and p becomes absurdly
        small (a fifth of the genes that 5 % of the cells express have p < 1e-5 in a group of 30 without any effect).

    Returns
    -------
    All groups but `control`, in order.

    Examples
    --------
    >>> x = sp.csr_matrix([[1.0], [3.0], [5.0], [2.0], [9.0], [9.5]])
    >>> moments = group_moments(lambda: [(0, x)], np.array([1, 1, 1, 1, 0, 0]), n_groups=2, n_genes=1)
    >>> got = welch(moments, control=1)
    >>> round(float(got.effect[0, 0]), 3), round(float(got.p[0, 0]), 4)
    (6.5, 0.0032)
    """
    rest = np.delete(np.arange(len(found.n)), control)
    n0, m0, v0 = int(found.n[control]), found.mean[control], found.variance[control]
    effect = found.mean[rest] - m0
    borrow = borrow and n0 > 1
    se, p = np.empty_like(effect), np.empty_like(effect)
    step = max(_AT_ONCE // max(effect.shape[1], 1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, len(rest), step):
            at = slice(start, start + step)
            n = found.n[rest[at]][:, None].astype(np.float64)
            own, own0 = found.variance[rest[at]], np.broadcast_to(v0, (len(n), len(v0)))
            if borrow:
                own, own0 = np.where(own == 0, own0, own), np.where(own0 == 0, own, own0)
            own, own0 = own / n, own0 / n0
            both = own + own0
            se[at] = np.sqrt(both)
            df = both**2 / (own**2 / (n - 1) + own0**2 / (n0 - 1))
            p[at] = np.minimum(2.0 * special.stdtr(df, -np.abs(effect[at] / se[at])), 1.0)
            p[at][both == 0.0] = np.nan
    return GroupDifferences(effect=effect, se=se, p=p, n=found.n[rest], n_controls=n0)


def mann_whitney_p(
    blocks: Blocks, group: np.ndarray, *, n_groups: int, n_genes: int, control: int, jobs: int = 1
) -> np.ndarray:
    """Two-sided p of Mann-Whitney's test of every group against the group `control`, per gene.

    Ties share their mid-rank; normal approximation with the variance corrected for ties and with continuity
    correction. Zeros, which most values are, form one tie and are never visited.

    Parameters
    ----------
    blocks
        Gives the cells in blocks, in order; once for every `RANK_ENTRIES` non-zero values. Values must not be
        negative.
    jobs
        Threads; changes no number.

    Returns
    -------
    Shape ``(group, gene)``, all groups but `control` in order; NaN for an empty group, without controls, and where
    all values are the same.

    Examples
    --------
    >>> x = sp.csr_matrix([[0.0], [0.0], [1.0], [2.0], [5.0], [6.0], [7.0]])
    >>> p = mann_whitney_p(lambda: [(0, x)], np.array([1, 1, 1, 1, 0, 0, 0]), n_groups=2, n_genes=1, control=1)
    >>> round(float(p[0, 0]), 4)
    0.0497
    """
    group = _checked(group, n_groups)
    entries = np.zeros(n_genes, dtype=np.int64)
    for part, block in _aligned(blocks, group, n_genes):
        if block.nnz and block.data.min() < 0:
            message = f"Expected expression >= 0 for ranks, got {block.data.min():.4g}. Give counts or log1p of them."
            raise ParameterError(message)
        count_entries(block.indptr, block.indices, part, entries)
    n = np.bincount(group[group >= 0], minlength=n_groups)
    rest = np.delete(np.arange(n_groups), control)
    p = np.empty((len(rest), n_genes))
    for first, last in _gene_chunks(entries):
        ends = np.concatenate([[0], np.cumsum(entries[first:last])])
        values, owner = np.empty(int(ends[-1])), np.empty(int(ends[-1]), dtype=np.int32)
        free = ends[:-1].copy()
        for part, block in _aligned(blocks, group, n_genes):
            data = block.data.astype(np.float64, copy=False)
            collect(block.indptr, block.indices, data, part, first, last, free, values, owner)

        def one(gene: int, ends=ends, values=values, owner=owner) -> tuple[np.ndarray, np.ndarray]:
            at = slice(ends[gene], ends[gene + 1])
            u, ties = np.empty(n_groups), np.empty(n_groups)
            rank_sums(values[at], owner[at], n, control, u, ties)
            return u[rest], ties[rest]

        for gene, (u, ties) in zip(range(first, last), _threaded(one, last - first, jobs)):
            p[:, gene] = _normal_p(u, ties, n[rest].astype(np.float64), float(n[control]))
    return p


def _normal_p(u: np.ndarray, ties: np.ndarray, n: np.ndarray, n0: float) -> np.ndarray:
    both = n + n0
    with np.errstate(divide="ignore", invalid="ignore"):
        # both^3 - both less the ties is 0 when all values are one tie, exactly: whole numbers below 2^53.
        free = (both**3 - both) - ties
        spread = np.sqrt(n * n0 / 12.0 * free / (both * (both - 1.0)))
        z = (np.abs(u - n * n0 / 2.0) - 0.5) / spread
        p = np.minimum(2.0 * special.ndtr(-z), 1.0)
    return np.where((n > 0) & (n0 > 0) & (free > 0), p, np.nan)


def _checked(group: np.ndarray, n_groups: int) -> np.ndarray:
    group = np.ascontiguousarray(group, dtype=np.int64)
    if group.ndim != 1 or (group.size and (group.min() < -1 or group.max() >= n_groups)):
        message = f"Expected a group from -1 to {n_groups - 1} for every cell, got others. Number the groups from 0."
        raise AlignmentError(message)
    return group


def _aligned(blocks: Blocks, group: np.ndarray, n_genes: int) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
    """Blocks with the groups of their cells; refuses blocks that do not fit."""
    seen = 0
    for start, block in blocks():
        stop = start + block.shape[0]
        if start != seen or stop > group.size or block.shape[1] != n_genes:
            message = (
                f"Expected consecutive blocks of {group.size} cells and {n_genes} genes, got cells {start} to {stop} "
                f"of {block.shape[1]} genes after {seen}. Give every cell once, in order."
            )
            raise AlignmentError(message)
        seen = stop
        yield group[start:stop], block
    if seen != group.size:
        message = f"Expected {group.size} cells in blocks, got {seen}. Give every cell once, in order."
        raise AlignmentError(message)


def _gene_chunks(entries: np.ndarray) -> Iterator[tuple[int, int]]:
    """Consecutive genes with at most `RANK_ENTRIES` values together, at least one gene."""
    ends = np.cumsum(entries)
    first = 0
    while first < len(entries):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + RANK_ENTRIES, side="right")), first + 1)
        yield first, last
        first = last


def _threaded(function: Callable[[int], tuple[np.ndarray, np.ndarray]], n: int, jobs: int) -> Iterator:
    n_threads = min(workers(jobs), max(n, 1))
    if n_threads == 1:
        yield from map(function, range(n))
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(function, range(n))
