"""Where the stages meet: `preview` says what a plan would do, `audit` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regulens.run.audit import Run, audit
    from regulens.run.preview import Preview, preview

__all__ = ["Preview", "Run", "audit", "preview"]

_WHERE = {"Preview": "preview", "preview": "preview", "Run": "audit", "audit": "audit"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"regulens.run.{_WHERE[name]}"), name)
    message = f"module 'regulens.run' has no attribute '{name}'"
    raise AttributeError(message)
