"""Which responses can be called with a guaranteed error rate, and what do the guaranteed sets say?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.conformal_published import PUBLISHED, run_published
from regulens.analyses.conformal_rows import (
    CLASSES,
    GUARANTEES,
    ONE,
    TABLES,
    InScreen,
    Side,
    combined_p,
    elsewhere,
    in_screen,
)
from regulens.analyses.per_perturbation import PerPerturbation, screen_refused, screen_result_of
from regulens.analyses.probabilities import COEXPRESSION, quarters, scores_of, too_few
from regulens.errors import ParameterError, RegulensError, nearest
from regulens.parallel import run_ordered
from regulens.stats.calibrators import CALIBRATORS, MAPS
from regulens.stats.conformal_sets import fewest_groups
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Undefined
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "conformal"

#: Error rate that tests and headline numbers are at.
ALPHA = 0.10

METHOD = "beta-binomial over perturbations, one random pair each; over repeats twice the mean p"

# Perturbations are dealt to calibrating and judged at random, so they are exchangeable by construction, and the first
# test checks the procedure, not the score. The second can fail in earnest, but its null (two screens drawn alike) says
# nothing about attention.
DESIGNS = (
    TestDesign(
        name="covers_too_few",
        hypothesis="Sets of attention hold the true label of a random pair of another perturbation less often than "
        "promised",
        side="less", unit="perturbation", method=METHOD, confirmatory=False,
    ),
    TestDesign(
        name="covers_too_few_elsewhere",
        hypothesis="Sets of attention made on this screen hold the true label of a random pair of the second screen's "
        "perturbations less often than they would if the screens were exchangeable",
        side="less", unit="perturbation", method=METHOD, confirmatory=False,
    ),
)  # fmt: skip

#: Result → its metric and null value.
STEPS = {"coverage": ("coverage", 1 - ALPHA), "called": ("singleton_share", 0.0)}


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
    alphas: tuple[float, ...]
    delta: float
    methods: tuple[str, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """From the plan's parameters over the defaults.

        Raises
        ------
        ParameterError
            For a map or calibrator that is not known, or a level outside (0, 1).
        """
        p = SPEC.parameters | {k: v for k, v in given.items() if k in SPEC.parameters}
        for name, known in (("map", MAPS), ("calibrator", CALIBRATORS)):
            if p[name] not in known:
                hint = nearest(str(p[name]), list(known))
                message = f"Expected {name} among {', '.join(known)}, got {p[name]!r}.{hint} Choose one of them."
                raise ParameterError(message)
        alphas, delta = tuple(sorted({float(a) for a in p["alphas"]} | {ALPHA})), float(p["delta"])
        if not all(0 < a < 1 for a in (*alphas, delta)):
            message = f"Expected alphas and delta inside (0, 1), got {alphas} and {delta}. Error rates are shares."
            raise ParameterError(message)
        return cls(
            to_unit=p["map"], calibrator=p["calibrator"], repeats=int(p["repeats"]), alphas=alphas, delta=delta,
            methods=tuple(p["methods"]),
        )  # fmt: skip

    def common(self) -> dict[str, Any]:
        """Arguments of `in_screen` and `elsewhere`."""
        return {
            "alphas": self.alphas, "delta": self.delta, "to_unit": self.to_unit, "calibrator": self.calibrator,
            "methods": tuple(GUARANTEES),
        }  # fmt: skip


def _thirds(inp: AnalysisInput, per: PerPerturbation) -> np.ndarray:
    """Third of the genes, by mean expression in control cells, that every pair's target is in."""
    mean = inp.features.mean
    cuts = np.quantile(mean, [1 / 3, 2 / 3])
    return np.searchsorted(cuts, mean)[per.edges.target]


def _side(inp: AnalysisInput, per: PerPerturbation, name: str) -> Side:
    return Side(
        score=per.edges.score(name), label=per.edges.label, group=np.searchsorted(per.row, per.edges.regulator),
        third=_thirds(inp, per),
    )  # fmt: skip


def _trivial(n: int) -> str:
    """Why so few calibrating perturbations give no number."""
    return (
        f"{n} perturbations calibrate and {fewest_groups(ALPHA)} are needed for α = {ALPHA:g}: every set holds both "
        "labels"
    )


def _one(task: tuple[Side, np.ndarray, np.random.Generator, dict[str, Any]]) -> InScreen:
    side, parts, rng, common = task
    return in_screen(side, parts, rng=rng, **common)


def _elsewhere(
    inp: AnalysisInput, per: PerPerturbation, parts: np.ndarray, settings: Settings
) -> tuple[list[dict[str, Any]], tuple[float, float, int] | None, str]:
    """Rows of every other screen; coverage, p and perturbations of the first of them, or why there are none."""
    rows: list[dict[str, Any]] = []
    first, reason = None, "" if inp.others else "the study has one screen"
    for k, (screen, make) in enumerate(inp.others.items()):
        try:
            other = make()
            there = PerPerturbation.build(other, other.primary, other.coexpression.select([COEXPRESSION]))
        except RegulensError as error:
            rows.append({"screen": screen, "note": str(error)})
            reason = reason or str(error)
            continue
        if there.refusal:
            rows.append({"screen": screen, "n_perturbations": there.n, "note": there.refusal})
            reason = reason or there.refusal
            continue
        shared = len(set(per.perturbations) & set(there.perturbations))
        for name in (inp.request.primary, COEXPRESSION):
            if name not in there.names:
                continue
            found, tests = elsewhere(
                _side(inp, per, name), parts, _side(other, there, name),
                rng=inp.rng(f"conformal/{NAME}/{screen}/{name}"), **settings.common(),
            )  # fmt: skip
            lead = {"screen": screen, "score": name, "n_perturbations": there.n, "n_shared": shared, "note": ""}
            rows += [lead | row for row in found]
            n_cal = int((parts > 0).sum(axis=1).min())
            if n_cal < fewest_groups(ALPHA):
                reason = reason or _trivial(n_cal)
            elif k == 0 and name == inp.request.primary:
                coverage = next(r["coverage"] for r in found if r["method"] == ONE and r["alpha"] == ALPHA)
                first = coverage, combined_p(tests[ALPHA]), there.n
    return rows, first, reason


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, settings = inp.request, Settings.of(inp.parameters)
    per = PerPerturbation.build(inp, *scores_of(inp, settings.methods))
    if reason := per.refusal or too_few(per.n):
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=STEPS)
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    stream = f"split/{NAME}"
    parts = quarters(per.n, settings.repeats, inp.rng(stream))
    tasks = [(_side(inp, per, n), parts, inp.rng(f"conformal/{NAME}/{n}"), settings.common()) for n in per.names]
    found = dict(zip(per.names, run_ordered(_one, tasks, jobs=inp.jobs)))
    rows = [{"score": name} | row for name, f in found.items() for row in f.rows]
    primary = found[request.primary]
    own = {(r["method"], r["alpha"]): r for r in primary.rows}
    headline, classes = own[ONE, ALPHA], own[CLASSES, ALPHA]
    trivial = ""
    if headline["n_calibrating"] < headline["n_needed"]:
        trivial = _trivial(headline["n_calibrating"])
        records = [TestRecord(id=ids["covers_too_few"], undefined=trivial, n_units=per.n)]
    else:
        records = [
            TestRecord(
                id=ids["covers_too_few"], effect=headline["coverage"] - (1 - ALPHA), n_units=per.n,
                p_raw=combined_p(primary.tests[ALPHA]), stream=inp.stream_name(stream),
            )
        ]  # fmt: skip
    more, moved, reason = _elsewhere(inp, per, parts, settings)
    if moved is None:
        records.append(TestRecord(id=ids["covers_too_few_elsewhere"], undefined=reason, n_units=per.n))
    else:
        records.append(
            TestRecord(
                id=ids["covers_too_few_elsewhere"], effect=moved[0] - (1 - ALPHA), p_raw=moved[1], n_units=moved[2],
                stream=inp.stream_name(stream),
            )
        )  # fmt: skip
    results = [
        screen_result_of(
            inp, NAME, per, score=f"{request.primary}, {method}", metric=metric, null_value=chance, step=step,
            estimate=Undefined(reason=trivial) if trivial
            else per.mean_of(values[method, ALPHA]).estimates(level=1 - request.settings.alpha)[0],
            stream=inp.stream_name(stream),
        )
        for step, method, metric, values, chance in (
            ("coverage", ONE, "coverage", primary.coverage, 1 - ALPHA),
            ("called", CLASSES, "singleton_share", primary.singleton, 0.0),
        )
    ]  # fmt: skip
    facts = {
        **per.counts(), "alpha": ALPHA, "n_calibrating": headline["n_calibrating"], "n_needed": headline["n_needed"],
        "coverage": headline["coverage"], "size": headline["size"], "singleton_each_class": classes["singleton"],
        "transfer": "" if moved is not None else reason,
    }  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=tuple(results),
        tables={
            "conformal": pd.DataFrame(rows).reindex(columns=TABLES["conformal"]),
            "conformal_transfer": pd.DataFrame(more, columns=TABLES["conformal_transfer"]),
        },
        records=tuple(records), facts=facts, dropped=per.dropped(),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=2,
    title="Sets with guaranteed coverage",
    question="Which responses can be called with a guaranteed error rate, and what do the guaranteed sets say?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen", "inferred"),
    plan=plan,
    run=run,
    reference="Vovk, Gammerman & Shafer 2005; Dunn, Wasserman & Ramdas 2022, doi:10.1080/01621459.2022.2060112; Lee, "
    "Barber & Willett 2023, arXiv:2306.06342; Vovk & Wang 2020",
    falsified_by="Sets that hold both labels of nearly every pair, or that cover the frequent label only.",
    parameters={
        "map": "rank", "calibrator": "platt", "repeats": 20, "alphas": [0.05, 0.1, 0.2], "delta": 0.1,
        "methods": ["pearson", "mutual_information", "partial_correlation", "lasso"],
    },
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="model_screen",
)  # fmt: skip
