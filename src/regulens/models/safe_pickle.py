"""How is a torch file that holds more than tensors read, without running anything that hides in it?

A training checkpoint (PyTorch Lightning's ``.ckpt``) is a pickle of weights, settings, optimiser and callbacks. It is
tried first with ``torch.load(weights_only=True)``. Where that refuses, a second reader takes over in which

- tensors, numpy arrays and numbers, and plain containers are rebuilt;
- classes of the training libraries (`INERT`) become empty shells: never imported, never called, dropped afterwards;
- anything else is refused by name before it is looked up.

So nothing in the file decides which code runs, and only plain data and tensors come out.
"""

from __future__ import annotations

import collections
import pickle
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regulens.errors import ModelError, examples
from regulens.models.dictionaries import ALLOWED, RefusedPickleError
from regulens.models.loading import WRAPPERS

#: Packages whose objects lie in training checkpoints beside the weights.
INERT = (
    "lightning",
    "lightning_fabric",
    "pytorch_lightning",
    "torch.optim",
    "scprint",
    "scdataloader",
    "pandas",
    "pathlib",
    "functools",
    "omegaconf",
    "argparse",
    "jsonargparse",
)

#: Lightning's settings are a dict with attribute access, under a name that has moved between versions.
_SETTINGS_CLASS = "AttributeDict"


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes; any other encoding is none of ours."""
    if encoding != "latin1":
        raise RefusedPickleError(f"text encoded as {encoding}")
    return text.encode("latin1")


_REBUILT: dict[tuple[str, str], Any] = {
    **ALLOWED,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("__builtin__", "frozenset"): frozenset,
    **{(m, k.__name__): k for m in ("builtins", "__builtin__") for k in (slice, bytes, dict)},
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{
        ("torch", name): getattr(torch, name)
        for name in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
    },
}


class Shell:
    """Stands for an object that was not rebuilt; takes any state and keeps none."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> Shell:
        """Another shell."""
        return Shell()

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None:
        """Takes an item, as a list does."""

    def extend(self, _: Any) -> None:
        """Takes items, as a list does."""


class _Settings(dict):
    """Items of Lightning's settings, without its class."""

    def __setstate__(self, _: Any) -> None: ...


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REBUILT:
            return _REBUILT[module, name]
        if any(module == root or module.startswith(f"{root}.") for root in INERT):
            return _Settings if name == _SETTINGS_CLASS else Shell
        raise RefusedPickleError(f"{module}.{name}")


def _restricted_load(file: Any, **arguments: Any) -> Any:
    return _RestrictedUnpickler(file, **arguments).load()


#: What torch takes in place of the pickle module.
_RESTRICTED = types.SimpleNamespace(
    __name__="pickle", Unpickler=_RestrictedUnpickler, load=_restricted_load, UnpicklingError=pickle.UnpicklingError
)


def read_torch(path: Path, *, what: str, mmap: bool = False) -> Any:
    """Read a torch file as plain data and tensors.

    Parameters
    ----------
    path
        A file of ``torch.save``.
    what
        Its role, for messages ("checkpoint").
    mmap
        Leave tensors on disk until they are used.

    Returns
    -------
    Whatever was saved, with a `Shell` in place of every object of the training libraries.

    Raises
    ------
    ModelError
        When the file is missing, truncated, no torch file, or refers to anything but the above (named; never executed).
    """
    try:
        lazily = mmap and zipfile.is_zipfile(path)  # files of older versions of torch cannot stay on disk
        return torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
    except FileNotFoundError:
        message = f"Expected the {what} at {path}, found no such file. Put it there as it was published."
        raise ModelError(message) from None
    except pickle.UnpicklingError:
        pass  # needs more than tensors: the second reader decides
    except Exception as error:  # a damaged archive can raise almost anything
        raise _unreadable(path, what, error) from None
    try:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise RefusedPickleError("a compiled TorchScript program")
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_RESTRICTED)
    except RefusedPickleError as refused:
        message = (
            f"Expected the {what} {path.name} to hold weights and plain settings, got a file that refers to {refused}. "
            "It was not executed. Get the file from its publisher, or save its state dict and settings alone."
        )
        raise ModelError(message) from None
    except Exception as error:  # as above
        raise _unreadable(path, what, error) from None


def _unreadable(path: Path, what: str, error: Exception) -> ModelError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelError(
        f"Expected a complete {what} at {path.name} ({path.stat().st_size:,} bytes), got a file that cannot be read "
        f"({reason}). It is truncated or damaged; download it again."
    )


def tensors_of(checkpoint: Any, key: str, *, source: str) -> dict[str, torch.Tensor]:
    """Weights under `key` of a checkpoint, floating-point ones as float32, without the prefixes of wrappers.

    Raises
    ------
    ModelError
        When there is no such mapping, it holds anything but tensors, or a weight is NaN or infinite.
    """
    found = checkpoint.get(key) if isinstance(checkpoint, Mapping) else None
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        message = (
            f"Expected weights under '{key}' in {source}, got something else. This is no training checkpoint of this "
            "family; use the file as it was published."
        )
        raise ModelError(message)
    tensors = {str(k): v.detach().float() if v.is_floating_point() else v.detach() for k, v in found.items()}
    for prefix in WRAPPERS:
        if all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    broken = [k for k, v in tensors.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        message = f"Expected finite weights in {source}, got NaN or infinity in {examples(broken)}. Do not use it."
        raise ModelError(message)
    return tensors


def settings_of(checkpoint: Any, key: str, *, source: str) -> dict[str, Any]:
    """Plain settings under `key`: numbers, texts and containers of them; values that are anything else are left out.

    Raises
    ------
    ModelError
        When there is no such mapping.
    """
    found = checkpoint.get(key) if isinstance(checkpoint, Mapping) else None
    if not isinstance(found, Mapping):
        message = (
            f"Expected settings under '{key}' in {source}, got none. They name the model's genes and its number of "
            "heads, which no tensor shape reveals; use the checkpoint as it was published."
        )
        raise ModelError(message)
    plain = {}
    for name, value in found.items():
        kept = _plain(value)
        if kept is not _DROP:
            plain[str(name)] = kept
    return plain


_DROP = object()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        kept = {k: _plain(v) for k, v in value.items() if isinstance(k, str | int)}
        return {k: v for k, v in kept.items() if v is not _DROP}
    if isinstance(value, list | tuple):
        return [v for v in map(_plain, value) if v is not _DROP]
    return _DROP
