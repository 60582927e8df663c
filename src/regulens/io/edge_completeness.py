"""Is an edge table complete, or only the top of a ranking? Counts of what is listed, and a sentence made from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Share of its own pairs from which a table counts as complete.
COMPLETE = 0.99
#: A smallest weight above this share of the largest, in a table that is not complete, is a threshold.
THRESHOLD = 0.01
#: Share of regulators that must have the same, largest number of targets for a "top k a regulator".
SAME_K = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """How much of what a table could list it lists.

    Parameters
    ----------
    n_regulators, n_targets
        Genes that are listed as regulators and as targets.
    n_listed, n_possible
        Listed pairs; pairs of a listed regulator and a listed target, self-pairs left out.
    smallest, largest
        Of the weights' absolute values.
    n_levels
        Different absolute weights; 1 means that all listed pairs tie.
    top_k, n_at_top_k
        Most targets of a regulator, and how many regulators have exactly so many.
    ordered
        Rows come from strong to weak.
    weighted
        Whether the table has weights at all.
    """

    n_regulators: int
    n_targets: int
    n_listed: int
    n_possible: int
    smallest: float
    largest: float
    n_levels: int
    top_k: int
    n_at_top_k: int
    ordered: bool
    weighted: bool

    @property
    def share(self) -> float:
        """Listed pairs among the possible ones."""
        return self.n_listed / self.n_possible if self.n_possible else 1.0

    @property
    def complete(self) -> bool:
        """Whether the table lists (almost) every pair of its regulators and targets."""
        return self.share >= COMPLETE

    @property
    def thresholded(self) -> bool:
        """Whether the smallest weight lies well above zero in a table that lists only some pairs."""
        return not self.complete and self.n_levels > 1 and self.smallest > THRESHOLD * self.largest

    @property
    def same_k(self) -> bool:
        """Whether most regulators have the same, largest number of targets, fewer than there are."""
        several = self.n_regulators > 1 and self.top_k < self.n_targets - 1
        return not self.complete and several and self.n_at_top_k >= SAME_K * self.n_regulators

    @property
    def sentence(self) -> str:
        """What kind of list this is.

        Examples
        --------
        >>> Completeness(n_regulators=18, n_targets=436, n_listed=1587, n_possible=7838, smallest=0.02, largest=0.12,
        ...              n_levels=1580, top_k=400, n_at_top_k=1, ordered=True, weighted=True).sentence
        'truncated: 1,587 of 7,838 pairs of its 18 regulators and 436 targets (20.2 %); weights from 0.02 to 0.12, \
none smaller: cut off by weight; rows from strong to weak'
        """
        percent = f"{100 * self.share:.1f} %" if self.share >= 0.001 else f"{100 * self.share:.2g} %"
        kind = "complete" if self.complete else "truncated"
        size = f"{self.n_listed:,} of {self.n_possible:,} pairs"
        axes = f"{self.n_regulators:,} regulator{'s' * (self.n_regulators != 1)} and {self.n_targets:,} targets"
        parts = [f"{kind}: {size} of its {axes} ({percent})"]
        if not self.weighted:
            parts.append("no weights: all listed pairs tie")
        elif self.n_levels == 1:
            parts.append(f"every weight is {self.largest:.4g}: all listed pairs tie")
        else:
            words = f"weights from {self.smallest:.4g} to {self.largest:.4g}"
            parts.append(f"{words}, none smaller: cut off by weight" if self.thresholded else words)
        if self.same_k:
            parts.append(
                f"{self.n_at_top_k} regulators have exactly {self.top_k} targets, none more: top k a regulator"
            )
        if self.weighted and self.n_levels > 1 and self.ordered:
            parts.append("rows from strong to weak")
        return "; ".join(parts)

    def facts(self) -> dict[str, object]:
        """Plain values for a run record."""
        return {
            "complete": self.complete,
            "n_listed": self.n_listed,
            "share_listed": self.share,
            "regulators_listed": self.n_regulators,
            "targets_listed": self.n_targets,
            "smallest_weight": self.smallest,
            "largest_weight": self.largest,
            "listed_pairs_tie": self.n_levels == 1,
        }


def completeness(
    row: np.ndarray, column: np.ndarray, weight: np.ndarray, *, n_shared: int, ordered: bool, weighted: bool
) -> Completeness:
    """Count what a table of unique pairs lists.

    Parameters
    ----------
    row, column
        Codes of regulators and of targets, ``0 … n − 1`` each, all used, shape ``(pair,)``.
    weight
        Absolute weights, shape ``(pair,)``.
    n_shared
        Genes that are both regulators and targets; their self-pairs are not possible.
    """
    degree = np.bincount(row)
    n_rows, n_columns = len(degree), int(column.max()) + 1
    top = int(degree.max())
    return Completeness(
        n_regulators=n_rows, n_targets=n_columns, n_listed=len(row), n_possible=n_rows * n_columns - n_shared,
        smallest=float(weight.min()), largest=float(weight.max()), n_levels=len(np.unique(weight)), top_k=top,
        n_at_top_k=int((degree == top).sum()), ordered=ordered, weighted=weighted,
    )  # fmt: skip
