"""Do units differ by more than their errors, and what is each worth once the others are known?

One estimate per unit (an AUROC per regulator, an effect per data set) with its standard error: Cochran's Q, the
random-effects summary of DerSimonian & Laird (1986), and each unit shrunk towards it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc, ndtri, stdtrit

from regulens.errors import ParameterError
from regulens.types.estimates import Estimate, Undefined


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RandomEffects:
    """Summary over units, the test that they differ, and the shrunken units.

    Parameters
    ----------
    mean
        Of the population of units, with the Hartung-Knapp t interval.
    prediction
        Interval in which a new unit's true value lies with the same probability.
    tau2
        Variance between units, >= 0.
    i2
        Share of the spread that is not error, ``max(0, 1 - df / Q)``, in [0, 1).
    q, df, p
        Cochran's Q, ``k - 1``, and p of "units differ".
    shrunk, shrunk_se, shrunk_low, shrunk_high
        Empirical-Bayes estimate of every unit, its standard error and the ends of its normal interval, shape
        ``(unit,)``.
    weight
        Share that a unit's own estimate has in `shrunk`, in (0, 1], shape ``(unit,)``.
    """

    mean: Estimate
    prediction: tuple[float, float]
    tau2: float
    i2: float
    q: float
    df: int
    p: float
    shrunk: np.ndarray
    shrunk_se: np.ndarray
    shrunk_low: np.ndarray
    shrunk_high: np.ndarray
    weight: np.ndarray


def random_effects(
    estimate: np.ndarray, se: np.ndarray, *, se_df: float = np.inf, level: float = 0.95, unit: str = "unit"
) -> RandomEffects | Undefined:
    """Heterogeneity, summary and shrinkage of per-unit estimates.

    ``w = 1 / se^2``, ``Q = sum w (y - ybar_w)^2``,
    ``tau2 = max(0, (Q - (k - 1)) / (sum w - sum w^2 / sum w))`` (DerSimonian & Laird 1986); the mean weighs units by
    ``1 / (tau2 + se^2)`` and has the t interval of Hartung & Knapp (2001) with ``k - 1`` degrees of freedom, whose
    variance is not taken below the DerSimonian-Laird one (Roever, Knapp & Friede 2015). A unit is shrunk
    towards the mean by ``(k - 3) / (k - 1) * se^2 / (tau2 + se^2)``; its error counts that tau2 is estimated (Morris
    1983), so that the intervals keep their coverage. Three units are not shrunk.

    p is the upper tail of chi-square, or of F when the errors share a scale that was estimated with `se_df` degrees of
    freedom. An error that was estimated from a unit's own few pairs, such as DeLong's with three positives, favours
    units that came out extreme and makes Q reject far too often (measured in ``docs/calibration.tsv``): for AUROCs
    pass ``common_se`` and ``common_df`` of `regulens.stats.delong.delong_by_unit`.

    Parameters
    ----------
    estimate, se
        Shape ``(unit,)``, finite, ``se > 0``. Leave units without a standard error out and list them.
    se_df
        Degrees of freedom of the scale that all errors share; infinite where the errors are known.
    level
        Of all intervals.
    unit
        What the units are, for `Estimate.unit`.

    Returns
    -------
    `Undefined` with fewer than 3 units.

    Examples
    --------
    >>> found = random_effects(np.array([0.5, 0.6, 0.9, 0.55]), np.array([0.05, 0.05, 0.05, 0.2]))
    >>> round(found.q, 2), found.df, found.p < 0.001, found.shrunk.round(3).tolist()
    (35.0, 3, True, [0.503, 0.601, 0.895, 0.567])
    """
    y, s = np.asarray(estimate, dtype=np.float64), np.asarray(se, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape or not np.isfinite(y).all() or not (np.isfinite(s) & (s > 0)).all():
        message = (
            f"Expected one finite estimate and one standard error above 0 per unit, got shapes {y.shape} and "
            f"{s.shape}, or others inside. Leave units without a standard error out and list them."
        )
        raise ParameterError(message)
    if not 0.0 < level < 1.0:
        message = f"Expected a level in (0, 1), got {level}. Use 0.95 for a 95 % interval."
        raise ParameterError(message)
    if not se_df > 0:
        message = f"Expected se_df above 0, got {se_df}. Leave it out where errors are known."
        raise ParameterError(message)
    k = y.size
    if k < 3:
        return Undefined(reason=f"{k} units with a standard error; heterogeneity needs at least 3")
    w = 1.0 / np.square(s)
    fixed = float(w @ y / w.sum())
    q = float(w @ np.square(y - fixed))
    tau2 = max(0.0, (q - (k - 1)) / float(w.sum() - np.square(w).sum() / w.sum()))
    v = 1.0 / (tau2 + np.square(s))
    mean = float(v @ y / v.sum())
    plain = 1.0 / float(v.sum())
    variance = max(plain, float(v @ np.square(y - mean)) / (k - 1) * plain)
    t = float(stdtrit(k - 1, 0.5 + level / 2))
    half = t * np.sqrt(variance)
    # a new unit: k - 2 degrees of freedom, since tau2 is estimated too (Higgins, Thompson & Spiegelhalter 2009)
    reach = float(stdtrit(max(k - 2, 1), 0.5 + level / 2)) * np.sqrt(tau2 + variance)
    to_mean = (k - 3) / (k - 1) * np.square(s) / (tau2 + np.square(s))
    shrunk = (1.0 - to_mean) * y + to_mean * mean
    error = np.square(s) * (1.0 - (k - 1) / k * to_mean)
    if k > 3:  # what not knowing tau2 adds, most for units far from the mean
        typical = float(v @ np.square(s) / v.sum())
        unsure = 2.0 / (k - 3) * np.square(to_mean) * (typical + tau2) / (np.square(s) + tau2)
        error = error + unsure * np.square(y - mean)
    shrunk_se = np.sqrt(error)
    z = float(ndtri(0.5 + level / 2))
    tail = fdtrc(k - 1, se_df, q / (k - 1)) if np.isfinite(se_df) else chdtrc(k - 1, q)
    return RandomEffects(
        mean=Estimate(
            value=mean, low=mean - half, high=mean + half, level=level, n_units=k, unit=unit,
            method="random effects (DerSimonian-Laird), Hartung-Knapp t interval", se=float(np.sqrt(variance)),
        ),
        prediction=(float(mean - reach), float(mean + reach)),
        tau2=float(tau2), i2=max(0.0, 1.0 - (k - 1) / q) if q > 0 else 0.0,
        q=q, df=k - 1, p=float(max(tail, np.finfo(np.float64).tiny)),
        shrunk=shrunk, shrunk_se=shrunk_se, shrunk_low=shrunk - z * shrunk_se, shrunk_high=shrunk + z * shrunk_se,
        weight=1.0 - to_mean,
    )  # fmt: skip


def leave_one_out_means(estimate: np.ndarray, se: np.ndarray) -> np.ndarray | Undefined:
    """Random-effects mean without each unit, shape ``(unit,)``: is the summary carried by one of them?

    Returns
    -------
    `Undefined` with fewer than 4 units, since 3 must remain.
    """
    y, s = np.asarray(estimate, dtype=np.float64), np.asarray(se, dtype=np.float64)
    if y.size < 4:
        return Undefined(reason=f"{y.size} units; leaving one out needs at least 4")
    out = np.empty(y.size)
    for u in range(y.size):
        rest = random_effects(np.delete(y, u), np.delete(s, u))
        assert isinstance(rest, RandomEffects)  # 3 or more remain
        out[u] = rest.mean.value
    return out
