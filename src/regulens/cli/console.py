"""Where does the command line write? Results to standard output, progress and messages to standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Characters a line on a stream that is no terminal and has no width.
PIPE_WIDTH = 120


def _console(stream: TextIO) -> Console:
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(file=stream, highlight=False, width=None if known else PIPE_WIDTH)


def out() -> Console:
    """Console of results; made on demand, so that redirected streams are respected."""
    return _console(sys.stdout)


def err() -> Console:
    """Console of progress, notes and errors."""
    return _console(sys.stderr)


def print_json(value: Any) -> None:
    """Print one JSON object; a number that is not finite is refused, as everywhere else."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_path(path: Any) -> None:
    """Print a path alone on its line, never wrapped, so that a script can take the last line."""
    print(path, flush=True)


class PlainTable(Table):
    """A table whose cells are printed as they are: ``regulens[models]`` is text, not markup."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of strings, or of `Text` where there is a colour."""
        super().add_row(*(Text(c) if isinstance(c, str) else c for c in cells), **options)


def table(title: str, *columns: str) -> PlainTable:
    """An empty table with the look that all commands share."""
    made = PlainTable(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(Text(column), overflow="fold")
    return made


def print_error(sentence: str, notes: list[str] | tuple[str, ...] = ()) -> None:
    """Print one sentence in red, then its notes."""
    console = err()
    # Sentences are not wrapped, so that they can be searched for and copied.
    console.print(f"Error: {sentence}", style="red", markup=False, soft_wrap=True)
    for note in notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)


class _PlainStage:
    """A stage on a stream that is no terminal: a line when it starts, now and then, and when it ends."""

    def __init__(self, name: str, total: int | None, *, every: float) -> None:
        self.name, self.total, self.done = name, total, 0
        self.start = self.last = time.monotonic()
        self.every = every
        self._say("started")

    def _say(self, what: str) -> None:
        print(f"{self.name}: {what}", file=sys.stderr, flush=True)

    def advance(self, n: int = 1) -> None:
        """Count `n` more units; say how far at most every few seconds."""
        self.done += n
        now = time.monotonic()
        if self.total and now - self.last >= self.every and self.done < self.total:
            self.last = now
            left = (now - self.start) / self.done * (self.total - self.done)
            self._say(f"{self.done} of {self.total}, about {duration(left)} left")

    def close(self) -> None:
        """Say that the stage is over and how long it took; a stage that an error ends was stopped, not done."""
        word = "stopped after" if sys.exc_info()[0] is not None else "done in"
        self._say(f"{word} {duration(time.monotonic() - self.start)}")


class PlainProgress:
    """Progress as lines of text, for logs and pipes.

    Parameters
    ----------
    every
        Seconds between two lines of one stage.
    """

    def __init__(self, *, every: float = 10.0) -> None:
        self.every = every

    def stage(self, name: str, total: int | None = None) -> _PlainStage:
        """Open a stage."""
        return _PlainStage(name, total, every=self.every)

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _BarStage:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1) -> None:
        """Move the bar."""
        self._bars.advance(self._task, n)

    def close(self) -> None:
        """Fill the bar and stop its clock."""
        task = next(t for t in self._bars.tasks if t.id == self._task)
        total = task.total or max(task.completed, 1)
        self._bars.update(self._task, total=total, completed=total)
        self._bars.stop_task(self._task)


class BarProgress:
    """Progress as bars with elapsed and remaining time, for terminals."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), Remaining(), console=err(),
        )  # fmt: skip

    def stage(self, name: str, total: int | None = None) -> _BarStage:
        """Open a bar."""
        return _BarStage(self._bars, self._bars.add_task(name, total=total))

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._bars.console.print(text, markup=False)

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class QuietProgress:
    """No progress at all."""

    def stage(self, name: str, total: int | None = None) -> Any:
        """Open a stage that says nothing."""
        from regulens.progress import SILENT

        return SILENT.stage(name, total)

    def note(self, text: str) -> None:
        """Say nothing."""

    def __enter__(self) -> QuietProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def progress(*, quiet: bool) -> BarProgress | PlainProgress | QuietProgress:
    """The progress that suits standard error; use it as a context manager."""
    if quiet:
        return QuietProgress()
    return BarProgress() if sys.stderr.isatty() else PlainProgress()


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(4.2), duration(75), duration(3725)
    ('4 s', '1 min 15 s', '1 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
