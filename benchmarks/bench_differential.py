"""Differential expression of a screen: 1,000 perturbations x 5,000 genes x 100,000 cells, beside scanpy.

    python benchmarks/bench_differential.py            (full size)
    python benchmarks/bench_differential.py --quick    (a few seconds)
    python benchmarks/bench_differential.py --level    (how often p is small without any difference)

Counts are sparse (about 10 % above 0), one cell in ten is a control. They are written to a file once; every row reads
it in a process of its own, whole or in blocks, and times the comparison alone (the time to open the file is in
`open_s`). scanpy's ``rank_genes_groups`` compares single perturbations with the controls (``reference``); it is timed
on two numbers of them, and the slope is multiplied up, which leaves its fixed costs out. Its Wilcoxon test corrects
for ties (``tie_correct=True``), as ours does. "times faster" compares processor seconds (all threads), which a shared
machine distorts least; wall seconds are what a user waits.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
OURS = ("Welch", "Mann-Whitney")
SCANPY = {"scanpy: t-test": "t-test", "scanpy: Wilcoxon": "wilcoxon"}


def write_screen(path: Path, n_perturbations: int, n_genes: int, n_cells: int) -> None:
    """Counts and labels, sparse by row, not compressed."""
    import anndata as ad
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    level = rng.gamma(0.4, 0.35, n_genes)
    blocks = []
    for start in range(0, n_cells, 2_000):
        size = rng.gamma(8.0, 1 / 8.0, (min(2_000, n_cells - start), 1))
        blocks.append(sp.csr_matrix(rng.poisson(level * size).astype(np.float32)))
    names = np.array(["control", *[f"G{i}" for i in range(n_perturbations)]])
    label = np.where(rng.random(n_cells) < 0.1, 0, 1 + np.arange(n_cells) % n_perturbations)
    obs = pd.DataFrame({"perturbation": pd.Categorical.from_codes(label, names)}, index=np.arange(n_cells).astype(str))
    var = pd.DataFrame(index=[f"G{i}" for i in range(n_genes)])
    ad.AnnData(sp.vstack(blocks, format="csr"), obs=obs, var=var).write_h5ad(path)


def measure(task: str, path: str, counts: str, jobs: int, sample: int) -> dict[str, object]:
    """Wall and processor seconds, and peak resident memory of one row, in this process."""
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    if task in SCANPY:
        wall, used, n_groups, n_genes, note = _scanpy(SCANPY[task], path, sample)
        open_s = float("nan")
    else:
        from regulens.io.gene_ids import GeneMap
        from regulens.io.screens import read_screen
        from regulens.stats.screen_effects import effects_of

        screen = read_screen(
            path,
            name="bench",
            perturbation="perturbation",
            gene_map=GeneMap.empty(),
            backed=counts == "in the file",
        )
        open_s = time.perf_counter() - start
        test = "welch" if task == "Welch" else "mann_whitney"
        some = screen.perturbations[:2]
        effects_of(screen, test=test, perturbations=some)  # compile before the clock starts
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        run = effects_of(screen, test=test, jobs=jobs)
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        n_groups, n_genes = run.effect.shape
        note = f"{screen.cells.n_cells} cells; peak before the comparison {before / 1024:.0f} MB"
    return {
        "task": task, "counts": counts, "threads": jobs, "perturbations": n_groups,
        "genes": n_genes, "open_s": round(open_s, 1), "wall_s": round(wall, 1), "cpu_s": round(used, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), "note": note,
    }  # fmt: skip


def _scanpy(method: str, path: str, sample: int) -> tuple[float, float, int, int, str]:
    """Seconds for all perturbations, from the slope between two numbers of them."""
    import anndata as ad
    import scanpy as sc

    data = ad.read_h5ad(path)
    sc.pp.normalize_total(data, target_sum=1e4)
    sc.pp.log1p(data)
    names = [c for c in data.obs["perturbation"].cat.categories if c != "control"]
    seconds = []
    if method == "t-test":  # a hundredth of the other's work: more perturbations, so that the slope is one
        sample *= 50
    for n in (2, sample, 3 * sample):  # the first only compiles
        start, cpu = time.perf_counter(), time.process_time()
        sc.tl.rank_genes_groups(
            data, "perturbation", groups=names[:n], reference="control", method=method,
            tie_correct=method == "wilcoxon",
        )  # fmt: skip
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
    wall, used = ((b - a) / (2 * sample) * len(names) for a, b in zip(*seconds[1:]))
    note = f"{sample} and {3 * sample} perturbations timed, the slope times {len(names)}"
    return wall, used, len(names), data.n_vars, note


def level() -> pd.DataFrame:
    """Share of genes with a small p without any difference, by size of the group and by how many cells express them."""
    import scipy.sparse as sp

    from regulens.stats.differential import group_moments, mann_whitney_p, welch

    rng = np.random.default_rng(1)
    n_genes, n_controls, rows = 4_000, 2_000, []
    for size in (30, 100, 300):
        for detection in (0.01, 0.03, 0.1, 0.3, 0.6):
            drawn = rng.random((size + n_controls, n_genes)) < detection
            x = sp.csr_matrix(np.where(drawn, np.log1p(rng.gamma(4.0, 10.0, drawn.shape)), 0.0))
            shape = {"n_groups": 2, "n_genes": n_genes}
            group = np.repeat([0, 1], [size, n_controls])
            moments = group_moments(lambda x=x: [(0, x)], group, **shape)
            tests = {
                "Welch to the letter": welch(moments, control=1).p,
                "Welch, variance borrowed": welch(moments, control=1, borrow=True).p,
                "Mann-Whitney": mann_whitney_p(lambda x=x: [(0, x)], group, control=1, **shape),
            }
            for test, p in tests.items():
                tested = np.isfinite(p)
                below = {f"below_{a:g}": round(float((p[tested] < a).mean()), 4) for a in (0.05, 1e-3, 1e-5)}
                rows.append({"test": test, "cells": size, "detection": detection, "genes": int(tested.sum()), **below})
    return pd.DataFrame(rows)


def save(frame: pd.DataFrame, path: Path, option: str) -> None:
    """Write a table with the command that made it."""
    print(frame.to_string(index=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"# command: python benchmarks/bench_differential.py{option}\n"
    header += f"# machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}\n"
    path.write_text(header + frame.to_csv(sep="\t", index=False, lineterminator="\n"), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 perturbations, 500 genes, 5,000 cells")
    parser.add_argument("--level", action="store_true", help="measure how often p is small without any difference")
    parser.add_argument(
        "--sample", type=int, default=5, help="perturbations timed with scanpy, and three times as many"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "differential.tsv")
    args = parser.parse_args()
    if args.level:
        save(level(), args.out.with_name("differential_level.tsv"), " --level")
        return
    shape = (50, 500, 5_000) if args.quick else (1_000, 5_000, 100_000)
    threads = os.cpu_count() or 1
    rows = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "screen.h5ad"
        write_screen(path, *shape)
        places = ("in memory", "in the file")
        tasks = [(task, place, jobs) for task in OURS for place in places for jobs in sorted({1, threads})]
        tasks = [t for t in tasks if t[0] != "Welch" or t[2] == 1]  # Welch runs on one thread
        for task, place, jobs in [*tasks, *((task, places[0], 1) for task in SCANPY)]:
            with context.Pool(1) as pool:
                rows.append(pool.apply(measure, (task, str(path), place, jobs, args.sample)))
                print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    for ours, theirs in zip(OURS, SCANPY):
        cpu = frame.loc[frame["task"] == theirs, "cpu_s"].iloc[0]
        own = frame["task"] == ours
        frame.loc[own, "times_faster"] = (cpu / frame.loc[own, "cpu_s"].clip(lower=0.1)).round(1)
    save(frame, args.out, (" --quick" if args.quick else "") + f" --sample {args.sample}")


if __name__ == "__main__":
    main()
