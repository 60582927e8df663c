"""How strongly do two genes vary together over the very cells that attention was read in?

Spearman correlation with average ranks, equal to `scipy.stats.spearmanr`; genes that do not vary have none.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from regulens.errors import AlignmentError, examples
from regulens.scorers.base import ScorerSpec
from regulens.stats.correlation import spearman
from regulens.types.edges import EdgeScores


def coexpression_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...]
) -> EdgeScores:
    """Absolute and signed Spearman correlation of regulator and target.

    Parameters
    ----------
    expression
        Shape ``(cell, gene)``, sparse or dense, any monotone scale per gene; columns in the order of `genes`.
    genes, regulators
        Axes of the grid; every regulator is one of the genes.

    Returns
    -------
    ``coexpression_abs`` in [0, 1] and ``coexpression_signed`` in [−1, 1]; pairs with a constant gene and self-pairs
    are unobserved.
    """
    if expression.shape[1] != len(genes):
        message = f"Expected one column per gene ({len(genes)}), got {expression.shape[1]}. Take the same genes."
        raise AlignmentError(message)
    position = {g: j for j, g in enumerate(genes)}
    lost = [r for r in regulators if r not in position]
    if lost:
        message = f"Expected every regulator among the genes, missing {examples(lost)}. Add them to the genes."
        raise AlignmentError(message)
    own = np.array([position[r] for r in regulators], dtype=np.int64)
    rho = np.asarray(spearman(expression[:, own], expression), dtype=np.float64)  # (regulator, gene)
    observed = np.isfinite(rho)
    observed[np.arange(len(own)), own] = False
    rho = np.where(observed, rho, 0.0)
    return EdgeScores(
        values=np.stack([np.abs(rho), rho]),
        observed=observed,
        names=("coexpression_abs", "coexpression_signed"),
        genes=genes,
        regulators=regulators,
        scorer="coexpression",
        provenance={"n_cells": str(expression.shape[0])},
    )


SPEC = ScorerSpec(
    name="coexpression",
    version=1,
    function=coexpression_scores,
    summary="Spearman correlation over the same cells, absolute and signed",
    source="Spearman 1904",
    needs=("expression",),
    pairwise=True,
)
