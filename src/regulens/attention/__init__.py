"""Extraction of attention: run cells through a model and keep exact sums per partition, never the maps."""

from __future__ import annotations

from typing import Any

__all__ = ["Attention"]


def __getattr__(name: str) -> Any:
    # Lazy, because the reader of a finished store should not wait for what makes one.
    if name == "Attention":
        from regulens.attention.result import Attention

        return Attention
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
