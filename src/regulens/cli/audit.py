"""`regulens audit`: what do these models know about regulation, on these cells, against these networks?"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from regulens.cli.console import out, print_json, print_path, progress, table
from regulens.cli.options import with_plan_options
from regulens.cli.shared import AsJson, Jobs, Overwrite, Quiet, RunFolder

if TYPE_CHECKING:
    from regulens.plan import Plan
    from regulens.run.audit import Run

_COLOURS = {"supported": "green", "not supported": "red", "inconclusive": "yellow"}


@with_plan_options
def audit(
    study: Plan,
    folder: RunFolder = None,
    jobs: Jobs = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler tcp://HOST:PORT; its workers must see the run folder.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit models on cells against networks and screens; the same command resumes an interrupted run.

    Prints the verdicts, and the path of report.html on the last line.
    """
    from regulens.api import audit as run_audit
    from regulens.parallel import cluster

    with progress(quiet=quiet) as shown, cluster(scheduler) if scheduler else nullcontext():
        run = run_audit(study, out=folder, jobs=jobs, progress=shown, overwrite=overwrite)
    html = run.path / "report.html"
    if as_json:
        print_json(as_json_of(run, html))
        return
    if not quiet:
        print_verdicts(run)
    print_path(html)


def as_json_of(run: Run, html: Path) -> dict[str, Any]:
    """What a script needs: where the run is, what was decided, and under which plan."""
    record = run.record
    kept = ("name", "plan_digest", "seed", "versions", "universes", "screens", "verdicts", "skipped", "demonstration")
    return {"run": str(run.path), "report": str(html)} | {key: record[key] for key in kept if key in record}


def print_verdicts(run: Run) -> None:
    """The verdicts with their reasons, and what did not run."""
    console = out()
    labels = {m["name"]: m["label"] for m in run.record["models"]}
    against = {(True, True): "reference or screen", (False, True): "screen"}
    held = against.get((bool(run.record.get("references")), bool(run.record.get("screens"))), "reference")
    shown = table("Verdicts", "claim", "model", held, "verdict")
    for verdict in run.record["verdicts"]:
        state, model = verdict["state"], verdict["model"]
        shown.add_row(verdict["title"], labels.get(model, model), verdict["reference"], Text(state, _COLOURS[state]))
    console.print(shown)
    where: dict[tuple[str, str], list[str]] = {}  # a reason that holds in several places is said once
    for verdict in run.record["verdicts"]:
        for reason in verdict["reasons"]:
            where.setdefault((verdict["claim"], reason), []).append(f"{verdict['model']}, {verdict['reference']}")
    for (claim, reason), places in where.items():
        shown_as = places[0] if len(places) == 1 else f"{len(places)} pairs of model and {held}"
        console.print(f"  {claim}, {shown_as}: {reason}", markup=False, soft_wrap=True)
    absent: dict[tuple[str, str], list[str]] = {}
    for skipped in run.record["skipped"]:
        absent.setdefault((skipped["analysis"], skipped["reason"]), []).append(skipped["model"])
    for (analysis, reason), models in absent.items():
        names = ", ".join(dict.fromkeys(models))
        console.print(f"  not run: {analysis}, {names}: {reason}", markup=False, soft_wrap=True)
    console.print()
