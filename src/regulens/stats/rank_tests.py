"""Do paired values differ, or two groups, by ranks or by signs alone? p, effect, and whether p is exact.

The tests are those of scipy; what is added is the effect with its interval, the zeros and ties in words, exact p
under ties, and the statement which form of p was taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from regulens.errors import ParameterError
from regulens.stats.delong import delong
from regulens.types.estimates import Estimate, Undefined

Side = Literal["greater", "less", "two-sided"]
PForm = Literal["auto", "exact", "approximate"]

#: Largest number of values (and of pairs of values) for which the exact distribution is taken by default.
MAX_EXACT = 50
MAX_EXACT_PAIRS = 2500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankTest:
    """Result of a rank or sign test.

    Parameters
    ----------
    statistic
        W+ (sum of the ranks of the positive values), number of positive values, or Mann-Whitney's U of the first group.
    p
        In (0, 1].
    side
        Direction that was tested.
    effect
        What the statistic estimates: a location shift, a share of positive values, or an AUROC.
    rank_biserial
        Effect on [-1, 1]: (favourable - unfavourable) / (both).
    n_used, n_zero, n_tied
        Values (or pairs of them) that entered, zeros among the differences, and values that share their rank.
    method
        In words: exact or approximate, and what was done with zeros.
    """

    statistic: float
    p: float
    side: Side
    effect: Estimate | Undefined
    rank_biserial: float
    n_used: int
    n_zero: int
    n_tied: int
    method: str


def _checked(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        message = f"Expected {name} as a vector without NaN, got shape {values.shape} or others inside. Leave them out."
        raise ParameterError(message)
    return values


def _check_side(side: str, p_form: str = "auto") -> None:
    if side not in ("greater", "less", "two-sided") or p_form not in ("auto", "exact", "approximate"):
        message = (
            "Expected side 'greater', 'less' or 'two-sided' and p_form 'auto', 'exact' or 'approximate', "
            f"got {side!r} and {p_form!r}."
        )
        raise ParameterError(message)


def _tied(ranks: np.ndarray) -> int:
    _, count = np.unique(ranks, return_counts=True)
    return int(count[count > 1].sum())


def _signed_rank_tails(ranks: np.ndarray, w: float) -> tuple[float, float]:
    """Exact P(W+ >= w) and P(W+ <= w) when each rank is positive with probability one half; ranks may be halves."""
    twice = np.rint(2 * ranks).astype(np.int64)
    ways = np.zeros(int(twice.sum()) + 1)
    ways[0] = 1.0
    for r in twice:
        moved = np.zeros_like(ways)
        moved[r:] = ways[: ways.size - r]
        ways = 0.5 * (ways + moved)
    at = round(2 * w)
    return float(ways[at:].sum()), float(ways[: at + 1].sum())


def _one(tails: tuple[float, float], side: Side) -> float:
    upper, lower = tails
    p = {"greater": upper, "less": lower, "two-sided": 2 * min(upper, lower)}[side]
    return float(min(max(p, np.finfo(np.float64).tiny), 1.0))


def wilcoxon(
    differences: np.ndarray,
    *,
    side: Side = "two-sided",
    zeros: Literal["drop", "pratt"] = "drop",
    p_form: PForm = "auto",
    level: float = 0.95,
    unit: str = "pair",
) -> RankTest | Undefined:
    """Wilcoxon's signed-rank test of "paired differences are centred at 0" (their distribution symmetric).

    Parameters
    ----------
    differences
        One per independent pair, shape ``(pair,)``.
    zeros
        ``"drop"``: zeros leave (Wilcoxon 1945). ``"pratt"``: they take part in the ranking and leave afterwards (Pratt
        1959). Either way they are counted in `n_zero`.
    p_form
        ``"exact"``: from all sign patterns given the ranks, which is exact with ties and zeros too. ``"approximate"``:
        scipy's normal form without continuity correction, variance corrected for ties. ``"auto"``: exact up to
        `MAX_EXACT` values.
    level
        Of the interval of the pseudo-median.

    Returns
    -------
    `RankTest` whose effect is the Hodges-Lehmann pseudo-median (median of all pairwise means of the differences,
    zeros included) with the interval that inverts the test; `Undefined` without a difference other than 0. The
    interval is `Undefined` where no interval of that level exists (fewer than 6 values at 95 %).

    Examples
    --------
    >>> found = wilcoxon(np.array([0.1, 0.2, 0.25, 0.3, -0.05, 0.4, 0.35, 0.0]), side="greater")
    >>> found.statistic, round(found.p, 4), found.n_used, found.n_zero
    (27.0, 0.0156, 7, 1)
    """
    d = _checked(differences, "differences")
    _check_side(side, p_form)
    if zeros not in ("drop", "pratt") or not 0.0 < level < 1.0:
        message = f"Expected zeros 'drop' or 'pratt' and a level in (0, 1), got {zeros!r} and {level}."
        raise ParameterError(message)
    kept = d[d != 0]
    if kept.size == 0:
        return Undefined(reason=f"all {d.size} differences are 0" if d.size else "no differences")
    ranks = stats.rankdata(np.abs(d))[d != 0] if zeros == "pratt" else stats.rankdata(np.abs(kept))
    w = float(ranks[kept > 0].sum())
    exact = p_form == "exact" or (p_form == "auto" and kept.size <= MAX_EXACT)
    if exact:
        p = _one(_signed_rank_tails(ranks, w), side)
    else:
        method = "pratt" if zeros == "pratt" else "wilcox"
        found = stats.wilcoxon(d, zero_method=method, correction=False, alternative=side, method="approx")
        p = float(min(max(found.pvalue, np.finfo(np.float64).tiny), 1.0))
    total = float(ranks.sum())
    handled = "" if kept.size == d.size else f", {d.size - kept.size} zeros " + (
        "dropped" if zeros == "drop" else "ranked, then dropped (Pratt)"
    )  # fmt: skip
    words = f"Wilcoxon signed-rank, {'exact' if exact else 'normal approximation'}{handled}"
    return RankTest(
        statistic=w, p=p, side=side, effect=_pseudo_median(d, level, unit), rank_biserial=(2 * w - total) / total,
        n_used=kept.size, n_zero=d.size - kept.size, n_tied=_tied(ranks), method=words,
    )  # fmt: skip


def _pseudo_median(d: np.ndarray, level: float, unit: str) -> Estimate | Undefined:
    """Hodges-Lehmann estimate and the interval of order statistics of the pairwise means (Bauer 1972)."""
    n = d.size
    if n > 2000:
        return Undefined(reason=f"{n} differences; the pairwise means are held for at most 2000")
    i, j = np.triu_indices(n)
    means = np.sort(0.5 * (d[i] + d[j]))
    tail = 0.5 * (1.0 - level)
    if n <= MAX_EXACT:
        ways = np.ones(1)
        for r in range(1, n + 1):
            grown = np.zeros(ways.size + r)
            grown[: ways.size] += 0.5 * ways
            grown[r:] += 0.5 * ways
            ways = grown
        # the largest c with P(W < c) <= tail: c pairwise means are cut off at either end
        cut = int(np.searchsorted(np.cumsum(ways), tail, side="right"))
    else:
        centre, spread = n * (n + 1) / 4, np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        cut = max(int(np.floor(centre + stats.norm.ppf(tail) * spread)), 0)
    if cut < 1:
        return Undefined(reason=f"{n} differences; an interval of level {level:g} needs more")
    value = float(np.median(means))
    low, high = float(means[cut - 1]), float(means[means.size - cut])
    return Estimate(
        value=value, low=min(low, value), high=max(high, value), level=level, n_units=n, unit=unit,
        method=f"Hodges-Lehmann, {'exact' if n <= MAX_EXACT else 'approximate'} signed-rank interval",
    )  # fmt: skip


def sign_test(
    differences: np.ndarray, *, side: Side = "two-sided", level: float = 0.95, unit: str = "pair"
) -> RankTest | Undefined:
    """Exact binomial test of "positive and negative differences are equally likely"; zeros leave and are counted.

    Returns
    -------
    `RankTest` whose effect is the share of positive differences with the Clopper-Pearson interval.

    Examples
    --------
    >>> found = sign_test(np.full(9, -1.0), side="less")
    >>> round(found.p, 6), found.effect.value
    (0.001953, 0.0)
    """
    d = _checked(differences, "differences")
    _check_side(side)
    n, above = int(np.count_nonzero(d)), int(np.count_nonzero(d > 0))
    if n == 0:
        return Undefined(reason=f"all {d.size} differences are 0" if d.size else "no differences")
    found = stats.binomtest(above, n, 0.5, alternative=side)
    ends = stats.binomtest(above, n, 0.5).proportion_ci(level, method="exact")  # two-sided, whatever the test
    words = "sign test, exact" + (f", {d.size - n} zeros dropped" if n < d.size else "")
    return RankTest(
        statistic=float(above), p=float(min(found.pvalue, 1.0)), side=side,
        effect=Estimate(
            value=above / n, low=float(ends.low), high=float(ends.high), level=level, n_units=n, unit=unit,
            method="Clopper-Pearson interval",
        ),
        rank_biserial=(2 * above - n) / n, n_used=n, n_zero=d.size - n, n_tied=0, method=words,
    )  # fmt: skip


def mann_whitney(
    first: np.ndarray,
    second: np.ndarray,
    *,
    side: Side = "two-sided",
    p_form: PForm = "auto",
    level: float = 0.95,
    unit: str = "value",
) -> RankTest | Undefined:
    """Mann-Whitney test of "values of the first group are as often above as below those of the second".

    Parameters
    ----------
    first, second
        Independent values, shapes ``(a,)`` and ``(b,)``.
    p_form
        ``"exact"``: from all ways to deal the pooled ranks, ties included. ``"approximate"``: scipy's normal form with
        continuity correction, variance corrected for ties. ``"auto"``: exact up to `MAX_EXACT_PAIRS` pairs a * b.

    Returns
    -------
    `RankTest` whose effect is ``U / (a b)``, the AUROC, with DeLong's logit interval.

    Examples
    --------
    >>> found = mann_whitney(np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0]), side="greater")
    >>> found.statistic, found.p, found.rank_biserial
    (9.0, 0.05, 1.0)
    """
    a, b = _checked(first, "the first group"), _checked(second, "the second group")
    _check_side(side, p_form)
    if a.size == 0 or b.size == 0:
        return Undefined(reason=f"{a.size} and {b.size} values; both groups need at least one")
    both = np.concatenate([a, b])
    if np.ptp(both) == 0:
        return Undefined(reason="all values are equal")
    ranks = stats.rankdata(both)
    u = float(ranks[: a.size].sum()) - a.size * (a.size + 1) / 2
    exact = p_form == "exact" or (p_form == "auto" and a.size * b.size <= MAX_EXACT_PAIRS)
    if exact:
        p = _one(_rank_sum_tails(ranks, a.size, float(ranks[: a.size].sum())), side)
    else:
        found = stats.mannwhitneyu(a, b, alternative=side, method="asymptotic")
        p = float(min(max(found.pvalue, np.finfo(np.float64).tiny), 1.0))
    (effect,) = delong(both, np.arange(both.size) < a.size).estimates(level=level, unit=unit)
    return RankTest(
        statistic=u, p=p, side=side, effect=effect, rank_biserial=2 * u / (a.size * b.size) - 1, n_used=both.size,
        n_zero=0, n_tied=_tied(ranks), method=f"Mann-Whitney, {'exact' if exact else 'normal approximation'}",
    )  # fmt: skip


def _rank_sum_tails(ranks: np.ndarray, size: int, observed: float) -> tuple[float, float]:
    """Exact P(S >= s) and P(S <= s) of the rank sum S of `size` ranks dealt at random."""
    twice = np.rint(2 * ranks).astype(np.int64)
    smaller = min(size, ranks.size - size)
    # probability, so that counts cannot overflow: after i ranks, k of them chosen with sum s
    at = np.zeros((smaller + 1, int(np.sort(twice)[-smaller:].sum()) + 1))
    at[0, 0] = 1.0
    for i, r in enumerate(twice):
        left = ranks.size - i
        chosen = np.arange(smaller + 1)
        take = (np.clip(smaller - chosen, 0, left) / left)[:, None]
        moved = np.zeros_like(at)
        moved[1:, r:] = (at * take)[:-1, : at.shape[1] - r]
        at = at * (1.0 - take) + moved
    found = at[smaller]
    wanted = round(2 * observed)
    if smaller == size:
        return float(found[wanted:].sum()), float(found[: wanted + 1].sum())
    other = int(twice.sum()) - wanted  # the complement's sum: tails change places
    return float(found[: other + 1].sum()), float(found[other:].sum())
