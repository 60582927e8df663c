"""How long work tells how far it is: a `Progress` that the command line draws and the library only feeds.

The library never prints. It asks a `Progress` for a stage, advances it and closes it; `SILENT` is the default.
"""

from __future__ import annotations

from typing import Protocol


class Stage(Protocol):
    """One piece of work with a known or unknown total."""

    def advance(self, n: int = 1) -> None:
        """Report `n` more units done."""
        ...

    def close(self) -> None:
        """Report that the stage is over."""
        ...


class Progress(Protocol):
    """Where stages and notes go."""

    def stage(self, name: str, total: int | None = None) -> Stage:
        """Open a stage of `total` units (None: unknown)."""
        ...

    def note(self, text: str) -> None:
        """Say one line."""
        ...


class _SilentStage:
    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _Silent:
    def stage(self, name: str, total: int | None = None) -> Stage:
        """Open a stage that says nothing."""
        return _SilentStage()

    def note(self, text: str) -> None:
        """Say nothing."""


#: A progress that says nothing.
SILENT: Progress = _Silent()
