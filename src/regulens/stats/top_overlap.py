"""Do two rankings share more of their tops than chance? Overlap of two lists of k against k^2 / N."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from regulens.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Items that two top lists share, and what chance shares.

    Parameters
    ----------
    observed
        Shared items.
    expected
        ``k_first * k_second / n_universe``.
    fold
        ``observed / expected``.
    p
        Upper hypergeometric tail, for two independent rankings of exchangeable items; edges that share genes are not
        exchangeable, so that p is descriptive there.
    jaccard
        ``observed / (k_first + k_second - observed)``.
    """

    observed: int
    expected: float
    fold: float
    p: float
    jaccard: float
    n_universe: int


def overlap(observed: int, k: int | tuple[int, int], n_universe: int) -> Overlap:
    """Compare an overlap with that of independent rankings of one universe.

    The universe is the set that was ranked. A fold printed without it means nothing: the same 26 shared items of two
    lists of 100 are 67 fold in 25,876 items and 484 fold in 186,290.

    Parameters
    ----------
    observed
        Items in both lists.
    k
        Length of the lists, or of each.
    n_universe
        Items ranked in both.

    Examples
    --------
    >>> found = overlap(26, 100, 25_876)
    >>> round(found.expected, 3), round(found.fold, 1)
    (0.386, 67.3)
    """
    first, second = (k, k) if isinstance(k, int) else k
    least = max(0, first + second - n_universe)
    if not (1 <= first <= n_universe and 1 <= second <= n_universe and least <= observed <= min(first, second)):
        message = (
            f"Expected lists within the universe and an overlap that they can have, got {observed} of {first} and "
            f"{second} in {n_universe}. Count the ranked items of both."
        )
        raise ParameterError(message)
    expected = first * second / n_universe
    tail = float(hypergeom.sf(observed - 1, n_universe, first, second))
    return Overlap(
        observed=observed, expected=expected, fold=observed / expected, p=max(tail, float(np.finfo(np.float64).tiny)),
        jaccard=observed / (first + second - observed), n_universe=n_universe,
    )  # fmt: skip
