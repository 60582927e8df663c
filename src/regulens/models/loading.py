"""How are weights read so that a partial or wrong load cannot go unnoticed?

Every adapter states the tensors it needs (name and shape); `check_tensors` compares that table with the file and
refuses on anything missing, unexpected or mis-shaped. Heads of other tasks are named in an ignore-list; what was
ignored is handed back, so that it can be reported. Files are read as plain tensors only: ``.safetensors``, or
``.pt``/``.bin`` through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from regulens.errors import ModelError, examples
from regulens.models.family import Family

__all__ = [
    "Family", "check_tensors", "count_layers", "cross_check", "find_weights", "head_count", "read_json", "read_tensors",
]  # fmt: skip

#: Prefixes that wrappers put before every name; stripped when all names carry one.
WRAPPERS = ("module.", "model.", "_orig_mod.")

#: Keys under which a training checkpoint may keep its tensors.
NESTED = ("model_state_dict", "state_dict")


def read_json(path: Path, *, what: str) -> dict[str, Any]:
    """Read a JSON object; anything else is a `ModelError` naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = f"Expected {what} at {path}, found no such file. Give the folder as it was published."
        raise ModelError(message) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        message = f"Expected {what} as JSON at {path}, got an unreadable file ({error}). Download it again."
        raise ModelError(message) from None
    if not isinstance(value, dict):
        message = f"Expected {what} as a JSON object at {path}, got {type(value).__name__}. Check the file."
        raise ModelError(message)
    return value


def find_weights(folder: Path, names: Iterable[str]) -> Path:
    """Return the first of `names` that lies in `folder`; none is a `ModelError`."""
    names = list(names)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    message = f"Expected weights in {folder} ({' or '.join(names)}), found none. Put the weights file there."
    raise ModelError(message)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a weights file as named tensors, floating-point ones as float32.

    Parameters
    ----------
    path
        ``.safetensors``, or a torch file that holds nothing but tensors (directly, or under one of `NESTED`).

    Raises
    ------
    ModelError
        On a truncated or foreign file, on anything that is not plain tensors, on NaN or infinity.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        message = (
            f"Expected {path.name} to hold plain tensors, got a file that cannot be read as such ({reason}). It is "
            "truncated, or needs code to be run on loading, which regulens does not do; re-save its state dict."
        )
        raise ModelError(message) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"Expected a complete weights file at {path.name} ({path.stat().st_size:,} bytes), got one that cannot be "
            f"read ({reason}). It is truncated or damaged; download it again."
        )
        raise ModelError(message) from None
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        message = f"Expected {path.name} to map names to tensors, got something else. Save the model's state dict."
        raise ModelError(message)
    tensors = {str(k): v.float() if v.is_floating_point() else v for k, v in found.items()}
    for prefix in WRAPPERS:
        if tensors and all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    broken = [k for k, v in tensors.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        message = f"Expected finite weights in {path.name}, got NaN or infinity in {examples(broken)}. Do not use it."
        raise ModelError(message)
    return tensors


def check_tensors(
    tensors: Mapping[str, torch.Tensor],
    expected: Mapping[str, tuple[int, ...]],
    *,
    ignore: tuple[str, ...],
    source: str,
    family: str,
) -> tuple[str, ...]:
    """Compare a file with the table of what a model needs.

    Parameters
    ----------
    tensors
        As read and renamed.
    expected
        Name to shape of every tensor that the forward pass uses.
    ignore
        Prefixes of tensors that may be present and are not used (heads of other tasks, buffers).
    source, family
        File and format, for the message.

    Returns
    -------
    Names that were ignored, sorted.

    Raises
    ------
    ModelError
        Listing missing, unexpected and mis-shaped tensors, all in one message.
    """
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    ignored = sorted(name for name in extra if name.startswith(ignore))
    unexpected = sorted(set(extra) - set(ignored))
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({examples(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({examples(unexpected)})")
    if wrong:
        parts.append(f"{len(wrong)} of the wrong shape ({examples(wrong, limit=3)})")
    if parts:
        message = (
            f"Expected the {len(expected)} tensors of a {family} model in {source}, got {'; '.join(parts)}. "
            "The weights and the configuration beside them do not belong together, or this is another format."
        )
        raise ModelError(message)
    return tuple(ignored)


def count_layers(names: Iterable[str], prefix: str) -> int:
    """Count layers named ``{prefix}{i}.``; numbers must run 0, 1, …, in any order in the file.

    >>> count_layers(["layer.10.w", "layer.2.w"] + [f"layer.{i}.b" for i in range(11)], "layer.")
    11
    """
    found = {n.removeprefix(prefix).split(".", 1)[0] for n in names if n.startswith(prefix)}
    numbers = sorted(int(n) for n in found if n.isdigit())
    if numbers != list(range(len(numbers))):
        message = f"Expected layers numbered from 0 without a gap, got {numbers}. The weights file is incomplete."
        raise ModelError(message)
    return len(numbers)


def cross_check(config: Mapping[str, Any], found: Mapping[str, int], *, source: str) -> None:
    """Refuse when a dimension in the configuration differs from the one in the weights; absent keys pass."""
    wrong = [f"{k} = {config[k]} but the weights have {v}" for k, v in found.items() if k in config and config[k] != v]
    if wrong:
        message = (
            f"Expected {source} to describe the weights beside it, got {'; '.join(wrong)}. "
            "Use the configuration that was published with these weights."
        )
        raise ModelError(message)


def head_count(config: Mapping[str, Any], key: str, *, width: int, source: str) -> int:
    """Read the number of heads, which no tensor shape reveals; refuse when it is absent or does not divide `width`."""
    heads = config.get(key)
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1:
        message = (
            f"Expected the number of attention heads as '{key}' in {source}, got {heads!r}. It cannot be inferred "
            "from the weights and a wrong one gives wrong attention without an error; add the published value."
        )
        raise ModelError(message)
    if width % heads:
        message = f"Expected a number of heads that divides the width {width}, got {key} = {heads} in {source}."
        raise ModelError(message + " Use the published value.")
    return heads
