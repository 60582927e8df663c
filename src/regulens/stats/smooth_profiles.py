"""Does a profile over depth have a trend, or is it one of those that neighbouring layers alone would draw?

Layers are not independent observations: each works on what the last one left. A rank correlation with depth over 12
or 18 layers is often large in a profile that only wanders. Here it is compared with surrogate profiles that are as
smooth as the profile may be.

No test on one profile can tell a trend from a process whose memory is as long as the profile. The null taken here is:
correlation that fades from layer to layer (autoregressive, up to a random walk), or a smooth process whose length is
at most a quarter of the depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from regulens.errors import ParameterError

Surrogate = Literal["phase", "ar1", "gp"]
Method = Literal["bounded", "phase", "ar1", "gp"]

#: Below this number of layers nothing is said.
MIN_LAYERS = 6
#: Share of the error probability that the bounded test spends on excluding processes that are too smooth.
BOUND = 0.005

_RHO = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)


def _ar_root(n: int, rho: float) -> np.ndarray:
    """Lower-triangular root of the covariance of n steps: stationary AR(1), or a random walk at ``rho = 1``."""
    if rho >= 1.0:
        return np.tril(np.ones((n, n)))
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.linalg.cholesky(rho**lag)


def _smooth_covariance(n: int, length: float, nugget: float) -> np.ndarray:
    """Squared-exponential covariance over n steps with a share `nugget` of independent noise."""
    lag = np.subtract.outer(np.arange(n), np.arange(n))
    return (1.0 - nugget) * np.exp(-0.5 * np.square(lag / length)) + nugget * np.eye(n)


def spearman_with_depth(profiles: np.ndarray) -> np.ndarray:
    """Spearman's rho of each profile with the layer number, shape ``(profile,)``; NaN for a constant profile.

    Examples
    --------
    >>> spearman_with_depth(np.array([[1.0, 2.0, 4.0, 3.0]])).round(2).tolist()
    [0.8]
    """
    ranks = rankdata(np.atleast_2d(profiles), axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    depth = np.arange(ranks.shape[1]) - 0.5 * (ranks.shape[1] - 1)
    length = np.sqrt(np.square(ranks).sum(1) * (depth @ depth))
    return np.divide(ranks @ depth, length, out=np.full(len(ranks), np.nan), where=length > 0)


def _residual_lag(profiles: np.ndarray) -> np.ndarray:
    """Lag-one autocorrelation after a straight line in depth is taken out; what a linear trend cannot change."""
    n = profiles.shape[1]
    line = np.linalg.qr(np.column_stack([np.ones(n), np.arange(n)]))[0]
    rest = profiles - (profiles @ line) @ line.T
    square = np.square(rest).sum(1)
    product = (rest[:, 1:] * rest[:, :-1]).sum(1)
    return np.divide(product, square, out=np.full(len(rest), -1.0), where=square > 1e-24 * np.square(profiles).sum(1))


def _restricted_likelihood(y: np.ndarray, covariance: np.ndarray) -> float:
    """Log restricted likelihood of a Gaussian process with unknown mean and variance, up to a constant."""
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, np.column_stack([np.ones(y.size), y]))
    one, value = white[:, 0], white[:, 1]
    square = float(value @ value - (one @ value) ** 2 / (one @ one))
    return float(-0.5 * (y.size - 1) * np.log(square) - np.log(np.diag(root)).sum() - 0.5 * np.log(one @ one))


def surrogates(profile: np.ndarray, *, kind: Surrogate, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Profiles with the autocorrelation of `profile` and no trend of their own, shape ``(draw, layer)``.

    Parameters
    ----------
    profile
        Finite, not constant, shape ``(layer,)``.
    kind
        ``"phase"``: the amplitudes of the Fourier transform are kept, the phases drawn (Theiler et al. 1992); the
        profile is taken to be periodic, which a short profile is not. ``"ar1"`` and ``"gp"``: Gaussian draws from an
        AR(1) process, or from a squared-exponential process with noise, fitted by restricted likelihood with a
        constant mean, so that a real trend is counted as memory. Mean 0, variance 1.
    """
    y = np.asarray(profile, dtype=np.float64)
    if y.ndim != 1 or y.size < 3 or not np.isfinite(y).all() or np.ptp(y) == 0:
        message = f"Expected a finite profile of 3 or more layers that is not constant, got shape {y.shape}."
        raise ParameterError(message)
    n = y.size
    if kind == "phase":
        amplitude = np.fft.rfft(y - y.mean())
        turn = np.exp(2j * np.pi * rng.random((draws, amplitude.size)))
        if n % 2 == 0:  # the last frequency of an even length is real
            turn[:, -1] = rng.choice([-1.0, 1.0], draws)
        return np.fft.irfft(amplitude * turn, n)
    if kind == "ar1":
        covariances = [_ar_root(n, r) @ _ar_root(n, r).T for r in np.linspace(0.0, 0.98, 50)]
    elif kind == "gp":
        grid = [(length, g) for length in np.geomspace(0.3, n, 12) for g in (0.01, 0.05, 0.15, 0.3, 0.6)]
        covariances = [_smooth_covariance(n, length, g) for length, g in grid]
    else:
        message = f"Expected surrogates of kind 'phase', 'ar1' or 'gp', got {kind!r}."
        raise ParameterError(message)
    best = int(np.argmax([_restricted_likelihood(y, c) for c in covariances]))
    return rng.standard_normal((draws, n)) @ np.linalg.cholesky(covariances[best]).T


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthTrend:
    """Trend of profiles over depth and how often processes without a trend do as well.

    Parameters
    ----------
    rho
        Spearman's rho with depth, shape ``(profile,)``.
    p
        Two-sided, shape ``(profile,)``; NaN where `undefined` says why.
    residual_autocorrelation
        Lag one, after a straight line, shape ``(profile,)``.
    method
        In words.
    undefined
        One per profile; ``""`` where there is a p.
    """

    rho: np.ndarray
    p: np.ndarray
    residual_autocorrelation: np.ndarray
    n_layers: int
    method: str
    undefined: tuple[str, ...]


def depth_trend(
    profiles: np.ndarray, *, method: Method = "bounded", draws: int = 2000, rng: np.random.Generator
) -> DepthTrend:
    """Two-sided test of "the profile has a trend over depth" against surrogates without one.

    The default is conservative by construction and the only one that holds its level on profiles of 6 to 18 layers
    (``docs/calibration.tsv``). It draws profiles of every process of the null (see the module), leaves out those that
    would be less autocorrelated than this profile, straight line taken out, in a share below `BOUND` of their draws,
    and returns the largest p of the others plus `BOUND` (Berger & Boos 1994). p is never below `BOUND`. With 6 to 8
    layers hardly any trend can be told from a random walk, and p says so.

    Parameters
    ----------
    profiles
        Shape ``(profile, layer)`` or ``(layer,)``, layers in order. NaN makes a profile undefined.
    method
        ``"bounded"``; or plain surrogates of each profile, see `surrogates`: descriptive, since a spectrum or a memory
        that is estimated from the tested profile itself is estimated too short.
    draws
        Surrogates per profile, or per process of the null.

    Examples
    --------
    >>> g = np.random.default_rng(0)
    >>> found = depth_trend(np.arange(18) + g.normal(0, 1, 18), rng=g)
    >>> found.rho.round(2).tolist(), bool(found.p[0] < 0.05)
    ([0.99], True)
    """
    profiles = np.atleast_2d(np.asarray(profiles, dtype=np.float64))
    if profiles.ndim != 2 or draws < 1:
        message = f"Expected profiles of shape (profile, layer) and draws > 0, got {profiles.shape} and {draws}."
        raise ParameterError(message)
    count, n = profiles.shape
    reasons = []
    for y in profiles:
        if n < MIN_LAYERS:
            reasons.append(f"{n} layers; a trend needs at least {MIN_LAYERS}")
        elif not np.isfinite(y).all():
            reasons.append("a layer has no value")
        elif np.ptp(y) == 0:
            reasons.append("the profile is constant")
        else:
            reasons.append("")
    usable = np.array([not r for r in reasons])
    rho, lag, p = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    if usable.any():
        rho[usable] = spearman_with_depth(profiles[usable])
        lag[usable] = _residual_lag(profiles[usable])
        if method == "bounded":
            p[usable] = _bounded(np.abs(rho[usable]), lag[usable], n, draws, rng)
        else:
            for k in np.flatnonzero(usable):
                null = np.abs(spearman_with_depth(surrogates(profiles[k], kind=method, draws=draws, rng=rng)))
                p[k] = (1 + np.count_nonzero(null >= abs(rho[k]) - 1e-12)) / (1 + draws)
    words = {
        "bounded": f"largest p over autoregressive and smooth processes that the profile allows, {draws} draws each",
        "phase": f"phase-randomised surrogates, {draws} draws",
        "ar1": f"surrogates of a fitted AR(1) process, {draws} draws",
        "gp": f"surrogates of a fitted Gaussian process, {draws} draws",
    }
    return DepthTrend(
        rho=rho, p=p, residual_autocorrelation=lag, n_layers=n, method=words[method], undefined=tuple(reasons)
    )


def _bounded(rho: np.ndarray, lag: np.ndarray, n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Largest p over the processes that are not too smooth for a profile, plus the price of having asked."""
    lengths = [s for s in (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0) if s <= max(n / 4, 1.0)]
    roots = [_ar_root(n, r) for r in _RHO]
    roots += [np.linalg.cholesky(_smooth_covariance(n, s, g)) for s in lengths for g in (0.001, 0.02, 0.05)]
    worst = np.zeros(rho.size)
    for k, root in enumerate(roots):
        drawn = rng.standard_normal((draws, n)) @ root.T
        null = np.sort(np.abs(spearman_with_depth(drawn)))
        p = (1.0 + draws - np.searchsorted(null, rho - 1e-12)) / (1.0 + draws)
        allowed = np.searchsorted(np.sort(_residual_lag(drawn)), lag, side="right") >= BOUND * draws
        # independent layers are always allowed: a profile may be rougher than all of these processes
        worst = np.maximum(worst, np.where(allowed | (k == 0), p, 0.0))
    return np.minimum(worst + BOUND, 1.0)
