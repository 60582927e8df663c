"""Which simple curve describes a metric over the number of cells: none, a line, a logarithm, a power, a saturation?

Every family is linear in all but at most one parameter. That one is searched over its whole range and the others
follow by least squares (variable projection, Golub & Pereyra 1973), so no starting value decides the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression, minimize_scalar

from regulens.errors import ParameterError
from regulens.stats.permutation import permutation_p
from regulens.types.estimates import Undefined

Family = Literal["constant", "linear", "log", "power", "saturation"]

#: Curves by name: formula as printed, names of the coefficients of the basis, whether a rate or exponent is searched.
FAMILIES: dict[str, str] = {
    "constant": "c",
    "linear": "a N + c",
    "log": "a ln N + c",
    "power": "a N^b + c",
    "saturation": "a (1 - exp(-b N)) + c",
}


def _basis(family: str, n: np.ndarray, shape: float) -> np.ndarray:
    """Columns that the linear coefficients multiply, shape ``(point, 1 or 2)``; the last is the constant."""
    one = np.ones_like(n)
    if family == "constant":
        return one[:, None]
    if family == "linear":
        g = n
    elif family == "log":
        g = np.log(n)
    elif family == "power":
        # (N^b - 1) / b keeps its meaning, and its digits, where b goes to 0: there it is ln N
        g = np.expm1(shape * np.log(n)) / shape
    else:
        g = -np.expm1(-shape * n)
    return np.column_stack([g, one])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveFit:
    """A least-squares curve with what is needed to compare it with others.

    Parameters
    ----------
    family
        Name in `FAMILIES`.
    parameters
        ``a``, ``b``, ``c`` of the formula, those it has.
    rss, r2
        Weighted residual sum of squares, and 1 minus its ratio to that of the weighted mean.
    aicc
        ``n ln(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1)``; k counts the coefficients and the residual variance.
    n_points, n_parameters
        Points fitted, and k.
    """

    family: str
    parameters: dict[str, float]
    rss: float
    r2: float
    aicc: float
    n_points: int
    n_parameters: int
    _linear: np.ndarray
    _shape: float

    @property
    def formula(self) -> str:
        """The curve in symbols."""
        return FAMILIES[self.family]

    def predict(self, n: np.ndarray) -> np.ndarray:
        """Value of the curve at `n` (> 0 where the family has a logarithm or a power), the shape of `n`."""
        n = np.asarray(n, dtype=np.float64)
        return (_basis(self.family, n.ravel(), self._shape) @ self._linear).reshape(n.shape)


def _solve(basis: np.ndarray, y: np.ndarray, root_weight: np.ndarray) -> tuple[np.ndarray, float]:
    design = basis * root_weight[:, None]
    wanted = y * root_weight
    scale = np.sqrt(np.square(design).sum(0))
    scale[scale == 0] = 1.0
    found = np.linalg.lstsq(design / scale, wanted, rcond=None)[0] / scale
    return found, float(np.square(wanted - design @ found).sum())


def _shapes(family: str, n: np.ndarray) -> np.ndarray:
    """Grid over the parameter that is not linear: rates from a straight line to a step, or exponents."""
    if family == "saturation":
        return np.geomspace(1e-3 / n.max(), 20.0 / n.min(), 120)
    if family == "power":
        grid = np.linspace(-3.0, 3.0, 121)
        grid[60] = 1e-6
        return grid
    return np.array([0.0])


def _best_shape(family: str, n: np.ndarray, y: np.ndarray, root_weight: np.ndarray) -> float:
    grid = _shapes(family, n)
    if grid.size == 1:
        return float(grid[0])
    rss = np.array([_solve(_basis(family, n, s), y, root_weight)[1] for s in grid])
    k = int(np.argmin(rss))
    low, high = grid[max(k - 1, 0)], grid[min(k + 1, grid.size - 1)]
    is_log = family == "saturation"
    ends = (np.log(low), np.log(high)) if is_log else (low, high)

    def cost(x: float) -> float:
        s = float(np.exp(x)) if is_log else float(x)
        if family == "power" and abs(s) < 1e-6:
            s = 1e-6
        return _solve(_basis(family, n, s), y, root_weight)[1]

    found = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-10 * (1 + abs(ends[1]))})
    best = float(np.exp(found.x)) if is_log else float(found.x)
    if found.fun > rss[k]:
        best = float(grid[k])
    return 1e-6 if family == "power" and abs(best) < 1e-6 else best


def _checked(n: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, y = np.asarray(n, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weight = np.ones_like(y) if weight is None else np.asarray(weight, dtype=np.float64)
    good = n.ndim == 1 and n.shape == y.shape == weight.shape
    if not good or not (np.isfinite(n).all() and np.isfinite(y).all() and np.isfinite(weight).all()):
        message = (
            f"Expected vectors of sizes, values and weights without NaN, got shapes {n.shape}, {y.shape} and "
            f"{weight.shape}, or others inside. Leave undefined values out."
        )
        raise ParameterError(message)
    if (n <= 0).any() or (weight <= 0).any():
        message = "Expected sizes and weights above 0, got others. Leave empty draws out."
        raise ParameterError(message)
    return n, y, weight


def fit_curve(family: Family, n: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> CurveFit | Undefined:
    """Least-squares fit of one family to replicate points.

    Parameters
    ----------
    n
        Sizes (cells), > 0, shape ``(point,)``; replicates of a size are separate points.
    y
        Metric, shape ``(point,)``.
    weight
        > 0, shape ``(point,)``: inverse variances up to a factor, scaled to a mean of 1; equal by default. AICc
        values are comparable between fits with the same points and weights only.

    Returns
    -------
    `Undefined` with fewer distinct sizes than coefficients, too few points for AICc (n <= k + 1), or a perfect fit.

    Examples
    --------
    >>> n = np.array([25, 50, 100, 150, 200, 300, 500, 750, 1000])
    >>> y = np.array([.5359, .5419, .5445, .5557, .5924, .5936, .6072, .6106, .5960])
    >>> found = fit_curve("log", n, y)
    >>> round(found.parameters["a"], 5), round(found.parameters["c"], 4), round(found.aicc, 2)
    (0.02238, 0.4572, -69.24)
    """
    if family not in FAMILIES:
        message = f"Expected a curve among {', '.join(FAMILIES)}, got {family!r}. Choose one of them."
        raise ParameterError(message)
    n, y, weight = _checked(n, y, weight)
    coefficients = {"constant": 1, "linear": 2, "log": 2, "power": 3, "saturation": 3}[family]
    k = coefficients + 1
    sizes = np.unique(n).size
    if sizes < coefficients or y.size <= k + 1:
        return Undefined(
            reason=f"{y.size} points at {sizes} sizes; the {family} curve needs {k + 2} points at {coefficients} sizes"
        )
    weight = weight / weight.mean()
    root = np.sqrt(weight)
    shape = _best_shape(family, n, y, root)
    linear, rss = _solve(_basis(family, n, shape), y, root)
    mean = np.average(y, weights=weight)
    total = float(np.sum(weight * np.square(y - mean)))
    if rss <= 1e-24 * max(float(np.sum(weight * np.square(y))), 1e-300):
        return Undefined(reason=f"the {family} curve fits without error, so that fits cannot be compared")
    parameters = {"c": float(linear[-1])}
    if family != "constant":
        parameters["a"] = float(linear[0])
    if family in ("power", "saturation"):
        parameters["b"] = shape
    if family == "power":  # from (N^b - 1) / b to N^b
        parameters["a"] = float(linear[0] / shape)
        parameters["c"] = float(linear[1] - linear[0] / shape)
    return CurveFit(
        family=family,
        parameters=dict(sorted(parameters.items())),
        rss=rss,
        r2=1.0 - rss / total if total > 0 else 0.0,
        aicc=float(y.size * np.log(rss / y.size)) + 2 * k + 2 * k * (k + 1) / (y.size - k - 1),
        n_points=y.size,
        n_parameters=k,
        _linear=linear,
        _shape=shape,
    )


def compare_curves(
    n: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None, *, families: Sequence[Family] = tuple(FAMILIES)
) -> pd.DataFrame:
    """All families on the same points, best AICc first, with Akaike weights and the error of leaving sizes out.

    Returns
    -------
    One row per family: ``family, formula, a, b, c, r2, rss, aicc, delta, akaike_weight, n_points, n_parameters,
    left_out_rmse, undefined``; NaN beside a reason in ``undefined`` where a family cannot be fitted.
    ``left_out_rmse`` is the root mean squared error at sizes that the fit has not seen (`leave_one_size_out`).
    """
    n, y, weight = _checked(n, y, weight)
    rows = []
    for family in families:
        fit = fit_curve(family, n, y, weight)
        row = {"family": family, "formula": FAMILIES[family], "undefined": ""}
        if isinstance(fit, Undefined):
            row["undefined"] = fit.reason
        else:
            left_out = leave_one_size_out(family, n, y, weight)
            row.update(
                {p: fit.parameters.get(p, np.nan) for p in ("a", "b", "c")},
                r2=fit.r2, rss=fit.rss, aicc=fit.aicc, n_points=fit.n_points, n_parameters=fit.n_parameters,
                left_out_rmse=np.nan if isinstance(left_out, Undefined) else float(np.sqrt(np.mean(left_out**2))),
            )  # fmt: skip
        rows.append(row)
    columns = [
        "family", "formula", "a", "b", "c", "r2", "rss", "aicc", "delta", "akaike_weight", "n_points", "n_parameters",
        "left_out_rmse", "undefined",
    ]  # fmt: skip
    frame = pd.DataFrame(rows).reindex(columns=columns)
    frame["delta"] = frame["aicc"] - frame["aicc"].min()
    likelihood = np.exp(-0.5 * frame["delta"])
    frame["akaike_weight"] = likelihood / likelihood.sum()
    return frame.sort_values("aicc", kind="stable", ignore_index=True)


def leave_one_size_out(
    family: Family, n: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray | Undefined:
    """Error of every point when all points of its size are left out of the fit, shape ``(point,)``.

    Points of one size share whatever made that size unusual, so they leave together.
    """
    n, y, weight = _checked(n, y, weight)
    out = np.empty_like(y)
    for size in np.unique(n):
        gone = n == size
        if gone.all():
            return Undefined(reason="one size only")
        fit = fit_curve(family, n[~gone], y[~gone], weight[~gone])
        if isinstance(fit, Undefined):
            return Undefined(reason=f"without size {size:g}: {fit.reason}")
        out[gone] = y[gone] - fit.predict(n[gone])
    return out


def monotone_trend(
    n: np.ndarray,
    y: np.ndarray,
    *,
    block: np.ndarray | None = None,
    increasing: bool = True,
    draws: int = 999,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Isotonic R squared and its permutation p: does the metric rise (or fall) over the sizes, in any shape?

    The statistic is the share of variance that a monotone step function explains, as in the E-bar-squared test of
    Barlow, Bartholomew, Bremner & Brunk (1972). Values are permuted over sizes, within blocks where given (the draws
    of one nested replicate, say), and refitted.

    Returns
    -------
    The statistic, in [0, 1], and p in [1 / (1 + draws), 1]; NaN for both when all values are equal.

    Examples
    --------
    >>> r2, p = monotone_trend(np.arange(1, 9), np.arange(8.0), rng=np.random.default_rng(0))
    >>> r2, p < 0.01
    (1.0, True)
    """
    n, y, _ = _checked(n, y, None)
    block = np.zeros(y.size, dtype=np.int64) if block is None else np.unique(block, return_inverse=True)[1]
    if block.shape != y.shape:
        message = f"Expected one block per point, shape {y.shape}, got {block.shape}."
        raise ParameterError(message)
    statistic = _isotonic_r2(n, block, increasing=increasing)
    observed = statistic(y)
    if np.isnan(observed):
        return np.nan, np.nan
    rows = [np.flatnonzero(block == b) for b in range(block.max() + 1)]
    found = np.empty(draws)
    for d in range(draws):
        shuffled = y.copy()
        for at in rows:
            shuffled[at] = y[rng.permutation(at)]
        found[d] = statistic(shuffled)
    return observed, float(permutation_p(observed, found)[0])


def _isotonic_r2(n: np.ndarray, block: np.ndarray, *, increasing: bool) -> Callable[[np.ndarray], float]:
    """Share of the variance within blocks that a monotone function of the size explains."""
    sizes, number = np.unique(n, return_inverse=True)
    weight = np.bincount(number).astype(np.float64)
    per_block = np.bincount(block)

    def statistic(y: np.ndarray) -> float:
        y = y - (np.bincount(block, weights=y) / per_block)[block]
        total = float(np.square(y).sum())
        if not total > 1e-24 * max(1.0, float(np.abs(y).max(initial=0.0)) ** 2):
            return np.nan
        means = np.bincount(number, weights=y, minlength=sizes.size) / weight
        fitted = isotonic_regression(means, weights=weight, increasing=increasing).x
        return float(1.0 - np.square(y - fitted[number]).sum() / total)

    return statistic
