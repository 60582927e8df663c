"""Extraction from cells that stay in a file: the same bytes as from memory, whatever the workers and the blocks."""

from __future__ import annotations

import gc
import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from regulens.attention.extract import extract
from regulens.attention.layout import expected_lengths
from regulens.io import rows
from regulens.io.cells import read_cells
from regulens.models import load
from regulens.rng import stream
from regulens.testing.checkpoints import write_geneformer, write_scgpt
from regulens.testing.tiny_study import tiny_genes
from regulens.testing.toy_model import ToyAdapter


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def write(path, n_cells, n_genes=40):
    x = stream(8, "test/backed-attention").poisson(0.9, (n_cells, n_genes)).astype(np.float32)
    x[[0, 20, 21]] = 0
    obs = pd.DataFrame({"type": np.where(np.arange(n_cells) % 3, "a", "b")}, index=[f"c{i}" for i in range(n_cells)])
    data = ad.AnnData(sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=tiny_genes(n_genes)["symbol"].to_numpy()))
    data.write_h5ad(path, compression="gzip")
    return path


@pytest.fixture
def both(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_ENTRIES", 100)
    monkeypatch.setattr(rows, "GAP_ENTRIES", 30)
    path = write(tmp_path / "cells.h5ad", 45)
    return read_cells(path, cell_state="type", backed=True), read_cells(path, cell_state="type", backed=False)


@pytest.mark.parametrize("family", ["toy", "scgpt", "geneformer"])
def test_stores_are_the_same_bytes(both, family, tmp_path):
    backed, memory = both
    names = memory.genes.symbols
    if family == "scgpt":  # draws of its own: binning, and sampling of genes beyond the maximal length
        write_scgpt(tmp_path / "model", vocab=names, n_layers=2, max_length=16)
    elif family == "geneformer":
        write_geneformer(tmp_path / "model", vocab=memory.genes.ensembl, n_layers=2)
    adapter = ToyAdapter(names[2:]) if family == "toy" else load(f"{family}:{tmp_path / 'model'}")
    known = adapter.gene_tokens(memory.genes) >= 0
    np.testing.assert_array_equal(expected_lengths(backed, known, 12), expected_lengths(memory, known, 12))
    options = {"genes": names[:30], "regulators": names[3:20:2], "n_blocks": 2, "seed": 3, "batch_tokens": 90}
    found = extract(adapter, backed, **options, out=tmp_path / "backed.zarr")
    extract(adapter, memory, **options, out=tmp_path / "memory.zarr")
    assert files(tmp_path / "backed.zarr") == files(tmp_path / "memory.zarr")
    if family == "toy":
        extract(adapter, backed, **options, out=tmp_path / "two.zarr", jobs=2)
        assert files(tmp_path / "two.zarr") == files(tmp_path / "memory.zarr")
    mine = found.verify(n_cells=3)
    pd.testing.assert_frame_equal(mine, extract(adapter, memory, **options).verify(n_cells=3))
    assert mine["max_abs_difference"].max() < 1e-5


def test_cells_given_in_another_order_than_stored(both, tmp_path):
    backed, memory = both
    order = stream(9, "test/order").permutation(memory.n_cells)[:25]
    adapter = ToyAdapter(memory.genes.symbols)
    options = {"genes": memory.genes.symbols, "regulators": memory.genes.symbols[:5]}
    mine, theirs = (extract(adapter, c.subset(order), **options).summary for c in (backed, memory))
    assert mine.digest == theirs.digest
    np.testing.assert_array_equal(mine.sums, theirs.sums)


def test_memory_of_extraction_does_not_grow_with_the_counts(tmp_path, monkeypatch):
    """What grows is what is kept of a cell anyway: its name, labels, place in the order, number of tokens."""
    monkeypatch.setattr(rows, "BLOCK_ENTRIES", 1 << 13)
    sizes, peaks = (100, 300), {}
    for n_cells in sizes:
        path = write(tmp_path / f"{n_cells}.h5ad", n_cells, n_genes=600)
        for backed in (True, False):
            cells = read_cells(path, cell_state="type", backed=backed)
            # Few genes are tokens, so that the test is fast; all of them are counts.
            adapter = ToyAdapter(cells.genes.symbols[:8], n_layers=1, n_heads=1)
            del cells
            gc.collect()
            tracemalloc.start()
            cells = read_cells(path, cell_state="type", backed=backed)
            extract(adapter, cells, genes=cells.genes.symbols[:8], regulators=cells.genes.symbols[:4])
            peaks[backed, n_cells] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            del cells
    growth = {b: (peaks[b, sizes[1]] - peaks[b, sizes[0]]) / (sizes[1] - sizes[0]) for b in (True, False)}
    # About 350 genes a cell.
    assert growth[False] > 6000
    assert growth[True] < 2000
