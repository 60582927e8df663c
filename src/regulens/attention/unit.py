"""What do the cells of one unit of work add up to? The job that a worker is given, and the pass that does it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regulens.attention.accumulate import PairAxes, add_counts, add_recipes, places
from regulens.attention.layout import Unit
from regulens.attention.memory import is_shortage
from regulens.attention.recipes import PROBABILITY, Recipe, projection
from regulens.errors import ParameterError
from regulens.models.base import AbstractAdapter, LayerAttention
from regulens.types.cells import Cells

#: Type in which matrix products of the model are done, by name; None leaves them as they are.
PRECISIONS: dict[str, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What some cells of one partition add up to under one recipe.

    Parameters
    ----------
    sums
        Float64, shape ``(layer, head, direction, regulator, target)``.
    counts
        Int32, shape ``(regulator, target)``.
    tokens
        Int64, shape ``(3, cell)``: real tokens of each cell, in the order in which they were run; 1 where a regulator
        or target had several of them; 1 where the cell's batch had to be cut because memory ran out; otherwise 0.
    """

    sums: np.ndarray
    counts: np.ndarray
    tokens: np.ndarray

    def add(self, other: Gathered) -> Gathered:
        """Add another to this one, in place of this one's arrays."""
        np.add(self.sums, other.sums, out=self.sums)
        np.add(self.counts, other.counts, out=self.counts)
        return Gathered(self.sums, self.counts, np.concatenate([self.tokens, other.tokens], axis=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What a worker has to know, the same for all units of a pass.

    Parameters
    ----------
    recipes
        What is summed, each in sums of its own.
    layers
        Layers ``(first, stop)`` that this pass adds up; all by default.
    precision
        Name of the type in which matrix products are done, from `PRECISIONS`; the weights have been cast already.
    device
        Where the model lies.
    """

    adapter: AbstractAdapter
    cells: Cells
    axes: PairAxes
    seed: int
    recipes: tuple[Recipe, ...] = (PROBABILITY,)
    layers: tuple[int, int] | None = None
    precision: str = "float32"
    device: str = "cpu"

    @property
    def span(self) -> tuple[int, int]:
        """First layer of the pass, and the one after its last."""
        return (0, self.adapter.card.n_layers) if self.layers is None else self.layers

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of a unit's sums under one recipe."""
        first, stop = self.span
        return (stop - first, self.adapter.card.n_heads, 2, len(self.axes.own), int(self.axes.target.max()) + 1)

    @property
    def whole(self) -> tuple[int, int, int, int, int]:
        """Shape of the sums of all layers under one recipe."""
        return (self.adapter.card.n_layers, *self.shape[1:])


class _Enough(Exception):
    """Raised by the tap after the last layer that a pass needs."""


def run_unit(job: Job, unit: Unit) -> tuple[Gathered, ...]:
    """Run the cells of a unit and add up their attention, batch by batch, in order; one `Gathered` per recipe.

    Where memory runs out on a batch, the whole unit is begun again with that batch and those after it, whose cells are
    longer, cut in two; so on down to single cells. A unit always begins with its own batches: what other units met
    with does not enter.

    Raises
    ------
    MemoryError, RuntimeError
        When memory runs out on a single cell.
    """
    sums = [np.zeros(job.shape, dtype=np.float64) for _ in job.recipes]
    counts = np.zeros(job.shape[-2:], dtype=np.int32)
    batches = [(rows, False) for rows in unit.batches]
    while True:
        tokens: list[np.ndarray] = []
        try:
            for rows, cut in batches:
                tokens.append(_add_batch(job, rows, sums, counts, cut=cut))
        except (MemoryError, RuntimeError) as problem:
            if len(batches[len(tokens)][0]) == 1 or not is_shortage(problem):
                raise
        else:
            if job.precision != "float32" and not all(np.isfinite(s).all() for s in sums):
                refuse_overflow(job)
            return gathered(sums, counts, np.concatenate(tokens, axis=1))
        # Outside of the handler, whose traceback holds on to the tensors that did not fit.
        batches = _cut(batches, len(tokens))
        for array in (*sums, counts):
            array[:] = 0
        if job.device == "cuda":
            torch.cuda.empty_cache()


def gathered(sums: Sequence[np.ndarray], counts: np.ndarray, tokens: np.ndarray) -> tuple[Gathered, ...]:
    """One `Gathered` per recipe, none of which shares an array that is added to."""
    return tuple(Gathered(s, counts if i == 0 else counts.copy(), tokens) for i, s in enumerate(sums))


def refuse_overflow(job: Job) -> None:
    """Say that half precision cannot hold what the model computes.

    Raises
    ------
    ParameterError
        Always.
    """
    message = (
        f"Expected finite attention in {job.precision}, got values that overflow: the states of "
        f"{job.adapter.card.name} leave its range. Use float32 or bfloat16."
    )
    raise ParameterError(message)


def _cut(batches: list[tuple[tuple[int, ...], bool]], first: int) -> list[tuple[tuple[int, ...], bool]]:
    """Batches of a unit with those from position `first` on cut in two, and marked.

    >>> _cut([((1, 2), False), ((3, 4, 5), False), ((6,), False)], 1)
    [((1, 2), False), ((3, 4), True), ((5,), True), ((6,), False)]
    """
    out = batches[:first]
    for rows, cut in batches[first:]:
        middle = -(-len(rows) // 2)
        out += [(rows[:middle], True), (rows[middle:], True)] if len(rows) > 1 else [(rows, cut)]
    return out


def _add_batch(
    job: Job, rows: tuple[int, ...], sums: Sequence[np.ndarray], counts: np.ndarray, *, cut: bool
) -> np.ndarray:
    """Run one batch and add it to the sums and counts; returns its columns of `Gathered.tokens`."""
    first, stop = job.span
    # These cells alone, in memory, wherever the others are: what a model makes of a cell depends on no other.
    cells = job.cells.load(np.array(rows, dtype=np.int64))
    batch = job.adapter.tokenize(cells, np.arange(cells.n_cells), seed=job.seed)
    found = places(batch, job.axes)

    def tap(layer: LayerAttention) -> None:
        if layer.layer >= first:
            weighted = any(recipe.weighted for recipe in job.recipes)
            by_head = projection(job.adapter, layer.layer) if weighted else None
            with torch.autocast(job.device, enabled=False):
                add_recipes(sums, layer, found, recipes=job.recipes, by_head=by_head, first=first)
        if layer.layer + 1 == stop < job.adapter.card.n_layers:
            raise _Enough

    with contextlib.suppress(_Enough), multiplying_in(job.precision, job.device):
        job.adapter.forward(batch, tap=tap)
    add_counts(counts, found)
    repeats = [place.repeats for place in found]
    return np.array([batch.mask.sum(axis=1), repeats, [cut] * len(rows)], dtype=np.int64)


@contextlib.contextmanager
def multiplying_in(precision: str, device: str) -> Iterator[None]:
    """Have matrix products done in another precision for a while; nothing for float32."""
    dtype = PRECISIONS[precision]
    if dtype is None:
        yield
        return
    with torch.autocast(device, dtype=dtype):
        yield
