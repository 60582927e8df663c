"""What do all analyses do alike? Plan tests, choose the pairs, refuse too little data, put a number on record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, TestRequest
from regulens.stats.power import auroc_null_se, minimum_detectable_auroc
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, Side, TestRecord
from regulens.types.results import AnalysisOutcome, EvaluationResult

#: Below these an AUROC is refused; verdicts ask for more.
MIN_POSITIVES, MIN_REGULATORS = 5, 3

UNIT = "regulator and target"
JACKKNIFE_T = "t from the delete-one jackknife over regulators and over targets"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDesign:
    """One test of an analysis, as words; becomes a `PlannedTest` once model and reference are known."""

    __test__ = False

    name: str
    hypothesis: str
    side: Side = "greater"
    unit: str = UNIT
    method: str = JACKKNIFE_T
    confirmatory: bool = True


def test_id(analysis: str, request: TestRequest, name: str) -> str:
    """``<analysis>/<model>/<reference>/<test>``; tests of the published protocol carry it in their name.

    >>> test_id("a", TestRequest(model="m", reference="r"), "t")
    'a/m/r/t'
    """
    mark = "published_" if request.protocol is Protocol.PUBLISHED else ""
    return f"{analysis}/{request.model}/{request.reference}/{mark}{name}"


test_id.__test__ = False


def plan_tests(
    analysis: str, request: TestRequest, designs: tuple[TestDesign, ...], *,
    endpoint: Endpoint = Endpoint.REFERENCE_RECOVERY,
) -> tuple[PlannedTest, ...]:  # fmt: skip
    """Planned tests of one analysis; those of the published protocol are never confirmatory."""
    published = request.protocol is Protocol.PUBLISHED
    return tuple(
        PlannedTest(
            id=test_id(analysis, request, d.name), analysis=analysis, model=request.model,
            reference=request.reference, hypothesis=d.hypothesis, family=str(endpoint), side=d.side, unit=d.unit,
            method=d.method, endpoint=endpoint,
            protocol=request.protocol, confirmatory=d.confirmatory and not published,
        )
        for d in designs
    )  # fmt: skip


def having(scores: EdgeScores, names: tuple[str, ...] | list[str]) -> EdgeScores:
    """Those of the scores that there are: without expression, baselines and co-expression are fewer."""
    return scores.select([n for n in names if n in scores.names])


def shared_pairs(inp: AnalysisInput) -> np.ndarray:
    """Pairs that attention and co-expression (where there are cells) both observed, bool ``(regulator, target)``.

    Every number of every analysis is on these, so that numbers can be compared.
    """
    return inp.primary.observed & inp.coexpression.observed & inp.universe.candidate


def edges_of(inp: AnalysisInput, *scores: EdgeScores) -> LabelledEdges:
    """Scores and labels on the shared pairs; pairs lost to missing values are counted."""
    shared = shared_pairs(inp)
    endpoint = Endpoint.REFERENCE_RECOVERY if inp.screen is None else Endpoint.PERTURBATION_RESPONSE
    edges = LabelledEdges.build(list(scores), inp.universe, keep=shared, endpoint=endpoint)
    lost = inp.universe.candidate & ~shared
    return LabelledEdges(
        scores=edges.scores, names=edges.names, label=edges.label, regulator=edges.regulator, target=edges.target,
        universe_digest=edges.universe_digest, endpoint=edges.endpoint, n_missing=edges.n_missing + int(lost.sum()),
        n_missing_positive=edges.n_missing_positive + int((lost & inp.universe.positive).sum()),
    )  # fmt: skip


def regulators_with_positives(edges: LabelledEdges) -> int:
    """Number of regulators that have at least one positive."""
    return len(np.unique(edges.regulator[edges.label]))


def refusal(edges: LabelledEdges) -> str:
    """Why these pairs are too few to evaluate, or an empty string."""
    n_reg = regulators_with_positives(edges)
    if edges.n_pos < MIN_POSITIVES:
        return f"{edges.n_pos} positives among the observed pairs; at least {MIN_POSITIVES} are needed"
    if n_reg < MIN_REGULATORS:
        return f"{n_reg} regulators have positives; at least {MIN_REGULATORS} are needed"
    if edges.n_neg < MIN_POSITIVES:
        return f"{edges.n_neg} negatives among the observed pairs; at least {MIN_POSITIVES} are needed"
    return ""


def dropped_of(edges: LabelledEdges) -> dict[str, int]:
    """What left the universe before any number was made."""
    return {
        "pairs without attention, or of a constant gene": edges.n_missing,
        "positives among them": edges.n_missing_positive,
    }


def counts_of(edges: LabelledEdges) -> dict[str, int]:
    """Counts that verdict rules read."""
    return {"n_pos": edges.n_pos, "n_neg": edges.n_neg, "n_regulators": regulators_with_positives(edges)}


def result_of(
    inp: AnalysisInput, analysis: str, *, score: str, estimate: Estimate | Undefined, edges: LabelledEdges,
    metric: str = "auroc", null_value: float = 0.5, step: str = "", strictest_null: str = "", n_pos: int | None = None,
    n_neg: int | None = None, n_regulators: int | None = None, stream: str = "",
) -> EvaluationResult:  # fmt: skip
    """A complete result; null standard error and minimum detectable AUROC follow from the counts and the interval.

    The minimum detectable effect is inflated by the design effect ``(se / se0)^2`` where clusters cost precision.
    """
    n_pos = edges.n_pos if n_pos is None else n_pos
    n_neg = edges.n_neg if n_neg is None else n_neg
    se0 = mde = None
    if metric == "auroc" and n_pos and n_neg:
        se0 = auroc_null_se(n_pos, n_neg)
        se = estimate.se if isinstance(estimate, Estimate) and estimate.se else se0
        mde = minimum_detectable_auroc(
            n_pos, n_neg, alpha=inp.request.settings.alpha, design_effect=max(1.0, (se / se0) ** 2)
        )
    return EvaluationResult(
        analysis=analysis, model=inp.request.model, reference=inp.request.reference, score=score, metric=metric,
        estimate=estimate, endpoint=edges.endpoint, universe_digest=edges.universe_digest, n_pos=n_pos, n_neg=n_neg,
        n_regulators=regulators_with_positives(edges) if n_regulators is None else n_regulators,
        n_missing=edges.n_missing, null_value=null_value, se0=se0, mde=mde, strictest_null=strictest_null,
        protocol=inp.request.protocol, step=step, stream=stream,
    )  # fmt: skip


def refused(
    inp: AnalysisInput, analysis: str, designs: tuple[TestDesign, ...], reason: str, *, edges: LabelledEdges,
    tables: dict[str, list[str]], steps: tuple[str, ...],
) -> AnalysisOutcome:  # fmt: skip
    """Outcome of data that are too few: every planned test is on record as undefined, every number has its reason."""
    return AnalysisOutcome(
        analysis=analysis,
        model=inp.request.model,
        reference=inp.request.reference,
        results=tuple(
            result_of(inp, analysis, score=inp.request.primary, estimate=Undefined(reason=reason), edges=edges, step=s)
            for s in steps
        ),
        tables={name: pd.DataFrame(columns=columns) for name, columns in tables.items()},
        records=tuple(
            TestRecord(
                id=test_id(analysis, inp.request, d.name), undefined=reason, n_units=counts_of(edges)["n_regulators"]
            )
            for d in designs
        ),
        facts={**counts_of(edges), "refused": reason},
        dropped=dropped_of(edges),
    )
