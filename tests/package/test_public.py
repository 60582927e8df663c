"""The public surface is what `__all__` says: nothing missing, nothing extra, everything documented."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import regulens

INIT = Path(regulens.__file__)


def names_for_type_checkers(text: str) -> dict[str, str]:
    """Names imported under ``if TYPE_CHECKING``, with the ``module:object`` they come from."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.If):
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                for alias in statement.names:
                    whole = statement.module == "regulens"
                    found[alias.name] = f"regulens.{alias.name}:" if whole else f"{statement.module}:{alias.name}"
    return found


def test_all_is_exact():
    assert sorted(regulens.__all__) == sorted([*regulens._LAZY, "__version__"])
    assert len(set(regulens.__all__)) == len(regulens.__all__)
    assert dir(regulens) == sorted(regulens.__all__)


def test_type_checkers_and_users_see_the_same_objects():
    assert names_for_type_checkers(INIT.read_text()) == regulens._LAZY


def test_the_comparison_can_fail():
    broken = INIT.read_text().replace("from regulens.plan import Plan", "from regulens.plan import Plan as Other")
    broken = broken.replace("import Plan as Other", "import Other")
    assert names_for_type_checkers(broken) != regulens._LAZY


@pytest.mark.parametrize("name", [n for n in regulens.__all__ if n != "__version__"])
def test_public_names_are_there_and_documented(name):
    thing = getattr(regulens, name)
    assert inspect.getdoc(thing), f"{name} has no documentation"
    if inspect.isclass(thing):
        methods = {k: v for k, v in vars(thing).items() if not k.startswith("_") and callable(v)}
        silent = [k for k, v in methods.items() if not inspect.getdoc(v)]
        assert silent == []


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        regulens.nonsense  # noqa: B018
