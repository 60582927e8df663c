"""Importing the core loads no torch, and asking for help loads no numerical library at all."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "regulens"
HEAVY = ("numpy", "scipy", "pandas", "torch", "anndata", "scanpy", "matplotlib", "numba", "sklearn", "zarr", "pyarrow")

#: Makes torch and its companions impossible to find, as on a machine that lacks them.
WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "transformers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of the modules `names` a fresh interpreter has loaded after running `code`."""
    tail = f"\nimport sys\nprint()\nprint(','.join(n for n in {names!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    last = done.stdout.split("\n")[-2]
    return [n for n in last.split(",") if n]


def modules(*, without: tuple[str, ...]) -> list[str]:
    """Names of all modules of the package outside the given top-level packages."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        if len(parts) > 2 and parts[1] in without:
            continue
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def test_import_regulens_loads_nothing_heavy():
    assert loaded("import regulens", HEAVY) == []


def test_the_core_imports_without_torch():
    core = [m for m in modules(without=("models", "attention", "testing")) if not m.endswith("__main__")]
    code = WITHOUT_TORCH + "\n".join(f"import {m}" for m in [*core, "regulens.models"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_check_without_torch_can_fail():
    code = WITHOUT_TORCH + "import torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ModuleNotFoundError: torch" in done.stderr


def test_the_core_loads_no_torch():
    code = "import regulens as rl\nrl.Plan, rl.audit, rl.read_cells, rl.read_reference, rl.EdgeUniverse, rl.preview"
    assert loaded(code, ("torch",)) == []


def test_the_check_for_torch_can_fail():
    assert loaded("import json", ("json",)) == ["json"]
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed, so that no module can load it")
    assert loaded("import regulens.models.kernel", ("torch",)) == ["torch"]


def test_help_loads_no_numerical_library():
    commands = [
        [], ["audit"], ["plan"], ["report"], ["list"], ["show"], ["doctor"], ["models"], ["models", "list"],
        ["models", "inspect"], ["models", "verify"], ["models", "train-mini"],
    ]  # fmt: skip
    code = "from regulens.cli.main import run\n" + "\n".join(f"assert run({[*c, '--help']!r}) == 0" for c in commands)
    assert loaded(code, HEAVY) == []


def test_the_check_for_help_can_fail():
    code = "from regulens.cli.main import run\nassert run(['plan', '--yaml', '--set', 'nonsense=1']) == 2"
    assert "numpy" in loaded(code, HEAVY)
