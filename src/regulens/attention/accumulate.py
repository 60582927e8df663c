"""How does the attention of one cell enter the sums of its partition, without a map and without a loop over pairs?

For a cell with tokens at positions ``r`` (regulators) and ``t`` (targets), two blocks of every layer and head are read
through the row log-sum-exp, both with the regulator first::

    direction 0, regulator attends:  A[r, t]    = exp(q_r · k_t · scale − lse_r)
    direction 1, target attends:     A[t, r]ᵀ   = exp(k_r · q_t · scale − lse_t)

and added, in float64, at the rows and columns that these genes have on the axes of the store. Special tokens and
padding have no gene and therefore no place there; a gene paired with itself is set to zero at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch

from regulens.errors import AlignmentError, CaptureError, examples
from regulens.models.base import LayerAttention, TokenBatch
from regulens.models.kernel import softmax_block_into
from regulens.types.genes import GeneVocabulary

#: Share of targets among the tokens below which copying them out is the faster way (measured, see benchmarks).
_COPY_BELOW = 0.75


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairAxes:
    """Where a gene of the cells lands on the regulator and target axes of the store.

    Parameters
    ----------
    regulator, target
        Int64, shape ``(gene + 1,)``, indexed by the gene's column in the cells: position on the axis, −1 where it has
        none. The last entry, reached by gene −1 (special tokens, padding), is −1.
    own
        Int64, shape ``(regulator,)``: column of the regulator itself on the target axis, −1 where it is no target.
    """

    regulator: np.ndarray
    target: np.ndarray
    own: np.ndarray

    @classmethod
    def build(cls, vocabulary: GeneVocabulary, genes: tuple[str, ...], regulators: tuple[str, ...]) -> PairAxes:
        """Axes of `genes` (targets) and `regulators` over the columns of cells with this vocabulary.

        Raises
        ------
        AlignmentError
            When an axis has repeats or names that the cells do not have.
        """
        look_up = []
        for what, names in (("regulators", regulators), ("genes", genes)):
            column = vocabulary.index(names)
            unknown = [n for n, c in zip(names, column) if c < 0]
            if unknown or len(set(names)) != len(names) or not names:
                found = (
                    f"{len(unknown)} unknown ({examples(unknown)})" if unknown else f"{len(names)} names with repeats"
                )
                message = (
                    f"Expected unique {what} that are genes of the cells, got {found if names else 'none'}. "
                    "Take names from the cells' own vocabulary."
                )
                raise AlignmentError(message)
            where = np.full(len(vocabulary) + 1, -1, dtype=np.int64)
            where[column] = np.arange(len(names))
            look_up.append(where)
        own = look_up[1][vocabulary.index(regulators)]
        return cls(regulator=look_up[0], target=look_up[1], own=own)


@dataclass(frozen=True, slots=True, eq=False)
class CellPlaces:
    """Tokens of one cell that matter: positions in the sequence, and rows and columns on the axes; all int64.

    ``regulator_position`` and ``row`` have one entry per regulator present, ``target_position`` and ``column`` one
    per target present; ``length`` counts the real tokens, special ones included.
    """

    regulator_position: np.ndarray
    row: np.ndarray
    target_position: np.ndarray
    column: np.ndarray
    length: int


def places(batch: TokenBatch, axes: PairAxes) -> list[CellPlaces]:
    """Find the regulators and targets among the tokens of every cell of a batch.

    Raises
    ------
    CaptureError
        When a gene has two tokens in one cell: a sum over pairs would count it twice.
    """
    found = []
    for cell, gene, mask in zip(batch.cell, batch.gene, batch.mask):
        parts = []
        for where in (axes.regulator, axes.target):
            index = where[gene]
            position = np.flatnonzero(index >= 0)
            index = index[position]
            if len(np.unique(index)) != len(index):
                message = (
                    f"Expected every gene at most once among the tokens of a cell, got a repeat in the cell at row "
                    f"{int(cell)}. Tokens of this adapter cannot be read as gene pairs."
                )
                raise CaptureError(message)
            parts += [position, index]
        found.append(CellPlaces(*parts, int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else 0))
    return found


def add_layer(sums: np.ndarray, layer: LayerAttention, found: list[CellPlaces]) -> None:
    """Add one layer of a batch to the sums.

    For every direction and head all cells of the batch are added before the next head is taken up, so that the block
    and the sums of that head stay in the processor's cache. Cells are added in the order of the batch.

    Parameters
    ----------
    sums
        Float64, C order, shape ``(layer, head, direction, regulator, target)``; changed in place.
    found
        One per cell of the batch, from `places`.
    """
    own = sums[layer.layer]
    cells = [_ReadCell(layer, c, place) for c, place in enumerate(found) if len(place.row) and len(place.column)]
    if not cells:
        return
    wide = torch.promote_types(layer.q.dtype, torch.float32)
    memory = torch.empty(max(len(c.place.row) * c.width for c in cells), dtype=wide, device=layer.q.device)
    for direction in (0, 1):
        parts = [c.parts(direction, wide) for c in cells]
        for head in range(own.shape[0]):
            for cell, (left, right, lse) in zip(cells, parts):
                block = memory[: left.shape[1] * cell.width].view(left.shape[1], cell.width)
                softmax_block_into(block, left[head], right[head], lse[head])
                _add_block(own[head, direction], block.cpu().numpy(), cell.place.row, cell.source, cell.place.column)


def add_counts(counts: np.ndarray, found: list[CellPlaces]) -> None:
    """Count, for every pair, the cells of a batch that hold both genes; int32, shape ``(regulator, target)``."""
    for place in found:
        _add_one(counts, place.row, place.column)


def clear_own(sums: np.ndarray, counts: np.ndarray, axes: PairAxes) -> None:
    """Set pairs of a gene with itself to zero and uncounted."""
    rows = np.flatnonzero(axes.own >= 0)
    sums[..., rows, axes.own[rows]] = 0.0
    counts[rows, axes.own[rows]] = 0


class _ReadCell:
    """One cell of a captured layer and how its targets are reached.

    Copying the targets out pays when they are few among the tokens; otherwise the whole row is computed and the
    targets are picked while adding.
    """

    def __init__(self, layer: LayerAttention, cell: int, place: CellPlaces) -> None:
        self.place = place
        self._q, self._k, self._lse, self._scale = layer.q[cell], layer.k[cell], layer.lse[cell], layer.scale
        self._r = torch.from_numpy(place.regulator_position).to(self._q.device)
        few = len(place.column) < _COPY_BELOW * place.length
        self._t = torch.from_numpy(place.target_position).to(self._q.device) if few else slice(0, place.length)
        self.source = np.arange(len(place.column)) if few else place.target_position
        self.width = len(place.column) if few else place.length

    def parts(self, direction: int, wide: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scaled regulator side, target side and log-sum-exp, each with the head first."""
        left, right = (self._q, self._k) if direction == 0 else (self._k, self._q)
        lse = self._lse[:, self._r, None] if direction == 0 else self._lse[:, None, self._t]
        return left[:, self._r].to(wide) * self._scale, right[:, self._t].to(wide), lse.to(wide)


@numba.njit(cache=True, nogil=True)
def _add_block(sums, block, row, source, column):
    for i in range(row.size):
        into = sums[row[i]]
        for j in range(column.size):
            into[column[j]] += block[i, source[j]]


@numba.njit(cache=True, nogil=True)
def _add_one(counts, row, column):
    for i in range(row.size):
        for j in range(column.size):
            counts[row[i], column[j]] += 1
