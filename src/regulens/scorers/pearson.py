"""How strongly are two genes linearly related? Absolute Pearson correlation, equal to `numpy.corrcoef`."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from regulens.scorers.base import ScorerSpec
from regulens.scorers.panel import Panel
from regulens.types.edges import EdgeScores


def pearson_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...]
) -> EdgeScores:
    """Absolute Pearson correlation of regulator and target.

    Parameters
    ----------
    expression
        log1p(CP10k), sparse or dense, shape ``(cell, gene)``, columns in the order of `genes`.
    genes, regulators
        Axes of the grid; every regulator is one of the genes.

    Returns
    -------
    One score, ``pearson``, in [0, 1]. Pairs with a constant gene and self-pairs are unobserved.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [2.0, 0.0], [3.0, 1.0]])
    >>> pearson_scores(x, genes=("A", "B"), regulators=("A",)).values[0].round(3).tolist()
    [[0.0, 0.5]]
    """
    panel = Panel.build(expression, genes, regulators)
    z = panel.standardised()
    return panel.scores("pearson", np.minimum(np.abs(z[:, panel.own].T @ z) / panel.n_cells, 1.0))


SPEC = ScorerSpec(
    name="pearson",
    version=1,
    function=pearson_scores,
    summary="absolute Pearson correlation of log1p(CP10k) over the same cells",
    source="Pearson 1895",
    needs=("expression",),
    pairwise=True,
)
