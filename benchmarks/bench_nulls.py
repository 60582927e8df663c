"""How fast are degree-preserving draws? Curveball on 800 regulators x 2,500 genes, beside plain Python.

    python benchmarks/bench_nulls.py

Writes ``benchmarks/results/nulls.tsv``. Both sides make the same kind of trade on the same network in the same run; the
plain one keeps rows as Python sets. Compiling is left out: both are called once before the clock starts.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd

from regulens.nulls.degree_preserving import degree_preserving_draws
from regulens.nulls.rank_sums import auroc_at, mid_ranks
from regulens.rng import stream

N_REGULATORS, N_GENES, DRAWS = 800, 2500, 200
TARGET_SECONDS = 20.0
PLAIN_TRADES = 20_000


def network() -> tuple[np.ndarray, np.ndarray]:
    """Labels of about one per cent of the pairs, with unequal degrees; no self-pairs."""
    rng = stream(42, "benchmarks/nulls")
    odds = np.exp(rng.normal(0, 1.2, (N_REGULATORS, 1)) + rng.normal(0, 1, (1, N_GENES)))
    allowed = np.ones((N_REGULATORS, N_GENES), dtype=bool)
    allowed[np.arange(N_REGULATORS), np.arange(N_REGULATORS)] = False
    return allowed & (rng.random(allowed.shape) < np.minimum(odds / odds.mean() * 0.01, 0.9)), allowed


def plain_trades(positive: np.ndarray, trades: int, rng: np.random.Generator) -> int:
    """Curveball trades with Python sets, self-pairs forbidden; returns how many moved something."""
    rows = [set(np.flatnonzero(row).tolist()) for row in positive]
    active = [r for r, row in enumerate(rows) if row]
    effective = 0
    for _ in range(trades):
        r, s = (active[k] for k in rng.choice(len(active), 2, replace=False))
        give = [x for x in rows[r] - rows[s] if x != s]
        take = [x for x in rows[s] - rows[r] if x != r]
        if not give or not take:
            continue
        pool = give + take
        rng.shuffle(pool)
        rows[r] = (rows[r] - set(give)) | set(pool[: len(give)])
        rows[s] = (rows[s] - set(take)) | set(pool[len(give) :])
        effective += 1
    return effective


def main() -> None:
    """Time both and write the table."""
    positive, allowed = network()
    degree_preserving_draws(positive, allowed, draws=2, rng=stream(0, "warm"))
    begun = time.perf_counter()
    found = degree_preserving_draws(positive, allowed, draws=DRAWS, rng=stream(42, "benchmarks/nulls/draws"))
    seconds = time.perf_counter() - begun
    ours = (
        float(found.trades.mean()) * DRAWS / seconds
    )  # chains to the hub and beyond are in the time, not in the count

    plain_trades(positive, 100, stream(0, "warm"))
    begun = time.perf_counter()
    effective = plain_trades(positive, PLAIN_TRADES, stream(42, "benchmarks/nulls/plain"))
    plain = effective / (time.perf_counter() - begun)

    scores = stream(42, "benchmarks/nulls/scores").normal(size=(10, int(allowed.sum())))
    auroc_at(mid_ranks(scores[:1]), found.positions[:1])
    begun = time.perf_counter()
    auroc_at(mid_ranks(scores), found.positions)
    evaluation = time.perf_counter() - begun

    where = f"{platform.machine()}, {os.cpu_count()} cores"
    rows = [
        ("curveball, 200 draws of 800 x 2500", "seconds", seconds, TARGET_SECONDS),
        ("curveball, effective trades per regulator and draw", "trades", found.trades_per_row, 5.0),
        ("curveball, compiled", "trades per second", ours, np.nan),
        ("curveball, Python sets", "trades per second", plain, np.nan),
        ("compiled over Python sets", "ratio", ours / plain, np.nan),
        ("AUROC of 10 scores under 200 draws, ranks included", "seconds", evaluation, np.nan),
        ("mean Jaccard to the observed network", "share", float(found.jaccard.mean()), np.nan),
        ("the same after chains 8 times as long", "share", found.jaccard_mixed, np.nan),
    ]
    frame = pd.DataFrame(rows, columns=["quantity", "unit", "value", "bar"])
    frame["n_pos"], frame["machine"] = int(positive.sum()), where
    out = Path(__file__).parent / "results" / "nulls.tsv"
    frame.to_csv(out, sep="\t", index=False, float_format="%.4g")
    print(frame.to_string(index=False))


if __name__ == "__main__":
    main()
