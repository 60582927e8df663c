"""How do the scores of several strata of cells become one score? The ways of stratified aggregation (F1).

``w_k`` is the score of a pair in stratum k of ``n_k`` cells, ``w`` its score in all cells. Ways that look for an edge
that lives in one stratum (``max``) pay for it with the noise of every other stratum; ``excess`` and ``lower`` are the
maximum after the noise floor has been taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.errors import ParameterError, nearest

#: Way → formula, in the order of the tables.
VARIANTS: dict[str, str] = {
    "max": "max_k w_k",
    "absmax": "max_k |w_k|",
    "mean": "sum_k (n_k / N) w_k",
    "mean_unweighted": "mean_k w_k",
    "range": "max_k w_k - min_k w_k",
    "std": "SD_k w_k",
    "deviation": "max_k |w_k - w|",
    "wdeviation": "sum_k (n_k / N) |w_k - w|",
    "blend_deviation_30": ".3 w + .7 deviation",
    "blend_deviation_50": ".5 w + .5 deviation",
    "blend_deviation_70": ".7 w + .3 deviation",
    "blend_range_30": ".3 w + .7 range",
    "blend_range_50": ".5 w + .5 range",
    "blend_range_70": ".7 w + .3 range",
    "excess": "max_k (w_k - w)",
    "lower": "max_k (w_k - 1.96 SE_k)",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strata:
    """Scores of the same pairs in every stratum.

    Parameters
    ----------
    scores
        Shape ``(..., stratum, pair)``.
    sizes
        Cells, shape ``(..., stratum)`` or ``(stratum,)``; a stratum of 0 cells takes no part.
    pooled
        Score in all cells, shape ``(..., pair)``.
    se
        Standard error of `scores`, same shape; only ``lower`` reads it.
    """

    scores: np.ndarray
    sizes: np.ndarray
    pooled: np.ndarray
    se: np.ndarray | None = None


def combine(strata: Strata, variant: str) -> np.ndarray:
    """One score per pair, shape ``(..., pair)``.

    Raises
    ------
    ParameterError
        For an unknown variant, or ``lower`` without standard errors.

    Examples
    --------
    >>> w = Strata(scores=np.array([[1.0], [4.0]]), sizes=np.array([30, 10]), pooled=np.array([2.0]))
    >>> [float(combine(w, v)[0]) for v in ("max", "mean", "range", "std", "deviation", "wdeviation", "excess")]
    [4.0, 1.75, 3.0, 1.5, 2.0, 1.25, 2.0]
    >>> float(combine(w, "blend_range_70")[0])
    2.3
    """
    if variant not in VARIANTS:
        message = f"Expected a variant among {', '.join(VARIANTS)}, got '{variant}'.{nearest(variant, list(VARIANTS))}"
        raise ParameterError(message)
    w, pooled = np.asarray(strata.scores), np.asarray(strata.pooled)
    n = np.broadcast_to(strata.sizes, w.shape[:-1])
    there = (n > 0)[..., None]
    share = (n / np.maximum(n.sum(axis=-1, keepdims=True), 1))[..., None]
    gap = pooled[..., None, :]
    if variant.startswith("blend_"):
        _, what, weight = variant.split("_")
        alpha = int(weight) / 100
        return alpha * pooled + (1 - alpha) * combine(strata, what)
    if variant == "max":
        return _max(w, there)
    if variant == "absmax":
        return _max(np.abs(w), there)
    if variant == "mean":
        return (share * w).sum(axis=-2)
    if variant == "mean_unweighted":
        return w.mean(axis=-2, where=there)
    if variant == "range":
        return _max(w, there) + _max(-w, there)
    if variant == "std":
        return w.std(axis=-2, where=there)
    if variant == "deviation":
        return _max(np.abs(w - gap), there)
    if variant == "wdeviation":
        return (share * np.abs(w - gap)).sum(axis=-2)
    if variant == "excess":
        return _max(w - gap, there)
    if strata.se is None:
        message = "Expected standard errors of the strata for the variant 'lower', got none. Give `se`."
        raise ParameterError(message)
    return _max(w - 1.96 * strata.se, there)


def _max(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    return values.max(axis=-2, initial=-np.inf, where=there)
