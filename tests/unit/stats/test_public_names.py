"""The names of `regulens.stats` are what they say: loaded lazily, documented, never hidden by a module."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import regulens.stats

FOLDER = Path(regulens.stats.__file__).parent


def modules() -> set[str]:
    return {p.stem for p in FOLDER.glob("*.py")}


def for_type_checkers() -> dict[str, str]:
    found = {}
    for node in ast.parse((FOLDER / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If):
            for statement in node.body:
                found.update({a.name: statement.module.removeprefix("regulens.stats.") for a in statement.names})
    return found


def test_all_is_exact_for_users_and_type_checkers():
    assert sorted(regulens.stats.__all__) == sorted(regulens.stats._LAZY) == dir(regulens.stats)
    assert for_type_checkers() == regulens.stats._LAZY


def test_no_name_is_hidden_by_a_module():
    assert not set(regulens.stats.__all__) & modules()
    assert {"delong"} & modules()  # the check would see one


@pytest.mark.parametrize("name", regulens.stats.__all__)
def test_names_are_there_and_documented(name):
    assert inspect.getdoc(getattr(regulens.stats, name))


def test_import_loads_nothing():
    code = "import sys, regulens.stats; sys.exit(any(m.startswith(('numba', 'scipy', 'pandas')) for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    loaded = code.replace("regulens.stats;", "regulens.stats; regulens.stats.auroc;")
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 1


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        regulens.stats.nonsense  # noqa: B018
