"""Do numbers that know each gene alone do as well as the pairwise attention score?"""

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
from regulens.analyses.gene_model import gene_only_scores
from regulens.analyses.inference import Effect, aurocs, differences, effects_of, joint_critical
from regulens.stats.cluster import max_t_p
from regulens.stats.ranking import auroc
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "gene_level_baselines"

SINGLE = tuple(f"{k}_{x}" for k in ("product", "source", "target") for x in ("mean", "variance", "detection"))

DESIGNS = (
    TestDesign(
        name="attention_above_best_baseline",
        hypothesis="Attention recovers the reference better than every one-gene statistic: min over baselines of "
        "(AUROC attention - AUROC baseline) > 0",
        method="t from the delete-one jackknife of paired differences; largest p over the baselines",
    ),
    TestDesign(
        name="attention_above_gene_model",
        hypothesis="Attention recovers the reference better than a fitted model that knows each gene alone, and better "
        "than 0.5",
        method="t from the delete-one jackknife of the paired difference; larger of its p and that of AUROC > 0.5",
    ),
    TestDesign(
        name="attention_above_marginal_product",
        hypothesis="Attention recovers the reference better than the product of its own row and column means",
        method="t from the delete-one jackknife of the paired difference",
    ),
)

TABLES = {
    "baselines": [
        "baseline", "kind", "auroc", "low", "high", "delta", "delta_low", "delta_high", "p", "p_maxt", "tost_p",
    ]
}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference; the published protocol tests the three products."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (DESIGNS[0],))
    return plan_tests(NAME, request, DESIGNS)


def _kind(name: str) -> str:
    known = {"marginal_product": "marginal", "gene_model": "gene_model", "coexpression_abs": "coexpression",
             "random": "random"}  # fmt: skip
    return known.get(name) or name.split("_")[0]


def _above_model(test: str, gap: Effect, above_half: Effect, *, level: float) -> TestRecord:
    """Attention above the gene-only model *and* above 0.5: the weaker of the two counts.

    A model fitted on other genes does worse than chance when there is nothing to learn (each block's positives are
    missing from its own training data), and beating that is no achievement.
    """
    weaker = min((gap, above_half), key=lambda e: e.value)
    if gap.undefined or above_half.undefined:
        return TestRecord(id=test, undefined=gap.undefined or above_half.undefined, n_units=gap.n_units)
    bounds = [e.bounds(level) for e in (gap, above_half)]
    return weaker.record(
        test, side="greater", level=level, p_raw=max(gap.p_greater(), above_half.p_greater()),
        bounds=(min(b[0] for b in bounds), min(b[1] for b in bounds)),
    )  # fmt: skip


def _with(edges: LabelledEdges, name: str, score: np.ndarray) -> LabelledEdges:
    """The same edges with one more score."""
    return LabelledEdges(
        scores=np.concatenate([edges.scores, score[None]]), names=(*edges.names, name), label=edges.label,
        regulator=edges.regulator, target=edges.target, universe_digest=edges.universe_digest,
        endpoint=edges.endpoint, n_missing=edges.n_missing, n_missing_positive=edges.n_missing_positive,
    )  # fmt: skip


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return _published(inp)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    others = (*SINGLE, "marginal_product", "random")
    edges = edges_of(inp, inp.primary, inp.baselines.select(others), inp.coexpression.select(["coexpression_abs"]))
    if reason := refusal(edges):
        return refused(
            inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("baseline", "gene_model", "marginal")
        )
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    stream = f"split/{NAME}/gene_model"
    fitted, used, why = gene_only_scores(
        edges, inp.features, inp.universe.regulator_columns(), rng=inp.rng(stream), **parameters
    )
    names = [*SINGLE, "marginal_product", *(() if fitted is None else ("gene_model",)), "coexpression_abs", "random"]
    if fitted is not None:
        edges = _with(edges, "gene_model", fitted)

    found = aurocs(edges, [primary, *names])
    own = effects_of(found, null_value=0.5)
    contrast = differences(edges, primary, names)
    gaps = dict(zip(names, effects_of(contrast)))
    joint = max_t_p(contrast, 0.0, draws=settings.bootstrap, rng=inp.rng(f"bootstrap/{NAME}"))["p_adjusted"]
    nulls = [n for n in names if n in SINGLE or n in ("marginal_product", "gene_model")]
    critical = joint_critical(differences(edges, primary, nulls), level=level, rng=inp.rng(f"bootstrap/{NAME}/joint"))
    upper = {n: gaps[n].value + critical * gaps[n].se for n in nulls if not gaps[n].undefined}

    records = []
    bad = [n for n in SINGLE if gaps[n].undefined]
    best = min(SINGLE, key=lambda n: gaps[n].value)
    if bad:
        records.append(
            TestRecord(id=ids["attention_above_best_baseline"], undefined=f"{bad[0]}: {gaps[bad[0]].undefined}")
        )
    else:
        p = max(gaps[n].p_greater() for n in SINGLE)
        low = min(gaps[n].bounds(level)[0] for n in SINGLE)
        records.append(
            gaps[best].record(
                ids["attention_above_best_baseline"], side="greater", level=level, p_raw=p,
                bounds=(low, min(upper[n] for n in SINGLE)),
            )
        )  # fmt: skip
    records.append(
        gaps["marginal_product"].record(ids["attention_above_marginal_product"], side="greater", level=level)
    )
    if fitted is None:
        records.append(TestRecord(id=ids["attention_above_gene_model"], undefined=why))
    else:
        records.append(_above_model(ids["attention_above_gene_model"], gaps["gene_model"], own[0], level=level))

    rows = []
    for k, name in enumerate([primary, *names]):
        at = own[k].cells(null_value=0.5, level=level)
        row = {"baseline": name, "kind": "attention" if k == 0 else _kind(name), "auroc": at["value"], "low": at["low"],
               "high": at["high"]}  # fmt: skip
        if k:
            gap = gaps[name]
            low, high = gap.bounds(level)
            row |= {"delta": gap.value, "delta_low": low, "delta_high": high, "p": gap.p_greater(),
                    "p_maxt": joint[k - 1], "tost_p": gap.p_equivalent(settings.seoi)}  # fmt: skip
        rows.append(row)
    table = pd.DataFrame(rows, columns=TABLES["baselines"])

    estimates = dict(zip([primary, *names], [e.estimate(null_value=0.5, level=level) for e in own]))
    strongest = max(SINGLE, key=lambda n: float(found.estimate[1 + names.index(n)]))
    model: Estimate | Undefined = estimates.get("gene_model", Undefined(reason=why))
    results = (
        result_of(inp, NAME, score=strongest, estimate=estimates[strongest], edges=edges, step="baseline"),
        result_of(inp, NAME, score="gene_model", estimate=model, edges=edges, step="gene_model",
                  stream=inp.stream_name(stream)),
        result_of(inp, NAME, score="marginal_product", estimate=estimates["marginal_product"], edges=edges,
                  step="marginal"),
        *(
            result_of(inp, NAME, score=f"{primary} - {n}", edges=edges, metric="auroc_difference", null_value=0.0,
                      estimate=gaps[n].estimate(null_value=0.0, level=level))
            for n in dict.fromkeys((strongest, "marginal_product", *(() if fitted is None else ("gene_model",))))
        ),
    )  # fmt: skip
    facts: dict[str, object] = {**counts_of(edges), "best_baseline": strongest}
    if upper:
        strictest = min(upper, key=lambda n: gaps[n].value)
        facts |= {
            "strictest_null": strictest,
            "strictest_delta": gaps[strictest].value,
            "strictest_high": min(upper.values()),
            "strictest_high_null": min(upper, key=lambda n: upper[n]),
            "strictest_tost_p": gaps[strictest].p_equivalent(settings.seoi),
        }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, tables={"baselines": table},
        records=tuple(records), facts=facts, dropped=dropped_of(edges) | used,
    )  # fmt: skip


def _published(inp: AnalysisInput) -> AnalysisOutcome:
    """Three products against attention on ten random negatives per positive, bootstrap over pairs."""
    from regulens.analyses.recovery_published import pair_bootstrap, zero_filled

    names = ("product_detection", "product_mean", "product_variance")
    design, columns = DESIGNS[0], ["baseline", "kind", "auroc", "low", "high", "delta"]
    edges = LabelledEdges.build(
        [zero_filled(inp, inp.primary), zero_filled(inp, inp.baselines.select(names))], inp.universe
    )
    if reason := refusal(edges):
        tables = {"published": columns}
        return refused(inp, NAME, (design,), reason, edges=edges, tables=tables, steps=("",))
    rng = inp.rng(f"sample/{NAME}/published")
    negative = np.flatnonzero(~edges.label)
    keep = rng.choice(negative, min(10 * edges.n_pos, len(negative)), replace=False)
    sample = edges.restrict(np.sort(np.concatenate([np.flatnonzero(edges.label), keep])))
    value = auroc(sample.scores, sample.label)
    rows, results, draws = [], [], {}
    for k, name in enumerate(sample.names):
        stream = f"bootstrap/{NAME}/published"  # one stream, so that the scores see the same resamples
        draws[k] = pair_bootstrap(sample.scores[k], sample.label, draws=1000, rng=inp.rng(stream))
        estimate = Estimate.from_draws(
            float(value[k]), draws[k], method="bootstrap over pairs, percentile, B=1000", n_units=len(sample.label),
            unit="pair",
        )  # fmt: skip
        low, high = np.quantile(draws[k], [0.025, 0.975])
        rows.append((name, "attention" if k == 0 else "product", value[k], low, high, value[0] - value[k]))
        results.append(
            result_of(inp, NAME, score=name, estimate=estimate, edges=sample, stream=inp.stream_name(stream))
        )
    best = 1 + int(np.argmax(value[1:]))
    gap = draws[0] - draws[best]
    record = TestRecord(
        id=test_id(NAME, inp.request, design.name), effect=float(value[0] - value[best]), n_units=len(sample.label),
        p_raw=float((1 + np.count_nonzero(gap <= 0)) / (1 + len(gap))),
        stream=inp.stream_name(f"bootstrap/{NAME}/published"),
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=columns)}, records=(record,), facts=counts_of(sample),
        dropped={"negatives not sampled": edges.n_neg - sample.n_neg},
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Gene-level baselines",
    question="Do numbers that know each gene alone do as well as the pairwise attention score?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference"),
    plan=plan,
    run=run,
    reference="Schuirmann 1987; Westfall & Young 1993",
    falsified_by="A gene-level score that recovers the reference as well as attention, or better.",
    parameters={"n_folds": 5, "negatives_per_positive": 10, "penalty": 1.0},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
