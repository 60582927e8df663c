"""What can be said about an AUROC, with which unit? The one standard error, df and interval that analyses use.

Default: delete-one jackknife over regulators and over targets, added as in two-way clustering, with a t reference
whose degrees of freedom come from how evenly the clusters contribute. Linearised cluster standard errors with
``C - 1`` degrees of freedom, and clustering by regulators alone, reject true nulls too often when regulons are
unequal or targets have effects of their own (measured in ``docs/calibration.tsv``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from regulens.errors import ParameterError
from regulens.stats.bootstrap_tests import interval, test_greater, test_two_sided
from regulens.stats.equivalence import tost
from regulens.stats.jackknife import (
    Deviations,
    auroc_deviations,
    auroc_difference_deviations,
    effective_df,
    jackknife_variance,
    mean_deviations,
    two_way_variance,
)
from regulens.types.estimates import Estimate, Undefined

Clustering = Literal["auto", "regulator", "two-way"]

#: Below these numbers of clusters nothing is said, and targets are not clustered.
MIN_REGULATORS = 3
MIN_TARGETS_TWO_WAY = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inference:
    """Estimates of several scores with their standard errors; tests and intervals are read from it.

    Parameters
    ----------
    estimate, se, df
        Float64, shape ``(score,)``; `se` and `df` are NaN where `undefined` says why.
    unit, n_units
        What was left out in turn, and how many there were.
    method
        In words, for `Estimate.method`.
    undefined
        One per score; ``""`` where inference is possible.
    regulator, target
        Deviations (see `regulens.stats.jackknife`), shape ``(score, cluster)``, for simultaneous tests; `target`
        has no columns when targets were not clustered.
    """

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    unit: str
    n_units: int
    method: str
    undefined: tuple[str, ...]
    regulator: np.ndarray
    target: np.ndarray

    def p_greater(self, null_value: float) -> np.ndarray:
        """One-sided p of "above `null_value`", shape ``(score,)``; NaN where undefined."""
        return test_greater(self.estimate, self.se, null_value, self.df)

    def p_two_sided(self, null_value: float) -> np.ndarray:
        """Two-sided p of "not `null_value`", shape ``(score,)``; NaN where undefined."""
        return test_two_sided(self.estimate, self.se, null_value, self.df)

    def p_equivalent(self, null_value: float, *, delta: float) -> np.ndarray:
        """TOST p of "within ``null_value -+ delta``", shape ``(score,)``; NaN where undefined."""
        return tost(self.estimate, self.se, self.df, delta=delta, centre=null_value)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the t intervals, shape ``(score,)`` each."""
        return interval(self.estimate, self.se, self.df, level)

    def estimates(self, *, level: float = 0.95) -> list[Estimate | Undefined]:
        """One `Estimate` or `Undefined` per score."""
        low, high = self.interval(level)
        return [
            Undefined(reason=reason)
            if reason
            else Estimate(
                value=float(self.estimate[s]), low=float(low[s]), high=float(high[s]), level=level,
                method=f"{self.method}, df={self.df[s]:.1f}", n_units=self.n_units, unit=self.unit,
                se=float(self.se[s]),
            )
            for s, reason in enumerate(self.undefined)
        ]  # fmt: skip


def default_se(deviations: Deviations, *, clustering: Clustering = "auto") -> Inference:
    """Standard error, df, unit and words from delete-one deviations: the rule that every analysis shares.

    ``auto`` is two-way (regulators and targets) from `MIN_TARGETS_TWO_WAY` targets on and by regulators below;
    fewer than `MIN_REGULATORS` regulators leave every score undefined. Two-way df is the smaller of the two ways.
    """
    d = deviations
    if clustering not in ("auto", "regulator", "two-way"):
        message = f"Expected clustering 'auto', 'regulator' or 'two-way', got {clustering!r}."
        raise ParameterError(message)
    two_way = clustering == "two-way" or (clustering == "auto" and d.n_targets >= MIN_TARGETS_TWO_WAY)
    with np.errstate(invalid="ignore"):
        variance = jackknife_variance(d.regulator)
        df = effective_df(d.regulator)
        if two_way:
            variance = two_way_variance(variance, jackknife_variance(d.target), d.edge_variance)
            df = np.minimum(df, effective_df(d.target))
        se = np.sqrt(variance)
    reasons = []
    for s in range(len(d.estimate)):
        if not np.isfinite(d.estimate[s]):
            reasons.append("no positives or no negatives among the pairs")
        elif d.n_regulators < MIN_REGULATORS:
            reasons.append(f"{d.n_regulators} regulators; a standard error needs at least {MIN_REGULATORS}")
        elif not np.isfinite(d.regulator[s]).all():
            reasons.append("all positives (or all negatives) belong to one regulator")
        elif two_way and not np.isfinite(d.target[s]).all():
            reasons.append("all positives (or all negatives) belong to one target")
        elif not se[s] > 1e-12:
            reasons.append(
                "the standard error is 0: the scores do not vary, or separate the labels the same everywhere"
            )
        else:
            reasons.append("")
    bad = np.array([bool(r) for r in reasons])
    n_units = min(d.n_regulators, d.n_targets) if two_way else d.n_regulators
    words = (
        f"two-way delete-one jackknife over {d.n_regulators} regulators and {d.n_targets} targets"
        if two_way
        else f"delete-one jackknife over {d.n_regulators} regulators"
    )
    return Inference(
        estimate=d.estimate,
        se=np.where(bad, np.nan, se),
        df=np.where(bad, np.nan, df),
        unit="regulator and target" if two_way else "regulator",
        n_units=n_units,
        method=f"{words}, t interval",
        undefined=tuple(reasons),
        regulator=d.regulator,
        target=d.target if two_way else d.target[:, :0],
    )


def _joined(blocks: Iterable[Deviations]) -> Deviations:
    blocks = list(blocks)
    if not blocks:
        message = "Expected at least one block of scores, got none."
        raise ParameterError(message)
    return Deviations(
        estimate=np.concatenate([b.estimate for b in blocks]),
        regulator=np.concatenate([b.regulator for b in blocks]),
        target=np.concatenate([b.target for b in blocks]),
        edge_variance=np.concatenate([b.edge_variance for b in blocks]),
    )


def auroc_inference(
    scores: np.ndarray | Iterable[np.ndarray],
    label: np.ndarray,
    regulator: np.ndarray,
    target: np.ndarray,
    *,
    clustering: Clustering = "auto",
) -> Inference:
    """AUROC of every score with its default standard error, df and interval.

    Parameters
    ----------
    scores
        Shape ``(score, edge)``, or an iterable of such blocks (float32 or float64): only one block is held at a time.
    label
        Bool, shape ``(edge,)``.
    regulator, target
        Integers, shape ``(edge,)``.
    clustering
        See `default_se`.

    Examples
    --------
    >>> g = np.random.default_rng(0)
    >>> i, j = (a.ravel() for a in np.indices((20, 40)))
    >>> y = g.random(800) < 0.1
    >>> found = auroc_inference((y + g.normal(size=800))[None], y, i, j)
    >>> found.unit, bool(found.p_greater(0.5)[0] < 0.01)
    ('regulator and target', True)
    """
    blocks = [scores] if isinstance(scores, np.ndarray) else scores
    return default_se(_joined(auroc_deviations(b, label, regulator, target) for b in blocks), clustering=clustering)


def auroc_difference(
    scores: np.ndarray,
    baseline: np.ndarray,
    label: np.ndarray,
    regulator: np.ndarray,
    target: np.ndarray,
    *,
    clustering: Clustering = "auto",
) -> Inference:
    """AUROC(score) - AUROC(baseline) on identical pairs, with the standard error of the paired difference.

    Parameters
    ----------
    baseline
        Shape ``(edge,)``, or ``(score, edge)`` for one baseline per score.
    """
    found = auroc_difference_deviations(scores, baseline, label, regulator, target)
    return default_se(found, clustering=clustering)


def mean_inference(
    values: np.ndarray,
    regulator: np.ndarray,
    target: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    clustering: Clustering = "auto",
) -> Inference:
    """(Weighted) mean over units that share regulators and targets, with the same default standard error.

    For the conditional matched AUROC give one value per positive: the share of its own negatives that it beats.
    """
    return default_se(mean_deviations(values, regulator, target, weight), clustering=clustering)
