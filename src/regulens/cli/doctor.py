"""`regulens doctor`: is this machine ready, and if not, what is missing?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.text import Text

from regulens.cli.console import out, print_json, table
from regulens.errors import RegulensError


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    state
        ``ok``, ``note`` (works, but worth knowing) or ``problem`` (something will be refused).
    """

    name: str
    state: str
    found: str
    advice: str = ""


def _python() -> Check:
    import platform
    import sys

    fine = sys.version_info >= (3, 11)
    return Check(
        name="Python", state="ok" if fine else "problem", found=platform.python_version(),
        advice="" if fine else "use Python 3.11 or newer",
    )  # fmt: skip


def _libraries() -> Check:
    from regulens.provenance import versions

    found = versions()
    lost = [name for name, version in found.items() if version == "absent" and name not in ("torch", "safetensors")]
    text = ", ".join(f"{name} {version}" for name, version in found.items() if name not in ("python", "torch"))
    return Check(
        name="libraries", state="problem" if lost else "ok", found=text,
        advice=f"pip install {' '.join(lost)}" if lost else "",
    )  # fmt: skip


def _torch() -> Check:
    try:
        import torch
    except ImportError:
        return Check(
            name="torch", state="problem", found="absent",
            advice="models need it: pip install 'regulens[models]'",
        )  # fmt: skip
    gpu = "with a GPU" if torch.cuda.is_available() else "without a GPU"
    return Check(name="torch", state="ok", found=f"{torch.__version__}, {torch.get_num_threads()} threads, {gpu}")


def _processors() -> Check:
    import os

    return Check(name="processors", state="ok", found=str(os.cpu_count() or 1))


def _memory() -> Check:
    from pathlib import Path

    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return Check(name="memory", state="note", found="not known on this system")
    facts = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    free = int(facts["MemAvailable"].split()[0]) / 1024**2
    total = int(facts["MemTotal"].split()[0]) / 1024**2
    low = free < 4
    return Check(
        name="memory", state="note" if low else "ok", found=f"{free:.1f} GiB free of {total:.1f} GiB",
        advice="the embedded default needs up to 4 GiB" if low else "",
    )  # fmt: skip


def _disk() -> Check:
    import shutil

    free = shutil.disk_usage(".").free / 1024**3
    low = free < 1
    return Check(
        name="disk here", state="note" if low else "ok", found=f"{free:.1f} GiB free",
        advice="attention stores of large models need more" if low else "",
    )  # fmt: skip


def _cache() -> Check:
    import os

    from regulens.io.demo import cache_folder

    folder = cache_folder()
    parent = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    fine = os.access(parent, os.W_OK)
    return Check(
        name="cache folder", state="ok" if fine else "problem", found=str(folder),
        advice="" if fine else "not writable: set REGULENS_CACHE to a folder that is",
    )  # fmt: skip


def _demo() -> list[Check]:
    from regulens.io.demo import DEMOS, load_demo

    def one(name: str) -> Check:
        cells = load_demo(name)
        text = f"{cells.n_cells} cells x {cells.n_genes} genes, digest {cells.digest}"
        return Check(name=f"cells demo:{name}", state="ok", found=text)

    return [_attempt(f"cells demo:{name}", lambda name=name: one(name)) for name in DEMOS]


def _models() -> list[Check]:
    from regulens.cli.models import failed_checks
    from regulens.models import bundled

    def one(spec: str) -> Check:
        lost, n = failed_checks(spec, n_cells=2)
        text = f"{n - len(lost)} of {n} checks passed"
        advice = f"failed: {', '.join(lost)}; reinstall regulens" if lost else ""
        return Check(name=f"model {spec}", state="problem" if lost else "ok", found=text, advice=advice)

    specs = [f"bundled:{name}" for name in bundled()]
    if not specs:
        return [Check(name="bundled models", state="problem", found="none", advice="reinstall regulens")]
    return [_attempt(f"model {spec}", lambda spec=spec: one(spec)) for spec in specs]


def _attempt(name: str, check: Callable[[], Check]) -> Check:
    """Make a check; one that fails in whatever way is a finding, not the end of the examination."""
    try:
        return check()
    except RegulensError as error:
        return Check(name=name, state="problem", found="cannot be used", advice=str(error))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Check(name=name, state="problem", found=text, advice="reinstall regulens; report it if that is no help")


_CHECKS: tuple[Callable[[], Check | list[Check]], ...] = (
    _python, _libraries, _torch, _processors, _memory, _disk, _cache, _demo, _models,
)  # fmt: skip


def examine() -> list[Check]:
    """Run every check, in order."""
    found: list[Check] = []
    for check in _CHECKS:
        result = check()
        found += result if isinstance(result, list) else [result]
    return found


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check Python, libraries, memory, disk, cache, bundled cells and models; exit code 2 when something is missing."""
    import dataclasses

    checks = examine()
    ready = all(check.state != "problem" for check in checks)
    if as_json:
        print_json({"ready": ready, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        colour = {"ok": "green", "note": "yellow", "problem": "red"}
        shown = table("regulens doctor", "check", "state", "found", "what to do")
        for check in checks:
            shown.add_row(check.name, Text(check.state, colour[check.state]), check.found, check.advice)
        console = out()
        console.print(shown)
        console.print("Ready." if ready else "Not ready: see the problems above.")
    if not ready:
        raise typer.Exit(2)
