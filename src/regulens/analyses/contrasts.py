"""What is the error of a sum of AUROCs with signs, such as a trend over layers or a difference of differences?

Every AUROC is of its own score, and may be of its own label, on the same pairs. The delete-one deviations of a linear
combination are the same combination of the deviations, so its error needs no new assumption.
"""

from __future__ import annotations

import numpy as np

from regulens.errors import AlignmentError
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import Deviations, auroc_deviations
from regulens.stats.ranking import influence


def contrast_inference(
    scores: np.ndarray, labels: np.ndarray, matrix: np.ndarray, regulator: np.ndarray, target: np.ndarray
) -> Inference:
    """``matrix @ AUROC`` with the default standard error of the project.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``.
    labels
        Bool, shape ``(pair,)`` for all scores, or ``(score, pair)``.
    matrix
        Shape ``(contrast, score)``.
    regulator, target
        Integers, shape ``(pair,)``.

    Examples
    --------
    >>> g = np.random.default_rng(0)
    >>> i, j = (a.ravel() for a in np.indices((20, 40)))
    >>> y = g.random(800) < 0.1
    >>> s = np.stack([y + g.normal(size=800), g.normal(size=800)])
    >>> found = contrast_inference(s, y, np.array([[1.0, -1.0]]), i, j)
    >>> bool(found.p_two_sided(0.0)[0] < 0.01)
    True
    """
    scores, matrix = np.atleast_2d(scores), np.atleast_2d(np.asarray(matrix, dtype=np.float64))
    labels = np.atleast_2d(labels)
    if matrix.shape[1] != len(scores):
        message = f"Expected one weight per score ({len(scores)}), got {matrix.shape[1]}. Give 0 to those left out."
        raise AlignmentError(message)
    if len(labels) == 1:  # all scores of one label share a sweep
        parts = [auroc_deviations(scores, labels[0], regulator, target)]
    else:
        parts = [auroc_deviations(s[None], y, regulator, target) for s, y in zip(scores, labels)]
    psi = np.zeros((len(matrix), scores.shape[1]))
    for k, s in enumerate(scores):
        y = labels[min(k, len(labels) - 1)]
        if matrix[:, k].any():
            psi += matrix[:, [k]] * influence(s[None], y)[1]
    return default_se(
        Deviations(
            estimate=matrix @ np.concatenate([p.estimate for p in parts]),
            regulator=matrix @ np.concatenate([p.regulator for p in parts]),
            target=matrix @ np.concatenate([p.target for p in parts]),
            edge_variance=np.square(psi).sum(axis=1),
        )
    )
