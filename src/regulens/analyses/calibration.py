"""Can a score of gene pairs be read as the probability that a gene responds to a perturbation?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.calibration_published import PUBLISHED, run_published
from regulens.analyses.calibration_tables import (
    TABLES,
    curve_rows,
    reading_row,
    transfer_rows,
)
from regulens.analyses.calibration_transfer import FROZEN, LOCAL, WAYS, Transferred, transfer
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.judged import BASE_RATE, RAW, Judged, out_of_sample
from regulens.analyses.per_perturbation import (
    UNIT,
    PerPerturbation,
    screen_refused,
    screen_result_of,
)
from regulens.analyses.probabilities import quarters, scores_of, too_few
from regulens.errors import ParameterError, RegulensError, nearest
from regulens.parallel import run_ordered
from regulens.stats.calibrators import CALIBRATORS, MAPS
from regulens.stats.inference import mean_inference
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome
from regulens.types.screens import LabelRule, ResponseLabels

NAME = "calibration"


# A raw score in [0, 1] is no probability at the base rate of a screen, whatever it knows: that its ECE falls is
# arithmetic, true in a world without signal as well. What could be false is that the calibrated score says more than
# the base rate, and that is the confirmatory test.
DESIGNS = (
    TestDesign(
        name="better_than_base_rate",
        hypothesis="Calibrated attention predicts responses to perturbations it was not fitted on better than the "
        "base rate does: its Brier score is lower",
        unit=UNIT,
        method="t from the delete-one jackknife over perturbations and over target genes, fits held fixed",
    ),
    TestDesign(
        name="ece_drop",
        hypothesis="Calibration lowers the expected calibration error of attention on other perturbations",
        unit="perturbation", method="corrected resampled t over splits of perturbations", confirmatory=False,
    ),
    TestDesign(
        name="transfer_worse_than_local",
        hypothesis="On the second screen, attention calibrated on the first has a larger expected calibration error "
        "than attention calibrated on other perturbations of the second",
        unit="perturbation", confirmatory=False,
        method="t from the delete-one jackknife over judged perturbations, fits held fixed",
    ),
)  # fmt: skip

#: Result → its metric and null value.
STEPS = {"raw": ("ece", 0.0), "calibrated": ("ece", 0.0), "gain": ("brier_gain", 0.0)}


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and screen."""
    designs = (PUBLISHED,) if request.protocol is Protocol.PUBLISHED else DESIGNS
    return plan_tests(NAME, request, designs, endpoint=Endpoint.PERTURBATION_RESPONSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked parameters."""

    to_unit: str
    calibrator: str
    repeats: int
    methods: tuple[str, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """From the plan's parameters over the defaults.

        Raises
        ------
        ParameterError
            For a map or a calibrator that is not known.
        """
        p = SPEC.parameters | {k: v for k, v in given.items() if k in SPEC.parameters}
        for name, known in (("map", MAPS), ("calibrator", CALIBRATORS)):
            if p[name] not in known:
                hint = nearest(str(p[name]), list(known))
                message = f"Expected {name} among {', '.join(known)}, got {p[name]!r}.{hint} Choose one of them."
                raise ParameterError(message)
        return cls(to_unit=p["map"], calibrator=p["calibrator"], repeats=int(p["repeats"]), methods=tuple(p["methods"]))


def _one(task: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str, bool]) -> dict[str, Judged]:
    score, label, group, parts, to_unit, base_rate = task
    return out_of_sample(
        score, label, group, parts, to_unit=to_unit, calibrators=tuple(CALIBRATORS), base_rate=base_rate
    )


def _over_splits(values: np.ndarray, n: int) -> Effect:
    """Mean over splits of an ECE, or of a difference of two, with the error that splits of shared data have.

    Nadeau & Bengio (2003): the variance over R splits times ``1/R + n_judged / n_fitting``, here a quarter over three,
    and t with R − 1 degrees of freedom. It holds what fits and judged perturbations bring, both.
    """
    r = len(values)
    se = float(np.sqrt((1 / r + 1 / 3) * values.var(ddof=1)))
    undefined = "" if se > 1e-12 else "the standard error is 0: every split gives the same"
    return Effect(
        value=float(values.mean()), se=se if not undefined else float("nan"), df=float(r - 1), n_units=n,
        unit="perturbation", method=f"corrected resampled t over {r} splits of {n} perturbations", undefined=undefined,
    )  # fmt: skip


def _above_zero(estimate: Estimate | Undefined) -> Estimate | Undefined:
    """The same with an interval that does not reach below 0, where no ECE is."""
    return replace(estimate, low=max(estimate.low, 0.0)) if isinstance(estimate, Estimate) else estimate


def _transfer_effect(found: Transferred, n: int) -> Effect:
    """ECE of frozen minus local attention, with the delete-one jackknife over judged perturbations."""
    f, l = WAYS.index(FROZEN), WAYS.index(LOCAL)
    moved = found.ece_moved[f] - found.ece_moved[l]
    se = float(np.sqrt((n - 1) / n * ((moved - moved.mean()) ** 2).sum()))
    undefined = "" if se > 1e-12 else "the standard error is 0: both readings are the same"
    return Effect(
        value=float(found.metrics[f, 0] - found.metrics[l, 0]), se=se if not undefined else float("nan"),
        df=float(n - 1), n_units=n, unit="perturbation", undefined=undefined,
        method=f"delete-one jackknife over {n} perturbations, fits held fixed, t interval",
    )  # fmt: skip


def _gain(per: PerPerturbation, base: Judged, judged: Judged) -> Effect:
    """Brier score of the base rate minus that of the calibrated score, perturbations and genes as units."""
    found = mean_inference((base.square - judged.square)[None], per.edges.regulator, per.edges.target)
    words = found.undefined[0].replace("regulators", "perturbations")
    if words.startswith("the standard error is 0"):
        words = "the calibrated score is the base rate: it does not rise with the score in any repeat"
    effect = effects_of(found)[0]
    return replace(
        effect, unit=UNIT, n_units=per.n, undefined=words,
        method=effect.method.replace("regulators", "perturbations").replace("targets", "target genes"),
    )  # fmt: skip


def with_rule(inp: AnalysisInput, rule: LabelRule) -> AnalysisInput:
    """The same pairs under another label rule; perturbations with too few responders are left out."""
    assert inp.screen is not None
    labels = ResponseLabels.build(inp.screen.labels.effects, rule)
    universe, effects = inp.universe, labels.effects
    column = {g: j for j, g in enumerate(effects.genes)}
    row = {p: i for i, p in enumerate(effects.perturbations)}
    i = np.array([row[p] for p in universe.regulators])
    j = np.array([column.get(g, -1) for g in universe.genes])
    candidate = universe.candidate & (j >= 0) & labels.tested[i][:, j]
    positive = candidate & labels.positive[i][:, j]
    n_pos = positive.sum(axis=1)
    keep = (n_pos >= rule.min_positives) & (candidate.sum(axis=1) - n_pos >= rule.min_negatives)
    return replace(
        inp, universe=replace(universe, candidate=candidate & keep[:, None], positive=positive & keep[:, None])
    )


def rules_beside(rule: LabelRule) -> dict[str, LabelRule]:
    """The study's label rule, and others that the numbers are given under as a sensitivity analysis, each rule once.

    >>> [name for name in rules_beside(LabelRule(min_effect=0.0))]
    ['of_the_study']
    """
    found = {"of_the_study": rule}
    for name, factor in (("half_the_effect", 0.5), ("twice_the_effect", 2.0), ("any_effect", 0.0)):
        other = replace(rule, min_effect=rule.min_effect * factor)
        if other not in found.values():
            found[name] = other
    return found


def _rules(inp: AnalysisInput, settings: Settings) -> pd.DataFrame:
    """Attention under other label rules: raw, calibrated, and the base rate."""
    assert inp.screen is not None
    rows = []
    for name, rule in rules_beside(inp.screen.labels.rule).items():
        per = PerPerturbation.build(with_rule(inp, rule), inp.primary, inp.coexpression.select(["coexpression_abs"]))
        lead = {"rule": name, "min_effect": rule.min_effect, "n_perturbations": per.n, "n_pos": per.edges.n_pos}
        if note := too_few(per.n):
            rows.append(lead | {"note": note})
            continue
        # dealt as in the main table, so that rules of the same perturbations differ by their labels alone
        parts = quarters(per.n, settings.repeats, inp.rng(f"split/{NAME}"))
        group = np.searchsorted(per.row, per.edges.regulator)
        found = out_of_sample(
            per.edges.scores[0], per.edges.label, group, parts, to_unit=settings.to_unit,
            calibrators=(settings.calibrator,), base_rate=True,
        )  # fmt: skip
        prevalence = per.edges.n_pos / len(per.edges.label)
        rows += [lead | {"prevalence": prevalence} | reading_row("", way, found[way], found[BASE_RATE], "")
                 for way in found]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=TABLES["calibration_rules"])


def _transfers(
    inp: AnalysisInput, per: PerPerturbation, settings: Settings
) -> tuple[list[dict[str, Any]], tuple[Transferred, int] | None, str]:
    """Rows of every other screen; attention's transfer to the first of them, or why there is none."""
    rows: list[dict[str, Any]] = []
    first: tuple[Transferred, int] | None = None
    reason = "" if inp.others else "the study has one screen"
    for k, (screen, make) in enumerate(inp.others.items()):
        try:
            other = make()
            there = PerPerturbation.build(other, *scores_of(other, settings.methods))
        except RegulensError as error:
            rows.append({"screen": screen, "note": str(error)})
            reason = reason or str(error)
            continue
        if note := too_few(there.n):
            rows.append({"screen": screen, "n_perturbations": there.n, "note": note})
            reason = reason or note if k == 0 else reason
            continue
        parts = quarters(there.n, settings.repeats, inp.rng(f"split/{NAME}/transfer/{screen}"))
        group = np.searchsorted(there.row, there.edges.regulator)
        for s, name in enumerate(per.names):
            if name not in there.names:
                continue
            found = transfer(
                (per.edges.scores[s], per.edges.label),
                (there.edges.score(name), there.edges.label, group), parts,
                to_unit=settings.to_unit, calibrator=settings.calibrator,
            )  # fmt: skip
            if k == 0 and name == inp.request.primary:
                first = (found, there.n)
            rows += transfer_rows(screen, name, found, per, there)
    return rows, first, reason


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    assert inp.screen is not None
    request, level, settings = inp.request, 1 - inp.request.settings.alpha, Settings.of(inp.parameters)
    per = PerPerturbation.build(inp, *scores_of(inp, settings.methods))
    if reason := per.refusal or too_few(per.n):
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=STEPS)
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    stream = f"split/{NAME}"
    parts = quarters(per.n, settings.repeats, inp.rng(stream))
    group = np.searchsorted(per.row, per.edges.regulator)
    tasks = [(s, per.edges.label, group, parts, settings.to_unit, k == 0) for k, s in enumerate(per.edges.scores)]
    base: Judged | None = None
    rows, curves, gain, drop, primary = [], [], None, None, None
    draws = inp.rng(f"bootstrap/{NAME}/curve").multinomial(
        per.n, np.full(per.n, 1 / per.n), size=inp.request.settings.bootstrap
    )
    for name, found in zip(per.names, run_ordered(_one, tasks, jobs=inp.jobs)):
        if base is None:
            base = found.pop(BASE_RATE)
            rows.append(reading_row("", BASE_RATE, base, base, "no score at all"))
            primary = found
            gain = _gain(per, base, found[settings.calibrator])
            drop = _over_splits(found[RAW].of("ece") - found[settings.calibrator].of("ece"), per.n)
        for way, judged in found.items():
            rows.append(reading_row(name, way, judged, base, ""))
            curves += curve_rows(name, way, judged.p, per.edges.label, group, draws, level)
    assert base is not None and primary is not None and gain is not None and drop is not None
    more, moved, reason = _transfers(inp, per, settings)
    records = [
        gain.record(ids["better_than_base_rate"], side="greater", level=level),
        drop.record(ids["ece_drop"], side="greater", level=level),
    ]
    if moved is None:
        records.append(TestRecord(id=ids["transfer_worse_than_local"], undefined=reason, n_units=per.n))
    else:
        gap = _transfer_effect(*moved)
        records.append(gap.record(ids["transfer_worse_than_local"], side="greater", level=level))
    calibrated = primary[settings.calibrator]
    results = [
        screen_result_of(
            inp, NAME, per, score=f"{request.primary}, {way}", metric="ece", null_value=0.0, step=step,
            estimate=_above_zero(_over_splits(j.of("ece"), per.n).estimate(null_value=0.0, level=level)),
            stream=inp.stream_name(stream),
        )
        for way, step, j in ((RAW, "raw", primary[RAW]), (settings.calibrator, "calibrated", calibrated))
    ]  # fmt: skip
    results.append(
        screen_result_of(
            inp, NAME, per, score=f"{request.primary}, {settings.calibrator}", metric="brier_gain", null_value=0.0,
            step="gain", estimate=gain.estimate(null_value=0.0, level=level), stream=inp.stream_name(stream),
        )
    )  # fmt: skip
    facts = {
        **per.counts(), "label_rule": inp.screen.labels.rule.words(inp.screen.labels.effects),
        "map": settings.to_unit, "calibrator": settings.calibrator, "repeats": settings.repeats,
        "ece_raw": primary[RAW].mean("ece"), "ece": calibrated.mean("ece"), "ece_base_rate": base.mean("ece"),
        "resolution": calibrated.mean("resolution"), "brier": calibrated.mean("brier"),
        "brier_base_rate": base.mean("brier"), "transfer": "" if moved is not None else reason,
    }  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=tuple(results),
        tables={
            "calibration": pd.DataFrame(rows).reindex(columns=TABLES["calibration"]),
            "calibration_curve": pd.DataFrame(curves, columns=TABLES["calibration_curve"]),
            "calibration_rules": _rules(inp, settings),
            "calibration_transfer": pd.DataFrame(more, columns=TABLES["calibration_transfer"]),
        },
        records=tuple(records), facts=facts, dropped=per.dropped(),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=2,
    title="Scores as probabilities",
    question="Can a score of gene pairs be read as the probability that a gene responds to a perturbation?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen", "inferred"),
    plan=plan,
    run=run,
    reference="Platt 1999; Zadrozny & Elkan 2002; Kull, Silva Filho & Flach 2017; Murphy 1973; Stephenson, Coelho & "
    "Jolliffe 2008; Nadeau & Bengio 2003",
    falsified_by="Calibrated probabilities whose Brier score on other perturbations is that of the base rate: an "
    "expected calibration error near 0 without resolution.",
    parameters={
        "map": "rank", "calibrator": "platt", "repeats": 20,
        "methods": ["pearson", "mutual_information", "partial_correlation", "lasso"],
    },
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="model_screen",
)  # fmt: skip
