"""Are these numbers raw counts? If not, what are they, and can the counts be had back exactly?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from regulens.errors import ScaleError

#: Distance to an integer that is taken for floating-point noise of a count, absolute.
NOISE = 1e-6
#: Largest distance to an integer at which recovered counts are accepted. Float32 log values of counts in the
#: hundreds come back with errors just below 0.1.
RECOVERY = 0.1
#: Integers above this are not exact in float32, the type in which counts are kept.
EXACT = 2**24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundCounts:
    """Counts and where they came from.

    Parameters
    ----------
    counts
        CSR float32 of non-negative integers, shape ``(cell, gene)``.
    total
        Library sizes that recovery gave, shape ``(cell,)`` float64; None when counts were read as they are.
    words
        For the report.
    """

    counts: sp.csr_matrix
    total: np.ndarray | None
    words: str


def as_csr(matrix: object) -> sp.csr_matrix:
    """A CSR copy in float64 without explicit zeros; the input is left alone.

    Raises
    ------
    ScaleError
        When the matrix holds no numbers.
    """
    try:
        out = sp.csr_matrix(matrix, dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        message = f"Expected a numeric matrix of counts, got values that are no numbers ({error}). Check the layer."
        raise ScaleError(message) from error
    out.sum_duplicates()
    out.eliminate_zeros()
    return out


def verify_counts(matrix: sp.csr_matrix, *, where: str) -> FoundCounts:
    """Accept non-negative integers, rounding noise up to `NOISE`; refuse everything else with what was seen.

    Parameters
    ----------
    matrix
        From `as_csr`.
    where
        Words for the place, e.g. ``layers['counts']``.

    Raises
    ------
    ScaleError
        On NaN, infinity, negative values, non-integers, or counts beyond `EXACT`.
    """
    data = matrix.data
    _refuse_broken(data, where)
    rounded = np.rint(data)
    distance = np.abs(data - rounded)
    if distance.size and distance.max() > NOISE:
        odd = int((distance > NOISE).sum())
        message = (
            f"Expected raw counts in {where}, got {describe(matrix, odd)}. Name the layer that holds the counts "
            f"(--counts LAYER); if the values are log1p of counts per 10,000, their counts can be recovered with "
            f"--log1p-cp10k."
        )
        raise ScaleError(message)
    if data.size and rounded.max() > EXACT:
        message = (
            f"Expected counts of at most {EXACT:,} in {where}, got {rounded.max():,.0f}. These are hardly counts of "
            f"molecules in a cell; check the layer."
        )
        raise ScaleError(message)
    noisy = int((distance > 0).sum())
    words = f"counts from {where}"
    if noisy:
        words += f", {noisy} values with floating-point noise up to {distance.max():.0e} rounded"
    counts = sp.csr_matrix((rounded.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
    counts.eliminate_zeros()
    return FoundCounts(counts=counts, total=None, words=words)


def _refuse_broken(data: np.ndarray, where: str) -> None:
    nan = int(np.isnan(data).sum())
    if nan:
        message = (
            f"Expected raw counts in {where}, got {nan} missing values (NaN). Absent counts are 0: repair or remove "
            f"those cells and genes, or name another layer (--counts LAYER)."
        )
        raise ScaleError(message)
    infinite = int(np.isinf(data).sum())
    if infinite:
        message = (
            f"Expected raw counts in {where}, got {infinite} infinite values. Name another layer (--counts LAYER)."
        )
        raise ScaleError(message)
    negative = int((data < 0).sum())
    if negative:
        message = (
            f"Expected raw counts in {where}, got {negative} negative values (smallest {data.min():.4g}), as scaled "
            f"or residual data have. Name the layer that holds the counts (--counts LAYER)."
        )
        raise ScaleError(message)


def describe(matrix: sp.csr_matrix, odd: int) -> str:
    """What a matrix that is not counts looks like: share of non-integers, largest value, likely scale."""
    share = odd / max(matrix.data.size, 1)
    text = f"{share:.1%} non-integers among the non-zero values, largest {matrix.data.max():.4g}"
    # log1p of counts per 10,000 cannot exceed log1p(10,000) = 9.2; other logs of UMI counts stay below 15 or so.
    if matrix.data.max() < 15:
        back = matrix.copy()
        back.data = np.expm1(back.data)
        sums = np.asarray(back.sum(axis=1)).ravel()
        sums = sums[sums > 0]
        if sums.size and sums.std() < 0.01 * sums.mean():
            return f"{text}, which looks like log1p of counts per {sums.mean():,.0f}"
        return f"{text}, which looks like log1p of normalised counts"
    return f"{text}, which looks like normalised values (counts per million, FPKM or TPM)"


def recover_counts(matrix: sp.csr_matrix, *, where: str, total: np.ndarray | None, total_name: str) -> FoundCounts:
    """Counts from log1p of counts per 10,000: ``round(expm1(x) · n / 10,000)``, refused unless the rounding is small.

    The library size ``n`` of a cell is taken from `total`; without it, from the cell's smallest non-zero value,
    which belongs to a count of 1 in nearly every cell: ``n = 10,000 / expm1(min x)``. If the smallest count was
    not 1, or the values are on another scale, the other values are no integer multiples of it and the cell is
    refused.

    Parameters
    ----------
    matrix
        From `as_csr`.
    total
        Library sizes, shape ``(cell,)``, or None.

    Raises
    ------
    ScaleError
        When values are broken, when a recovered count is further than `RECOVERY` from an integer, or when the
        counts of a cell exceed its library size (the values were not scaled to 10,000).
    """
    _refuse_broken(matrix.data, where)
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    largest = matrix.data.max() if matrix.data.size else 0.0
    if largest > np.log1p(1e4) + 1e-3:
        message = (
            f"Expected log1p of counts per 10,000 in {where}, got a largest value of {largest:.4g}, above the possible "
            f"{np.log1p(1e4):.4g}. Leave out --log1p-cp10k and name the layer with the counts (--counts LAYER)."
        )
        raise ScaleError(message)
    linear = np.expm1(matrix.data)
    if total is None:
        smallest = np.full(matrix.shape[0], np.inf)
        np.minimum.at(smallest, row, linear)
        n = np.where(np.isfinite(smallest), 1e4 / smallest, 0.0)
        origin = "the smallest value of each cell"
    else:
        n, origin = np.asarray(total, dtype=np.float64), f"obs['{total_name}']"
    counts = linear * n[row] / 1e4
    rounded = np.rint(counts)
    worst = float(np.abs(counts - rounded).max()) if counts.size else 0.0
    if worst > RECOVERY or (rounded < 1).any():
        message = (
            f"Expected log1p of counts per 10,000 in {where}, got values that are no whole numbers of counts with "
            f"library sizes from {origin} (largest deviation {worst:.2g}, allowed {RECOVERY}). Name the column with "
            f"the library sizes (total_counts), or the layer with the counts (--counts LAYER)."
        )
        raise ScaleError(message)
    out = sp.csr_matrix((rounded.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
    sums = np.asarray(out.sum(axis=1, dtype=np.float64)).ravel()
    over = int((sums > n * 1.001 + 0.5).sum())
    if over:
        message = (
            f"Expected log1p of counts per 10,000 in {where}, got {over} cells whose recovered counts exceed their "
            f"library size (from {origin}): the values were scaled to another total. Name the layer with the counts "
            f"(--counts LAYER)."
        )
        raise ScaleError(message)
    n = np.where(sums > 0, np.maximum(np.rint(n), sums), n)
    words = (
        f"counts recovered from log1p(counts per 10,000) in {where} with library sizes from {origin}, "
        f"largest deviation {worst:.2g}"
    )
    return FoundCounts(counts=out, total=n, words=words)
