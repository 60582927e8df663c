"""Which pairs teach and which judge? Splits over perturbations, over genes and over both, with proof that none leak.

Training and test pairs are blocks of the grid perturbation × gene, so that a split is known by its rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.errors import ParameterError, StatisticsError
from regulens.stats.splits import gene_folds

#: What the two sides of each split may not share.
SPLITS = ("perturbation", "gene", "joint")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """One turn of a split: the block that teaches, the block that judges.

    Parameters
    ----------
    train_row, test_row
        Bool, shape ``(perturbation,)``.
    train_column, test_column
        Bool, shape ``(gene,)``.
    """

    train_row: np.ndarray
    train_column: np.ndarray
    test_row: np.ndarray
    test_column: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turns:
    """All turns of a split; every pair judges once.

    Parameters
    ----------
    split
        One of `SPLITS`.
    row_fold
        Fold of every perturbation, shape ``(perturbation,)``; one fold where perturbations are not split.

    Raises
    ------
    StatisticsError
        A perturbation or a gene that the split separates is on both sides of a turn, or a pair judges not once.

    Examples
    --------
    >>> turns = Turns.deal("joint", 6, 8, folds=2, rng=np.random.default_rng(0))
    >>> len(turns.turns), int(turns.turns[0].test_row.sum()), int(turns.turns[0].test_column.sum())
    (4, 3, 4)
    """

    split: str
    row_fold: np.ndarray
    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        for turn in self.turns:
            assert_nothing_shared(self.split, turn)
        judged = sum(np.outer(t.test_row, t.test_column).astype(np.int64) for t in self.turns)
        if not np.all(judged == 1):
            message = "Expected every pair to be judged once, got pairs with none or several turns. Deal whole folds."
            raise StatisticsError(message)

    @classmethod
    def deal(cls, split: str, n_rows: int, n_columns: int, *, folds: int, rng: np.random.Generator) -> Turns:
        """Deal perturbations, genes or both into `folds` folds of nearly equal size, at random.

        Parameters
        ----------
        folds
            At least 2, at most the number of perturbations or genes that are dealt; ``joint`` has its square of turns.
        """
        if split not in SPLITS:
            message = f"Expected a split among {', '.join(SPLITS)}, got '{split}'. Choose one of them."
            raise ParameterError(message)
        by_row = np.zeros(n_rows, dtype=np.int64) if split == "gene" else gene_folds(n_rows, folds, rng)
        by_column = (
            np.zeros(n_columns, dtype=np.int64) if split == "perturbation" else gene_folds(n_columns, folds, rng)
        )
        every_row, every_column = split == "gene", split == "perturbation"
        turns = tuple(
            Turn(
                train_row=(by_row != f) | every_row, test_row=by_row == f,
                train_column=(by_column != g) | every_column, test_column=by_column == g,
            )
            for f in range(by_row.max() + 1)
            for g in range(by_column.max() + 1)
        )  # fmt: skip
        return cls(split=split, row_fold=by_row, turns=turns)


def assert_nothing_shared(split: str, turn: Turn) -> None:
    """Raise `StatisticsError` when a perturbation or gene that `split` separates teaches and judges in one turn."""
    for kind, left_out, train, test in (
        ("perturbation", "gene", turn.train_row, turn.test_row),
        ("gene", "perturbation", turn.train_column, turn.test_column),
    ):
        both = np.flatnonzero(train & test)
        if split != left_out and both.size:
            message = (
                f"Expected no {kind} on both sides of the {split} split, got {both.size}, first number {both[0]}. "
                f"Split by whole {kind}s."
            )
            raise StatisticsError(message)
