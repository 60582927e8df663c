"""Metrics, intervals, bootstraps and permutations of 324 scores x 1.44 M pairs, beside scikit-learn in a loop.

    python benchmarks/bench_ranking.py            (full size)
    python benchmarks/bench_ranking.py --quick    (a few seconds)

Scores come in float32 blocks, as a store hands them out, so that memory does not grow with their number. Every row
is measured in a process of its own; the time to make the synthetic scores is taken out. scikit-learn is timed on a
few scores and multiplied up; it gives the AUROC (or the AUROC and the average precision) alone, without a standard
error. "times faster" compares processor seconds per score for the same numbers. Spearman's correlation is that of
2,000 genes with each other over 20,000 cells. Processor seconds (all threads) are what a shared machine does not
distort; wall seconds are what a user waits.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
N_REGULATORS, BLOCK = 400, 16
BOOTSTRAPS, PERMUTATIONS = 1_000, 10_000


class Blocks:
    """Score blocks made on the fly; keeps the wall and processor time that making them took."""

    def __init__(self, n_scores: int, label: np.ndarray, seed: int) -> None:
        self.n_scores, self.label, self.seed = n_scores, label, seed
        self.seconds = self.cpu_seconds = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        for first in range(0, self.n_scores, BLOCK):
            start, cpu = time.perf_counter(), time.process_time()
            block = rng.standard_normal((min(BLOCK, self.n_scores - first), self.label.size), dtype=np.float32)
            block += np.float32(0.1) * self.label
            np.exp(block, out=block)  # long-tailed and positive, as attention is
            self.seconds += time.perf_counter() - start
            self.cpu_seconds += time.process_time() - cpu
            yield block


def pairs(n_pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label (about 0.5 % positives), regulator and target of a full grid."""
    rng = np.random.default_rng(0)
    regulator, target = np.divmod(np.arange(n_pairs), n_pairs // N_REGULATORS)
    return rng.random(n_pairs) < 0.005, regulator, target


def measure(task: str, n_scores: int, n_pairs: int, sample: int) -> dict[str, object]:
    """Wall seconds and peak resident memory of one row, in this process."""
    from regulens.stats.cluster import auroc_inference, bootstrap_auroc, max_t_p
    from regulens.stats.permuted_labels import permuted_auroc
    from regulens.stats.ranking import auroc
    from regulens.stats.summary import ranking_summary

    is_sklearn = task.startswith("scikit-learn")
    if is_sklearn:
        from sklearn.metrics import average_precision_score, roc_auc_score

    label, regulator, target = pairs(n_pairs)
    warm = next(iter(Blocks(2, label, 9)))[:, : n_pairs // 50]
    few = slice(0, n_pairs // 50)
    # compile before the clock starts
    auroc_inference(warm, label[few], regulator[few], target[few])
    ranking_summary(warm, label[few], k=[10])
    bootstrap_auroc(warm, label[few], regulator[few], draws=2, rng=np.random.default_rng(0))
    permuted_auroc(warm, label[few], draws=2, rng=np.random.default_rng(0))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blocks = Blocks(sample if is_sklearn else n_scores, label, 1)
    note = "all scores timed"
    start, cpu = time.perf_counter(), time.process_time()
    if is_sklearn:
        for block in blocks:
            for row in block:
                roc_auc_score(label, row)
                if "average precision" in task:
                    average_precision_score(label, row)
        note = f"{sample} scores timed, times {n_scores / sample:g}; no standard error"
    elif task == "AUROC":
        for block in blocks:
            auroc(block, label)
    elif "DeLong" in task:
        ranking_summary(iter(blocks), label).auroc.estimates()
    elif "bootstraps" in task:
        bootstrap_auroc(iter(blocks), label, regulator, draws=BOOTSTRAPS, rng=np.random.default_rng(3))
    elif "permutations" in task:
        permuted_auroc(blocks, label, draws=PERMUTATIONS, rng=np.random.default_rng(4))
    else:
        found = auroc_inference(iter(blocks), label, regulator, target)
        found.estimates()
        if "max-T" in task:
            max_t_p(found, 0.5, draws=2000, rng=np.random.default_rng(2))
    wall = time.perf_counter() - start - blocks.seconds
    used = time.process_time() - cpu - blocks.cpu_seconds
    if is_sklearn:
        wall, used = wall * n_scores / sample, used * n_scores / sample
    return {
        "task": task,
        "n_scores": n_scores,
        "n_pairs": n_pairs,
        "wall_s": round(wall, 2),
        "cpu_s": round(used, 2),
        "cpu_ms_per_score": round(1000 * used / n_scores, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rss_before_mb": round(base / 1024),
        "threads": 1 if is_sklearn else int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1)),
        "note": note,
    }


def measure_spearman(kind: str, n_cells: int, n_genes: int) -> dict[str, object]:
    """The correlation of all genes with each other, from counts held dense or sparse."""
    import scipy.sparse as sp

    from regulens.stats.correlation import spearman

    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 1.0, n_genes) * 0.5, (n_cells, n_genes)).astype(np.float32)
    matrix = sp.csr_matrix(counts) if kind == "sparse" else counts
    spearman(counts[:50, :4], counts[:50, :4])
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    spearman(matrix, matrix)
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    return {
        "task": f"Spearman, {kind}", "n_scores": n_genes, "n_pairs": n_cells, "wall_s": round(wall, 2),
        "cpu_s": round(used, 2), "cpu_ms_per_score": round(1000 * used / n_genes, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rss_before_mb": round(base / 1024), "threads": os.cpu_count() or 1,
        "note": f"{n_genes} genes x {n_cells} cells; {float((counts > 0).mean()):.0%} of the counts above 0",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="24 scores, 144,000 pairs")
    parser.add_argument("--sample", type=int, default=4, help="scores timed with scikit-learn")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "ranking.tsv")
    args = parser.parse_args()
    n_scores, n_pairs = (24, 144_000) if args.quick else (324, 1_440_000)
    tasks = (
        "AUROC", "AUROC, average precision, DeLong intervals", "AUROC, two-way intervals",
        "AUROC, two-way intervals, max-T", f"{BOOTSTRAPS:,} bootstraps over regulators",
        f"{PERMUTATIONS:,} permutations of the positives", "scikit-learn: AUROC",
        "scikit-learn: AUROC, average precision",
    )  # fmt: skip
    rows = []
    context = multiprocessing.get_context("spawn")
    for task in tasks:
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (task, n_scores, n_pairs, args.sample)))
    for kind in ("dense", "sparse"):
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure_spearman, (kind, *((2_000, 200) if args.quick else (20_000, 2_000)))))
    frame = pd.DataFrame(rows)
    cpu = frame.set_index("task")["cpu_ms_per_score"]
    for ours, theirs in (("AUROC", "scikit-learn: AUROC"), (tasks[1], "scikit-learn: AUROC, average precision")):
        frame.loc[frame["task"] == ours, "times_faster"] = round(cpu[theirs] / cpu[ours], 1)
    print(frame.to_string(index=False))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    command = "python benchmarks/bench_ranking.py" + (" --quick" if args.quick else "")
    header = f"# command: {command}\n# machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}\n"
    args.out.write_text(header + frame.to_csv(sep="\t", index=False, lineterminator="\n"), encoding="utf-8")


if __name__ == "__main__":
    main()
