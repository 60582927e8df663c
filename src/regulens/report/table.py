"""How does a table of the run become a table of the page? Headings, formats, order, and a limit on rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from regulens.report import numbers
from regulens.report.columns import COLUMNS, INTERVALS, TITLES, WORDS, Format
from regulens.report.model import SIMULATION, RunView, records

LIMIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Heading, alignment and a sentence for the tooltip."""

    head: str
    numeric: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Text as printed, the key by which the column sorts, and a second, quieter line."""

    text: str
    key: str
    sub: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table ready to print; `note` says what was cut and where the complete table is."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    is_open: bool = True


_UNPRINTED = {"calibration_curve", "dominance_hexbin", "degree_draws"}
_UNPRINTED_COLUMNS = {"kind", "layer", "head"}


def cell(value: Any, form: Format | None = None, *, sub: str = "") -> Cell:
    """A cell whose text is formatted and whose key keeps full precision."""
    if numbers.is_missing(value):
        return Cell(text=numbers.EMPTY, key="", sub=sub)
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no", key=str(int(value)), sub=sub)
    if form is None or (isinstance(value, str) and form not in WORDS):
        form = str if isinstance(value, str) else numbers.short
    return Cell(text=form(value), key=value if isinstance(value, str) else repr(float(value)), sub=sub)


def analysis_tables(view: RunView, analysis: str) -> list[Table]:
    """Tables of one analysis, all models and references of a kind in one table, at most `LIMIT` rows shown."""
    kind = analysis.partition(".")[0]  # a reproduction is labelled "<analysis>.published"
    names = dict(TITLES.get(kind, {}))
    for owner, _, _, name in view.tables:
        if owner == analysis and name not in _UNPRINTED:
            names.setdefault(name, name.replace("_", " ").capitalize())
    out = []
    for name, title in names.items():
        parts = list(view.of(analysis, name))
        if parts:
            if all(model == SIMULATION for model, _, _ in parts):
                title = f"Simulated: {title}"
            out.append(_combine(view, analysis, name, title, parts, is_open=not out))
    return out


def _combine(
    view: RunView, analysis: str, name: str, title: str, parts: list[tuple[str, str, pd.DataFrame]], *, is_open: bool
) -> Table:
    each = max(4, LIMIT // len(parts))
    total = sum(len(t) for _, _, t in parts)
    limited = total > LIMIT
    lead = [k for k, names in (("model", view.models), ("reference", view.names)) if len(names) > 1]
    hidden = dict.fromkeys(_UNPRINTED_COLUMNS if name in ("recovery", "baselines") else ())
    constant = _constant([t for _, _, t in parts])
    columns: list[Column] = []
    rows: list[tuple[Cell, ...]] = []
    for model, reference, table in parts:
        part = _ordered(name, table)
        part = part.head(each) if limited else part
        names = [c for c in part.columns if c not in _limits_in(part) and c not in constant | hidden]
        if not columns:
            columns = [Column(head=k) for k in lead] + _columns(part, names)
        for row in records(part):
            known = {"model": cell(view.label(model)), "reference": cell(reference)}
            rows.append((*[known[k] for k in lead], *_cells(row, names)))
    same = ", ".join(
        f"{COLUMNS.get(k, (k,))[0]} {cell(v, COLUMNS.get(k, ('', None, ''))[1]).text}" for k, v in constant.items()
    )
    note = f"In every row: {same}. " if constant else ""
    if limited:
        files = sorted(view.files[(analysis, m, r, name)] for m, r, _ in parts)
        what = "the first" if name not in ("recovery", "leave_one_out") else "the strongest"
        note += f"{len(rows)} of {numbers.count(total)} rows, {what} of each model and reference. "
        note += f"Complete: {', '.join(files)}"
    return Table(title=title, columns=tuple(columns), rows=tuple(rows), note=note.strip(), is_open=is_open)


def _ordered(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Pooled first, then by AUROC; regulators by the size of their influence; else as the analysis wrote it."""
    if name == "recovery":
        lead = (table["score"] != "pooled").astype(int)
        return table.assign(_lead=lead).sort_values(["_lead", "auroc"], ascending=[True, False], kind="stable").drop(
            columns=["_lead", *[c for c in ("layer", "head") if c in table]]
        )  # fmt: skip
    if name == "leave_one_out":
        return table.sort_values("change", key=lambda s: s.abs(), ascending=False, kind="stable")
    return table


def _constant(tables: list[pd.DataFrame]) -> dict[str, Any]:
    """Columns with one value in all rows of all tables: said once below the table instead of in every row."""
    if sum(len(t) for t in tables) < 4:
        return {}
    found = {}
    for name in ("direction", "score", "n_pos", "n_neg", "n_regulators", "se0", "prevalence", "precision_chance"):
        values = {v for t in tables if name in t for v in t[name].dropna()}
        if len(values) == 1 and all(name in t and t[name].notna().all() for t in tables):
            found[name] = values.pop()
    return found


def _limits_in(part: pd.DataFrame) -> set[str]:
    found = set()
    for value, (low, high) in INTERVALS.items():
        if {value, low, high} <= set(part.columns):
            found |= {low, high}
    return found


def _columns(part: pd.DataFrame, names: Sequence[str]) -> list[Column]:
    out = []
    for name in names:
        head, _, hint = COLUMNS.get(name, (name.replace("_", " "), None, ""))
        numeric = pd.api.types.is_numeric_dtype(part[name]) and not pd.api.types.is_bool_dtype(part[name])
        out.append(Column(head=head, numeric=numeric, hint=hint))
        if name in INTERVALS and set(INTERVALS[name]) <= set(part.columns):
            out.append(Column(head="interval", numeric=True))
    return out


def _cells(row: dict[str, Any], names: Sequence[str]) -> list[Cell]:
    out = []
    for name in names:
        out.append(cell(row[name], COLUMNS.get(name, ("", None, ""))[1]))
        if name in INTERVALS and set(INTERVALS[name]) <= set(row):
            low, high = (row[k] for k in INTERVALS[name])
            signed = ("difference", "share_pair", "delta", "delta_coexpression", "reached", "coefficient", "gain")
            words = numbers.interval(low, high, sign=name in signed)
            out.append(Cell(text=words, key="" if numbers.is_missing(low) else repr(float(low))))
    return out
