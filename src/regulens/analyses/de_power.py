"""Would the answer be the same if every gene's response could be seen equally well? Labels without a cause in common.

The variance and the level of a gene drive the power to call it differentially expressed, so that a baseline made of
them predicts *calls* even where it says nothing of *responses*. Labels of four kinds show by how much, and what is
left: ranked by shrunken fold change, called between control cells (placebo), called where changes of one size were
planted in random genes, and ranked after every gene was thinned to the same expected power.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from regulens.analyses.base import AnalysisInput
from regulens.analyses.de_power_cells import (
    ControlCells,
    LinearMoments,
    linear_moments,
    thinning,
    welch_between,
)
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.types.screens import LabelRule

#: Share of the genes, the best measured ones, that are thinned to equal power.
POWER_QUANTILE = 0.5
#: Prior standard deviation of a log fold change, at least; a perturbation that does nothing has no scale of its own.
MIN_PRIOR_SD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherLabels:
    """Labels in the place of the called ones, on the universe's grid.

    Parameters
    ----------
    positive, valid
        Bool, shape ``(perturbation, gene)``; pairs outside `valid` are not looked at.
    words
        How they were made.
    reason
        Why there are none, or an empty string.
    """

    name: str
    words: str
    positive: np.ndarray
    valid: np.ndarray
    reason: str = ""


def top_by(values: np.ndarray, count: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The `count` largest values of every row among its valid ones; ties go to the first column.

    Parameters
    ----------
    values
        Shape ``(row, column)``; NaN counts as smallest.
    count
        Shape ``(row,)``.

    Examples
    --------
    >>> top_by(np.array([[3.0, 1.0, 2.0]]), np.array([2]), np.ones((1, 3), dtype=bool)).tolist()
    [[True, False, True]]
    """
    keys = np.where(valid & np.isfinite(values), values, -np.inf)
    order = np.argsort(-keys, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(values.shape[1]), values.shape), axis=1)
    return (rank < count[:, None]) & valid & np.isfinite(values)


def shrunken(effect: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Posterior mean of every effect under a normal prior whose variance is estimated per row.

    ``effect * tau^2 / (tau^2 + se^2)``, ``tau^2 = mean(effect^2 - se^2)`` by precision weights, at least
    `MIN_PRIOR_SD` squared.

    Parameters
    ----------
    effect, se
        Shape ``(row, gene)``; NaN where not known.

    Examples
    --------
    >>> shrunken(np.array([[2.0, 2.0, -1.0]]), np.array([[0.1, 2.0, 0.1]])).round(2).tolist()
    [[1.99, 0.77, -1.0]]
    """
    good = np.isfinite(effect) & np.isfinite(se) & (se > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(good, 1.0 / se**2, 0.0)
        excess = np.where(good, effect**2 - se**2, 0.0)
        total = weight.sum(axis=1)
        tau2 = np.where(total > 0, (weight * excess).sum(axis=1) / np.where(total > 0, total, 1.0), 0.0)
        tau2 = np.maximum(tau2, MIN_PRIOR_SD**2)[:, None]
        return np.where(good, effect * tau2 / (tau2 + se**2), np.nan)


def called(effect: np.ndarray, p: np.ndarray, valid: np.ndarray, rule: LabelRule, count: np.ndarray) -> np.ndarray:
    """The screen's rule on other effects; in a row where too few pass it, the `count` smallest p instead."""
    out = np.zeros(effect.shape, dtype=bool)
    for i in range(len(effect)):  # over perturbations
        tested = valid[i] & np.isfinite(p[i])
        if not tested.any():
            continue
        q = np.ones(effect.shape[1])
        q[tested] = benjamini_hochberg(p[i, tested])
        out[i] = tested & (q < rule.alpha) & (np.abs(np.nan_to_num(effect[i])) > rule.min_effect)
    few = out.sum(axis=1) < rule.min_positives
    with np.errstate(invalid="ignore"):
        out[few] = top_by(-p, count, valid)[few]
    return out


def _grid(inp: AnalysisInput, array: np.ndarray) -> np.ndarray:
    """Rows and columns of an array of the screen's effects on the universe's grid; NaN where not measured."""
    screen = inp.screen
    assert screen is not None
    row = {p: i for i, p in enumerate(screen.labels.effects.perturbations)}
    column = {g: j for j, g in enumerate(screen.labels.effects.genes)}
    i = np.array([row[p] for p in inp.universe.regulators])
    j = np.array([column.get(g, -1) for g in inp.universe.genes])
    return np.where(j >= 0, array[i][:, j], np.nan)


def effect_size_labels(
    inp: AnalysisInput, valid: np.ndarray, count: np.ndarray, moments: LinearMoments | None
) -> OtherLabels:
    """As many positives as were called, those of the largest shrunken fold change.

    From the cells' counts where there are cells; else from the table's effects and standard errors (or p).
    """
    from scipy.special import ndtri

    screen = inp.screen
    assert screen is not None
    if moments is not None:
        effect, se = moments.log_fold_change()
        words = "as many as called, largest log fold change after shrinkage (normal prior per perturbation)"
    else:
        effects = screen.labels.effects
        effect = _grid(inp, effects.effect)
        if effects.se is not None:
            se = _grid(inp, effects.se)
        elif effects.p is not None and not effects.adjusted:
            z = -ndtri(np.clip(_grid(inp, effects.p), 1e-300, 1.0) / 2)
            se = np.abs(effect) / np.maximum(z, 1e-6)
        else:
            se = np.full(effect.shape, np.nan)
        if np.isfinite(se).any():
            words = "as many as called, largest effect of the table after shrinkage (normal prior per perturbation)"
        else:
            se, words = np.full(effect.shape, 1e-9), "as many as called, largest effect of the table, not shrunken"
    size = np.abs(shrunken(effect, se))
    known = valid & (np.isfinite(size) | (effect == 0))  # 0 is the smallest whatever its error; others need one
    return OtherLabels(name="effect_size", words=words, positive=top_by(size, count, known), valid=known)


def _splits(pool: ControlCells, size: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """One random set of control cells per perturbation, as rows of ones ``(perturbation, control cell)``."""
    n = pool.counts.shape[0]
    taken = np.minimum(size, n // 2)
    rows = [np.sort(rng.choice(n, int(k), replace=False)) for k in taken]
    start = np.concatenate([[0], np.cumsum(taken)])
    return sp.csr_matrix((np.ones(int(start[-1])), np.concatenate(rows), start), shape=(len(size), n))


def placebo_labels(
    inp: AnalysisInput, pool: ControlCells, valid: np.ndarray, count: np.ndarray, size: np.ndarray,
    rng: np.random.Generator,
) -> OtherLabels:  # fmt: skip
    """Control cells against other control cells, as many as the perturbation has, called by the same rule.

    Nothing responds, so that too few genes pass and the smallest p are taken, as many as were called.
    """
    assert inp.screen is not None
    splits = _splits(pool, size, rng)
    effect, p = welch_between(pool, splits)
    positive = called(effect, p, valid, inp.screen.labels.rule, count)
    words = "control cells against control cells, the screen's rule; where too few pass, the smallest p"
    return OtherLabels(name="placebo", words=words, positive=positive, valid=valid & np.isfinite(p))


def planted_labels(
    inp: AnalysisInput, pool: ControlCells, valid: np.ndarray, count: np.ndarray, size: np.ndarray,
    rng: np.random.Generator, *, fold: float,
) -> OtherLabels:  # fmt: skip
    """Changes of one size planted in random genes of control cells, by thinning counts; called by the same rule.

    Twice as many genes as were called change by the factor `fold`, half of them up and half down. Who changes knows
    nothing of the genes, so that whatever predicts the calls predicts the power to call.
    """
    assert inp.screen is not None
    splits = _splits(pool, size, rng)
    n_genes = valid.shape[1]
    planted = np.zeros(valid.shape, dtype=np.int8)
    for i in range(len(valid)):  # over perturbations
        genes = np.flatnonzero(valid[i])
        k = min(2 * int(count[i]), int(0.4 * len(genes)))
        chosen = rng.choice(genes, k, replace=False) if k else np.empty(0, dtype=np.int64)
        planted[i, chosen] = np.where(np.arange(k) % 2 == 0, 1, -1)
    effect, p = welch_between(pool, splits, planted=planted, keep=1.0 / fold, rng=rng)
    positive = called(effect, p, valid, inp.screen.labels.rule, np.minimum(count, n_genes))
    words = f"changes by a factor of {fold:.2g} planted in random genes of control cells, called by the screen's rule"
    return OtherLabels(name="planted", words=words, positive=positive, valid=valid & np.isfinite(p))


def power_matched_labels(
    inp: AnalysisInput, valid: np.ndarray, count_of: np.ndarray, rng: np.random.Generator, moments: LinearMoments,
    *, quantile: float = POWER_QUANTILE,
) -> OtherLabels:  # fmt: skip
    """Labels after every gene was thinned to one coefficient of variation, so that equal fold changes are seen alike.

    Genes measured worse than the quantile leave. Counts of the others are thinned (binomially, in all cells) until the
    variance over the squared mean in control cells is the same for all: the error of a log fold change is then the same
    too, and the largest ones are taken, as many as were called among these genes.

    Parameters
    ----------
    count_of
        Called labels, bool ``(perturbation, gene)``.
    """
    screen = inp.screen
    assert screen is not None and screen.cells is not None
    keep, share = thinning(moments, quantile=quantile)
    words = (
        "counts thinned to one coefficient of variation in control cells, so that every gene has the same power; "
        "largest log fold changes, as many as called among these genes"
    )
    inside = valid & keep[None, :]
    if keep.sum() < 10:
        nothing = np.zeros_like(valid)
        reason = f"{int(keep.sum())} genes can be thinned to equal power; at least 10 are needed"
        return OtherLabels(name="power_matched", words=words, positive=nothing, valid=nothing, reason=reason)
    thinned = linear_moments(inp, keep=np.where(keep, share, 0.0), rng=rng)
    effect, _ = thinned.log_fold_change()
    count = (count_of & inside).sum(axis=1)
    return OtherLabels(name="power_matched", words=words, positive=top_by(np.abs(effect), count, inside), valid=inside)


def typical_fold(moments: LinearMoments, positive: np.ndarray) -> float:
    """Median factor by which called genes change, in [1.5, 8]."""
    size = np.abs(moments.log_fold_change()[0][positive])
    size = size[np.isfinite(size)]
    return float(np.clip(np.exp(np.median(size)), 1.5, 8.0)) if size.size else 2.0
