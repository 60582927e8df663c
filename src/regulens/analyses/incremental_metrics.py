"""How well does a prediction rank the genes of every perturbation, when ties must not pay? AUROC, AP, recall at k.

A model of gene features ties genes, one more feature breaks the ties. Average precision over whole groups of ties is
lower than that of any random order within them, so breaking ties at random would look like a gain. Here all three
metrics are expectations over a random order of tied genes.
"""

from __future__ import annotations

import numpy as np

from regulens.analyses.per_perturbation import METRICS, RECALL_AT
from regulens.compiled import kernel
from regulens.errors import StatisticsError
from regulens.stats.by_row import Rows

#: Groups of genes, and of pairs, that are left out in turn.
GROUPS = 20


@kernel
def _rank(values, ascending, label, keep, start, at, out):
    """Fill AUROC, expected average precision and expected recall of every row, shape ``(metric, row)``."""
    for r in range(start.size - 1):
        n = 0
        n_pos = 0
        order = np.empty(start[r + 1] - start[r], np.int64)
        for e in ascending[start[r] : start[r + 1]]:
            if keep[e]:
                order[n] = e
                n += 1
                n_pos += label[e]
        if n_pos == 0 or n_pos == n:
            out[:, r] = np.nan
            continue
        wins = 0.0
        precision = 0.0
        hits = np.zeros(at.size)
        taken = 0
        found = 0
        top = n - 1
        while top >= 0:  # groups of tied pairs, strongest first
            low = top
            pos = 0
            while low >= 0 and values[order[low]] == values[order[top]]:
                pos += label[order[low]]
                low -= 1
            size = top - low
            wins += pos * (n - n_pos - (taken - found) - 0.5 * (size - pos))
            if pos > 0:
                step = (pos - 1.0) / (size - 1.0) if size > 1 else 0.0
                for i in range(size):  # the i-th of the group is positive with probability pos / size
                    precision += pos / size * (found + 1.0 + i * step) / (taken + 1.0 + i)
                for k in range(at.size):
                    hits[k] += pos * min(max(at[k] - taken, 0), size) / size
            found += pos
            taken += size
            top = low
        out[0, r] = wins / (1.0 * n_pos * (n - n_pos))
        out[1, r] = precision / n_pos
        out[2:, r] = hits / n_pos


def ascending(prediction: np.ndarray, rows: Rows) -> np.ndarray:
    """Pairs of every perturbation from the lowest to the highest prediction, shape ``(pair,)``."""
    ends = zip(rows.start[:-1].tolist(), rows.start[1:].tolist())
    return np.concatenate([np.empty(0, dtype=np.int64), *(a + np.argsort(prediction[a:b]) for a, b in ends)])


def ranked(
    prediction: np.ndarray, rows: Rows, keep: np.ndarray | None = None, order: np.ndarray | None = None
) -> np.ndarray:
    """`METRICS` of every perturbation, shape ``(metric, perturbation)``; NaN without responders or others.

    Parameters
    ----------
    prediction
        Finite, shape ``(pair,)``, pairs in the order of `rows`.
    keep
        Bool ``(pair,)``: the pairs that take part; all by default.
    order
        From `ascending`, where it is known.

    Raises
    ------
    StatisticsError
        A prediction is not finite.

    Examples
    --------
    >>> rows = Rows.build(np.array([True, False, False]), np.zeros(3, int), np.arange(3))
    >>> ranked(np.zeros(3), rows)[:2, 0].round(4).tolist()
    [0.5, 0.6111]
    """
    if not np.isfinite(prediction).all():  # NaN equals nothing, not even itself: groups of ties would never end
        message = "Expected finite predictions, got NaN or infinity. Fit on sides that have both classes."
        raise StatisticsError(message)
    out = np.empty((len(METRICS), rows.start.size - 1))
    keep = np.ones(rows.label.size, dtype=np.bool_) if keep is None else keep
    values = np.ascontiguousarray(prediction, dtype=np.float64)
    order = ascending(values, rows) if order is None else order
    _rank(values, order, rows.label, keep, rows.start, np.array(RECALL_AT, dtype=np.int64), out)
    return out


def mean_difference(metrics: np.ndarray, other: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Weighted mean over perturbations of a difference of metrics; perturbations without a value are left out."""
    gap = metrics - other
    weight = np.ones(gap.shape[1]) if weight is None else weight
    ok = np.isfinite(gap) & (weight > 0)
    total = (ok * weight).sum(axis=1)
    summed = np.where(ok, gap * weight, 0.0).sum(axis=1)
    return np.divide(summed, total, out=np.full(len(gap), np.nan), where=total > 0)


def gene_variance(
    predictions: dict[str, np.ndarray], contrasts: tuple[tuple[str, str], ...], rows: Rows, rng: np.random.Generator
) -> dict[tuple[str, str], np.ndarray]:
    """Variance of mean differences by the draw of judged genes, beyond that by the draw of pairs, ``(metric,)`` each.

    Delete-a-group jackknife over genes, minus the same over pairs at random (which the draw of perturbations counts
    already), never below 0; models are held.

    Parameters
    ----------
    predictions
        Model → predictions, shape ``(pair,)``.
    """
    by_gene = rng.permutation(np.arange(rows.n_targets) % GROUPS)[rows.target]
    by_pair = rng.permutation(np.arange(rows.target.size) % GROUPS)
    order = {name: ascending(p, rows) for name, p in predictions.items()}
    out = {pair: np.zeros(len(METRICS)) for pair in contrasts}
    for group, sign in ((by_gene, 1.0), (by_pair, -1.0)):
        left = {n: [ranked(p, rows, group != g, order[n]) for g in range(GROUPS)] for n, p in predictions.items()}
        for one, other in contrasts:
            values = np.stack([mean_difference(a, b) for a, b in zip(left[one], left[other])])
            out[one, other] += sign * (GROUPS - 1) / GROUPS * ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    return {pair: np.maximum(np.nan_to_num(v), 0.0) for pair, v in out.items()}
