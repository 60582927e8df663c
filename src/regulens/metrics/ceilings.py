"""What is the best that any score can reach on these labels, and on labels of which some are missing?

A reference lists a part of the true edges. A score that ranks all true edges first is then charged for every true
edge that nobody has written down. The expected ceilings assume that the labelled edges are a random part of the true
ones; studied genes are labelled more often, so a real ceiling depends on whom the reference favours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

from regulens.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Expected metrics of a score that ranks every true edge, labelled or not, before every other pair.

    Parameters
    ----------
    n_true
        True edges among the pairs, ``n_pos / completeness``.
    auroc, average_precision
        In (0, 1].
    precision, recall, f1
        At `k`; None without a k.
    """

    n_pos: int
    n_pairs: int
    completeness: float
    n_true: float
    auroc: float
    average_precision: float
    k: int | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


def ceilings(n_pos: int, n_pairs: int, *, completeness: float = 1.0, k: int | None = None) -> Ceilings:
    """Expected ceilings when a random share `completeness` of the true edges is labelled.

    With T = n_pos / completeness true edges, u = T - n_pos of them unlabelled, and labelled ones in random places
    among the first T:

    - precision at k: ``completeness * min(k, T) / k``; recall: ``min(k, T) / T``;
      F1: ``2 completeness min(k, T) / (k + n_pos)``; with completeness 1 this is ``2 min(k, n_pos) / (k + n_pos)``;
    - AUROC: ``1 - u / (2 n_neg)``, since an unlabelled true edge beats a labelled one half of the time;
    - average precision: ``g + (1 - g) H_T / T`` with ``g = (n_pos - 1) / (T - 1)`` and H the harmonic numbers.

    Parameters
    ----------
    n_pos, n_pairs
        Labelled positives and all pairs, ``1 <= n_pos < n_pairs``.
    completeness
        Share of the true edges among the pairs that is labelled, in (0, 1]; T may not exceed `n_pairs`.
    k
        Length of the list, in [1, n_pairs].

    Examples
    --------
    >>> full, half = ceilings(100, 10_000, k=200), ceilings(100, 10_000, completeness=0.5, k=200)
    >>> round(full.f1, 4), full.precision, half.precision, half.recall, round(half.auroc, 4)
    (0.6667, 0.5, 0.5, 1.0, 0.9949)
    """
    if not 1 <= n_pos < n_pairs:
        message = f"Expected 1 <= n_pos < n_pairs, got {n_pos} and {n_pairs}. A ceiling needs positives and negatives."
        raise ParameterError(message)
    if not 0.0 < completeness <= 1.0 or n_pos / completeness > n_pairs:
        message = (
            f"Expected a completeness in [{n_pos / n_pairs:.3g}, 1] (no more true edges than pairs), got "
            f"{completeness}. Give the share of true edges that is labelled."
        )
        raise ParameterError(message)
    if k is not None and not 1 <= k <= n_pairs:
        message = f"Expected k in [1, {n_pairs}] (the number of pairs), got {k}. Choose a smaller k."
        raise ParameterError(message)
    true = n_pos / completeness
    share = (n_pos - 1) / (true - 1) if true > 1 else 1.0
    harmonic = float(digamma(true + 1.0) + np.euler_gamma)
    reached = None if k is None else completeness * min(k, true)
    return Ceilings(
        n_pos=n_pos, n_pairs=n_pairs, completeness=completeness, n_true=true,
        auroc=1.0 - 0.5 * (true - n_pos) / (n_pairs - n_pos),
        average_precision=share + (1.0 - share) * harmonic / true,
        k=k,
        precision=None if k is None else reached / k,
        recall=None if k is None else min(k, true) / true,
        f1=None if k is None else 2.0 * reached / (k + n_pos),
    )  # fmt: skip


def complete_auroc(auroc: np.ndarray | float, n_pos: int, n_pairs: int, *, completeness: float) -> np.ndarray | float:
    """AUROC against all true edges that an AUROC against the labelled ones stands for, labels missing at random.

    An unlabelled true edge sits among the negatives and is beaten half of the time:
    ``A_labelled = A_true - (A_true - 1/2) u / n_neg`` with u unlabelled true edges, solved for ``A_true``.

    Examples
    --------
    >>> float(round(complete_auroc(0.9949, 100, 10_000, completeness=0.5), 3))
    1.0
    """
    ceiling = ceilings(n_pos, n_pairs, completeness=completeness)
    unlabelled = 2.0 * (1.0 - ceiling.auroc)
    return 0.5 + (np.asarray(auroc, dtype=np.float64) - 0.5) / (1.0 - unlabelled)
