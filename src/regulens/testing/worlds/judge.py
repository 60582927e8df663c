"""What does an audit say about a world? Plan, run, record and decide, for one model and one reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from regulens.analyses.base import ANALYSES, AnalysisInput
from regulens.types.endpoints import Endpoint
from regulens.types.ledger import TestLedger
from regulens.types.results import AnalysisOutcome, Verdict
from regulens.verdicts import decide

#: What the claims of every study need.
SPINE = ("reference_recovery", "gene_level_baselines", "expression_matched", "coexpression_dominance")


def judge(
    inp: AnalysisInput, analyses: tuple[str, ...] | None = None, *, parameters: Mapping[str, Any] | None = None
) -> tuple[dict[str, AnalysisOutcome], TestLedger, tuple[Verdict, ...]]:
    """Plan, run, record and decide, as an audit does for one model and one reference.

    Parameters
    ----------
    analyses
        Names; `SPINE` by default.
    parameters
        Analysis name → overrides of its default parameters.
    """
    given = dict(parameters or {})
    specs = [ANALYSES[n] for n in (analyses or SPINE)]
    ledger = TestLedger([t for s in specs for t in s.plan(inp.request)])
    outcomes = {
        s.name: s.run(replace(inp, parameters={**s.parameters, **inp.parameters, **given.get(s.name, {})}))
        for s in specs
    }
    for outcome in outcomes.values():
        for record in outcome.records:
            ledger.record(record)
    ledger.close()
    endpoint = Endpoint.REFERENCE_RECOVERY if inp.screen is None else Endpoint.PERTURBATION_RESPONSE
    verdicts = decide(
        outcomes, ledger, model=inp.request.model, reference=inp.request.reference, settings=inp.request.settings,
        endpoint=endpoint,
    )  # fmt: skip
    return outcomes, ledger, verdicts
