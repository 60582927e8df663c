"""What would a metric be if fewer edges were listed? Every draw from tables made once, without scoring pairs again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thinned:
    """Metrics of every score when a part of the positives is not listed.

    Parameters
    ----------
    auroc, average_precision
        Shape ``(score, draw)``; NaN where no positive or no negative is left. None where it was not computed.
    n_pos, n_pairs
        Listed positives and pairs, shape ``(draw,)``.
    """

    auroc: np.ndarray
    average_precision: np.ndarray | None
    n_pos: np.ndarray
    n_pairs: np.ndarray


def thin_edges(scores: np.ndarray, label: np.ndarray, keeps: list[np.ndarray]) -> list[Thinned]:
    """Unlisted positives stay among the pairs, as negatives: that is what a curated list does.

    With b_e the negatives that positive e beats, r_e the positives below it (ties one half) and m kept positives,
    ``AUROC = (sum over kept (b_e + r_e) - m (m - 1) / 2) / (m (n_neg + n_pos - m))``, since kept positives beat one
    another ``m (m - 1) / 2`` times whatever they are. Average precision needs only the ranks of the positives.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``.
    label
        Bool, shape ``(pair,)``.
    keeps
        Sets of draws: bool, shape ``(draw, positive)``, positives in the order of the pairs.

    Returns
    -------
    One `Thinned` per set of draws.
    """
    n_pos = int(label.sum())
    out = [
        Thinned(
            auroc=np.full((len(scores), len(k)), np.nan), average_precision=np.full((len(scores), len(k)), np.nan),
            n_pos=k.sum(axis=1).astype(np.float64), n_pairs=np.full(len(k), float(label.size)),
        )
        for k in keeps
    ]  # fmt: skip
    for s, x in enumerate(scores):
        rank = rankdata(x)[label]
        order = np.argsort(-x[label], kind="stable")
        value = (rank - 1)[order]  # negatives and other positives beaten, strongest first
        last = n_pos - np.searchsorted(np.sort(x[label]), x[label][order], side="left") - 1  # end of its tie group
        # pairs at least as strong: those above, and the whole tie group
        tied = rankdata(x, method="min")[label]
        above = label.size - tied[order] + 1
        for keep, found in zip(keeps, out):
            m = found.n_pos
            usable = (m > 0) & (m < label.size)
            mask = keep[usable][:, order].astype(np.float64)
            k = m[usable]
            found.auroc[s, usable] = (mask @ value - k * (k - 1) / 2) / (k * (label.size - k))
            listed = np.cumsum(mask, axis=1)
            found.average_precision[s, usable] = (mask * listed[:, last] / above).sum(axis=1) / k
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wins:
    """Between which groups do positives beat negatives, and how often?

    Parameters
    ----------
    wins
        Pairs of a positive of group i and a negative of group j in which the positive is above, ties one half,
        shape ``(group, group)``.
    n_pos, n_neg
        Shape ``(group,)``.
    """

    wins: np.ndarray
    n_pos: np.ndarray
    n_neg: np.ndarray

    def auroc(self, member: np.ndarray) -> np.ndarray:
        """AUROC over the pairs of some groups, shape ``(draw,)``; `member` is bool or 0/1, ``(draw, group)``."""
        member = np.asarray(member, dtype=np.float64)
        total = np.einsum("dg,dg->d", member @ self.wins, member)
        size = (member @ self.n_pos) * (member @ self.n_neg)
        return np.divide(total, size, out=np.full(len(member), np.nan), where=size > 0)


def wins_between(score: np.ndarray, label: np.ndarray, group: np.ndarray, n_groups: int) -> Wins:
    """Tabulate `Wins` of one score, one sort per group.

    Parameters
    ----------
    score, label, group
        Shape ``(pair,)``; groups are 0 .. n_groups - 1.
    """
    n_pos = np.bincount(group[label], minlength=n_groups).astype(np.float64)
    n_neg = np.bincount(group[~label], minlength=n_groups).astype(np.float64)
    order = np.argsort(score[label], kind="stable")  # sorted values are found faster
    owner, values = group[label][order], score[label][order]
    negative = np.flatnonzero(~label)
    negative = negative[np.argsort(group[negative], kind="stable")]
    start = np.searchsorted(group[negative], np.arange(n_groups + 1))
    wins = np.zeros((n_groups, n_groups))
    for g in range(n_groups):  # over regulators
        below = np.sort(score[negative[start[g] : start[g + 1]]])
        if below.size:
            beaten = (np.searchsorted(below, values, "left") + np.searchsorted(below, values, "right")) / 2
            wins[:, g] = np.bincount(owner, weights=beaten, minlength=n_groups)
    return Wins(wins=wins, n_pos=n_pos, n_neg=n_neg)


def random_subsets(n: int, size: int, *, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Bool ``(draw, n)`` with exactly `size` True in every row."""
    keep = np.zeros((draws, n), dtype=bool)
    if size >= n:
        keep[:] = True
    elif size > 0:
        chosen = np.argpartition(rng.random((draws, n)), size - 1, axis=1)[:, :size]
        np.put_along_axis(keep, chosen, True, axis=1)
    return keep
