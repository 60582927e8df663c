"""Is recovery carried by a few regulators? AUROC of each, how much they differ, and what the difference goes with."""

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
from regulens.analyses.inference import above_half, aurocs, effects_of
from regulens.analyses.per_regulator import (
    Regulators,
    covariate_permutation,
    evaluate_regulators,
    spread_permutation,
)
from regulens.analyses.reference_slices import ReferenceEdges, reference_edges
from regulens.analyses.tf_published import GROUPS_DIFFER, run_published
from regulens.stats.heterogeneity import RandomEffects, leave_one_out_means, random_effects
from regulens.stats.inference import mean_inference
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.stats.power import auroc_se_at
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "tf_resolution"
MIN_UNITS = 5

# Regulators share targets, and a permutation of regulators holds targets fixed: with strong hubs it finds that AUROC
# goes with regulon size in more than 5 % of worlds without signal. The covariates are therefore descriptive.
_PERMUTED = "permutation of regulators"

DESIGNS = (
    TestDesign(
        name="regulators_differ",
        hypothesis="Regulators differ in how well attention ranks their targets, by more than the draw of targets "
        "explains",
        unit="regulator",
        method="permutation of the positives' placements among regulators, weighted sum of squares",
    ),
    TestDesign(
        name="goes_with_regulon_size",
        hypothesis="A regulator's AUROC goes with the number of its targets",
        side="two-sided", unit="regulator", method=f"Spearman, {_PERMUTED}", confirmatory=False,
    ),
    TestDesign(
        name="goes_with_expression",
        hypothesis="A regulator's AUROC goes with its mean expression",
        side="two-sided", unit="regulator", method=f"Spearman, {_PERMUTED}", confirmatory=False,
    ),
    TestDesign(
        name="goes_with_evidence",
        hypothesis="A regulator's AUROC goes with how well its edges are supported in the reference",
        side="two-sided", unit="regulator", method=f"Spearman, {_PERMUTED}", confirmatory=False,
    ),
)  # fmt: skip

TABLES = {
    "per_tf": [
        "regulator", "n_pos", "n_neg", "auroc", "low", "high", "se", "shrunk", "shrunk_low", "shrunk_high", "p", "q",
        "auroc_without", "mean_without", "expression", "evidence_strength", "note",
    ],
    "tf_summary": ["quantity", "value", "low", "high", "n_tf", "note"],
    "tf_covariates": ["covariate", "n_tf", "rho", "p", "q", "note"],
    "tf_signs": ["slice", "n_pos", "n_regulators", "auroc", "low", "high", "n_tf", "n_above_chance", "mean_tf_auroc"],
    "tf_rest": ["regulator", "n_pos", "n_neg", "auroc"],
}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (GROUPS_DIFFER,))
    return plan_tests(NAME, request, DESIGNS)


def mean_of(values: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Mean of `values` by owner, shape ``(n,)``; NaN for an owner without a value."""
    total, count = np.bincount(owner, weights=values, minlength=n), np.bincount(owner, minlength=n)
    return np.divide(total, count, out=np.full(n, np.nan), where=count > 0)


def _signs(inp: AnalysisInput, edges: LabelledEdges, listed: ReferenceEdges, min_pos: int) -> pd.DataFrame:
    """The whole reference beside its edges of known sign: an edge known only to exist is more often circular."""
    if not listed.has_signs:
        return pd.DataFrame(columns=TABLES["tf_signs"])
    level = 1 - inp.request.settings.alpha
    grid = np.zeros(inp.universe.positive.shape, dtype=bool)
    grid[listed.regulator, listed.target] = listed.sign != 0
    rows = []
    for name, keep in (
        ("all edges", np.ones(len(edges.label), dtype=bool)),
        ("known sign", ~edges.label | grid[edges.regulator, edges.target]),
    ):
        part = edges.restrict(keep)
        found = aurocs(part, [inp.request.primary])
        at = effects_of(found, null_value=0.5)[0].cells(null_value=0.5, level=level)
        each = evaluate_regulators(part, 0, min_positives=min_pos)
        low, _ = each.interval(level)
        rows.append(
            (name, part.n_pos, counts_of(part)["n_regulators"], at["value"], at["low"], at["high"], len(each.row),
             int((low > 0.5).sum()), float(each.auroc.mean()) if len(each.row) else np.nan)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=TABLES["tf_signs"])


def _bootstrap(each: Regulators, *, level: float, draws: int, rng: np.random.Generator) -> Estimate | Undefined:
    """Unweighted mean AUROC over regulators, resampling regulators."""
    k = len(each.auroc)
    means = each.auroc[rng.integers(k, size=(draws, k))].mean(axis=1)
    return Estimate.from_draws(
        float(each.auroc.mean()), means, level=level, n_units=k, unit="regulator",
        method=f"bootstrap over regulators, percentile, B={draws}",
    )  # fmt: skip


def _covariates(
    inp: AnalysisInput, each: Regulators, strength: np.ndarray | None, *, ids: dict[str, str]
) -> tuple[pd.DataFrame, list[TestRecord]]:
    """Spearman of the AUROCs with what is known of the regulators."""
    draws = inp.request.settings.permutations
    own = inp.universe.regulator_columns()[each.row]
    table = {
        "regulon_size": each.n_pos.astype(np.float64),
        "expression": inp.features.mean[own] if inp.has_expression else None, "evidence": strength,
    }  # fmt: skip
    absent = {
        "expression": "there are no cells to read expression in",
        "evidence": "the reference does not say how well its edges are supported, or says the same of all",
    }
    rows, records = [], []
    for name, x in table.items():
        test, use = ids[f"goes_with_{name}"], f"permutation/{NAME}/{name}"
        if x is None:
            reason = absent[name]
        elif len(each.row) < MIN_UNITS:
            reason = f"{len(each.row)} regulators have an AUROC of their own; {MIN_UNITS} are needed"
        elif np.ptp(x) == 0 or np.ptp(each.auroc) == 0:
            reason = f"{name.replace('_', ' ')} or AUROC is the same for all regulators"
        else:
            rho, p = covariate_permutation(each.auroc, x, draws=draws, rng=inp.rng(use))
            rows.append((name, len(x), rho, p, ""))
            records.append(TestRecord(id=test, statistic=rho, effect=rho, p_raw=p, n_units=len(x),
                                      stream=inp.stream_name(use)))  # fmt: skip
            continue
        rows.append((name, len(each.row), np.nan, np.nan, reason))
        records.append(TestRecord(id=test, undefined=reason, n_units=len(each.row)))
    frame = pd.DataFrame(rows, columns=["covariate", "n_tf", "rho", "p", "note"])
    q = np.full(len(frame), np.nan)
    given = frame["p"].notna().to_numpy()
    q[given] = benjamini_hochberg(frame.loc[given, "p"].to_numpy())
    return frame.assign(q=q)[TABLES["tf_covariates"]], records


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    min_pos = int(inp.parameters.get("min_positives", SPEC.parameters["min_positives"]))
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    edges = edges_of(inp, inp.primary)
    reason = refusal(edges)
    each = evaluate_regulators(edges, 0, min_positives=min_pos)
    if not reason and len(each.row) < 3:
        reason = f"{len(each.row)} regulators have {min_pos} positives or more; 3 are needed"
    if reason:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("",))

    names = np.array(inp.universe.regulators, dtype=object)
    listed = reference_edges(inp.universe, inp.networks.get(request.reference))
    strength = listed.strength()
    if strength is not None:
        strength = mean_of(strength, listed.regulator, len(names))[each.row]
        if np.ptp(strength) == 0:
            strength = None

    # Errors at the common value: DeLong's own would weigh most the regulators that came out extreme.
    common = float(np.clip(each.n_pos @ each.auroc / each.n_pos.sum(), 0.05, 0.95))
    se = np.array([auroc_se_at(common, int(p), int(n)) for p, n in zip(each.n_pos, each.n_neg)])
    effects = random_effects(each.auroc, se, level=level, unit="regulator")
    assert isinstance(effects, RandomEffects)  # 3 or more regulators
    without = leave_one_out_means(each.auroc, se)
    use = f"permutation/{NAME}/spread"
    observed, null = spread_permutation(each, draws=settings.permutations, rng=inp.rng(use))
    records: list[TestRecord] = []
    if np.ptp(edges.scores[0]) == 0:
        p_spread = np.nan
        records.append(TestRecord(id=ids["regulators_differ"], undefined="the score is constant",
                                  n_units=len(each.row)))  # fmt: skip
    else:
        p_spread = float((1 + np.count_nonzero(null >= observed * (1 - 1e-12))) / (1 + len(null)))
        records.append(
            TestRecord(
                id=ids["regulators_differ"], statistic=observed, effect=float(np.sqrt(effects.tau2)), p_raw=p_spread,
                n_units=len(each.row), stream=inp.stream_name(use),
            )
        )  # fmt: skip
    covariates, more = _covariates(inp, each, strength, ids=ids)
    records += more

    pooled_found = aurocs(edges, [primary])
    pooled = above_half(edges, primary)
    present = np.unique(edges.regulator)
    pooled_without = pooled_found.regulator[0][np.searchsorted(present, each.row)] + pooled_found.estimate[0]
    low, high = each.interval(level)
    p = each.p_greater()
    q = np.full(len(p), np.nan)
    q[np.isfinite(p)] = benjamini_hochberg(p[np.isfinite(p)])
    own = inp.universe.regulator_columns()[each.row]
    per_tf = pd.DataFrame(
        {
            "regulator": names[each.row], "n_pos": each.n_pos, "n_neg": each.n_neg, "auroc": each.auroc, "low": low,
            "high": high, "se": each.se, "shrunk": effects.shrunk, "shrunk_low": effects.shrunk_low,
            "shrunk_high": effects.shrunk_high, "p": p, "q": q, "auroc_without": pooled_without,
            "mean_without": np.full(len(p), np.nan) if isinstance(without, Undefined) else without,
            "expression": inp.features.mean[own],
            "evidence_strength": np.full(len(p), np.nan) if strength is None else strength, "note": each.undefined,
        }
    ).sort_values(["auroc", "regulator"], ascending=[False, True], kind="stable", ignore_index=True)  # fmt: skip

    boot_use = f"bootstrap/{NAME}/regulators"
    boot = _bootstrap(each, level=level, draws=settings.bootstrap, rng=inp.rng(boot_use))
    at = pooled.cells(null_value=0.5, level=level)
    k = len(each.row)
    most = per_tf.iloc[(per_tf["auroc_without"] - pooled_found.estimate[0]).abs().argmax()]
    mean = effects.mean
    two_way = effects_of(
        mean_inference(
            each.placement,
            np.repeat(each.row, each.n_pos),
            each.positive_target,
            weight=np.repeat(1 / each.n_pos, each.n_pos),
        )
    )[0]
    mean_at = two_way.cells(null_value=0.0, level=level)
    boot_low, boot_high = (boot.low, boot.high) if isinstance(boot, Estimate) else (np.nan, np.nan)
    summary = [
        ("mean_of_regulators", mean_at["value"], mean_at["low"], mean_at["high"], k, two_way.method),
        ("mean_resampled", float(each.auroc.mean()), boot_low, boot_high, k,
         "regulators resampled, targets held fixed"),
        ("mean_random_effects", mean.value, mean.low, mean.high, k, f"{mean.method}; targets held fixed"),
        ("new_regulator", mean.value, *effects.prediction, k, "where the AUROC of another regulator is expected"),
        ("sd_between_regulators", float(np.sqrt(effects.tau2)), np.nan, np.nan, k, "beyond the draw of targets"),
        ("share_beyond_error", effects.i2, np.nan, np.nan, k, "share of the spread that is not error (I²)"),
        ("pooled_all_pairs", at["value"], at["low"], at["high"], counts_of(edges)["n_regulators"],
         "all regulators' pairs in one ranking"),
        ("pooled_without_one", float(most["auroc_without"]), float(per_tf["auroc_without"].min()),
         float(per_tf["auroc_without"].max()), k,
         f"moves most without {most['regulator']}; limits are the extremes over regulators"),
    ]  # fmt: skip
    rest = evaluate_regulators(edges, 0, min_positives=1)
    few = rest.n_pos < min_pos
    facts = {
        **counts_of(edges),
        "n_tf": k,
        "n_tf_above_chance": int((low > 0.5).sum()),
        "tau": float(np.sqrt(effects.tau2)),
        "mean_tf_auroc": float(each.auroc.mean()),
        "spread_p": None if np.isnan(p_spread) else p_spread,
        "most_influential": str(most["regulator"]),
    }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference,
        results=(
            result_of(inp, NAME, score=f"{primary}, mean over regulators", metric="mean_regulator_auroc",
                      estimate=two_way.estimate(null_value=0.0, level=level), edges=edges, n_pos=int(each.n_pos.sum()),
                      n_regulators=k),
            result_of(inp, NAME, score=f"{primary}, mean over regulators, resampled", metric="mean_regulator_auroc",
                      estimate=boot, edges=edges, n_pos=int(each.n_pos.sum()), n_regulators=k,
                      stream=inp.stream_name(boot_use)),
        ),
        tables={
            "per_tf": per_tf[TABLES["per_tf"]],
            "tf_summary": pd.DataFrame(summary, columns=TABLES["tf_summary"]),
            "tf_covariates": covariates,
            "tf_signs": _signs(inp, edges, listed, min_pos),
            "tf_rest": pd.DataFrame(
                {"regulator": names[rest.row[few]], "n_pos": rest.n_pos[few], "n_neg": rest.n_neg[few],
                 "auroc": rest.auroc[few]}
            ),
        },
        records=tuple(records), facts=facts,
        dropped=dropped_of(edges) | {f"regulators with fewer than {min_pos} positives": int(few.sum())},
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Resolution by regulator",
    question="Is recovery carried by a few regulators?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "reference"),
    plan=plan,
    run=run,
    reference="DeLong, DeLong & Clarke-Pearson 1988; DerSimonian & Laird 1986; Hartung & Knapp 2001; Efron & Morris "
    "1975",
    falsified_by="An AUROC of the pooled pairs that falls to chance without one regulator, or regulators that differ "
    "only as much as the draw of their targets makes them differ.",
    parameters={"min_positives": 3, "master_regulators": []},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
