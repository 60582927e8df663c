"""How is summed attention kept on disk, and how does a reader know that nothing of it is missing or foreign?

A store is a zarr v3 directory::

    NAME.zarr/   attributes: type, version, key, content
      sums       float32 (partition, layer, head, direction, regulator, target), one chunk per map
      counts     int32   (partition, regulator, target), one chunk per partition
      manifest.json      size of every file, written last

Sums are added up in float64 and rounded once, when a partition is written: half the size, and the rounding (6e-8 of
the value) is that of the model's own arithmetic. Chunks carry a checksum. While a store is being filled it lies
beside its final place under ``NAME.zarr.partial`` and moves there, complete, in one rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from regulens.errors import DigestMismatchError, StoreError, VersionError
from regulens.io.atomic import store_error

TYPE = "regulens-attention"
VERSION = 1
_MANIFEST = "manifest.json"
_ARRAYS = {"sums": "attention-sums", "counts": "pair-counts"}


def create(path: Path, *, key: str, content: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Make an empty store.

    Parameters
    ----------
    key
        Digest of everything that decides the numbers.
    content
        JSON-able: axes, partition table, model card, facts.
    shape
        ``(partition, layer, head, direction, regulator, target)``.
    """
    with disk(path):
        group = zarr.create_group(path, zarr_format=3, overwrite=True)
        group.attrs.update({"type": TYPE, "version": VERSION, "key": key, "content": content})
        kinds = (("sums", shape, (1, 1, 1, 1, *shape[-2:]), "float32"), ("counts", _pairs(shape), None, "int32"))
        for name, full, chunk, dtype in kinds:
            group.create_array(
                name,
                shape=full,
                chunks=chunk or (1, *full[1:]),
                dtype=dtype,
                compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()],
                fill_value=0,
                # An absent chunk would read as zeros; every chunk is written, so that an absent one is an error.
                config={"write_empty_chunks": True},
                attributes={"type": _ARRAYS[name], "version": VERSION},
            )


def write_partition(path: Path, partition: int, sums: np.ndarray, counts: np.ndarray, *, first: int = 0) -> None:
    """Write one partition: ``(layer, head, direction, regulator, target)`` and ``(regulator, target)``.

    Parameters
    ----------
    first
        Layer at which `sums` begin, where they are those of some layers only.
    """
    with disk(path):
        group = zarr.open_group(path, mode="r+")
        with zarr.config.set({"array.write_empty_chunks": True}):
            group["sums"][partition, first : first + len(sums)] = sums.astype(np.float32)
            group["counts"][partition] = counts


def add_content(path: Path, content: dict[str, Any]) -> None:
    """Replace the content of a store that is being filled."""
    with disk(path):
        zarr.open_group(path, mode="r+").attrs["content"] = content


def open_arrays(path: Path) -> tuple[zarr.Array, zarr.Array]:
    """Sums and counts of a store that is still being filled."""
    group = zarr.open_group(path, mode="r")
    return group["sums"], group["counts"]


def complete(partial: Path, path: Path) -> None:
    """Write the manifest of a filled store and move it to its place."""
    with disk(path):
        text = json.dumps(_files(partial), indent=0, sort_keys=True)
        (partial / _MANIFEST).write_text(text, encoding="utf-8")
        partial.rename(path)


class StoredArray:
    """An array on disk, read chunk by chunk when indexed; a chunk that fails its checksum is a `StoreError`."""

    def __init__(self, array: zarr.Array, path: Path) -> None:
        self._array, self._path = array, path
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype = array.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        try:
            return np.asarray(self._array[index])
        except (ValueError, RuntimeError, OSError) as problem:
            message = (
                f"Expected {self._path} as it was written, got a chunk that cannot be read ({problem}). "
                "Remove it and extract again."
            )
            raise StoreError(message) from problem


def open_store(path: Path, *, key: str | None = None) -> tuple[dict[str, Any], str, StoredArray, StoredArray]:
    """Open a finished store for reading.

    Parameters
    ----------
    key
        When given, the store must have been made with it.

    Returns
    -------
    content, key, sums, counts
        The arrays are read chunk by chunk when indexed.

    Raises
    ------
    StoreError
        When it is no store, or a file is missing or has another size than when it was written.
    VersionError
        When another version wrote it.
    DigestMismatchError
        When its key differs.
    """
    path = Path(path)
    advice = "Remove it and extract again."
    try:
        group = zarr.open_group(path, mode="r")
        found = dict(group.attrs)
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        message = f"Expected a complete attention store at {path}, got something unreadable ({problem}). {advice}"
        raise StoreError(message) from problem
    if found.get("type") != TYPE:
        message = f"Expected an attention store at {path}, got type {found.get('type')!r}. Choose another path."
        raise StoreError(message)
    if found.get("version") != VERSION:
        message = f"Expected an attention store of version {VERSION} at {path}, got {found.get('version')!r}. {advice}"
        raise VersionError(message)
    if key is not None and found["key"] != key:
        message = (
            f"Expected the attention of these cells, genes, model and settings (key {key}) at {path}, got that of "
            f"others (key {found['key']}). Choose another folder, or remove this one."
        )
        raise DigestMismatchError(message)
    present = _files(path)
    present.pop(_MANIFEST, None)
    if present != manifest:
        odd = sorted(k for k in present.keys() | manifest.keys() if present.get(k) != manifest.get(k))
        message = f"Expected {path} as it was written, got {len(odd)} files changed or missing ({odd[0]}). {advice}"
        raise StoreError(message)
    sums, counts = (StoredArray(group[name], path) for name in _ARRAYS)
    return found["content"], found["key"], sums, counts


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a failed write into one sentence."""
    try:
        yield
    except OSError as problem:
        raise store_error(path, problem) from problem


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what cannot fit, measured against the free space of the folder's file system."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if n_bytes > free:
        message = (
            f"Expected {n_bytes / 1e9:.2f} GB of free space for attention under {folder}, got {free / 1e9:.2f} GB. "
            "Free some space, or choose fewer regulators, genes or partitions."
        )
        raise StoreError(message)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to one uncompressed ``.npz`` that is either absent or whole (not forced to disk: a scratch file)."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with disk(path):
        with beside.open("wb") as handle:
            np.savez(handle, **arrays)
        beside.replace(path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _pairs(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *shape[-2:])


def _files(path: Path) -> dict[str, int]:
    return {str(p.relative_to(path)): p.stat().st_size for p in sorted(path.rglob("*")) if p.is_file()}
