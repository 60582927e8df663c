"""Is any of these many scores above its null? One test over all of them, allowing for their dependence (max-T)."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtri

from regulens.errors import ParameterError
from regulens.stats.cluster_robust import cluster_contributions, cluster_df, cluster_se
from regulens.stats.inference import Inference

_BLOCK = 512


def max_t_p(inference: Inference, null_value: float, *, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Adjusted one-sided p per score for "above `null_value`", by the studentised cluster multiplier bootstrap.

    Every draw multiplies the clusters' contributions by independent Gaussian numbers and divides each score's sum
    by its spread: Gaussian scores with the dependence of the data. Division by a common chi makes them t with each
    score's own degrees of freedom. A score's p is the share of draws whose largest t reaches its t (Romano &
    Wolf 2005, single step). The smallest of them is the p of "some score is above".

    Parameters
    ----------
    inference
        From `auroc_inference`, `auroc_difference` or `mean_inference`. Undefined scores take no part.
    draws
        > 0.

    Returns
    -------
    dict of arrays of shape ``(score,)``: ``estimate``, ``se``, ``df``, ``t``, ``p_raw``, ``p_adjusted``; NaN where
    a score is undefined.
    """
    if draws < 1:
        message = f"Expected at least one draw, got {draws}. Use about 1000 or more."
        raise ParameterError(message)
    usable = np.array([not u for u in inference.undefined])
    n = usable.size
    t = np.full(n, np.nan)
    adjusted = np.full(n, np.nan)
    t[usable] = (inference.estimate[usable] - null_value) / inference.se[usable]
    if usable.any():
        loading = np.concatenate([inference.regulator[usable], inference.target[usable]], axis=1)
        loading = loading / np.sqrt(np.square(loading).sum(1, keepdims=True))
        df = inference.df[usable]
        reached = np.zeros(df.size)
        for start in range(0, draws, _BLOCK):
            size = min(_BLOCK, draws - start)
            z = rng.standard_normal((size, loading.shape[1])) @ loading.T
            common = rng.random(size)
            # the same quantile of each score's own chi-square: t marginals and one common scale
            scale = np.sqrt(chdtri(df[None, :], common[:, None]) / df[None, :])
            largest = (z / scale).max(1)
            reached += (largest[:, None] >= t[usable][None, :]).sum(0)
        adjusted[usable] = (1.0 + reached) / (1.0 + draws)
    p_raw = inference.p_greater(null_value)
    return {
        "estimate": inference.estimate, "se": inference.se, "df": inference.df, "t": t, "p_raw": p_raw,
        # Monte Carlo error must not make an adjusted p smaller than the raw one
        "p_adjusted": np.fmax(adjusted, p_raw),
    }  # fmt: skip


def max_t(
    psi: np.ndarray,
    estimate: np.ndarray,
    null_value: float,
    regulator: np.ndarray,
    *,
    draws: int,
    rng: np.random.Generator,
    target: np.ndarray | None = None,
    label: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """`max_t_p` from influence values instead of delete-one deviations.

    Give `label` and `target`: without them large regulators and shared targets are underrated, see
    `regulens.stats.cluster_robust.cluster_se`.

    Parameters
    ----------
    psi
        Shape ``(score, edge)``.
    estimate
        Shape ``(score,)``.
    """
    psi = np.atleast_2d(psi)
    estimate = np.atleast_1d(np.asarray(estimate, dtype=np.float64))
    se = cluster_se(psi, regulator, target, label=label)
    by_regulator = cluster_contributions(psi, regulator, label=label)
    by_target = by_regulator[:, :0] if target is None else cluster_contributions(psi, target, label=label)
    good = np.isfinite(se) & (se > 1e-12) & np.isfinite(estimate)
    inference = Inference(
        estimate=estimate,
        se=np.where(good, se, np.nan),
        df=np.where(good, cluster_df(psi, regulator, target, label=label), np.nan),
        unit="regulator" if target is None else "regulator and target",
        n_units=by_regulator.shape[1],
        method="cluster multiplier bootstrap",
        undefined=tuple("" if g else "no standard error" for g in good),
        regulator=by_regulator,
        target=by_target,
    )
    return max_t_p(inference, null_value, draws=draws, rng=rng)
