"""Does attention say anything about an edge once co-expression and both genes are in the model?

A logistic model of the label on all pairs. Its error leaves out every regulator and every target in turn (one Newton
step from the full fit), because pairs share genes.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from regulens.analyses.gene_model import ridge_logistic
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import Deviations


def _one_step(u: np.ndarray, X: np.ndarray, w: np.ndarray, hessian: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Change of the coefficients when a cluster leaves, ``-(H - H_c)^{-1} s_c``, shape ``(coefficient, cluster)``."""
    number = np.unique(cluster, return_inverse=True)[1]
    order = np.argsort(number, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(number))])
    n, p = len(starts) - 1, X.shape[1]
    own = np.empty((n, p, p))
    score = np.empty((n, p))
    X, w, u = X[order], w[order], u[order]
    for c in range(n):  # over clusters, not pairs
        rows = slice(starts[c], starts[c + 1])
        block = X[rows]
        own[c] = (block * w[rows, None]).T @ block
        score[c] = u[rows] @ block
    left = hessian[None] - own
    return -np.linalg.solve(left, score[:, :, None])[:, :, 0].T


def edge_regression(
    X: np.ndarray, label: np.ndarray, regulator: np.ndarray, target: np.ndarray, *, penalty: float = 1e-3
) -> Inference:
    """Logistic coefficients with clustered errors.

    Parameters
    ----------
    X
        Standardised columns without intercept, shape ``(edge, feature)``.
    label
        Bool, shape ``(edge,)``.
    penalty
        Small ridge, so that collinear gene features have a solution.

    Returns
    -------
    One entry per column of `X`: log odds ratio per standard deviation.
    """
    X = np.column_stack([np.ones(len(X)), X])
    beta, cov = ridge_logistic(X, label, penalty=penalty)
    p = expit(X @ beta)
    w, u = p * (1 - p), label - p
    hessian = np.linalg.inv(cov)
    by_edge = (X @ cov) * u[:, None]
    return default_se(
        Deviations(
            estimate=beta[1:],
            regulator=_one_step(u, X, w, hessian, regulator)[1:],
            target=_one_step(u, X, w, hessian, target)[1:],
            edge_variance=np.square(by_edge).sum(axis=0)[1:],
        )
    )
