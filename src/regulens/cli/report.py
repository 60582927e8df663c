"""`regulens report`: rebuild the report of a finished run from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regulens.cli.console import print_json, print_path


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Build report.html, report.md and the figures again; nothing is recomputed."""
    from regulens.report.build import build_report

    files = {name: str(path) for name, path in build_report(run).items()}
    if as_json:
        print_json({"run": str(run), "files": files})
        return
    print_path(files.get("report.html", Path(run) / "report.html"))
