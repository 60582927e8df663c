"""How far do numbers that know the responding gene alone get, and how much of it is the power to call a response?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, edges_of, plan_tests, test_id
from regulens.analyses.gene_model import gene_only_scores
from regulens.analyses.inference import Effect, effects_of, joint_critical
from regulens.analyses.per_perturbation import (
    METHOD,
    UNIT,
    PerPerturbation,
    clusters_of,
    screen_refused,
    screen_result_of,
)
from regulens.analyses.perturbation_baselines_published import PUBLISHED_DESIGNS, run_published
from regulens.analyses.power_control import POWER_TABLES, PowerControl, power_control
from regulens.analyses.response_propensity import response_propensity
from regulens.stats.cluster import max_t_p
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.stats.rank_tests import RankTest
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "perturbation_baselines"

_NO_CONTROL = "no other labels leave enough perturbations"

#: One number per responding gene, the same ranking for every perturbation.
SINGLE = ("target_mean", "target_variance", "target_detection")
OUT_DEGREE = "target_out_degree"
PROPENSITY = "response_propensity"
MODEL = "gene_model"

DESIGNS = (
    TestDesign(
        name="attention_above_best_baseline",
        hypothesis="Attention predicts responses better than every one-gene statistic of the responding gene (mean, "
        "variance, detection)",
        unit=UNIT, method=f"largest p over the statistics, {METHOD}",
    ),
    TestDesign(
        name="attention_above_response_propensity",
        hypothesis="Attention predicts responses better than 0.5 and than how often a gene responds to other "
        "perturbations",
        unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="attention_above_gene_model",
        hypothesis="Attention predicts responses better than 0.5 and than a gene-only model fitted on other "
        "perturbations and other genes",
        unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="attention_above_best_baseline_power_controlled",
        hypothesis="Where well-measured genes are not favoured, attention predicts responses better than 0.5, than "
        "every one-gene statistic and than how often a gene responds to other perturbations",
        unit=UNIT, method=f"labels of equal power (without cells: by effect size), largest p over the baselines and "
        f"0.5, {METHOD}",
    ),
    TestDesign(
        name="attention_above_marginal_product",
        hypothesis="Attention predicts responses better than its own margins: what it gives to pairs and not to genes",
        unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="some_baseline_above_attention",
        hypothesis="At least one gene-level baseline predicts responses better than attention",
        unit=UNIT, method="studentised multiplier bootstrap over perturbations and genes, max-T over the baselines",
    ),
    # What the labels measure is no statement about attention: descriptive.
    TestDesign(
        name="placebo_above_chance",
        hypothesis="At least one one-gene statistic predicts calls between control cells, where nothing responds",
        unit=UNIT, method="max-T over the statistics, placebo labels", confirmatory=False,
    ),
    TestDesign(
        name="planted_above_chance",
        hypothesis="At least one one-gene statistic predicts which of equal changes, planted in random genes, are "
        "called: it measures power",
        unit=UNIT, method="max-T over the statistics, planted labels", confirmatory=False,
    ),
)  # fmt: skip

TABLES = {
    "pert_baselines": [
        "baseline", "kind", "n_perturbations", "auroc", "low", "high", "fixed_genes_low", "fixed_genes_high",
        "pooled_auroc", "delta", "delta_low", "delta_high", "p", "q", "p_above", "tost_p", "wilcoxon_p", "wins",
        "note",
    ],
    **POWER_TABLES,
}  # fmt: skip

_KIND = {PROPENSITY: "response propensity", MODEL: "fitted", "coexpression_abs": "co-expression", "random": "random",
         "marginal_product": "margins"}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and screen."""
    designs = PUBLISHED_DESIGNS if request.protocol is Protocol.PUBLISHED else DESIGNS
    return plan_tests(NAME, request, designs, endpoint=Endpoint.PERTURBATION_RESPONSE)


def out_degree(inp: AnalysisInput) -> EdgeScores | None:
    """Number of distinct targets of the responding gene over the study's networks; None without networks."""
    degree: dict[str, set[str]] = {}
    for network in inp.networks.values():
        for source, target in zip(network.edges["source"], network.edges["target"]):
            degree.setdefault(source, set()).add(target)
    count = np.array([len(degree.get(g, ())) for g in inp.universe.genes], dtype=np.float64)
    if not count.any():
        return None
    shape = inp.universe.candidate.shape
    return EdgeScores(
        values=np.broadcast_to(count, shape)[None], observed=np.ones(shape, dtype=bool), names=(OUT_DEGREE,),
        genes=inp.universe.genes, regulators=inp.universe.regulators,
    )  # fmt: skip


def with_score(edges: LabelledEdges, name: str, score: np.ndarray) -> LabelledEdges:
    """The same edges with one more score."""
    return replace(edges, scores=np.concatenate([edges.scores, score[None]]), names=(*edges.names, name))


def weakest(test: str, effects: list[Effect], *, level: float, high: float | None = None) -> TestRecord:
    """Record of "all of these effects are above 0": the largest p, the lowest bounds (intersection-union).

    Parameters
    ----------
    high
        Upper bound that holds for all effects jointly, in the place of the lowest single one.
    """
    bad = [e for e in effects if e.undefined]
    if bad:
        return TestRecord(id=test, undefined=bad[0].undefined, n_units=effects[0].n_units)
    least = min(effects, key=lambda e: e.value)
    bounds = [e.bounds(level) for e in effects]
    return least.record(
        test, side="greater", level=level, p_raw=max(e.p_greater() for e in effects),
        bounds=(min(b[0] for b in bounds), min(b[1] for b in bounds) if high is None else high),
    )  # fmt: skip


def _best_of_many(test: str, found: dict[str, np.ndarray], n_units: int, stream: str, null: float) -> TestRecord:
    """Record of "some of these is above": the smallest max-T p."""
    p = found["p_adjusted"]
    if not np.isfinite(p).any():
        return TestRecord(id=test, undefined="no baseline has a standard error", n_units=n_units)
    k = int(np.nanargmin(p))
    return TestRecord(
        id=test, statistic=float(found["t"][k]), effect=float(found["estimate"][k] - null), p_raw=float(p[k]),
        n_units=n_units, stream=stream,
    )  # fmt: skip


def _table(
    inp: AnalysisInput, per: PerPerturbation, names: list[str], above: dict[str, float]
) -> tuple[pd.DataFrame, dict[str, Effect]]:
    """Attention and every baseline, and attention minus each."""
    settings, primary = inp.request.settings, inp.request.primary
    level, everyone = 1 - settings.alpha, [primary, *names]
    mean, fixed, pooled = per.mean(everyone), per.mean(everyone, over="perturbation"), per.pooled(everyone)
    (low, high), (f_low, f_high) = mean.interval(level), fixed.interval(level)
    gaps: dict[str, Effect] = {}
    rows = []
    for k, name in enumerate(everyone):
        row: dict[str, object] = {
            "baseline": name, "kind": "attention" if k == 0 else _KIND.get(name, "one gene"), "n_perturbations": per.n,
            "auroc": mean.estimate[k], "low": low[k], "high": high[k], "fixed_genes_low": f_low[k],
            "fixed_genes_high": f_high[k], "pooled_auroc": pooled.estimate[k], "note": mean.undefined[k],
        }  # fmt: skip
        if k:
            found = per.contrast(primary, name, delta=settings.seoi, draws=settings.bootstrap, level=level,
                                 rng=inp.rng(f"bootstrap/{NAME}/{name}"))  # fmt: skip
            gaps[name] = found.effect
            d_low, d_high = found.effect.bounds(level)
            row |= {
                "delta": found.effect.value, "delta_low": d_low, "delta_high": d_high,
                "p": found.effect.p_two_sided(), "p_above": above.get(name, np.nan), "tost_p": found.p_equivalent,
                "wilcoxon_p": found.wilcoxon.p if isinstance(found.wilcoxon, RankTest) else np.nan, "wins": found.wins,
            }  # fmt: skip
        rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=TABLES["pert_baselines"])
    given = table["p"].notna().to_numpy() & ~table["baseline"].isin(["random"]).to_numpy()
    q = np.full(len(table), np.nan)
    if given.any():
        q[given] = benjamini_hochberg(table.loc[given, "p"].to_numpy(dtype=np.float64))
    return table.assign(q=q), gaps


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    degree = out_degree(inp)
    others = (*SINGLE, "marginal_product", "random")
    edges = edges_of(
        inp, inp.primary, inp.baselines.select(others), response_propensity(inp),
        inp.coexpression.select(["coexpression_abs"]), *(() if degree is None else (degree,)),
    )  # fmt: skip
    cluster = clusters_of(inp.universe.regulators, parameters["complexes"])
    per = PerPerturbation.of(edges, inp.universe.regulators, cluster=cluster)
    if reason := per.refusal:
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES,
                              steps=("baseline", "response_propensity", "gene_model"))  # fmt: skip
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    stream = f"split/{NAME}/gene_model"
    fitted, used, why = gene_only_scores(
        edges, inp.features, inp.universe.regulator_columns(), rng=inp.rng(stream), n_folds=parameters["n_folds"],
        negatives_per_positive=parameters["negatives_per_positive"], penalty=parameters["penalty"],
    )  # fmt: skip
    if fitted is not None:
        edges = with_score(edges, MODEL, fitted)
        per = PerPerturbation.of(edges, inp.universe.regulators, cluster=cluster)
    gene_level = [*SINGLE, *(() if degree is None else (OUT_DEGREE,)), PROPENSITY,
                  *(() if fitted is None else (MODEL,))]  # fmt: skip
    names = [*gene_level, "marginal_product", "coexpression_abs", "random"]

    turned = per.differences(primary, gene_level)
    against = replace(turned, estimate=-turned.estimate, regulator=-turned.regulator, target=-turned.target)
    use = f"bootstrap/{NAME}/above"
    above = max_t_p(against, 0.0, draws=settings.bootstrap, rng=inp.rng(use))
    table, gaps = _table(inp, per, names, dict(zip(gene_level, above["p_adjusted"])))
    own = per.above_chance(primary)
    power = power_control(inp, per, primary, SINGLE, quantile=parameters["power_quantile"], name=NAME,
                          cluster=cluster)  # fmt: skip

    records = [
        weakest(ids["attention_above_best_baseline"], [gaps[n] for n in SINGLE], level=level),
        weakest(ids["attention_above_response_propensity"], [gaps[PROPENSITY], own], level=level),
        TestRecord(id=ids["attention_above_gene_model"], undefined=why, n_units=per.n)
        if fitted is None
        else weakest(ids["attention_above_gene_model"], [gaps[MODEL], own], level=level),
        weakest(
            ids["attention_above_best_baseline_power_controlled"],
            list(power.gaps.values()),
            level=level,
            high=power.high,
        )
        if power.gaps
        else TestRecord(id=ids["attention_above_best_baseline_power_controlled"], undefined=_NO_CONTROL),
        weakest(ids["attention_above_marginal_product"], [gaps["marginal_product"]], level=level),
        _best_of_many(ids["some_baseline_above_attention"], above, per.n, inp.stream_name(use), 0.0),
    ]
    for kind in ("placebo", "planted"):
        test = ids[f"{kind}_above_chance"]
        if kind in power.undefined:
            records.append(TestRecord(id=test, undefined=power.undefined[kind], n_units=per.n))
            continue
        use = f"bootstrap/{NAME}/{kind}"
        found = max_t_p(power.means[kind], 0.5, draws=settings.bootstrap, rng=inp.rng(use))
        records.append(_best_of_many(test, found, power.means[kind].n_units, inp.stream_name(use), 0.5))

    mean = dict(zip(per.names, per.metrics.auroc.mean(axis=1)))
    strongest = max(SINGLE, key=lambda n: mean[n])
    of = dict(zip([primary, *names], effects_of(per.mean([primary, *names]), null_value=0.5)))

    def estimate(name: str, reason: str = "") -> Estimate | Undefined:
        return of[name].estimate(null_value=0.5, level=level) if name in of else Undefined(reason=reason)

    controlled: Estimate | Undefined = Undefined(reason=_NO_CONTROL)
    if power.strongest:
        controlled = power.gaps[power.strongest].estimate(null_value=0.0, level=level)
    results = (
        screen_result_of(inp, NAME, per, score=strongest, step="baseline", estimate=estimate(strongest)),
        screen_result_of(inp, NAME, per, score=PROPENSITY, step="response_propensity", estimate=estimate(PROPENSITY)),
        screen_result_of(inp, NAME, per, score=MODEL, step="gene_model", estimate=estimate(MODEL, why),
                         stream=inp.stream_name(stream)),
        *(
            screen_result_of(inp, NAME, per, score=f"{primary} - {n}", metric="mean_auroc_difference", null_value=0.0,
                             estimate=gaps[n].estimate(null_value=0.0, level=level))
            for n in dict.fromkeys((strongest, PROPENSITY, *(() if fitted is None else (MODEL,))))
        ),
        screen_result_of(inp, NAME, per, score=f"{primary} - strongest gene-level baseline, power controlled",
                         metric="mean_auroc_difference", null_value=0.0, estimate=controlled, step="power_control"),
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results,
        tables={"pert_baselines": table, **power.tables}, records=tuple(records),
        facts=per.counts() | {"best_baseline": strongest} | power.facts
        | _joint(inp, per, primary, gene_level, gaps, power),
        dropped=per.dropped() | used,
    )  # fmt: skip


def _joint(
    inp: AnalysisInput,
    per: PerPerturbation,
    primary: str,
    gene_level: list[str],
    gaps: dict[str, Effect],
    power: PowerControl,
) -> dict[str, object]:
    """The strictest gene-level baseline and a bound that holds for all of them at once.

    A baseline that owes its place to the power to call responses refutes nothing: where attention lies above all
    baselines by more than the smallest difference of interest once power is controlled, the bound is that of the
    control, and equality under the called labels is no equality.
    """
    settings = inp.request.settings
    known = [n for n in gene_level if not gaps[n].undefined]
    if not known:
        return {}
    critical = joint_critical(
        per.differences(primary, known), level=1 - settings.alpha, rng=inp.rng(f"bootstrap/{NAME}/joint")
    )
    upper = {n: gaps[n].value + critical * gaps[n].se for n in known}
    strictest = min(known, key=lambda n: gaps[n].value)
    facts: dict[str, object] = {
        "strictest_null": strictest, "strictest_delta": gaps[strictest].value, "strictest_high": min(upper.values()),
        "strictest_high_null": min(upper, key=lambda n: upper[n]),
        "strictest_tost_p": gaps[strictest].p_equivalent(settings.seoi), "above_power_controlled": False,
    }  # fmt: skip
    level = 1 - settings.alpha
    if power.gaps and all(not e.undefined and e.bounds(level)[0] > settings.seoi for e in power.gaps.values()):
        facts |= {
            "strictest_high": max(min(upper.values()), power.high), "strictest_tost_p": None,
            "above_power_controlled": True,
        }  # fmt: skip
    return facts


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Gene-level baselines of responses",
    question="Do numbers that know the responding gene alone predict responses as well, and is it the power to call "
    "them?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen"),
    plan=plan,
    run=run,
    reference="Welch 1947; Westfall & Young 1993; Romano & Wolf 2005",
    falsified_by="A baseline that ranks responders as well as attention once every gene is seen with equal power.",
    parameters={"n_folds": 5, "negatives_per_positive": 3, "penalty": 1.0, "power_quantile": 0.5, "complexes": {}},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="model_screen",
)
