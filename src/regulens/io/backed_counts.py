"""Which counts does a file hold for these cells and genes? Read when asked for, the same numbers as in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from regulens.io import rows as storage
from regulens.io.counts import CountRule
from regulens.types.counts import AbstractCounts


def to_genes(counts: sp.csr_matrix, column: np.ndarray, n_genes: int) -> sp.csr_matrix:
    """Counts per gene from counts per stored column.

    Parameters
    ----------
    column
        Int64, shape ``(column,)``: gene of each stored column, −1 for none; columns of one gene are added.

    Returns
    -------
    CSR of the type of `counts`, shape ``(cell, n_genes)``, columns ascending within a row.

    Examples
    --------
    >>> to_genes(sp.csr_matrix(np.array([[1, 2, 4]])), np.array([1, -1, 1]), 2).toarray().tolist()
    [[0, 5]]
    """
    kept = column >= 0
    if (np.diff(column[kept]) > 0).all():
        # Every gene has one column and their order is the same: entries are renamed or left out where they stand.
        gene = column[counts.indices]
        use = gene >= 0
        ends = np.concatenate([[0], np.cumsum(use)])[counts.indptr]
        return sp.csr_matrix((counts.data[use], gene[use], ends), shape=(counts.shape[0], n_genes))
    ones = np.ones(int(kept.sum()), dtype=counts.dtype)
    sum_up = sp.csr_matrix((ones, (np.flatnonzero(kept), column[kept])), shape=(len(column), n_genes))
    out = sp.csr_matrix(counts @ sum_up)
    out.sort_indices()
    return out


class BackedCounts(AbstractCounts):
    """Counts of some stored rows, by gene.

    Parameters
    ----------
    rows
        The stored matrix.
    rule
        How its values become counts; found by a pass over all of it.
    cells
        Int64, shape ``(cell,)``: stored row of each cell.
    column
        Int64, shape ``(stored column,)``: gene of each, −1 for none.
    n_genes
        Number of genes.
    nnz
        Non-zero counts, where they are known.
    """

    def __init__(
        self,
        rows: storage.AbstractRows,
        *,
        rule: CountRule,
        cells: np.ndarray,
        column: np.ndarray,
        n_genes: int,
        nnz: int | None = None,
    ) -> None:
        self._rows, self._rule, self._cells, self._column = rows, rule, cells, column
        self._n_genes, self._nnz = n_genes, nnz
        self._ascending = bool((np.diff(cells) > 0).all())

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self._cells), self._n_genes

    @property
    def nnz(self) -> int:
        """Non-zero counts; a pass over the file the first time, unless they were known."""
        if self._nnz is None:
            self._nnz = sum(int(block.nnz) for _, block in self.blocks())
        return self._nnz

    @property
    def nbytes(self) -> int:
        """Estimate of what a pass holds."""
        stored = int((self._rows.ends[self._cells + 1] - self._rows.ends[self._cells]).sum())
        return storage.BYTES_PER_ENTRY * min(storage.BLOCK_ENTRIES, stored)

    def blocks(self) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Consecutive cells, all genes."""
        if self._ascending:
            for start, block in self._rows.blocks(self._cells):
                yield start, self._counts(block, self._cells[start : start + block.shape[0]])
            return
        # In another order than stored: as many cells at a time as fill a block on average.
        per_cell = max(int(self._rows.ends[-1]) // max(self._rows.shape[0], 1), 1)
        step = max(storage.BLOCK_ENTRIES // per_cell, 1)
        for start in range(0, len(self._cells), step):
            yield start, self.take(np.arange(start, min(start + step, len(self._cells))))

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """Some cells, in the order asked for."""
        stored = self._cells[np.asarray(rows)]
        wanted, back = np.unique(stored, return_inverse=True)
        parts = [
            self._counts(block, wanted[start : start + block.shape[0]]) for start, block in self._rows.blocks(wanted)
        ]
        if not parts:
            return sp.csr_matrix((0, self._n_genes), dtype=np.float32)
        whole = parts[0] if len(parts) == 1 else sp.csr_matrix(sp.vstack(parts, format="csr"))
        del parts
        return whole if np.array_equal(back, np.arange(len(wanted))) else whole[back]

    def subset(self, rows: np.ndarray | None, genes: np.ndarray | None) -> BackedCounts:
        """Cells and genes at some positions, still in the file."""
        column, n_genes = self._column, self._n_genes
        if genes is not None:
            genes = np.asarray(genes)
            place = np.full(n_genes, -1, dtype=np.int64)
            place[genes] = np.arange(len(genes))
            column, n_genes = np.where(column >= 0, place[column], -1), len(genes)
        cells = self._cells if rows is None else self._cells[np.asarray(rows)]
        return BackedCounts(self._rows, rule=self._rule, cells=cells, column=column, n_genes=n_genes)

    def _counts(self, block: sp.csr_matrix, stored: np.ndarray) -> sp.csr_matrix:
        return to_genes(self._rule.counts(block, stored), self._column, self._n_genes)
