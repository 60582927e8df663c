"""Counts that stay in a file are the same as in memory, wherever blocks begin, and bad files are refused alike."""

import gc
import pickle
import shutil
import tracemalloc

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

from regulens.errors import InputError, ParameterError, RegulensError, ScaleError
from regulens.io import cell_files, cells, rows
from regulens.io.by_row import ConvertedRows
from regulens.io.cells import read_cells
from regulens.io.genes_selection import _moments, select_genes
from regulens.rng import stream
from regulens.run.inputs import _fingerprint as fingerprint
from regulens.testing.tiny_study import tiny_genes

N_CELLS, N_GENES = 61, 40
#: Stored numbers per block: every cell alone, a few cells, all of them.
BLOCKS = (1, 55, 1 << 21)


def counts_of(n_cells=N_CELLS, n_genes=N_GENES):
    x = stream(4, "test/backed").poisson(0.8, (n_cells, n_genes)).astype(np.float32)
    x[[0, 1, n_cells // 2, n_cells - 1]] = 0  # empty cells at both ends, and two in a row
    x[:, 5] = 0
    x[n_cells // 3, :] = 3  # one cell with every gene but the silent one
    x[:, 5] = 0
    return x


def data_of(x, encoding="csr"):
    matrix = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.array}[encoding](x)
    states = np.array(["a", "b", None], dtype=object)[np.arange(len(x)) % 7 % 3]
    obs = pd.DataFrame(
        {"type": states, "n": counts_of(*x.shape).sum(axis=1) + 5.0}, index=[f"c{i}" for i in range(len(x))]
    )
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=tiny_genes(x.shape[1])["symbol"].to_numpy()))


def write(data, path):
    if path.suffix == ".h5ad":
        data.write_h5ad(path, compression="gzip")
    else:
        data.write_zarr(path)
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    def use(n):
        monkeypatch.setattr(rows, "BLOCK_ENTRIES", n)
        monkeypatch.setattr(rows, "GAP_ENTRIES", n)

    return use


def assert_same(backed, memory):
    assert backed.backed and not memory.backed
    assert (backed.digest, backed.source, backed.dropped) == (memory.digest, memory.source, memory.dropped)
    assert backed.counts.nnz == memory.counts.nnz
    pd.testing.assert_frame_equal(backed.obs, memory.obs)
    pd.testing.assert_frame_equal(backed.alignment.table, memory.alignment.table)
    index = np.array([7, 3, 20])
    for some in (None, index):
        mine, theirs = backed.log_normalised(some), memory.log_normalised(some)
        assert np.array_equal(mine.toarray(), theirs.toarray())
    picked = stream(5, "test/picked").permutation(memory.n_cells)[:20]
    assert backed.load(picked).digest == memory.subset(picked).digest == backed.subset(picked).digest
    assert backed.subset(picked, index).digest == memory.subset(picked, index).digest
    assert backed.load().counts.has_canonical_format
    known = np.arange(memory.n_genes) % 3 > 0
    for mine, theirs in zip(backed.genes_detected(known, ~known), memory.genes_detected(known, ~known)):
        assert np.array_equal(mine, theirs)
    for mine, theirs in zip(_moments(backed), _moments(memory)):
        assert np.array_equal(mine, theirs)  # to the last bit
    options = {"n_top": 9, "regulators": memory.genes.symbols[:4], "min_cells": 5}
    mine, theirs = select_genes(backed, **options), select_genes(memory, **options)
    assert np.array_equal(mine[0], theirs[0]) and mine[1] == theirs[1]


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
@pytest.mark.parametrize("encoding", ["csr", "csc", "dense"])
def test_a_file_gives_what_memory_gives_wherever_blocks_begin(tmp_path, small_blocks, encoding, ending):
    data = data_of(counts_of(), encoding)
    data.layers["counts"], data.raw = data.X.copy(), data.copy()
    path = write(data, tmp_path / f"cells{ending}")
    reference = read_cells(data, cell_state="type")
    assert reference.dropped == {"zero_counts": 4, "missing_cell_state": 16}
    small_blocks(55)
    for where in ("auto", "X", "raw"):
        memory = read_cells(path, cell_state="type", counts=where, backed=False)
        backed = read_cells(path, cell_state="type", counts=where, backed=True)
        assert backed.backed and backed.digest == memory.digest == reference.digest
        assert backed.source == memory.source
    assert len(list(backed.counts.blocks())) > 5
    assert_same(backed, memory)
    for n in (1, 1 << 21):
        small_blocks(n)
        assert read_cells(path, cell_state="type", counts="X", backed=True).digest == reference.digest


def test_a_reader_that_loses_a_row_between_blocks_is_noticed(tmp_path, small_blocks, monkeypatch):
    path = write(data_of(counts_of()), tmp_path / "cells.h5ad")
    right = read_cells(path, backed=True).digest
    whole = rows.StoredRows.read

    def off_by_one(self, start, stop):
        return whole(self, max(start - 1, 0), max(stop - 1, 1))

    small_blocks(55)
    monkeypatch.setattr(rows.StoredRows, "read", off_by_one)
    assert read_cells(path, backed=True).digest != right


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_both_versions_of_zarr_are_read(tmp_path, zarr_format):
    with ad.settings.override(zarr_write_format=zarr_format):
        path = write(data_of(counts_of()), tmp_path / "cells.zarr")
    assert (path / ("zarr.json" if zarr_format == 3 else ".zgroup")).is_file()
    assert_same(read_cells(path, backed=True), read_cells(path))


def test_shards_of_zarr_are_read_and_missed(tmp_path):
    with ad.settings.override(zarr_write_format=3):
        path = write(data_of(counts_of()), tmp_path / "cells.zarr")
    memory = read_cells(path)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)["X"]
    values = group["data"][...]
    assert len(values) > 700
    del group["data"]
    group.create_array("data", shape=values.shape, dtype=values.dtype, chunks=(64,), shards=(256,))
    group["data"][...] = values
    zarr.consolidate_metadata(path)
    assert_same(read_cells(path, backed=True), memory)
    next(p for p in sorted((path / "X" / "data" / "c").rglob("*")) if p.is_file()).unlink()
    for backed in (True, False):
        with pytest.raises(InputError, match="chunks of X/data missing"):
            read_cells(path, backed=backed)


def test_log_values_are_recovered_and_duplicates_added_up_by_block(tmp_path, small_blocks):
    x = counts_of()
    total = np.maximum(x.sum(axis=1), 1)
    data = data_of(np.log1p(x / total[:, None] * 1e4))
    data.obs["n"] = total
    names = data.var_names.to_numpy().copy()
    names[10], names[11] = "SEPT9", "SEPTIN9"
    data.var_names = names
    path = write(data, tmp_path / "cells.h5ad")
    for options in ({}, {"total_counts": "n"}, {"duplicates": "sum"}):
        memory = read_cells(path, log1p_cp10k=True, cell_state="type", backed=False, **options)
        for n in BLOCKS[1:]:
            small_blocks(n)
            assert_same(read_cells(path, log1p_cp10k=True, cell_state="type", backed=True, **options), memory)


def at_the_end(value):
    def change(x):
        x[-2, -2:] = value
        return x

    return change


BROKEN = {
    "nan": at_the_end(np.nan),
    "infinite": at_the_end(np.inf),
    "negative": at_the_end(-0.5),
    "fraction": at_the_end(7.25),
    "large fraction": at_the_end(77.25),
    "huge": at_the_end(2.0**30),
    "log1p of counts per 10,000": lambda x: np.log1p(x / np.maximum(x.sum(axis=1), 1)[:, None] * 1e4),
    "log1p of something": lambda x: np.log1p(x * stream(6, "test/noise").uniform(0.5, 1.5, x.shape).astype("f4")),
}


@pytest.mark.parametrize("n", BLOCKS)
@pytest.mark.parametrize("case", list(BROKEN))
def test_values_that_are_no_counts_get_the_same_sentence(tmp_path, small_blocks, case, n):
    x = counts_of()
    x[-2] = 1
    path = write(data_of(BROKEN[case](x)), tmp_path / "cells.h5ad")
    small_blocks(1 << 21)
    with pytest.raises(ScaleError) as memory:
        read_cells(path, backed=False)
    small_blocks(n)
    with pytest.raises(ScaleError) as backed:
        read_cells(path, backed=True)  # the bundled gene table is read once
    assert str(backed.value) == str(memory.value)
    for options in ({}, {"total_counts": "n"}) if case != "log1p of counts per 10,000" and n > 1 else ():
        with pytest.raises(ScaleError) as memory:
            read_cells(path, backed=False, log1p_cp10k=True, **options)
        with pytest.raises(ScaleError) as backed:
            read_cells(path, backed=True, log1p_cp10k=True, **options)
        assert str(backed.value) == str(memory.value)


def test_words_instead_of_numbers_get_the_same_sentence(tmp_path):
    data = data_of(counts_of())
    data.layers["words"] = np.full(data.shape, "a", dtype=object)
    path = write(data, tmp_path / "cells.h5ad")
    for backed in (True, False):
        with pytest.raises(ScaleError, match="Expected a numeric matrix of counts"):
            read_cells(path, counts="words", backed=backed)


def test_damage_in_the_middle_of_a_file_is_refused(tmp_path):
    path = write(data_of(counts_of(2000, 60)), tmp_path / "cells.h5ad")
    with h5py.File(path) as file:
        data = file["X/data"]
        assert data.id.get_num_chunks() > 2
        info = data.id.get_chunk_info(data.id.get_num_chunks() // 2)
    with path.open("r+b") as handle:
        handle.seek(info.byte_offset + info.size // 2)
        handle.write(b"\x00" * (info.size // 4))
    for backed in (True, False):
        with pytest.raises(InputError, match=r"Expected a readable \.h5ad file, got .* from cells\.h5ad\. The file is"):
            read_cells(path, backed=backed)
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size // 2)
    for backed in (True, False, "auto"):
        with pytest.raises(InputError, match=r"Expected a readable \.h5ad file, got .* from cells\.h5ad"):
            read_cells(path, backed=backed)


@pytest.mark.parametrize("encoding", ["csr", "csc"])
@pytest.mark.parametrize("damage", ["column", "ends", "short", "shape"])
def test_an_outline_that_does_not_hold_is_refused(tmp_path, encoding, damage):
    path = write(data_of(counts_of(), encoding), tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        group = file["X"]
        if damage == "column":
            group["indices"][-3] = 10**6
        elif damage == "ends":
            group["indptr"][10] = 10**6
        elif damage == "short":
            values = group["data"][:-4]
            del group["data"]
            group["data"] = values
        else:
            group.attrs["shape"] = (N_CELLS, N_GENES - 1) if encoding == "csr" else (N_CELLS - 1, N_GENES)
    with pytest.raises(InputError, match=r"Expected a readable \.h5ad file, got"):
        read_cells(path, backed=True)  # the bundled gene table is read once


@pytest.mark.parametrize("backed", [True, False])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_zarr_folder_that_lacks_a_chunk_is_refused(tmp_path, backed, damage):
    path = write(data_of(counts_of()), tmp_path / "cells.zarr")
    chunk = next(p for p in sorted((path / "X" / "data").rglob("*")) if p.is_file() and p.name[0] in "0c")
    if damage == "missing":
        chunk.unlink()
        said = "1 of 1 chunks of X/data missing"
    else:
        chunk.write_bytes(chunk.read_bytes()[:5])
        said = ""
    with pytest.raises(InputError, match=rf"Expected a readable AnnData zarr folder, got '.*{said}.*copy it again"):
        read_cells(path, backed=backed)


def test_what_is_neither_is_refused_with_the_nearest_name(tmp_path):
    write(data_of(counts_of()), tmp_path / "cells.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"got a folder that is not zarr\."):
        read_cells(tmp_path / "folder")
    with pytest.raises(InputError, match=r"got no such file\. Did you mean 'cells\.zarr'\?"):
        read_cells(tmp_path / "cels.zarr")


def test_an_anndata_that_left_its_counts_in_the_file(tmp_path):
    data = data_of(counts_of())
    data.raw = data.copy()
    path = write(data, tmp_path / "cells.h5ad")
    memory = read_cells(data, cell_state="type")
    for where in ("X", "raw"):
        backed = read_cells(ad.read_h5ad(path, backed="r"), cell_state="type", counts=where)
        assert backed.backed and backed.digest == memory.digest
    found = ad.read_h5ad(path, backed="r")
    found.obs["group"] = np.where(np.arange(N_CELLS) < 30, "x", None)  # not in the file
    assert read_cells(found, cell_state="group").n_cells == 28
    assert not read_cells(found, backed=False).backed
    part = read_cells(found[10:40], cell_state="type", counts="X")
    assert not part.backed and part.digest == read_cells(data[10:40].copy(), cell_state="type").digest


def test_the_plan_of_reading_follows_the_size_of_the_matrices(tmp_path, monkeypatch):
    path = write(data_of(counts_of()), tmp_path / "cells.h5ad")
    size = cell_files.matrix_bytes(path)
    assert size == 8 * int((counts_of() > 0).sum())
    assert not read_cells(path).backed
    monkeypatch.setattr(cells, "BACKED_ABOVE", size - 1)
    assert read_cells(path).backed
    assert not read_cells(path, backed=False).backed
    monkeypatch.setattr(cells, "BACKED_ABOVE", size)
    assert not read_cells(path).backed
    with pytest.raises(ParameterError, match="Expected backed to be True, False or 'auto', got 'yes'"):
        read_cells(path, backed="yes")
    with pytest.raises(ParameterError, match="got an AnnData in memory"):
        read_cells(data_of(counts_of()), backed=True)


def test_a_file_of_an_old_version_is_read_whole_or_refused(tmp_path):
    path = write(data_of(counts_of()), tmp_path / "cells.h5ad")
    right = read_cells(path).digest
    with h5py.File(path, "r+") as file:
        for name in list(file["X"].attrs):
            del file["X"].attrs[name]
        file["X"].attrs["h5sparse_format"], file["X"].attrs["h5sparse_shape"] = "csr", (N_CELLS, N_GENES)
    assert cell_files.matrix_bytes(path) is None
    assert read_cells(path).digest == right
    with pytest.raises(InputError, match=r"got an older one in cells\.h5ad\. Read it whole"):
        read_cells(path, backed=True)  # the bundled gene table is read once


def test_a_copy_by_row_goes_when_the_cells_go(tmp_path, monkeypatch, small_blocks):
    path = write(data_of(counts_of(), "csc"), tmp_path / "cells.h5ad")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    small_blocks(50)
    monkeypatch.setattr("regulens.io.by_row._BAND_ENTRIES", 120)
    backed = read_cells(path, backed=True)
    assert isinstance(backed.counts._rows, ConvertedRows)
    assert backed.digest == read_cells(path).digest
    (folder,) = scratch.iterdir()
    assert [p.name for p in folder.iterdir()] == ["rows.h5"]
    copy = pickle.loads(pickle.dumps(backed))
    assert copy.load(np.arange(3)).digest == backed.load(np.arange(3)).digest
    del copy
    gc.collect()
    assert folder.exists()
    del backed
    gc.collect()
    assert not list(scratch.iterdir())


def test_no_room_for_a_copy_by_row_is_said(tmp_path, monkeypatch):
    path = write(data_of(counts_of(), "csc"), tmp_path / "cells.h5ad")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(InputError, match=r"stored by gene \(CSC\), got 0\.0 GB\. Set TMPDIR"):
        read_cells(path, backed=True)  # the bundled gene table is read once


def test_another_process_reads_the_same_file_or_none(tmp_path):
    path = write(data_of(counts_of()), tmp_path / "cells.h5ad")
    backed = read_cells(path, backed=True)
    sent = pickle.dumps(backed)
    assert len(sent) < 40_000
    assert pickle.loads(sent).load(np.arange(5)).digest == backed.load(np.arange(5)).digest
    del backed
    gc.collect()
    write(data_of(counts_of(N_CELLS + 1)), path)
    with pytest.raises(InputError, match="got a file that was changed since"):
        pickle.loads(sent).load(np.arange(5))


def test_what_needs_a_matrix_in_memory_says_how_to_get_one(tmp_path):
    backed = read_cells(write(data_of(counts_of()), tmp_path / "cells.h5ad"), backed=True)
    with pytest.raises(AttributeError, match=r"have no 'indptr'\. Take the cells that are needed with Cells\.load"):
        _ = backed.counts.indptr
    assert sp.issparse(backed.load().counts)
    assert backed.load(np.array([], dtype=int)).n_cells == 0


def test_a_fingerprint_sees_every_chunk_of_a_zarr_folder(tmp_path):
    path = write(data_of(counts_of()), tmp_path / "cells.zarr")
    before = fingerprint(str(path))
    assert fingerprint(str(path)) == before
    chunk = next(p for p in sorted((path / "X" / "data").rglob("*")) if p.is_file() and p.name[0] in "0c")
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    assert fingerprint(str(path)) != before


def test_where_counts_lie_is_no_part_of_the_study():
    from regulens.plan import Plan

    plain = Plan.from_options()
    assert plain.cells.backed == "auto"
    for backed in (True, False):
        assert Plan.from_options(cells={"backed": backed}).digest == plain.digest
    with pytest.raises(RegulensError, match=r"cells\.backed"):
        Plan.from_options(cells={"backed": "sometimes"})


def peak(read):
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_cells(tmp_path, small_blocks):
    """Above what names and labels of cells take (they are kept), a pass holds one block."""
    small_blocks(1 << 14)
    sizes, peaks = (2000, 6000), {}
    for n_cells in sizes:
        x = stream(7, "test/memory").poisson(1.0, (n_cells, 150)).astype(np.float32)
        path = write(data_of(x), tmp_path / f"{n_cells}.h5ad")
        read_cells(path, backed=True)  # the bundled gene table is read once
        for backed in (True, False):

            def read(path=path, backed=backed):
                found = read_cells(path, backed=backed)
                select_genes(found, n_top=20, regulators=(), min_cells=3)
                found.genes_detected(np.ones(found.n_genes, dtype=bool))
                return found.digest

            peaks[backed, n_cells] = peak(read)
    growth = {b: (peaks[b, sizes[1]] - peaks[b, sizes[0]]) / (sizes[1] - sizes[0]) for b in (True, False)}
    # About 95 genes a cell: over 2 kB in memory; some 400 bytes of names, labels and sums in the other case.
    assert growth[False] > 2000
    assert growth[True] < 600
