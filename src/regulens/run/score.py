"""From edge tables and references to a plan: what `regulens score` and `regulens.score` run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regulens.analyses.base import ANALYSES
from regulens.errors import ParameterError, PlanError, examples
from regulens.models.spec import parse
from regulens.plan import DEFAULT_ANALYSES, LISTED, NO_CELLS, Plan

#: Analyses of an edge table against a reference; the others read attention in cells.
SCORE_ANALYSES = (
    "reference_recovery",
    "list_truncation",
    "gene_level_baselines",
    "expression_matched",
    "coexpression_dominance",
    "degree_null",
    "cross_fitted_residual",
    "tf_resolution",
    "reference_sensitivity",
    "grn_method_baselines",
    "metric_dependence",
)

_NAMED = re.compile(r"^([\w.-]+)=(.+)$")


def analyses_of(*, references: bool, screens: bool) -> list[str]:
    """Analyses that an edge table can answer, against references, screens, or both."""
    found = list(SCORE_ANALYSES) if references else []
    if screens:
        of_screens = [n for n in DEFAULT_ANALYSES if ANALYSES[n].scope == "model_screen"]
        found += [n for n in of_screens if not {"model", "blocks", "recipes"} & set(ANALYSES[n].needs)]
    return found


def table_section(text: str, options: Mapping[str, str]) -> dict[str, str]:
    """Model section of one table: ``FILE``, ``NAME=FILE``, or ``edges:FILE?key=value``.

    Parameters
    ----------
    options
        Of all tables (``absent``, ``column``, ``key``, ``rows``); what a table says itself comes first.

    Examples
    --------
    >>> table_section("mine=a/grn.tsv", {"absent": "exclude"})
    {'spec': 'edges:a/grn.tsv?absent=exclude', 'name': 'mine'}
    >>> table_section("edges:grn.tsv.gz?absent=last", {"absent": "exclude"})
    {'spec': 'edges:grn.tsv.gz?absent=last', 'name': 'grn'}
    """
    name = ""
    if (found := _NAMED.match(text)) and not Path(text).exists():
        name, text = found.groups()
    asked = parse(text if text.startswith("edges:") else f"edges:{text}")
    given = dict(options) | dict(asked.options)
    query = "&".join(f"{k}={v}" for k, v in given.items())
    return {
        "spec": f"edges:{Path(asked.place).expanduser()}{'?' + query if query else ''}",
        "name": name or parse(f"edges:{asked.place}").name,
    }


def plan_of_edges(
    edges: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    references: str | Path | Sequence[str | Path] = (),
    *,
    expression: str | Path | None = None,
    absent: str | None = None,
    column: str | None = None,
    key: str | None = None,
    rows: str | None = None,
    screens: Sequence[Mapping[str, str]] = (),
    name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Plan:
    """A study of edge tables.

    Parameters
    ----------
    edges
        Files, ``NAME=FILE``, ``edges:FILE?key=value``, or a mapping from names to files.
    references
        Networks; with screens there may be none.
    expression
        Cells for co-expression, gene-level baselines and network-inference methods.
    absent, column, key, rows
        Options of every table, see `regulens.models.edge_list`.
    screens
        Sections of screens, as in a study file.
    overrides
        Dotted plan keys to values, over everything else.

    Raises
    ------
    PlanError, ParameterError
        When there is no table, two have one name, or the plan itself refuses.
    """
    options = {k: v for k, v in (("absent", absent), ("column", column), ("key", key), ("rows", rows)) if v}
    if isinstance(edges, Mapping):
        texts = [f"{n}={file}" for n, file in edges.items()]
    else:
        texts = [str(e) for e in ([edges] if isinstance(edges, (str, os.PathLike)) else _paths(edges))]
    if not texts:
        message = "Expected an edge table, got none. Name one or several files."
        raise ParameterError(message)
    models = [table_section(t, options) for t in texts]
    for model in models:  # absolute, so that the plan can be run from anywhere
        place, mark, query = model["spec"].removeprefix("edges:").partition("?")
        model["spec"] = f"edges:{Path(place).absolute()}{mark}{query}"
    names = [m["name"] for m in models]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        message = f"Expected a name for each edge table, got {examples(repeated)} more than once. Write NAME=FILE."
        raise PlanError(message)
    against = [str(r) for r in ([references] if isinstance(references, (str, os.PathLike)) else references)]
    plan = Plan.from_options(
        name=name or f"score-{names[0]}{'-and-more' if len(names) > 1 else ''}",
        cells={"source": NO_CELLS if expression is None else str(expression)},
        models=models,
        references=against,
        screens=[dict(s) for s in screens],
        universe={"genes": LISTED},
        analyses=analyses_of(references=bool(against), screens=bool(screens)) or list(SCORE_ANALYSES),
    )
    return plan.with_overrides(dict(overrides)) if overrides else plan


def _paths(edges: Any) -> list[str | Path]:
    """The tables of a sequence; anything that is no path is refused."""
    if not isinstance(edges, Sequence) or any(not isinstance(e, (str, os.PathLike)) for e in edges):
        message = (
            f"Expected paths of edge tables, got {type(edges).__name__}. Write a table in memory to a file first, or "
            "use regulens.evaluate."
        )
        raise ParameterError(message)
    return list(edges)
