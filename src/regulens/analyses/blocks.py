"""What is the score of any union of blocks of cells? Sums and counts per block, merged for many unions at once.

A stratum, a subsample or a permuted label is a row of weights over blocks (partitions of the store); merged scores are
weights times sums over weights times counts. Everything that resamples cells goes through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from regulens.analyses.partitions import PartitionView
from regulens.scorers.stratified import Strata
from regulens.types.attention import Direction

#: Numbers (float64) that merged draws may take at a time.
_CHUNK = 2_000_000


def block_sums(view: PartitionView, score: str, *, direction: Direction | str) -> np.ndarray:
    """Sums of one score by block, float64, shape ``(block, regulator, target)``.

    Parameters
    ----------
    score
        ``pooled``, a layer ``L03_mean`` or a head ``L03_H01``.
    """
    if score == "pooled":
        return view.sums(direction=direction)
    layer = int(score[1:3])
    if score.endswith("mean"):
        return view.sums(layer, direction=direction)
    rows = [view.summary.regulators.index(r) for r in view.universe.regulators]
    place = {g: i for i, g in enumerate(view.summary.genes)}
    columns = [place[g] for g in view.universe.genes]
    axis, head = Direction(direction).axis, int(score[5:7])
    return np.stack(
        [
            np.asarray(view.summary.sums[p, layer, head, axis], dtype=np.float64)[np.ix_(rows, columns)]
            for p in range(len(view.table))
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockScores:
    """One score of some pairs by block of cells.

    Parameters
    ----------
    sums, counts
        Float64, shape ``(block, pair)``.
    cells
        Cells of each block, shape ``(block,)``.
    min_cells
        A pair that met in fewer cells of a union has no score of its own there.
    """

    sums: np.ndarray
    counts: np.ndarray
    cells: np.ndarray
    min_cells: int

    def at(self, *, blocks: np.ndarray | None = None, pairs: np.ndarray | None = None) -> BlockScores:
        """Some blocks and some pairs (bool or index)."""
        b = slice(None) if blocks is None else blocks
        p = slice(None) if pairs is None else pairs
        return BlockScores(
            sums=self.sums[b][:, p], counts=self.counts[b][:, p], cells=self.cells[b], min_cells=self.min_cells
        )

    @property
    def pooled(self) -> np.ndarray:
        """Score over all blocks, shape ``(pair,)``; 0 where the pair never met."""
        counts = self.counts.sum(axis=0)
        return np.divide(self.sums.sum(axis=0), counts, out=np.zeros(len(counts)), where=counts > 0)

    def means(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score and co-presence count of unions of blocks, shape ``(union, pair)``; 0 where a pair never met.

        Parameters
        ----------
        weight
            Shape ``(union, block)``; 1 for a block that belongs to it.
        """
        weight = np.asarray(weight, dtype=np.float64)
        counts = weight @ self.counts
        return np.divide(weight @ self.sums, counts, out=np.zeros(counts.shape), where=counts > 0), counts

    def strata(self, labels: np.ndarray, k: int, *, errors: bool = False) -> Strata:
        """Scores within strata; a pair that met in too few cells of a stratum takes its pooled score there.

        That stratum then says nothing about the pair: it adds neither a maximum nor a deviation of its own.

        Parameters
        ----------
        labels
            Stratum of each block in 0 … k − 1, negative for none; shape ``(draw, block)`` or ``(block,)``.
        errors
            Add standard errors from the spread of blocks within strata.

        Returns
        -------
        Scores of shape ``(draw, stratum, pair)`` (or without the first axis), sizes in cells.
        """
        labels = np.asarray(labels)
        member = (labels[..., None, :] == np.arange(k)[:, None]).astype(np.float64)  # (draw, stratum, block)
        flat = member.reshape(-1, member.shape[-1])
        found, counts = self.means(flat)
        pooled = self.pooled
        own = counts >= self.min_cells
        scores = np.where(own, found, pooled)
        shape = (*labels.shape[:-1], k, -1)
        se = None
        if errors:
            squares = np.divide(self.sums**2, self.counts, out=np.zeros(self.sums.shape), where=self.counts > 0).sum(0)
            within = squares - (counts * found**2).reshape(shape).sum(axis=-2)
            df = (self.counts > 0).sum(axis=0) - (counts > 0).reshape(shape).sum(axis=-2)
            spread = np.sqrt(np.maximum(within, 0.0) / np.maximum(df, 1))[..., None, :]
            total = np.maximum(self.counts.sum(axis=0), 1.0)
            se = spread / np.sqrt(np.where(own, np.maximum(counts, 1.0), total)).reshape(shape)
        return Strata(scores=scores.reshape(shape), sizes=member @ self.cells, pooled=pooled, se=se)

    def imputed_share(self, labels: np.ndarray, k: int) -> float:
        """Share of (stratum, pair) that took the pooled score."""
        member = (np.asarray(labels)[None, :] == np.arange(k)[:, None]).astype(np.float64)
        return float((member @ self.counts < self.min_cells).mean())

    def chunks(self, n_draws: int, k: int) -> Iterator[slice]:
        """Draws that fit into memory together."""
        step = max(1, _CHUNK // max(3 * k * self.sums.shape[1], 1))
        for start in range(0, n_draws, step):
            yield slice(start, min(start + step, n_draws))
