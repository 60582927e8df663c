"""Does attention separate true pairs from pairs of genes that are expressed alike?"""

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
    shared_pairs,
    test_id,
)
from regulens.analyses.conditional import conditional_inference, wins
from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.matched_published import run_published
from regulens.nulls.entropy_balance import balance_weights
from regulens.nulls.expression_matched import MatchedPairs, match_pairs
from regulens.stats.inference import auroc_inference
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import PlannedTest
from regulens.types.results import AnalysisOutcome

NAME = "expression_matched"

DESIGNS = (
    TestDesign(
        name="matched_above_chance",
        hypothesis="A reference edge scores above its own expression-matched negatives: conditional AUROC > 0.5",
    ),
    TestDesign(
        name="matched_above_marginal_product",
        hypothesis="On matched pairs attention differs from the product of its own row and column means",
        side="two-sided",
        method="t from the delete-one jackknife of the paired difference",
    ),
    TestDesign(
        name="matching_balanced",
        hypothesis="On matched pairs the product of mean expressions has an AUROC of 0.5 within the smallest effect of "
        "interest",
        side="two-sided",
        method="two one-sided t tests (TOST)",
        confirmatory=False,
    ),
)

TABLES = {
    "matched": ["score", "form", "auroc", "low", "high", "n_pos", "n_neg", "n_regulators"],
    "matched_balance": ["side", "feature", "smd_before", "smd_after"],
    "matched_unmatched": ["regulator", "target", "reason"],
}

#: Features that must be balanced for a verdict. Out-degree cannot be matched on: it is made of the labels.
MATCHED_FEATURES = ("mean", "detection", "variance")


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (DESIGNS[0],))
    return plan_tests(NAME, request, DESIGNS)


def negative_weights(inp: AnalysisInput, pairs: MatchedPairs) -> np.ndarray:
    """Entropy-balancing weights, ``(negative,)``, on mean, variance and detection of both genes.

    Balanced are the differences (relative for mean and variance) and their signs: the conditional AUROC counts how
    often a positive is above, so as many negatives must lie above it as below.
    """
    own, f = inp.universe.regulator_columns(), inp.features
    owner = pairs.owner
    columns = []
    for pos, neg in (
        (own[pairs.pos_regulator][owner], own[pairs.neg_regulator]),
        (pairs.pos_target[owner], pairs.neg_target),
    ):
        for x in (f.mean, f.variance):
            columns.append((x[neg] - x[pos]) / x[pos])  # observed pairs have genes that vary, so both are positive
        columns.append(f.detection[neg] - f.detection[pos])
    difference = np.column_stack(columns)
    return balance_weights(np.column_stack([difference, np.sign(difference)]), owner)


def balance(inp: AnalysisInput, pairs: MatchedPairs, allowed: np.ndarray, weight: np.ndarray) -> pd.DataFrame:
    """Absolute standardised mean differences of positives and negatives before and after matching and weighting.

    Both are over the standard deviations before matching, ``sqrt((s_pos^2 + s_neg^2) / 2)``; after matching every
    positive's negatives together weigh as much as the positive.
    """
    positive = inp.universe.positive & shared_pairs(inp)
    own = inp.universe.regulator_columns()
    degree = np.zeros(len(inp.universe.genes))
    degree[own] = inp.universe.positive.sum(axis=1)
    table = {"mean": inp.features.mean, "detection": inp.features.detection, "variance": inp.features.variance,
             "out_degree": degree}  # fmt: skip
    rows = []
    for side in ("source", "target"):
        for name, x in table.items():
            if side == "source":
                grid, after_pos, after_neg = x[own][:, None], x[own][pairs.pos_regulator], x[own][pairs.neg_regulator]
            else:
                grid, after_pos, after_neg = x[None, :], x[pairs.pos_target], x[pairs.neg_target]
            grid = np.broadcast_to(grid, positive.shape)
            a, b = grid[positive], grid[allowed]
            sd = float(np.sqrt((a.var() + b.var()) / 2))
            before = abs(float(a.mean() - b.mean()))
            after = abs(float(after_pos.mean() - np.average(after_neg, weights=weight))) if pairs.n_pos else np.nan
            rows.append((side, name, before / sd if sd > 0 else 0.0, after / sd if sd > 0 else 0.0))
    return pd.DataFrame(rows, columns=TABLES["matched_balance"])


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME, DESIGNS[0])
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    edges = edges_of(inp, inp.primary)
    steps = ("matched", "matched_baseline")
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=steps)
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    shared = shared_pairs(inp)
    positive, allowed = shared & inp.universe.positive, shared & ~inp.universe.positive
    stream = f"matching/{NAME}"
    pairs = match_pairs(
        positive, allowed, mean=inp.features.mean, detection=inp.features.detection,
        own=inp.universe.regulator_columns(), rng=inp.rng(stream), **parameters,
    )  # fmt: skip
    genes, regulators = np.array(inp.universe.genes, dtype=object), np.array(inp.universe.regulators, dtype=object)
    unmatched = pd.DataFrame(
        {
            "regulator": regulators[pairs.unmatched[:, 0]],
            "target": genes[pairs.unmatched[:, 1]],
            "reason": "no pair of equally expressed genes, even with the wider tolerance",
        }
    )
    n_reg = len(np.unique(pairs.pos_regulator))
    if pairs.n_pos < 5 or n_reg < 3:
        reason = f"{pairs.n_pos} positives of {n_reg} regulators have matched negatives; 5 and 3 are needed"
        outcome = refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=steps)
        outcome.tables["matched_unmatched"] = unmatched
        return outcome

    names = [primary, "marginal_product", "product_mean", "coexpression_abs"]
    values = np.concatenate(
        [
            inp.primary.values, inp.baselines.select(["marginal_product", "product_mean"]).values,
            inp.coexpression.select(["coexpression_abs"]).values,
        ]
    )  # fmt: skip
    h = wins(pairs, values)
    weight = negative_weights(inp, pairs)
    found = effects_of(conditional_inference(pairs, h, weight=weight), null_value=0.5)
    gap = effects_of(conditional_inference(pairs, h[[0]] - h[[1]], weight=weight))[0]
    stacked = np.concatenate(
        [values[:, pairs.pos_regulator, pairs.pos_target], values[:, pairs.neg_regulator, pairs.neg_target]], axis=1
    )
    pooled = effects_of(
        auroc_inference(
            stacked,
            np.arange(stacked.shape[1]) < pairs.n_pos,
            np.concatenate([pairs.pos_regulator, pairs.neg_regulator]),
            np.concatenate([pairs.pos_target, pairs.neg_target]),
        ),
        null_value=0.5,
    )
    n_neg = len(pairs.neg_regulator)

    def row(name: str, form: str, effect: Effect) -> dict[str, object]:
        at = effect.cells(null_value=0.5, level=level)
        return {"score": name, "form": form, "auroc": at["value"], "low": at["low"], "high": at["high"],
                "n_pos": pairs.n_pos, "n_neg": n_neg, "n_regulators": n_reg}  # fmt: skip

    rows = [row(n, "conditional", e) for n, e in zip(names, found)] + [
        row(n, "pooled", e) for n, e in zip(names, pooled)
    ]
    smd = balance(inp, pairs, allowed, weight)
    matched_smd = smd.loc[smd["feature"].isin(MATCHED_FEATURES), "smd_after"]
    records = (
        found[0].record(ids["matched_above_chance"], side="greater", level=level),
        gap.record(ids["matched_above_marginal_product"], side="two-sided", level=level),
        found[2].record(
            ids["matching_balanced"], side="two-sided", level=level,
            p_raw=None if found[2].undefined else found[2].p_equivalent(settings.seoi),
        ),
    )  # fmt: skip
    used = len(np.unique(pairs.neg_regulator * len(genes) + pairs.neg_target))
    common = {"edges": edges, "n_pos": pairs.n_pos, "n_neg": used, "n_regulators": n_reg}
    results = (
        result_of(inp, NAME, score=primary, estimate=found[0].estimate(null_value=0.5, level=level), step="matched",
                  stream=inp.stream_name(stream), **common),
        result_of(inp, NAME, score="marginal_product", estimate=found[1].estimate(null_value=0.5, level=level),
                  step="matched_baseline", stream=inp.stream_name(stream), **common),
        result_of(inp, NAME, score=f"{primary} - marginal_product", metric="auroc_difference", null_value=0.0,
                  estimate=gap.estimate(null_value=0.0, level=level), **common),
        result_of(inp, NAME, score=f"{primary}, pooled form", estimate=pooled[0].estimate(null_value=0.5, level=level),
                  **common),
    )  # fmt: skip
    facts = {
        **counts_of(edges),
        "n_matched": pairs.n_pos,
        "n_unmatched": len(pairs.unmatched),
        "n_widened": pairs.n_widened,
        "n_matched_regulators": n_reg,
        "negatives_per_positive_median": float(np.median(np.diff(pairs.start))),
        "max_smd": float(matched_smd.max()),
        "max_smd_feature": " ".join(smd.loc[matched_smd.idxmax(), ["side", "feature"]]),
    }
    dropped = dropped_of(edges) | {
        "positives without matched negatives": len(pairs.unmatched),
        "positives with widened tolerances": pairs.n_widened,
    }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=records, facts=facts,
        tables={"matched": pd.DataFrame(rows, columns=TABLES["matched"]), "matched_balance": smd,
                "matched_unmatched": unmatched},
        dropped=dropped,
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Expression-matched negatives",
    question="Does attention separate true pairs from pairs of genes that are expressed alike?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference"),
    plan=plan,
    run=run,
    reference="Hanley & McNeil 1982; Hainmueller 2012 (entropy balancing); Stuart 2010 (balance)",
    falsified_by="A conditional AUROC of 0.5, or one that attention's own row and column means reach as well.",
    parameters={"tolerance": 0.2, "widened": 0.4, "min_candidates": 5, "max_negatives": 50},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
