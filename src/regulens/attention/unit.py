"""What do the cells of one unit of work add up to? The job that a worker is given, and the pass that does it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from regulens.attention.accumulate import PairAxes, add_counts, add_layer, places
from regulens.attention.layout import Unit
from regulens.attention.recipes import PROBABILITY, Recipe, projection
from regulens.models.base import AbstractAdapter, LayerAttention
from regulens.types.cells import Cells


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What some cells of one partition add up to.

    Parameters
    ----------
    sums
        Float64, shape ``(layer, head, direction, regulator, target)``.
    counts
        Int32, shape ``(regulator, target)``.
    tokens
        Int64, shape ``(2, cell)``: real tokens of each cell, in the order in which they were run; and 1 where a
        regulator or target had several of them, otherwise 0.
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
    layers
        Layers ``(first, stop)`` that this pass adds up; all by default.
    """

    adapter: AbstractAdapter
    cells: Cells
    axes: PairAxes
    seed: int
    recipe: Recipe = PROBABILITY
    layers: tuple[int, int] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """First layer of the pass, and the one after its last."""
        return (0, self.adapter.card.n_layers) if self.layers is None else self.layers

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of a unit's sums."""
        first, stop = self.span
        return (stop - first, self.adapter.card.n_heads, 2, len(self.axes.own), int(self.axes.target.max()) + 1)

    @property
    def whole(self) -> tuple[int, int, int, int, int]:
        """Shape of the sums of all layers."""
        return (self.adapter.card.n_layers, *self.shape[1:])


class _Enough(Exception):
    """Raised by the tap after the last layer that a pass needs."""


def run_unit(job: Job, unit: Unit) -> Gathered:
    """Run the cells of a unit and add up their attention, batch by batch, in order."""
    sums = np.zeros(job.shape, dtype=np.float64)
    counts = np.zeros(job.shape[-2:], dtype=np.int32)
    tokens = []
    first, stop = job.span
    for rows in unit.batches:
        batch = job.adapter.tokenize(job.cells, np.array(rows, dtype=np.int64), seed=job.seed)
        found = places(batch, job.axes)

        def tap(layer: LayerAttention, found: list = found) -> None:
            if layer.layer >= first:
                by_head = projection(job.adapter, layer.layer) if job.recipe.weighted else None
                add_layer(sums, layer, found, recipe=job.recipe, by_head=by_head, first=first)
            if layer.layer + 1 == stop < job.adapter.card.n_layers:
                raise _Enough

        with contextlib.suppress(_Enough):
            job.adapter.forward(batch, tap=tap)
        add_counts(counts, found)
        tokens.append([batch.mask.sum(axis=1), [place.repeats for place in found]])
    return Gathered(sums, counts, np.concatenate(tokens, axis=1).astype(np.int64))
