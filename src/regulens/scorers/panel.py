"""What does a method of network inference read? Cells × genes, which columns are regulators, and which genes vary.

Methods of this package score every regulator → target pair of one panel. They all leave the same pairs without a
score: a gene with itself, and pairs with a gene that does not vary over the cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from regulens.errors import AlignmentError, ParameterError, examples
from regulens.types.edges import EdgeScores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Expression of some cells, ready for a method.

    Parameters
    ----------
    values
        Float64, shape ``(cell, gene)``, Fortran order, read-only.
    own
        Column of each regulator, int64, shape ``(regulator,)``.
    varies
        Bool, shape ``(gene,)``: the gene has more than one value.
    """

    values: np.ndarray
    genes: tuple[str, ...]
    regulators: tuple[str, ...]
    own: np.ndarray
    varies: np.ndarray

    @classmethod
    def build(
        cls, expression: sp.spmatrix | sp.sparray | np.ndarray, genes: tuple[str, ...], regulators: tuple[str, ...]
    ) -> Panel:
        """Check and densify.

        Raises
        ------
        AlignmentError
            When columns and genes differ in number, or a regulator is no gene.
        ParameterError
            When a value is not finite, or there are fewer than 3 cells.
        """
        genes, regulators = tuple(genes), tuple(regulators)
        if expression.ndim != 2 or expression.shape[1] != len(genes):
            message = f"Expected one column per gene ({len(genes)}), got {expression.shape}. Take the same genes."
            raise AlignmentError(message)
        position = {g: j for j, g in enumerate(genes)}
        lost = [r for r in regulators if r not in position]
        if lost:
            message = f"Expected every regulator among the genes, missing {examples(lost)}. Add them to the genes."
            raise AlignmentError(message)
        dense = expression.toarray() if sp.issparse(expression) else np.asarray(expression)
        values = np.array(dense, dtype=np.float64, order="F")
        if len(values) < 3 or not np.isfinite(values).all():
            message = (
                f"Expected finite expression of at least 3 cells, got {len(values)} cells"
                f"{'' if np.isfinite(values).all() else ' with NaN or infinity'}. Check the cells."
            )
            raise ParameterError(message)
        values.flags.writeable = False
        own = np.array([position[r] for r in regulators], dtype=np.int64)
        varies = np.ptp(values, axis=0) > 0 if len(genes) else np.zeros(0, dtype=bool)
        return cls(values=values, genes=genes, regulators=regulators, own=own, varies=varies)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.values)

    def standardised(self) -> np.ndarray:
        """Columns with mean 0 and (population) variance 1; genes that do not vary are 0. Shape ``(cell, gene)``."""
        centred = self.values - self.values.mean(axis=0)
        scale = np.sqrt(np.square(centred).mean(axis=0))
        return np.divide(centred, scale, out=np.zeros_like(centred), where=self.varies & (scale > 0))

    def scores(self, name: str, values: np.ndarray, **provenance: str) -> EdgeScores:
        """One score of every pair, shape ``(regulator, gene)``, with the pairs that have one marked as observed."""
        observed = self.varies[self.own][:, None] & self.varies[None, :]
        observed[np.arange(len(self.own)), self.own] = False
        return EdgeScores(
            values=np.where(observed, values, 0.0)[None], observed=observed, names=(name,), genes=self.genes,
            regulators=self.regulators, scorer=name, provenance={"n_cells": str(self.n_cells), **provenance},
        )  # fmt: skip
