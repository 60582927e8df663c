"""Which part chooses and which part judges? Splits as values that can prove that nothing leaks between their parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from regulens.errors import ParameterError, StatisticsError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Every row belongs to one part, and all rows of a unit to the same one.

    Parameters
    ----------
    part
        Number of the part, shape ``(row,)``.
    unit
        Unit (regulator, donor, gene) of each row, shape ``(row,)``.
    n_parts
        Number of parts, 2 or more.

    Raises
    ------
    StatisticsError
        A unit has rows in two parts.

    Examples
    --------
    >>> Split(part=np.array([0, 0, 1]), unit=np.array([5, 5, 7]), n_parts=2).rows(1).tolist()
    [False, False, True]
    >>> Split(part=np.array([0, 1]), unit=np.array([5, 5]), n_parts=2)
    Traceback (most recent call last):
    ...
    regulens.errors.StatisticsError: Expected every unit in one part only, got 1 in several, first 5. ...
    """

    part: np.ndarray
    unit: np.ndarray
    n_parts: int

    def __post_init__(self) -> None:
        part, unit = np.array(self.part, dtype=np.int64), np.array(self.unit)
        if part.shape != unit.shape or part.ndim != 1:
            message = f"Expected one part and one unit per row, got shapes {part.shape} and {unit.shape}."
            raise ParameterError(message)
        if part.size and (part.min() < 0 or part.max() >= self.n_parts):
            message = f"Expected parts in [0, {self.n_parts - 1}], got {part.min()} to {part.max()}."
            raise ParameterError(message)
        assert_no_leak(part, unit)
        for name, array in (("part", part), ("unit", unit)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def rows(self, part: int) -> np.ndarray:
        """Bool mask of the rows of `part`, shape ``(row,)``."""
        if not 0 <= part < self.n_parts:
            message = f"Expected a part in [0, {self.n_parts - 1}], got {part}."
            raise ParameterError(message)
        return self.part == part


def assert_no_leak(part: np.ndarray, unit: np.ndarray) -> None:
    """Raise `StatisticsError` when a unit has rows in more than one part."""
    _, number = np.unique(unit, return_inverse=True)
    low = np.full(number.max(initial=-1) + 1, np.iinfo(np.int64).max)
    high = np.full(low.size, -1)
    np.minimum.at(low, number, part)
    np.maximum.at(high, number, part)
    torn = np.flatnonzero(low != high)
    if torn.size:
        first = unit[np.flatnonzero(number == torn[0])[0]]
        message = (
            f"Expected every unit in one part only, got {torn.size} in several, first {first}. "
            "Split by unit, not by row."
        )
        raise StatisticsError(message)


def split_by(
    unit: np.ndarray, fractions: tuple[float, ...], rng: np.random.Generator, *, weight: np.ndarray | None = None
) -> Split:
    """Deal whole units into parts of about the given shares.

    Units are dealt largest first, each to the part that is furthest below its share, ties and equal sizes in random
    order; with the number of positives as weight, both parts get positives although regulons are unequal.

    Parameters
    ----------
    unit
        Unit of each row, shape ``(row,)``.
    fractions
        Shares of the parts, > 0, summing to 1; no more parts than units.
    weight
        What is balanced, shape ``(row,)``, >= 0; rows by default.

    Examples
    --------
    >>> s = split_by(np.array([0, 0, 1, 2, 2, 3]), (0.5, 0.5), np.random.default_rng(0))
    >>> int(s.rows(0).sum())
    3
    """
    unit = np.asarray(unit)
    names, number = np.unique(unit, return_inverse=True)
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.size < 2 or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-9 or shares.size > names.size:
        message = (
            f"Expected two or more fractions above 0 that sum to 1, for at most {names.size} parts (one unit each), "
            f"got {tuple(fractions)}. Use fewer parts or more units."
        )
        raise ParameterError(message)
    size = np.bincount(number, weights=weight, minlength=names.size).astype(np.float64)
    order = rng.permutation(names.size)
    order = order[np.argsort(-size[order], kind="stable")]
    filled = np.zeros(shares.size)
    units_in = np.zeros(shares.size, dtype=np.int64)
    part_of = np.empty(names.size, dtype=np.int64)
    for dealt, u in enumerate(order):
        empty = np.flatnonzero(units_in == 0)
        # the last units go to parts that have none, so that no part stays empty
        choices = empty if empty.size >= names.size - dealt else np.arange(shares.size)
        part = choices[np.argmin(filled[choices] / shares[choices])]
        part_of[u] = part
        filled[part] += size[u]
        units_in[part] += 1
    return Split(part=part_of[number], unit=unit, n_parts=shares.size)


def gene_folds(n_genes: int, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold of each gene, int64 shape ``(gene,)``, sizes differing by at most one.

    Examples
    --------
    >>> np.bincount(gene_folds(7, 3, np.random.default_rng(0))).tolist()
    [3, 2, 2]
    """
    if not 2 <= n_folds <= n_genes:
        message = f"Expected between 2 and {n_genes} folds (the number of genes), got {n_folds}. Choose fewer."
        raise ParameterError(message)
    return rng.permutation(np.arange(n_genes) % n_folds)


def two_way_blocks(
    regulator: np.ndarray, target: np.ndarray, fold: np.ndarray, n_folds: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(train, test) masks over pairs such that no gene of a test pair occurs in any training pair, in either role.

    Test blocks are all pairs of folds (regulator's fold, target's fold): every pair is tested once. Training pairs
    have both genes outside both folds.

    Parameters
    ----------
    regulator, target
        Gene numbers on *one* axis, shape ``(edge,)``: a gene that is both regulator and target has one number.
    fold
        From `gene_folds`.
    """
    by_regulator, by_target = fold[regulator], fold[target]
    for f in range(n_folds):
        for g in range(n_folds):
            test = (by_regulator == f) & (by_target == g)
            train = ~np.isin(by_regulator, (f, g)) & ~np.isin(by_target, (f, g))
            yield train, test
