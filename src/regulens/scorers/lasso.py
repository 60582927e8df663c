"""Which few regulators together predict a target linearly? Absolute coefficients of a lasso per target.

Most regulators of a target have the coefficient 0, so that most pairs are tied at the bottom: mid-ranks count them
as half beaten, and the part of a ranking below the selected pairs is chance.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.scorers.panel import Panel
from regulens.types.edges import EdgeScores

MAX_ITERATIONS, TOLERANCE = 2000, 1e-4


def universal_alpha(n_cells: int, n_regulators: int) -> float:
    """The universal threshold ``√(2 ln p / n)``: noise of p standardised regulators rarely exceeds it.

    >>> round(universal_alpha(559, 150), 3)
    0.134
    """
    return float(np.sqrt(2.0 * np.log(max(n_regulators, 2)) / n_cells))


def lasso_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...],
    alpha: float | None = None,
) -> EdgeScores:  # fmt: skip
    r"""Absolute lasso coefficient of every regulator in the regression of every target.

    .. math:: \min_w \tfrac{1}{2n} \lVert y - X w \rVert^2 + \alpha \lVert w \rVert_1

    with y and the columns of X standardised and a target left out of its own regressors. Solved by scikit-learn's
    coordinate descent on the Gram matrix of the regulators, which is made once.

    Parameters
    ----------
    expression
        log1p(CP10k), shape ``(cell, gene)``.
    genes, regulators
        Axes of the grid; every regulator is one of the genes.
    alpha
        Weight of the penalty, > 0; `universal_alpha` by default (Donoho & Johnstone 1994, noise of unit variance).

    Returns
    -------
    One score, ``lasso``, ≥ 0. Pairs with a constant gene and self-pairs are unobserved.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    panel = Panel.build(expression, genes, regulators)
    alpha = universal_alpha(panel.n_cells, len(panel.own)) if alpha is None else float(alpha)
    if not alpha > 0:
        message = f"Expected alpha > 0, got {alpha}. Leave it out for the universal threshold."
        raise ParameterError(message)
    z = panel.standardised()
    usable = np.flatnonzero(panel.varies[panel.own])
    x = np.asfortranarray(z[:, panel.own[usable]])
    gram, covariance = x.T @ x, x.T @ z  # (regulator, regulator), (regulator, gene)
    values = np.zeros((len(panel.own), len(panel.genes)))
    # a target whose strongest regulator stays below the threshold selects nothing: no fit is needed
    reached = panel.varies & (np.abs(covariance).max(axis=0, initial=0.0) > alpha * panel.n_cells)
    unfinished = 0
    for target in np.flatnonzero(reached):
        use = np.flatnonzero(panel.own[usable] != target)
        if not len(use):
            continue
        model = Lasso(
            alpha=alpha, precompute=np.ascontiguousarray(gram[np.ix_(use, use)]), fit_intercept=False,
            max_iter=MAX_ITERATIONS, tol=TOLERANCE, copy_X=False,
        )  # fmt: skip
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(x[:, use], z[:, target], check_input=False)
        unfinished += any(issubclass(w.category, ConvergenceWarning) for w in caught)
        values[usable[use], target] = np.abs(model.coef_)
    return panel.scores("lasso", values, alpha=f"{alpha:.6g}", targets_not_converged=str(unfinished))


SPEC = ScorerSpec(
    name="lasso",
    version=1,
    function=lasso_scores,
    summary="absolute coefficient of the regulator in a lasso of the target on all regulators",
    source="Tibshirani 1996; Haury et al. 2012",
    needs=("expression",),
    pairwise=True,
)
