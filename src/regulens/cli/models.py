"""`regulens models`: which models can be read, what is in this checkpoint, and does it hold what it promises?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regulens.cli.console import out, print_json, print_path, progress, table

if TYPE_CHECKING:
    import pandas as pd

    from regulens.types.cells import Cells

app = typer.Typer(help="Model families, bundled models, and single checkpoints.", no_args_is_help=True)

_AS_JSON = typer.Option("--json", help="Print one JSON object.")


@app.command("list")
def list_(as_json: Annotated[bool, _AS_JSON] = False) -> None:
    """List the checkpoint formats that can be read and the models that come along."""
    from regulens.cli.listing import entries
    from regulens.models import bundled

    families = [row | {"options": _options(row)} for row in entries("models")]
    small = [f"bundled:{name}" for name in bundled()]
    if as_json:
        print_json({"families": families, "bundled": small})
        return
    console = out()
    shown = table("Families", "use as", "what it is", "options", "from")
    for row in families:
        shown.add_row(f"{row['name']}:{_place(row)}", row["summary"], "; ".join(row["options"]) or "-", row["origin"])
    console.print(shown)
    console.print()
    shown = table("Bundled", "use as", "what it is")
    for spec in small:
        shown.add_row(spec, "small demonstration model, trained by regulens on its bundled cells")
    console.print(shown)


@app.command("inspect")
def inspect(
    spec: Annotated[str, typer.Argument(help="family:FOLDER, FOLDER, family:hf://org/name, or bundled:NAME.")],
    as_json: Annotated[bool, _AS_JSON] = False,
) -> None:
    """Load a checkpoint strictly; show its identity and dimensions, whether its files are known, and its licence."""
    from dataclasses import asdict

    from regulens.models import inspect as read_card
    from regulens.models.manifest import describe_digest, published, terms_of

    card = read_card(spec)
    licence, forbids = terms_of(card.family, declared=card.licence, demonstration=card.demonstration)
    if as_json:
        print_json(asdict(card) | {"known_as": published(card.sha256), "licence": licence, "forbids": forbids})
        return
    shown = table(card.label(), "what", "value")
    for key, value in asdict(card).items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        shown.add_row(key.replace("_", " "), {"licence": licence}.get(key, text) or "-")
        if key == "sha256":
            shown.add_row("digest", "trained by regulens" if card.demonstration else describe_digest(card.sha256))
        if key == "licence" and forbids:
            shown.add_row("licence forbids", forbids)
    for name, title in _known_beside(spec):
        shown.add_row(f"file {name}", title)
    out().print(shown)


@app.command("verify")
def verify(
    spec: Annotated[str, typer.Argument(help="family:FOLDER, FOLDER, or bundled:NAME.")],
    cells: Annotated[str, typer.Option(help="An .h5ad file, an AnnData .zarr, or demo:NAME.")] = "demo:immune",
    n_cells: Annotated[int, typer.Option(min=1, help="Cells to check on.")] = 4,
    as_json: Annotated[bool, _AS_JSON] = False,
) -> None:
    """Check a model on a few cells: tokens, attention rows, exactness; exit code 2 when a check fails."""
    from regulens.models import verify as run_checks

    checks = run_checks(spec, _cells(cells), n_cells=n_cells)
    passed = bool(checks["passed"].all())
    if as_json:
        print_json({"spec": spec, "passed": passed, "checks": _records(checks)})
    else:
        columns = [str(c) for c in checks.columns]
        shown = table(f"{spec} on {n_cells} cells", *columns)
        for row in _records(checks):
            shown.add_row(*(_words(row[c]) for c in columns))
        out().print(shown)
    if not passed:
        raise typer.Exit(2)


@app.command("check")
def check(
    target: Annotated[str, typer.Argument(help="MODULE:OBJECT, FILE.py:OBJECT, or family:FOLDER.")],
    folder: Annotated[Path | None, typer.Option(help="Folder to load from, where OBJECT is a Family.")] = None,
    cells: Annotated[str, typer.Option(help="An .h5ad file, an AnnData .zarr, or demo:NAME.")] = "demo:immune",
    n_cells: Annotated[int, typer.Option(min=2, help="Cells to check on.")] = 3,
    as_json: Annotated[bool, _AS_JSON] = False,
) -> None:
    """Run the conformance suite on an adapter of your own; exit code 2 when a check fails."""
    from regulens.cli.own_model import build_adapter
    from regulens.models import check_adapter

    checks = check_adapter(build_adapter(target, folder), _cells(cells), n_cells=n_cells)
    failed = [str(n) for n in checks.loc[~checks["passed"].astype(bool), "name"]]
    if as_json:
        print_json({"target": target, "passed": not failed, "checks": _records(checks)})
    else:
        columns = [str(c) for c in checks.columns]
        shown = table(f"{target} on {n_cells} cells", *columns)
        for row in _records(checks):
            shown.add_row(*(_words(row[c]) for c in columns))
        out().print(shown)
        out().print(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}" if failed
                    else f"All {len(checks)} checks passed.")  # fmt: skip
    if failed:
        raise typer.Exit(2)


@app.command("train-mini")
def train_mini(
    family: Annotated[str, typer.Argument(help="scgpt or geneformer.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder to write the checkpoint to.")],
    cells: Annotated[
        list[str] | None,
        typer.Option(metavar="CELLS", help="An .h5ad file, an AnnData .zarr, or demo:NAME; repeatable."),
    ] = None,
    screen: Annotated[
        str | None, typer.Option(metavar="SCREEN", help="Train on the control cells of a screen instead.")
    ] = None,
    perturbation_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="obs column of the screen's perturbation; default: recognised.")
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Label of the screen's control cells; default: recognised.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 42,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, _AS_JSON] = False,
) -> None:
    """Train a small demonstration model and write it in its family's published format.

    It is trained on the bundled cells, on cells of your own, or on the control cells of a screen.
    """
    from regulens.models.train_mini import train_mini as train

    data = _training_cells(cells, screen, perturbation_column=perturbation_column, control=control)
    with progress(quiet=quiet) as shown:
        facts = train(family, out=folder, cells=data, seed=seed, progress=shown)
    if as_json:
        print_json(facts)
        return
    print_path(folder)


def _training_cells(
    cells: list[str] | None, screen: str | None, *, perturbation_column: str | None, control: str | None
) -> list[Cells] | None:
    """Cells to train on; None for the bundled ones.

    Raises
    ------
    ParameterError
        When cells and a screen are both given, or a screen is a table of effects.
    """
    import numpy as np

    from regulens.errors import ParameterError
    from regulens.io.screens import read_screen
    from regulens.types.screens import Screen

    if screen is None:
        if perturbation_column or control:
            message = "Expected --screen beside --perturbation-column and --control, got none. Give the screen."
            raise ParameterError(message)
        return [_cells(c) for c in cells] if cells else None
    if cells:
        message = "Expected either --cells or --screen, got both. Leave one out."
        raise ParameterError(message)
    found = read_screen(screen, name=Path(screen).stem, perturbation=perturbation_column, control=control)
    if not isinstance(found, Screen):
        message = f"Expected a screen with cells at {screen}, got a table of effects. Give the cells."
        raise ParameterError(message)
    rows = np.flatnonzero(found.obs["control"].to_numpy())
    return [found.cells.load(rows)]


def _place(row: dict[str, str]) -> str:
    """What a family is read from: a folder of weights, or one file."""
    from regulens.models import FAMILIES

    return "FOLDER" if row["summary"].startswith("broken:") or not FAMILIES[row["name"]].of_file else "FILE"


def _options(row: dict[str, str]) -> list[str]:
    """Options that a family declares, with defaults; none for one that cannot be loaded."""
    from regulens.models import FAMILIES

    if row["summary"].startswith("broken:"):
        return []
    return [f"?{k}={o.default} ({o.description})" for k, o in FAMILIES[row["name"]].options.items()]


def _known_beside(spec: str) -> list[tuple[str, str]]:
    """Files on record that lie in the folder of a model."""
    from regulens.models.manifest import identify
    from regulens.models.spec import parse

    found = parse(spec)
    return [pair for pair in identify(found.folder) if pair[1]] if found.folder.is_dir() else []


def failed_checks(spec: str, *, n_cells: int) -> tuple[list[str], int]:
    """Names of the checks that a model fails on the embedded cells, and how many were made."""
    from regulens.models import verify as run_checks

    checks = run_checks(spec, _cells("demo:immune"), n_cells=n_cells)
    return [str(n) for n in checks.loc[~checks["passed"].astype(bool), "name"]], len(checks)


def _cells(source: str) -> Cells:
    from regulens.io.cells import read_cells
    from regulens.io.demo import load_demo

    return load_demo(source.removeprefix("demo:")) if source.startswith("demo:") else read_cells(source)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; what is not there is None."""
    import json

    return json.loads(frame.to_json(orient="records"))


def _words(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
