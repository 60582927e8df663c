"""Measure sensitivity and false alarms of every confirmatory test and claim in worlds whose truth is known.

python benchmarks/calibrate_analyses.py --worlds 100 --jobs 2

Writes docs/calibration_analyses.tsv and the tables of docs/calibration.md. What is expected is declared in
`regulens.testing.worlds.expectations`. With --answers the answers of finished worlds are kept in a file, and a second
call goes on where the first was stopped; with --update rows that are not measured now stay as they are in the table.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from regulens.parallel import run_ordered
from regulens.testing.worlds.expectations import SETTINGS
from regulens.testing.worlds.measure import Answer, answers_of, merged, summarise_answers, tasks_of, unanswered
from regulens.testing.worlds.page import refreshed

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "calibration_analyses.tsv"


def kept_answers(path: Path | None) -> list[Answer]:
    """Answers of an earlier call."""
    if path is None or not path.exists():
        return []
    rows = pd.read_csv(path, sep="\t", keep_default_na=False, na_values={"p": [""], "effect": [""]})
    return [Answer(**row) for row in rows.to_dict("records")]


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
    parser.add_argument("--answers", type=Path, help="file that keeps answers; worlds in it are not made again")
    parser.add_argument("--update", action="store_true", help="keep the other rows of the table")
    args = parser.parse_args()
    start = time.perf_counter()
    answers = kept_answers(args.answers)
    tasks = tasks_of(args.settings, n_worlds=args.worlds, first_seed=args.seed, analyses=args.analyses)
    left = unanswered(tasks, answers)
    for number, (task, found) in enumerate(zip(left, run_ordered(answers_of, left, jobs=args.jobs)), 1):
        answers += found
        if args.answers:
            rows = pd.DataFrame([asdict(a) for a in found])
            rows.to_csv(args.answers, sep="\t", index=False, mode="a", header=not args.answers.exists())
        if number % args.worlds == 0:
            print(f"{task.setting}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    latest = {(a.analysis, a.test, a.setting, a.seed): a for a in answers}
    table = summarise_answers(list(latest.values()))
    if args.update and args.out.exists():
        table = merged(pd.read_csv(args.out, sep="\t", keep_default_na=False), table)
    table.to_csv(args.out, sep="\t", index=False)
    if args.out == TABLE:
        page = ROOT / "docs" / "calibration.md"
        page.write_text(refreshed(page.read_text(), pd.read_csv(TABLE, sep="\t", keep_default_na=False)))
    wrong = table[table["as_expected"] == "no"]
    columns = ["analysis", "test", "world", "expected", "share", "low", "high"]
    print(f"{len(left)} worlds in {time.perf_counter() - start:.0f} s; {len(wrong)} of {len(table)} not as expected")
    if len(wrong):
        print(wrong[columns].to_string(index=False))


if __name__ == "__main__":
    main()
