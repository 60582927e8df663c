"""Does the result depend on how responders are called, which controls and which genes are taken?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.design_curve import GridCurve, grid_curve
from regulens.analyses.design_grid import CONTRASTS, Cell, evaluated, grid_cells
from regulens.analyses.design_labels import Comparisons, comparisons, with_enough_cells
from regulens.analyses.design_scores import BASELINES, RIVAL, GeneSets, SetScores, set_scores, way_of
from regulens.analyses.per_perturbation import UNIT, PerPerturbation, screen_refused, screen_result_of
from regulens.errors import ParameterError
from regulens.provenance import digest_of
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Undefined
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome, EvaluationResult

NAME = "design_sensitivity"
FLIPS = (
    "share of the grid above 0 (ties: the mean), against sign flips of perturbations and of target genes; one test for "
    "the whole grid"
)

DESIGNS = (
    TestDesign(
        name="attention_leads_gene_level",
        hypothesis="Attention predicts responses better than the best gene-level statistic in more of the grid of "
        "designs than chance would have it",
        unit=UNIT, method=FLIPS,
    ),
    TestDesign(
        name="attention_leads_coexpression",
        hypothesis="Attention predicts responses better than co-expression in more of the grid of designs than chance "
        "would have it",
        unit=UNIT, method=FLIPS,
    ),
)  # fmt: skip

TABLES = {
    "design_summary": [
        "contrast", "n_designs", "share_leads", "lead_mean", "lead_mean_low", "lead_mean_high", "lead_min", "lead_max",
        "share_clearly_above", "share_clearly_below", "p", "p_share_alone", "p_genes_fixed", "n_common", "share_common",
        "lead_mean_common",
    ],
    "design_grid": [
        "part", "test", "controls", "min_effect", "alpha", "genes", "gene_set", "n_perturbations", "n_pos", "n_neg",
        "auroc", "low", "high", "coexpression", "lead_coexpression", "lead_coexpression_low", "lead_coexpression_high",
        "baseline", "baseline_auroc", "lead_gene_level", "lead_gene_level_low", "lead_gene_level_high", "n_common",
        "lead_coexpression_common", "lead_gene_level_common", "note",
    ],
    "design_factors": [
        "factor", "choice", "n_designs", "n_perturbations", "auroc_mean", "lead_coexpression_mean",
        "lead_gene_level_mean", "share_leads_coexpression", "share_leads_gene_level",
    ],
    "design_levels": ["factor", "asked", "used", "note"],
}  # fmt: skip

#: Where the choices of a cell stand in the tables, and what they are called.
FACTORS = ("test", "controls", "min_effect", "alpha", "genes")


#: Result → its metric and null value.
STEPS = {"": ("mean_perturbation_auroc_difference", 0.0)}


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and screen."""
    return plan_tests(NAME, request, DESIGNS, endpoint=Endpoint.PERTURBATION_RESPONSE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Choices:
    """Levels of the grid, checked."""

    min_effects: list[float]
    controls: list[int]
    sizes: list[int]
    tests: list[str]
    alphas: list[float]
    gene_sets: str
    max_cells: int | None
    memory: int | str | None

    @classmethod
    def of(cls, inp: AnalysisInput) -> _Choices:
        assert inp.screen is not None
        given = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
        table = inp.screen.cells is None
        alphas = [float(a) for a in given["alpha_of_tables"]]
        has_p = inp.screen.labels.effects.p is not None
        made = cls(
            min_effects=sorted({float(x) for x in given["min_effect"]}),
            controls=sorted({int(x) for x in given["controls"]}), sizes=sorted({int(x) for x in given["genes"]}),
            tests=list(dict.fromkeys(str(t) for t in given["tests"])),
            alphas=sorted(set(alphas)) if table and has_p else [inp.screen.labels.rule.alpha],
            gene_sets=str(given["gene_sets"]),
            max_cells=None if given["max_cells"] is None else int(given["max_cells"]), memory=given["memory"],
        )  # fmt: skip
        problem = ""
        if not (made.min_effects and made.controls and made.sizes and made.tests and alphas):
            problem = "at least one level of min_effect, controls, genes, tests and alpha_of_tables"
        elif min(made.controls) < 2 or min(made.sizes) < 2 or min(made.min_effects) < 0:
            problem = "controls and genes of at least 2 and min_effect of at least 0"
        elif set(made.tests) - {"welch", "mann_whitney"}:
            problem = "tests among welch and mann_whitney"
        elif not all(0 < a < 1 for a in alphas):
            problem = "alpha_of_tables between 0 and 1"
        elif made.gene_sets not in ("read", "reextract"):
            problem = "gene_sets 'read' or 'reextract'"
        elif made.max_cells is not None and made.max_cells < 1:
            problem = "max_cells of at least 1, or none"
        if problem:
            message = f"Expected {problem} in the parameters of {NAME}, got {given}. Correct them in the study file."
            raise ParameterError(message)
        return made

    def asked(self, *, table: bool) -> int:
        """Cells of the grid as asked for."""
        by_label = len(self.alphas) if table else len(self.controls) * len(self.tests)
        return len(self.min_effects) * len(self.sizes) * by_label


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    assert inp.screen is not None
    study = PerPerturbation.build(
        inp, inp.primary, inp.coexpression.select([RIVAL]), inp.baselines.select(list(BASELINES))
    )
    choices = _Choices.of(inp)
    table = inp.screen.cells is None
    way, why = way_of(inp, choices.gene_sets)
    enough = with_enough_cells(inp)
    sets = list(
        set_scores(
            inp, choices.sizes, measured=frozenset(inp.screen.labels.effects.genes), perturbations=enough, way=way,
            max_cells=choices.max_cells, memory=choices.memory,
        )
    )  # fmt: skip
    if not sets:
        reason = "no gene that the screen measured is seen by the model in enough cells"
        return screen_refused(inp, NAME, DESIGNS, reason, per=study, tables=TABLES, steps=STEPS)
    made = list(
        comparisons(
            inp, tests=choices.tests, controls=choices.controls, genes=frozenset(g for s in sets for g in s.targets),
            perturbations=enough,
        )
    )  # fmt: skip
    cells = [
        cell
        for scores in sets
        for cell in grid_cells(inp, scores, made, alphas=choices.alphas, min_effects=choices.min_effects)
    ]
    usable = [c for c in cells if not c.undefined]
    common = frozenset.intersection(*(frozenset(c.perturbations) for c in cells))
    own = _own_design(inp, study)
    level = 1 - inp.request.settings.alpha
    grid = pd.DataFrame(
        [_row(own, "study", "read", common, level)] + [_row(c, "grid", way, common, level) for c in cells],
        columns=TABLES["design_grid"],
    )
    levels = _levels(choices, sets, made, table=table, way=way, why=why)
    if not usable:
        most = max(cells, key=lambda c: c.n)
        reason = f"none of {len(cells)} designs can be evaluated; in the one with most: {most.undefined}"
        outcome = screen_refused(inp, NAME, DESIGNS, reason, per=study, tables=TABLES, steps=STEPS)
        outcome.tables.update(design_grid=grid, design_levels=levels)  # how few each design keeps
        return outcome
    curves = {c: grid_curve(inp, usable, c, common) for c in CONTRASTS}
    records = tuple(
        _record(inp, f"attention_leads_{c}", curves[c], len({p for one in usable for p in one.perturbations}))
        for c in CONTRASTS
    )
    missed = choices.asked(table=table) - len(cells)
    return AnalysisOutcome(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference,
        results=tuple(_result(inp, study, usable, c, curves[c]) for c in CONTRASTS),
        tables={
            "design_summary": pd.DataFrame([curves[c].row(c) for c in CONTRASTS], columns=TABLES["design_summary"]),
            "design_grid": grid,
            "design_factors": _factors(grid[(grid["part"] == "grid") & grid["auroc"].notna()]),
            "design_levels": levels,
        },
        records=records,
        facts={
            **study.counts(), "n_designs": len(cells), "n_designs_defined": len(usable), "n_designs_collapsed": missed,
            "n_designs_asked": missed + len(cells), "n_common_perturbations": len(common), "gene_sets": way,
            "gene_sets_why": why, "n_cells_read": [s.n_cells for s in sets],
            **{f"share_leads_{c}": curves[c].share for c in CONTRASTS},
            **{f"p_genes_fixed_{c}": curves[c].genes_fixed for c in CONTRASTS if curves[c].genes_fixed is not None},
        },
        dropped=study.dropped()
        | {
            "designs of the grid that stand for others of fewer cells or genes than asked": missed,
            "designs of the grid with too few perturbations": len(cells) - len(usable),
        },
    )  # fmt: skip


def _own_design(inp: AnalysisInput, study: PerPerturbation) -> Cell:
    """The design of the study file, on the study's own pairs."""
    assert inp.screen is not None
    effects, rule = inp.screen.labels.effects, inp.screen.labels.rule
    return evaluated(
        study, inp.universe.genes, test=effects.test, controls=effects.n_controls, alpha=rule.alpha,
        min_effect=rule.min_effect, genes=int(inp.universe.candidate.any(axis=0).sum()),
    )  # fmt: skip


def _row(cell: Cell, part: str, way: GeneSets, common: frozenset[str], level: float) -> tuple[object, ...]:
    """One design, as a row of the grid."""
    at = cell.auroc.cells(null_value=0.5, level=level)
    leads: dict[str, tuple[float, float, float]] = {}
    for name, effect in cell.leads.items():
        low, high = effect.bounds(level)
        leads[name] = (effect.value, low, high)
    n_common = sum(p in common for p in cell.perturbations)
    bad = bool(cell.undefined)
    gone = (np.nan,) * 3
    return (
        part, cell.test, np.nan if cell.controls < 0 else cell.controls, cell.min_effect, cell.alpha, cell.genes, way,
        cell.n, cell.n_pos, cell.n_neg,
        *(gone if bad else (at["value"], at["low"], at["high"])),
        np.nan if bad else cell.rivals["coexpression"], *(gone if bad else leads["coexpression"]),
        "" if bad else cell.baseline, np.nan if bad else cell.rivals["gene_level"],
        *(gone if bad else leads["gene_level"]), n_common, cell.lead_in("coexpression", common),
        cell.lead_in("gene_level", common), cell.undefined,
    )  # fmt: skip


def _record(inp: AnalysisInput, name: str, curve: GridCurve, n_units: int) -> TestRecord:
    test = test_id(NAME, inp.request, name)
    if curve.test is None:
        reason = curve.mean.undefined or "nothing varies over perturbations and genes"
        return TestRecord(id=test, undefined=reason, n_units=n_units)
    return TestRecord(
        id=test, statistic=curve.test.share, effect=curve.mean.value, low=curve.interval[0], high=curve.interval[1],
        p_raw=curve.test.p, n_units=n_units, stream=inp.stream_name(curve.stream),
    )  # fmt: skip


def _result(
    inp: AnalysisInput, study: PerPerturbation, cells: list[Cell], contrast: str, curve: GridCurve
) -> EvaluationResult:
    """The mean lead over the grid; counts are those of the design with fewest positives."""
    least = min(cells, key=lambda c: c.n_pos)
    estimate = curve.mean.estimate(null_value=0.0, level=1 - inp.request.settings.alpha)
    if not np.isfinite(curve.mean.value):
        estimate = Undefined(reason="no design has a number")
    made = screen_result_of(
        inp, NAME, study, score=f"{inp.request.primary} - {contrast}, mean over the grid of designs", estimate=estimate,
        metric="mean_perturbation_auroc_difference", null_value=0.0, stream=inp.stream_name(curve.stream),
    )  # fmt: skip
    return replace(
        made, n_pos=least.n_pos, n_neg=least.n_neg, n_regulators=min(c.n for c in cells),
        universe_digest=digest_of([c.universe_digest for c in cells]),
    )  # fmt: skip


def _factors(grid: pd.DataFrame) -> pd.DataFrame:
    """Means over the designs that share a choice."""
    rows = []
    for factor in FACTORS:
        for choice in sorted(grid[factor].dropna().unique()):
            mine = grid[grid[factor] == choice]
            rows.append(
                (factor, f"{choice:g}" if isinstance(choice, float) else str(choice), len(mine),
                 mine["n_perturbations"].mean(), mine["auroc"].mean(), mine["lead_coexpression"].mean(),
                 mine["lead_gene_level"].mean(), float((mine["lead_coexpression"] > 0).mean()),
                 float((mine["lead_gene_level"] > 0).mean()))
            )  # fmt: skip
    return pd.DataFrame(rows, columns=TABLES["design_factors"])


def _levels(
    choices: _Choices, sets: list[SetScores], made: list[Comparisons], *, table: bool, way: GeneSets, why: str
) -> pd.DataFrame:  # fmt: skip
    """What was asked for, what the data gave, and how gene sets were had."""
    rows: list[tuple[str, str, str, str]] = []

    def add(factor: str, used: int, asked: tuple[int, ...], what: str) -> None:
        for level in asked:
            words = "" if level == used else f"the data have {used:,} {what}"
            if len(asked) > 1:
                words += f"; {len(asked)} levels asked for are one"
            rows.append((factor, f"{level:,}", f"{used:,}", words))

    for one in sets:
        add("genes", len(one.targets), one.asked, "genes that the screen measured and the model sees")
    if table:
        why_not = "a table of effects: its controls and its test are fixed"
        rows += [("controls", "", "", why_not), ("test", "", made[0].test, why_not)]
        rows += [("alpha", f"{a:g}", f"{a:g}", "") for a in choices.alphas]
    else:
        for used, asked in {c.controls: c.asked for c in made}.items():
            add("controls", used, asked, "control cells")
        rows += [("test", t, t, "") for t in choices.tests]
    rows += [("min_effect", f"{x:g}", f"{x:g}", "") for x in choices.min_effects]
    read = f"in {min(s.n_cells for s in sets):,} cells" if way == "reextract" else "from the study's maps"
    rows.append(("gene_sets", choices.gene_sets, f"{way}, {read}", why))
    return pd.DataFrame(rows, columns=TABLES["design_levels"])


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Sensitivity to the design of the screen",
    question="Does the result depend on how responders are called, which controls and which genes are taken?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen"),
    plan=plan,
    run=run,
    reference="Simonsohn, Simmons & Nelson 2020 (specification curve); Steegen et al. 2016 (multiverse)",
    falsified_by="A lead of attention whose sign follows the threshold of a responder, the number of control cells, "
    "the test or the genes that were taken.",
    parameters={
        "min_effect": [0.25, 0.5, 1.0], "controls": [500, 2000, 10000], "genes": [1000, 2000, 5000],
        "tests": ["welch", "mann_whitney"], "alpha_of_tables": [0.01, 0.05, 0.1], "gene_sets": "reextract",
        "max_cells": 500, "memory": None,
    },
    scope="model_screen",
)  # fmt: skip
