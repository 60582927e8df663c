"""Which options do several commands share? Each is described once, so that help and meaning agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Panels of the help page.
CELLS = "Which cells"
SCREEN = "Screens of perturbations"
STATS = "Universe and statistics"

PerturbationColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="obs column of the perturbation; default: recognised.", rich_help_panel=SCREEN),
]
Control = Annotated[
    str | None,
    typer.Option(metavar="LABEL", help="Label of control cells; default: recognised.", rich_help_panel=SCREEN),
]
ModalityName = Annotated[
    str | None,
    typer.Option(metavar="WHICH", help="crispri, crispra or knockout; checked.", rich_help_panel=SCREEN),
]
Replicate = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="obs column of the screen's replicate or donor.", rich_help_panel=SCREEN),
]
Counts = Annotated[
    str | None,
    typer.Option(metavar="WHERE", help="Where raw counts are: auto, X, raw, or a layer.", rich_help_panel=CELLS),
]
Log1p = Annotated[bool, typer.Option("--log1p-cp10k", help="Recover counts from log1p(CP10k).", rich_help_panel=CELLS)]
GeneColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="var column of gene ids; default: var_names.", rich_help_panel=CELLS),
]
Analyses = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Run only this analysis; repeatable.", rich_help_panel=STATS),
]
Bootstrap = Annotated[int | None, typer.Option(metavar="N", help="Bootstrap draws.", rich_help_panel=STATS)]
Permutations = Annotated[int | None, typer.Option(metavar="N", help="Permutation draws.", rich_help_panel=STATS)]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Root seed.", rich_help_panel=STATS)]
SetKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of a study file, e.g. statistics.alpha=0.01; repeatable.",
        rich_help_panel=STATS,
    ),
]
RunFolder = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Run folder; default: runs/NAME.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Workers; default: one a processor. No number depends on it.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run of another plan in the folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")]
