"""What does the published procedure say? Missing pairs as zero, bootstrap over pairs, random pair sets as null.

A reproduction: its defects (pairs taken as independent, missing counted as weak) are kept, and it feeds no verdict.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.stats.ranking import auroc
from regulens.types.edges import EdgeScores
from regulens.types.estimates import Estimate
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

BOOTSTRAP, NULL_SETS = 1000, 10_000


def zero_filled(inp: AnalysisInput, scores: EdgeScores) -> EdgeScores:
    """The same scores with every candidate pair observed and missing ones at zero, the published choice."""
    return EdgeScores(
        values=scores.values, observed=inp.universe.candidate, names=scores.names, genes=scores.genes,
        regulators=scores.regulators, direction=scores.direction, layers=scores.layers, heads=scores.heads,
    )  # fmt: skip


def pair_bootstrap(score: np.ndarray, label: np.ndarray, *, draws: int, rng: np.random.Generator) -> np.ndarray:
    """AUROC of resampled positives and, separately, resampled negatives, shape ``(draw,)``.

    Only the negatives' share of each positive is needed when negatives are many, but both are resampled: counts of
    negatives between the positives' values are multinomial.
    """
    pos, neg = np.sort(score[label]), np.sort(score[~label])
    below = np.searchsorted(neg, pos, side="left")
    upto = np.searchsorted(neg, pos, side="right")
    out = np.empty(draws)
    for d in range(draws):  # over draws, not pairs
        cumulative = np.concatenate([[0], np.cumsum(np.bincount(rng.integers(len(neg), size=len(neg)),
                                                                minlength=len(neg)))])  # fmt: skip
        place = (cumulative[below] + cumulative[upto]) / 2
        out[d] = place[rng.integers(len(pos), size=len(pos))].mean() / len(neg)
    return out


def run_published(inp: AnalysisInput, name: str, design: TestDesign) -> AnalysisOutcome:
    """AUROC over all candidate pairs with pair-bootstrap interval and a null of random sets of as many pairs."""
    edges = LabelledEdges.build(zero_filled(inp, inp.primary), inp.universe)
    tables = {"published": ["score", "n_pos", "n_neg", "auroc", "low", "high", "null_mean", "null_sd", "z", "p"]}
    if reason := refusal(edges):
        return refused(inp, name, (design,), reason, edges=edges, tables=tables, steps=("",))
    score = edges.scores[0]
    value = float(auroc(edges.scores, edges.label)[0])
    stream = f"bootstrap/{name}/published"
    draws = pair_bootstrap(score, edges.label, draws=BOOTSTRAP, rng=inp.rng(stream))
    estimate = Estimate.from_draws(
        value, draws, level=0.95, method=f"bootstrap over pairs, percentile, B={BOOTSTRAP}",
        n_units=len(edges.label), unit="pair",
    )  # fmt: skip
    order = np.argsort(score, kind="stable")
    rank = np.empty(len(score))
    ends = np.flatnonzero(np.diff(score[order]) != 0)
    first = np.concatenate([[0], ends + 1])
    last = np.concatenate([ends, [len(score) - 1]])
    rank[order] = np.repeat((first + last) / 2 + 1, last - first + 1)  # mid-ranks
    rng = inp.rng(f"permutation/{name}/published")
    n_pos, n_neg = edges.n_pos, edges.n_neg
    sums = np.array([rank[rng.choice(len(rank), n_pos, replace=False, shuffle=False)].sum() for _ in range(NULL_SETS)])
    null = (sums - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)
    p = float((1 + np.count_nonzero(null >= value)) / (1 + NULL_SETS))
    sd = float(null.std(ddof=1))
    low, high = (estimate.low, estimate.high) if isinstance(estimate, Estimate) else (np.nan, np.nan)
    z = (value - float(null.mean())) / sd if sd > 0 else np.nan
    row = (inp.request.primary, n_pos, n_neg, value, low, high, float(null.mean()), sd, z, p)
    record = TestRecord(
        id=test_id(name, inp.request, design.name), effect=value - 0.5, p_raw=p, n_units=len(edges.label),
        stream=inp.stream_name(f"permutation/{name}/published"),
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=name,
        model=inp.request.model,
        reference=inp.request.reference,
        results=(
            result_of(inp, name, score=inp.request.primary, estimate=estimate, edges=edges,
                      stream=inp.stream_name(stream)),
        ),
        tables={"published": pd.DataFrame([row], columns=tables["published"])},
        records=(record,),
        facts=counts_of(edges),
    )  # fmt: skip
