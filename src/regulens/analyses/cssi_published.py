"""What did the published procedure print? The best of five variants per layer, chosen and judged on the same data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.blocks import BlockScores, block_sums
from regulens.analyses.common import counts_of, edges_of
from regulens.analyses.cssi_folds import MIN_STRATUM, usable
from regulens.analyses.strata_labels import majority
from regulens.scorers.stratified import Strata, combine
from regulens.stats.ranking import auroc
from regulens.types.results import AnalysisOutcome

#: The five variants; the mean is the unweighted one.
VARIANTS = ("max", "mean_unweighted", "range", "std", "deviation")
COLUMNS = ["layer", "auroc_pooled", "auroc_strata", "gain", "variant", "n_strata"]


def run_published(inp: AnalysisInput, analysis: str) -> AnalysisOutcome:
    """Annotated states, pairs that never met count as zero, no interval and no null.

    The published universe was all ordered pairs of genes; the store has regulators as sources.
    """
    rows = []
    view = inp.partitions
    facts = counts_of(edges_of(inp, inp.primary))
    if view is None or "cell_state" not in inp.obs:
        facts["refused"] = (
            "there is no attention by cell" if view is None else "no column of the cells was named for states"
        )
    else:
        made = majority(inp.obs["cell_state"].to_numpy().astype(str), view.cell_partition, len(view.table))
        cells = view.table["n_cells"].to_numpy(dtype=np.float64)
        k, label = len(made.names), usable(made.label, cells, len(made.names))
        i, j = np.nonzero(inp.universe.candidate)
        truth = inp.universe.positive[i, j]
        counts = view.counts()[:, i, j].astype(np.float64)
        scores = inp.attention[inp.request.direction]
        for name in (n for n, l, h in zip(scores.names, scores.layers, scores.heads) if l >= 0 and h < 0):
            blocks = BlockScores(
                sums=block_sums(view, name, direction=inp.request.direction)[:, i, j], counts=counts, cells=cells,
                min_cells=1,
            )  # fmt: skip
            member = (label[None] == np.arange(k)[:, None]).astype(np.float64)
            strata = Strata(scores=blocks.means(member)[0], sizes=member @ cells, pooled=blocks.pooled)
            pooled = float(auroc(blocks.pooled, truth)[0])
            found = [float(auroc(combine(strata, v), truth)[0]) for v in VARIANTS]
            best = int(np.argmax(found))
            used = int((strata.sizes >= MIN_STRATUM).sum())
            rows.append((name, pooled, found[best], found[best] - pooled, VARIANTS[best], used))
    return AnalysisOutcome(
        analysis=analysis, model=inp.request.model, reference=inp.request.reference, results=(), records=(),
        tables={"cssi_published": pd.DataFrame(rows, columns=COLUMNS)}, facts=facts,
    )  # fmt: skip
