"""How good are probabilities of response on perturbations that had no part in making them?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.analyses.probabilities import CALIBRATE, TEST
from regulens.stats.calibration_error import brier_parts, equal_mass, equal_width, log_loss
from regulens.stats.calibrators import CALIBRATORS, MAPS, fit_base_rate
from regulens.stats.ranking import auroc

#: What is measured of every set of probabilities, in this order; bins as in `equal_width` and `equal_mass`.
METRICS = (
    "ece", "ece_mass", "brier", "reliability", "resolution", "uncertainty", "within_bins", "log_loss", "auroc",
)  # fmt: skip

RAW, BASE_RATE = "raw", "base_rate"


def judge(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """All of `METRICS`, shape ``(metric,)``.

    Parameters
    ----------
    p, y
        Probability and label of every judged pair.
    """
    wide, mass = equal_width(p, y), equal_mass(p, y)
    parts = brier_parts(p, y, mass)
    area = float(auroc(p[None], y)[0])
    return np.array(
        [wide.ece, mass.ece, parts.brier, parts.reliability, parts.resolution, parts.uncertainty, parts.within,
         log_loss(p, y), area]
    )  # fmt: skip


def ece_moved(p: np.ndarray, y: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """ECE (equal width) without each perturbation minus with it, shape ``(perturbation,)``; 0 where it has no pair."""
    bins = equal_width(p, y)
    n_bins = len(bins.n)
    gap = np.bincount(group * n_bins + bins.index, weights=y - p, minlength=n_groups * n_bins).reshape(n_groups, -1)
    size = np.bincount(group, minlength=n_groups)
    left = len(p) - size
    without = np.abs(gap.sum(axis=0) - gap).sum(axis=1)
    moved = np.divide(without, left, out=np.full(n_groups, bins.ece), where=left > 0) - bins.ece
    return np.where(size > 0, moved, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Out-of-sample probabilities of one score read in one way.

    Parameters
    ----------
    metrics
        Shape ``(repeat, metric)``.
    p, square
        Mean over the repeats that judged a pair of its probability, and of its squared error; shape ``(pair,)``.
    """

    metrics: np.ndarray
    p: np.ndarray
    square: np.ndarray

    def of(self, metric: str) -> np.ndarray:
        """A metric in every repeat."""
        return self.metrics[:, METRICS.index(metric)]

    def mean(self, metric: str) -> float:
        """Mean of a metric over the repeats in which it is defined."""
        column = self.of(metric)
        good = np.isfinite(column)
        return float(column[good].mean()) if good.any() else float("nan")

    def sd(self, metric: str) -> float:
        """Standard deviation over repeats, which share data: it shows the luck of the split, not the error."""
        column = self.of(metric)
        return float(column.std(ddof=1)) if len(column) > 1 else float("nan")


def out_of_sample(
    score: np.ndarray, label: np.ndarray, group: np.ndarray, parts: np.ndarray, *, to_unit: str,
    calibrators: tuple[str, ...], base_rate: bool = False,
) -> dict[str, Judged]:  # fmt: skip
    """Read a score as a probability in every way, each judged on the test quarter of every repeat.

    The map to [0, 1] is made of the scores of the fitting half, calibrators of the labels of the calibrating quarter,
    and judged is the test quarter.

    Parameters
    ----------
    score, label, group
        Shape ``(pair,)``; `group` is the perturbation's column in `parts`.
    parts
        From `quarters`.
    to_unit
        Key of `MAPS`.
    calibrators
        Keys of `CALIBRATORS`.
    base_rate
        Whether to judge the base rate of the calibrating quarter as well.

    Returns
    -------
    ``raw`` (the map itself), every calibrator, and ``base_rate`` where asked for.
    """
    ways = (RAW, *calibrators, *((BASE_RATE,) if base_rate else ()))
    order = np.argsort(score, kind="stable")  # sorted once: maps then read memory in order
    s, y, g = score[order], label[order], group[order]
    metrics = np.empty((len(ways), len(parts), len(METRICS)))
    p_sum, square = np.zeros((len(ways), len(s))), np.zeros((len(ways), len(s)))
    judged = np.zeros(len(s))
    for r, part in enumerate(parts):
        of_pair = part[g]
        mapped = MAPS[to_unit].fit(s[of_pair < CALIBRATE])
        fit, held = of_pair == CALIBRATE, np.flatnonzero(of_pair == TEST)
        u_fit, y_fit, u, y_held = mapped(s[fit]), y[fit], mapped(s[held]), y[held]
        judged[held] += 1
        for w, way in enumerate(ways):
            if way == RAW:
                p = u
            else:
                p = (fit_base_rate if way == BASE_RATE else CALIBRATORS[way])(u_fit, y_fit)(u)
            metrics[w, r] = judge(p, y_held)
            p_sum[w, held] += p
            square[w, held] += (p - y_held) ** 2
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    times = np.maximum(judged, 1)
    return {
        way: Judged(metrics=metrics[w], p=(p_sum[w] / times)[back], square=(square[w] / times)[back])
        for w, way in enumerate(ways)
    }
