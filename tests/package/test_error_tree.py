"""The tree drawn in `regulens.errors` is the tree of its classes, exit codes included."""

from __future__ import annotations

import inspect
import re

from regulens import errors


def drawn(text: str) -> dict[str, tuple[str | None, int | None]]:
    """Class name to parent and exit code as drawn; an exit code is inherited where none is drawn."""
    found: dict[str, tuple[str | None, int | None]] = {}
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = re.match(r"^(?P<lead>[\s│├└─]*)(?P<name>[A-Z]\w+Error)\b(?P<rest>.*)$", line)
        if not match:
            continue
        depth = len(match["lead"])
        while stack and stack[-1][0] >= depth:
            stack.pop()
        parent = stack[-1][1] if stack else None
        code = re.search(r"exit (\d+)", match["rest"])
        inherited = found[parent][1] if parent else None
        found[match["name"]] = (parent, int(code[1]) if code else inherited)
        stack.append((depth, match["name"]))
    return found


def built() -> dict[str, tuple[str | None, int | None]]:
    """The same of the classes themselves."""
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.RegulensError)]
    return {
        c.__name__: (
            None if c is errors.RegulensError else c.__mro__[1].__name__,
            None if c is errors.RegulensError else c.exit_code,
        )
        for c in classes
    }


def test_the_drawing_is_the_tree():
    assert drawn(errors.__doc__) == built()


def test_the_comparison_can_fail():
    assert drawn(errors.__doc__.replace("ScaleError", "SkaleError")) != built()
    assert drawn(errors.__doc__.replace("exit 3", "exit 2")) != built()
    moved = errors.__doc__.replace("│   ├── CaptureError", "├── CaptureError")
    assert drawn(moved) != built()
