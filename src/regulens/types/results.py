"""What an analysis hands on: `EvaluationResult` rows, an `AnalysisOutcome`, and in the end `Verdict`s."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd

from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import TestRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """One number with everything needed to read it.

    `step` names the rung of the cascade that the number belongs to, where it belongs to one: ``pooled``,
    ``layer``, ``baseline``, ``gene_model``, ``matched``.
    """

    analysis: str
    model: str
    reference: str
    score: str
    metric: str
    estimate: Estimate | Undefined
    endpoint: Endpoint
    universe_digest: str
    n_pos: int
    n_neg: int
    n_regulators: int
    n_missing: int
    null_value: float
    se0: float | None = None
    mde: float | None = None
    strictest_null: str = ""
    protocol: Protocol = Protocol.CORRECTED
    step: str = ""
    stream: str = ""

    def to_row(self) -> dict[str, Any]:
        """Flat record for a table; an undefined estimate has empty numbers and a reason."""
        row: dict[str, Any] = {
            "analysis": self.analysis, "model": self.model, "reference": self.reference, "score": self.score,
            "step": self.step, "metric": self.metric,
        }  # fmt: skip
        if isinstance(self.estimate, Undefined):
            row |= {"value": None, "low": None, "high": None, "level": None, "se": None, "interval": "",
                    "n_units": None, "unit": "", "undefined": self.estimate.reason}  # fmt: skip
        else:
            e = self.estimate
            row |= {"value": e.value, "low": e.low, "high": e.high, "level": e.level, "se": e.se, "interval": e.method,
                    "n_units": e.n_units, "unit": e.unit, "undefined": ""}  # fmt: skip
        row |= {
            "null_value": self.null_value, "n_pos": self.n_pos, "n_neg": self.n_neg,
            "n_regulators": self.n_regulators, "n_missing": self.n_missing, "se0": self.se0, "mde": self.mde,
            "strictest_null": self.strictest_null, "endpoint": str(self.endpoint), "protocol": str(self.protocol),
            "universe_digest": self.universe_digest, "stream": self.stream,
        }  # fmt: skip
        return row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnalysisOutcome:
    """Everything one analysis found for one model and one reference.

    Parameters
    ----------
    results
        The numbers, each complete.
    tables
        Name to table; what the report draws and prints. Never empty of the units and counts it needs.
    records
        One record per planned test of this analysis, defined or not.
    facts
        Plain values that verdict rules read (counts, balance, bounds); JSON-able, no NaN.
    dropped
        What was left out, counted, by reason.
    """

    analysis: str
    model: str
    reference: str
    results: tuple[EvaluationResult, ...]
    tables: dict[str, pd.DataFrame]
    records: tuple[TestRecord, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


class VerdictState(StrEnum):
    """The three answers. "Inconclusive" is an answer."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer to one claim for one model and reference, with the rule that made it."""

    claim: str
    title: str
    model: str
    reference: str
    state: VerdictState
    reasons: tuple[str, ...]
    rule: str
    evidence: tuple[str, ...] = ()
