"""Streamed extraction of attention beside the same model's forward pass, on random models of published shapes.

    python benchmarks/bench_extraction.py                              (an hour on two idle cores)
    python benchmarks/bench_extraction.py --shapes scGPT,Geneformer-V1-10M --repeats 3
    python benchmarks/bench_extraction.py --quick --no-memory          (one repeat, no peaks of memory)
    python benchmarks/bench_extraction.py --device cuda

Three passes over the same tokens of the same cells: `fused`, the forward pass alone; `streamed`, with both directions
of attention between 150 regulators and all tokens read and added up; `eager`, explicit softmax with the maps of all
layers kept, where those of one cell fit into --eager-gb. Passes alternate within a repeat, and ratios are taken within
a repeat, because a shared machine drifts. ``setting`` says where they ran: one thread, as extraction runs in every
worker; extraction's way of using two cores, two single-threaded workers, beside the fused pass on two threads of one
process; or the GPU. Peak memory is that of a whole `extract` call in a process of its own, above what it held before
(model and cells); ``accumulators_mb`` is what its sums take by themselves, and the last column what is left.
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
from dataclasses import dataclass, field
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
from regulens.testing.checkpoint_aido_cell import write_aido_cell
from regulens.testing.checkpoint_scfoundation import write_scfoundation
from regulens.testing.checkpoint_scprint import write_scprint
from regulens.testing.checkpoints import write_geneformer, write_scgpt
from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment, GeneVocabulary

ROOT = Path(__file__).resolve().parents[1]
N_REGULATORS = 150


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One published shape at one length.

    Parameters
    ----------
    tokens, special
        Tokens of a cell, and how many of them are no genes.
    cells
        Cells a batch: as many as fit extraction's budget of 8,192 tokens, fewer where that would take minutes.
    memory
        Numbers of cells at which the peak of memory is taken.
    workers
        Whether two workers are measured, too.
    """

    family: str
    tokens: int
    special: int
    cells: int
    size: dict[str, Any]
    memory: tuple[int, ...] = (2,)
    workers: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


_V1 = {"n_layers": 6, "n_heads": 4, "width": 256, "hidden": 512}
_V2_104M = {"n_layers": 12, "n_heads": 12, "width": 768, "hidden": 3072}
_V2_316M = {"n_layers": 18, "n_heads": 18, "width": 1152, "hidden": 4608}
_V2 = {"version": "V2", "max_length": 4096}
_MANY = (8, 32, 256)
#: Sizes as published; the feed-forward width of AIDO.Cell-3M is what its 3.6 million parameters leave for it.
SHAPES = {
    "scGPT": Shape(
        family="scgpt", tokens=1200, special=1, cells=6, memory=_MANY, workers=True, extra={"max_length": 1200},
        size={"n_layers": 12, "n_heads": 8, "width": 512, "hidden": 512},
    ),
    "Geneformer-V1-10M": Shape(
        family="geneformer", tokens=2048, special=0, cells=4, memory=_MANY, workers=True, size=_V1,
        extra={"max_length": 2048},
    ),
    "scPRINT-medium": Shape(
        family="scprint", tokens=2048, special=4, cells=4, size={"n_layers": 8, "n_heads": 4, "width": 256}
    ),
    "scFoundation": Shape(
        family="scfoundation", tokens=2048, special=2, cells=2, size={"n_layers": 12, "n_heads": 12, "width": 768}
    ),
    "Geneformer-V2-104M": Shape(family="geneformer", tokens=2048, special=2, cells=2, size=_V2_104M, extra=_V2),
    "Geneformer-V2-104M-4096": Shape(family="geneformer", tokens=4096, special=2, cells=1, size=_V2_104M, extra=_V2),
    "Geneformer-V2-316M": Shape(family="geneformer", tokens=2048, special=2, cells=1, size=_V2_316M, extra=_V2),
    "Geneformer-V2-316M-4096": Shape(family="geneformer", tokens=4096, special=2, cells=1, size=_V2_316M, extra=_V2),
    "AIDO.Cell-3M": Shape(
        family="aido_cell", tokens=19_266, special=2, cells=1, memory=(1,),
        size={"n_layers": 6, "n_heads": 4, "width": 128, "hidden": 320, "bins": 100},
    ),
}  # fmt: skip


def make_cells(n_cells: int, n_genes: int) -> Cells:
    """Cells in which every gene is detected, so that every cell has the full number of tokens."""
    counts = np.random.default_rng(0).poisson(3.0, (n_cells, n_genes)).astype(np.float32) + 1.0
    names, ids = (tuple(f"{p}{i:05d}" for i in range(n_genes)) for p in ("G", "ENSG000000"))
    table = pd.DataFrame({"input": names, "status": "kept", "symbol": names, "ensembl": ids, "reason": ""})
    return Cells(
        counts=sp.csr_matrix(counts),
        genes=GeneVocabulary(symbols=names, ensembl=ids),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]),
        total_counts=counts.sum(axis=1, dtype=np.float64),
        alignment=GeneAlignment(table=table),
        source="made up",
    )


def make_model(name: str, cells: Cells) -> AbstractAdapter:
    """Random weights of a published shape, written in its published layout and loaded."""
    shape = SHAPES[name]
    sizes = {**shape.size, **shape.extra}
    symbols, ids = cells.genes.symbols, cells.genes.ensembl
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        if shape.family == "scgpt":
            write_scgpt(folder, vocab=symbols, **sizes)
        elif shape.family == "geneformer":
            write_geneformer(folder, vocab=ids, **sizes)
        elif shape.family == "scfoundation":
            write_scfoundation(folder, vocab=symbols, keys=("gene",), **sizes)
        elif shape.family == "scprint":
            write_scprint(folder, genes=ids, **sizes)
        else:
            write_aido_cell(folder, vocab=symbols, **sizes)
        return models.load(f"{shape.family}:{folder}")


def regulators_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Regulators spread over the genes."""
    return names[:: len(names) // N_REGULATORS][:N_REGULATORS]


class Bench:
    """One model and one full batch."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        shape = SHAPES[name]
        n_genes = shape.tokens - shape.special
        cells = make_cells(shape.cells, n_genes)
        self.device = device
        self.adapter = make_model(name, cells)
        self.adapter.module.to(device)
        self.batch: TokenBatch = self.adapter.tokenize(cells, np.arange(shape.cells), seed=0)
        if not self.batch.mask.all() or self.batch.tokens.shape[1] != shape.tokens:
            message = f"Expected {shape.tokens} tokens in every cell, got {self.batch.mask.sum(axis=1)}."
            raise ValueError(message)
        # Maps of one cell take up to gigabytes: the eager pass runs on one cell, and counts as if on all.
        self.one_cell: TokenBatch = self.adapter.tokenize(cells, np.arange(1), seed=0)
        self.axes = accumulate.PairAxes.build(cells.genes, cells.genes.symbols, regulators_of(cells.genes.symbols))
        card = self.adapter.card
        self.map_bytes = 4 * card.n_layers * card.n_heads * shape.tokens**2
        self.sums = np.zeros((card.n_layers, card.n_heads, 2, N_REGULATORS, n_genes))
        self.counts = np.zeros((N_REGULATORS, n_genes), dtype=np.int32)

    def fused(self) -> None:
        self.adapter.forward(self.batch)
        self._wait()

    def streamed(self) -> None:
        found = accumulate.places(self.batch, self.axes)

        def tap(layer: LayerAttention) -> None:
            accumulate.add_layer(self.sums, layer, found)

        self.adapter.forward(self.batch, tap=tap)
        accumulate.add_counts(self.counts, found)
        self._wait()

    def eager(self) -> None:
        maps: list[torch.Tensor] = []
        self.adapter.forward(self.one_cell, tap=lambda layer: maps.append(layer.probabilities), kernel="plain")
        self._wait()

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@functools.cache
def bench_of(name: str) -> Bench:
    """Model and batch of this worker process, made once."""
    return Bench(name)


def stream_in_worker(name: str) -> None:
    bench_of(name).streamed()


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratios(name: str, setting: str, passes: dict[str, Callable[[], Any]], repeats: int, n_cells: int) -> list[dict]:
    """Alternate the passes; one row per ratio to the fused one."""
    for call in passes.values():
        call()
    taken = pd.DataFrame([{key: seconds(call) for key, call in passes.items()} for _ in range(repeats)])
    if "eager" in taken:
        taken["eager"] *= n_cells
    out = []
    for key in (n for n in passes if n != "fused"):
        ratio = taken[key] / taken["fused"]
        out.append(
            {
                "shape": name,
                "tokens": SHAPES[name].tokens,
                "setting": setting,
                "pass": key,
                "ratio_to_fused": round(ratio.median(), 3),
                "min": round(ratio.min(), 3),
                "max": round(ratio.max(), 3),
                "cells_per_s": float(f"{n_cells / taken[key].median():.3g}"),
                "ms_per_cell": round(1000 * taken[key].median() / n_cells, 1),
                "fused_ms_per_cell": round(1000 * taken["fused"].median() / n_cells, 1),
                "repeats": repeats,
            }
        )
    return out


def peak_memory(task: tuple[str, int]) -> dict[str, Any]:
    """Resident megabytes that `extract` over so many cells adds at its peak (Linux: the high-water mark is reset)."""
    name, n_cells = task
    shape = SHAPES[name]
    cells = make_cells(n_cells, shape.tokens - shape.special)
    adapter = make_model(name, cells)
    names = cells.genes.symbols
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        extract(adapter, cells, genes=names, regulators=regulators_of(names), partition_by=(), out=f"{folder}/a.zarr")
    peak = (_status("VmHWM") - before) / 1024
    # Of the unit in hand; from the second unit of a partition on, its running sums as well.
    copies = 1 if n_cells <= 32 else 2
    card = adapter.card
    sums = copies * 8 * card.n_layers * card.n_heads * 2 * N_REGULATORS * len(names) / 2**20
    found = {"peak_extra_mb": round(peak), "accumulators_mb": round(sums), "above_accumulators_mb": round(peak - sums)}
    return {"shape": name, "tokens": shape.tokens, "n_cells": n_cells, **found}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def table(rows: list[dict]) -> pd.DataFrame:
    """Everything in one table; whole numbers stay whole."""
    both = pd.DataFrame(rows)
    whole = ("tokens", "repeats", "n_cells", "peak_extra_mb", "accumulators_mb", "above_accumulators_mb")
    return both.astype(dict.fromkeys([c for c in whole if c in both], "Int64"))


def write(path: Path, rows: list[dict], command: str, device: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, torch {torch.__version__}"
    machine += f", load average at the end {os.getloadavg()[0]:.1f}"  # above the number of threads: not idle
    if device == "cuda":
        machine += f", {torch.cuda.get_device_name()}"
    text = table(rows).to_csv(sep="\t", index=False, lineterminator="\n")
    path.write_text(f"# command: {command}\n# machine: {machine}\n{text}", encoding="utf-8")


def measure(name: str, args: argparse.Namespace, repeats: int, keep: Callable[[list[dict]], None]) -> None:
    """All rows of one shape, handed to `keep` as they come."""
    time_passes(name, args, repeats, keep)
    gc.collect()
    if args.no_memory or args.device == "cuda":
        return
    for n in SHAPES[name].memory:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            keep([pool.apply(peak_memory, ((name, n),))])


def time_passes(name: str, args: argparse.Namespace, repeats: int, keep: Callable[[list[dict]], None]) -> None:
    """Rows of ratios and times; the model and its sums are gone afterwards."""
    shape = SHAPES[name]
    bench = Bench(name, args.device)
    passes = {"fused": bench.fused, "streamed": bench.streamed}
    fits = bench.map_bytes <= args.eager_gb * 1e9
    if fits:
        passes["eager"] = bench.eager
    torch.set_num_threads(1)
    keep(ratios(name, "GPU" if args.device == "cuda" else "1 thread", passes, repeats, shape.cells))
    if not fits:
        note = f"not run: maps of one cell take {bench.map_bytes / 1e9:.1f} GB"
        keep([{"shape": name, "tokens": shape.tokens, "pass": "eager", "note": note}])
    if shape.workers and args.device == "cpu":
        torch.set_num_threads(2)
        two = {
            "fused": lambda: (bench.fused(), bench.fused()),
            "streamed": lambda: list(run_ordered(stream_in_worker, [name, name], jobs=2)),
        }
        keep(ratios(name, "2 workers / 2 threads", two, repeats, 2 * shape.cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat of each")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--repeats", type=int, default=5, help="of every pass")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="which, with commas; all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--eager-gb", type=float, default=6.0, help="largest maps of one cell that are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "extraction.tsv")
    args = parser.parse_args()
    wanted = args.shapes.split(",")
    if unknown := [name for name in wanted if name not in SHAPES]:
        parser.error(f"unknown shapes {', '.join(unknown)}; known: {', '.join(SHAPES)}")
    repeats = 1 if args.quick else args.repeats
    command = f"python benchmarks/bench_extraction.py --repeats {repeats}"
    command += "" if wanted == list(SHAPES) else f" --shapes {args.shapes}"
    command += " --no-memory" if args.no_memory else ""
    command += "" if args.device == "cpu" else f" --device {args.device}"
    rows: list[dict] = []

    def keep(found: list[dict]) -> None:
        # What is measured is written at once: a run that is stopped keeps its rows.
        rows.extend(found)
        write(args.out, rows, command, args.device)
        print(pd.DataFrame(found).to_string(index=False), flush=True)

    for name in wanted:
        measure(name, args, repeats, keep)


if __name__ == "__main__":
    # Workers look functions up by module name, which a script does not have.
    import bench_extraction

    bench_extraction.main()
