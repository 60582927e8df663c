"""Measure the error rates of every test that analyses use, on no-signal worlds; write docs/calibration.tsv.

python benchmarks/calibrate_statistics.py --worlds 1000 --jobs 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from regulens.testing.calibration import TRIALS, WORLDS, PairWorld, Trial, level, p_values
from regulens.testing.calibration_units import UNIT_TRIALS, trial_p_values

ROOT = Path(__file__).resolve().parents[1]


def one(trial: Trial, world: PairWorld, n_worlds: int, seed: int) -> dict[str, object]:
    """Rejection rates of one procedure in one kind of world."""
    from dataclasses import replace

    p = p_values(
        trial.procedure, replace(world, n_scores=trial.n_scores), n_worlds=n_worlds, seed=seed, name=trial.name
    )
    return row(trial.name, world.name, p, default=trial.default)


def one_unit(number: int, n_worlds: int, seed: int) -> dict[str, object]:
    """Rejection rates of one procedure on units, profiles, ranks or cells."""
    trial = UNIT_TRIALS[number]
    return row(trial.name, trial.situation, trial_p_values(trial, n_worlds=n_worlds, seed=seed), default=trial.default)


def row(name: str, world: str, p: np.ndarray, *, default: bool) -> dict[str, object]:
    """One line of the table."""
    five, one_percent = level(p, alpha=0.05), level(p, alpha=0.01)
    is_coverage = name.startswith("1 - coverage")
    return {
        "procedure": name,
        "used_by_default": "yes" if default else "no",
        "world": world,
        "n_worlds": five.n,
        "n_undefined": five.n_undefined,
        "rate_at_0.05": round(five.rate, 4),
        "rate_at_0.01": "" if is_coverage else round(one_percent.rate, 4),
        "monte_carlo_se_at_0.05": round(five.monte_carlo_se, 4),
        "holds_0.05": "yes" if five.holds else "no",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "calibration.tsv")
    args = parser.parse_args()
    start = time.perf_counter()
    tasks = [joblib.delayed(one)(t, w, args.worlds, args.seed) for t in TRIALS for w in WORLDS]
    tasks += [joblib.delayed(one_unit)(k, args.worlds, args.seed) for k in range(len(UNIT_TRIALS))]
    rows = joblib.Parallel(n_jobs=args.jobs)(tasks)
    frame = pd.DataFrame(rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/calibrate_statistics.py --worlds {args.worlds} --seed {args.seed}"
    text = (
        f"# command: {command}\n"
        "# rejection rates in worlds without signal; 'holds' allows three Monte Carlo standard errors over 0.05\n"
        + frame.to_csv(sep="\t", index=False, lineterminator="\n")
    )
    temporary = args.out.with_name(args.out.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(args.out)
    by_procedure = frame.groupby("procedure", sort=False)["rate_at_0.05"]
    print(by_procedure.agg(["min", "max", "size"]).to_string())
    print(f"{len(frame)} rows to {args.out} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
