"""How are rows of a matrix had, from memory or from a file, without more than a block of them at a time?"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from regulens.errors import InputError, RegulensError, ScaleError

#: Stored numbers in a block, at most; a row that has more is a block of its own. No result depends on it.
BLOCK_ENTRIES = 1 << 21
#: Stored numbers between two wanted rows that are read along rather than skipped.
GAP_ENTRIES = 1 << 16
#: Bytes that a number of a block takes while it is worked on: as stored, in float64 with its column, as a count.
BYTES_PER_ENTRY = 48
#: Bytes of decompressed chunks that HDF5 keeps, so that a chunk which two blocks share is not read twice.
_CHUNK_CACHE = 1 << 25


def as_csr(matrix: object) -> sp.csr_matrix:
    """A CSR copy in float64 without explicit zeros; the input is left alone.

    Raises
    ------
    ScaleError
        When the matrix holds no numbers.
    """
    try:
        out = sp.csr_matrix(matrix, dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        message = f"Expected a numeric matrix of counts, got values that are no numbers ({error}). Check the layer."
        raise ScaleError(message) from error
    out.sum_duplicates()
    out.eliminate_zeros()
    return out


def damaged(path: Path, reason: str) -> InputError:
    """The refusal of a file or folder that cannot be read to its end."""
    if path.is_dir():
        return InputError(
            f"Expected a readable AnnData zarr folder, got '{reason}' from {path.name}. The folder is damaged, "
            f"incomplete or of another format: copy it again, or write it with anndata's write_zarr."
        )
    return InputError(
        f"Expected a readable .h5ad file, got '{reason}' from {path.name}. The file is damaged, cut short or of "
        f"another format: copy it again, or write it with anndata's write_h5ad."
    )


def reason_of(error: Exception) -> str:
    """First line of what a library says."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class AbstractRows(ABC):
    """A numeric matrix, cells × columns, as it is stored.

    Parameters
    ----------
    shape
        Cells and columns.
    ends
        Int64, shape ``(cell + 1,)``: stored numbers before each row, and in all.
    """

    shape: tuple[int, int]
    ends: np.ndarray

    @abstractmethod
    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Rows ``start`` to ``stop``, as `as_csr` gives them."""

    def blocks(self, rows: np.ndarray | None = None) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Rows at ascending positions, all by default, in blocks: position among those asked for, and the rows."""
        rows = np.arange(self.shape[0]) if rows is None else rows
        first, last = self.ends[rows], self.ends[rows + 1]
        jumps = np.flatnonzero(first[1:] - last[:-1] > GAP_ENTRIES) + 1
        start = 0
        while start < len(rows):
            stop = int(np.searchsorted(last, first[start] + BLOCK_ENTRIES, side="right"))
            jump = np.searchsorted(jumps, start, side="right")
            stop = max(min(stop, int(jumps[jump]) if jump < len(jumps) else stop), start + 1)
            low, high = int(rows[start]), int(rows[stop - 1]) + 1
            block = self.read(low, high)
            yield start, block if high - low == stop - start else block[rows[start:stop] - low]
            start = stop


class MemoryRows(AbstractRows):
    """A matrix in memory, dense or sparse; not changed."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = as_csr(matrix)
        self.shape = tuple(int(n) for n in self._matrix.shape)
        self.ends = self._matrix.indptr.astype(np.int64)

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Some rows."""
        return self._matrix[start:stop]


class StoredRows(AbstractRows):
    """A matrix of an ``.h5ad`` file or an AnnData zarr folder: encoded by row (CSR) or dense.

    The file is opened when rows are read, once per process.

    Parameters
    ----------
    path
        File or folder.
    key
        Where the matrix is in it: ``X``, ``layers/counts``, ``raw/X``.

    Raises
    ------
    InputError
        When the matrix is damaged: here, as far as its outline tells, and in `read`.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._stamp = _stamp(path)
        self._handle: Any = None
        with reading(path):
            place = self._place()
            self.sparse = is_group(place)
            if self.sparse:
                self.shape = tuple(int(n) for n in place.attrs["shape"])
                self.ends = np.asarray(place["indptr"][...], dtype=np.int64)
                lengths = {int(place[name].shape[0]) for name in ("data", "indices")}
                if (
                    len(self.ends) != self.shape[0] + 1
                    or self.ends[0] != 0
                    or (np.diff(self.ends) < 0).any()
                    or lengths != {int(self.ends[-1])}
                ):
                    raise damaged(path, f"rows of {key} that do not add up to its values")
                for name in ("data", "indices"):
                    require_chunks(place[name], path, f"{key}/{name}")
            else:
                self.shape = tuple(int(n) for n in place.shape)
                # A block of dense rows ends in as many numbers as are not zero, mostly far fewer.
                self.ends = np.arange(self.shape[0] + 1, dtype=np.int64) * max(self.shape[1] // 4, 1)

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Some rows, from the file."""
        with reading(self.path):
            place = self._place()
            if not self.sparse:
                return as_csr(np.asarray(place[start:stop]))
            low, high = int(self.ends[start]), int(self.ends[stop])
            data, indices = np.asarray(place["data"][low:high]), np.asarray(place["indices"][low:high])
            if indices.size and (indices.min() < 0 or indices.max() >= self.shape[1]):
                raise damaged(self.path, f"a column beyond the {self.shape[1]} of {self.key}")
            rows = (stop - start, self.shape[1])
            return as_csr(sp.csr_matrix((data, indices, self.ends[start : stop + 1] - low), shape=rows))

    def _place(self) -> Any:
        if self._handle is None:
            if _stamp(self.path) != self._stamp:
                message = (
                    f"Expected {self.path.name} as it was when its cells were checked, got a file that was changed "
                    "since. Start again."
                )
                raise InputError(message)
            self._handle = open_handle(self.path)
        return self._handle[self.key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def open_handle(path: Path) -> Any:
    """Root group of an HDF5 file or a zarr folder, for reading."""
    if path.is_dir():
        import zarr

        return zarr.open_group(path, mode="r")
    import h5py

    return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Root group of a file or folder, closed afterwards."""
    with reading(path):
        root = open_handle(path)
    try:
        yield root
    finally:
        if hasattr(root, "close"):
            root.close()


def is_group(place: Any) -> bool:
    """Whether a place of a file is a group (of a sparse matrix) rather than an array."""
    return not hasattr(place, "shape")


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, by which a worker notices another file at its place; None for a folder."""
    if path.is_dir():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def require_chunks(array: Any, path: Path, name: str) -> None:
    """Refuse a zarr array of which chunks are missing: they would be read as zeros."""
    if not path.is_dir():
        return
    # Where several chunks lie in one shard, those of the last one may be more than the array has.
    missing = array.nchunks - array.nchunks_initialized
    if missing > 0:
        raise damaged(path, f"{missing} of {array.nchunks} chunks of {name} missing")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever the libraries raise on a damaged file into one sentence."""
    try:
        yield
    except (RegulensError, MemoryError):
        raise
    except Exception as error:
        raise damaged(path, reason_of(error)) from error
