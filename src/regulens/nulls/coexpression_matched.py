"""Which pairs are as strongly co-expressed as a true edge, without being one?

Keeps, for every positive, the strength of co-expression; breaks everything else. A score that only copies
co-expression cannot tell the positives from such negatives.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.nulls.base import NullSpec
from regulens.nulls.nearest import NearestNegatives, balance_table, nearest_negatives


def coexpression_matched(
    coexpression: np.ndarray, label: np.ndarray, *, ratio: int = 10, caliper: float = 0.05
) -> tuple[NearestNegatives, pd.DataFrame]:
    """For every positive the negatives with the nearest ``|rho|``.

    Distance is in standard deviations of Fisher's ``atanh |rho|`` over all pairs, whose error does not depend on rho.

    Parameters
    ----------
    coexpression
        Correlation of every pair, signed or not, in [-1, 1]; shape ``(pair,)``.
    label
        Bool, shape ``(pair,)``.
    ratio
        Negatives per positive.
    caliper
        Largest distance, in standard deviations.

    Returns
    -------
    Matches, with coverage and shortage, and the balance of ``|rho|``.

    Examples
    --------
    >>> rho = np.array([0.8, -0.8, 0.1, 0.1])
    >>> found, balance = coexpression_matched(rho, np.array([1, 0, 0, 0], bool), ratio=1)
    >>> found.negative.tolist(), balance["smd_after"].round(6).tolist()
    ([1], [0.0])
    """
    strength = np.arctanh(np.minimum(np.abs(np.asarray(coexpression, dtype=np.float64)), 1 - 1e-9))
    sd = strength.std()
    matched = nearest_negatives(strength / sd if sd > 0 else strength, label, ratio=ratio, caliper=caliper)
    return matched, balance_table(np.abs(coexpression)[:, None], ["rho_abs"], np.asarray(label, dtype=bool), matched)


SPEC = NullSpec(
    name="coexpression_matched",
    version=1,
    function=coexpression_matched,
    summary="for every positive, pairs of equally strong co-expression that are no edge",
    preserves="the absolute rank correlation of the pair, within the caliper",
    randomises="which pairs of one strength of co-expression are edges",
    exchangeable="a positive and its negatives, given how strongly they are co-expressed",
    reference="Rosenbaum & Rubin 1985 (calipers); Stuart 2010 (balance)",
    parameters={"ratio": 10, "caliper": 0.05},
)
