"""Cells with verified raw counts, genes as a vocabulary, and the roles of their annotation columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.errors import AlignmentError, ScaleError
from regulens.provenance import digest_array, digest_frame, digest_of, digest_sparse, digest_sparse_blocks
from regulens.types.counts import AbstractCounts
from regulens.types.genes import GeneAlignment, GeneVocabulary

#: Roles that a user can give to a column of ``obs``.
ROLES = ("cell_state", "donor", "batch", "perturbation")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Raw counts of cells × genes, checked once and then trusted.

    Counts are a matrix in memory, or stay in a file and are read in blocks (`regulens.io.backed_counts`). Everything
    here works on both, with the same results to the last bit; what needs a matrix (`tokenize` of a model) is given
    ``cells.load(rows)``.

    Parameters
    ----------
    counts
        CSR, shape ``(cell, gene)``, non-negative integers stored as float32; or counts that are read when needed.
    genes
        Vocabulary of the columns.
    obs
        One row per cell, string index of unique cell names. Role columns are strings named by their role
        (a subset of `ROLES`); a role that the user did not name is absent.
    total_counts
        Library size per cell, shape ``(cell,)``, float64. May exceed the row sum when the object holds only
        part of the transcriptome.
    alignment
        What became of the input's gene identifiers.
    source
        Words for the report: file name, layer counts came from, how they were recovered.
    """

    counts: sp.csr_matrix | AbstractCounts
    genes: GeneVocabulary
    obs: pd.DataFrame
    total_counts: np.ndarray
    alignment: GeneAlignment
    source: str
    name: str = "cells"
    dropped: dict[str, int] = field(default_factory=dict)
    #: What passes over the counts have found: the digest, and genes detected per cell by the digest of a gene set.
    _known: dict[str, str | np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        n_cells, n_genes = self.counts.shape
        if n_genes != len(self.genes) or n_cells != len(self.obs) or n_cells != len(self.total_counts):
            message = (
                f"Expected counts, genes, obs and total_counts to agree, got {self.counts.shape}, "
                f"{len(self.genes)}, {len(self.obs)}, {len(self.total_counts)}."
            )
            raise AlignmentError(message)
        if not self.obs.index.is_unique:
            message = "Expected unique cell names, got repeats. Make obs_names unique first."
            raise AlignmentError(message)
        self.total_counts.flags.writeable = False
        if self.backed:
            return
        data = self.counts.data
        if data.size and (not np.isfinite(data).all() or data.min() < 0 or (data != np.rint(data)).any()):
            message = "Expected non-negative integer counts, got other values. Read cells with regulens.io."
            raise ScaleError(message)
        self.counts.sort_indices()
        for array in (self.counts.data, self.counts.indices, self.counts.indptr):
            array.flags.writeable = False

    @property
    def backed(self) -> bool:
        """Whether counts stay in their file."""
        return isinstance(self.counts, AbstractCounts)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.counts.shape[0]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.counts.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that counts take in memory: the whole matrix, or of a file one block."""
        if self.backed:
            return self.counts.nbytes
        return self.counts.data.nbytes + self.counts.indices.nbytes + self.counts.indptr.nbytes

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that the user named, in the order of `ROLES`."""
        return tuple(r for r in ROLES if r in self.obs.columns)

    @property
    def digest(self) -> str:
        """Digest of counts, genes, roles and library sizes; computed once."""
        if "digest" not in self._known:
            roles = self.obs[list(self.roles)].astype(str)
            counts = self.counts
            self._known["digest"] = digest_of(
                digest_sparse_blocks(counts.shape, counts.nnz, (block for _, block in counts.blocks()))
                if self.backed
                else digest_sparse(counts),
                self.genes.digest,
                digest_frame(roles.assign(_cell=self.obs.index.astype(str), _total=self.total_counts)),
            )
        return str(self._known["digest"])

    def blocks(self) -> Iterator[tuple[int, sp.csr_matrix]]:
        """First row and counts of consecutive blocks of cells, in order; one block when counts are in memory."""
        if self.backed:
            yield from self.counts.blocks()
        else:
            yield 0, self.counts

    def genes_detected(self, *known: np.ndarray) -> tuple[np.ndarray, ...]:
        """Number of genes with a count in each cell, among some genes; int64, shape ``(cell,)`` each.

        Parameters
        ----------
        known
            Bool, shape ``(gene,)``: sets of genes, counted in one pass over the cells.
        """
        names = [f"detected {digest_array(k)}" for k in known]
        wanted = {n: k for n, k in zip(names, known) if n not in self._known}
        if wanted:
            found = {n: np.zeros(self.n_cells, dtype=np.int64) for n in wanted}
            for start, block in self.blocks():
                positive = block.data > 0
                for name, genes in wanted.items():
                    sums = np.concatenate([[0], np.cumsum(positive & genes[block.indices])])
                    found[name][start : start + block.shape[0]] = sums[block.indptr[1:]] - sums[block.indptr[:-1]]
            for array in found.values():
                array.flags.writeable = False
            self._known.update(found)
        return tuple(self._known[n] for n in names)

    def log_normalised(self, gene_index: np.ndarray | None = None) -> sp.csr_matrix:
        """``log1p(counts / total_counts * 1e4)`` (natural log), CSR float64, optionally of some genes only.

        Of counts in a file this holds what is returned, cells × chosen genes, and one block.
        """
        scale = np.divide(1e4, self.total_counts, out=np.zeros_like(self.total_counts), where=self.total_counts > 0)
        parts = []
        for start, block in self.blocks():
            counts = block if gene_index is None else block[:, gene_index]
            part = sp.csr_matrix(sp.diags(scale[start : start + block.shape[0]]) @ counts.astype(np.float64))
            np.log1p(part.data, out=part.data)
            parts.append(part)
        return parts[0] if len(parts) == 1 else sp.csr_matrix(sp.vstack(parts, format="csr"))

    def load(self, cell_index: np.ndarray | None = None) -> Cells:
        """Cells at the given positions, or all, with their counts in memory."""
        if not self.backed:
            return self if cell_index is None else self.subset(cell_index)
        rows = np.arange(self.n_cells) if cell_index is None else np.asarray(cell_index)
        return self._at(rows, self.counts.take(rows), self.genes)

    def subset(self, cell_index: np.ndarray | None = None, gene_index: np.ndarray | None = None) -> Cells:
        """Cells and genes at the given positions; library sizes are kept, not recomputed. Counts stay where they are.

        See Also
        --------
        load : cells at some positions, in memory.
        """
        rows = np.arange(self.n_cells) if cell_index is None else np.asarray(cell_index)
        genes = self.genes if gene_index is None else self.genes.take(gene_index)
        if self.backed:
            return self._at(rows, self.counts.subset(cell_index, gene_index), genes)
        counts = self.counts[rows]
        return self._at(rows, sp.csr_matrix(counts if gene_index is None else counts[:, gene_index]), genes)

    def _at(self, rows: np.ndarray, counts: sp.csr_matrix | AbstractCounts, genes: GeneVocabulary) -> Cells:
        out = Cells(
            counts=counts,
            genes=genes,
            obs=self.obs.iloc[rows].copy(),
            total_counts=self.total_counts[rows].copy(),
            alignment=self.alignment,
            source=self.source,
            name=self.name,
            dropped=dict(self.dropped),
        )
        if genes is self.genes:
            out._known.update({k: v[rows] for k, v in self._known.items() if isinstance(v, np.ndarray)})
        return out
