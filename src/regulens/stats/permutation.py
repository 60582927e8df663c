"""How often does a null world do as well as the data? Permutation p-values that are never zero."""

from __future__ import annotations

from typing import Literal

import numpy as np

from regulens.errors import ParameterError


def permutation_p(
    observed: np.ndarray | float, draws: np.ndarray, *, side: Literal["greater", "less", "two-sided"] = "greater"
) -> np.ndarray:
    """``(1 + #{draw >= observed}) / (1 + n)`` (Phipson & Smyth 2010).

    Parameters
    ----------
    observed
        Scalar or shape ``(score,)``.
    draws
        Shape ``(draw,)`` or ``(score, draw)``, finite, computed by the same function as `observed`.
    side
        ``"two-sided"`` doubles the smaller tail, capped at 1.

    Returns
    -------
    Float64, shape ``(score,)``, in [1 / (1 + n), 1].

    Examples
    --------
    >>> permutation_p(2.0, np.array([0.0, 1.0, 3.0])).tolist()
    [0.5]
    """
    observed = np.atleast_1d(np.asarray(observed, dtype=np.float64))
    draws = np.atleast_2d(np.asarray(draws, dtype=np.float64))
    if draws.shape[0] != observed.size or draws.shape[1] == 0:
        message = (
            f"Expected draws of shape ({observed.size}, n) with n > 0, got {draws.shape}. "
            "Draw one null per observed value."
        )
        raise ParameterError(message)
    if not np.isfinite(draws).all() or not np.isfinite(observed).all():
        message = "Expected finite draws and observed values, got others. Count undefined draws before testing."
        raise ParameterError(message)
    n = draws.shape[1]
    # the same arithmetic on permuted data can differ in the last digit: a draw that close counts as a tie
    slack = 1e-12 * np.maximum(1.0, np.abs(observed))[:, None]
    upper = (1 + (draws >= observed[:, None] - slack).sum(1)) / (1 + n)
    lower = (1 + (draws <= observed[:, None] + slack).sum(1)) / (1 + n)
    if side == "greater":
        return upper
    if side == "less":
        return lower
    if side == "two-sided":
        return np.minimum(1.0, 2 * np.minimum(upper, lower))
    message = f"Expected side to be 'greater', 'less' or 'two-sided', got {side!r}."
    raise ParameterError(message)
