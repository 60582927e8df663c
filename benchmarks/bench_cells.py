"""Cells read from a file in blocks beside cells in memory: time and peak memory, at several numbers of cells.

    python benchmarks/bench_cells.py            (20,000 and 60,000 cells; some ten minutes on two cores)
    python benchmarks/bench_cells.py --quick    (2,000 and 6,000 cells)

Synthetic cells of 2,000 genes with about 500 detected each, gzip-compressed CSR in an ``.h5ad``. Every row is a process
of its own that reads the cells (``read_s``: verified, genes aligned), looks at all of them as an audit does
(``look_s``: digest, gene selection, tokens per cell, log-normalised values of 500 genes), and extracts attention of a
small random model into a store (``extract_s``). Peaks are resident memory above what the process held after its
imports, up to the end of reading, of looking and of extraction; the log-normalised values, which grow with the number
of cells by design (cells × chosen genes), are let go again and appear in ``look_mb`` only, which is therefore measured
in a process that does not extract. The last column digests the store: it has to be the same for both ways of reading.
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import multiprocessing
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from regulens import models
from regulens.attention.extract import extract
from regulens.attention.layout import expected_lengths
from regulens.io.cells import read_cells
from regulens.io.genes_selection import select_genes
from regulens.testing.checkpoints import write_scgpt
from regulens.testing.tiny_study import tiny_genes

ROOT = Path(__file__).resolve().parents[1]
N_GENES, DETECTED, CHOSEN, N_REGULATORS = 2000, 500, 500, 40


def write_cells(path: Path, n_cells: int) -> None:
    """Write cells in blocks, so that this process stays small too."""
    rng = np.random.default_rng(0)
    level = rng.gamma(0.5, 1.0, N_GENES)
    for _ in range(30):  # until as many genes are expected to be detected
        level *= DETECTED / (1 - np.exp(-level)).sum()
    obs = pd.DataFrame(
        {"type": np.array(["alpha", "beta"])[rng.integers(0, 2, n_cells)]}, index=[f"c{i}" for i in range(n_cells)]
    )
    ad.AnnData(obs=obs, var=pd.DataFrame(index=tiny_genes(N_GENES)["symbol"].to_numpy())).write_h5ad(path)
    with h5py.File(path, "a") as file:
        if "X" in file:  # older versions of anndata write an empty one
            del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n_cells, N_GENES)})
        places = {
            name: group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 16,), compression="gzip")
            for name, dtype in (("data", np.float32), ("indices", np.int32))
        }
        ends = [0]
        for start in range(0, n_cells, 1000):
            block = rng.poisson(level * rng.gamma(5.0, 0.2, (min(1000, n_cells - start), 1)))
            row, column = np.nonzero(block)
            for name, values in (("data", block[row, column]), ("indices", column)):
                places[name].resize((ends[-1] + len(row),))
                places[name][ends[-1] :] = values
            ends += (ends[-1] + np.cumsum((block > 0).sum(axis=1))).tolist()
        group["indptr"] = np.array(ends, dtype=np.int64)


def measure(task: tuple[str, str, bool, bool]) -> dict[str, Any]:
    """One row, or the part of it that looks at the cells (Linux: the high-water mark of memory is reset)."""
    cells_path, model_path, backed, look = task
    adapter = models.load(f"scgpt:{model_path}")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, start = _status("VmRSS"), time.perf_counter()
    found: dict[str, Any] = {}

    def lap(name: str) -> None:
        nonlocal start
        found[f"{name}_s"] = round(time.perf_counter() - start, 1)
        found[f"{name}_mb"] = round((_status("VmHWM") - before) / 1024)
        start = time.perf_counter()

    cells = read_cells(cells_path, cell_state="type", backed=backed)
    lap("read")
    names = cells.genes.symbols
    if look:
        index, _ = select_genes(cells, n_top=CHOSEN, regulators=(), min_cells=28)
        expected_lengths(cells, adapter.gene_tokens(cells.genes) >= 0, adapter.card.max_length)
        found["digest"], _ = cells.digest, cells.log_normalised(index)
        lap("look")
        return found
    with tempfile.TemporaryDirectory() as folder:
        extract(adapter, cells, genes=names[:200], regulators=names[:N_REGULATORS], out=f"{folder}/a.zarr")
        lap("extract")
        files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
        found["store"] = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:16]
    return found


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def write(path: Path, rows: list[dict], command: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, h5py {h5py.__version__}"
    text = pd.DataFrame(rows).to_csv(sep="\t", index=False, lineterminator="\n")
    path.write_text(f"# command: {command}\n# machine: {machine}\n{text}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the cells")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cells.tsv")
    args = parser.parse_args()
    rows: list[dict] = []
    command = "python benchmarks/bench_cells.py" + (" --quick" if args.quick else "")
    keep = functools.partial(write, args.out, rows, command)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/model"
        vocabulary = tiny_genes(N_GENES)["symbol"].tolist()
        write_scgpt(Path(model), vocab=vocabulary, n_layers=1, n_heads=2, width=16, hidden=16, max_length=64)
        for n_cells in (2000, 6000) if args.quick else (20_000, 60_000):
            path = f"{folder}/cells-{n_cells}.h5ad"
            write_cells(Path(path), n_cells)
            for backed in (False, True):
                row: dict[str, Any] = {"n_cells": n_cells, "counts": "in the file" if backed else "in memory"}
                row["file_mb"] = round(Path(path).stat().st_size / 1e6)
                for look in (True, False):
                    with context.Pool(1) as pool:
                        row |= pool.apply(measure, ((path, model, backed, look),))
                rows.append(row)
                keep()
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
