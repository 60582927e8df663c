"""What does the published matching say? Legacy generator, any source on the grid, pooled AUROC, pairs resampled.

A reproduction: pairs are taken as independent, missing pairs count as zero, and it feeds no verdict. The source of
a negative may be any row of the grid; build the universe with all genes as regulators to repeat the original choice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.analyses.recovery_published import pair_bootstrap, zero_filled
from regulens.nulls.expression_matched import similar_genes
from regulens.stats.ranking import auroc
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

COLUMNS = ["score", "form", "auroc", "low", "high", "n_pos", "n_neg", "n_regulators"]


def published_negatives(inp: AnalysisInput) -> tuple[np.ndarray, np.ndarray, int]:
    """Grid positions of matched positives and of their negatives, ``(n, 2)`` each, and how many had no candidate.

    Positives are visited in grid order (the original order depended on the interpreter's hashing), one draw each.
    """
    legacy = np.random.RandomState(42)  # the published generator
    mean, detection = inp.features.mean, inp.features.detection
    own = inp.universe.regulator_columns()
    masks = [similar_genes(mean, detection, tolerance=t) for t in (0.2, 0.4)]
    allowed = inp.universe.candidate & ~inp.universe.positive
    kept, negatives, lost = [], [], 0
    for i, j in np.argwhere(inp.universe.positive):
        for mask in masks:
            rows, columns = np.flatnonzero(mask[own[i]][own]), np.flatnonzero(mask[j])
            a, b = np.nonzero(allowed[np.ix_(rows, columns)])
            if len(a) >= 5:
                break
        if len(a) == 0:
            lost += 1
            continue
        pick = legacy.choice(len(a), min(50, len(a)), replace=False)
        kept.append((i, j))
        negatives.append(np.column_stack([rows[a[pick]], columns[b[pick]]]))
    if not kept:
        return np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64), lost
    return np.array(kept), np.concatenate(negatives), lost


def run_published(inp: AnalysisInput, name: str, design: TestDesign) -> AnalysisOutcome:
    """Pooled AUROC of attention and three baselines over matched pairs, positives and negatives resampled apart."""
    edges = LabelledEdges.build(zero_filled(inp, inp.primary), inp.universe)
    tables = {"published": COLUMNS}
    if reason := refusal(edges):
        return refused(inp, name, (design,), reason, edges=edges, tables=tables, steps=("",))
    pos, neg, lost = published_negatives(inp)
    if len(pos) < 5:
        reason = f"{len(pos)} positives have matched negatives; 5 are needed"
        return refused(inp, name, (design,), reason, edges=edges, tables=tables, steps=("",))
    both = np.concatenate([pos, neg])
    label = np.arange(len(both)) < len(pos)
    sets = (inp.primary, inp.baselines.select(["marginal_product", "product_mean"]),
            inp.coexpression.select(["coexpression_abs"]))  # fmt: skip
    names = [n for s in sets for n in s.names]
    values = np.concatenate([zero_filled(inp, s).values for s in sets])[:, both[:, 0], both[:, 1]]
    value = auroc(values, label)
    n_reg = len(np.unique(pos[:, 0]))
    stream = f"bootstrap/{name}/published"
    rows, results, p = [], [], 1.0
    for k, score in enumerate(names):
        draws = pair_bootstrap(values[k], label, draws=1000, rng=inp.rng(stream))
        estimate: Estimate | Undefined = Estimate.from_draws(
            float(value[k]), draws, method="bootstrap over pairs, positives and negatives apart, percentile, B=1000",
            n_units=len(both), unit="pair",
        )  # fmt: skip
        low, high = np.quantile(draws, [0.025, 0.975])
        rows.append((score, "pooled", value[k], low, high, len(pos), len(neg), n_reg))
        results.append(
            result_of(inp, name, score=score, estimate=estimate, edges=edges, n_pos=len(pos), n_neg=len(neg),
                      n_regulators=n_reg, stream=inp.stream_name(stream))
        )  # fmt: skip
        if k == 0:
            p = float((1 + np.count_nonzero(draws <= 0.5)) / (1 + len(draws)))
    record = TestRecord(
        id=test_id(name, inp.request, design.name), effect=float(value[0]) - 0.5, p_raw=p, n_units=len(both),
        stream=inp.stream_name(stream),
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=COLUMNS)}, records=(record,), facts=counts_of(edges),
        dropped={"positives without matched negatives": lost},
    )  # fmt: skip
