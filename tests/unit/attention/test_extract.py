"""Streamed sums equal a naive reading of full maps; what never met is missing; jobs and kills change nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest

from regulens.attention.extract import extract
from regulens.attention.result import Attention
from regulens.errors import AlignmentError, DigestMismatchError, ParameterError, SchemaError, StoreError, VersionError
from regulens.io import store
from regulens.testing.toy_model import ToyAdapter, toy_cells
from regulens.types.attention import Direction


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(toy, cells, axes):
    return extract(toy, cells, **axes, n_blocks=2, seed=3, batch_tokens=90)


def test_sums_equal_a_naive_reading_of_the_full_maps(toy, cells, axes, naive):
    few = cells.subset(np.arange(12))
    found = extract(toy, few, **axes, partition_by=(), batch_tokens=90).summary
    sums, counts = naive(range(12), **axes)
    assert found.sums.shape == (1, 12, 2, 2, 11, 35)
    np.testing.assert_array_equal(found.counts[0], counts)
    np.testing.assert_allclose(found.sums[0], sums, atol=3e-6)
    # The broken twin: directions exchanged, or layers in the order of their names as strings.
    assert np.abs(found.sums[0][:, :, ::-1] - sums).max() > 0.5
    by_name = sorted(range(12), key=str)
    assert np.abs(found.sums[0][by_name] - sums).max() > 0.5


def test_planted_attention_comes_back_with_direction_and_layer(whole, toy, axes):
    for layer in (0, 2, 10):
        edges = whole.edges(layer=layer, head=0).set_index(["source", "target"])["weight"]
        back = whole.edges(layer=layer, head=0, direction="target_attends").set_index(["source", "target"])["weight"]
        checked = 0
        for regulator in axes["regulators"][2:]:
            target = toy.planted_target(regulator, layer=layer)
            if (regulator, target) in edges.index:
                assert edges[regulator].idxmax() == target
                assert edges[regulator, target] > 3 * back[regulator, target]
                checked += 1
        assert checked >= 3


def test_counts_are_co_presence_and_missing_is_not_zero(whole, cells, axes):
    present = (cells.counts.toarray() > 0)[:, 2:]  # the model does not know the first two genes
    names = list(cells.genes.symbols[2:])
    n = whole.summary.pair_counts()
    for i, r in enumerate(axes["regulators"]):
        for j, t in enumerate(axes["genes"]):
            both = 0
            if r != t and r in names and t in names:
                both = int((present[:, names.index(r)] & present[:, names.index(t)]).sum())
            assert n[i, j] == both
    sums = whole.summary.sums.sum(axis=0)
    assert (sums[..., n == 0] == 0).all() and (sums[..., n > 0] > 0).all()
    edges = whole.edges(layer=0)
    assert len(edges) == (n > 0).sum() and (edges["source"] != edges["target"]).all()
    assert edges["weight"].between(0, 1).all() and not (edges["source"] == "G000").any()


def test_partitions_add_up(toy, cells, axes, whole):
    pooled = extract(toy, cells, **axes, partition_by=(), seed=3, batch_tokens=90).summary
    np.testing.assert_array_equal(pooled.pair_counts(), whole.summary.pair_counts())
    for direction in Direction:
        np.testing.assert_allclose(
            pooled.layer_sums(11, direction), whole.summary.layer_sums(11, direction), rtol=1e-5, atol=1e-5
        )
    table = whole.summary.partitions
    assert list(table.columns) == ["partition", "cell_state", "donor", "batch", "perturbation", "block", "n_cells"]
    assert len(table) == 8 and table["n_cells"].sum() == 70
    for (state, donor), group in table.groupby(["cell_state", "donor"]):
        assert group["n_cells"].sum() == ((cells.obs["cell_state"] == state) & (cells.obs["donor"] == donor)).sum()


def test_two_workers_and_the_disk_give_the_same_bytes(toy, cells, axes, whole, tmp_path):
    seen = []
    options = {**axes, "n_blocks": 2, "seed": 3, "batch_tokens": 90}
    two = extract(
        toy,
        cells,
        **options,
        jobs=2,
        out=tmp_path / "two.zarr",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (70, 70) and [d for d, _ in seen] == sorted(d for d, _ in seen)
    extract(toy, cells, **options, jobs=1, out=tmp_path / "one.zarr")
    assert files(tmp_path / "one.zarr") == files(tmp_path / "two.zarr")
    np.testing.assert_array_equal(two.summary.sums[:], whole.summary.sums)
    np.testing.assert_array_equal(two.summary.counts[:], whole.summary.counts)
    assert two.summary.digest == whole.summary.digest and two.facts == whole.facts
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.zarr", "two.zarr"]


SCRIPT = """
    import sys
    from pathlib import Path
    import regulens.attention.fill as F
    from regulens.attention.extract import extract
    import regulens.attention.layout as L
    from regulens.testing.toy_model import ToyAdapter, toy_cells
    F.CHECKPOINT_SECONDS = 0.0
    cells = toy_cells(n_cells=150, n_genes=30, states=("a",))
    toy = ToyAdapter(cells.genes.symbols)
    def progress(done, total):
        print(done, flush=True)
        if done >= int(sys.argv[2]):
                        time.sleep(60)
    extract(toy, cells, genes=cells.genes.symbols, regulators=cells.genes.symbols[:5], batch_tokens=200,
            out=Path(sys.argv[1]), progress=progress)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_continues_and_ends_in_the_same_bytes(how, tmp_path):
    out, untouched = tmp_path / "killed.zarr", tmp_path / "untouched.zarr"
    cells = toy_cells(n_cells=150, n_genes=30, states=("a",))
    toy = ToyAdapter(cells.genes.symbols)
    options = {"genes": cells.genes.symbols, "regulators": cells.genes.symbols[:5], "batch_tokens": 200}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(out), "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for line in process.stdout:
        if int(line) >= 100:
            break
    process.send_signal(how)
    process.wait(timeout=60)
    partial = tmp_path / "killed.zarr.partial"
    assert not out.exists() and partial.exists()
    assert (partial / "running.npz").exists(), "inside a partition, the running sums are saved"
    seen = []
    extract(toy, cells, **options, out=out, progress=lambda done, total: seen.append(done))
    assert seen[0] >= 64, "finished work is not done again"
    extract(toy, cells, **options, out=untouched)
    assert files(out) == files(untouched)
    assert not partial.exists()


def test_a_finished_store_is_reused_and_a_foreign_one_refused(toy, cells, axes, tmp_path, monkeypatch):
    few, out = cells.subset(np.arange(10)), tmp_path / "a.zarr"
    first = extract(toy, few, **axes, out=out)
    monkeypatch.setattr(ToyAdapter, "forward", lambda *a, **k: pytest.fail("ran again"))
    again = extract(toy, few, **axes, out=out)
    np.testing.assert_array_equal(first.summary.sums[:], again.summary.sums[:])
    monkeypatch.undo()
    for change in ({"seed": 1}, {"regulators": axes["regulators"][1:]}, {"batch_tokens": 50}):
        with pytest.raises(DigestMismatchError, match="Choose another folder"):
            extract(toy, few, **{**axes, **change}, out=out)
    with pytest.raises(DigestMismatchError):
        extract(ToyAdapter(cells.genes.symbols, seed=9), few, **axes, out=out)
    with pytest.raises(DigestMismatchError):
        extract(toy, cells.subset(np.arange(11)), **axes, out=out)
    (tmp_path / "b.zarr.partial").mkdir()
    (tmp_path / "b.zarr.partial" / "key").write_text("other")
    with pytest.raises(DigestMismatchError, match="unfinished"):
        extract(toy, few, **axes, out=tmp_path / "b.zarr")


def test_a_damaged_store_is_refused(toy, cells, axes, tmp_path):
    few = cells.subset(np.arange(10))
    out = tmp_path / "a.zarr"
    extract(toy, few, **axes, out=out)
    chunk = next(p for p in sorted((out / "sums" / "c").rglob("*")) if p.is_file())
    kept = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(StoreError, match="1 files changed or missing"):
        Attention.open(out)
    chunk.write_bytes(kept[:-3])
    with pytest.raises(StoreError, match="extract again"):
        extract(toy, few, **axes, out=out)
    chunk.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(StoreError, match="checksum"):
        Attention.open(out).summary.layer_sums(0, Direction.REGULATOR_ATTENDS, [0])
    chunk.write_bytes(kept)
    assert Attention.open(out).summary.card.spec == "toy"
    with pytest.raises(ParameterError, match="Call extract again"):
        Attention.open(out).verify()
    meta = out / "zarr.json"
    text = meta.read_text()
    meta.write_text(text.replace('"version": 1', '"version": 99'))
    with pytest.raises(VersionError, match="99"):
        Attention.open(out)
    meta.write_text("{")
    with pytest.raises(StoreError, match="unreadable"):
        Attention.open(out)
    with pytest.raises(StoreError):
        Attention.open(tmp_path / "nowhere.zarr")


def test_a_full_disk_ends_in_a_sentence_and_can_be_continued(toy, cells, axes, tmp_path, monkeypatch):
    few, out = cells.subset(np.arange(10)), tmp_path / "a.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(store.shutil, "disk_usage", lambda p: type("U", (), {"free": 10}))
        with pytest.raises(StoreError, match="free space"):
            extract(toy, few, **axes, out=out)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        patch.setattr(store.zarr, "open_group", full)
        with pytest.raises(StoreError, match="full disk"):
            extract(toy, few, **axes, out=out)
    assert not out.exists()
    extract(toy, few, **axes, out=out)
    assert out.exists()


def test_refusals(toy, cells, axes):
    with pytest.raises(AlignmentError, match="1 unknown \\(NOPE\\)"):
        extract(toy, cells, genes=("G001", "NOPE"), regulators=("G001",))
    with pytest.raises(AlignmentError, match="none"):
        extract(toy, cells, genes=("G001",), regulators=())
    with pytest.raises(AlignmentError, match="repeats"):
        extract(toy, cells, genes=("G001", "G001"), regulators=("G001",))
    with pytest.raises(SchemaError, match="partition_by"):
        extract(toy, cells, **axes, partition_by=("tissue",))
    for wrong in ({"n_blocks": 0}, {"batch_tokens": 0}, {"max_cells": 0}, {"jobs": 0}):
        with pytest.raises(ParameterError):
            extract(toy, cells, **axes, **wrong)
    with pytest.raises(ParameterError, match="the model knows"):
        extract(ToyAdapter(("X", "Y")), cells, **axes)


def test_a_sample_of_cells_and_cells_without_known_genes_are_counted(toy, cells, axes):
    known = toy.gene_tokens(cells.genes) >= 0
    none = cells.subset(np.arange(30))
    counts = none.counts.toarray()
    counts[4, known] = 0
    import scipy.sparse as sp

    from regulens.types.cells import Cells

    changed = Cells(
        counts=sp.csr_matrix(counts),
        genes=none.genes,
        obs=none.obs,
        total_counts=none.total_counts,
        alignment=none.alignment,
        source="toy",
    )
    found = extract(toy, changed, **axes, max_cells=20)
    assert found.facts["n_cells"] == 20
    assert found.facts["cells_without_known_genes"] == 1
    assert found.facts["cells_not_drawn"] == 9


def test_memory_does_not_grow_with_the_number_of_cells(axes):
    def peak(n_cells):
        many = toy_cells(n_cells=n_cells, n_genes=40, states=("a",))
        tracemalloc.start()
        extract(ToyAdapter(many.genes.symbols, n_layers=2), many, **axes, partition_by=(), batch_tokens=500)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)  # imports and compilation
    assert peak(320) < peak(40) + 400_000, "320 cells x 2 layers x 2 heads x 20 x 20 full maps would be 2 MB"
