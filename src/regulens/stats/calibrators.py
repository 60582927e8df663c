"""How does a score become a probability? Maps to [0, 1] that read no label, and Platt, isotonic, beta that read labels.

Every calibrator is monotone and never falls: one that may turn a score around does not read *that* score. A fit that
would fall is flat at the base rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from regulens.errors import ParameterError

Calibrator = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankMap:
    """Share of the training scores that a score exceeds, ties one half; kept half a score off 0 and 1.

    Examples
    --------
    >>> RankMap.fit(np.array([1.0, 2.0, 3.0, 4.0]))(np.array([0.0, 2.0, 9.0])).tolist()
    [0.125, 0.375, 0.875]
    """

    ordered: np.ndarray

    @classmethod
    def fit(cls, scores: np.ndarray) -> RankMap:
        """From training scores, shape ``(pair,)``."""
        if not len(scores):
            message = "Expected training scores, got none. Give the training side at least one pair."
            raise ParameterError(message)
        return cls(ordered=np.sort(np.asarray(scores, dtype=np.float64)))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Mapped scores in (0, 1)."""
        n = len(self.ordered)
        below, upto = (np.searchsorted(self.ordered, scores, side=s) for s in ("left", "right"))
        return np.clip((below + upto) / (2.0 * n), 0.5 / n, 1 - 0.5 / n)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitMap:
    """Logistic function of the score in standard deviations of the training scores from their mean."""

    mean: float
    sd: float

    @classmethod
    def fit(cls, scores: np.ndarray) -> LogitMap:
        """From training scores; one half for all where they do not vary."""
        if not len(scores):
            message = "Expected training scores, got none. Give the training side at least one pair."
            raise ParameterError(message)
        return cls(mean=float(np.mean(scores)), sd=float(np.std(scores)))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Mapped scores in (0, 1)."""
        z = np.asarray(scores, dtype=np.float64) - self.mean
        return np.clip(expit(np.divide(z, self.sd, out=np.zeros_like(z), where=self.sd > 0)), 1e-9, 1 - 1e-9)


#: Maps to [0, 1] that read no label.
MAPS: dict[str, type[RankMap] | type[LogitMap]] = {"rank": RankMap, "logit": LogitMap}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """The same probability for every pair: the base rate of the data it was fitted on."""

    share: float

    @classmethod
    def fit(cls, u: np.ndarray, y: np.ndarray) -> Flat:
        """Share of events; `u` is not read."""
        return cls(share=float(np.mean(y)))

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Probabilities of mapped scores."""
        return np.full(np.shape(u), self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """``expit(a log u - b log(1 - u) + c)``: Platt's curve where ``a == b``, the beta map otherwise."""

    a: float
    b: float
    c: float

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Probabilities of mapped scores."""
        if self.a == self.b:
            return expit(self.a * logit(u) + self.c)
        return expit(self.a * np.log(u) - self.b * np.log1p(-u) + self.c)


def _logistic(features: tuple[np.ndarray, ...], y: np.ndarray, *, steps: int = 60, tol: float = 1e-9) -> np.ndarray:
    """Coefficients of the features and the intercept (last) by Newton steps, with Platt's targets.

    The targets ``(n1 + 1) / (n1 + 2)`` and ``1 / (n0 + 2)`` in place of 1 and 0 (Platt 1999) keep the fit finite where
    the score separates the labels.
    """
    n1 = float(y.sum())
    n0 = len(y) - n1
    target = np.where(y, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))
    x = np.stack([*features, np.ones(len(y))])
    beta = np.zeros(len(x))
    beta[-1] = logit(target.mean())
    for _ in range(steps):
        p = expit(beta @ x)
        hessian = (x * np.maximum(p * (1 - p), 1e-12)) @ x.T
        hessian[np.diag_indices_from(hessian)] += 1e-9 * len(y)
        step = np.linalg.solve(hessian, x @ (target - p))
        size = float(np.abs(step).max())
        beta += step * min(1.0, 2.0 / max(size, 1e-300))  # a long step is shortened: the start may be far away
        if size < tol:
            break
    return beta


def _is_decided(u: np.ndarray, y: np.ndarray) -> bool:
    """Whether there is anything to fit: both labels, and more than one score."""
    return bool(y.any() and not y.all() and np.ptp(u) > 0)


def fit_platt(u: np.ndarray, y: np.ndarray) -> Calibrator:
    """Platt scaling of the log odds of `u`: ``expit(a logit(u) + c)`` with ``a >= 0``.

    Parameters
    ----------
    u
        Mapped scores in (0, 1), shape ``(pair,)``.
    y
        Bool, shape ``(pair,)``.
    """
    if not _is_decided(u, y):
        return Flat.fit(u, y)
    a, c = _logistic((logit(u),), y)
    return Curve(a=float(a), b=float(a), c=float(c)) if a > 0 else Flat.fit(u, y)


def fit_beta(u: np.ndarray, y: np.ndarray) -> Calibrator:
    """Beta calibration ``expit(a log u - b log(1 - u) + c)`` with ``a, b >= 0`` (Kull, Silva Filho & Flach 2017).

    A coefficient that comes out negative is left out and the rest fitted again.
    """
    if not _is_decided(u, y):
        return Flat.fit(u, y)
    low, high = np.log(u), -np.log1p(-u)
    a, b, c = _logistic((low, high), y)
    if a < 0 or b < 0:
        kept = high if a < b else low
        slope, c = _logistic((kept,), y)
        if slope <= 0:
            return Flat.fit(u, y)
        a, b = (0.0, slope) if a < b else (slope, 0.0)
    return Curve(a=float(a), b=float(b), c=float(c))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """A rising function through corners, linear between them and flat outside."""

    u: np.ndarray
    p: np.ndarray

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Probabilities of mapped scores."""
        return np.interp(u, self.u, self.p)


def fit_isotonic(u: np.ndarray, y: np.ndarray) -> Calibrator:
    """The rising step function of least squares, interpolated between its corners; it makes ties.

    Equal to ``sklearn.isotonic.IsotonicRegression(out_of_bounds="clip")``.
    """
    if not _is_decided(u, y):
        return Flat.fit(u, y)
    values, number, size = np.unique(u, return_inverse=True, return_counts=True)
    share = np.bincount(number, weights=y) / size
    p = isotonic_regression(share, weights=size.astype(np.float64)).x
    corner = np.ones(len(p), dtype=bool)  # only where a step begins or ends
    corner[1:-1] = (p[1:-1] != p[:-2]) | (p[1:-1] != p[2:])
    return Steps(u=values[corner], p=np.clip(p[corner], 0.0, 1.0))


def fit_base_rate(u: np.ndarray, y: np.ndarray) -> Calibrator:
    """The base rate: no score at all."""
    return Flat.fit(u, y)


#: Calibrators by name.
CALIBRATORS: dict[str, Callable[[np.ndarray, np.ndarray], Calibrator]] = {
    "platt": fit_platt,
    "isotonic": fit_isotonic,
    "beta": fit_beta,
}


def shift_prevalence(p: np.ndarray, *, old: float, new: float) -> np.ndarray:
    """Probabilities after a change of the base rate alone: odds times ``new odds / old odds`` (label shift).

    Examples
    --------
    >>> shift_prevalence(np.array([0.5]), old=0.5, new=0.1).round(3).tolist()
    [0.1]
    """
    if not (0 < old < 1 and 0 < new < 1):
        message = f"Expected base rates inside (0, 1), got {old} and {new}. Correct only where both labels occur."
        raise ParameterError(message)
    ratio = new * (1 - old) / (old * (1 - new))
    return p * ratio / (1 - p + p * ratio)
