"""What attention adds to gene features: 280 perturbations x 2,000 genes (559,720 rows), both learners, three splits.

    python benchmarks/bench_incremental.py            (full size, two workers)
    python benchmarks/bench_incremental.py --quick    (25 x 299, as in a small screen)

Labels follow genes and a hidden network, 3 % respond; attention knows a part of the network. The analysis runs as in
an audit: six models of every split, 200 draws of perturbations for the logistic models and 24 for the trees, all
refitted, with the planted control. Processor seconds are what a shared machine does not distort.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

from regulens.analyses.incremental_control import plant
from regulens.analyses.incremental_fit import Grid, evaluate
from regulens.analyses.incremental_value import SPEC, tasks_of
from regulens.parallel import release_workers, run_ordered
from regulens.rng import stream

ROOT = Path(__file__).resolve().parents[1]


class Streams:
    """Named streams of a run without a study."""

    def rng(self, use: str) -> np.random.Generator:
        return stream(42, use)


def grid(n_rows: int, n_genes: int) -> Grid:
    """A screen as models see it; one pair of every perturbation is left out, as the perturbed gene is."""
    rng = np.random.default_rng(0)
    level, network = rng.normal(size=n_genes), rng.normal(size=(n_rows, n_genes))
    log_odds = -4.8 + level + 0.5 * rng.normal(size=n_genes) + 0.8 * network + 0.3 * rng.normal(size=(n_rows, 1))
    label = rng.random((n_rows, n_genes)) < 1 / (1 + np.exp(-log_odds))
    label[:, :3] = True
    use = np.ones(label.shape, dtype=bool)
    use[np.arange(n_rows), np.arange(n_rows) % n_genes] = False
    mean = np.exp(0.6 * level)
    feature = np.column_stack([mean, mean * np.exp(0.3 * rng.normal(size=n_genes)), 1 / (1 + np.exp(level))])
    attention = np.exp(0.3 * network + 0.6 * rng.normal(size=n_genes) + rng.normal(size=(n_rows, n_genes)))
    return Grid(
        label=label, use=use, feature=feature,
        scores={"attention": attention, "coexpression": np.abs(rng.normal(size=(n_rows, n_genes)))},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="25 perturbations x 299 genes")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "incremental.tsv")
    args = parser.parse_args()
    shape = (25, 299) if args.quick else (280, 2000)
    small = grid(10, 60)
    for task in tasks_of(small, Streams(), SPEC.parameters | {"draws": 2}, np.zeros((10, 60))):
        evaluate(task)  # compile before the clock starts
    given = grid(*shape)
    wall, used = time.perf_counter(), _processor()
    planted, _ = plant(given, 0.02, stream(42, "planted"))
    tasks = tasks_of(given, Streams(), SPEC.parameters, planted)
    found = list(run_ordered(evaluate, tasks, jobs=args.jobs))
    wall = time.perf_counter() - wall
    release_workers()
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    row = {
        "shape": f"{shape[0]} perturbations x {shape[1]} genes", "rows": int(given.use.sum()),
        "positives": round(float(given.label[given.use].mean()), 3), "splits_and_learners": len(found),
        "draws": SPEC.parameters["draws"], "tree_draws": SPEC.parameters["tree_draws"], "jobs": args.jobs,
        "wall_s": round(wall, 1), "cpu_s": round(_processor() - used, 1), "largest_process_gb": round(peak / 1e6, 2),
    }  # fmt: skip
    print(pd.DataFrame([row]).T.to_string(header=False))
    header = (
        f"# command: python benchmarks/bench_incremental.py\n# machine: {platform.machine()}, {os.cpu_count()} cores, "
        f"{platform.system()}\n"
    )
    before = pd.read_csv(args.out, sep="\t", comment="#") if args.out.exists() else pd.DataFrame(columns=list(row))
    before = before[before["shape"] != row["shape"]]
    rows = pd.DataFrame([*before.to_dict("records"), row])
    args.out.write_text(header + rows.to_csv(sep="\t", index=False, lineterminator="\n"), encoding="utf-8")


def _processor() -> float:
    """Processor seconds of this process and of the workers that have ended."""
    return sum(
        r.ru_utime + r.ru_stime
        for r in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
