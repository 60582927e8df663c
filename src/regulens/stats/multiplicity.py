"""How many of these p-values survive having looked so often? Adjusted p-values, derived and never typed.

All functions take raw p-values of shape ``(test,)`` in [0, 1] and return adjusted ones in the same order,
never smaller than the raw ones. Equal to ``statsmodels.stats.multitest.multipletests``.
"""

from __future__ import annotations

import numpy as np

from regulens.errors import ParameterError


def _checked(p: np.ndarray) -> np.ndarray:
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1:
        message = f"Expected a vector of p-values, got shape {p.shape}. Pass one family at a time."
        raise ParameterError(message)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        message = "Expected p-values in [0, 1], got others. Leave undefined tests out of the family."
        raise ParameterError(message)
    return p


def _step_up(p: np.ndarray, factor: float) -> np.ndarray:
    """``min over j >= i of factor * p_(j) / j``, capped at 1, back in the order of `p`."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * factor / np.arange(1, p.size + 1)
    out = np.empty_like(p)
    out[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    # p * m / m can fall one unit in the last place below p; an adjusted value never does
    return np.maximum(out, p)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """q-values that control the false discovery rate for independent or positively dependent tests.

    ``q_(i) = min over j >= i of min(1, p_(j) m / j)`` (Benjamini & Hochberg 1995).

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    p = _checked(p)
    return _step_up(p, float(p.size))


def benjamini_yekutieli(p: np.ndarray) -> np.ndarray:
    """q-values that control the false discovery rate under any dependence (Benjamini & Yekutieli 2001).

    As `benjamini_hochberg` with m replaced by ``m * (1 + 1/2 + ... + 1/m)``.

    Examples
    --------
    >>> benjamini_yekutieli(np.array([0.01, 0.5])).round(4).tolist()
    [0.03, 0.75]
    """
    p = _checked(p)
    return _step_up(p, float(p.size * np.sum(1.0 / np.arange(1, p.size + 1))))


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values that control the family-wise error rate under any dependence (Holm 1979).

    ``max over j <= i of min(1, (m - j + 1) p_(j))``.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p = _checked(p)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(p.size, 0, -1)
    out = np.empty_like(p)
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return out
