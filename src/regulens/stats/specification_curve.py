"""Is an effect above zero in more of a grid of specifications than chance would have it? One test for the whole curve.

The specifications share their data, so their number is no sample size, and a share of a grid has no error of its own.
Under the null every unit could as well point the other way, in all specifications at once: signs of units are flipped,
and the whole curve is made again (Simonsohn, Simmons & Nelson 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.errors import AlignmentError, ParameterError
from regulens.stats.inference import Inference


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveTest:
    """Result of the joint test of a grid.

    Parameters
    ----------
    share, mean
        Share of the specifications whose estimate is above 0, and their mean estimate.
    p
        Share of flips with a larger share, or the same share and a mean at least as large; F25, one-sided.
    p_share
        The same of the share alone. Where specifications go together the share is 0 or 1 in most flips, so that this
        cannot be small.
    n, draws
        Specifications with an estimate, and flips.
    """

    share: float
    mean: float
    p: float
    p_share: float
    n: int
    draws: int


def flipped_curve(
    estimate: np.ndarray, loading: np.ndarray, *, draws: int, rng: np.random.Generator
) -> CurveTest | None:
    """Test "above zero in more of the grid than chance" by flipping the signs of units.

    A draw is ``sum_u s_u loading[c, u]`` for every specification c, with one sign ``s_u`` of -1 or +1 per unit for the
    whole grid. Curves are ordered by their share above zero, equal shares by their mean.

    Parameters
    ----------
    estimate
        Shape ``(specification,)``; NaN leaves a specification out.
    loading
        What each unit contributes to each estimate, shape ``(specification, unit)``.
    draws
        > 0.

    Returns
    -------
    None where no specification has an estimate, or nothing varies.

    Examples
    --------
    >>> found = flipped_curve(np.array([0.1, 0.2]), np.array([[0.02, 0.02, 0.06], [0.1, 0.05, 0.05]]), draws=9999,
    ...                       rng=np.random.default_rng(0))
    >>> found.share, round(8 * found.p), round(8 * found.p_share)  # of the 8 patterns of signs
    (1.0, 1, 2)
    """
    estimate, loading = np.asarray(estimate, dtype=np.float64), np.asarray(loading, dtype=np.float64)
    if estimate.ndim != 1 or loading.ndim != 2 or len(loading) != len(estimate):
        message = (
            f"Expected one row of contributions per estimate, got shapes {estimate.shape} and {loading.shape}. "
            "Give both for the same specifications."
        )
        raise AlignmentError(message)
    if draws < 1:
        message = f"Expected at least one draw, got {draws}. Use about 1000 or more."
        raise ParameterError(message)
    kept = np.isfinite(estimate)
    estimate, loading = estimate[kept], loading[kept]
    if not kept.any() or not np.abs(loading).max(initial=0.0) > 0 or not np.isfinite(loading).all():
        return None
    signs = rng.integers(0, 2, (draws, loading.shape[1])) * 2.0 - 1.0
    drawn = signs @ loading.T
    # the same sums in another order may differ in the last digit: so close to zero or to the data is a tie
    slack = 1e-12 * max(1.0, float(np.abs(estimate).max()))
    share, mean = float((estimate > slack).mean()), float(estimate.mean())
    shares = (drawn > slack).mean(1)
    as_many, as_far = shares >= share - 1e-12, drawn.mean(1) >= mean - slack
    more = shares > share + 1e-12

    def p(reached: np.ndarray) -> float:
        return float((1 + reached.sum()) / (1 + draws))

    return CurveTest(
        share=share, mean=mean, p=p(more | (as_many & as_far)), p_share=p(as_many), n=int(kept.sum()), draws=draws
    )  # fmt: skip


def two_way_loading(parts: list[Inference]) -> np.ndarray:
    """Contributions of two kinds of units to each estimate, from deviations laid out on the same units.

    Flipping both kinds gives an estimate the variance of its two-way standard error: the same genes are ranked for
    every perturbation, and signs of perturbations alone would take them for independent.

    Parameters
    ----------
    parts
        One estimate each, with `regulator` of shape ``(1, unit)`` and `target` of shape ``(1, other unit)``, 0 for
        units that take no part. An undefined one gives a row of zeros.

    Returns
    -------
    Shape ``(specification, unit + other unit)``; the squares of a row add up to the squared standard error.
    """
    rows = []
    for part in parts:
        row = np.concatenate([part.regulator[0], part.target[0]])
        spread = np.sqrt(np.square(row).sum())
        usable = not part.undefined[0] and spread > 0
        rows.append(row * (part.se[0] / spread) if usable else np.zeros(row.size))
    return np.stack(rows) if rows else np.zeros((0, 0))
