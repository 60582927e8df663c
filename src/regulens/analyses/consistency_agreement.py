"""How well do in-silico and measured effects agree, perturbation by perturbation, and when these are exchanged?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from regulens.analyses.base import AnalysisInput
from regulens.analyses.consistency_pairs import Matched
from regulens.analyses.per_perturbation import MIN_PERTURBATIONS
from regulens.stats.permutation import permutation_p
from regulens.stats.row_agreement import RowPermutation, fisher, permuted_rows, rows_with_rows, signs_with_signs

#: Part of the names of random streams.
NAME = "rank_consistency"

#: With fewer draws no p can be 0.05.
MIN_DRAWS = 19

#: Measures of agreement of one row with another, in the order of the tables.
MEASURES = ("signed", "absolute", "signed_controlled", "absolute_controlled", "sign_agreement")

#: The two measures that are tested.
STEPS = ("signed", "absolute")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """One measure of agreement: every perturbation's in-silico effects with every perturbation's measured ones.

    Parameters
    ----------
    value, count
        Spearman, or share of equal signs, and columns behind it, shape ``(model's row, measured row)``.
    null
        On the scale of the mean: Fisher's z, or the share itself.
    low, high, se
        t interval of the mean over perturbations, on the scale of the mean; NaN below two perturbations.
    """

    name: str
    value: np.ndarray
    count: np.ndarray
    null: RowPermutation
    low: float
    high: float
    se: float
    boot: tuple[float, float]

    @property
    def own(self) -> np.ndarray:
        """Agreement of what belongs together, shape ``(perturbation,)``."""
        return np.diagonal(self.value)

    @property
    def n(self) -> int:
        """Perturbations with an agreement."""
        return int(np.isfinite(self.own).sum())

    def back(self, z: float | np.ndarray) -> float | np.ndarray:
        """From the scale of the mean to that of one perturbation."""
        return z if self.name == "sign_agreement" else np.tanh(z)

    @property
    def refusal(self) -> str:
        """Why this agreement is not tested, or an empty string."""
        if self.n < MIN_PERTURBATIONS:
            return (
                f"{self.n} perturbations have a rank correlation (others have one value only); at least "
                f"{MIN_PERTURBATIONS} are needed"
            )
        if self.null.draws.size < MIN_DRAWS:
            return f"{self.null.draws.size} draws of the null have 10 matched pairs; at least {MIN_DRAWS} are needed"
        return ""

    @property
    def p(self) -> float:
        """One-sided permutation p; NaN without a draw."""
        if not self.null.draws.size or not self.n:
            return float("nan")
        return float(permutation_p(self.null.observed, self.null.draws)[0])

    @property
    def z(self) -> float:
        """Distance from the mean of the draws in their SD (ddof 1); NaN where they do not vary."""
        draws = self.null.draws
        sd = float(draws.std(ddof=1)) if draws.size > 1 else 0.0
        return (self.null.observed - float(draws.mean())) / sd if sd > 1e-12 else float("nan")


def agreement(
    name: str, model: np.ndarray, observed: np.ndarray, *, min_targets: int, inp: AnalysisInput, use: str
) -> Agreement:
    """Compare every row with every row; entries of fewer than `min_targets` columns are undefined."""
    settings = inp.request.settings
    value, count = (signs_with_signs if name == "sign_agreement" else rows_with_rows)(model, observed)
    value = np.where(count >= min_targets, value, np.nan)
    scaled = value if name == "sign_agreement" else fisher(value)
    null = permuted_rows(
        scaled, count, draws=settings.permutations, min_matched=10, rng=inp.rng(f"permutation/{NAME}/{use}")
    )
    own = np.diagonal(scaled)[np.isfinite(np.diagonal(scaled))]
    low = high = se = float("nan")
    boot = (float("nan"), float("nan"))
    if len(own) > 1:
        se = float(own.std(ddof=1) / np.sqrt(len(own)))
        half = float(stdtrit(len(own) - 1, 1 - settings.alpha / 2)) * se
        low, high = null.observed - half, null.observed + half
        drawn = inp.rng(f"bootstrap/{NAME}/{use}").multinomial(
            len(own), np.full(len(own), 1 / len(own)), settings.bootstrap
        )
        tails = np.quantile(drawn @ own / len(own), [settings.alpha / 2, 1 - settings.alpha / 2])
        boot = (float(tails[0]), float(tails[1]))
    return Agreement(name=name, value=value, count=count, null=null, low=low, high=high, se=se, boot=boot)


def likeness(rows: np.ndarray) -> float:
    """Mean Spearman of every row with every other, NaN without two rows: near 1, all sources do the same.

    >>> round(likeness(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 9.0], [3.0, 2.0, 1.0]])), 3)
    -0.333
    """
    rho = rows_with_rows(rows, rows)[0][~np.eye(len(rows), dtype=bool)]
    return float(rho[np.isfinite(rho)].mean()) if np.isfinite(rho).any() else float("nan")


def measured_pairs(m: Matched, change: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """In-silico and measured values that a measure compares."""
    a, b = m.model[change], m.observed
    if measure.startswith("absolute"):
        a, b = np.abs(a), np.abs(b)
    if measure.endswith("controlled"):
        a, b = m.residuals(a), m.residuals(b)
    return a, b
