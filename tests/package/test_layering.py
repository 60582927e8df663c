"""Values flow one way: no stage imports a later one, and neighbours that must not know each other do not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "regulens"

FOUNDATION = {
    "errors",
    "registry",
    "rng",
    "provenance",
    "parallel",
    "progress",
    "compiled",
    "types",
    "stats",
    "_version",
}
LAYERS = [
    FOUNDATION,
    {"io", "models", "attention", "interventions", "scorers", "metrics", "nulls"},
    {"analyses"},
    {"verdicts", "plan", "run"},
    {"report"},
    {"api"},
    {"cli"},
]
#: Packages of the second layer to the neighbours that they may import.
NEIGHBOURS = {
    "io": set(),
    "models": {"io"},
    "attention": {"io", "models", "scorers"},
    "interventions": {"io", "models"},
    "scorers": set(),
    "metrics": set(),
    "nulls": set(),
}
#: What the report may import: it reads the run folder and nothing else.
REPORT = FOUNDATION | {"io", "report"}
#: For users and tests; nothing of the package may import it.
OUTSIDE = {"testing", "data"}


def part_of(path: Path, root: Path) -> str:
    """Top-level module or package that a file belongs to; the package's own `__init__` is ``""``."""
    first = path.relative_to(root).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Parts of regulens that a file imports anywhere, but for imports that only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name} uses a relative import"
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "regulens" else {node.module}
            )
    return {name.split(".")[1] for name in names if name.startswith("regulens.")}


def violations(root: Path) -> list[str]:
    """Every import that runs against the flow, in words."""
    level = {part: i for i, parts in enumerate(LAYERS) for part in parts}
    found = []
    for path in sorted(root.rglob("*.py")):
        here = part_of(path, root)
        if here in OUTSIDE or here == "":
            continue
        if here not in level:
            found.append(f"{here} is in no layer")
            continue
        for there in sorted(imports_of(path) - {here, "__version__"}):
            if there in OUTSIDE:
                wrong = True
            elif here == "report":
                wrong = there not in REPORT
            elif here in NEIGHBOURS and there in NEIGHBOURS:
                wrong = there not in NEIGHBOURS[here]
            else:
                wrong = level.get(there, len(LAYERS)) > level[here]
            if wrong:
                found.append(f"{path.relative_to(root)} imports {there}")
    return found


def test_no_import_runs_against_the_flow():
    assert violations(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("types/edges.py", "from regulens.io.cells import read_cells"),
        ("io/cells.py", "from regulens.models import load"),
        ("metrics/auroc.py", "import regulens.nulls.label_shuffle"),
        ("analyses/one.py", "def f():\n    from regulens.run.audit import audit"),
        ("report/build.py", "from regulens.analyses.base import ANALYSES"),
        ("stats/ranking.py", "from regulens.testing.worlds import World"),
        ("run/audit.py", "from regulens import cli"),
        ("surprise.py", "import os"),
    ],
)
def test_the_check_catches_a_broken_twin(tmp_path, file, line):
    twin = tmp_path / file
    twin.parent.mkdir(parents=True, exist_ok=True)
    twin.write_text(line + "\n")
    assert len(violations(tmp_path)) == 1


def test_the_check_lets_a_sound_twin_pass(tmp_path):
    (tmp_path / "analyses").mkdir()
    (tmp_path / "analyses" / "one.py").write_text(
        "from typing import TYPE_CHECKING\nfrom regulens.types.edges import EdgeScores\n"
        "if TYPE_CHECKING:\n    from regulens.run.audit import Run\n"
    )
    assert violations(tmp_path) == []
