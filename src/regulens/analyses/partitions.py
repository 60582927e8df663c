"""What can an analysis ask of groups of cells? Attention and cells by partition, on the universe's grid.

The store keeps sums and co-presence counts per partition (cell state × donor × random block); a stratum, a donor, a
subsample or a bootstrap draw is a set of partitions, or a weight for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.errors import AlignmentError
from regulens.scorers.attention import attention_scores
from regulens.types.attention import AttentionSummary, Direction
from regulens.types.edges import EdgeScores, EdgeUniverse


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartitionView:
    """Attention by partition, restricted to one universe, and which cells each partition holds.

    Parameters
    ----------
    summary
        Sums and counts of every partition; may have more genes than the universe.
    cell_partition
        Int64, shape ``(cell,)``, rows as in `AnalysisInput.expression`; -1 for a cell without attention.
    min_cells
        Cells in which a pair must have met to be observed.
    """

    summary: AttentionSummary
    universe: EdgeUniverse
    cell_partition: np.ndarray
    min_cells: int

    def __post_init__(self) -> None:
        top = int(self.cell_partition.max(initial=-1))
        if top >= len(self.table):
            message = f"Expected partitions below {len(self.table)}, got {top}. Use the cells of this store."
            raise AlignmentError(message)

    @property
    def table(self) -> pd.DataFrame:
        """One row per partition: ``partition``, one column per role, ``block``, ``n_cells``."""
        return self.summary.partitions

    def cells_of(self, partitions: np.ndarray) -> np.ndarray:
        """Rows of the cells of some partitions, ascending."""
        return np.flatnonzero(np.isin(self.cell_partition, partitions))

    def scores(
        self,
        partitions: np.ndarray | None = None,
        *,
        direction: Direction | str = Direction.REGULATOR_ATTENDS,
        min_cells: int | None = None,
    ) -> EdgeScores:
        """Scores of all heads, layers and their mean over the cells of some partitions, on the universe's grid."""
        return attention_scores(
            self.summary, direction=direction, min_cells=self.min_cells if min_cells is None else min_cells,
            partitions=None if partitions is None else [int(p) for p in partitions],
        ).on(self.universe)  # fmt: skip

    def counts(self) -> np.ndarray:
        """Cells in which both genes were tokens, int64, shape ``(partition, regulator, target)`` of the universe."""
        rows, columns = self._places()
        every = range(len(self.table))
        return np.stack([np.asarray(self.summary.counts[p])[np.ix_(rows, columns)] for p in every]).astype(np.int64)

    def sums(self, layer: int | None = None, *, direction: Direction | str = Direction.REGULATOR_ATTENDS) -> np.ndarray:
        """Attention summed over the cells of each partition, averaged over the heads of a layer or over all heads.

        Returns
        -------
        Float64, shape ``(partition, regulator, target)``. Divided by `counts` (both merged over partitions first) it
        is the score ``L03_mean`` of a layer, or ``pooled`` for `layer` None.
        """
        rows, columns = self._places()
        axis = Direction(direction).axis
        layers = range(self.summary.n_layers) if layer is None else (layer,)
        out = np.zeros((len(self.table), len(rows), len(columns)))
        for p in range(len(self.table)):
            for l in layers:
                heads = np.asarray(self.summary.sums[p, l, :, axis], dtype=np.float64)
                out[p] += heads.mean(axis=0)[np.ix_(rows, columns)]
        return out / len(layers)

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        of_regulator = {g: i for i, g in enumerate(self.summary.regulators)}
        of_gene = {g: i for i, g in enumerate(self.summary.genes)}
        return (
            np.array([of_regulator[r] for r in self.universe.regulators], dtype=np.int64),
            np.array([of_gene[g] for g in self.universe.genes], dtype=np.int64),
        )
