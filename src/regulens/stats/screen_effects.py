"""What did every perturbation of a screen do to every gene? Differential expression against its control cells (F13)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse as sp

from regulens.errors import AlignmentError, InputError, ParameterError, examples, nearest
from regulens.stats.differential import group_moments, mann_whitney_p, welch
from regulens.types.cells import Cells
from regulens.types.screens import Comparison, PerturbationEffects, Screen


def effects_of(
    screen: Screen,
    *,
    test: Comparison = "welch",
    controls: np.ndarray | None = None,
    perturbations: Sequence[str] | None = None,
    groups: np.ndarray | None = None,
    borrow: bool = True,
    jobs: int = 1,
) -> PerturbationEffects:
    """Compare the cells of every perturbation with the control cells, gene by gene.

    The effect is the difference of mean log1p(CP10k), natural logarithm, whatever the test. Mann-Whitney ranks
    counts / library size, which orders as log1p(CP10k) does and keeps equal ratios equal.

    Parameters
    ----------
    test
        ``"welch"`` on log1p(CP10k), or ``"mann_whitney"`` (ties, normal approximation).
    controls
        Cells to compare with: bool, shape ``(cell,)``, or positions; the screen's control cells by default, without
        those that `groups` names.
    perturbations
        Groups to compare, in this order; all, sorted, by default.
    groups
        A labelling of one's own in place of the screen's, shape ``(cell,)`` of strings: placebo groups among the
        control cells, say. ``""`` is in no group.
    borrow
        Whether a gene that does not vary in a group takes its variance from the controls, and the other way round
        (`regulens.stats.differential.welch`); False is Welch to the letter, as published.
    jobs
        Threads; changes no number.

    Returns
    -------
    Effects, p and Welch's standard errors, shape ``(perturbation, gene)``. p is NaN where nothing can be tested
    (`regulens.stats.differential`).

    Raises
    ------
    InputError
        Without control cells, without a group, or for a perturbation that has no cell.
    AlignmentError
        When a label or position does not fit the cells, or a cell is in a group and among the controls.
    """
    if test not in ("welch", "mann_whitney"):
        message = f"Expected test to be 'welch' or 'mann_whitney', got {test!r}. Choose one of them."
        raise ParameterError(message)
    cells = screen.cells
    labels = _labels(screen, groups)
    used = _controls(screen, controls, labels if groups is not None else None)
    names = _names(screen, labels, perturbations)
    number = {name: i for i, name in enumerate(names)}
    group = np.array([number.get(label, -1) for label in labels], dtype=np.int64)
    overlap = int((used & (group >= 0)).sum())
    if overlap:
        message = (
            f"Expected control cells outside of the groups compared with them, got {overlap} cells in both. Leave them "
            "out of one."
        )
        raise AlignmentError(message)
    group[used] = len(names)
    shape = {"n_groups": len(names) + 1, "n_genes": cells.n_genes}
    found = welch(group_moments(lambda: _log_blocks(cells), group, **shape), control=len(names), borrow=borrow)
    p = found.p
    if test == "mann_whitney":
        p = mann_whitney_p(lambda: _ratio_blocks(cells), group, control=len(names), jobs=jobs, **shape)
    return PerturbationEffects(
        perturbations=names, genes=cells.genes.symbols, effect=found.effect, p=p, se=found.se, n_cells=found.n,
        n_controls=found.n_controls, test=test, source=cells.source,
    )  # fmt: skip


def _labels(screen: Screen, groups: np.ndarray | None) -> np.ndarray:
    if groups is None:
        return np.where(screen.obs["control"], "", screen.obs["perturbation"]).astype(object)
    labels = np.asarray(groups, dtype=object)
    if labels.shape != (screen.cells.n_cells,):
        message = f"Expected one group per cell ({screen.cells.n_cells}), got shape {labels.shape}. Label every cell."
        raise AlignmentError(message)
    return np.array([str(v) for v in labels], dtype=object)


def _controls(screen: Screen, controls: np.ndarray | None, own: np.ndarray | None) -> np.ndarray:
    n = screen.cells.n_cells
    if controls is None:
        used = screen.obs["control"].to_numpy(dtype=bool).copy()
        if own is not None:
            used &= own == ""
    else:
        given = np.asarray(controls)
        if given.dtype == bool and given.shape == (n,):
            used = given.copy()
        elif given.ndim == 1 and given.dtype.kind in "iu" and (not given.size or 0 <= given.min() <= given.max() < n):
            used = np.zeros(n, dtype=bool)
            used[given] = True
        else:
            message = f"Expected controls as a bool per cell ({n}) or as positions of cells, got {given.shape}. Fit it."
            raise AlignmentError(message)
    if not used.any():
        message = f"Expected control cells in the screen '{screen.name}' to compare with, got none. Leave some."
        raise InputError(message)
    return used


def _names(screen: Screen, labels: np.ndarray, perturbations: Sequence[str] | None) -> tuple[str, ...]:
    there = sorted(set(labels) - {""})
    if not there:
        message = f"Expected perturbed cells in the screen '{screen.name}', got none. Check the perturbation column."
        raise InputError(message)
    if perturbations is None:
        return tuple(there)
    names = tuple(str(p) for p in perturbations)
    lost = [p for p in names if p not in set(there)]
    if lost or len(set(names)) != len(names) or not names:
        message = (
            f"Expected perturbations that have cells in '{screen.name}', each once, got {examples(lost) or names}."
            f"{nearest(lost[0], there) if lost else ''} There are {len(there)}, such as {examples(there, limit=3)}."
        )
        raise InputError(message)
    return names


def _scaled(cells: Cells) -> Iterator[tuple[int, sp.csr_matrix, np.ndarray]]:
    """Blocks of counts, and the library size that belongs to every stored count."""
    for start, block in cells.blocks():
        # A matrix in memory is one block; taken in pieces, its values in float64 stay few.
        for low, part in _pieces(block):
            at = start + low
            yield at, part, np.repeat(cells.total_counts[at : at + part.shape[0]], np.diff(part.indptr))


#: Stored counts of a piece.
_PIECE = 1 << 21


def _pieces(block: sp.csr_matrix) -> Iterator[tuple[int, sp.csr_matrix]]:
    ends, start = block.indptr, 0
    while start < block.shape[0]:
        stop = max(int(np.searchsorted(ends, int(ends[start]) + _PIECE, side="right")) - 1, start + 1)
        stop = min(stop, block.shape[0])
        yield start, block if (start, stop) == (0, block.shape[0]) else block[start:stop]
        start = stop


def _log_blocks(cells: Cells) -> Iterator[tuple[int, sp.csr_matrix]]:
    """log1p(CP10k)."""
    for start, block, total in _scaled(cells):
        values = np.log1p(block.data.astype(np.float64) * (1e4 / total))
        yield start, sp.csr_matrix((values, block.indices, block.indptr), shape=block.shape)


def _ratio_blocks(cells: Cells) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Counts / library size: equal fractions are equal floats, since division rounds correctly."""
    for start, block, total in _scaled(cells):
        values = block.data.astype(np.float64) / total
        yield start, sp.csr_matrix((values, block.indices, block.indptr), shape=block.shape)
