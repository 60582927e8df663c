"""Which families hold a discovery, and which members of those families? False discoveries on two levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.errors import AlignmentError, ParameterError
from regulens.stats.multiplicity import benjamini_hochberg


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hierarchical:
    """Discoveries of the selective procedure of Benjamini & Bogomolov.

    Parameters
    ----------
    families
        One row per family: ``family, n_tests, p, q, selected`` with the Simes p of the family and its BH q.
    selected
        Whether each test is a discovery, in the order given, shape ``(test,)``.
    q_within
        BH q of each test inside its own family, shape ``(test,)``.
    level_within
        Level that `q_within` is held against in the selected families: ``q * selected families / all families``.
    """

    families: pd.DataFrame
    selected: np.ndarray
    q_within: np.ndarray
    level_within: float


def simes(p: np.ndarray) -> float:
    """p of "some test of the family is true": ``min m p_(i) / i`` (Simes 1986).

    Examples
    --------
    >>> simes(np.array([0.03, 0.02, 0.5]))
    0.045
    """
    return float(benjamini_hochberg(p).min()) if np.size(p) else 1.0


def hierarchical_fdr(p: np.ndarray, family: Sequence[object] | np.ndarray, *, q: float = 0.05) -> Hierarchical:
    """Family first, then member (Benjamini & Bogomolov 2014).

    Families are selected by BH at level `q` on their Simes p-values; inside the R selected ones of all m families, BH
    is run at level ``q R / m``. This controls the expected *average over selected families* of the false discovery
    proportion at `q`, for independent families or positive dependence; testing the selected families at the full
    level would not. It does not control the overall proportion over all tests.

    Parameters
    ----------
    p
        Raw p-values in [0, 1], shape ``(test,)``.
    family
        One per test.

    Examples
    --------
    >>> found = hierarchical_fdr(np.array([0.001, 0.2, 0.6, 0.9]), ["a", "a", "b", "b"])
    >>> found.families["selected"].tolist(), found.selected.tolist(), found.level_within
    ([True, False], [True, False, False, False], 0.025)
    """
    p = np.asarray(p, dtype=np.float64)
    names, number = np.unique(np.asarray(family, dtype=object).astype(str), return_inverse=True)
    if p.ndim != 1 or number.shape != p.shape:
        message = f"Expected one family per test, got {number.size} for p-values of shape {p.shape}. Align them."
        raise AlignmentError(message)
    if not 0.0 < q < 1.0:
        message = f"Expected a level in (0, 1), got {q}. Use 0.05."
        raise ParameterError(message)
    within = np.full(p.size, np.nan)
    family_p = np.ones(names.size)
    for f in range(names.size):
        at = number == f
        within[at] = benjamini_hochberg(p[at])
        family_p[f] = within[at].min()
    family_q = benjamini_hochberg(family_p)
    chosen = family_q <= q
    level = q * float(chosen.sum()) / max(names.size, 1)
    frame = pd.DataFrame(
        {"family": names, "n_tests": np.bincount(number, minlength=names.size), "p": family_p, "q": family_q,
         "selected": chosen}
    )  # fmt: skip
    return Hierarchical(
        families=frame, selected=chosen[number] & (within <= level), q_within=within, level_within=level
    )
