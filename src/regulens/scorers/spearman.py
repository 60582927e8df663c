"""How strongly do two genes rise and fall together? The absolute Spearman correlation of `coexpression`, alone."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from regulens.scorers.base import ScorerSpec
from regulens.scorers.coexpression import coexpression_scores
from regulens.types.edges import EdgeScores


def spearman_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...]
) -> EdgeScores:
    """Absolute Spearman correlation of regulator and target, under the name of the method.

    Parameters
    ----------
    expression
        Shape ``(cell, gene)``, any monotone scale per gene.
    genes, regulators
        Axes of the grid; every regulator is one of the genes.

    Returns
    -------
    One score, ``spearman``, in [0, 1], equal to ``coexpression_abs`` of `coexpression_scores`.
    """
    found = coexpression_scores(expression, genes=genes, regulators=regulators)
    return EdgeScores(
        values=found.values[:1], observed=found.observed, names=("spearman",), genes=found.genes,
        regulators=found.regulators, scorer="spearman", provenance=dict(found.provenance),
    )  # fmt: skip


SPEC = ScorerSpec(
    name="spearman",
    version=1,
    function=spearman_scores,
    summary="absolute Spearman correlation over the same cells",
    source="Spearman 1904",
    needs=("expression",),
    pairwise=True,
)
