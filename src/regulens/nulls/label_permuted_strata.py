"""What would strata be worth if they were not cell states? Labels dealt anew among the blocks of each donor.

Blocks of cells (partitions of the store, or single cells) keep their cells, their attention and their donor; which
block is called which state is random. A gain that such strata reach as well comes from cutting the cells into groups,
not from the states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from regulens.errors import AlignmentError, ParameterError
from regulens.nulls.base import NullSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrataDraws:
    """Labels of blocks under the null.

    Parameters
    ----------
    labels
        Number of the stratum of each block, int64 ``(draw, block)``; positions in `strata`.
    strata
        Labels as they were given, sorted.
    n_fixed
        Blocks that no draw can move: their group of exchangeable blocks holds one label only.
    n_arrangements
        Different assignments that there are, as far as a float holds it (``inf`` above 1e308); 1 when nothing moves.
    n_identical
        Draws equal to the observed labels. They stay: with few arrangements the null has to contain them.
    size_change
        Largest relative change of a stratum's size over all draws, in [0, 1).
    """

    labels: np.ndarray
    strata: np.ndarray
    n_fixed: int
    n_arrangements: float
    n_identical: int
    size_change: float

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that a test on these draws can mean: one over the number of arrangements."""
        return 1.0 / self.n_arrangements


def _exchangeable(donor: np.ndarray, size: np.ndarray, tolerance: float) -> np.ndarray:
    """Group of each block: same donor, and sizes of a group within a factor of `tolerance`; int64 ``(block,)``."""
    group = np.empty(len(size), dtype=np.int64)
    order = np.lexsort((size, donor))
    number, smallest, current = -1, 0.0, -1
    for b in order:  # over blocks, some hundreds at most
        if donor[b] != current or size[b] > smallest * tolerance:
            number, smallest, current = number + 1, float(size[b]), donor[b]
        group[b] = number
    return group


def permuted_strata(
    label: np.ndarray, *, donor: np.ndarray, size: np.ndarray, draws: int, rng: np.random.Generator,
    tolerance: float = 1.25,
) -> StrataDraws:  # fmt: skip
    """Labels permuted among blocks of the same donor and of about the same size.

    Parameters
    ----------
    label, donor
        Stratum and donor of each block, shape ``(block,)``; any sortable values. One donor throughout where there
        is none.
    size
        Cells of each block, shape ``(block,)``, > 0; ones where blocks are cells.
    tolerance
        Largest ratio of the sizes of two blocks that may exchange labels, >= 1. With 1 the sizes of all strata stay
        exactly as they are; blocks with a size of their own then keep their label.

    Returns
    -------
    Every draw keeps the number of blocks of each stratum within each donor and size group.

    Examples
    --------
    >>> found = permuted_strata(np.array(["B", "B", "T", "T"]), donor=np.array([0, 0, 0, 1]), size=np.ones(4),
    ...                         draws=3, rng=np.random.default_rng(0))
    >>> found.n_arrangements, found.n_fixed, sorted(found.labels[0, :3].tolist())
    (3.0, 1, [0, 0, 1])
    """
    label, donor, size = np.asarray(label), np.asarray(donor), np.asarray(size, dtype=np.float64)
    if not label.shape == donor.shape == size.shape or label.ndim != 1 or not label.size:
        message = (
            f"Expected one label, donor and size per block, got shapes {label.shape}, {donor.shape} and {size.shape}. "
            "Take all from one table of partitions."
        )
        raise AlignmentError(message)
    if draws < 1 or tolerance < 1 or not (size > 0).all():
        message = (
            f"Expected at least one draw, a tolerance of 1 or more and sizes above 0, got {draws} draws, tolerance "
            f"{tolerance} and a smallest size of {size.min()}. Leave empty blocks out."
        )
        raise ParameterError(message)
    strata, code = np.unique(label, return_inverse=True)
    group = _exchangeable(np.unique(donor, return_inverse=True)[1], size, tolerance)
    n_groups = int(group.max()) + 1
    table = np.zeros((n_groups, len(strata)))
    np.add.at(table, (group, code), 1.0)
    arrangements = float(np.sum(gammaln(table.sum(axis=1) + 1)) - np.sum(gammaln(table + 1)))
    n_fixed = int(((table > 0).sum(axis=1)[group] == 1).sum())
    order = np.argsort(group, kind="stable")
    # a random key sorts each group anew: blocks take the labels in the order that the keys give
    shuffled = np.lexsort((rng.random((draws, label.size)), np.broadcast_to(group, (draws, label.size))), axis=-1)
    labels = np.empty((draws, label.size), dtype=np.int64)
    labels[:, order] = code[shuffled]
    cells = np.stack([np.bincount(code, weights=size, minlength=len(strata))] + [
        np.bincount(row, weights=size, minlength=len(strata)) for row in labels
    ])  # fmt: skip
    with np.errstate(over="ignore"):
        count = float(np.rint(np.exp(arrangements))) if arrangements < 30 else float(np.exp(arrangements))
    return StrataDraws(
        labels=labels, strata=strata, n_fixed=n_fixed, n_arrangements=count,
        n_identical=int((labels == code).all(axis=1).sum()),
        size_change=float((np.abs(cells[1:] - cells[0]) / cells[0]).max()),
    )  # fmt: skip


SPEC = NullSpec(
    name="label_permuted_strata",
    version=1,
    function=permuted_strata,
    summary="labels of cell states permuted among the blocks of each donor",
    preserves="cells, attention and donor of every block; the number of blocks of each state in each donor; sizes of "
    "states within the tolerance",
    randomises="which blocks belong together in a state",
    exchangeable="blocks of one donor and of about one size, given the states' sizes",
    reference="Phipson & Smyth 2010, doi:10.2202/1544-6115.1585",
    parameters={"tolerance": 1.25},
)
