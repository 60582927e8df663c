"""Streamed extraction of attention beside the same model's forward pass, on random models of published shapes.

    python benchmarks/bench_extraction.py            (a few minutes on two cores)
    python benchmarks/bench_extraction.py --quick    (one repeat of each)

Three passes over the same tokens of the same cells: `fused`, the forward pass alone; `streamed`, with both directions
of attention between 150 regulators and all tokens read and added up; `eager`, explicit softmax with the maps of all
layers returned. Passes alternate within a repeat, and ratios are taken within a repeat, because a shared machine
drifts. ``setting`` says where they ran: one thread, as extraction runs in every worker, or extraction's way of using
two cores, two single-threaded workers, beside the fused pass on two threads of one process.
Peak memory is that of a whole `extract` call in a process of its own, above what it held before.
"""

from __future__ import annotations

import argparse
import functools
import gc
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from regulens import models
from regulens.attention import accumulate
from regulens.attention.extract import extract
from regulens.models.base import AbstractAdapter, LayerAttention, TokenBatch
from regulens.parallel import run_ordered
from regulens.testing.checkpoints import write_geneformer, write_scgpt
from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment, GeneVocabulary

ROOT = Path(__file__).resolve().parents[1]
N_REGULATORS = 150
#: Tokens per cell and cells per batch: as many as fit extraction's budget of 8,192 tokens.
SHAPES = {"scGPT": (1200, 6), "Geneformer-V1": (2048, 4)}


def make_cells(n_cells: int, n_genes: int) -> Cells:
    """Cells in which every gene is detected, so that every cell has the full number of tokens."""
    counts = np.random.default_rng(0).poisson(3.0, (n_cells, n_genes)) + 1.0
    names, ids = (tuple(f"{p}{i:05d}" for i in range(n_genes)) for p in ("G", "ENSG000000"))
    table = pd.DataFrame({"input": names, "status": "kept", "symbol": names, "ensembl": ids, "reason": ""})
    return Cells(
        counts=sp.csr_matrix(counts.astype(np.float32)),
        genes=GeneVocabulary(symbols=names, ensembl=ids),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]),
        total_counts=counts.sum(axis=1),
        alignment=GeneAlignment(table=table),
        source="made up",
    )


def make_model(shape: str, cells: Cells) -> AbstractAdapter:
    """Random weights in the published layout: scGPT 12 x 8, d 512, ffn 512; Geneformer-V1 6 x 4, d 256, ffn 512."""
    with tempfile.TemporaryDirectory() as folder:
        if shape == "scGPT":
            write_scgpt(
                Path(folder), vocab=cells.genes.symbols, n_layers=12, n_heads=8, width=512, hidden=512, max_length=1200
            )
            return models.load(f"scgpt:{folder}")
        write_geneformer(
            Path(folder), vocab=cells.genes.ensembl, n_layers=6, n_heads=4, width=256, hidden=512, max_length=2048
        )
        return models.load(f"geneformer:{folder}")


class Bench:
    """One model and one full batch."""

    def __init__(self, shape: str) -> None:
        n_tokens, n_cells = SHAPES[shape]
        cells = make_cells(n_cells, n_tokens)
        self.adapter = make_model(shape, cells)
        self.batch: TokenBatch = self.adapter.tokenize(cells, np.arange(n_cells), seed=0)
        # All maps of one cell take half a gigabyte: the eager pass runs on one cell, and counts as if on all.
        self.one_cell: TokenBatch = self.adapter.tokenize(cells, np.arange(1), seed=0)
        regulators = cells.genes.symbols[:: n_tokens // N_REGULATORS][:N_REGULATORS]
        self.axes = accumulate.PairAxes.build(cells.genes, cells.genes.symbols, regulators)
        card = self.adapter.card
        self.sums = np.zeros((card.n_layers, card.n_heads, 2, N_REGULATORS, n_tokens))
        self.counts = np.zeros((N_REGULATORS, n_tokens), dtype=np.int32)

    def fused(self) -> None:
        self.adapter.forward(self.batch)

    def streamed(self) -> None:
        found = accumulate.places(self.batch, self.axes)

        def tap(layer: LayerAttention) -> None:
            accumulate.add_layer(self.sums, layer, found)

        self.adapter.forward(self.batch, tap=tap)
        accumulate.add_counts(self.counts, found)

    def eager(self) -> None:
        maps: list[torch.Tensor] = []
        self.adapter.forward(self.one_cell, tap=lambda layer: maps.append(layer.probabilities), kernel="plain")


@functools.cache
def bench_of(shape: str) -> Bench:
    """Model and batch of this process, made once."""
    return Bench(shape)


def stream_in_worker(shape: str) -> None:
    bench_of(shape).streamed()


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def row(shape: str, setting: str, passes: dict[str, Callable[[], Any]], repeats: int, n_cells: int) -> list[dict]:
    """Alternate the passes; one row per ratio to the fused one."""
    for call in passes.values():
        call()
    taken = pd.DataFrame([{name: seconds(call) for name, call in passes.items()} for _ in range(repeats)])
    if "eager" in taken:
        taken["eager"] *= n_cells
    out = []
    for name in (n for n in passes if n != "fused"):
        ratio = taken[name] / taken["fused"]
        out.append(
            {
                "shape": shape,
                "setting": setting,
                "pass": name,
                "ratio_to_fused": round(ratio.median(), 3),
                "min": round(ratio.min(), 3),
                "max": round(ratio.max(), 3),
                "ms_per_cell": round(1000 * taken[name].median() / n_cells, 1),
                "fused_ms_per_cell": round(1000 * taken["fused"].median() / n_cells, 1),
                "repeats": repeats,
            }
        )
    return out


def peak_memory(task: tuple[str, int]) -> int:
    """Resident megabytes that `extract` over so many cells adds at its peak (Linux: the high-water mark is reset)."""
    shape, n_cells = task
    cells = make_cells(n_cells, SHAPES[shape][0])
    adapter = make_model(shape, cells)
    names = cells.genes.symbols
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        extract(adapter, cells, genes=names, regulators=names[:N_REGULATORS], partition_by=(), out=f"{folder}/a.zarr")
    return round((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def table(rows: list[dict], memory: list[dict]) -> pd.DataFrame:
    """Ratios, then peaks of memory, in one table; whole numbers stay whole."""
    both = pd.concat([pd.DataFrame(rows), pd.DataFrame(memory)], ignore_index=True)
    whole = [c for c in ("repeats", "n_cells", "peak_extra_mb") if c in both]
    return both.astype(dict.fromkeys(whole, "Int64"))


def write(path: Path, rows: list[dict], memory: list[dict], command: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, torch {torch.__version__}"
    text = table(rows, memory).to_csv(sep="\t", index=False, lineterminator="\n")
    path.write_text(f"# command: {command}\n# machine: {machine}\n{text}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat of each")
    parser.add_argument("--repeats", type=int, default=5, help="of every pass")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "extraction.tsv")
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    rows, memory = [], []
    context = multiprocessing.get_context("spawn")
    # What is measured is written at once: a run that is stopped keeps its rows.
    keep = functools.partial(
        write, args.out, rows, memory, f"python benchmarks/bench_extraction.py --repeats {repeats}"
    )
    for shape, (_, n_cells) in SHAPES.items():
        bench = bench_of(shape)
        every = {"fused": bench.fused, "streamed": bench.streamed, "eager": bench.eager}
        torch.set_num_threads(1)
        rows += row(shape, "1 thread", every, repeats, n_cells)
        keep()
        torch.set_num_threads(2)
        two = {
            "fused": lambda bench=bench: (bench.fused(), bench.fused()),
            "streamed": lambda shape=shape: list(run_ordered(stream_in_worker, [shape, shape], jobs=2)),
        }
        rows += row(shape, "2 workers / 2 threads", two, repeats, 2 * n_cells)
        keep()
        for n in (8, 32):
            with context.Pool(1) as pool:
                memory.append({"shape": shape, "n_cells": n, "peak_extra_mb": pool.apply(peak_memory, ((shape, n),))})
            keep()
    print(table(rows, memory).to_string(index=False))


if __name__ == "__main__":
    # Workers look functions up by module name, which a script does not have.
    import bench_extraction

    bench_extraction.main()
