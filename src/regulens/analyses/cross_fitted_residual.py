"""What is left of attention after the expression of both genes, learned on other genes, is taken out?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import (
    TestDesign,
    counts_of,
    dropped_of,
    edges_of,
    plan_tests,
    refusal,
    refused,
    result_of,
    test_id,
)
from regulens.analyses.inference import Effect, aurocs, effects_of
from regulens.analyses.residual_fit import PairFeatures, cross_fitted, normal_ranks, pair_features
from regulens.analyses.residual_published import run_published
from regulens.errors import StatisticsError
from regulens.stats.inference import auroc_inference
from regulens.stats.ranking import auroc
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "cross_fitted_residual"

DESIGNS = (
    TestDesign(
        name="residual_above_chance",
        hypothesis="What both genes' expression does not predict of attention ranks reference edges above other pairs: "
        "residual AUROC > 0.5, by least squares and by trees",
        method="intersection-union: the larger p of the delete-one jackknife of both residuals",
    ),
    TestDesign(
        name="least_squares_residual_above_chance",
        hypothesis="The residual of least squares ranks reference edges above other pairs",
        confirmatory=False,
    ),
    TestDesign(
        name="trees_residual_above_chance",
        hypothesis="The residual of boosted trees ranks reference edges above other pairs",
        confirmatory=False,
    ),
    TestDesign(
        name="coexpression_residual_above_chance",
        hypothesis="The same for co-expression, by least squares and by trees",
        method="intersection-union: the larger p of the delete-one jackknife of both residuals",
        confirmatory=False,
    ),
)

TABLES = {
    "residual": [
        "score", "fit", "r2", "auroc_raw", "auroc_residual", "low", "high", "retention", "seed_sd", "n_seeds", "p",
        "note",
    ],
}  # fmt: skip

COEXPRESSION = "coexpression_abs"
FITS = ("least squares", "boosted trees")


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (DESIGNS[1],))
    return plan_tests(NAME, request, DESIGNS)


def features_of(inp: AnalysisInput, edges: LabelledEdges) -> PairFeatures:
    """Mean, variance and detection of both genes of every pair; a regulator's out-degree is made of the labels."""
    f, own = inp.features, inp.universe.regulator_columns()
    return pair_features(
        np.column_stack([f.mean, f.variance, f.detection]), source=own[edges.regulator], target=edges.target
    )


def retained(raw: Effect, residual: float, level: float) -> tuple[float | None, str]:
    """Share of the raw AUROC above 0.5 that is left, and why there is none where there is none.

    A ratio to nothing is no number: it is given only where the interval of the raw AUROC lies off 0.5.
    """
    if raw.undefined:
        return None, raw.undefined
    low, high = raw.bounds(level)
    if low <= 0 <= high:
        return None, "no retention: the interval of the raw AUROC holds 0.5"
    return (residual - 0.5) / raw.value, ""


def _weaker(name: str, effects: list[Effect], level: float) -> TestRecord:
    """Both residuals must be above chance: the record of the one with the larger p."""
    if bad := next((e for e in effects if e.undefined), None):
        return bad.record(name, side="greater", level=level)
    return max(effects, key=lambda e: e.p_greater()).record(name, side="greater", level=level)


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME, DESIGNS[1], features_of)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    edges = edges_of(inp, inp.primary, inp.coexpression.select([COEXPRESSION]))
    steps = ("residual", "")
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=steps)
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    features, response = features_of(inp, edges), normal_ranks(edges.scores)
    n_genes = len(inp.universe.genes)
    stream = f"split/{NAME}"
    common = {"n_genes": n_genes, "rng": inp.rng(stream)}
    try:
        fits = [
            cross_fitted(
                features, response, n_folds=int(parameters["folds"]), seeds=int(parameters["seeds"]), trees=False,
                **common,
            ),
            cross_fitted(
                features, response, n_folds=int(parameters["tree_folds"]), seeds=int(parameters["tree_seeds"]),
                trees=True, most_pairs=int(parameters["tree_pairs"]), **common,
            ),
        ]  # fmt: skip
    except StatisticsError as error:
        return refused(inp, NAME, DESIGNS, f"too few genes to fit on others: {error}", edges=edges, tables=TABLES,
                       steps=steps)  # fmt: skip
    names = [primary, COEXPRESSION]
    raw = effects_of(aurocs(edges, names), null_value=0.5)
    rows, found = [], {}
    for fit, (residual, r2) in zip(FITS, fits):
        mean = residual.mean(axis=0)  # every seed left both genes of a pair out, so their mean did too
        mean[np.ptp(response, axis=1) == 0] = 0.0  # a constant score has no residual, not one of rounding
        effects = effects_of(auroc_inference(mean, edges.label, edges.regulator, edges.target), null_value=0.5)
        by_seed = np.stack([auroc(r, edges.label) for r in residual])  # (seed, score)
        for s, (name, effect) in enumerate(zip(names, effects)):
            found[fit, name] = effect
            share, note = retained(raw[s], effect.value + 0.5, level)
            cells = effect.cells(null_value=0.5, level=level)
            rows.append(
                {
                    "score": name, "fit": fit, "r2": float(r2[s]), "auroc_raw": raw[s].value + 0.5,
                    "auroc_residual": cells["value"], "low": cells["low"], "high": cells["high"],
                    "retention": np.nan if share is None else share,
                    "seed_sd": float(by_seed[:, s].std(ddof=1)) if len(by_seed) > 1 else np.nan,
                    "n_seeds": len(by_seed), "p": np.nan if effect.undefined else effect.p_greater(), "note": note,
                }
            )  # fmt: skip
    pair = {n: [found[fit, n] for fit in FITS] for n in names}
    records = (
        _weaker(ids["residual_above_chance"], pair[primary], level),
        pair[primary][0].record(ids["least_squares_residual_above_chance"], side="greater", level=level),
        pair[primary][1].record(ids["trees_residual_above_chance"], side="greater", level=level),
        _weaker(ids["coexpression_residual_above_chance"], pair[COEXPRESSION], level),
    )
    results = tuple(
        result_of(
            inp, NAME, score=f"{name}, residual of {fit}", edges=edges, stream=inp.stream_name(stream),
            step="residual" if (name, fit) == (primary, FITS[1]) else "",
            estimate=found[fit, name].estimate(null_value=0.5, level=level),
        )
        for name in names
        for fit in FITS
    )  # fmt: skip
    kept = {(r["score"], r["fit"]): r["retention"] for r in rows}
    facts = {
        **counts_of(edges),
        "retention": {
            f"{n}, {fit}": None if np.isnan(kept[n, fit]) else float(kept[n, fit]) for n in names for fit in FITS
        },
        "raw_above_chance": bool(not raw[0].undefined and raw[0].bounds(level)[0] > 0),
    }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=records, facts=facts,
        tables={"residual": pd.DataFrame(rows, columns=TABLES["residual"])}, dropped=dropped_of(edges),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="What both genes' expression leaves",
    question="What is left of attention after the expression of both genes, learned on other genes, is taken out?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference"),
    plan=plan,
    run=run,
    reference="Chernozhukov et al. 2018, doi:10.1111/ectj.12097 (cross-fitting); Friedman 2001 (boosting)",
    falsified_by="A residual AUROC of 0.5, by least squares or by trees.",
    parameters={"folds": 5, "seeds": 10, "tree_folds": 3, "tree_seeds": 3, "tree_pairs": 8000},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
