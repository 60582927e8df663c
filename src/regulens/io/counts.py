"""Are these numbers raw counts? If not, what are they, and can the counts be had back exactly?

One pass over the rows decides, in blocks; what is said of the whole matrix does not depend on where blocks begin. The
pass also adds up what comes next: counts per cell, and cells per column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from regulens.errors import ScaleError
from regulens.io.rows import AbstractRows

#: Distance to an integer that is taken for floating-point noise of a count, absolute.
NOISE = 1e-6
#: Largest distance to an integer at which recovered counts are accepted. Float32 log values of counts in the
#: hundreds come back with errors just below 0.1.
RECOVERY = 0.1
#: Integers above this are not exact in float32, the type in which counts are kept.
EXACT = 2**24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountRule:
    """How stored values become counts, once they are known to be fit for it.

    Parameters
    ----------
    sizes
        Library size that belongs to each stored row, shape ``(cell,)`` float64, when values are log1p of counts per
        10,000; None when they are counts.
    """

    sizes: np.ndarray | None = None

    def values(self, block: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
        """Counts before rounding, one per stored value of `block`, which holds the stored `rows`."""
        if self.sizes is None:
            return block.data
        return np.expm1(block.data) * np.repeat(self.sizes[rows], np.diff(block.indptr)) / 1e4

    def counts(self, block: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
        """Counts, CSR float32 without stored zeros."""
        rounded = np.rint(self.values(block, rows)).astype(np.float32)
        out = sp.csr_matrix((rounded, block.indices, block.indptr), shape=block.shape)
        if not rounded.all():
            out = out.copy()
            out.eliminate_zeros()
        return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundCounts:
    """What a pass over the rows has found.

    Parameters
    ----------
    rule
        How the stored values become counts.
    total
        Library sizes that recovery gave, shape ``(cell,)`` float64; None when counts were read as they are.
    row_sums
        Counts of each cell, shape ``(cell,)`` float64.
    cells_per_column
        Int64, shape ``(column,)``: of the cells that were to be looked at, those with a count.
    words
        For the report.
    """

    rule: CountRule
    total: np.ndarray | None
    row_sums: np.ndarray
    cells_per_column: np.ndarray
    words: str


class _Tally:
    """Counts per cell, and cells per column among some."""

    def __init__(self, shape: tuple[int, int], wanted: np.ndarray) -> None:
        self.row_sums = np.zeros(shape[0])
        self.cells_per_column = np.zeros(shape[1], dtype=np.int64)
        self._wanted = wanted

    def add(self, start: int, counts: sp.csr_matrix) -> None:
        stop = start + counts.shape[0]
        self.row_sums[start:stop] = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        inside = np.repeat(self._wanted[start:stop], np.diff(counts.indptr))
        self.cells_per_column += np.bincount(counts.indices[inside], minlength=counts.shape[1])


class _Broken:
    """Values that no scale allows."""

    def __init__(self) -> None:
        self.nan = self.infinite = self.negative = 0
        self._smallest = np.inf

    def add(self, data: np.ndarray) -> bool:
        """Count them; True when there has been any."""
        self.nan += int(np.isnan(data).sum())
        self.infinite += int(np.isinf(data).sum())
        below = data[data < 0]
        if below.size:
            self.negative += len(below)
            self._smallest = min(self._smallest, float(below.min()))
        return bool(self.nan or self.infinite or self.negative)

    def refuse(self, where: str) -> None:
        if self.nan:
            message = (
                f"Expected raw counts in {where}, got {self.nan} missing values (NaN). Absent counts are 0: repair or "
                f"remove those cells and genes, or name another layer (--counts LAYER)."
            )
            raise ScaleError(message)
        if self.infinite:
            message = (
                f"Expected raw counts in {where}, got {self.infinite} infinite values. Name another layer "
                f"(--counts LAYER)."
            )
            raise ScaleError(message)
        if self.negative:
            message = (
                f"Expected raw counts in {where}, got {self.negative} negative values (smallest "
                f"{self._smallest:.4g}), as scaled or residual data have. Name the layer that holds the counts "
                f"(--counts LAYER)."
            )
            raise ScaleError(message)


def verify_counts(rows: AbstractRows, *, where: str, wanted: np.ndarray) -> FoundCounts:
    """Accept non-negative integers, rounding noise up to `NOISE`; refuse everything else with what was seen.

    Parameters
    ----------
    where
        Words for the place, e.g. ``layers['counts']``.
    wanted
        Bool, shape ``(cell,)``: cells in which `FoundCounts.cells_per_column` counts.

    Raises
    ------
    ScaleError
        On NaN, infinity, negative values, non-integers, or counts beyond `EXACT`.
    """
    rule, broken, tally = CountRule(), _Broken(), _Tally(rows.shape, wanted)
    size = odd = noisy = 0
    farthest = largest = 0.0
    for start, block in rows.blocks():
        if broken.add(block.data) or not block.nnz:
            continue
        distance = np.abs(block.data - np.rint(block.data))
        size, odd, noisy = size + block.nnz, odd + int((distance > NOISE).sum()), noisy + int((distance > 0).sum())
        farthest, largest = max(farthest, float(distance.max())), max(largest, float(block.data.max()))
        if not odd:
            tally.add(start, rule.counts(block, np.arange(start, start + block.shape[0])))
    broken.refuse(where)
    if odd:
        message = (
            f"Expected raw counts in {where}, got {describe(rows, odd=odd, size=size, largest=largest)}. Name the "
            f"layer that holds the counts (--counts LAYER); if the values are log1p of counts per 10,000, their counts "
            f"can be recovered with --log1p-cp10k."
        )
        raise ScaleError(message)
    if np.rint(largest) > EXACT:
        message = (
            f"Expected counts of at most {EXACT:,} in {where}, got {np.rint(largest):,.0f}. These are hardly counts of "
            f"molecules in a cell; check the layer."
        )
        raise ScaleError(message)
    words = f"counts from {where}"
    if noisy:
        words += f", {noisy} values with floating-point noise up to {farthest:.0e} rounded"
    return FoundCounts(
        rule=rule, total=None, row_sums=tally.row_sums, cells_per_column=tally.cells_per_column, words=words
    )


def describe(rows: AbstractRows, *, odd: int, size: int, largest: float) -> str:
    """What a matrix that is not counts looks like: share of non-integers, largest value, likely scale.

    Parameters
    ----------
    odd, size, largest
        Non-integers among the stored values, all of these, and the largest.
    """
    text = f"{odd / max(size, 1):.1%} non-integers among the non-zero values, largest {largest:.4g}"
    # log1p of counts per 10,000 cannot exceed log1p(10,000) = 9.2; other logs of UMI counts stay below 15 or so.
    if largest >= 15:
        return f"{text}, which looks like normalised values (counts per million, FPKM or TPM)"
    sums = np.zeros(rows.shape[0])
    for start, block in rows.blocks():
        block.data = np.expm1(block.data)
        sums[start : start + block.shape[0]] = np.asarray(block.sum(axis=1)).ravel()
    sums = sums[sums > 0]
    if sums.size and sums.std() < 0.01 * sums.mean():
        return f"{text}, which looks like log1p of counts per {sums.mean():,.0f}"
    return f"{text}, which looks like log1p of normalised counts"


def recover_counts(
    rows: AbstractRows, *, where: str, wanted: np.ndarray, total: np.ndarray | None, total_name: str
) -> FoundCounts:
    """Counts from log1p of counts per 10,000: ``round(expm1(x) · n / 10,000)``, refused unless the rounding is small.

    The library size ``n`` of a cell is taken from `total`; without it, from the cell's smallest non-zero value,
    which belongs to a count of 1 in nearly every cell: ``n = 10,000 / expm1(min x)``. If the smallest count was
    not 1, or the values are on another scale, the other values are no integer multiples of it and the cell is
    refused.

    Parameters
    ----------
    wanted
        Bool, shape ``(cell,)``: cells in which `FoundCounts.cells_per_column` counts.
    total
        Library sizes, shape ``(cell,)``, or None.

    Raises
    ------
    ScaleError
        When values are broken, when a recovered count is further than `RECOVERY` from an integer, or when the
        counts of a cell exceed its library size (the values were not scaled to 10,000).
    """
    limit = np.log1p(1e4) + 1e-3
    origin = "the smallest value of each cell" if total is None else f"obs['{total_name}']"
    sizes = np.zeros(rows.shape[0]) if total is None else np.asarray(total, dtype=np.float64)
    rule, broken, tally = CountRule(sizes=sizes), _Broken(), _Tally(rows.shape, wanted)
    largest = worst = 0.0
    below_one = False
    for start, block in rows.blocks():
        if broken.add(block.data) or not block.nnz:
            continue
        largest = max(largest, float(block.data.max()))
        if largest > limit:
            continue
        stored = np.arange(start, start + block.shape[0])
        if total is None:
            smallest = np.full(block.shape[0], np.inf)
            np.minimum.at(smallest, np.repeat(stored - start, np.diff(block.indptr)), np.expm1(block.data))
            sizes[stored] = np.where(np.isfinite(smallest), 1e4 / smallest, 0.0)
        values = rule.values(block, stored)
        rounded = np.rint(values)
        worst, below_one = max(worst, float(np.abs(values - rounded).max())), below_one or bool((rounded < 1).any())
        tally.add(start, rule.counts(block, stored))
    broken.refuse(where)
    if largest > limit:
        message = (
            f"Expected log1p of counts per 10,000 in {where}, got a largest value of {largest:.4g}, above the possible "
            f"{np.log1p(1e4):.4g}. Leave out --log1p-cp10k and name the layer with the counts (--counts LAYER)."
        )
        raise ScaleError(message)
    if worst > RECOVERY or below_one:
        message = (
            f"Expected log1p of counts per 10,000 in {where}, got values that are no whole numbers of counts with "
            f"library sizes from {origin} (largest deviation {worst:.2g}, allowed {RECOVERY}). Name the column with "
            f"the library sizes (total_counts), or the layer with the counts (--counts LAYER)."
        )
        raise ScaleError(message)
    over = int((tally.row_sums > sizes * 1.001 + 0.5).sum())
    if over:
        message = (
            f"Expected log1p of counts per 10,000 in {where}, got {over} cells whose recovered counts exceed their "
            f"library size (from {origin}): the values were scaled to another total. Name the layer with the counts "
            f"(--counts LAYER)."
        )
        raise ScaleError(message)
    words = (
        f"counts recovered from log1p(counts per 10,000) in {where} with library sizes from {origin}, "
        f"largest deviation {worst:.2g}"
    )
    return FoundCounts(
        rule=rule,
        total=np.where(tally.row_sums > 0, np.maximum(np.rint(sizes), tally.row_sums), sizes),
        row_sums=tally.row_sums,
        cells_per_column=tally.cells_per_column,
        words=words,
    )
