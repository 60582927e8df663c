"""A whole run on cells that stay in their file, or come from a zarr folder, ends in the same bytes as one in memory."""

import hashlib
import shutil
from pathlib import Path

import anndata as ad
import pytest

pytest.importorskip("torch", reason="extraction needs the extra 'models'")

from regulens.io import cells, rows
from regulens.run.audit import audit
from regulens.run.prepare import prepare
from regulens.run.preview import preview
from regulens.testing.tiny_study import write_tiny_study


def contents(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "timing.json"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_run_on_cells_in_their_file_gives_the_same_bytes(tmp_path, monkeypatch):
    plan = write_tiny_study(tmp_path / "study")
    audit(plan, out=tmp_path / "memory", jobs=1)
    assert not prepare(plan).cells.backed
    monkeypatch.setattr(cells, "BACKED_ABOVE", 0)  # large enough a file
    monkeypatch.setattr(rows, "BLOCK_ENTRIES", 300)
    assert prepare(plan).cells.backed
    audit(plan, out=tmp_path / "file", jobs=1)
    assert contents(tmp_path / "file") == contents(tmp_path / "memory")
    # The cost that a plan tells is that of a block.
    found = preview(plan).summary["cost"]["models"]
    assert all(m["memory_bytes"] > 0 for m in found.values())


def test_a_zarr_folder_is_a_file_of_cells(tmp_path):
    plan = write_tiny_study(tmp_path / "study")
    source = tmp_path / "study" / "cells.h5ad"
    ad.read_h5ad(source).write_zarr(source.with_suffix(".zarr"))
    for backed in (True, False):
        same = plan.with_overrides({"cells.source": str(source.with_suffix(".zarr")), "cells.backed": backed})
        found = prepare(same)
        assert found.cells.backed is backed
        assert found.cells.digest == prepare(plan).cells.digest
        assert found.cells.source.startswith("cells.zarr: ")
    first = audit(same, out=tmp_path / "run", jobs=1)
    before = contents(tmp_path / "run")
    # The same study in other words, whose folder is found complete.
    again = audit(same.with_overrides({"cells.backed": True}), out=tmp_path / "run", jobs=1)
    assert contents(tmp_path / "run") == before and again.record == first.record
    shutil.rmtree(source.with_suffix(".zarr") / "X" / "data")
    with pytest.raises(Exception, match="Expected a readable AnnData zarr folder"):
        audit(same, out=tmp_path / "other", jobs=1)
    assert not (tmp_path / "other").exists()
