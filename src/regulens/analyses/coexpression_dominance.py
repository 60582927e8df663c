"""Is attention a re-weighted co-expression network?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

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
from regulens.analyses.dependence import jackknifed_correlations, partial, within_regulators
from regulens.analyses.edge_regression import edge_regression
from regulens.analyses.gene_model import normal_scores
from regulens.analyses.inference import aurocs, differences, effects_of
from regulens.stats.ranking import auroc
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "coexpression_dominance"

DESIGNS = (
    TestDesign(
        name="attention_differs_from_coexpression",
        hypothesis="Attention and absolute co-expression recover the reference to different degrees: the AUROCs differ",
        side="two-sided",
        method="t from the delete-one jackknife of the paired difference",
    ),
    TestDesign(
        name="attention_coefficient",
        hypothesis="Given co-expression and both genes' expression, more attention means higher odds of an edge",
        method="t of a logistic coefficient, one-step delete-one jackknife over regulators and targets",
    ),
)

TABLES = {
    "dominance": ["quantity", "value", "low", "high", "note"],
    "dominance_deciles": ["decile", "rho_low", "rho_high", "n_pos", "n_neg", "auroc_attention", "auroc_coexpression"],
    "dominance_hexbin": ["x", "y", "n"],
    "dominance_coefficients": ["feature", "coefficient", "low", "high", "p"],
}


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (DESIGNS[0],))
    return plan_tests(NAME, request, DESIGNS)


def _deciles(attention: np.ndarray, rho: np.ndarray, label: np.ndarray) -> pd.DataFrame:
    order = np.argsort(rho, kind="stable")
    rows = []
    for d, part in enumerate(np.array_split(order, 10)):
        y = label[part]
        both = auroc(np.stack([attention[part], rho[part]]), y)
        rows.append((d + 1, float(rho[part].min()), float(rho[part].max()), int(y.sum()), int(len(y) - y.sum()),
                     float(both[0]), float(both[1])))  # fmt: skip
    return pd.DataFrame(rows, columns=TABLES["dominance_deciles"])


def _bins(attention: np.ndarray, rho: np.ndarray, n_bins: int) -> pd.DataFrame:
    """Counts on a grid of \\|rho\\| and the rank quantile of attention; empty cells left out."""
    quantile = (rankdata(attention) - 0.5) / len(attention)
    top = max(float(rho.max()), 1e-12)
    n, x_edge, y_edge = np.histogram2d(rho, quantile, bins=n_bins, range=[[0.0, top], [0.0, 1.0]])
    i, j = np.nonzero(n)
    return pd.DataFrame(
        {
            "x": (x_edge[i] + x_edge[i + 1]) / 2,
            "y": (y_edge[j] + y_edge[j + 1]) / 2,
            "n": n[i, j].astype(np.int64),
        }
    )


def _features(inp: AnalysisInput, edges: LabelledEdges, attention: np.ndarray, rho: np.ndarray) -> pd.DataFrame:
    """Columns of the logistic model, all normal scores; co-expression with its square, lest attention stand in."""
    own = inp.universe.regulator_columns()
    a, c = normal_scores(attention), normal_scores(rho)
    columns = {"attention": a, "coexpression_abs": c, "coexpression_abs squared": (c**2 - 1) / np.sqrt(2)}
    for name in ("mean", "variance", "detection"):
        z = normal_scores(getattr(inp.features, name))
        columns[f"source_{name}"] = z[own][edges.regulator]
        columns[f"target_{name}"] = z[edges.target]
    return pd.DataFrame(columns)


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return _published(inp)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    edges = edges_of(inp, inp.primary, inp.coexpression.select(["coexpression_abs", "coexpression_signed"]))
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("coexpression",))
    attention, rho, signed = edges.scores
    own = inp.universe.regulator_columns()
    n_genes, n_reg = len(inp.universe.genes), len(own)

    both = effects_of(aurocs(edges, [primary, "coexpression_abs"]), null_value=0.5)
    gap = effects_of(differences(edges, primary, ["coexpression_abs"]))[0]
    fitted = edge_regression(
        (table := _features(inp, edges, attention, rho)).to_numpy(), edges.label, edges.regulator, edges.target
    )
    coefficients = effects_of(fitted)
    records = (
        gap.record(ids["attention_differs_from_coexpression"], side="two-sided", level=level),
        coefficients[0].record(ids["attention_coefficient"], side="greater", level=level),
    )

    variables = np.stack([rankdata(attention), rankdata(rho), rankdata(signed), edges.label.astype(np.float64)])
    place = {"own": own, "regulator": edges.regulator, "target": edges.target, "n_genes": n_genes, "level": level}
    found: dict[str, Estimate | Undefined] = jackknifed_correlations(
        variables,
        {
            "spearman_abs": lambda r: r[:, 0, 1],
            "spearman_signed": lambda r: r[:, 0, 2],
            "label_correlation": lambda r: r[:, 0, 3],
            "label_partial_correlation": lambda r: partial(r[:, 0, 3], r[:, 0, 1], r[:, 1, 3]),
        },
        **place,
    )
    found["spearman_within_regulator"] = within_regulators(
        attention, rho, regulator=edges.regulator, target=edges.target, n_regulators=n_reg, n_genes=n_genes, level=level
    )
    found["auroc_attention"] = both[0].estimate(null_value=0.5, level=level)
    found["auroc_coexpression"] = both[1].estimate(null_value=0.5, level=level)
    found["auroc_difference"] = gap.estimate(null_value=0.0, level=level)
    found["attention_coefficient"] = coefficients[0].estimate(null_value=0.0, level=level)
    notes = {
        "spearman_abs": "attention and |Spearman rho| over all pairs",
        "spearman_signed": "attention and signed Spearman rho over all pairs",
        "label_correlation": "attention ranks and the label; near 0 for any score when edges are rare",
        "label_partial_correlation": "the same given the ranks of |rho|",
        "spearman_within_regulator": "attention and |rho| among the targets of one regulator, mean over regulators",
        "auroc_attention": "on the same pairs",
        "auroc_coexpression": "on the same pairs",
        "auroc_difference": "attention minus co-expression, paired",
        "attention_coefficient": "log odds per standard deviation of attention's normal scores",
    }
    rows = []
    for name, note in notes.items():
        e = found[name]
        if isinstance(e, Undefined):
            rows.append((name, np.nan, np.nan, np.nan, f"{note}; undefined: {e.reason}"))
        else:
            rows.append((name, e.value, e.low, e.high, note))
    fits = []
    for feature, c in zip(table.columns, coefficients):
        low, high = c.bounds(level)
        p = np.nan if c.undefined else c.p_two_sided()
        fits.append((feature, c.value, low, high, p))
    tables = {
        "dominance": pd.DataFrame(rows, columns=TABLES["dominance"]),
        "dominance_deciles": _deciles(attention, rho, edges.label),
        "dominance_hexbin": _bins(attention, rho, int(inp.parameters.get("bins", SPEC.parameters["bins"]))),
        "dominance_coefficients": pd.DataFrame(fits, columns=TABLES["dominance_coefficients"]),
    }
    results = (
        result_of(inp, NAME, score="coexpression_abs", estimate=found["auroc_coexpression"], edges=edges,
                  step="coexpression"),
        result_of(inp, NAME, score=f"{primary} - coexpression_abs", estimate=found["auroc_difference"], edges=edges,
                  metric="auroc_difference", null_value=0.0),
        result_of(inp, NAME, score=primary, estimate=found["attention_coefficient"], edges=edges,
                  metric="log_odds_per_sd", null_value=0.0),
        *(
            result_of(inp, NAME, score=primary, estimate=found[m], edges=edges, metric=m, null_value=0.0)
            for m in ("spearman_abs", "spearman_signed", "spearman_within_regulator", "label_partial_correlation")
        ),
    )  # fmt: skip
    facts: dict[str, object] = {**counts_of(edges), "same_cells": True, "n_cells": int(inp.expression.shape[0])}
    if not gap.undefined:
        facts["tost_p"] = gap.p_equivalent(settings.seoi)
    if not both[0].undefined:
        facts["auroc_low"] = 0.5 + both[0].bounds(level)[0]
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, tables=tables,
        records=records, facts=facts, dropped=dropped_of(edges),
    )  # fmt: skip


def _published(inp: AnalysisInput) -> AnalysisOutcome:
    """Spearman of attention with co-expression and with the binary label over all pairs, pairs as independent."""
    from scipy.stats import spearmanr

    from regulens.analyses.recovery_published import zero_filled

    edges = LabelledEdges.build(
        [zero_filled(inp, inp.primary), zero_filled(inp, inp.coexpression.select(["coexpression_abs"]))], inp.universe
    )
    columns = ["quantity", "value", "p", "n_pairs"]
    if reason := refusal(edges):
        return refused(inp, NAME, (DESIGNS[0],), reason, edges=edges, tables={"published": columns}, steps=("",))
    rows = []
    for name, other in (("with_coexpression", edges.scores[1]), ("with_label", edges.label.astype(np.float64))):
        constant = np.ptp(edges.scores[0]) == 0 or np.ptp(other) == 0
        rho, p = (np.nan, np.nan) if constant else spearmanr(edges.scores[0], other)
        rows.append((name, float(rho), float(p), len(edges.label)))
    value, p = rows[0][1], rows[0][2]
    test = test_id(NAME, inp.request, DESIGNS[0].name)
    if np.isfinite(value):
        smallest = np.finfo(np.float64).tiny  # a p below the smallest float is reported as that
        record = TestRecord(id=test, effect=value, p_raw=max(p, smallest), n_units=len(edges.label))
    else:
        record = TestRecord(id=test, undefined="a score does not vary", n_units=len(edges.label))
    return AnalysisOutcome(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference, results=(), records=(record,),
        tables={"published": pd.DataFrame(rows, columns=columns)}, facts=counts_of(edges),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Co-expression dominance",
    question="Is attention a re-weighted co-expression network?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference"),
    plan=plan,
    run=run,
    reference="Spearman 1904; Bell & McCaffrey 2002; Schuirmann 1987",
    falsified_by="Co-expression that recovers the reference as well as attention, or an attention coefficient of 0 "
    "once co-expression is in the model.",
    parameters={"bins": 40},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
