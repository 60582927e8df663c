"""Which negatives lie nearest to each positive on one number? Matching with a caliper, with its balance on record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from regulens.errors import AlignmentError, ParameterError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NearestNegatives:
    """Positives, each with its nearest negatives.

    Parameters
    ----------
    positive
        Units that were matched, int64 ``(matched,)``.
    negative
        Their negatives, grouped by positive, int64 ``(drawn,)``; a unit may serve several positives.
    start
        Negatives of positive k are ``start[k]:start[k + 1]``.
    unmatched
        Positives without a negative inside the caliper, int64.
    short
        Matched positives with fewer negatives than asked for.
    largest_reuse
        How often the most used negative serves.
    """

    positive: np.ndarray
    negative: np.ndarray
    start: np.ndarray
    unmatched: np.ndarray
    short: int
    largest_reuse: int

    @property
    def owner(self) -> np.ndarray:
        """Position of the positive each negative belongs to, shape ``(drawn,)``."""
        return np.repeat(np.arange(len(self.positive)), np.diff(self.start))

    @property
    def coverage(self) -> float:
        """Share of the positives that have a negative, in [0, 1]."""
        n = len(self.positive) + len(self.unmatched)
        return len(self.positive) / n if n else 0.0

    def counts(self) -> dict[str, int]:
        """What was lost and how often units repeat, for a table of what was dropped."""
        return {
            "positives without a negative inside the caliper": len(self.unmatched),
            "positives with fewer negatives than asked for": self.short,
            "most positives that share one negative": self.largest_reuse,
        }


def nearest_negatives(value: np.ndarray, label: np.ndarray, *, ratio: int, caliper: float) -> NearestNegatives:
    """For every positive the `ratio` negatives nearest in `value`, none further than `caliper`.

    Parameters
    ----------
    value
        Finite, shape ``(unit,)``.
    label
        Bool, shape ``(unit,)``.
    ratio
        Negatives per positive, 1 or more; negatives may repeat between positives.
    caliper
        Largest distance, > 0; ``inf`` for none.

    Examples
    --------
    >>> found = nearest_negatives(np.array([0.0, 0.1, 5.0, 9.0]), np.array([1, 0, 0, 1], bool), ratio=1, caliper=1.0)
    >>> found.positive.tolist(), found.negative.tolist(), found.unmatched.tolist(), found.coverage
    ([0], [1], [3], 0.5)
    """
    value, label = np.asarray(value, dtype=np.float64), np.asarray(label, dtype=bool)
    if value.shape != label.shape or value.ndim != 1 or not np.isfinite(value).all():
        message = (
            f"Expected one finite value per unit ({label.size}), got shape {value.shape} or others. Leave NaN out."
        )
        raise AlignmentError(message)
    if ratio < 1 or not caliper > 0:
        message = f"Expected ratio >= 1 and caliper > 0, got {ratio} and {caliper}. Use inf for no caliper."
        raise ParameterError(message)
    pos, neg = np.flatnonzero(label), np.flatnonzero(~label)
    if not len(pos) or not len(neg):
        nothing = np.zeros(0, dtype=np.int64)
        return NearestNegatives(
            positive=nothing, negative=nothing, start=np.zeros(1, dtype=np.int64), unmatched=pos, short=0,
            largest_reuse=0,
        )  # fmt: skip
    k = min(ratio, len(neg))
    bound = np.nextafter(caliper, np.inf) if np.isfinite(caliper) else np.inf  # the edge of the caliper belongs to it
    _, place = cKDTree(value[neg][:, None]).query(value[pos][:, None], k=k, distance_upper_bound=bound)
    place = place.reshape(len(pos), k)
    inside = place < len(neg)
    have = inside.sum(axis=1)
    negative = neg[place[inside]]
    return NearestNegatives(
        positive=pos[have > 0], negative=negative, start=np.concatenate([[0], np.cumsum(have[have > 0])]),
        unmatched=pos[have == 0], short=int(((have > 0) & (have < ratio)).sum()),
        largest_reuse=int(np.bincount(negative).max(initial=0)),
    )  # fmt: skip


def balance_table(features: np.ndarray, names: list[str], label: np.ndarray, matched: NearestNegatives) -> pd.DataFrame:
    """Absolute standardised mean differences before and after matching.

    Both are over ``sqrt((s_pos^2 + s_neg^2) / 2)`` before matching, so that they can be compared; every positive's
    negatives together weigh as much as the positive.

    Parameters
    ----------
    features
        Shape ``(unit, feature)``.

    Returns
    -------
    Columns ``feature, smd_before, smd_after``; `smd_after` is NaN when nothing was matched, both are 0 without spread.
    """
    rows = []
    weight = 1.0 / np.repeat(np.diff(matched.start), np.diff(matched.start)) if len(matched.negative) else None
    for k, name in enumerate(names):
        x = features[:, k]
        a, b = x[label], x[~label]
        sd = float(np.sqrt((a.var() + b.var()) / 2)) if len(a) and len(b) else 0.0
        before = abs(float(a.mean() - b.mean())) if len(a) and len(b) else np.nan
        after = np.nan
        if weight is not None:
            after = abs(float(x[matched.positive].mean() - np.average(x[matched.negative], weights=weight)))
        rows.append((name, before / sd if sd > 0 else 0.0, after / sd if sd > 0 else 0.0))
    return pd.DataFrame(rows, columns=["feature", "smd_before", "smd_after"])
