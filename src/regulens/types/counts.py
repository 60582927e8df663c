"""What must counts be able to do that stay on disk? Give rows when asked, and all of them once, in order, in blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp


class AbstractCounts(ABC):
    """Verified counts of cells × genes that are not held in memory.

    What comes out is what a matrix in memory would hold: CSR float32 of non-negative integers, columns ascending
    within a row, no stored zeros. Nothing that is computed from it depends on where blocks begin.

    Subclasses are final, immutable but for what they remember of earlier passes, and can be pickled; another process
    that has the file can read them.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""

    @property
    @abstractmethod
    def nnz(self) -> int:
        """Number of non-zero counts; may take a pass over the file the first time."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Estimate of the bytes that a pass over the cells holds at a time."""

    @abstractmethod
    def blocks(self) -> Iterator[tuple[int, sp.csr_matrix]]:
        """First row and counts of consecutive blocks of cells, in order, all genes; bounded in size."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """Counts of some cells, in the order asked for, in memory."""

    @abstractmethod
    def subset(self, rows: np.ndarray | None, genes: np.ndarray | None) -> AbstractCounts:
        """Cells and genes at the given positions, still on disk; None keeps all."""

    def __getattr__(self, name: str) -> Any:
        # Asked for what only a matrix in memory has (indptr, getnnz, ...): say how to get one.
        message = (
            f"Expected a matrix in memory, got counts on disk, which have no '{name}'. Take the cells that are needed "
            "with Cells.load(rows), or all of them block by block with Cells.blocks()."
        )
        raise AttributeError(message)
