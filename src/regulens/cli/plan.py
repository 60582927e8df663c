"""`regulens plan`: what would this audit run, what would it not, and what would it cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from regulens.cli.console import duration, out, print_json, progress, table
from regulens.cli.options import with_plan_options
from regulens.cli.shared import AsJson, Quiet

if TYPE_CHECKING:
    from regulens.plan import Plan


@with_plan_options
def plan(
    study: Plan,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print the complete study file and stop.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what an audit with these options would do, and why the rest will not run; writes nothing."""
    if as_yaml:
        print(study.to_yaml(), end="")
        return
    from regulens.run.preview import preview

    with progress(quiet=quiet) as shown:
        found = preview(study, progress=shown).to_dict()
    if as_json:
        print_json(found)
        return
    print_inputs(found)
    print_analyses(found)
    _print_cost(found)


def print_inputs(found: dict[str, Any]) -> None:
    """Cells, models, networks and universes: what matched and what was lost."""
    console = out()
    cells = found["cells"]
    console.print(f"Plan {found['name']} ({found['plan_digest']}), to be written to {found['out']}", markup=False)
    console.print(f"Cells: {cells['name']}, {cells['source']}: {_text(cells['n_cells'])} cells", markup=False)
    console.print(f"  roles: {_text(cells['roles'])}; cell states: {len(cells['states'])}", markup=False)
    console.print(f"  gene ids: {_text(cells['gene_counts'])}", markup=False)
    if cells["dropped"]:
        console.print(f"  dropped: {_text(cells['dropped'])}", markup=False)
    console.print()
    shown = table(
        "Models", "model", "family", "layers x heads", "genes known", "genes unknown", "of the universe known"
    )
    for m in found["models"]:
        size = f"{m['layers']} x {m['heads']}"
        numbers = (m["genes_known"], m["genes_unknown"], m["universe_genes_known"])
        shown.add_row(m["label"], m["family"], size, *map(_text, numbers))
    console.print(shown)
    console.print()
    if found["references"]:
        shown = table("Networks", "network", "rows and edges")
        for reference in found["references"]:
            shown.add_row(reference["name"], _text({k: n for k, n in reference["counts"].items() if n}))
        console.print(shown)
        console.print()
    for screen in found["screens"]:
        _print_screen(screen)
    shown = table("Universes", "universe", "counts", "restrictions")
    for universe in found["universes"]:
        shown.add_row(universe["name"], _text(universe["counts"]), "; ".join(universe["restrictions"]))
    console.print(shown)
    console.print()


def _print_screen(screen: dict[str, Any]) -> None:
    """What a screen offers, what was recognised, what is wrong with it, and why perturbations are lost."""
    console = out()
    counts = screen["counts"]
    console.print(
        f"Screen {screen['name']}: {_text(counts['perturbations_evaluable'])} of {_text(counts['perturbations'])} "
        f"perturbations can be evaluated, {_text(counts['evaluable'])} responses",
        markup=False,
    )
    console.print(f"  a gene responds if: {screen['rule']}", markup=False)
    console.print(f"  modality: {screen['modality'] or 'not declared'}; controls: {_text(screen['n_controls'])}")
    for note in (*screen["notes"], screen["modality_problem"], *screen["flags"]):
        if note:
            console.print(f"  {note}", markup=False)
    reasons: dict[str, list[str]] = {}
    for name, why in screen["lost"].items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        console.print(f"  not evaluated ({why}): {', '.join(names)}", markup=False, soft_wrap=True)
    if any(screen["dropped"].values()):
        console.print(f"  cells dropped: {_text(screen['dropped'])}", markup=False)
    console.print()


def print_analyses(found: dict[str, Any]) -> None:
    """Which analyses run with how many tests, and why the others do not."""
    shown = table("Analyses", "analysis", "protocol", "model", "reference", "runs", "tests planned")
    for row in found["analyses"]:
        runs = "yes" if row["runs"] else f"no: {row['reason']}"
        names = (row["analysis"], row["protocol"], row["model"], row["reference"])
        shown.add_row(*names, runs, str(len(row["tests"])))
    console = out()
    console.print(shown)
    console.print()


def _print_cost(found: dict[str, Any]) -> None:
    """Rough cost of reading attention; an order of magnitude."""
    title = "Cost of reading attention (order of magnitude)"
    shown = table(title, "model", "tokens a cell", "time", "memory", "store at most")
    for name, cost in found["cost"]["models"].items():
        tokens = f"{_text(cost['tokens_median'])} (median), {_text(cost['tokens_max'])} (most)"
        sizes = (_bytes(cost["memory_bytes"]), _bytes(cost["store_bytes_at_most"]))
        shown.add_row(name, tokens, duration(cost["extraction_seconds"]), *sizes)
    out().print(shown)
    slow = {name: seconds for name, seconds in found["cost"]["networks"].items() if seconds >= 1}
    if slow:
        words = ", ".join(f"{name} {duration(seconds)}" for name, seconds in slow.items())
        out().print(f"Networks inferred from expression, processor time (order of magnitude): {words}", markup=False)


def _bytes(n: float) -> str:
    """A size in words.

    >>> _bytes(512), _bytes(3_400_000), _bytes(2_100_000_000)
    ('512 B', '3.4 MB', '2.1 GB')
    """
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= factor:
            return f"{n / factor:.1f} {unit}"
    return f"{n:.0f} B"


def _text(value: Any) -> str:
    """A plain value in words.

    >>> _text(12345), _text(0.25), _text(["a", "b"]), _text(None)
    ('12,345', '0.25', 'a, b', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(v) for v in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {_text(v)}" for k, v in value.items()) or "-"
    return str(value)
