"""What does a run folder hold? `RunView`: the record and its tables as plain data, read once, never live objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from regulens.errors import StoreError
from regulens.io.run_folder import read_record
from regulens.report.numbers import is_missing
from regulens.types.nouns import ATTENTION, noun_of

Row = dict[str, Any]
Context = tuple[str, str]

#: Model and reference of an analysis that made its own data.
SIMULATION = "simulation"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunView:
    """A run as the report sees it.

    Parameters
    ----------
    run
        Content of ``run.json``.
    tests, results
        The ledger and every estimate, one row each.
    tables
        Keyed by (analysis, model, reference, table).
    files
        Same keys: path of the complete table inside the run folder.
    plan
        Text of ``plan.yaml``.
    """

    run: Row
    tests: pd.DataFrame
    results: pd.DataFrame
    tables: dict[tuple[str, str, str, str], pd.DataFrame]
    files: dict[tuple[str, str, str, str], str]
    plan: str

    @property
    def models(self) -> list[Row]:
        """Model cards with their attention and verification records."""
        return list(self.run.get("models", []))

    @property
    def references(self) -> list[str]:
        """Names of the references, in the order of the plan."""
        return [r["name"] for r in self.run.get("references", [])]

    @property
    def screens(self) -> list[str]:
        """Names of the screens, in the order of the plan."""
        return [s["name"] for s in self.run.get("screens", [])]

    @property
    def names(self) -> list[str]:
        """References, then screens: what scores are held against."""
        return [*self.references, *self.screens]

    @property
    def contexts(self) -> list[Context]:
        """Every (model, reference or screen), these first, so that models of one stand side by side."""
        return [(m["name"], r) for r in self.names for m in self.models]

    def names_of(self, endpoint: str) -> list[str]:
        """References, or screens, that an endpoint is about."""
        return self.screens if endpoint == "perturbation_response" else self.references

    def contexts_of(self, endpoint: str) -> list[Context]:
        """Every (model, reference), or (model, screen): numbers of two endpoints never stand in one comparison."""
        return [(m["name"], r) for r in self.names_of(endpoint) for m in self.models]

    def endpoint_of(self, analysis: str) -> str:
        """Endpoint of an analysis of this run; that of references for what belongs to none."""
        found = (a.get("endpoint") for a in self.run.get("analyses", []) if a["name"] == analysis)
        return str(next(found, None) or "reference_recovery")

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return float(self.run.get("settings", {}).get("alpha", 0.05))

    def label(self, model: str) -> str:
        """Name of a model as printed; a demonstration model always carries its mark."""
        for card in self.models:
            if card["name"] == model:
                mark = " (small demonstration model)"
                label = str(card.get("label") or model)
                return label + mark if card.get("demonstration") and mark not in label else label
        return model

    def noun_of(self, model: str) -> str:
        """What the scores of a model are called: attention, or edge strength where it has none."""
        layers = next((m.get("n_layers") for m in self.models if m["name"] == model), None)
        return noun_of(1 if layers is None else int(layers))

    @property
    def noun(self) -> str:
        """The same for the whole run: attention as soon as one model has any."""
        nouns = {self.noun_of(m["name"]) for m in self.models}
        return nouns.pop() if len(nouns) == 1 else ATTENTION

    def list_of(self, model: str) -> Row:
        """What is recorded of an edge table: what kind of list it is; empty for other models."""
        card = next((m for m in self.models if m["name"] == model), {})
        return dict(card.get("attention", {}).get("table") or {})

    def universe(self, reference: str) -> Row:
        """Record of the universe of a reference; empty when there is none."""
        return next((u for u in self.run.get("universes", []) if u.get("reference") == reference), {})

    def table(self, analysis: str, model: str, reference: str, name: str) -> pd.DataFrame | None:
        """A table, or None when that analysis was not run or has no rows."""
        found = self.tables.get((analysis, model, reference, name))
        return None if found is None or found.empty else found

    def of(self, analysis: str, name: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """(model, reference, table) over the contexts that have the table; a simulation has one of its own."""
        for model, reference in [*self.contexts, (SIMULATION, SIMULATION)]:
            found = self.table(analysis, model, reference, name)
            if found is not None:
                yield model, reference, found

    def step(self, model: str, reference: str, step: str) -> Row | None:
        """The AUROC row of a rung of the cascade, or None when it was not computed."""
        frame = self.results
        if frame.empty or "step" not in frame:
            return None
        mask = (frame["model"] == model) & (frame["reference"] == reference) & (frame["step"] == step)
        if "protocol" in frame:  # a reproduction of a published procedure never stands in for a sound number
            mask &= frame["protocol"] == "corrected"
        rows = records(frame[mask])
        rows = [r for r in rows if str(r.get("metric", "auroc")).lower() == "auroc"] or rows
        return rows[0] if rows else None

    def test(self, test_id: str) -> Row | None:
        """Row of the ledger, or None."""
        if self.tests.empty or "id" not in self.tests:
            return None
        found = records(self.tests[self.tests["id"] == test_id])
        return found[0] if found else None

    def evidence(self, verdict: Row) -> list[Row]:
        """Ledger rows that a verdict names, those that exist."""
        return [row for i in verdict.get("evidence") or () if (row := self.test(str(i))) is not None]


def records(frame: pd.DataFrame) -> list[Row]:
    """Rows as dictionaries in which every missing cell is None."""
    return [{str(k): None if is_missing(v) else v for k, v in row.items()} for row in frame.to_dict("records")]


def read_run(folder: Path | str) -> RunView:
    """Read a finished run folder.

    Raises
    ------
    StoreError
        When there is no finished run, or a table that ``run.json`` lists is absent.
    VersionError
        When the run has another schema.
    """
    folder = Path(folder)
    run = read_record(folder)
    tables, files = {}, {}
    for outcome in run.get("outcomes", []):
        for entry in outcome.get("tables", []):
            key = (outcome["analysis"], outcome["model"], outcome["reference"], entry["name"])
            stem = str(entry["file"]).removesuffix(".parquet").removesuffix(".tsv")
            tables[key] = _read(folder, stem)
            files[key] = stem + ".tsv"
    plan = folder / "plan.yaml"
    return RunView(
        run=run,
        tests=_read(folder, "tests"),
        results=_read(folder, "results"),
        tables=tables,
        files=files,
        plan=plan.read_text(encoding="utf-8") if plan.is_file() else "",
    )


def _read(folder: Path, stem: str) -> pd.DataFrame:
    path = folder / f"{stem}.parquet"
    if not path.is_file():
        message = f"Expected the table {stem}.parquet in {folder}, found none. Run the audit again to complete it."
        raise StoreError(message)
    return pd.read_parquet(path)
