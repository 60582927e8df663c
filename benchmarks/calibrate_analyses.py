"""Measure sensitivity and false alarms of every confirmatory test and claim in worlds whose truth is known.

python benchmarks/calibrate_analyses.py --worlds 100 --jobs 2

Writes docs/calibration_analyses.tsv and the tables of docs/calibration.md. What is expected is declared in
`regulens.testing.worlds.expectations`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd

from regulens.parallel import run_ordered
from regulens.testing.worlds.expectations import SETTINGS
from regulens.testing.worlds.measure import answers_of, summarise_answers, tasks_of
from regulens.testing.worlds.page import refreshed

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "calibration_analyses.tsv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=100, help="worlds per setting")
    parser.add_argument(
        "--settings", nargs="*", default=list(SETTINGS), help="only these; the table then has no others"
    )
    parser.add_argument("--analyses", nargs="*", default=[], help="only these; claims that need others are left out")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=100_000, help="of the first world")
    parser.add_argument("--out", type=Path, default=TABLE)
    args = parser.parse_args()
    start = time.perf_counter()
    tasks = tasks_of(args.settings, n_worlds=args.worlds, first_seed=args.seed, analyses=args.analyses)
    answers = []
    for done, (task, found) in enumerate(zip(tasks, run_ordered(answers_of, tasks, jobs=args.jobs)), 1):
        answers += found
        if done % args.worlds == 0:
            print(f"{task.setting}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    table = summarise_answers(answers)
    table.to_csv(args.out, sep="\t", index=False)
    if args.out == TABLE:
        page = ROOT / "docs" / "calibration.md"
        page.write_text(refreshed(page.read_text(), pd.read_csv(TABLE, sep="\t", keep_default_na=False)))
    wrong = table[table["as_expected"] == "no"]
    columns = ["analysis", "test", "world", "expected", "share", "low", "high"]
    print(f"{len(tasks)} worlds in {time.perf_counter() - start:.0f} s; {len(wrong)} of {len(table)} not as expected")
    if len(wrong):
        print(wrong[columns].to_string(index=False))


if __name__ == "__main__":
    main()
