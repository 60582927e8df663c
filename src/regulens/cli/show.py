"""`regulens show NAME`: what exactly is this analysis, score, metric, null or model family?"""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from typing import Annotated, Any

import typer

from regulens.cli.console import out, print_json, table
from regulens.cli.listing import REGISTRIES, registry
from regulens.errors import RegistryError, nearest


def find(name: str) -> tuple[str, Any]:
    """Kind and entry of a registered name.

    Raises
    ------
    RegistryError
        When no registry has it; offers the nearest name.
    """
    known: list[str] = []
    for kind in REGISTRIES:
        entries = registry(kind)
        if name in entries:
            return kind, entries[name]
        known += entries.names()
    message = f"Expected a name that `regulens list` shows, got '{name}'.{nearest(name, known)}"
    raise RegistryError(message)


def describe(kind: str, name: str, entry: Any) -> dict[str, Any]:
    """Everything an entry says about itself, as plain values."""
    facts: dict[str, Any] = {"name": name, "kind": kind}
    if dataclasses.is_dataclass(entry):
        for field in dataclasses.fields(entry):
            value = getattr(entry, field.name)
            if not callable(value) and field.name != "name":
                facts[field.name] = _plain(value)
    module = sys.modules.get(getattr(_function(entry), "__module__", "") or "")
    facts["defined_in"] = module.__name__ if module else ""
    facts["documentation"] = inspect.cleandoc((module.__doc__ or "") if module else "")
    if kind == "analyses":
        facts["tests_planned"] = _tests(entry)
    return facts


def _function(entry: Any) -> Any:
    """The callable of an entry: the entry itself, or the function that its specification holds."""
    for attribute in ("run", "function", "load", "build"):
        found = getattr(entry, attribute, None)
        if callable(found):
            return found
    return entry


def _tests(entry: Any) -> list[dict[str, Any]]:
    from regulens.analyses.base import TestRequest

    planned = entry.plan(TestRequest(model="MODEL", reference="REFERENCE"))
    return [{k: _plain(v) for k, v in dataclasses.asdict(test).items()} for test in planned]


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "unbounded" if math.isinf(value) else "undefined"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def show(
    name: Annotated[str, typer.Argument(help="A name that `regulens list` shows.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the question, source, parameters and planned tests of one entry."""
    facts = describe(*_named(name))
    if as_json:
        print_json(facts)
        return
    console = out()
    tests = facts.pop("tests_planned", [])
    often = "study" if facts.get("scope") == "simulation" else "model and reference"
    text = facts.pop("documentation", "")
    for key, value in facts.items():
        if value not in ("", [], {}, None):
            console.print(f"[bold]{key.replace('_', ' ')}[/]: ", end="")
            console.print(_words(value), markup=False)
    if text:
        console.print(f"\n{text}\n", markup=False)
    if tests:
        shown = table(f"tests planned for each {often}", "test", "hypothesis", "side", "unit", "counts as")
        for test in tests:
            kind = "confirmatory" if test["confirmatory"] else "descriptive"
            shown.add_row(test["id"].rsplit("/", 1)[-1], test["hypothesis"], test["side"], test["unit"], kind)
        console.print(shown)


def _named(name: str) -> tuple[str, str, Any]:
    kind, entry = find(name)
    return kind, name, entry


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_words(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k}={_words(v)}" for k, v in value.items())
    return str(value)
