"""How well is each regulator's own ranking of targets? AUROCs one by one, and permutations among regulators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit
from scipy.stats import rankdata

from regulens.stats.permutation import permutation_p
from regulens.types.labelled import LabelledEdges


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regulators:
    """AUROC of every regulator over its own pairs, with DeLong's standard error.

    Parameters
    ----------
    row
        Row of the regulator in the universe, ascending, shape ``(regulator,)``.
    n_pos, n_neg
        Its positives and negatives.
    auroc, se, df
        Shape ``(regulator,)``; `se` and `df` (Satterthwaite's) are NaN where `undefined` says why.
    placement
        Share of its regulator's negatives that every positive beats (ties one half), regulator by regulator.
    positive_target
        Column of those positives in the universe.
    undefined
        Why there is no standard error, or an empty string.
    """

    row: np.ndarray
    n_pos: np.ndarray
    n_neg: np.ndarray
    auroc: np.ndarray
    se: np.ndarray
    df: np.ndarray
    placement: np.ndarray
    positive_target: np.ndarray
    undefined: np.ndarray

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """DeLong's interval on the log odds of the AUROC, mapped back (Qin & Hotilovac 2008); NaN where undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            half = stdtrit(self.df, 0.5 + level / 2) * self.se / (self.auroc * (1 - self.auroc))
            return expit(logit(self.auroc) - half), expit(logit(self.auroc) + half)

    def p_greater(self) -> np.ndarray:
        """One-sided p of "above one half", descriptive: with a handful of positives DeLong's error is optimistic."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.isfinite(self.se), stdtr(self.df, -(self.auroc - 0.5) / self.se), np.nan)


def evaluate_regulators(edges: LabelledEdges, score: int, *, min_positives: int) -> Regulators:
    """Every regulator with at least `min_positives` positives and 2 negatives among its observed pairs.

    Placements come from mid-ranks, as in `regulens.stats.delong`, which this equals regulator by regulator.

    Parameters
    ----------
    score
        Row of ``edges.scores``.
    """
    order = np.argsort(edges.regulator, kind="stable")
    owner, values, label = edges.regulator[order], edges.scores[score][order], edges.label[order]
    rows, start = np.unique(owner, return_index=True)
    stop = np.append(start[1:], len(owner))
    target = edges.target[order]
    kept, found, placements, targets = [], [], [], []
    for row, a, b in zip(rows.tolist(), start.tolist(), stop.tolist()):  # over regulators, some hundreds
        y = label[a:b]
        n_pos = int(y.sum())
        n_neg = len(y) - n_pos
        if n_pos < max(min_positives, 1) or n_neg < 2:
            continue
        x = values[a:b]
        rank = rankdata(x)
        of_pos = (rank[y] - rankdata(x[y])) / n_neg
        of_neg = 1 - (rank[~y] - rankdata(x[~y])) / n_pos
        by_neg, by_pos = of_neg.var(ddof=1) / n_neg, of_pos.var(ddof=1) / n_pos if n_pos > 1 else np.nan
        variance = by_neg + by_pos
        reason = ""
        if n_pos < 2:
            reason = "one positive: a rank, without a standard error"
        elif not variance > 1e-24:
            reason = "positives and negatives are separated completely, or not at all"
        kept.append(row)
        df = np.nan if reason else variance**2 / (by_pos**2 / (n_pos - 1) + by_neg**2 / (n_neg - 1))
        se = np.nan if reason else float(np.sqrt(variance))
        found.append((n_pos, n_neg, float(of_pos.mean()), se, df, reason))
        placements.append(of_pos)
        targets.append(target[a:b][y])
    columns = list(zip(*found)) if found else [()] * 6
    return Regulators(
        row=np.array(kept, dtype=np.int64),
        n_pos=np.array(columns[0], dtype=np.int64),
        n_neg=np.array(columns[1], dtype=np.int64),
        auroc=np.array(columns[2], dtype=np.float64),
        se=np.array(columns[3], dtype=np.float64),
        df=np.array(columns[4], dtype=np.float64),
        placement=np.concatenate(placements) if placements else np.zeros(0),
        positive_target=np.concatenate(targets) if targets else np.zeros(0, dtype=np.int64),
        undefined=np.array(columns[5], dtype=object),
    )


def spread_permutation(each: Regulators, *, draws: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Spread of the regulators' AUROCs, and what it is when placements are dealt out among regulators at random.

    ``Q = sum_i n_i (A_i - A)^2`` with A the mean placement of all positives: Cochran's Q with the errors that equal
    regulators would have, up to a factor. Under "regulators do not differ" the positives' placements are
    exchangeable among regulators, so the draws need no standard error, which is what makes the chi-square form of
    the test reject too often with few positives.

    Returns
    -------
    Observed Q, and draws of shape ``(draw,)``.
    """
    start = np.concatenate([[0], np.cumsum(each.n_pos)[:-1]])
    centred = each.placement - each.placement.mean()

    def spread(values: np.ndarray) -> np.ndarray:
        return (np.add.reduceat(values, start, axis=-1) ** 2 / each.n_pos).sum(axis=-1)

    null = np.empty(draws)
    block = max(1, 2_000_000 // max(len(centred), 1))
    for first in range(0, draws, block):
        size = min(block, draws - first)
        null[first : first + size] = spread(rng.permuted(np.tile(centred, (size, 1)), axis=1))
    return float(spread(centred)), null


def covariate_permutation(
    values: np.ndarray, covariate: np.ndarray, *, draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Spearman's rho and its two-sided permutation p (average ranks; ``(1 + b) / (1 + m)``, smaller tail doubled).

    Parameters
    ----------
    values, covariate
        Shape ``(unit,)``, neither constant.

    Examples
    --------
    >>> x = np.arange(8.0)
    >>> rho, p = covariate_permutation(x, x, draws=199, rng=np.random.default_rng(0))
    >>> round(rho, 6), p <= 0.02
    (1.0, True)
    """
    a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (values, covariate))
    length = float(np.sqrt((a @ a) * (b @ b)))
    rho = float(a @ b / length)
    null = rng.permuted(np.tile(a, (draws, 1)), axis=1) @ b / length
    return rho, float(permutation_p(rho, null, side="two-sided")[0])
