"""Do in-silico interventions rank targets as real perturbations do?"""

from __future__ import annotations

import numpy as np

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.consistency_agreement import (
    MEASURES,
    NAME,
    STEPS,
    Agreement,
    agreement,
    likeness,
    measured_pairs,
)
from regulens.analyses.consistency_pairs import Matched, match
from regulens.analyses.consistency_published import PUBLISHED_COLUMNS, run_published
from regulens.analyses.consistency_record import refused_consistency, result
from regulens.analyses.consistency_tables import (
    TABLES,
    null_table,
    perturbation_table,
    power_table,
    summary_table,
    tied_share,
)
from regulens.analyses.per_perturbation import MIN_PERTURBATIONS
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

METHOD = "permutation of perturbations, genes kept: mean of Fisher's z over perturbations"

DESIGNS = (
    TestDesign(
        name="signed_rank_consistency",
        hypothesis="Taking a gene away in the model moves other genes up and down as perturbing it does, more than "
        "taking another perturbed gene away: mean signed Spearman above that of exchanged perturbations",
        unit="perturbation", method=METHOD, confirmatory=False,
    ),
    TestDesign(
        name="absolute_rank_consistency",
        hypothesis="Taking a gene away in the model moves those genes most that perturbing it moves most, more than "
        "taking another perturbed gene away: mean Spearman of sizes above that of exchanged perturbations",
        unit="perturbation", method=METHOD, confirmatory=False,
    ),
)  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and one screen."""
    return plan_tests(NAME, request, DESIGNS, endpoint=Endpoint.PERTURBATION_RESPONSE)


def too_few(m: Matched, *, min_targets: int, max_zero: float) -> str:
    """Why no rank correlation is made, or an empty string."""
    both = m.both
    n = int((both.sum(axis=1) >= min_targets).sum())
    if n < MIN_PERTURBATIONS:
        lost = "; ".join(f"{s}: {why}" for s, why in list(m.effects["ablate"].lost.items())[:3])
        return (
            f"{n} perturbations have {min_targets} genes with an in-silico and a measured effect; at least "
            f"{MIN_PERTURBATIONS} are needed" + (f" ({lost})" if lost else "")
        )
    for words, values in (("in-silico", m.model["ablate"]), ("measured", m.observed)):
        share = float((values[both] == 0).mean())
        if share > max_zero:
            return (
                f"{100 * share:.0f} % of the {words} effects are exactly zero; above {100 * max_zero:.0f} % a rank "
                "correlation says how ties are broken"
            )
    return ""


def no_sign(m: Matched) -> str:
    """Why directions cannot be compared, or an empty string."""
    if not m.signed:
        return f"the model gives no direction: {m.effects['ablate'].readout}"
    if not (m.observed[m.both] < 0).any():
        return "no measured effect is negative: the screen gives sizes without directions"
    return ""


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    published = inp.request.protocol is Protocol.PUBLISHED
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    tables = {"published": PUBLISHED_COLUMNS} if published else TABLES
    matched = match(inp, parameters, perturbed_targets=published)
    if isinstance(matched, str):
        return refused_consistency(inp, NAME, DESIGNS, matched, tables=tables, steps=STEPS)
    if published:
        return run_published(inp, NAME, DESIGNS, matched)
    min_targets = int(parameters["min_targets"])
    if reason := too_few(matched, min_targets=min_targets, max_zero=float(parameters["max_zero"])):
        return refused_consistency(inp, NAME, DESIGNS, reason, tables=tables, steps=STEPS, matched=matched)
    unsigned, directed = no_sign(matched), bool((matched.observed[matched.both] < 0).any())
    found = {
        (c, k): agreement(k, *measured_pairs(matched, c, k), min_targets=min_targets, inp=inp, use=f"{c}/{k}")
        for c in matched.model
        for k in MEASURES
        # co-expression has a direction whatever the model says, but not against a screen of sizes
        if not (unsigned and k.startswith("sign")) or (c == "coexpression" and directed)
    }
    records, results = [], []
    for design, step in zip(DESIGNS, STEPS):
        one = found.get(("ablate", step))
        why = unsigned if one is None else one.refusal
        use = f"permutation/{NAME}/ablate/{step}"
        estimate: Estimate | Undefined = Undefined(reason=why)
        if one is not None and not why:
            estimate = _estimate(one, inp)
        records.append(_record(test_id(NAME, inp.request, design.name), one, why, stream=inp.stream_name(use)))
        null = 0.0 if one is None or why else float(np.tanh(one.null.draws.mean()))
        results.append(
            result(inp, NAME, matched, score="ablation", metric=f"spearman_{step}", estimate=estimate, null_value=null,
                   step=step, stream=inp.stream_name(use))
        )  # fmt: skip
    made = {
        "rank_consistency": summary_table(found, matched),
        "rank_null": null_table(found),
        "rank_by_perturbation": perturbation_table(found, matched, inp),
        "rank_power": power_table(found, matched, alpha=inp.request.settings.alpha),
    }
    both, own = matched.both, matched.effects["ablate"]
    facts = {
        "n_perturbations": max((a.n for a in found.values()), default=0),
        "n_pairs": int(both.sum()),
        "readout": own.readout,
        "signed": not unsigned,
        "modality": inp.screen.modality or "not said" if inp.screen else "not said",
        "composition_of": matched.shift_of or "nothing: cells of the screen have no column with two values",
        "share_zero_model": float((matched.model["ablate"][both] == 0).mean()),
        "share_zero_measured": float((matched.observed[both] == 0).mean()),
        "share_tied_model": float(np.nanmean(tied_share(matched.model["ablate"], both))),
        "likeness_model": likeness(np.where(both, matched.model["ablate"], np.nan)),
        "likeness_measured": likeness(np.where(both, matched.observed, np.nan)),
        "cells_per_perturbation_median": float(np.median(own.cells_of[own.cells_of > 0])),
        "swap": "swap" in matched.model,
    }
    dropped = {
        "perturbations that the model cannot be asked about": len(own.lost),
        "pairs without an in-silico effect": int((np.isfinite(matched.observed) & ~both).sum()),
        "perturbations beyond the number that is asked about": matched.n_not_asked,
        "genes that are perturbed themselves, as targets": len(matched.sources),
        "draws with fewer than 10 matched pairs": found["ablate", "absolute"].null.dropped,
    }
    return AnalysisOutcome(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference, results=tuple(results), tables=made,
        records=tuple(records), facts={k: v for k, v in facts.items() if v == v}, dropped=dropped,
    )  # fmt: skip


def _estimate(a: Agreement, inp: AnalysisInput) -> Estimate:
    low, value, high = (float(np.tanh(x)) for x in (a.low, a.null.observed, a.high))
    return Estimate(
        value=value, low=min(low, value), high=max(high, value), level=1 - inp.request.settings.alpha, n_units=a.n,
        method=f"t interval of Fisher's z over {a.n} perturbations, genes held fixed", unit="perturbation",
    )  # fmt: skip


def _record(test: str, a: Agreement | None, why: str, *, stream: str) -> TestRecord:
    """Effect and interval are over the mean of exchanged perturbations, whose prominent genes are the same."""
    if a is None or why:
        return TestRecord(id=test, undefined=why, n_units=0 if a is None else a.n)
    null = float(np.tanh(a.null.draws.mean()))
    low, value, high = (float(np.tanh(x)) - null for x in (a.low, a.null.observed, a.high))
    return TestRecord(
        id=test, statistic=a.z if np.isfinite(a.z) else None, effect=value, low=min(low, value), high=max(high, value),
        p_raw=a.p, n_units=a.n, stream=stream,
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="In-silico against measured effects",
    question="Do in-silico interventions rank targets as real perturbations do?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("screen", "model"),
    plan=plan,
    run=run,
    reference="Spearman 1904; Fisher 1921 (z); Phipson & Smyth 2010 (permutation p)",
    falsified_by="A mean correlation that exchanged perturbations reach as well: then it says which genes move, not "
    "which gene moves them.",
    parameters={"cells": 100, "perturbations": 300, "rule": "family", "min_targets": 10, "max_zero": 0.3},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="model_screen",
)
