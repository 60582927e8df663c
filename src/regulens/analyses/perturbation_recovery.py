"""Does the score of (perturbed gene → gene) say which genes respond when the gene is perturbed?

One AUROC per perturbation, averaged; beside it all pairs in one ranking. Attention is that of control cells only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.inference import effects_of
from regulens.analyses.layer_hierarchy import layer_names
from regulens.analyses.nested_perturbations import nested_over_perturbations
from regulens.analyses.per_perturbation import (
    METHOD,
    RECALL_AT,
    UNIT,
    PerPerturbation,
    clusters_of,
    screen_refused,
    screen_result_of,
)
from regulens.analyses.perturbation_published import PUBLISHED_DESIGNS, run_published
from regulens.stats.cluster import max_t_p
from regulens.stats.rank_tests import RankTest
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "perturbation_recovery"
COEXPRESSION = "coexpression_abs"

#: What a flag of the design says when it makes effects of replicates look like effects of perturbations.
CONFOUNDED = "confounded with perturbations"

DESIGNS = (
    TestDesign(
        name="mean_above_chance",
        hypothesis="The pre-specified attention score ranks the genes that respond to a perturbation above the "
        "others: mean AUROC over perturbations > 0.5",
        unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="attention_minus_coexpression",
        hypothesis="Attention and co-expression differ in how they rank the genes that respond: mean paired "
        "difference of AUROC is not 0",
        side="two-sided", unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="layer_nested_above_chance",
        hypothesis="A layer chosen on some perturbations and genes ranks the genes that respond to other "
        "perturbations above others: mean AUROC > 0.5",
        unit=UNIT, method="delete-one jackknife over perturbations and over target genes, tails drawn with the choice",
    ),
    TestDesign(
        name="attention_minus_coexpression_ranks",
        hypothesis="Attention and co-expression differ in AUROC over perturbations, given these genes",
        side="two-sided", unit="perturbation", method="Wilcoxon signed-rank over perturbations, genes held fixed",
        confirmatory=False,  # perturbations share genes: its p is not held to its level for other genes
    ),
    TestDesign(
        name="attention_equals_coexpression",
        hypothesis="Attention and co-expression differ by less than the smallest AUROC difference of interest",
        side="two-sided", unit=UNIT, method=f"two one-sided tests, {METHOD}", confirmatory=False,
    ),
)  # fmt: skip

_CHOSEN = "layer chosen on other perturbations and genes"

TABLES = {
    "pert_auroc": [
        "perturbation", "score", "n_pos", "n_neg", "auroc", "auprc", "prevalence",
        *(f"recall_at_{k}" for k in RECALL_AT),
    ],
    "pert_summary": [
        "score", "direction", "n_perturbations", "auroc", "low", "high", "se", "fixed_genes_low", "fixed_genes_high",
        "median", "sd", "above_half", "pooled_auroc", "pooled_low", "pooled_high", "auprc", "prevalence", "auprc_ratio",
        *(name for k in RECALL_AT for name in (f"recall_at_{k}", f"recall_at_{k}_chance")), "note",
    ],
    "pert_layers": [
        "score", "layer", "direction", "auroc", "low", "high", "p_maxt", "beyond_coexpression", "beyond_low",
        "beyond_high",
    ],
    "pert_contrasts": [
        "score", "rival", "delta", "delta_low", "delta_high", "se", "p", "tost_p", "fixed_genes_low",
        "fixed_genes_high", "wilcoxon_p", "wins", "note",
    ],
    "pert_nested": ["block", "layer", "auroc"],
    "pert_fidelity": ["perturbation", "evaluated", "n_pos", "auroc", "reason"],
}  # fmt: skip

#: Rivals of the paired table: what is known of the genes alone, chance, and attention's own margins.
RIVALS = ("marginal_product", "target_mean", "target_variance", "target_detection", "random")


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and screen."""
    endpoint = Endpoint.PERTURBATION_RESPONSE
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, PUBLISHED_DESIGNS, endpoint=endpoint)
    return plan_tests(NAME, request, DESIGNS, endpoint=endpoint)


def _clusters(inp: AnalysisInput) -> np.ndarray | None:
    return clusters_of(inp.universe.regulators, inp.parameters.get("complexes", SPEC.parameters["complexes"]))


def _renamed(scores: EdgeScores, suffix: str) -> EdgeScores:
    return EdgeScores(
        values=scores.values, observed=scores.observed, names=tuple(f"{n} {suffix}" for n in scores.names),
        genes=scores.genes, regulators=scores.regulators, direction=scores.direction, layers=scores.layers,
        heads=scores.heads,
    )  # fmt: skip


def _summary(inp: AnalysisInput, per: PerPerturbation, directions: dict[str, str]) -> pd.DataFrame:
    """Every score: the mean with both errors, the pooled AUROC, the top of the list."""
    settings = inp.request.settings
    level, names = 1 - settings.alpha, list(directions)
    mean, fixed, pooled = per.mean(names), per.mean(names, over="perturbation"), per.pooled(names)
    (low, high), (f_low, f_high), (p_low, p_high) = (x.interval(level) for x in (mean, fixed, pooled))
    rows = []
    for k, name in enumerate(names):
        auroc, ap = per.values(name), per.values(name, "average_precision")
        row = {
            "score": name, "direction": directions[name], "n_perturbations": per.n, "auroc": mean.estimate[k],
            "low": low[k], "high": high[k], "se": mean.se[k], "fixed_genes_low": f_low[k],
            "fixed_genes_high": f_high[k], "median": float(np.median(auroc)), "sd": float(auroc.std(ddof=1)),
            "above_half": float((auroc > 0.5).mean()), "pooled_auroc": pooled.estimate[k], "pooled_low": p_low[k],
            "pooled_high": p_high[k], "auprc": float(ap.mean()), "prevalence": float(per.prevalence.mean()),
            "auprc_ratio": float((ap / per.prevalence).mean()), "note": mean.undefined[k],
        }  # fmt: skip
        for top in RECALL_AT:
            metric = f"recall_at_{top}"
            row |= {
                metric: float(per.values(name, metric).mean()),
                f"{metric}_chance": float(per.chance(metric).mean()),
            }
        rows.append(row)
    return pd.DataFrame(rows, columns=TABLES["pert_summary"])


def _layers(inp: AnalysisInput, direction: str) -> pd.DataFrame:
    """Profile over layers in one direction, each against co-expression on identical pairs."""
    settings = inp.request.settings
    level, scores = 1 - settings.alpha, inp.attention[direction]
    names = layer_names(scores)
    if not names:
        return pd.DataFrame(columns=TABLES["pert_layers"])
    per = PerPerturbation.build(
        inp, scores.select(names), inp.coexpression.select([COEXPRESSION]), cluster=_clusters(inp)
    )
    mean, gap = per.mean(names), per.differences(COEXPRESSION, names)
    (low, high), (g_low, g_high) = mean.interval(level), gap.interval(level)
    joint = np.full(len(names), np.nan)
    if any(not u for u in mean.undefined):
        rng = inp.rng(f"bootstrap/{NAME}/layers/{direction}")
        joint = max_t_p(mean, 0.5, draws=settings.bootstrap, rng=rng)["p_adjusted"]
    at = dict(zip(scores.names, scores.layers))
    return pd.DataFrame(
        {
            "score": names, "layer": [at[n] for n in names], "direction": direction, "auroc": mean.estimate,
            "low": low, "high": high, "p_maxt": joint, "beyond_coexpression": -gap.estimate, "beyond_low": -g_high,
            "beyond_high": -g_low,
        }
    )[TABLES["pert_layers"]]  # fmt: skip


def _fidelity(inp: AnalysisInput, per: PerPerturbation, primary: str) -> pd.DataFrame:
    """Every perturbation of the screen: its check, whether it is evaluated, and why not."""
    screen = inp.screen
    assert screen is not None
    checks = screen.checks
    names = screen.labels.effects.perturbations
    auroc = dict(zip(per.perturbations, per.values(primary).tolist()))
    n_pos = dict(zip(per.perturbations, per.n_pos.tolist()))
    none = "no responders, or no others, among the pairs that attention and co-expression observed"
    table = pd.DataFrame(
        {
            "perturbation": names, "evaluated": [p in auroc for p in names],
            "n_pos": [n_pos.get(p, np.nan) for p in names], "auroc": [auroc.get(p, np.nan) for p in names],
            "reason": ["" if p in auroc else screen.lost.get(p, none) for p in names],
        }
    )  # fmt: skip
    if "perturbation" not in checks:
        return table
    own = checks.rename(columns={c: f"{c}_on_target" for c in ("effect", "p", "q", "direction", "why")})
    return table.merge(own.drop_duplicates("perturbation"), on="perturbation", how="left")


def _verified(inp: AnalysisInput, per: PerPerturbation) -> PerPerturbation | None:
    """Only the perturbations whose own gene moved as the modality says; None where these are all, or too few."""
    assert inp.screen is not None
    checks = inp.screen.checks
    if "verified" not in checks:
        return None
    good = set(checks.loc[checks["verified"].astype(bool), "perturbation"])
    keep = np.array([p in good for p in per.perturbations])
    part = per.restrict(keep)
    return None if keep.all() or part.refusal else part


def perturbed_cells_read(inp: AnalysisInput) -> int:
    """Perturbed cells of the screen among those that attention was read in; 0 where either has no cells.

    In another file than the screen's, cells are the screen's where most of those of one name have one library size:
    names such as ``AAAC-1`` or ``0`` come back in unrelated data, sizes with them do not.
    """
    screen = inp.screen
    if screen is None or screen.cells is None or inp.cells is None:
        return 0
    own, read = screen.cells.cells, inp.cells
    names = pd.Series(np.arange(own.n_cells), index=screen.cells.obs.index)
    at = names[~names.index.duplicated()].reindex(read.obs.index).to_numpy(dtype=np.float64)
    shared = np.isfinite(at)
    place = at[shared].astype(np.int64)
    perturbed = ~screen.cells.obs["control"].to_numpy(dtype=bool)[place]
    if read.source == own.source:
        return int(perturbed.sum())
    same = np.isclose(read.total_counts[shared], own.total_counts[place])
    return int((perturbed & same).sum()) if same.any() and same.mean() >= 0.5 else 0


def screen_facts(inp: AnalysisInput) -> dict[str, object]:
    """What verdict rules read of the screen itself."""
    screen = inp.screen
    assert screen is not None
    effects = screen.labels.effects
    return {
        "modality": screen.modality, "modality_problem": screen.modality_problem, "design_flags": list(screen.flags),
        "confounded": [f for f in screen.flags if CONFOUNDED in f], "perturbed_cells_read": perturbed_cells_read(inp),
        "scale": effects.scale, "labels": screen.labels.rule.words(effects),
        "perturbations": len(effects.perturbations), "has_cells": screen.cells is not None,
    }  # fmt: skip


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    scores = inp.attention[request.direction]
    layers = layer_names(scores)
    names = list(dict.fromkeys([primary, *layers]))
    # A score without layers has the same numbers under both directions.
    other = next((d for d in inp.attention if d != request.direction and layers), None)
    sets = [scores.select(names)]
    if other is not None:
        sets.append(_renamed(inp.attention[other].select([primary]), other))
    per = PerPerturbation.build(
        inp, *sets, inp.coexpression.select([COEXPRESSION]), inp.baselines.select(RIVALS), cluster=_clusters(inp)
    )
    if reason := per.refusal:
        outcome = screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=("pooled", "layer"))
        seen = {"pert_fidelity": _fidelity(inp, per, primary), "pert_auroc": per.table()[TABLES["pert_auroc"]]}
        return replace(outcome, tables=outcome.tables | seen)
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    own = per.above_chance(primary)
    records = [own.record(ids["mean_above_chance"], side="greater", level=level)]

    rivals = [n for n in per.names if n not in names]
    contrasts = {
        n: per.contrast(primary, n, delta=settings.seoi, draws=settings.bootstrap, level=level,
                        rng=inp.rng(f"bootstrap/{NAME}/{n}"))
        for n in rivals
    }  # fmt: skip
    gap = contrasts[COEXPRESSION]
    records.append(gap.effect.record(ids["attention_minus_coexpression"], side="two-sided", level=level))
    use = f"split/{NAME}"
    nested = nested_over_perturbations(per, layers, inp.rng(use))
    records.append(
        nested.record(ids["layer_nested_above_chance"], level=level, n_units=per.n, stream=inp.stream_name(use))
    )
    ranks, paired = ids["attention_minus_coexpression_ranks"], gap.wilcoxon
    if isinstance(paired, RankTest):
        records.append(
            TestRecord(id=ranks, statistic=paired.statistic, effect=gap.effect.value, p_raw=paired.p, n_units=per.n)
        )
    else:
        records.append(TestRecord(id=ranks, undefined=paired.reason, n_units=per.n))
    equal = gap.effect.p_equivalent(settings.seoi)
    records.append(
        gap.effect.record(ids["attention_equals_coexpression"], side="two-sided", level=1 - 2 * settings.alpha,
                          p_raw=equal)
    )  # fmt: skip

    directions = {primary: request.direction} | dict.fromkeys(rivals, "none")
    if other is not None:
        directions[f"{primary} {other}"] = other
    profile = pd.concat([_layers(inp, d) for d in inp.attention], ignore_index=True)
    summary = _summary(inp, per, directions)
    verified = _verified(inp, per)
    if verified is not None:
        row = _summary(inp, verified, {primary: request.direction})
        summary = pd.concat([summary, row.assign(score=f"{primary}, verified perturbations")], ignore_index=True)
    tables = {
        "pert_auroc": per.table()[TABLES["pert_auroc"]],
        "pert_summary": summary,
        "pert_layers": profile,
        "pert_contrasts": pd.DataFrame(
            [c.row(level=level) for c in contrasts.values()], columns=TABLES["pert_contrasts"]
        ),
        "pert_nested": pd.DataFrame(
            [(b, c, a) for b, (c, a) in enumerate(zip(nested.chosen, nested.block_auroc))],
            columns=TABLES["pert_nested"],
        ),
        "pert_fidelity": _fidelity(inp, per, primary),
    }
    pooled = effects_of(per.pooled([primary, COEXPRESSION]), null_value=0.5)
    (rival,) = effects_of(per.mean([COEXPRESSION]), null_value=0.5)
    precision = per.above_chance(primary, "average_precision")
    results = (
        screen_result_of(inp, NAME, per, score=primary, step="pooled",
                         estimate=own.estimate(null_value=0.5, level=level)),
        screen_result_of(inp, NAME, per, score=_CHOSEN, step="layer", estimate=nested.estimate(level=level),
                         stream=inp.stream_name(use)),
        screen_result_of(inp, NAME, per, score=COEXPRESSION, step="coexpression",
                         estimate=rival.estimate(null_value=0.5, level=level)),
        screen_result_of(inp, NAME, per, score=f"{primary} - {COEXPRESSION}", metric="mean_auroc_difference",
                         null_value=0.0, estimate=gap.effect.estimate(null_value=0.0, level=level)),
        screen_result_of(inp, NAME, per, score=f"{primary}, all pairs in one ranking", metric="auroc",
                         estimate=pooled[0].estimate(null_value=0.5, level=level)),
        screen_result_of(inp, NAME, per, score=f"{primary}, average precision - prevalence",
                         metric="mean_auprc_above_prevalence", null_value=0.0,
                         estimate=precision.estimate(null_value=0.0, level=level)),
    )  # fmt: skip
    facts: dict[str, object] = {
        **per.counts(), **screen_facts(inp), "primary": primary, "primary_pre_specified": True,
        "nested_layers": list(nested.chosen), "coexpression_delta": gap.effect.value,
        "coexpression_tost_p": None if np.isnan(equal) else equal, "mean_auroc": own.value + 0.5,
    }  # fmt: skip
    if not own.undefined:
        low, high = own.bounds(level)
        facts |= {"mean_auroc_low": low + 0.5, "mean_auroc_high": high + 0.5}
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, tables=tables,
        records=tuple(records), facts=facts, dropped=per.dropped(),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Prediction of perturbation responses",
    question="Does attention of the perturbed gene say which genes respond when it is perturbed?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen"),
    plan=plan,
    run=run,
    reference="Hanley & McNeil 1982; Wilcoxon 1945; Schuirmann 1987; Cameron, Gelbach & Miller 2011",
    falsified_by="A mean AUROC over perturbations whose interval includes 0.5, or that co-expression reaches as well.",
    parameters={"complexes": {}},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="model_screen",
)
