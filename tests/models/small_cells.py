"""Small cells with known counts for the tests of adapters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment, GeneVocabulary


def make_cells(counts, *, symbols=None, ensembl=None, totals=None, names=None) -> Cells:
    counts = np.asarray(counts, dtype=np.float32)
    n_cells, n_genes = counts.shape
    symbols = symbols or [f"G{i}" for i in range(n_genes)]
    ensembl = ensembl or [f"ENSG{i:011d}" for i in range(n_genes)]
    empty = pd.DataFrame(columns=["input", "status", "symbol", "ensembl", "reason"])
    return Cells(
        counts=sp.csr_matrix(counts),
        genes=GeneVocabulary(symbols=tuple(symbols), ensembl=tuple(ensembl)),
        obs=pd.DataFrame(index=names or [f"cell{i}" for i in range(n_cells)]),
        total_counts=counts.sum(1).astype(float) if totals is None else np.asarray(totals, dtype=float),
        alignment=GeneAlignment(table=empty),
        source="made in a test",
    )


def poisson_cells(n_cells: int = 5, n_genes: int = 40, seed: int = 0) -> Cells:
    """Cells that express different numbers of genes, so that batches are padded."""
    rng = np.random.default_rng(seed)
    rates = np.linspace(0.3, 1.5, n_cells)[:, None]
    return make_cells(rng.poisson(rates, (n_cells, n_genes)))
