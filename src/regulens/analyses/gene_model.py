"""What is the best score that knows each gene alone? A logistic model on both genes' features, on unseen genes.

Both genes of a pair are absent from the data its score is fitted on, so the model can use what features mean but
cannot remember which genes are in the reference. A regulator's number of targets is no feature: it is the label.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, ndtri
from scipy.stats import rankdata

from regulens.analyses.base import GeneFeatures
from regulens.types.labelled import LabelledEdges


def normal_scores(x: np.ndarray) -> np.ndarray:
    """Ranks mapped to normal quantiles, mean 0 and SD 1; a constant gives zeros.

    >>> normal_scores(np.array([3.0, 1.0, 2.0])).round(2).tolist()
    [1.22, -1.22, 0.0]
    """
    z = ndtri((rankdata(x) - 0.5) / len(x))
    z -= z.mean()
    sd = z.std()
    return z / sd if sd > 0 else np.zeros(len(x))


def ridge_logistic(
    X: np.ndarray, y: np.ndarray, *, penalty: float, max_iter: int = 50, tol: float = 1e-8
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum penalised likelihood of a logistic model by Newton steps.

    Minimises ``-loglik + penalty/2 * |coefficients without intercept|^2``. Equal to scikit-learn's
    ``LogisticRegression(C=1/penalty)``.

    Parameters
    ----------
    X
        Shape ``(row, feature)``, first column 1 (the intercept, not penalised).
    y
        Bool, shape ``(row,)``.

    Returns
    -------
    Coefficients ``(feature,)`` and the inverse of the penalised information matrix ``(feature, feature)``.
    """
    ridge = np.full(X.shape[1], penalty)
    ridge[0] = 0.0
    share = np.clip(y.mean(), 1e-6, 1 - 1e-6)
    beta = np.zeros(X.shape[1])
    beta[0] = np.log(share / (1 - share))
    for _ in range(max_iter):
        p = expit(X @ beta)
        w = np.maximum(p * (1 - p), 1e-10)
        hessian = (X * w[:, None]).T @ X + np.diag(ridge) + 1e-10 * np.eye(len(beta))
        step = np.linalg.solve(hessian, X.T @ (y - p) - ridge * beta)
        size = np.abs(step).max()
        beta += step * min(1.0, 4.0 / max(size, 1e-300))  # a long step is shortened: separation must not diverge
        if size < tol:
            break
    p = expit(X @ beta)
    w = np.maximum(p * (1 - p), 1e-10)
    return beta, np.linalg.inv((X * w[:, None]).T @ X + np.diag(ridge) + 1e-10 * np.eye(len(beta)))


def _design(z: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Both genes' features, their squares and all products of one gene's with the other's, ``(pair, column)``."""
    a, b = z[i], z[j]
    cross = (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)
    return np.column_stack([np.ones(len(a)), a, b, a**2 - 1, b**2 - 1, cross])


def gene_only_scores(
    edges: LabelledEdges, features: GeneFeatures, own: np.ndarray, *, rng: np.random.Generator,
    n_folds: int = 5, negatives_per_positive: int = 10, penalty: float = 1.0,
) -> tuple[np.ndarray | None, dict[str, int], str]:  # fmt: skip
    """Cross-fitted gene-only score of every pair.

    Genes are dealt into folds, regulators balanced by their positives. The pairs with regulator in fold f and target
    in fold g are scored by a model fitted on the pairs whose regulator and target are both outside f and g. Features
    are normal scores of mean, variance and detection, so that no monotone change of scale matters; the design holds
    their squares and all products across the two genes. Predictions leave the intercept out: blocks fitted on
    different pairs are then on one scale.

    Parameters
    ----------
    own
        Gene position of each regulator row, shape ``(regulator,)``.
    negatives_per_positive
        Fitting uses all positives and at most this many random negatives for each; every pair is still scored.

    Returns
    -------
    Scores ``(edge,)`` (None when a training set has fewer than 5 positives), counts, and the reason for None.
    """
    z = np.column_stack([normal_scores(x) for x in (features.mean, features.variance, features.detection)])
    n_genes = len(features.genes)
    fold = np.empty(n_genes, dtype=np.int64)
    fold[rng.permutation(n_genes)] = np.arange(n_genes) % n_folds
    load = np.bincount(edges.regulator[edges.label], minlength=len(own))
    order = rng.permutation(len(own))
    order = order[np.argsort(-load[order], kind="stable")]
    lap = np.arange(len(own)) // n_folds
    place = np.arange(len(own)) % n_folds
    fold[own[order]] = np.where(lap % 2 == 0, place, n_folds - 1 - place)  # there and back, to balance positives
    f, g = fold[own[edges.regulator]], fold[edges.target]
    score = np.zeros(len(edges.label))
    fitted = available = 0
    for a in range(n_folds):
        for b in range(a, n_folds):
            outside = (f != a) & (f != b) & (g != a) & (g != b)
            pos = np.flatnonzero(outside & edges.label)
            neg = np.flatnonzero(outside & ~edges.label)
            if len(pos) < 5 or len(neg) < 5:
                return None, {}, f"a training set of the gene-only model has {len(pos)} positives; 5 are needed"
            available += len(neg)
            if len(neg) > negatives_per_positive * len(pos):
                neg = np.sort(rng.choice(neg, negatives_per_positive * len(pos), replace=False))
            fitted += len(neg)
            rows = np.concatenate([pos, neg])
            X = _design(z, own[edges.regulator[rows]], edges.target[rows])
            beta, _ = ridge_logistic(X, edges.label[rows], penalty=penalty)
            held = np.flatnonzero(((f == a) & (g == b)) | ((f == b) & (g == a)))
            score[held] = _design(z, own[edges.regulator[held]], edges.target[held])[:, 1:] @ beta[1:]
    return score, {"negatives available to fits": available, "negatives used in fits": fitted}, ""
