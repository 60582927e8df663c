"""regulens: what a single-cell model knows about gene regulation beyond co-expression and prominence."""

from __future__ import annotations

from regulens._version import __version__

__all__ = ["__version__"]
