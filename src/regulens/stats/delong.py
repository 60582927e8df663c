"""How uncertain is an AUROC when pairs are independent? DeLong's standard error, of one score or of a difference.

Pairs of a network share genes and are *not* independent: across regulators use `regulens.stats.cluster`. DeLong is
for sets in which one unit gives one pair, above all the targets of a single regulator or of a single perturbation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit

from regulens.errors import AlignmentError, ParameterError
from regulens.stats._kernels import count_codes, over_scores, placements
from regulens.stats.ranking import checked, codes
from regulens.types.estimates import Estimate, Undefined


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeLong:
    """AUROCs, or differences of AUROCs, with their standard errors for independent pairs.

    Parameters
    ----------
    estimate, se, df
        Float64, shape ``(score,)``; `se` and `df` are NaN where `undefined` says why. The degrees of freedom are
        Satterthwaite's for the two placement variances: about ``n_pos - 1`` where positives are few.
    n_pos, n_neg
        Positives and negatives.
    is_difference
        Whether the estimates are differences, which have no logit interval and a null of 0.
    undefined
        One per score; ``""`` where there is a standard error.
    """

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    n_pos: int
    n_neg: int
    is_difference: bool
    undefined: tuple[str, ...]

    def _t(self, null_value: float | None) -> np.ndarray:
        null = (0.0 if self.is_difference else 0.5) if null_value is None else null_value
        return (self.estimate - null) / self.se

    def p_greater(self, null_value: float | None = None) -> np.ndarray:
        """One-sided p of "above `null_value`" (0.5, or 0 for a difference); NaN where undefined."""
        return stdtr(self.df, -self._t(null_value))

    def p_two_sided(self, null_value: float | None = None) -> np.ndarray:
        """Two-sided p of "not `null_value`"; NaN where undefined."""
        return 2.0 * stdtr(self.df, -np.abs(self._t(null_value)))

    def interval(self, level: float = 0.95, *, scale: str = "logit") -> tuple[np.ndarray, np.ndarray]:
        """Ends of the t intervals, shape ``(score,)`` each.

        Parameters
        ----------
        scale
            ``"logit"`` (default): made on the log odds of the AUROC and mapped back, so that it stays inside (0, 1)
            and covers better near 1 (Qin & Hotilovac 2008). ``"plain"``: ``estimate -+ t se``, not cut at 0 or 1;
            the only scale of a difference.
        """
        if not 0.0 < level < 1.0 or scale not in ("logit", "plain"):
            message = f"Expected a level in (0, 1) and scale 'logit' or 'plain', got {level} and {scale!r}."
            raise ParameterError(message)
        t = stdtrit(self.df, 0.5 + level / 2)
        if scale == "plain" or self.is_difference:
            return self.estimate - t * self.se, self.estimate + t * self.se
        with np.errstate(divide="ignore", invalid="ignore"):
            centre = logit(self.estimate)
            half = t * self.se / (self.estimate * (1.0 - self.estimate))
        return expit(centre - half), expit(centre + half)

    def estimates(self, *, level: float = 0.95, scale: str = "logit", unit: str = "pair") -> list[Estimate | Undefined]:
        """One `Estimate` or `Undefined` per score; `unit` names what the pairs are (``"target"``)."""
        low, high = self.interval(level, scale=scale)
        words = "DeLong, plain t interval" if scale == "plain" or self.is_difference else "DeLong, logit t interval"
        return [
            Undefined(reason=reason)
            if reason
            else Estimate(
                value=float(self.estimate[s]), low=float(low[s]), high=float(high[s]), level=level, method=words,
                n_units=self.n_pos + self.n_neg, unit=unit, se=float(self.se[s]),
            )
            for s, reason in enumerate(self.undefined)
        ]  # fmt: skip


def spread(values: np.ndarray, count: np.ndarray | None = None) -> float:
    """Sample variance (ddof 1), over `count` copies of each value."""
    if count is None:
        return float(np.var(values, ddof=1))
    n = float(count.sum())
    mean = float(np.sum(count * values)) / n
    return float(np.sum(count * np.square(values - mean))) / (n - 1.0)


def finished(
    estimate: np.ndarray, of_pos: np.ndarray, of_neg: np.ndarray, n_pos: int, n_neg: int, *, is_difference: bool
) -> DeLong:
    """Standard errors and df from the two placement variances of every score, and the reason where there is none."""
    by_pos, by_neg = of_pos / max(n_pos, 1), of_neg / max(n_neg, 1)
    variance = by_pos + by_neg
    few = f"{n_pos} positives and {n_neg} negatives; DeLong's standard error needs two of each"
    same = "the standard error is 0: the scores separate the labels completely, do not vary, or do not differ"
    reasons = tuple(few if n_pos < 2 or n_neg < 2 else ("" if v > 1e-24 else same) for v in variance)
    good = np.array([not r for r in reasons], dtype=bool)
    se, df = np.full(good.size, np.nan), np.full(good.size, np.nan)
    se[good] = np.sqrt(variance[good])
    spread_of_variance = np.square(by_pos) / max(n_pos - 1, 1) + np.square(by_neg) / max(n_neg - 1, 1)
    df[good] = np.square(variance[good]) / spread_of_variance[good]
    return DeLong(
        estimate=estimate, se=se, df=df, n_pos=n_pos, n_neg=n_neg, is_difference=is_difference, undefined=reasons,
    )  # fmt: skip


def delong(scores: np.ndarray, label: np.ndarray) -> DeLong:
    """AUROC of every score with DeLong's standard error.

    ``var = S10 / n_pos + S01 / n_neg``, the sample variances of the placements: the share of negatives that each
    positive beats, the share of positives that beat each negative, ties one half (DeLong, DeLong & Clarke-Pearson
    1988). Placements are tabulated by distinct value of the positives (mid-ranks; Sun & Xu 2014), so that it costs
    no more than the AUROC. Tests and intervals use t with Satterthwaite's degrees of freedom, which is the test of
    Brunner & Munzel (2000): with 5 positives the normal form covers 85 % instead of 95 %.

    Parameters
    ----------
    scores
        Shape ``(score, pair)`` or ``(pair,)``, float32 or float64; no NaN.
    label
        Bool, shape ``(pair,)``.

    Examples
    --------
    >>> y = np.arange(8) < 4
    >>> found = delong(np.array([8.0, 6, 5, 2, 7, 4, 3, 1]), y)
    >>> found.estimate.round(4).tolist(), found.se.round(4).tolist()
    ([0.6875], [0.2224])
    """
    scores, label = checked(scores, label)
    n_pos = int(label.sum())
    n_neg = label.size - n_pos

    def one(s: int) -> tuple[float, float, float]:
        code, m = codes(scores[s], label)
        pos, neg = count_codes(code, label, m)
        below, above, wins = placements(pos, neg)
        if n_pos == 0 or n_neg == 0:
            return np.nan, np.nan, np.nan
        area = wins / (float(n_pos) * float(n_neg))
        if n_pos < 2 or n_neg < 2:
            return area, np.nan, np.nan
        return area, spread(below / n_neg, pos), spread(above / n_pos, neg)

    found = np.array(list(over_scores(one, len(scores)))).reshape(len(scores), 3)
    return finished(found[:, 0], found[:, 1], found[:, 2], n_pos, n_neg, is_difference=False)


def _placement_values(values: np.ndarray, label: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AUROC, and the placements of the positives and of the negatives, of one score."""
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    code, m = codes(values, label)
    below, above, wins = placements(*count_codes(code, label, m))
    return wins / (float(n_pos) * float(n_neg)), below[code[label]] / n_neg, above[code[~label]] / n_pos


def delong_difference(scores: np.ndarray, baseline: np.ndarray, label: np.ndarray) -> DeLong:
    """AUROC(score) - AUROC(baseline) on identical pairs, with the standard error of the paired difference.

    The placements are subtracted pair by pair before their variances are taken, which is DeLong's
    ``L S L'`` with the contrast L = (1, -1).

    Parameters
    ----------
    baseline
        Shape ``(pair,)``, ``(1, pair)`` or ``(score, pair)``.
    """
    scores, label = checked(scores, label)
    baseline, _ = checked(baseline, label)
    if len(baseline) not in (1, len(scores)):
        message = f"Expected one baseline or one per score ({len(scores)}), got {len(baseline)}. Repeat it or select."
        raise AlignmentError(message)
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    if n_pos == 0 or n_neg == 0:
        nan = np.full(len(scores), np.nan)
        return finished(nan, nan, nan, n_pos, n_neg, is_difference=True)
    shared = _placement_values(baseline[0], label) if len(baseline) == 1 else None

    def one(s: int) -> tuple[float, float, float]:
        area, v10, v01 = _placement_values(scores[s], label)
        area0, w10, w01 = shared or _placement_values(baseline[s], label)
        if n_pos < 2 or n_neg < 2:
            return area - area0, np.nan, np.nan
        return area - area0, spread(v10 - w10), spread(v01 - w01)

    found = np.array(list(over_scores(one, len(scores)))).reshape(len(scores), 3)
    return finished(found[:, 0], found[:, 1], found[:, 2], n_pos, n_neg, is_difference=True)


def delong_covariance(scores: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs of shape ``(score,)`` and DeLong's covariance between them, shape ``(score, score)``.

    Holds the placements of all scores, float64 ``(score, pair)``; for contrasts of many scores on few pairs.

    Raises
    ------
    ParameterError
        Fewer than two positives or negatives.
    """
    scores, label = checked(scores, label)
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    if n_pos < 2 or n_neg < 2:
        message = f"Expected two or more positives and negatives, got {n_pos} and {n_neg}. Pool units or leave it out."
        raise ParameterError(message)
    found = list(over_scores(lambda s: _placement_values(scores[s], label), len(scores)))
    v10, v01 = np.stack([f[1] for f in found]), np.stack([f[2] for f in found])
    return np.array([f[0] for f in found]), np.atleast_2d(np.cov(v10)) / n_pos + np.atleast_2d(np.cov(v01)) / n_neg


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitAurocs:
    """One AUROC per unit (regulator, perturbation), of several scores.

    Parameters
    ----------
    units
        Values of the unit, sorted, shape ``(unit,)``.
    n_pos, n_neg
        Per unit, shape ``(unit,)``.
    auroc, se
        Shape ``(score, unit)``; `se` is DeLong's from the unit's own pairs. NaN where it has none.
    common_se
        Shape ``(score, unit)``: the error that a unit of this size has if all units share one spread, from placement
        variances pooled within units. Use it to ask whether units differ.
    common_df
        Degrees of freedom of that spread, ``sum (n_pos - 1)`` over units with an AUROC (or of the negatives, where
        they are fewer); 0 where there is none.
    """

    units: np.ndarray
    n_pos: np.ndarray
    n_neg: np.ndarray
    auroc: np.ndarray
    se: np.ndarray
    common_se: np.ndarray
    common_df: int


def delong_by_unit(scores: np.ndarray, label: np.ndarray, unit: np.ndarray) -> UnitAurocs:
    """AUROC inside every unit, its DeLong error, and an error that does not depend on the unit's own luck.

    A unit with three positives that happen to rank alike has a tiny error of its own; weighed by it, units seem to
    differ when they do not. The common error takes the placement variances ``S10`` and ``S01`` pooled over units
    (weights ``n_pos - 1`` and ``n_neg - 1``), so that only the sizes differ: ``S10 / n_pos + S01 / n_neg``.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``.
    unit
        Integers, shape ``(pair,)``.
    """
    scores, label = checked(scores, label)
    units, number = np.unique(np.asarray(unit), return_inverse=True)
    if number.shape != label.shape:
        message = f"Expected one unit per pair, shape {label.shape}, got {number.shape}. Use the regulators."
        raise AlignmentError(message)
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(units.size + 1))
    rows = [order[ends[u] : ends[u + 1]] for u in range(units.size)]
    n_pos = np.bincount(number, weights=label, minlength=units.size).astype(np.int64)
    n_neg = np.bincount(number, minlength=units.size) - n_pos
    shape = (len(scores), units.size)
    area, s10, s01 = (np.full(shape, np.nan) for _ in range(3))

    def one(u: int) -> None:
        if n_pos[u] == 0 or n_neg[u] == 0:
            return
        for s in range(len(scores)):
            area[s, u], v10, v01 = _placement_values(scores[s, rows[u]], label[rows[u]])
            s10[s, u] = spread(v10) if v10.size > 1 else np.nan
            s01[s, u] = spread(v01) if v01.size > 1 else np.nan

    for _ in over_scores(one, units.size):
        pass
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.sqrt(s10 / n_pos + s01 / n_neg)
        pooled = np.sqrt(_pooled(s10, n_pos) / n_pos + _pooled(s01, n_neg) / n_neg)
    return UnitAurocs(
        units=units, n_pos=n_pos, n_neg=n_neg, auroc=area, se=np.where(own > 1e-12, own, np.nan),
        common_se=np.where(np.isfinite(area) & (pooled > 1e-12), pooled, np.nan),
        common_df=int(min(np.maximum(n - 1, 0)[(n_pos > 0) & (n_neg > 0)].sum() for n in (n_pos, n_neg))),
    )  # fmt: skip


def _pooled(variance: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean of the units' variances weighed by their degrees of freedom, shape ``(score, 1)``."""
    weight = np.where(np.isfinite(variance), np.maximum(count - 1, 0), 0).astype(np.float64)
    total = weight.sum(1, keepdims=True)
    return np.divide((np.nan_to_num(variance) * weight).sum(1, keepdims=True), total, out=np.full_like(total, np.nan),
                     where=total > 0)  # fmt: skip
