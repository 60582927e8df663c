"""How are matched negatives weighted so that they are as much expressed as their positive on average, not just nearly?

A tolerance window is lopsided: there are more weakly than strongly expressed genes, so a positive sits in the upper
part of its own window, and any score that follows expression beats 0.5. Weights inside each positive's set remove
that. They know expression only, no label and no score.
"""

from __future__ import annotations

import numpy as np

from regulens.errors import AlignmentError


def balance_weights(
    difference: np.ndarray, owner: np.ndarray, *, ridge: float = 1e-3, max_iter: int = 100, tol: float = 1e-9
) -> np.ndarray:
    r"""Weights that make the mean difference of negatives from their positive vanish, closest to equal ones.

    Entropy balancing (Hainmueller 2012) with one tilt for all sets:

    .. math:: w_e = \frac{\exp(\lambda \cdot d_e)}{\sum_{f \in N(k)} \exp(\lambda \cdot d_f)}, \qquad
              \frac{1}{n}\sum_k \sum_{e \in N(k)} w_e d_e = 0

    Parameters
    ----------
    difference
        Feature of the negative minus that of its positive, shape ``(negative, feature)``, finite.
    owner
        Positive of each negative, 0-based and sorted, every positive at least once, shape ``(negative,)``.
    ridge
        Penalty on the standardised tilt, which keeps it finite where no weights can balance.

    Returns
    -------
    Shape ``(negative,)``, positive, summing to 1 within each positive's set. Features without variation are left
    alone. What balance was reached is for the caller to print.

    Examples
    --------
    >>> w = balance_weights(np.array([[-1.0], [-1.0], [1.0]]), np.array([0, 0, 0]), ridge=1e-9)
    >>> w.round(3).tolist()
    [0.25, 0.25, 0.5]
    """
    d = np.asarray(difference, dtype=np.float64)
    if d.ndim != 2 or len(d) != len(owner):
        message = f"Expected one row of differences per negative ({len(owner)}), got {d.shape}. Take the same pairs."
        raise AlignmentError(message)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    n = len(starts)
    scale = d.std(axis=0)
    d = d[:, scale > 0] / scale[scale > 0]

    def weigh(tilt: np.ndarray) -> tuple[np.ndarray, float]:
        logit = d @ tilt
        top = np.maximum.reduceat(logit, starts)
        weight = np.exp(logit - top[owner])
        mass = np.add.reduceat(weight, starts)
        size = np.diff(np.append(starts, len(owner)))
        return weight / mass[owner], float((top + np.log(mass / size)).mean() + ridge / 2 * tilt @ tilt)

    tilt = np.zeros(d.shape[1])
    weight, value = weigh(tilt)
    for _ in range(max_iter):
        mean = np.add.reduceat(weight[:, None] * d, starts, axis=0)  # (positive, feature)
        gradient = mean.mean(axis=0) + ridge * tilt
        if not len(tilt) or np.abs(gradient).max() < tol:
            break
        hessian = ((weight[:, None] * d).T @ d - mean.T @ mean) / n + ridge * np.eye(len(tilt))
        step = -np.linalg.solve(hessian, gradient)
        length = 1.0
        while length > 1e-6:
            trial, lower = weigh(tilt + length * step)
            if lower <= value + 1e-4 * length * (gradient @ step):
                break
            length /= 2
        tilt, weight, value = tilt + length * step, trial, lower
    return weight
