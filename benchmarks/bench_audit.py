"""How long, and in how much memory, does `regulens audit` on the embedded default take? First run, and again.

Runs the command as a user would, in a temporary folder with a warm package cache, and samples the resident memory
of the whole process tree: the whole battery, and the four analyses that it began with. Writes
``benchmarks/results/audit.tsv``. Goals for the four: 90 s wall on 2 cores, 2 GB resident.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results"
FOUR = ("reference_recovery", "gene_level_baselines", "expression_matched", "coexpression_dominance")


def tree_memory(pid: int) -> tuple[int, int]:
    """Resident bytes of the largest process of the tree, and of all together with shared pages counted once (PSS)."""
    largest, together = 0, 0
    todo = [pid]
    while todo:
        p = todo.pop()
        try:
            todo += [int(c) for c in Path(f"/proc/{p}/task/{p}/children").read_text().split()]
            lines = Path(f"/proc/{p}/smaps_rollup").read_text().splitlines()
        except (OSError, ValueError):
            continue
        found = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("Rss:", "Pss:"))}
        largest, together = max(largest, found.get("Rss:", 0)), together + found.get("Pss:", 0)
    return largest, together


def measure(command: list[str], cwd: Path) -> dict[str, float]:
    """Wall seconds and peak resident memory of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = [0, 0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            largest, total = tree_memory(process.pid)
            peak[0], peak[1] = max(peak[0], largest), max(peak[1], total)
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    code = process.wait()
    wall = time.perf_counter() - start
    stop.set()
    thread.join()
    if code:
        message = f"{' '.join(command)} ended with exit code {code}"
        raise SystemExit(message)
    return {
        "wall_s": round(wall, 1),
        "largest_process_GB": round(peak[0] / 1e9, 2),
        "all_processes_PSS_GB": round(peak[1] / 1e9, 2),
    }


def main() -> None:
    """Measure the first run, a repeated one, and `--help`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    regulens = str(Path(sys.executable).parent / "regulens")
    rows = []
    for repeat in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for what, command in (
                ("audit, first run", [regulens, "audit", "--quiet"]),
                ("audit, finished before", [regulens, "audit", "--quiet"]),
                ("four analyses, first run", [regulens, "audit", "--quiet", "--out", "four",
                                              *[w for name in FOUR for w in ("--analysis", name)]]),
                ("--help", [regulens, "--help"]),
            ):  # fmt: skip
                rows.append({"what": what, "repeat": repeat, **measure(command, Path(folder))})
                print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "audit.tsv").open("w") as handle:
        handle.write(f"# python benchmarks/bench_audit.py --repeats {arguments.repeats}; {os.cpu_count()} processors\n")
        frame.to_csv(handle, sep="\t", index=False)


if __name__ == "__main__":
    main()
