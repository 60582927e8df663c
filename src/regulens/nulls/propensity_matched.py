"""Which units were as likely to be positive, by what is known of them, and are not?

A logistic model predicts the label from features of the unit, on units of other groups; every positive is compared
with negatives of nearly the same predicted log odds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from regulens.errors import AlignmentError, StatisticsError
from regulens.nulls.base import NullSpec
from regulens.nulls.nearest import NearestNegatives, balance_table, nearest_negatives


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PropensityMatch:
    """Positives with negatives of equal propensity.

    Parameters
    ----------
    matched
        Units by position.
    log_odds
        Out-of-fold, without the fold's intercept, shape ``(unit,)``.
    balance
        ``feature, smd_before, smd_after``.
    """

    matched: NearestNegatives
    log_odds: np.ndarray
    balance: pd.DataFrame

    @property
    def is_balanced(self) -> bool:
        """Whether every feature has a standardised mean difference below 0.1 after matching."""
        return bool((self.balance["smd_after"] < 0.1).all())


def propensity_matched(
    features: np.ndarray, names: list[str], label: np.ndarray, fold: np.ndarray, *, ratio: int = 5,
    caliper: float = 0.2, within: np.ndarray | None = None,
    of_training: Callable[[np.ndarray], np.ndarray] | None = None,
) -> PropensityMatch:  # fmt: skip
    """Match positives to the negatives nearest in out-of-fold log odds.

    Parameters
    ----------
    features
        Shape ``(unit, feature)``, finite; standardised on the training side of every fold.
    names
        One per feature.
    label
        Bool, shape ``(unit,)``.
    fold
        Fold of each unit, integers, shape ``(unit,)``; units that share a gene or a perturbation in one fold.
    ratio
        Negatives per positive; reuse is counted.
    caliper
        In standard deviations of the log odds (Austin 2011: 0.2), finite where `within` is given.
    within
        Integers, shape ``(unit,)``: negatives come from the positive's own group; from all units by default.
    of_training
        For features that are made of labels: the training side of a fold, bool ``(unit,)``, to what the model of that
        fold reads, shape ``(unit, feature)``, made without a label of the other side. By default `features`, which
        are balanced either way.

    Raises
    ------
    StatisticsError
        A training side holds one class only, or there is one fold.

    Examples
    --------
    >>> g = np.random.default_rng(0)
    >>> x = g.normal(size=(400, 1))
    >>> y = g.random(400) < 1 / (1 + np.exp(1 - 2 * x[:, 0]))
    >>> found = propensity_matched(x, ["x"], y, np.arange(400) % 4)
    >>> bool(found.balance["smd_before"][0] > 0.5), bool(found.balance["smd_after"][0] < 0.1)
    (True, True)
    """
    x, label, fold = np.asarray(features, dtype=np.float64), np.asarray(label, dtype=bool), np.asarray(fold)
    if x.ndim != 2 or x.shape != (label.size, len(names)) or fold.shape != label.shape or not np.isfinite(x).all():
        message = (
            f"Expected finite features of shape ({label.size}, {len(names)}) and one fold per unit, got {x.shape} and "
            f"{fold.shape}. Leave units without features out."
        )
        raise AlignmentError(message)
    log_odds = np.zeros(label.size)
    folds = np.unique(fold)
    for f in folds:
        train = fold != f
        if label[train].all() or not label[train].any():
            message = f"Expected positives and negatives outside fold {f}, got one class. Use fewer or larger folds."
            raise StatisticsError(message)
        read = x if of_training is None else of_training(train)
        mean, sd = read[train].mean(axis=0), read[train].std(axis=0)
        sd = np.where(sd > 0, sd, 1.0)
        model = LogisticRegression(C=1.0, max_iter=1000).fit((read[train] - mean) / sd, label[train])
        log_odds[~train] = ((read[~train] - mean) / sd) @ model.coef_[0]
    sd = log_odds.std()
    place = log_odds / sd if sd > 0 else log_odds
    if within is not None:  # groups laid out one after another, further apart than the caliper reaches
        place = place + np.asarray(within) * (np.ptp(place) + 2 * caliper + 1)
    matched = nearest_negatives(place, label, ratio=ratio, caliper=caliper)
    return PropensityMatch(matched=matched, log_odds=log_odds, balance=balance_table(x, names, label, matched))


SPEC = NullSpec(
    name="propensity_matched",
    version=2,
    function=propensity_matched,
    summary="for every positive, negatives that were as likely to be positive by their features",
    preserves="the predicted log odds of the unit, within the caliper",
    randomises="which units of equal propensity are positive",
    exchangeable="a positive and its negatives, given the features of the model",
    reference="Rosenbaum & Rubin 1983, doi:10.1093/biomet/70.1.41; Austin 2011 (caliper)",
    parameters={"ratio": 5, "caliper": 0.2},
)
