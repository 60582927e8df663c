"""Are two genes still related once all others are held? Absolute full-order partial correlation, shrunken.

With fewer cells than genes the covariance has no inverse; it is shrunk towards a multiple of the identity, on
standardised genes, with scikit-learn's Ledoit–Wolf or OAS intensity.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.scorers.panel import Panel
from regulens.types.edges import EdgeScores


def partial_correlation_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...],
    shrinkage: Literal["ledoit_wolf", "oas"] = "ledoit_wolf",
) -> EdgeScores:  # fmt: skip
    r"""Absolute partial correlation of regulator and target given all other genes of the panel.

    .. math:: r_{ij \cdot rest} = -\frac{\omega_{ij}}{\sqrt{\omega_{ii}\,\omega_{jj}}},
              \quad \Omega = \big((1 - \delta) S + \delta \bar{s} I\big)^{-1}

    Parameters
    ----------
    expression
        log1p(CP10k), shape ``(cell, gene)``.
    genes, regulators
        Axes of the grid; every regulator is one of the genes. What is held is every other gene of `genes`, not the
        regulators alone.
    shrinkage
        Where δ comes from: ``ledoit_wolf`` (Ledoit & Wolf 2004) or ``oas`` (Chen et al. 2010).

    Returns
    -------
    One score, ``partial_correlation``, in [0, 1]. Pairs with a constant gene and self-pairs are unobserved.
    """
    from sklearn.covariance import ledoit_wolf, oas

    if shrinkage not in ("ledoit_wolf", "oas"):
        message = f"Expected shrinkage 'ledoit_wolf' or 'oas', got {shrinkage!r}."
        raise ParameterError(message)
    panel = Panel.build(expression, genes, regulators)
    values = np.zeros((len(panel.own), len(panel.genes)))
    kept = np.flatnonzero(panel.varies)
    amount = 0.0
    if len(kept) > 1:
        z = panel.standardised()[:, kept]
        covariance, amount = (ledoit_wolf if shrinkage == "ledoit_wolf" else oas)(z, assume_centered=True)
        precision = cho_solve(cho_factor(covariance), np.eye(len(kept)))
        scale = np.sqrt(np.diag(precision))
        partial = np.minimum(np.abs(precision) / np.outer(scale, scale), 1.0)
        place = np.full(len(panel.genes), -1)
        place[kept] = np.arange(len(kept))
        rows = place[panel.own]
        values[np.ix_(rows >= 0, kept)] = partial[rows[rows >= 0]]
    return panel.scores("partial_correlation", values, shrinkage=shrinkage, intensity=f"{float(amount):.6g}")


SPEC = ScorerSpec(
    name="partial_correlation",
    version=1,
    function=partial_correlation_scores,
    summary="absolute partial correlation given all other genes, covariance shrunk by Ledoit-Wolf",
    source="Schäfer & Strimmer 2005; Ledoit & Wolf 2004",
    needs=("expression",),
    pairwise=True,
)
