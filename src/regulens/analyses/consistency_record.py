"""How does a comparison of in-silico and measured effects go on record, also where there is none?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, test_id
from regulens.analyses.consistency_pairs import Matched
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome, EvaluationResult


def result(
    inp: AnalysisInput, analysis: str, matched: Matched | None, *, score: str, metric: str,
    estimate: Estimate | Undefined, null_value: float, step: str, stream: str = "",
) -> EvaluationResult:  # fmt: skip
    """A complete result; `n_regulators` counts perturbations with matched pairs, `n_pos` responders among the pairs."""
    both = np.zeros((1, 1), dtype=bool) if matched is None else matched.both
    positive = both if matched is None else matched.positive
    measured = int(inp.universe.candidate.sum()) if matched is None else int(np.isfinite(matched.observed).sum())
    return EvaluationResult(
        analysis=analysis, model=inp.request.model, reference=inp.request.reference, score=score, metric=metric,
        estimate=estimate, endpoint=Endpoint.PERTURBATION_RESPONSE, universe_digest=inp.universe.digest,
        n_pos=int((both & positive).sum()), n_neg=int((both & ~positive).sum()),
        n_regulators=int(both.any(axis=1).sum()), n_missing=measured - int(both.sum()), null_value=null_value,
        protocol=inp.request.protocol, step=step, stream=stream,
    )  # fmt: skip


def refused_consistency(
    inp: AnalysisInput, analysis: str, designs: tuple[TestDesign, ...], reason: str, *,
    tables: dict[str, list[str]], steps: tuple[str, ...], matched: Matched | None = None,
) -> AnalysisOutcome:  # fmt: skip
    """Every planned test is on record as undefined, every number has its reason."""
    return AnalysisOutcome(
        analysis=analysis, model=inp.request.model, reference=inp.request.reference,
        results=tuple(
            result(inp, analysis, matched, score="ablation", metric=f"spearman_{s}", null_value=0.0, step=s,
                   estimate=Undefined(reason=reason))
            for s in steps
        ),
        tables={name: pd.DataFrame(columns=columns) for name, columns in tables.items()},
        records=tuple(TestRecord(id=test_id(analysis, inp.request, d.name), undefined=reason) for d in designs),
        facts={"refused": reason},
        dropped={} if matched is None else {
            "perturbations that the model cannot be asked about": len(matched.effects["ablate"].lost)
        },
    )  # fmt: skip
