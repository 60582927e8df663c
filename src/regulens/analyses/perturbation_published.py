"""What does the published procedure say about a screen? Its two configurations, t tests over perturbations as units.

A reproduction: missing attention counts as zero, the larger of the two directions is the score, and perturbations count
as independent although they share their genes. Its defects are kept, and it feeds no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, edges_of, test_id
from regulens.analyses.per_perturbation import MIN_PERTURBATIONS, PerPerturbation, screen_refused, screen_result_of
from regulens.errors import InputError
from regulens.stats.screen_effects import effects_of
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome
from regulens.types.screens import Comparison, LabelRule, ResponseLabels

_T = "one-sample t over perturbations, taken as independent"

PUBLISHED_DESIGNS = (
    TestDesign(name="primary_above_chance", side="two-sided", unit="perturbation", method=_T,
               hypothesis="Primary configuration: mean AUROC of attention over perturbations is not 0.5"),
    TestDesign(name="primary_minus_coexpression", side="two-sided", unit="perturbation",
               method="Wilcoxon signed-rank over perturbations, taken as independent",
               hypothesis="Primary configuration: attention and co-expression differ in AUROC over perturbations"),
    TestDesign(name="baseline_above_chance", side="two-sided", unit="perturbation", method=_T,
               hypothesis="Baseline configuration: mean AUROC of attention over perturbations is not 0.5"),
)  # fmt: skip

TABLES = {
    "published": [
        "configuration", "test", "min_effect", "n_controls", "n_perturbations", "n_pos", "attention", "attention_sd",
        "p", "coexpression", "coexpression_sd", "p_difference", "note",
    ]
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """How responders were called in print: comparison, smallest effect (natural log), control cells at most."""

    name: str
    test: Comparison
    min_effect: float
    controls: int


CONFIGURATIONS = (
    Configuration(name="primary", test="welch", min_effect=0.5, controls=2000),
    Configuration(name="baseline", test="mann_whitney", min_effect=0.1, controls=500),
)


def relabelled(inp: AnalysisInput, how: Configuration, *, use: str) -> ResponseLabels:
    """Labels of the universe's perturbations under another comparison with fewer control cells.

    Parameters
    ----------
    use
        Of the random stream that picks the control cells.

    Raises
    ------
    InputError
        When the screen has no cells.
    """
    screen = inp.screen
    if screen is None or screen.cells is None:
        message = "Expected the cells of a screen to compare them again, got a table of effects. Give the cells."
        raise InputError(message)
    controls = np.flatnonzero(screen.cells.obs["control"].to_numpy(dtype=bool))
    if len(controls) > how.controls:
        controls = np.sort(inp.rng(use).choice(controls, how.controls, replace=False))
    effects = effects_of(  # Welch to the letter, silent groups and all, as it was published
        screen.cells, test=how.test, controls=controls, perturbations=inp.universe.regulators, borrow=False,
        jobs=inp.jobs,
    )  # fmt: skip
    return ResponseLabels.build(effects, LabelRule(min_effect=how.min_effect))


def _everywhere(scores: EdgeScores, values: np.ndarray) -> EdgeScores:
    """Every pair observed, missing ones at zero."""
    return EdgeScores(
        values=values, observed=np.ones_like(scores.observed), names=scores.names, genes=scores.genes,
        regulators=scores.regulators,
    )  # fmt: skip


def published_scores(inp: AnalysisInput) -> list[EdgeScores]:
    """Attention, the larger of both directions, and |co-expression|, missing pairs at zero."""
    both = [a.select([inp.request.primary]) for a in inp.attention.values()]
    coexpression = inp.coexpression.select(["coexpression_abs"])
    return [
        _everywhere(both[0], np.max([b.values for b in both], axis=0)), _everywhere(coexpression, coexpression.values)
    ]  # fmt: skip


def _refuse_few(per: PerPerturbation) -> str:
    return "" if per.n >= MIN_PERTURBATIONS else per.refusal


def run_published(inp: AnalysisInput, name: str) -> AnalysisOutcome:
    """Both configurations; without cells the ready table's own labels stand for the primary one."""
    request, primary = inp.request, inp.request.primary
    ids = {d.name: test_id(name, request, d.name) for d in PUBLISHED_DESIGNS}
    rows, results, records, dropped = [], [], [], {}
    for how in CONFIGURATIONS:
        universe, reason = inp.universe, ""
        if inp.screen is not None and inp.screen.cells is not None:
            try:
                labels = relabelled(inp, how, use=f"sample/{name}/published/{how.name}")
                universe = labels.universe(genes=inp.universe.genes, name=how.name, screen=inp.universe.reference)
            except InputError as error:
                reason = str(error)
            n_controls = how.controls
        else:
            n_controls = -1
            if how.name != "primary":
                reason = "a table of effects has no cells that could be compared in another way"
        if reason:
            per = PerPerturbation.of(edges_of(inp, inp.primary).restrict(slice(0, 0)), inp.universe.regulators)
        else:
            edges = LabelledEdges.build(published_scores(inp), universe, endpoint=Endpoint.PERTURBATION_RESPONSE)
            per = PerPerturbation.of(edges, universe.regulators)
            reason = _refuse_few(per)
        dropped[f"perturbations without labels, {how.name} configuration"] = len(inp.universe.regulators) - per.n
        mine = [d.name for d in PUBLISHED_DESIGNS if d.name.startswith(how.name)]
        if reason:
            records += [TestRecord(id=ids[n], undefined=reason, n_units=per.n) for n in mine]
            rows.append((how.name, how.test, how.min_effect, np.nan, per.n, per.edges.n_pos, *(np.nan,) * 6, reason))
            results.append(screen_result_of(inp, name, per, score=f"{primary}, {how.name} configuration",
                                            estimate=Undefined(reason=reason)))  # fmt: skip
            continue
        attention, coexpression = per.values(primary), per.values("coexpression_abs")
        p = float(stats.ttest_1samp(attention, 0.5).pvalue) if np.ptp(attention) > 0 else np.nan
        gap = attention - coexpression
        p_gap = float(stats.wilcoxon(gap).pvalue) if np.any(gap != 0) else np.nan
        for test, value, effect in ((mine[0], p, attention.mean() - 0.5), *((m, p_gap, gap.mean()) for m in mine[1:])):
            if np.isfinite(value):
                records.append(TestRecord(id=ids[test], effect=float(effect), p_raw=max(value, 1e-300), n_units=per.n))
            else:
                records.append(TestRecord(id=ids[test], undefined="all perturbations have one value", n_units=per.n))
        used = n_controls if inp.screen is None or inp.screen.cells is None else min(
            n_controls, int(inp.screen.cells.obs["control"].sum()))  # fmt: skip
        rows.append(
            (how.name, how.test, how.min_effect, used if used >= 0 else np.nan, per.n, per.edges.n_pos,
             attention.mean(), attention.std(ddof=1), p, coexpression.mean(), coexpression.std(ddof=1), p_gap,
             "" if used >= 0 else "labels of the ready table")
        )  # fmt: skip
        half = float(stats.t.ppf(0.975, per.n - 1) * attention.std(ddof=1) / np.sqrt(per.n))
        mean = float(attention.mean())
        results.append(
            screen_result_of(
                inp, name, per, score=f"{primary}, {how.name} configuration",
                estimate=Estimate(value=mean, low=mean - half, high=mean + half, n_units=per.n, unit="perturbation",
                                  method="t over perturbations", se=half / float(stats.t.ppf(0.975, per.n - 1))),
            )
        )  # fmt: skip
    if all(r.undefined for r in records):
        per = PerPerturbation.build(inp, inp.primary)
        return screen_refused(inp, name, PUBLISHED_DESIGNS, records[0].undefined, per=per, tables=TABLES)
    return AnalysisOutcome(
        analysis=name, model=request.model, reference=request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=TABLES["published"])}, records=tuple(records),
        facts={"n_perturbations": int(max(r[4] for r in rows))}, dropped=dropped,
    )  # fmt: skip
