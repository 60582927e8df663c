"""How does the attention of one cell enter the sums of its partition, without a map and without a loop over pairs?

For a cell with tokens at positions ``r`` (regulators) and ``t`` (targets), two blocks of every layer and head are read
through the row log-sum-exp, both with the regulator first::

    direction 0, regulator attends:  A[r, t]    = exp(q_r · k_t · scale − lse_r)
    direction 1, target attends:     A[t, r]ᵀ   = exp(k_r · q_t · scale − lse_t)

(or what another recipe makes of the same pair, see `recipes`) and added, in float64, at the rows and columns that these
genes have on the axes of the store. Special tokens and padding have no gene and therefore no place there; a gene paired
with itself is set to zero at the end.

Where a gene has several tokens in a cell (word pieces, a sentence sampled with repeats), its attention is pooled: what
a query pays to a gene is the sum over the gene's tokens, since attention is a share; what a gene pays is the mean over
its tokens as queries, so that it stays a share. The pair is counted once. Pairs that a causal model or a mask rules
out are exactly zero, and counted: both genes were there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regulens.attention.recipes import PROBABILITY, Recipe, refuse_ruled_out, value_norms
from regulens.compiled import kernel
from regulens.errors import AlignmentError, CaptureError, examples
from regulens.models.base import LayerAttention, TokenBatch
from regulens.models.kernel import ahead_of, softmax_block_into
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

    ``regulator_position`` and ``row`` have one entry per token that is a regulator, ``target_position`` and ``column``
    one per token that is a target; ``length`` counts positions up to the last real token, special ones included.
    ``row_share`` and ``column_share``, float64, hold one over the number of tokens of the same gene; None where no gene
    of the cell has more than one.
    """

    regulator_position: np.ndarray
    row: np.ndarray
    target_position: np.ndarray
    column: np.ndarray
    length: int
    row_share: np.ndarray | None = None
    column_share: np.ndarray | None = None

    @property
    def repeats(self) -> bool:
        """Whether a regulator or target of this cell has several tokens."""
        return self.row_share is not None


def places(batch: TokenBatch, axes: PairAxes) -> list[CellPlaces]:
    """Find the regulators and targets among the tokens of every cell of a batch.

    Raises
    ------
    CaptureError
        When a token belongs to a gene that the cells do not have.
    """
    if batch.gene.size and not -1 <= batch.gene.min() <= batch.gene.max() < len(axes.target) - 1:
        message = (
            f"Expected genes of tokens in [-1, {len(axes.target) - 2}], got {int(batch.gene.min())} to "
            f"{int(batch.gene.max())}. Tokens of this adapter do not belong to these cells."
        )
        raise CaptureError(message)
    found = []
    for gene, mask in zip(batch.gene, batch.mask):
        parts, shares = [], []
        for where in (axes.regulator, axes.target):
            index = where[gene]
            position = np.flatnonzero(index >= 0)
            parts += [position, index[position]]
            shares.append(1.0 / np.bincount(index[position])[index[position]])
        length = int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else 0
        once = all((share == 1.0).all() for share in shares)
        found.append(CellPlaces(*parts, length) if once else CellPlaces(*parts, length, *shares))
    return found


def add_layer(
    sums: np.ndarray,
    layer: LayerAttention,
    found: list[CellPlaces],
    *,
    recipe: Recipe = PROBABILITY,
    by_head: torch.Tensor | None = None,
    first: int = 0,
) -> None:
    """Add one layer of a batch to the sums of one recipe; see `add_recipes`."""
    add_recipes([sums], layer, found, recipes=[recipe], by_head=by_head, first=first)


def add_recipes(
    sums: Sequence[np.ndarray],
    layer: LayerAttention,
    found: list[CellPlaces],
    *,
    recipes: Sequence[Recipe],
    by_head: torch.Tensor | None = None,
    first: int = 0,
) -> None:
    """Add one layer of a batch to the sums of several recipes, each of which gets the bytes that it would get alone.

    For every direction and head all cells of the batch are added before the next head is taken up, so that the block
    and the sums of that head stay in the processor's cache. Cells are added in the order of the batch.

    Parameters
    ----------
    sums
        One array per recipe, float64, C order, shape ``(layer, head, direction, regulator, target)``; changed in place.
    found
        One per cell of the batch, from `places`.
    recipes
        What is summed.
    by_head
        Output projection, from `recipes.projection`; only for recipes that weight by it.
    first
        Layer of the model that the first layer of `sums` belongs to.

    Raises
    ------
    CaptureError
        When a pair is ruled out by a mask and a recipe has no value for such a pair.
    """
    own = [s[layer.layer - first] for s in sums]
    cells = [
        _ReadCell(layer, c, place, recipes, by_head)
        for c, place in enumerate(found)
        if len(place.row) and len(place.column)
    ]
    if not cells:
        return
    wide = torch.promote_types(layer.q.dtype, torch.float32)
    memory = torch.empty(max(len(c.place.row) * c.width for c in cells), dtype=wide, device=layer.q.device)
    for direction in (0, 1):
        parts = [c.parts(direction, wide) for c in cells]
        for head in range(own[0].shape[0]):
            for cell, part in zip(cells, parts):
                block = memory[: part.left.shape[1] * cell.width].view(part.left.shape[1], cell.width)
                for at in part.blocks_into(block, head, recipes):
                    cell.add(own[at][head, direction], block.cpu().numpy(), direction, recipes[at])


def add_counts(counts: np.ndarray, found: list[CellPlaces]) -> None:
    """Count, for every pair, the cells of a batch that hold both genes; int32, shape ``(regulator, target)``."""
    for place in found:
        row, column = place.row, place.column
        _add_one(counts, np.unique(row) if place.repeats else row, np.unique(column) if place.repeats else column)


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

    def __init__(
        self,
        layer: LayerAttention,
        cell: int,
        place: CellPlaces,
        recipes: Sequence[Recipe],
        by_head: torch.Tensor | None,
    ) -> None:
        self.place, self._normalised = place, any(r.normalised for r in recipes)
        self._norms = value_norms(layer.v[cell], by_head) if any(r.weighted for r in recipes) else None
        self._q, self._k, self._lse, self._scale = layer.q[cell], layer.k[cell], layer.lse[cell], layer.scale
        self._bias = None if layer.key_bias is None else layer.key_bias[cell]
        self._mask = None if layer.key_mask is None else layer.key_mask[cell]
        self._causal = layer.causal
        self._r = torch.from_numpy(place.regulator_position).to(self._q.device)
        few = len(place.column) < _COPY_BELOW * place.length
        self._t = torch.from_numpy(place.target_position).to(self._q.device) if few else slice(0, place.length)
        # In the order of the columns: the sums, which come from memory, are then passed through from left to right, and
        # the block, which is in the cache, is read here and there. Each place is added to once a cell, or, where a gene
        # has several tokens, in their order, so that no bit depends on this.
        order = np.argsort(place.column, kind="stable")
        self.source = order if few else place.target_position[order]
        self.column = place.column[order]
        self.column_share = None if place.column_share is None else place.column_share[order]
        self.width = len(place.column) if few else place.length

    def parts(self, direction: int, wide: torch.dtype) -> _Parts:
        """What the blocks of one direction are made of."""
        attends = direction == 0
        left, right = (self._q, self._k) if attends else (self._k, self._q)
        lse = bias = factor = None
        if self._normalised:
            lse = (self._lse[:, self._r, None] if attends else self._lse[:, None, self._t]).to(wide)
        if self._bias is not None:
            bias = (self._bias[None, self._t] if attends else self._bias[self._r, None]).to(wide)
        if self._norms is not None:
            factor = self._norms[:, None, self._t] if attends else self._norms[:, self._r, None]
        return _Parts(
            left=left[:, self._r].to(wide) * self._scale,
            right=right[:, self._t].to(wide),
            lse=lse,
            bias=bias,
            forbidden=self._forbidden(attends=attends),
            factor=factor,
        )

    def _forbidden(self, *, attends: bool) -> torch.Tensor | None:
        """Pairs whose attention is exactly zero, bool, broadcasts to ``(regulator, target)``; None for none."""
        forbidden = None
        if self._causal:
            t = self._t if isinstance(self._t, torch.Tensor) else torch.arange(self.width, device=self._q.device)
            forbidden = ahead_of(self._r, t) if attends else ahead_of(t, self._r).T
        if self._mask is not None:
            masked = ~(self._mask[None, self._t] if attends else self._mask[self._r, None])
            if bool(masked.any()):
                forbidden = masked if forbidden is None else forbidden | masked
        return forbidden

    def add(self, sums: np.ndarray, block: np.ndarray, direction: int, recipe: Recipe) -> None:
        """Add a block at its place, pooling several tokens of a gene as the recipe says."""
        place = self.place
        if not place.repeats:
            _add_block(sums, block, place.row, self.source, self.column)
            return
        row_share, column_share = place.row_share, self.column_share
        if not recipe.logarithmic:  # the attended side is summed
            row_share = row_share if direction == 0 else np.ones_like(row_share)
            column_share = column_share if direction == 1 else np.ones_like(column_share)
        _add_shares(sums, block, place.row, self.source, self.column, row_share, column_share)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    """Scaled regulator side, target side and what is done to their products; all but ``bias`` by head."""

    left: torch.Tensor
    right: torch.Tensor
    lse: torch.Tensor | None
    bias: torch.Tensor | None
    forbidden: torch.Tensor | None
    factor: torch.Tensor | None

    def blocks_into(self, block: torch.Tensor, head: int, recipes: Sequence[Recipe]) -> Iterator[int]:
        """Fill a block ``(regulator, target)`` of one head by each recipe; yields the position of the one it now holds.

        Logit, log-probability, probability, weighted probability: each is one step from the one before, and the steps
        are those of a recipe that is read alone, so that no bit depends on the company.
        """
        ruled_out = self.forbidden is not None and bool(self.forbidden.any())
        before: Recipe | None = None
        for at in sorted(range(len(recipes)), key=lambda i: recipes[i].steps):
            recipe = recipes[at]
            if recipe.logarithmic and ruled_out:
                refuse_ruled_out(recipe)
            lse = self.lse[head] if recipe.normalised and self.lse is not None else None
            # A logit has its bias already, which a probability gets after the log-sum-exp has been taken off.
            if before is None or (not before.normalised and self.bias is not None):
                softmax_block_into(
                    block,
                    self.left[head],
                    self.right[head],
                    lse,
                    bias=self.bias,
                    forbidden=self.forbidden,
                    logarithm=recipe.logarithmic,
                )
            else:
                if lse is not None and not before.normalised:
                    block.sub_(lse)
                if before.logarithmic and not recipe.logarithmic:
                    block.exp_()
            if recipe.weighted and self.factor is not None:
                block.mul_(self.factor[head])
            yield at
            before = recipe


@kernel
def _add_block(sums, block, row, source, column):
    for i in range(row.size):
        into = sums[row[i]]
        for j in range(column.size):
            into[column[j]] += block[i, source[j]]


@kernel
def _add_shares(sums, block, row, source, column, row_share, column_share):
    for i in range(row.size):
        into = sums[row[i]]
        for j in range(column.size):
            into[column[j]] += block[i, source[j]] * row_share[i] * column_share[j]


@kernel
def _add_one(counts, row, column):
    for i in range(row.size):
        for j in range(column.size):
            counts[row[i], column[j]] += 1
