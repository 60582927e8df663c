"""Which options describe a plan, and how do they and a study file become one `Plan`?

`audit` and `plan` share these options. The signature of `plan_from` is their only description; the decorator
`with_plan_options` grafts it onto a command.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from regulens.cli.shared import (
    CELLS,
    SCREEN,
    STATS,
    Analyses,
    Bootstrap,
    Control,
    Counts,
    GeneColumn,
    Log1p,
    ModalityName,
    Permutations,
    PerturbationColumn,
    Replicate,
    Seed,
    SetKeys,
)
from regulens.errors import PlanError, examples, nearest

if TYPE_CHECKING:
    from regulens.plan import Plan

_SCORE = "Models and networks"
_READ = "Reading attention"


def plan_from(
    cells: Annotated[
        str | None,
        typer.Argument(
            metavar="[CELLS|STUDY.yaml]",
            help="An .h5ad file, an AnnData .zarr or a study file (.yaml); without it, the bundled demonstration.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="family:PATH, a checkpoint folder, or bundled:NAME; repeatable.",
            rich_help_panel=_SCORE,
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK", help="A network table, or bundled:dorothea; repeatable.", rich_help_panel=_SCORE
        ),
    ] = None,
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCREEN",
            help="Cells with a perturbation each (.h5ad, .zarr), or a table of effects; repeatable.",
            rich_help_panel=SCREEN,
        ),
    ] = None,
    perturbation_column: PerturbationColumn = None,
    control: Control = None,
    modality: ModalityName = None,
    replicate: Replicate = None,
    demo: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Bundled cells instead of a file: immune or pbmc68k.", rich_help_panel=CELLS),
    ] = None,
    cell_state: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="obs column of the cell state.", rich_help_panel=CELLS)
    ] = None,
    donor: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="obs column of the donor.", rich_help_panel=CELLS)
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="obs column of the batch.", rich_help_panel=CELLS)
    ] = None,
    counts: Counts = None,
    log1p_cp10k: Log1p = False,
    total_counts: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="obs column of library sizes; default: row sums.", rich_help_panel=CELLS),
    ] = None,
    gene_column: GeneColumn = None,
    duplicates: Annotated[
        str | None, typer.Option(metavar="RULE", help="Repeated gene ids: refuse or sum.", rich_help_panel=CELLS)
    ] = None,
    genes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of most variable genes in the universe.", rich_help_panel=STATS),
    ] = None,
    max_cells: Annotated[
        int | None, typer.Option(metavar="N", help="Use at most so many cells.", rich_help_panel=STATS)
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What is summed: probability, logit, log_probability, value_weighted.",
            rich_help_panel=_READ,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Bound per process for sums and tokens, such as 2GB.", rich_help_panel=_READ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="WHERE", help="Where models run: cpu or cuda.", rich_help_panel=_READ)
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="WHICH", help="regulator_attends or target_attends.", rich_help_panel=STATS)
    ] = None,
    primary: Annotated[
        str | None,
        typer.Option(metavar="SCORE", help="Pre-specified score: pooled, L03_mean, L03_H01.", rich_help_panel=STATS),
    ] = None,
    analysis: Analyses = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="published: beside the corrected one, where known.", rich_help_panel=STATS),
    ] = None,
    bootstrap: Bootstrap = None,
    permutations: Permutations = None,
    seed: Seed = None,
    set_: SetKeys = None,
) -> Plan:
    """Make the plan of a command line: the study file if there is one, options over it, ``--set`` last.

    Raises
    ------
    PlanError
        For contradictory options, and for everything that `Plan` itself refuses.
    """
    from regulens.plan import Plan

    study = cells is not None and Path(cells).suffix.lower() in (".yaml", ".yml")
    if cells is not None and demo is not None:
        message = f"Expected either cells or --demo, got both ('{cells}' and --demo {demo}). Leave one out."
        raise PlanError(message)
    plan = Plan.read(cells) if study else Plan.from_options()
    screens = screen_sections(
        perturbation, perturbation=perturbation_column, control=control, modality=modality, replicate=replicate
    )
    if screens and cells is None and demo is None:
        cells = cells_among(screens)
        if cells is None:
            message = "Expected cells beside a table of effects, got none. Give the cells that models read, or --demo."
            raise PlanError(message)

    given: dict[str, Any] = {
        "cells.source": f"demo:{demo}" if demo is not None else None if study or cells is None else here(cells),
        "models": [here(m) for m in model] if model else None,
        "references": [here(r) for r in reference] if reference else [] if screens and not study else None,
        "screens": screens or None,
        "cells.cell_state": cell_state,
        "cells.donor": donor,
        "cells.batch": batch,
        "cells.counts": counts,
        "cells.log1p_cp10k": True if log1p_cp10k else None,
        "cells.total_counts": total_counts,
        "cells.gene_column": gene_column,
        "cells.duplicates": duplicates,
        "universe.genes": genes,
        "extraction.max_cells": max_cells,
        "extraction.recipe": recipe,
        "extraction.memory": memory,
        "extraction.device": device,
        "direction": direction,
        "primary": primary,
        "analyses": list(analysis) if analysis else None,
        "statistics.bootstrap": bootstrap,
        "statistics.permutations": permutations,
        "seed": seed,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    overrides |= dict(read_assignment(text) for text in set_ or ())
    if overrides:
        plan = plan.with_overrides(overrides)
    return plan if protocol is None else _with_protocol(plan, protocol)


def screen_sections(sources: list[str] | None, **options: str | None) -> list[dict[str, str]]:
    """Sections of the screens of a command line; options about screens are those of each.

    Raises
    ------
    PlanError
        When an option describes a screen and none is given.
    """
    given = {k: v for k, v in options.items() if v is not None}
    if given and not sources:
        flags = {"perturbation": "--perturbation-column"}
        name = flags.get(next(iter(given)), f"--{next(iter(given))}")
        message = f"Expected a screen beside {name}, got none. Give --perturbation SCREEN, or use a study file."
        raise PlanError(message)
    return [{"source": here(s)} | given for s in sources or ()]


def cells_among(screens: list[dict[str, str]]) -> str | None:
    """The first screen that is cells, which models then read; None where all are tables of effects.

    >>> cells_among([{"source": "effects.tsv"}, {"source": "Screen.H5AD"}])
    'Screen.H5AD'
    """
    places = (s["source"] for s in screens)
    return next((p for p in places if Path(p).suffix.lower() in (".h5ad", ".zarr", ".h5") or Path(p).is_dir()), None)


def _with_protocol(plan: Plan, protocol: str) -> Plan:
    """Leave the corrected protocol alone, and put the asked one beside it wherever an analysis knows it."""
    from regulens.analyses.base import ANALYSES

    sections = plan.model_dump(mode="json")["analyses"]
    known = {section["name"]: [str(p) for p in ANALYSES[section["name"]].protocols] for section in sections}
    if not any(protocol in names for names in known.values()):
        have = sorted({p for names in known.values() for p in names})
        message = f"Expected a protocol that these analyses have ({examples(have)}), got '{protocol}'."
        raise PlanError(f"{message}{nearest(protocol, have)} See `regulens show NAME`.")
    wanted = []
    for section in sections:
        beside = section | {"protocol": protocol}
        wanted += [section] if beside in sections or protocol not in known[section["name"]] else [section, beside]
    return plan.with_overrides({"analyses": wanted})


def here(value: str) -> str:
    """A path of the command line is relative to the working folder, also when a study file lies elsewhere.

    >>> here("bundled:dorothea"), here("demo:immune")
    ('bundled:dorothea', 'demo:immune')
    """
    scheme, colon, rest = value.partition(":")
    if scheme in ("demo", "bundled"):
        return value
    if colon and len(scheme) > 1 and "/" not in scheme and "." not in scheme:  # family:PATH
        return f"{scheme}:{Path(rest).expanduser().absolute()}"
    return str(Path(value).expanduser().absolute())


def read_assignment(text: str) -> tuple[str, Any]:
    """Split ``key.path=value``; the value is read as YAML.

    >>> read_assignment("statistics.alpha=0.01")
    ('statistics.alpha', 0.01)
    >>> read_assignment("models=[bundled:scgpt-mini]")
    ('models', ['bundled:scgpt-mini'])
    """
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        message = f"Expected --set key.path=value, got '{text}'. Example: --set statistics.bootstrap=500."
        raise PlanError(message)
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        message = f"Expected a YAML value for --set {key.strip()}, got '{value}'. Quote it."
        raise PlanError(message) from error


def with_plan_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give `command` the options of `plan_from`; it receives the finished plan as its first argument."""
    # Plan itself is known to type checkers only; no option has its type.
    unseen = {"Plan": object}
    shared = inspect.signature(plan_from).parameters
    own = dict(list(inspect.signature(command).parameters.items())[1:])
    hints = get_type_hints(command, include_extras=True, localns=unseen)
    shared_hints = get_type_hints(plan_from, include_extras=True, localns=unseen)

    @functools.wraps(command)
    def wrapped(**values: Any) -> int | None:
        mine = {name: values.pop(name) for name in own}
        return command(plan_from(**values), **mine)

    merged = {name: p.replace(annotation=shared_hints[name]) for name, p in shared.items()}
    merged |= {name: p.replace(annotation=hints[name]) for name, p in own.items()}
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in merged.values()]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    del wrapped.__wrapped__
    return wrapped
