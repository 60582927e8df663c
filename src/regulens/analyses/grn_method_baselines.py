"""How do dedicated network-inference methods do on the same cells, genes and pairs as attention?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

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
from regulens.analyses.inference import aurocs, effects_of
from regulens.analyses.top_of_list import top_of_list
from regulens.errors import ParameterError
from regulens.scorers.ensemble import ensemble_scores
from regulens.scorers.network_inference import FAST, check_methods, infer
from regulens.stats.inference import auroc_difference
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "grn_method_baselines"
ENSEMBLE = "ensemble"

#: Methods whose tests are planned: those of the default, and their ensemble.
PLANNED = (*FAST, ENSEMBLE)

DESIGNS = tuple(
    TestDesign(
        name=f"{method}_differs_from_attention",
        hypothesis=f"{method} and attention recover the reference to different degrees: the AUROCs differ",
        side="two-sided",
        method="t from the delete-one jackknife of the paired difference",
    )
    for method in PLANNED
)

TABLES = {
    "methods": [
        "method", "kind", "auroc", "low", "high", "difference", "difference_low", "difference_high", "p", "q", "auprc",
        "auprc_ratio", "epr", "rho_attention", "n_listed",
    ],
    "methods_at_k": ["method", "k", "precision", "precision_chance"],
}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference: every default method against attention."""
    return plan_tests(NAME, request, DESIGNS)


def scores_of(inp: AnalysisInput, methods: tuple[str, ...]) -> dict[str, EdgeScores]:
    """Scores of every method on the universe: those that were handed over, the others made here.

    An audit infers every network once and hands it to all models; called alone, the analysis infers by itself.
    """
    check_methods(methods)
    universe = inp.universe
    found = {}
    for method in methods:
        if method in inp.inferred:
            found[method] = inp.inferred[method].on(universe)
        else:
            found[method] = infer(
                method, inp.expression, genes=universe.genes, regulators=universe.regulators,
                seed=inp.request.settings.seed,
            )  # fmt: skip
    return found


def _renamed(scores: EdgeScores, name: str) -> EdgeScores:
    return EdgeScores(
        values=scores.values, observed=scores.observed, names=(name,), genes=scores.genes,
        regulators=scores.regulators, scorer=scores.scorer, provenance=dict(scores.provenance),
    )  # fmt: skip


def _at_k(edges: LabelledEdges, names: list[str], ks: tuple[int, ...]) -> pd.DataFrame:
    ks = tuple(k for k in ks if k <= len(edges.label))
    if not ks:
        return pd.DataFrame(columns=TABLES["methods_at_k"])
    precision = top_of_list(edges.scores, edges.label, ks)[1]
    chance = edges.n_pos / len(edges.label)
    rows = [(n, k, p, chance) for c, k in enumerate(ks) for n, p in zip(names, precision[:, c].tolist())]
    return pd.DataFrame(rows, columns=TABLES["methods_at_k"])


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    request, settings = inp.request, inp.request.settings
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    methods, tables = tuple(parameters["methods"]), dict(parameters["tables"])
    if lost := [t for t in tables if t not in inp.inferred]:
        message = f"Expected the scores of table '{lost[0]}', got none. Run the analysis in an audit, which reads it."
        raise ParameterError(message)
    level, primary = 1 - settings.alpha, request.primary
    own = scores_of(inp, methods)
    if len(own) > 1:
        own[ENSEMBLE] = ensemble_scores(list(own.values()))
    imported = {name: inp.inferred[name].on(inp.universe) for name in tables}
    # a score called like the primary one, or like a method, must not take its place
    sets = {f"method {n}": s for n, s in own.items()} | {f"table {n}": s for n, s in imported.items()}
    edges = edges_of(inp, inp.primary, *(_renamed(s, n) for n, s in sets.items()))
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("",))

    keys, names = list(sets), [*own, *imported]
    found = effects_of(aurocs(edges, [primary, *keys]), null_value=0.5)
    gaps = []
    if keys:
        against = auroc_difference(edges.scores[1:], edges.scores[0], edges.label, edges.regulator, edges.target)
        gaps = effects_of(against)
    defined = [k for k, g in enumerate(gaps) if not g.undefined]
    p = np.full(len(gaps), np.nan)
    p[defined] = [gaps[k].p_two_sided() for k in defined]
    q = np.full(len(gaps), np.nan)
    q[defined] = benjamini_hochberg(p[defined])

    records = []
    for method, design in zip(PLANNED, DESIGNS):
        test = test_id(NAME, request, design.name)
        if method in own:
            records.append(gaps[names.index(method)].record(test, side="two-sided", level=level))
        else:
            reason = "one method alone makes no ensemble" if method == ENSEMBLE else "the plan did not ask for it"
            records.append(TestRecord(id=test, undefined=reason))

    ap, early = top_of_list(edges.scores, edges.label, (edges.n_pos,))
    prevalence = edges.n_pos / len(edges.label)
    rows = []
    for k, name in enumerate([primary, *names]):
        at = found[k].cells(null_value=0.5, level=level)
        row = {
            "method": name, "kind": "attention" if k == 0 else "imported" if name in imported else "own",
            "auroc": at["value"], "low": at["low"], "high": at["high"], "auprc": float(ap[k]),
            "auprc_ratio": float(ap[k] / prevalence), "epr": float(early[k, 0] / prevalence),
            "rho_attention": 1.0 if k == 0 else _rho(edges.scores[0], edges.scores[k]),
            "n_listed": int(imported[name].provenance["listed"]) if name in imported else None,
        }  # fmt: skip
        if k:
            low, high = gaps[k - 1].bounds(level)
            row |= {"difference": gaps[k - 1].value, "difference_low": low, "difference_high": high,
                    "p": p[k - 1], "q": q[k - 1]}  # fmt: skip
        rows.append(row)
    table = pd.DataFrame(rows, columns=TABLES["methods"])
    table["n_listed"] = table["n_listed"].astype("Int64")

    results = []
    for k, name in enumerate(names):
        estimate = found[k + 1].estimate(null_value=0.5, level=level)
        results.append(result_of(inp, NAME, score=name, estimate=estimate, edges=edges))
        gap = gaps[k].estimate(null_value=0.0, level=level)
        results.append(
            result_of(
                inp, NAME, score=f"{name} - {primary}", estimate=gap, edges=edges, metric="auroc_difference",
                null_value=0.0,
            )
        )  # fmt: skip
    facts: dict[str, object] = {
        **counts_of(edges),
        "methods": names,
        "n_cells": int(inp.expression.shape[0]),
        "above_attention": [n for n, g, v in zip(names, gaps, q) if v < settings.alpha and g.value > 0],
        "below_attention": [n for n, g, v in zip(names, gaps, q) if v < settings.alpha and g.value < 0],
    }
    if defined:
        best = max(defined, key=lambda k: gaps[k].value)
        low, high = gaps[best].bounds(level)
        facts |= {"best_method": names[best], "best_difference": gaps[best].value, "best_difference_low": low,
                  "best_difference_high": high}  # fmt: skip
    settings_of = {n: dict(sorted(s.provenance.items())) for n, s in (own | imported).items()}
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=tuple(results),
        tables={"methods": table, "methods_at_k": _at_k(edges, [primary, *names], tuple(parameters["top_k"]))},
        records=tuple(records), facts=facts | {"method_settings": settings_of}, dropped=dropped_of(edges),
    )  # fmt: skip


def _rho(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Network-inference methods",
    question="How do dedicated network-inference methods do on the same cells, genes and pairs as attention?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference", "inferred"),
    plan=plan,
    run=run,
    reference="Huynh-Thu et al. 2010; Moerman et al. 2019; Marbach et al. 2012; Pratapa et al. 2020",
    falsified_by="Methods that see the cells only and recover the reference as well as attention, or better.",
    parameters={"methods": list(FAST), "tables": {}, "top_k": [100, 1000, 10000]},
)
