"""How are files written so that nothing half-written is ever left behind? Beside the target, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from regulens.errors import ParameterError, StoreError

#: Names that `replacing` gives to its temporary files.
_LEFTOVER = re.compile(r"\..+\.\d+\.part(\..+)?")

#: What the operating system says when there is no room: device full, quota used up, file larger than allowed.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes the place of `path`, on failure it is removed.

    Raises
    ------
    StoreError
        When the disk is full or the folder cannot be written; `path` keeps its earlier content.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as beside:
    ...     _ = beside.write_text("done")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    # The suffix is kept, since some writers choose the format or append a suffix by it.
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb+") as handle:
            os.fsync(handle.fileno())
        beside.replace(path)
    except OSError as error:
        raise store_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path | str) -> int:
    """Remove the temporary files that a killed process left in `folder` and below; return how many there were.

    Only for a folder that no other process writes to.
    """
    found = [p for p in Path(folder).rglob(".*.part*") if p.is_file() and _LEFTOVER.fullmatch(p.name)]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def store_error(path: Path | str, error: OSError) -> StoreError:
    """The sentence for a write that the operating system refused."""
    path = Path(path)
    if error.errno in _FULL:
        return StoreError(
            f"Expected room to write {path.name}, got a full disk or quota at {path.parent}. Free some space or "
            f"choose another folder with --out, then run the same command again: finished work is reused."
        )
    reason = error.strerror or str(error)
    return StoreError(
        f"Expected to write {path.name} in {path.parent}, got '{reason}'. Check that the folder exists and may be "
        f"written to, or choose another one with --out."
    )


def write_bytes(path: Path | str, content: bytes) -> Path:
    """Write `content` to `path` in one step; see `replacing` for the errors."""
    with replacing(path) as beside:
        beside.write_bytes(content)
    return Path(path)


def write_text(path: Path | str, content: str) -> Path:
    """Write UTF-8 text with ``\\n`` line ends to `path` in one step."""
    return write_bytes(path, content.encode("utf-8"))


def write_json(path: Path | str, value: Any, *, indent: int | None = 2) -> Path:
    """Write JSON with sorted keys to `path` in one step.

    Raises
    ------
    ParameterError
        When a number is NaN or infinite, or a value is not plain data: "undefined" is a word, not a float.
    """
    try:
        text = json.dumps(value, indent=indent, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        message = (
            f"Expected finite numbers in {Path(path).name}, got NaN or infinity. Write an undefined number as null "
            f"with a reason."
        )
        raise ParameterError(message) from error
    except TypeError as error:
        message = f"Expected plain values in {Path(path).name}, got '{error}'. Convert arrays and numpy scalars first."
        raise ParameterError(message) from error
    return write_text(path, text + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file that `write_json` wrote.

    Raises
    ------
    StoreError
        When the file is missing or damaged.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"Expected {path.name} in {path.parent}, got no such file. Check the path of the run folder."
        raise StoreError(message) from error
    except (OSError, ValueError) as error:
        message = f"Expected readable JSON in {path}, got '{error}'. The file is damaged; run the same command again."
        raise StoreError(message) from error


def write_with(path: Path | str, writer: Callable[[Path], Any]) -> Path:
    """Let ``writer(temporary path)`` make the file, then put it in place in one step."""
    with replacing(path) as beside:
        writer(beside)
    return Path(path)
