"""Do events happen as often as probabilities say? Expected calibration error, Brier score and its parts, log loss.

F19: ``ECE = sum_b (n_b / n) |observed share_b - mean probability_b|``. An ECE near 0 is easily had: whoever says the
base rate of everything has one. What a probability is good for is its resolution, a part of the Brier score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.errors import ParameterError

#: Probabilities are kept this far from 0 and 1 in the log loss, so that one certain error is not infinite.
CLIP = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bins:
    """Pairs sorted into bins by their probability.

    Parameters
    ----------
    index
        Bin of every pair, shape ``(pair,)``.
    n
        Pairs per bin, shape ``(bin,)``; a bin may be empty.
    predicted, observed
        Sums of probabilities and of events per bin, shape ``(bin,)``.
    """

    index: np.ndarray
    n: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]."""
        return float(np.abs(self.observed - self.predicted).sum() / self.n.sum())

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean probability and share of events of the bins that are not empty, as ``sklearn.calibration_curve``."""
        full = self.n > 0
        return self.predicted[full] / self.n[full], self.observed[full] / self.n[full]


def checked(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities as float64 and events as bool, or an error."""
    p, y = np.asarray(p, dtype=np.float64), np.asarray(y)
    if p.shape != y.shape or p.ndim != 1 or not p.size or not np.isfinite(p).all() or p.min() < 0 or p.max() > 1:
        message = (
            f"Expected one probability in [0, 1] per event, got shapes {p.shape} and {y.shape}"
            f"{'' if p.size == 0 else f' and values from {p.min():.3g} to {p.max():.3g}'}. Map scores to [0, 1] first."
        )
        raise ParameterError(message)
    return p, y.astype(bool)


def _bins(p: np.ndarray, y: np.ndarray, inner: np.ndarray) -> Bins:
    index = np.searchsorted(inner, p)  # an edge belongs to the bin below it, as in scikit-learn
    size = len(inner) + 1
    return Bins(
        index=index, n=np.bincount(index, minlength=size), predicted=np.bincount(index, weights=p, minlength=size),
        observed=np.bincount(index, weights=y, minlength=size),
    )  # fmt: skip


def equal_width(p: np.ndarray, y: np.ndarray, n_bins: int = 10) -> Bins:
    """Bins of equal width over [0, 1].

    Examples
    --------
    >>> found = equal_width(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 0]))
    >>> round(found.ece, 3)
    0.25
    """
    p, y = checked(p, y)
    return _bins(p, y, np.linspace(0, 1, n_bins + 1)[1:-1])


def equal_mass(p: np.ndarray, y: np.ndarray, n_bins: int = 15) -> Bins:
    """Bins of about equally many pairs: edges at quantiles of the probabilities, so that bins follow where they lie.

    Equal probabilities share a bin; with many ties some bins stay empty.
    """
    p, y = checked(p, y)
    return _bins(p, y, np.percentile(p, np.linspace(0, 1, n_bins + 1)[1:-1] * 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrierParts:
    """The Brier score and what it is made of: ``brier = reliability - resolution + uncertainty + within``.

    Parameters
    ----------
    brier
        Mean squared difference of probability and event; lower is better.
    reliability
        Squared distance of bins from the diagonal; 0 is calibrated.
    resolution
        Squared distance of bins' shares of events from the base rate; 0 says nothing.
    uncertainty
        Variance of the event: the Brier score of its own base rate.
    within
        What bins hide: variance of probabilities inside bins, less twice their covariance with the event
        (Stephenson, Coelho & Jolliffe 2008). 0 where every bin has one probability.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_parts(p: np.ndarray, y: np.ndarray, bins: Bins) -> BrierParts:
    """Murphy's decomposition over `bins`, with the remainder that bins leave, so that the sum is exact.

    Examples
    --------
    >>> p, y = np.array([0.2, 0.2, 0.6, 0.6]), np.array([0, 0, 1, 0])
    >>> parts = brier_parts(p, y, equal_width(p, y))
    >>> abs(parts.reliability - parts.resolution + parts.uncertainty + parts.within - parts.brier) < 1e-12
    True
    """
    p, y = checked(p, y)
    n, full = len(p), bins.n > 0
    size = bins.n[full]
    mean, share, base = bins.predicted[full] / size, bins.observed[full] / size, float(y.mean())
    brier = float(np.mean((p - y) ** 2))
    reliability = float((size * (mean - share) ** 2).sum() / n)
    resolution = float((size * (share - base) ** 2).sum() / n)
    square, cross = float(p @ p), float(p[y].sum())
    within = (square - 2 * cross - float((size * mean**2).sum()) + 2 * float((size * mean * share).sum())) / n
    return BrierParts(
        brier=brier, reliability=reliability, resolution=resolution, uncertainty=base * (1 - base), within=within
    )


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    """Mean ``-log`` of the probability that was given to what happened; probabilities kept `CLIP` off 0 and 1.

    >>> round(log_loss(np.array([0.5, 0.5]), np.array([0, 1])), 4)
    0.6931
    """
    p, y = checked(p, y)
    p = np.clip(p, CLIP, 1 - CLIP)
    return float(-(np.log(p[y]).sum() + np.log1p(-p[~y]).sum()) / len(p))
