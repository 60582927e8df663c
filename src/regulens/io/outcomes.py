"""Outcomes of analyses as JSON beside their tables, so that finished work is reused and reads back exactly."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from regulens.io.atomic import read_json, write_json
from regulens.io.tables import read_table, write_table
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome, EvaluationResult


def table_stem(analysis: str, model: str, reference: str, table: str) -> str:
    """File stem of a table: the four names joined by ``__``, path separators replaced."""
    return "__".join(part.replace("/", "-").replace(" ", "_") for part in (analysis, model, reference, table))


def _result_to_json(result: EvaluationResult) -> dict[str, Any]:
    data = {f.name: getattr(result, f.name) for f in fields(result)}
    estimate = data.pop("estimate")
    data["endpoint"], data["protocol"] = str(result.endpoint), str(result.protocol)
    key = "undefined" if isinstance(estimate, Undefined) else "estimate"
    return data | {key: asdict(estimate)}


def _result_from_json(data: dict[str, Any]) -> EvaluationResult:
    data = dict(data)
    if "undefined" in data:
        estimate: Estimate | Undefined = Undefined(**data.pop("undefined"))
    else:
        estimate = Estimate(**data.pop("estimate"))
    data["endpoint"], data["protocol"] = Endpoint(data["endpoint"]), Protocol(data["protocol"])
    return EvaluationResult(estimate=estimate, **data)


def write_outcome(outcome: AnalysisOutcome, *, folder: Path, key: str) -> None:
    """Write the tables of an outcome to ``tables/`` and, last, its record to ``state/`` under its cache `key`."""
    names = (outcome.analysis, outcome.model, outcome.reference)
    tables = {}
    for name, frame in outcome.tables.items():
        stem = table_stem(*names, name)
        write_table(frame, folder / "tables" / stem)
        tables[name] = stem
    write_json(
        folder / "state" / f"{table_stem(*names, 'outcome')}.json",
        {
            "kind": "regulens-outcome",
            "key": key,
            "analysis": outcome.analysis,
            "model": outcome.model,
            "reference": outcome.reference,
            "results": [_result_to_json(r) for r in outcome.results],
            "records": [asdict(r) for r in outcome.records],
            "tables": tables,
            "facts": outcome.facts,
            "dropped": outcome.dropped,
        },
    )


def read_outcome(analysis: str, model: str, reference: str, *, folder: Path, key: str) -> AnalysisOutcome | None:
    """Read a finished outcome, or None when there is none under this `key`."""
    path = folder / "state" / f"{table_stem(analysis, model, reference, 'outcome')}.json"
    if not path.is_file():
        return None
    data = read_json(path)
    if data.get("kind") != "regulens-outcome" or data.get("key") != key:
        return None
    stems: dict[str, str] = data["tables"]
    tables: dict[str, pd.DataFrame] = {}
    for name, stem in stems.items():
        if not (folder / "tables" / f"{stem}.parquet").is_file():
            return None
        tables[name] = read_table(folder / "tables" / stem)
    return AnalysisOutcome(
        analysis=analysis,
        model=model,
        reference=reference,
        results=tuple(_result_from_json(r) for r in data["results"]),
        records=tuple(TestRecord(**r) for r in data["records"]),
        tables=tables,
        facts=data["facts"],
        dropped=data["dropped"],
    )
