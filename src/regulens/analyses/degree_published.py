"""What does the published degree control say? 200 curveball draws and 1,000 label shuffles, z and p from the draws.

A reproduction: missing pairs count as zero, labels are shuffled among all pairs, and networks are taken as the unit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.analyses.recovery_published import zero_filled
from regulens.nulls.degree_preserving import degree_preserving_draws
from regulens.nulls.rank_sums import auroc_at, mid_ranks
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

CURVEBALL, SHUFFLES = 200, 1000
COLUMNS = ["null", "n_pos", "n_neg", "auroc", "null_mean", "null_sd", "z", "p", "jaccard"]


def run_published(inp: AnalysisInput, name: str, design: TestDesign) -> AnalysisOutcome:
    """AUROC among 200 degree-preserving draws and among 1,000 shuffles of all labels."""
    edges = LabelledEdges.build(zero_filled(inp, inp.primary), inp.universe)
    tables = {"published": COLUMNS}
    if reason := refusal(edges):
        return refused(inp, name, (design,), reason, edges=edges, tables=tables, steps=("",))
    streams = [f"permutation/{name}/published/{kind}" for kind in ("curveball", "shuffle")]
    ranks = mid_ranks(edges.scores)
    draws = degree_preserving_draws(
        inp.universe.positive, inp.universe.candidate, draws=CURVEBALL, rng=inp.rng(streams[0])
    )  # fmt: skip
    observed = float(auroc_at(ranks, draws.observed[None])[0, 0])
    rng = inp.rng(streams[1])
    shuffled = np.stack(
        [rng.choice(len(edges.label), edges.n_pos, replace=False, shuffle=False) for _ in range(SHUFFLES)]
    )
    rows, p = [], []
    for kind, positions, jaccard in (
        ("degree-preserving", draws.positions, float(draws.jaccard.mean())), ("label shuffle", shuffled, np.nan),
    ):  # fmt: skip
        null = auroc_at(ranks, positions)[0]
        mean, sd = float(null.mean()), float(null.std(ddof=1))
        p.append(float((1 + np.count_nonzero(null >= observed)) / (1 + len(null))))
        z = (observed - mean) / sd if sd > 0 else np.nan
        rows.append((kind, edges.n_pos, edges.n_neg, observed, mean, sd, z, p[-1], jaccard))
    z = rows[0][6]
    record = TestRecord(
        id=test_id(name, inp.request, design.name), statistic=float(z) if np.isfinite(z) else None,
        effect=observed - rows[0][4], p_raw=p[0], n_units=CURVEBALL, stream=inp.stream_name(streams[0]),
    )  # fmt: skip
    estimate: Estimate | Undefined = Undefined(reason="the published procedure gives no interval of the difference")
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference,
        results=(
            result_of(inp, name, score=f"{inp.request.primary} - degrees of both genes", metric="auroc_difference",
                      null_value=0.0, estimate=estimate, edges=edges, stream=inp.stream_name(streams[0])),
        ),
        tables={"published": pd.DataFrame(rows, columns=COLUMNS)}, records=(record,), facts=counts_of(edges),
    )  # fmt: skip
