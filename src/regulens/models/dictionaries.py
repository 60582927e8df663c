"""How are a checkpoint's dictionaries read without running anything that hides in a pickle?

Published dictionaries are JSON, or pickles of a plain ``dict`` with numpy scalars. The unpickler here resolves
numpy's scalar constructor and dtype and nothing else; any other global is refused by name before it is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from regulens.errors import ModelError
from regulens.models.loading import read_json

#: Globals a pickle of a plain dictionary with numpy scalars may refer to.
ALLOWED = {
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,
    ("numpy._core.multiarray", "scalar"): np._core.multiarray.scalar,
}


class RefusedPickleError(ModelError):
    """A pickle refers to something other than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise RefusedPickleError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickleError(f"a persistent id {pid!r}")


def read_dictionary(path: Path, *, what: str) -> dict[str, Any]:
    """Read a dictionary with string keys from ``.json`` or ``.pkl``; numpy scalars become Python numbers.

    Parameters
    ----------
    path
        File; the suffix decides the format.
    what
        Its role, for messages ("token dictionary").

    Raises
    ------
    ModelError
        When the file is missing, damaged, no dictionary with string keys and plain values, or a pickle that
        refers to anything but numpy scalars (named in the message; it is never executed).
    """
    if path.suffix == ".json":
        found: Any = read_json(path, what=f"the {what}")
    else:
        try:
            with path.open("rb") as handle:
                found = _PlainUnpickler(handle).load()
        except RefusedPickleError as refused:
            message = (
                f"Expected the {what} {path.name} to hold plain data, got a pickle that refers to {refused}. It was "
                "not executed. Get the file from its publisher, or convert it to JSON where you trust it."
            )
            raise ModelError(message) from None
        except FileNotFoundError:
            message = f"Expected the {what} at {path}, found no such file. Put it beside the weights."
            raise ModelError(message) from None
        except Exception as error:  # a damaged pickle can raise almost anything
            message = (
                f"Expected the {what} {path.name} to be a complete pickle, got one that cannot be read "
                f"({type(error).__name__}). Download it again (a Git LFS pointer is not the file)."
            )
            raise ModelError(message) from None
    if not isinstance(found, dict):
        message = f"Expected the {what} {path.name} to be a dictionary, got {type(found).__name__}. Check the file."
        raise ModelError(message)
    plain = {}
    for key, value in found.items():
        if isinstance(value, np.generic):
            value = value.item()
        if not isinstance(key, str) or not isinstance(value, str | int | float):
            message = (
                f"Expected the {what} {path.name} to map strings to numbers or strings, got "
                f"{type(key).__name__} to {type(value).__name__}. Check that it is the right file."
            )
            raise ModelError(message)
        plain[key] = value
    return plain


def check_ids(tokens: dict[str, Any], *, rows: int, source: str) -> None:
    """Refuse a vocabulary whose ids are not distinct whole numbers in ``[0, rows)``."""
    ids = list(tokens.values())
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        message = f"Expected whole-number ids in {source}, got other values. Use the vocabulary beside the weights."
        raise ModelError(message)
    if len(set(ids)) != len(ids) or min(ids, default=0) < 0 or max(ids, default=-1) >= rows:
        message = (
            f"Expected distinct ids in [0, {rows - 1}] in {source} (the embedding has {rows} rows), got "
            f"{len(ids):,} ids, {len(set(ids)):,} distinct, from {min(ids, default=0)} to {max(ids, default=-1)}. "
            "Use the vocabulary that was published with these weights."
        )
        raise ModelError(message)
