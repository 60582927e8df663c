"""What does an L2 logistic model of gene features and pair scores predict, and how, fitted to other perturbations?

Gene features repeat in every perturbation, so all sums go over the grid perturbation × gene as matrix products. The
sums are kept by perturbation: a fit to resampled perturbations is one Newton step from the fit to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtri

from regulens.errors import StatisticsError

#: Weight of ``|coefficients|²/2``; scikit-learn's ``C = 1``.
RIDGE = 1.0
_KNOTS = 4096


def curved(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Intercept, features, their squares and products, standardised, shape ``(gene, 1 + k)``.

    Features are normal quantiles of their ranks among the training genes, so that no single gene of huge variance
    rules the fit, and what a straight line misses of expression is not credited to a score.

    Parameters
    ----------
    features
        Shape ``(gene, feature)``.
    weight
        Training pairs of every gene, shape ``(gene,)``: ranks, means and deviations are those of the training side.
    """
    seen = weight > 0
    x = _standard(np.column_stack([normal_scores(trained_ranks(f, f[seen])) for f in features.T]), weight)
    n = x.shape[1]
    products = [x[:, a] * x[:, b] for a in range(n) for b in range(a, n)]
    return np.column_stack([np.ones(len(x)), x, _standard(np.column_stack(products), weight)])


def plain(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Intercept and standardised features, as `curved` without squares and products."""
    return np.column_stack([np.ones(len(features)), _standard(features, weight)])


def _standard(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    mean = np.average(x, axis=0, weights=weight)
    sd = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    return np.where(sd > 1e-12 * (1 + np.abs(mean)), (x - mean) / np.where(sd > 0, sd, 1.0), 0.0)


def trained_ranks(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Share of the training values below each value, ties one half, in (0, 1); same shape as `values`.

    From up to 4,096 order statistics of `train`, so that no single test value matters.

    >>> trained_ranks(np.array([0.0, 2.0, 9.0]), np.array([1.0, 2.0, 2.0, 3.0])).tolist()
    [0.1, 0.5, 0.9]
    """
    knots = np.sort(train, axis=None)
    if knots.size > _KNOTS:
        knots = knots[np.linspace(0, knots.size - 1, _KNOTS).astype(np.int64)]
    below = np.searchsorted(knots, values, side="left") + np.searchsorted(knots, values, side="right")
    return (0.5 * below + 0.5) / (knots.size + 1)


def normal_scores(rank: np.ndarray) -> np.ndarray:
    """Normal quantiles of `trained_ranks`."""
    return ndtri(rank)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogisticFit:
    """A fitted model, with what is needed to fit it to other weights of the perturbations.

    Parameters
    ----------
    coefficient
        Intercept, gene columns, pair columns; shape ``(coefficient,)``.
    slope
        Gradient of the log likelihood at `coefficient`, by perturbation, shape ``(perturbation, coefficient)``.
    curvature
        Minus its Hessian, shape ``(perturbation, coefficient, coefficient)``.
    """

    coefficient: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray

    def refitted(self, weight: np.ndarray) -> np.ndarray:
        """Coefficients for other weights of the perturbations, one Newton step from here.

        Parameters
        ----------
        weight
            Shape ``(draw, perturbation)``, >= 0; 1 for all gives the fit itself.

        Returns
        -------
        Shape ``(draw, coefficient)``.
        """
        n = self.coefficient.size
        penalty = _penalty(n)
        slope = weight @ self.slope - penalty * self.coefficient
        curvature = (weight @ self.curvature.reshape(len(self.curvature), -1)).reshape(-1, n, n) + np.diag(penalty)
        curvature[:, 0, 0] += 1e-9  # a draw without a single training perturbation stays where it is
        return self.coefficient + np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]


def _penalty(n: int) -> np.ndarray:
    return np.where(np.arange(n) == 0, 0.0, RIDGE)  # the intercept is free


def log_odds(gene: np.ndarray, pair: np.ndarray, coefficient: np.ndarray) -> np.ndarray:
    """Predicted log odds without the intercept, so over the mean of the training side; shape ``(perturbation, gene)``.

    Parameters
    ----------
    gene
        From `curved`, shape ``(gene, 1 + k)``.
    pair
        Standardised scores of the pairs, shape ``(score, perturbation, gene)``.
    """
    k = gene.shape[1]
    out = np.broadcast_to(gene[:, 1:] @ coefficient[1:k], pair.shape[1:]).copy()
    for values, c in zip(pair, coefficient[k:]):
        out += c * values
    return out


def count_classes(label: np.ndarray, use: np.ndarray) -> tuple[int, int]:
    """Responding pairs and all pairs of a training side; `StatisticsError` where one class is missing.

    Parameters
    ----------
    label, use
        As in `fit_logistic`.
    """
    n_pos, n = int((label & use).sum()), int(use.sum())
    if n_pos == 0 or n_pos == n:
        message = f"Expected responding and other pairs on the training side, got {n_pos} of {n}. Use fewer folds."
        raise StatisticsError(message)
    return n_pos, n


def fit_logistic(
    gene: np.ndarray, pair: np.ndarray, label: np.ndarray, use: np.ndarray, *, start: np.ndarray | None = None
) -> LogisticFit:
    """L2 logistic regression by Newton's method.

    Parameters
    ----------
    gene
        Intercept and gene columns, shape ``(gene, 1 + k)``.
    pair
        Shape ``(score, perturbation, gene)``; no score is allowed.
    label, use
        Bool, shape ``(perturbation, gene)``: responses, and the pairs that take part.
    start
        Coefficients to begin with; missing ones are 0.

    Raises
    ------
    StatisticsError
        One class only, or no convergence.
    """
    n_pos, n = count_classes(label, use)
    beta = np.zeros(gene.shape[1] + len(pair))
    beta[0] = logit(n_pos / n)
    if start is not None:
        beta[: start.size] = start
    penalty = _penalty(beta.size)
    y = np.where(use, label, 0.0)
    free = np.where(penalty == 0, 1e-9, 0.0)  # curvature of the intercept where all pairs are certain

    def likelihood(b: np.ndarray) -> float:
        eta = b[0] + log_odds(gene, pair, b)
        return float(np.where(use, y * eta - np.logaddexp(0.0, eta), 0.0).sum() - 0.5 * (penalty * b**2).sum())

    best = likelihood(beta)
    for _ in range(100):
        slope, curvature = _sums(gene, pair, y, use, beta, by_row=False)
        step = np.linalg.solve(curvature[0] + np.diag(penalty + free), slope[0] - penalty * beta)
        size, now = 1.0, likelihood(beta + step)
        while now < best - 1e-9 * abs(best) and size > 1e-6:  # overshot: the penalised likelihood is concave, go back
            size /= 2
            now = likelihood(beta + size * step)
        beta, best = beta + size * step, now
        if size == 1.0 and np.abs(step).max() < 1e-7:
            slope, curvature = _sums(gene, pair, y, use, beta, by_row=True)
            return LogisticFit(coefficient=beta, slope=slope, curvature=curvature)
    message = "Expected the logistic fit to converge within 100 steps, got none. Use fewer features."
    raise StatisticsError(message)


def _sums(
    gene: np.ndarray, pair: np.ndarray, y: np.ndarray, use: np.ndarray, beta: np.ndarray, *, by_row: bool
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Gradient and minus Hessian of the log likelihood, summed by perturbation or over all of them."""
    k, n = gene.shape[1], beta.size
    p = expit(log_odds(gene, pair, beta) + beta[0])
    rest = np.where(use, y - p, 0.0)
    weight = np.where(use, p * (1 - p), 0.0)

    def added(x: np.ndarray) -> np.ndarray:
        return x if by_row else x.sum(axis=0, keepdims=True)

    slope = np.concatenate([added(rest) @ gene, *(added(rest * s).sum(axis=1)[:, None] for s in pair)], axis=1)
    curvature = np.zeros((len(slope), n, n))
    squares = (gene[:, :, None] * gene[:, None, :]).reshape(len(gene), -1)
    curvature[:, :k, :k] = (added(weight) @ squares).reshape(-1, k, k)
    for a, s in enumerate(pair):
        scored = weight * s
        cross = added(scored) @ gene
        curvature[:, :k, k + a] = cross
        curvature[:, k + a, :k] = cross
        for b, t in enumerate(pair[: a + 1]):
            curvature[:, k + a, k + b] = curvature[:, k + b, k + a] = added(scored * t).sum(axis=1)
    return slope, curvature
