"""Does attention add to what features of the responding gene say about perturbation responses?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.incremental_control import plant
from regulens.analyses.incremental_fit import GENES_ONLY, LEARNERS, PROPENSITY, Found, Grid, Models, Task, evaluate
from regulens.analyses.incremental_metrics import mean_difference
from regulens.analyses.incremental_published import PUBLISHED_DESIGNS, run_published
from regulens.analyses.incremental_splits import SPLITS, Turns
from regulens.analyses.inference import Effect
from regulens.analyses.per_perturbation import METRICS, PerPerturbation, screen_refused, screen_result_of
from regulens.analyses.perturbation_recovery import screen_facts
from regulens.errors import StatisticsError
from regulens.parallel import run_ordered
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

#: Metric and null value that a refused result would have had.
REFUSED = {"": ("auroc_difference", 0.0)}

NAME = "incremental_value"

UNIT = "perturbation"
METHOD = (
    "t with the error of a bootstrap over perturbations that refits all models, and of a jackknife over judged genes"
)
ATTENTION, COEXPRESSION, PLANTED = "+ attention", "+ co-expression", "+ planted"
WITH_PROPENSITY, BOTH = "gene features + propensity", "gene features + propensity + attention"

_LEARNER = {"logistic": "L2 logistic regression", "trees": "boosted trees"}
_SPLIT = {"perturbation": "other perturbations", "gene": "other genes", "joint": "other perturbations and genes"}
_METRIC = {"auroc": "AUROC", "auprc": "average precision"}
_SHORT = {"auroc": "auroc", "auprc": "average_precision"}

DESIGNS = (
    *(
        TestDesign(
            name=f"{metric}_added_{split}_{learner}", unit=UNIT, method=METHOD,
            hypothesis=f"Fitted on {_SPLIT[split]} by {_LEARNER[learner]}, attention raises the mean "
            f"{_METRIC[metric]} over perturbations of a model of the gene's mean, variance and dropout",
        )
        for metric in _METRIC
        for split in SPLITS
        for learner in LEARNERS
    ),
    *(
        TestDesign(
            name=f"equal_{split}_{learner}", side="two-sided", unit=UNIT, confirmatory=False,
            method="two one-sided t tests (TOST), the same error",
            hypothesis=f"Fitted on {_SPLIT[split]} by {_LEARNER[learner]}, attention changes the mean AUROC by less "
            "than the smallest gain of interest",
        )
        for split in SPLITS
        for learner in LEARNERS
    ),
    TestDesign(
        name="adds_nothing", side="two-sided", unit=UNIT, confirmatory=False,
        method="intersection-union: the largest p of the six equivalence tests",
        hypothesis="In every split, by both learners, attention changes the mean AUROC by less than the smallest gain "
        "of interest",
    ),
)  # fmt: skip

TABLES = {
    "incremental": [
        "split", "learner", "base_features", "metric", "base", "base_low", "base_high", "plus_attention",
        "plus_coexpression", "delta", "delta_low", "delta_high", "se", "p", "tost_p", "delta_coexpression",
        "coexpression_low", "coexpression_high", "n_perturbations", "gain_of_interest", "note",
    ],
    "incremental_control": ["split", "learner", "known", "reached", "reached_low", "reached_high", "p", "found"],
}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and screen."""
    designs = PUBLISHED_DESIGNS if request.protocol is Protocol.PUBLISHED else DESIGNS
    return plan_tests(NAME, request, designs, endpoint=Endpoint.PERTURBATION_RESPONSE)


def grid_of(inp: AnalysisInput, per: PerPerturbation) -> Grid:
    """The pairs of `per`, whose scores are attention and co-expression, on a grid without empty rows and columns."""
    column, number = np.unique(per.edges.target, return_inverse=True)
    shape = (per.n, len(column))
    at = (per.rows.row(), number)
    f = inp.features
    grids = []
    for values, dtype in ((per.edges.label, bool), (True, bool), *((s, np.float64) for s in per.edges.scores)):
        out = np.zeros(shape, dtype=dtype)
        out[at] = values
        grids.append(out)
    return Grid(
        label=grids[0], use=grids[1], feature=np.column_stack([f.mean, f.variance, 1 - f.detection])[column],
        scores={"attention": grids[2], "coexpression": grids[3]},
    )  # fmt: skip


def tasks_of(grid: Grid, inp: AnalysisInput, parameters: dict[str, float], planted: np.ndarray) -> list[Task]:
    """One task per split and learner, the longest first; learners of one split share folds and draws."""
    n_rows, n_columns = grid.label.shape
    grid = replace(grid, scores=grid.scores | {"planted": planted})
    tasks = []
    for split in SPLITS[::-1]:
        folds = min(int(parameters["joint_folds" if split == "joint" else "folds"]), n_rows, n_columns)
        turns = Turns.deal(split, n_rows, n_columns, folds=folds, rng=inp.rng(f"split/{NAME}/{split}"))
        rng = inp.rng(f"bootstrap/{NAME}/{split}")
        weight = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=int(parameters["draws"])).astype(np.float64)
        models: Models = {GENES_ONLY: (), ATTENTION: ("attention",), COEXPRESSION: ("coexpression",),
                          PLANTED: ("planted",)}  # fmt: skip
        contrasts = [(m, GENES_ONLY) for m in (ATTENTION, COEXPRESSION, PLANTED)]
        if split == "perturbation":  # in other splits the labels of judged genes are held back
            models |= {WITH_PROPENSITY: (PROPENSITY,), BOTH: (PROPENSITY, "attention")}
            contrasts.append((BOTH, WITH_PROPENSITY))
        for learner in LEARNERS[::-1]:
            draws = len(weight) if learner == "logistic" else min(int(parameters["tree_draws"]), len(weight))
            tasks.append(
                Task(
                    grid=grid, turns=turns, learner=learner, models=models, contrasts=tuple(contrasts),
                    weight=weight[:draws], seed=int(inp.rng(f"jackknife/{NAME}/{split}").integers(1 << 31)),
                )
            )  # fmt: skip
    return tasks


def effect_of(found: Found, one: str, other: str, metric: str) -> Effect:
    """Mean difference of a metric between two models (or the mean of one) with the error of perturbations and fits.

    Degrees of freedom are those of as many perturbations and as many draws, added as Satterthwaite's.
    """
    k = METRICS.index(metric)
    value = found.metrics[one] - (found.metrics[other] if other else 0.0)
    n = value.shape[1]
    draws = found.draws[one, other][:, k]
    draws = draws[np.isfinite(draws)]
    method = (
        f"bootstrap over {n} perturbations refitting all models, B={draws.size}, and delete-a-group jackknife over "
        "judged genes, t interval"
    )
    mean = float(mean_difference(value, 0.0)[k])
    if draws.size < 10 or not np.isfinite(mean):
        reason = f"only {draws.size} draws of perturbations could be fitted"
        return Effect(value=mean, se=np.nan, df=np.nan, method=method, n_units=n, unit=UNIT, undefined=reason)
    genes = found.gene_variance[one, other][k] if other else 0.0
    se = float(np.sqrt(draws.var(ddof=1) * n / (n - 1) + genes))
    if not se > 0:
        reason = "the difference does not vary between draws: the score has one value, or none that a model can use"
        return Effect(value=mean, se=np.nan, df=np.nan, method=method, n_units=n, unit=UNIT, undefined=reason)
    df = 1.0 / (1.0 / (n - 1) + 1.0 / (draws.size - 1))
    return Effect(value=mean, se=se, df=df, method=method, n_units=n, unit=UNIT)


def _row(found: Found, base: str, plus: str, metric: str, *, level: float, delta: float) -> dict[str, object]:
    gain, own = effect_of(found, plus, base, metric), effect_of(found, base, "", metric)
    low, high = own.bounds(level)
    at = gain.bounds(level)
    row: dict[str, object] = {
        "split": found.split, "learner": found.learner, "base_features": base, "metric": metric, "base": own.value,
        "base_low": low, "base_high": high, "plus_attention": own.value + gain.value, "delta": gain.value,
        "delta_low": at[0], "delta_high": at[1], "se": gain.se, "p": np.nan if gain.undefined else gain.p_greater(),
        "n_perturbations": gain.n_units, "gain_of_interest": delta, "note": gain.undefined,
    }  # fmt: skip
    if metric == "auroc":
        row["tost_p"] = np.nan if gain.undefined else gain.p_equivalent(delta)
    if base == GENES_ONLY:
        rival = effect_of(found, COEXPRESSION, base, metric)
        ends = rival.bounds(level)
        row |= {"plus_coexpression": own.value + rival.value, "delta_coexpression": rival.value,
                "coexpression_low": ends[0], "coexpression_high": ends[1]}  # fmt: skip
    return row


def _bounded(effect: Effect, level: float) -> list[float]:
    """Value and interval of an effect; empty where there is none."""
    return [] if effect.undefined else [float(x) for x in (effect.value, *effect.bounds(level))]


def _base_problem(found: list[Found], level: float) -> str:
    """Why the model of gene features has no valid interval somewhere, or an empty string."""
    for f in found:
        own = effect_of(f, GENES_ONLY, "", "auroc")
        where = f"the model of gene features, {f.split} split, {_LEARNER[f.learner]}"
        if own.undefined:
            return f"{where}: {own.undefined}"
        low, high = own.bounds(level)
        if high < 0.5:
            return (
                f"{where}, has an AUROC of {own.value:.3f} [{low:.3f}, {high:.3f}], below 0.5 on what it has not seen"
            )
    return ""


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    delta = float(parameters["gain_of_interest"])
    per = PerPerturbation.build(inp, inp.primary, inp.coexpression.select(["coexpression_abs"]))
    if reason := per.refusal:
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=REFUSED)
    grid = grid_of(inp, per)
    try:
        planted, known = plant(grid, float(parameters["planted_gain"]), inp.rng(f"planted/{NAME}"))
        tasks = tasks_of(grid, inp, parameters, planted)
        found = {(f.split, f.learner): f for f in run_ordered(evaluate, tasks, jobs=inp.jobs)}
    except StatisticsError as error:
        reason = f"too few responders or genes to fit on others: {error}"
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=REFUSED)

    order = [found[s, b] for s in SPLITS for b in LEARNERS]
    rows = [_row(f, GENES_ONLY, ATTENTION, m, level=level, delta=delta) for f in order for m in METRICS]
    rows += [
        _row(found["perturbation", b], WITH_PROPENSITY, BOTH, m, level=level, delta=delta)
        for b in LEARNERS
        for m in METRICS
    ]
    gain = {(f.split, f.learner, m): effect_of(f, ATTENTION, GENES_ONLY, _SHORT[m]) for f in order for m in _METRIC}
    control = []
    for f in order:
        e = effect_of(f, PLANTED, GENES_ONLY, "auroc")
        low, high = e.bounds(level)
        p = np.nan if e.undefined else e.p_greater()
        control.append((f.split, f.learner, known, e.value, low, high, p, bool(low > 0)))
    records, equal = _records(inp, gain, level=level, delta=delta)
    missed = [f"{s} split, {_LEARNER[b]}" for s, b, *_, ok in control if not ok]
    facts = {
        **per.counts(), **screen_facts(inp), "primary": primary, "primary_pre_specified": True,
        "base_problem": _base_problem(order, level), "planted_gain": known,
        "planted_missed": missed, "gain_of_interest": delta, "tost_p": equal,
        "prevalence": float(per.prevalence.mean()),
        "over_propensity": {b: _bounded(effect_of(found["perturbation", b], BOTH, WITH_PROPENSITY, "auroc"), level)
                            for b in LEARNERS},
        "gains": {f"{s}, {b}": float(gain[s, b, "auroc"].value) for s in SPLITS for b in LEARNERS},
    }  # fmt: skip
    results = tuple(
        screen_result_of(
            inp, NAME, per, score=f"{primary} added to gene features, {s} split, {_LEARNER[b]}", null_value=0.0,
            metric="auroc_difference" if m == "auroc" else "auprc_difference",
            estimate=gain[s, b, m].estimate(null_value=0.0, level=level),
            stream=inp.stream_name(f"bootstrap/{NAME}/{s}"),
        )
        for m in _METRIC
        for s in SPLITS
        for b in LEARNERS
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=records, facts=facts,
        tables={
            "incremental": pd.DataFrame(rows).reindex(columns=TABLES["incremental"]),
            "incremental_control": pd.DataFrame(control, columns=TABLES["incremental_control"]),
        },
        dropped=per.dropped(),
    )  # fmt: skip


def _records(
    inp: AnalysisInput, gain: dict[tuple[str, str, str], Effect], *, level: float, delta: float
) -> tuple[tuple[TestRecord, ...], float | None]:
    """Records of all planned tests, and the p of "adds nothing" where it is defined."""
    ids = {d.name: test_id(NAME, inp.request, d.name) for d in DESIGNS}
    records = []
    equal: list[tuple[float, Effect]] = []
    for (split, learner, metric), effect in gain.items():
        stream = inp.stream_name(f"bootstrap/{NAME}/{split}")
        records.append(
            effect.record(ids[f"{metric}_added_{split}_{learner}"], side="greater", level=level, stream=stream)
        )
        if metric == "auroc":
            p = np.nan if effect.undefined else effect.p_equivalent(delta)
            equal.append((p, effect))
            records.append(
                effect.record(ids[f"equal_{split}_{learner}"], side="two-sided", level=level, p_raw=p, stream=stream)
            )
    bad = next((e for _, e in equal if e.undefined), None)
    if bad is not None:
        return (*records, bad.record(ids["adds_nothing"], side="two-sided", level=level)), None
    p, worst = max(equal, key=lambda pair: pair[0])
    return (*records, worst.record(ids["adds_nothing"], side="two-sided", level=level, p_raw=p)), p


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="What attention adds to gene features",
    question="Does attention add to what features of the responding gene say about perturbation responses?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen"),
    plan=plan,
    run=run,
    reference="Hoerl & Kennard 1970; Friedman 2001 (boosting); Efron & Tibshirani 1993; Schuirmann 1987 (equivalence)",
    falsified_by="A gain in AUROC or average precision whose interval includes 0 in any split or by either learner.",
    parameters={
        "folds": 5, "joint_folds": 3, "draws": 200, "tree_draws": 24, "gain_of_interest": 0.005, "planted_gain": 0.02,
    },
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="model_screen",
)  # fmt: skip
