"""Cells with verified raw counts, genes as a vocabulary, and the roles of their annotation columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.errors import AlignmentError, ScaleError
from regulens.provenance import digest_frame, digest_of, digest_sparse
from regulens.types.genes import GeneAlignment, GeneVocabulary

#: Roles that a user can give to a column of ``obs``.
ROLES = ("cell_state", "donor", "batch", "perturbation")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Raw counts of cells × genes, checked once and then trusted.

    Parameters
    ----------
    counts
        CSR, shape ``(cell, gene)``, non-negative integers stored as float32.
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

    counts: sp.csr_matrix
    genes: GeneVocabulary
    obs: pd.DataFrame
    total_counts: np.ndarray
    alignment: GeneAlignment
    source: str
    name: str = "cells"
    dropped: dict[str, int] = field(default_factory=dict)

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
        data = self.counts.data
        if data.size and (not np.isfinite(data).all() or data.min() < 0 or (data != np.rint(data)).any()):
            message = "Expected non-negative integer counts, got other values. Read cells with regulens.io."
            raise ScaleError(message)
        self.counts.sort_indices()
        for array in (self.counts.data, self.counts.indices, self.counts.indptr, self.total_counts):
            array.flags.writeable = False

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.counts.shape[0]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.counts.shape[1]

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that the user named, in the order of `ROLES`."""
        return tuple(r for r in ROLES if r in self.obs.columns)

    @property
    def digest(self) -> str:
        """Digest of counts, genes, roles and library sizes."""
        roles = self.obs[list(self.roles)].astype(str)
        return digest_of(
            digest_sparse(self.counts),
            self.genes.digest,
            digest_frame(roles.assign(_cell=self.obs.index.astype(str), _total=self.total_counts)),
        )

    def log_normalised(self, gene_index: np.ndarray | None = None) -> sp.csr_matrix:
        """``log1p(counts / total_counts * 1e4)`` (natural log), CSR float64, optionally of some genes only."""
        counts = self.counts if gene_index is None else self.counts[:, gene_index]
        scale = np.divide(1e4, self.total_counts, out=np.zeros_like(self.total_counts), where=self.total_counts > 0)
        out = sp.csr_matrix(sp.diags(scale) @ counts.astype(np.float64))
        np.log1p(out.data, out=out.data)
        return out

    def subset(self, cell_index: np.ndarray | None = None, gene_index: np.ndarray | None = None) -> Cells:
        """Cells and genes at the given positions; library sizes are kept, not recomputed."""
        rows = np.arange(self.n_cells) if cell_index is None else np.asarray(cell_index)
        counts = self.counts[rows]
        genes = self.genes
        if gene_index is not None:
            counts, genes = counts[:, gene_index], genes.take(gene_index)
        return Cells(
            counts=sp.csr_matrix(counts),
            genes=genes,
            obs=self.obs.iloc[rows].copy(),
            total_counts=self.total_counts[rows].copy(),
            alignment=self.alignment,
            source=self.source,
            name=self.name,
            dropped=dict(self.dropped),
        )
