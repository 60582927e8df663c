"""`regulens list`: which analyses, models, scores, metrics, nulls, networks and cells are there?"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer

from regulens.cli.console import out, print_json, table
from regulens.errors import RegistryError, examples, nearest

#: Kind to the registry that holds it.
REGISTRIES = {
    "analyses": "regulens.analyses.base:ANALYSES",
    "models": "regulens.models:FAMILIES",
    "scorers": "regulens.scorers:SCORERS",
    "metrics": "regulens.metrics:METRICS",
    "nulls": "regulens.nulls:NULLS",
}
KINDS = (*REGISTRIES, "references", "demos")


def registry(kind: str) -> Any:
    """The registry of a kind; imports its module, not its entries."""
    module, _, attribute = REGISTRIES[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)


def first_line(thing: Any) -> str:
    """What an entry says it is: its question, summary or title, else the first line of its documentation."""
    if isinstance(thing, dict):
        return str(thing.get("title", ""))
    for name in ("question", "summary", "title", "description"):
        text = getattr(thing, name, None)
        if isinstance(text, str) and text:
            return text
    return (getattr(thing, "__doc__", None) or "").strip().split("\n")[0]


def entries(kind: str) -> list[dict[str, str]]:
    """Name, summary and origin of everything of one kind; an entry that cannot be loaded is listed as broken."""
    if kind == "references":
        return [{"name": "bundled:dorothea", "summary": "DoRothEA, human, levels A to C", "origin": "regulens"}]
    if kind == "demos":
        from regulens.io.demo import DEMOS

        return [
            {"name": f"demo:{name}", "summary": first_line(facts), "origin": facts["package"]}
            for name, facts in DEMOS.items()
        ]
    found = []
    table_of = registry(kind)
    for name in table_of.names():
        try:
            summary = first_line(table_of[name])
        except Exception as error:  # an entry of another distribution may fail in any way
            summary = f"broken: {type(error).__name__}: {error}"
        found.append({"name": name, "summary": summary, "origin": table_of.origin(name)})
    return found


def list_(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List what regulens can run and what it brings along."""
    if kind is not None and kind not in KINDS:
        message = f"Expected a kind to list ({examples(KINDS, limit=10)}), got '{kind}'.{nearest(kind, KINDS)}"
        raise RegistryError(message)
    wanted = KINDS if kind is None else (kind,)
    found = {k: entries(k) for k in wanted}
    if as_json:
        print_json(found)
        return
    console = out()
    for k, rows in found.items():
        shown = table(k, "name", "what it is", "from")
        for row in rows:
            shown.add_row(row["name"], row["summary"], row["origin"])
        console.print(shown)
        console.print()
