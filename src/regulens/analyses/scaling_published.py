"""What did the published procedure print? Two independent draws per size, pairs as units, fits to the means by R²."""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.blocks import BlockScores, block_sums
from regulens.analyses.common import counts_of, edges_of
from regulens.analyses.nested_draws import grid_of_sizes
from regulens.stats.curves import compare_curves
from regulens.stats.ranking import auroc
from regulens.types.results import AnalysisOutcome

COLUMNS = ["n_cells", "repeat", "auroc", "low", "high", "n_pos"]
FIT_COLUMNS = ["family", "a", "b", "c", "r2", "aicc", "undefined"]
_SIZES, _REPEATS, _BOOTSTRAP = 9, 2, 50


def run_published(inp: AnalysisInput, analysis: str) -> AnalysisOutcome:
    """Draws that are not nested, at least one block of every state, missing pairs as zero, 50 resamples of pairs.

    The published draws were of cells and the pairs all ordered pairs; here they are of blocks of cells, and sources
    are the regulators.
    """
    view = inp.partitions
    facts = counts_of(edges_of(inp, inp.primary))
    rows: list[tuple[float, ...]] = []
    fits = pd.DataFrame(columns=FIT_COLUMNS)
    if view is None:
        facts["refused"] = "there is no attention by cell"
    else:
        rng = inp.rng(f"published/{analysis}")
        i, j = np.nonzero(inp.universe.candidate)
        label = inp.universe.positive[i, j]
        scores = BlockScores(
            sums=block_sums(view, inp.request.primary, direction=inp.request.direction)[:, i, j],
            counts=view.counts()[:, i, j].astype(np.float64),
            cells=view.table["n_cells"].to_numpy(dtype=np.float64), min_cells=1,
        )  # fmt: skip
        state = view.table["cell_state"].to_numpy().astype(str) if "cell_state" in view.table else np.array(
            ["all"] * len(view.table)
        )  # fmt: skip
        for size in grid_of_sizes(len(state), _SIZES):
            for repeat in range(_REPEATS):
                forced = [int(rng.choice(np.flatnonzero(state == s))) for s in sorted(set(state))]
                others = rng.permutation(np.setdiff1d(np.arange(len(state)), forced))
                chosen = np.concatenate([forced, others])[: max(int(size), len(forced))]
                weight = np.isin(np.arange(len(state)), chosen)[None].astype(np.float64)
                value = scores.means(weight)[0]
                draws = []
                for _ in range(_BOOTSTRAP):
                    pick = rng.integers(len(label), size=len(label))
                    draws.append(float(auroc(value[:, pick], label[pick])[0]))
                low, high = np.nanquantile(draws, [0.025, 0.975]) if np.isfinite(draws).any() else (np.nan, np.nan)
                rows.append((float(weight[0] @ scores.cells), repeat, float(auroc(value, label)[0]), float(low),
                             float(high), int(label.sum())))  # fmt: skip
        table = pd.DataFrame(rows, columns=COLUMNS)
        if table["auroc"].notna().all():
            by_size = table.groupby(np.arange(len(table)) // _REPEATS)[["n_cells", "auroc"]].mean()
            fits = compare_curves(by_size["n_cells"].to_numpy(), by_size["auroc"].to_numpy())
            fits = fits.sort_values("r2", ascending=False, kind="stable", ignore_index=True)[FIT_COLUMNS]
    return AnalysisOutcome(
        analysis=analysis, model=inp.request.model, reference=inp.request.reference, results=(), records=(),
        facts=facts, tables={"scaling_published": pd.DataFrame(rows, columns=COLUMNS), "scaling_published_fits": fits},
    )  # fmt: skip
