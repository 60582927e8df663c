"""GRNBoost2 on 2,000 cells x 200 regulators x 1,000 targets, beside a scikit-learn loop with the same settings.

    python benchmarks/bench_grn.py            (full size; the loop on a sample of targets, scaled)
    python benchmarks/bench_grn.py --quick    (a minute)

Counts are gamma-Poisson around a few programmes, thinned to a depth of some thousand per cell. The compiled form runs
all targets; scikit-learn runs a sample of them, twice with other seeds, and its time is multiplied up. Agreement is
measured on the sample: Spearman correlation of importances and overlap of the strongest pairs, between the compiled
form and scikit-learn, and between the two seeds of scikit-learn, which is as much as can be asked for. Processor
seconds are what a shared machine does not distort. Regulators are targets too, of the others.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from regulens.scorers import grnboost2
from regulens.scorers.grnboost2 import grnboost2_scores
from regulens.scorers.panel import Panel
from regulens.scorers.tree_regression import Regression, target_seeds

ROOT = Path(__file__).resolve().parents[1]


def cells(n_cells: int, n_genes: int, seed: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """log1p(CP10k) of programmes that genes share, and gene names."""
    rng = np.random.default_rng(seed)
    activity = rng.gamma(0.5, 2.0, (n_cells, 12))
    loading = rng.gamma(0.15, 1.0, (12, n_genes)) * rng.lognormal(-1.0, 1.0, n_genes)
    mean = activity @ loading * rng.gamma(5.0, 0.2, (n_cells, 1))
    counts = rng.poisson(0.6 * mean)
    depth = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.log1p(counts / depth * 1e4), tuple(f"G{j}" for j in range(n_genes))


def timed(**args: object) -> tuple[np.ndarray, str, float, float]:
    """Importances of the observed pairs, median trees, wall and processor seconds of one call."""
    start, used = time.perf_counter(), time.process_time()
    found = grnboost2_scores(**args)
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    return found.values[0], found.provenance["trees_median"], wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 cells, 60 regulators, 100 targets")
    parser.add_argument("--sample", type=int, default=10, help="targets that scikit-learn is timed on")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "grn.tsv")
    args = parser.parse_args()
    n_cells, n_reg, n_targets = (500, 60, 100) if args.quick else (2000, 200, 1000)
    x, genes = cells(n_cells, n_targets)
    small = {"expression": x[:50, : n_reg + 2], "genes": genes[: n_reg + 2], "regulators": genes[:n_reg]}
    grnboost2_scores(**small, max_trees=2)  # compile before the clock starts
    whole = {"expression": x, "genes": genes, "regulators": genes[:n_reg]}
    values, trees, wall, cpu = timed(**whole, seed=1)
    rows = [{"engine": "compiled", "timed": n_targets, "wall_s": wall, "cpu_s": cpu, "trees_median": float(trees)}]
    print(rows[0], flush=True)
    # the sample, without the regulators: scikit-learn on the very targets that are compared
    rng = np.random.default_rng(1)
    chosen = np.sort(rng.choice(np.arange(n_reg, n_targets), args.sample, replace=False))
    given = Panel.build(whole["expression"], whole["genes"], whole["regulators"])
    matrix = np.asfortranarray(given.values[:, given.own], dtype=np.float32)

    def loop(seed: int) -> tuple[np.ndarray, float, float, float]:
        task = Regression(
            x=matrix, gene=given.own, y=np.asfortranarray(given.values[:, chosen]), target=chosen, extra=(5000, None),
            seeds=target_seeds("bench", [given.genes[t] for t in chosen], seed),
        )  # fmt: skip
        start, used = time.perf_counter(), time.process_time()
        importance, trees = grnboost2._fit_scikit_learn(task)
        print(f"loop over {args.sample} targets, seed {seed}", flush=True)
        return importance.T, time.perf_counter() - start, time.process_time() - used, float(np.median(trees))

    first, wall, cpu, trees = loop(11)
    second = loop(12)[0]
    scale = n_targets / args.sample
    rows.append({"engine": "scikit-learn loop", "timed": args.sample, "wall_s": wall * scale, "cpu_s": cpu * scale,
                 "trees_median": trees})  # fmt: skip
    ours = values[:, chosen]
    k = 10 * args.sample
    for row, pair in zip(rows, ((ours, first), (first, second))):
        a, b = (p.ravel() for p in pair)
        row["spearman_with_scikit_learn"] = round(float(spearmanr(a, b).statistic), 3)
        top = [set(np.argsort(-v, kind="stable")[:k].tolist()) for v in (a, b)]
        row[f"overlap_of_top_{k}"] = round(len(top[0] & top[1]) / k, 3)
    frame = pd.DataFrame(rows)
    frame["times_faster"] = (frame["cpu_s"].iloc[-1] / frame["cpu_s"]).round(1)
    frame.insert(1, "shape", f"{n_cells} cells x {n_reg} regulators x {n_targets} targets")
    frame[["wall_s", "cpu_s"]] = frame[["wall_s", "cpu_s"]].round(1)
    print(frame.to_string(index=False))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    command = "python benchmarks/bench_grn.py" + (" --quick" if args.quick else "")
    header = (
        f"# command: {command}\n# machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}\n"
        f"# detected values: {np.mean(x > 0):.2f}; the loop was timed on {args.sample} targets and multiplied up; its "
        "agreement is that of two of its own seeds\n"
    )
    args.out.write_text(header + frame.to_csv(sep="\t", index=False, lineterminator="\n"), encoding="utf-8")


if __name__ == "__main__":
    main()
