"""Digests of arrays, tables, files and plain values; the versions a run was made with.

A digest answers "is this the same input?": it covers content, shape and type, never a path or a time.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

_SHORT = 16


def digest_array(array: np.ndarray) -> str:
    """Digest of an array's dtype, shape and bytes (16 hex digits)."""
    array = np.ascontiguousarray(array)
    h = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    h.update(array.view(np.uint8).data if array.size else b"")
    return h.hexdigest()[:_SHORT]


def digest_sparse(matrix: sp.csr_matrix) -> str:
    """Digest of a CSR matrix in canonical form (16 hex digits)."""
    m = sp.csr_matrix(matrix)
    if not m.has_canonical_format:
        m = m.copy()
        m.sum_duplicates()
    parts = (m.indptr.astype(np.int64), m.indices.astype(np.int64), m.data)
    return digest_of(m.shape, *(digest_array(p) for p in parts))


def digest_sparse_blocks(shape: tuple[int, int], nnz: int, blocks: Iterable[sp.csr_matrix]) -> str:
    """`digest_sparse` of blocks of rows set below each other, without holding more than one of them.

    Parameters
    ----------
    shape, nnz
        Of all blocks together.
    blocks
        In order, in canonical form, all of one type.

    Examples
    --------
    >>> whole = sp.csr_matrix(np.array([[0, 1], [2, 3]], dtype=np.float32))
    >>> digest_sparse_blocks((2, 2), 3, [whole[:1], whole[1:]]) == digest_sparse(whole)
    True
    """
    sizes = {"indptr": shape[0] + 1, "indices": nnz, "data": nnz}
    hashes: dict[str, Any] = {}

    def add(name: str, array: np.ndarray) -> None:
        if name not in hashes:
            hashes[name] = hashlib.sha256(f"{array.dtype.str}{(sizes[name],)}".encode())
        hashes[name].update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")

    end = np.zeros(1, dtype=np.int64)
    add("indptr", end)
    for block in blocks:
        add("indptr", block.indptr[1:].astype(np.int64) + end)
        add("indices", block.indices.astype(np.int64))
        add("data", block.data)
        end = end + block.nnz
    return digest_of(shape, *(hashes[name].hexdigest()[:_SHORT] for name in sizes))


def digest_strings(values: Any) -> str:
    """Digest of a sequence of strings, order included (16 hex digits)."""
    h = hashlib.sha256()
    for v in values:
        h.update(str(v).encode())
        h.update(b"\x00")
    return h.hexdigest()[:_SHORT]


def digest_frame(frame: pd.DataFrame) -> str:
    """Digest of a table's column names and cell values, index left out (16 hex digits)."""
    parts = [digest_strings(frame.columns)]
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind in "biuf":
            parts.append(digest_array(column.to_numpy()))
        else:
            parts.append(digest_strings(column.astype(str)))
    return digest_of(*parts)


def digest_of(*parts: Any) -> str:
    """Digest of JSON-able values (16 hex digits).

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT]


def sha256_file(path: Path | str) -> str:
    """Full sha256 of a file's bytes (64 hex digits), read in blocks."""
    h = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(1 << 20):
            h.update(block)
    return h.hexdigest()


_RECORDED = (
    "numpy", "scipy", "pandas", "anndata", "scanpy", "scikit-learn", "numba", "zarr", "pyarrow",
    "torch", "safetensors", "joblib",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of regulens, Python and the libraries that can change a number."""
    from regulens._version import __version__

    found = {"regulens": __version__, "python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
