"""What does the published procedure say of gene-level baselines? Univariate rankings against co-expression.

A reproduction: perturbations count as independent although all of them rank the same genes by the same number.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, test_id
from regulens.analyses.per_perturbation import MIN_PERTURBATIONS, PerPerturbation, screen_refused, screen_result_of
from regulens.analyses.perturbation_published import published_scores
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

BASELINES = ("target_variance", "target_mean", "target_detection")

PUBLISHED_DESIGNS = tuple(
    TestDesign(
        name=f"{name}_minus_coexpression", side="two-sided", unit="perturbation",
        method="Wilcoxon signed-rank over perturbations, taken as independent",
        hypothesis=f"{name} and co-expression differ in AUROC over perturbations",
    )
    for name in BASELINES
)  # fmt: skip

TABLES = {"published": ["group", "baseline", "n_perturbations", "auroc", "sd", "beyond_coexpression", "p", "delta"]}


def run_published(inp: AnalysisInput, name: str) -> AnalysisOutcome:
    """All perturbations, and those of transcription factors (sources of the study's networks) and others apart."""
    request, primary = inp.request, inp.request.primary
    ids = {d.name: test_id(name, request, d.name) for d in PUBLISHED_DESIGNS}
    chosen = inp.baselines.select(BASELINES)
    everywhere = EdgeScores(
        values=_by_gene(inp), observed=np.ones_like(chosen.observed), names=BASELINES, genes=chosen.genes,
        regulators=chosen.regulators,
    )  # fmt: skip
    edges = LabelledEdges.build(
        [*published_scores(inp), everywhere], inp.universe, endpoint=Endpoint.PERTURBATION_RESPONSE
    )
    per = PerPerturbation.of(edges, inp.universe.regulators)
    if per.refusal:
        return screen_refused(inp, name, PUBLISHED_DESIGNS, per.refusal, per=per, tables=TABLES)
    sources = {s for network in inp.networks.values() for s in network.edges["source"]}
    is_tf = np.array([p in sources for p in per.perturbations])
    groups = {"all": np.ones(per.n, dtype=bool)}
    if is_tf.any() and not is_tf.all():
        groups |= {"transcription factors": is_tf, "others": ~is_tf}
    rows, records, results = [], [], []
    for group, keep in groups.items():
        attention, coexpression = per.values(primary)[keep], per.values("coexpression_abs")[keep]
        for baseline in (*BASELINES, primary, "coexpression_abs"):
            value = per.values(baseline)[keep]
            gap = value - coexpression
            enough = keep.sum() >= MIN_PERTURBATIONS and np.any(gap != 0)
            p = float(stats.wilcoxon(gap).pvalue) if enough else np.nan
            sd = float(value.std(ddof=1)) if len(value) > 1 else np.nan
            rows.append((group, baseline, int(keep.sum()), value.mean(), sd, gap.mean(), p, (attention - value).mean()))
            if group != "all" or baseline not in BASELINES:
                continue
            test = ids[f"{baseline}_minus_coexpression"]
            if np.isfinite(p):
                records.append(TestRecord(id=test, effect=float(gap.mean()), p_raw=max(p, 1e-300), n_units=per.n))
            else:
                records.append(TestRecord(id=test, undefined="all differences are 0", n_units=per.n))
            half = float(stats.t.ppf(0.975, per.n - 1)) * sd / np.sqrt(per.n)
            mean = float(value.mean())
            results.append(
                screen_result_of(
                    inp, name, per, score=baseline,
                    estimate=Estimate(value=mean, low=mean - half, high=mean + half, n_units=per.n,
                                      unit="perturbation", method="t over perturbations"),
                )
            )  # fmt: skip
    return AnalysisOutcome(
        analysis=name, model=request.model, reference=request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=TABLES["published"])}, records=tuple(records),
        facts=per.counts(), dropped=per.dropped(),
    )  # fmt: skip


def _by_gene(inp: AnalysisInput) -> np.ndarray:
    """Variance, mean and detection of the responding gene on every pair, ``(3, perturbation, gene)``."""
    f = inp.features
    shape = inp.universe.candidate.shape
    return np.stack([np.broadcast_to(x, shape) for x in (f.variance, f.mean, f.detection)])
