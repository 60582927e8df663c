"""How does one effect become an estimate, a record and a joint statement with others?

The error of everything is the delete-one jackknife over regulators and over targets of `regulens.stats.inference`;
a contrast of two scores is always the paired contrast on identical pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regulens.stats.bootstrap_tests import interval, test_greater, test_two_sided
from regulens.stats.equivalence import tost
from regulens.stats.inference import Inference, auroc_difference, auroc_inference
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """An estimated difference from a null value, with its error.

    Parameters
    ----------
    value
        Estimate minus null value.
    se, df
        Cluster-robust standard error and degrees of freedom of t; NaN where undefined.
    method, n_units, unit
        As in `Estimate`.
    undefined
        Why there is no inference, or an empty string.
    """

    value: float
    se: float
    df: float
    method: str
    n_units: int
    unit: str
    undefined: str = ""

    def bounds(self, level: float) -> tuple[float, float]:
        """t interval of the effect."""
        low, high = interval(self.value, self.se, self.df, level)
        return float(low), float(high)

    def p_greater(self, bar: float = 0.0) -> float:
        """One-sided p of "the effect is above `bar`"."""
        return float(test_greater(self.value, self.se, bar, self.df))

    def p_two_sided(self) -> float:
        """p of "there is an effect"."""
        return float(test_two_sided(self.value, self.se, 0.0, self.df))

    def p_equivalent(self, delta: float) -> float:
        """p of "the effect lies within ±delta"."""
        return float(tost(self.value, self.se, self.df, delta=delta))

    def estimate(self, *, null_value: float, level: float) -> Estimate | Undefined:
        """The estimate on its own scale: effect plus null value, with the t interval."""
        if self.undefined:
            return Undefined(reason=self.undefined)
        low, high = self.bounds(level)
        value = self.value + null_value
        return Estimate(
            value=value, low=min(low + null_value, value), high=max(high + null_value, value), level=level,
            method=f"{self.method}, df={self.df:.1f}", n_units=self.n_units, unit=self.unit, se=self.se,
        )  # fmt: skip

    def record(
        self, test_id: str, *, side: str, level: float, p_raw: float | None = None,
        bounds: tuple[float, float] | None = None, stream: str = "",
    ) -> TestRecord:  # fmt: skip
        """Record of a test: the effect over the null with its interval, or why there is none."""
        if self.undefined:
            return TestRecord(id=test_id, n_units=self.n_units, undefined=self.undefined)
        low, high = self.bounds(level) if bounds is None else bounds
        if p_raw is None:
            p_raw = self.p_greater() if side == "greater" else self.p_two_sided()
        return TestRecord(
            id=test_id, statistic=self.value / self.se, effect=self.value, low=low, high=high, p_raw=p_raw,
            n_units=self.n_units, stream=stream,
        )  # fmt: skip

    def cells(self, *, null_value: float, level: float) -> dict[str, float]:
        """``value, low, high, se`` for a table; NaN where undefined."""
        low, high = self.bounds(level)
        return {"value": self.value + null_value, "low": low + null_value, "high": high + null_value, "se": self.se}


def effects_of(found: Inference, *, null_value: float = 0.0) -> list[Effect]:
    """One `Effect` per score: ``estimate - null_value``."""
    return [
        Effect(
            value=float(found.estimate[k]) - null_value, se=float(found.se[k]), df=float(found.df[k]),
            method=found.method, n_units=found.n_units, unit=found.unit, undefined=found.undefined[k],
        )
        for k in range(len(found.estimate))
    ]  # fmt: skip


def part_of(found: Inference, keep: np.ndarray) -> Inference:
    """The inference of some of its scores (`keep`: bool or index)."""
    index = np.arange(len(found.estimate))[keep]
    return replace(
        found, estimate=found.estimate[index], se=found.se[index], df=found.df[index],
        undefined=tuple(found.undefined[k] for k in index), regulator=found.regulator[index],
        target=found.target[index],
    )  # fmt: skip


def aurocs(edges: LabelledEdges, names: tuple[str, ...] | list[str]) -> Inference:
    """AUROC of some scores of `edges`."""
    rows = [edges.names.index(n) for n in names]
    return auroc_inference(edges.scores[rows], edges.label, edges.regulator, edges.target)


def above_half(edges: LabelledEdges, name: str) -> Effect:
    """AUROC − 0.5 of one score."""
    return effects_of(aurocs(edges, [name]), null_value=0.5)[0]


def differences(edges: LabelledEdges, name: str, others: tuple[str, ...] | list[str]) -> Inference:
    """AUROC of `name` minus AUROC of each of `others`, paired on identical pairs; one entry per other."""
    rows = [edges.names.index(o) for o in others]
    found = auroc_difference(edges.scores[rows], edges.score(name), edges.label, edges.regulator, edges.target)
    return replace(found, estimate=-found.estimate, regulator=-found.regulator, target=-found.target)


def joint_critical(found: Inference, *, level: float, rng: np.random.Generator, draws: int = 20_000) -> float:
    """Half-width, in standard errors, of intervals that hold for all scores at once.

    The level-quantile of the largest ``|t|`` of a multivariate t whose correlations are those of the delete-one
    deviations and whose degrees of freedom are the smallest of the scores' (max-T; Westfall & Young 1993).

    Parameters
    ----------
    found
        Scores whose inference is defined; others are left out. NaN when none is.
    rng
        Named stream.
    """
    ok = np.array([not u for u in found.undefined])
    if not ok.any():
        return float("nan")
    deviation = np.concatenate([found.regulator[ok], found.target[ok]], axis=1)
    df = float(found.df[ok].min())
    if ok.sum() == 1:
        return float(interval(0.0, 1.0, df, level)[1])
    cov = deviation @ deviation.T
    sd = np.sqrt(np.diag(cov))
    value, vector = np.linalg.eigh(cov / np.outer(sd, sd))
    normal = rng.standard_normal((draws, len(sd))) @ (vector * np.sqrt(np.maximum(value, 0.0))).T
    t = normal / np.sqrt(rng.chisquare(df, draws) / df)[:, None]
    return float(np.quantile(np.abs(t).max(axis=1), level))
