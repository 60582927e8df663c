"""`regulens score`: what does this edge table, of any tool, know about regulation?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from regulens.cli import audit as audit_command
from regulens.cli import plan as plan_command
from regulens.cli.console import out, print_json, print_path, progress, table
from regulens.cli.options import cells_among, here, read_assignment, screen_sections
from regulens.cli.shared import (
    CELLS,
    SCREEN,
    STATS,
    Analyses,
    AsJson,
    Bootstrap,
    Control,
    Counts,
    GeneColumn,
    Jobs,
    Log1p,
    ModalityName,
    Overwrite,
    Permutations,
    PerturbationColumn,
    Quiet,
    Replicate,
    RunFolder,
    Seed,
    SetKeys,
)

if TYPE_CHECKING:
    from regulens.plan import Plan
    from regulens.run.audit import Run

_TABLES = "Edge tables"


def score(
    edges: Annotated[
        list[str],
        typer.Argument(
            metavar="EDGES...",
            help="Tables of edges: long, matrix, SIF, GraphML, parquet, varp of an .h5ad. NAME=FILE gives a name.",
        ),
    ],
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK", help="A network, or bundled:dorothea; repeatable. [default: bundled:dorothea]"),
    ] = None,
    expression: Annotated[
        str | None,
        typer.Option(
            metavar="CELLS",
            help="An .h5ad, AnnData .zarr or demo:immune, for co-expression and baselines; without it these are left "
            "out.",
        ),
    ] = None,
    absent: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Pairs that no table lists: last (they tie below all listed ones) or exclude. [default: last]",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of the weight; default: recognised.", rich_help_panel=_TABLES),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Matrix of varp; default: the only one.", rich_help_panel=_TABLES)
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(metavar="AXIS", help="Rows of a matrix: regulators or targets.", rich_help_panel=_TABLES),
    ] = None,
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCREEN", help="A screen of perturbations to predict; repeatable.", rich_help_panel=SCREEN
        ),
    ] = None,
    perturbation_column: PerturbationColumn = None,
    control: Control = None,
    modality: ModalityName = None,
    replicate: Replicate = None,
    counts: Counts = None,
    log1p_cp10k: Log1p = False,
    gene_column: GeneColumn = None,
    max_cells: Annotated[
        int | None, typer.Option(metavar="N", help="Use at most so many cells.", rich_help_panel=CELLS)
    ] = None,
    genes: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The most variable genes instead of those that tables list.", rich_help_panel=STATS
        ),
    ] = None,
    analysis: Analyses = None,
    bootstrap: Bootstrap = None,
    permutations: Permutations = None,
    seed: Seed = None,
    set_: SetKeys = None,
    folder: RunFolder = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run and what tables list; write nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Hold edge tables against networks, beside baselines and nulls on the same pairs; no model is needed.

    Prints what kind of list each table is, its AUROCs and the verdicts, and the path of report.html on the last line.
    """
    given: dict[str, Any] = {
        "cells.counts": counts,
        "cells.log1p_cp10k": True if log1p_cp10k else None,
        "cells.gene_column": gene_column,
        "extraction.max_cells": max_cells,
        "universe.genes": genes,
        "analyses": list(analysis) if analysis else None,
        "statistics.bootstrap": bootstrap,
        "statistics.permutations": permutations,
        "seed": seed,
    }
    overrides = {k: v for k, v in given.items() if v is not None} | dict(read_assignment(t) for t in set_ or ())
    study = _study(
        edges, reference=reference, expression=expression, overrides=overrides,
        screens=screen_sections(
            perturbation, perturbation=perturbation_column, control=control, modality=modality, replicate=replicate
        ),
        options={"absent": absent, "column": column, "key": key, "rows": rows},
    )  # fmt: skip
    if dry_run:
        _preview(study, as_json=as_json, quiet=quiet)
        return
    from regulens.api import audit as run_audit

    with progress(quiet=quiet) as shown:
        run = run_audit(study, out=folder, jobs=jobs, progress=shown, overwrite=overwrite)
    html = run.path / "report.html"
    if as_json:
        tables = {m["name"]: m["attention"].get("table", {}) for m in run.record["models"]}
        print_json(audit_command.as_json_of(run, html) | {"tables": tables, "recovery": recovery(run)})
        return
    if not quiet:
        for model in run.record["models"]:
            _print_table(model["name"], model["attention"].get("table", {}))
        _print_recovery(run)
        audit_command.print_verdicts(run)
    print_path(html)


def _study(
    edges: list[str], *, reference: list[str] | None, expression: str | None, screens: list[dict[str, str]],
    options: dict[str, str | None], overrides: dict[str, Any],
) -> Plan:  # fmt: skip
    """The plan of a command line; paths are relative to the working folder."""
    from regulens.run.score import plan_of_edges

    if expression is None and screens:
        expression = cells_among(screens)
    if reference is None:
        reference = [] if screens else ["bundled:dorothea"]
    return plan_of_edges(
        edges, [here(r) for r in reference], expression=None if expression is None else here(expression),
        screens=screens, overrides=overrides, **options,
    )  # fmt: skip


def _preview(study: Plan, *, as_json: bool, quiet: bool) -> None:
    from regulens.run.preview import preview

    with progress(quiet=quiet) as shown:
        found = preview(study, progress=shown).to_dict()
    if as_json:
        print_json(found)
        return
    for model in found["models"]:
        _print_table(model["name"], model.get("table", {}))
    plan_command.print_inputs(found)
    plan_command.print_analyses(found)


def _print_table(name: str, facts: dict[str, Any]) -> None:
    """What kind of list a table is, and how much of each universe it lists."""
    if not facts:
        return
    console = out()
    console.print(f"{name}: {facts['list']}", markup=False, soft_wrap=True)
    console.print(f"  read as: {facts['read_as']}", markup=False, soft_wrap=True)
    for note in facts["losses"]:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    for reference, n in facts["within"].items():
        console.print(
            f"  {reference}: lists {n['listed']:,} of {n['pairs']:,} pairs looked at ({_percent(n['share'])}), "
            f"{n['positives_listed']:,} of {n['positives']:,} positives",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    if not facts["complete"]:
        console.print(f"  {facts['absent_in_words']}", markup=False, soft_wrap=True)
    console.print()


def _percent(share: float) -> str:
    """A share in two or three digits.

    >>> _percent(1.0), _percent(0.0417), _percent(0.00042)
    ('100 %', '4.2 %', '0.042 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def recovery(run: Run) -> list[dict[str, Any]]:
    """AUROC of every table and reference, over all pairs, of being listed, and over listed pairs only."""
    found = []
    for outcome in run.record["outcomes"]:
        if outcome["analysis"] == "list_truncation" and not outcome["facts"].get("refused"):
            facts = outcome["facts"]
            kept = ("n_pos", "n_neg", "auroc", "auroc_of_listing", "auroc_listed_only", "n_pos_listed", "n_listed")
            found.append(
                {"table": outcome["model"], "reference": outcome["reference"]} | {k: facts.get(k) for k in kept}
            )
    return found


def _print_recovery(run: Run) -> None:
    rows = recovery(run)
    if not rows:
        return
    shown = table("AUROC", "table", "reference", "positives", "all pairs", "listed or not", "listed pairs only")
    for row in rows:
        numbers = ["-" if row[k] is None else f"{row[k]:.3f}" for k in ("auroc", "auroc_of_listing")]
        only = row["auroc_listed_only"]
        last = "-" if only is None else f"{only:.3f} (biased, {row['n_pos_listed']} positives)"
        shown.add_row(row["table"], row["reference"], f"{row['n_pos']:,}", *numbers, last)
    out().print(shown)
    out().print()
