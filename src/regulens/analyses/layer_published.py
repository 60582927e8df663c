"""What does the published layer hierarchy say? Spearman with depth as if layers were independent, and Fisher tests.

A reproduction: n is the number of layers, pairs are taken as independent, missing pairs count as zero, and the depth
test is made on the profile that suggested it. It feeds no verdict.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, spearmanr

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.analyses.recovery_published import zero_filled
from regulens.stats.ranking import auroc
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

#: Strongest and weakest pairs of a layer, and layers looked at.
TOP, N_LAYERS = 1000, 5

DEPTH_SPEARMAN = TestDesign(
    name="depth_spearman",
    hypothesis="The AUROC of a layer goes with its depth",
    side="two-sided",
    unit="layer",
    method="Spearman, layers taken as independent",
    confirmatory=False,
)

TABLES = {
    "published": ["layer", "auroc", "n_pos", "n_neg"],
    "published_trend": ["n_layers", "rho", "p"],
    "published_tails": ["layer", "tail", "k", "n_pos_in_tail", "odds_ratio", "p"],
}


def run_published(inp: AnalysisInput, name: str) -> AnalysisOutcome:
    """Profile, its Spearman with depth, and Fisher tests of the strongest and weakest pairs of five layers."""
    scores = inp.attention[inp.request.direction]
    found = sorted((l, n) for n, l, h in zip(scores.names, scores.layers, scores.heads) if l >= 0 and h < 0)
    layers = [n for _, n in found]
    edges = LabelledEdges.build(zero_filled(inp, scores.select(layers or [inp.request.primary])), inp.universe)
    reason = refusal(edges) or ("" if layers else "the model has no attention layers")
    if reason:
        return refused(inp, name, (DEPTH_SPEARMAN,), reason, edges=edges, tables=TABLES, steps=("",))
    profile = auroc(edges.scores, edges.label)
    one = test_id(name, inp.request, DEPTH_SPEARMAN.name)
    trend: list[tuple[int, float, float]] = []
    if len(layers) < 3 or np.ptp(profile) == 0:
        record = TestRecord(id=one, undefined=f"{len(layers)} layers, or a constant profile", n_units=len(layers))
    else:
        depth = spearmanr(np.arange(len(layers)), profile)
        rho, p = float(depth.statistic), float(max(depth.pvalue, np.finfo(float).tiny))
        record = TestRecord(id=one, statistic=rho, effect=rho, p_raw=p, n_units=len(layers))
        trend = [(len(layers), rho, p)]
    k = min(TOP, len(edges.label) // 2)
    tails = []
    for layer in np.unique(np.linspace(0, len(layers) - 1, N_LAYERS).round().astype(int)):
        order = np.argsort(-edges.scores[layer], kind="stable")
        for tail, part in (("strongest", order[:k]), ("weakest", order[-k:])):
            a = int(edges.label[part].sum())
            table = [[a, k - a], [edges.n_pos - a, len(edges.label) - k - (edges.n_pos - a)]]
            ratio, p = fisher_exact(table, alternative="greater")
            tails.append((layers[layer], tail, k, a, float(ratio) if np.isfinite(ratio) else np.nan, float(p)))
    why = "the published procedure gives a rank correlation over layers, without an interval"
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference,
        results=(
            result_of(inp, name, score="Spearman with depth", metric="spearman", null_value=0.0,
                      estimate=Undefined(reason=why), edges=edges),
        ),
        tables={
            "published": pd.DataFrame(
                {"layer": layers, "auroc": profile, "n_pos": edges.n_pos, "n_neg": edges.n_neg}
            ),
            "published_trend": pd.DataFrame(trend, columns=TABLES["published_trend"]),
            "published_tails": pd.DataFrame(tails, columns=TABLES["published_tails"]),
        },
        records=(record,), facts=counts_of(edges),
    )  # fmt: skip
