"""How does a matrix that is stored by column (CSC) become one that can be read by row, in two passes and little memory?

A cell's counts lie scattered over the whole of a CSC matrix, so that reading a few cells would mean reading all of it.
First the values are dealt out, in the order in which they are stored, to scratch files for consecutive bands of cells,
each small enough for memory; then every band is sorted by cell and appended to a CSR file.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from regulens.errors import InputError
from regulens.io import rows as storage
from regulens.io.rows import StoredRows, damaged, opened, reading, reason_of, require_chunks

#: Values of a band, at most, unless a single cell has more.
_BAND_ENTRIES = 1 << 23


def stored_by_column(path: Path, key: str) -> bool:
    """Whether a matrix is encoded as CSC."""
    with opened(path) as root, reading(path):
        return root[key].attrs.get("encoding-type") == "csc_matrix"


class ConvertedRows(StoredRows):
    """Rows of a CSC matrix, from a temporary copy by row.

    The copy lies in the system's folder for temporary files (``TMPDIR``), takes 8 to 12 bytes per value, and is
    removed with this object or at the end of the process.

    Raises
    ------
    InputError
        When the matrix is damaged, or the copy does not fit.
    """

    def __init__(self, path: Path, key: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="regulens-by-row-"))
        self._clean_up = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            with opened(path) as root:
                _convert(path, key, root[key], folder)
        except OSError as error:
            message = (
                f"Expected room in {folder.parent} for a copy of {path.name} by cell, since its counts are stored by "
                f"gene (CSC), got '{reason_of(error)}'. Set TMPDIR to a folder with more room, or write the file with "
                f"X as csr_matrix."
            )
            raise InputError(message) from error
        super().__init__(folder / "rows.h5", "X")

    def __getstate__(self) -> dict[str, Any]:
        # Only the process that made the copy removes it.
        return {**super().__getstate__(), "_clean_up": None}


def _convert(path: Path, key: str, place: Any, folder: Path) -> None:
    import h5py

    with reading(path):
        n_rows, n_columns = (int(n) for n in place.attrs["shape"])
        ends = np.asarray(place["indptr"][...], dtype=np.int64)
        n_values, dtype = int(place["data"].shape[0]), place["data"].dtype
        if len(ends) != n_columns + 1 or ends[0] != 0 or (np.diff(ends) < 0).any() or ends[-1] != n_values:
            raise damaged(path, f"columns of {key} that do not add up to its values")
        for name in ("data", "indices"):
            require_chunks(place[name], path, f"{key}/{name}")
    # Scratch files and copy together, for a moment.
    needed = n_values * (2 * dtype.itemsize + 12 + 8)
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = (
            f"Expected {needed / 1e9:.1f} GB of free space in {folder.parent} for a copy of {path.name} by cell, since "
            f"its counts are stored by gene (CSC), got {free / 1e9:.1f} GB. Set TMPDIR to a folder with more room, or "
            f"write the file with X as csr_matrix."
        )
        raise InputError(message)

    spans = _spans(n_values)
    per_row = np.zeros(n_rows, dtype=np.int64)
    for low, high in spans:
        with reading(path):
            indices = np.asarray(place["indices"][low:high])
        if indices.size and (indices.min() < 0 or indices.max() >= n_rows):
            raise damaged(path, f"a row beyond the {n_rows} of {key}")
        per_row += np.bincount(indices, minlength=n_rows)
    starts = np.concatenate([[0], np.cumsum(per_row)])
    bands = _bands(starts)
    names = [folder / f"band-{i}" for i in range(len(bands) - 1)]
    kind = np.dtype([("row", np.int64), ("column", np.int32), ("value", dtype)])
    for low, high in spans:
        with reading(path):
            found = np.empty(high - low, dtype=kind)
            found["row"] = place["indices"][low:high]
            found["value"] = place["data"][low:high]
        found["column"] = np.searchsorted(ends, np.arange(low, high), side="right") - 1
        found = found[np.argsort(found["row"], kind="stable")]
        cuts = np.searchsorted(found["row"], bands)
        for name, a, b in zip(names, cuts[:-1], cuts[1:]):
            with name.open("ab") as handle:
                found[a:b].tofile(handle)
    with h5py.File(folder / "rows.h5", "w") as out:
        group = out.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n_rows, n_columns)})
        group["indptr"] = starts
        data = group.create_dataset("data", (n_values,), dtype)
        indices = group.create_dataset("indices", (n_values,), np.int32)
        for name, first, last in zip(names, bands[:-1], bands[1:]):
            found = np.fromfile(name, dtype=kind)
            name.unlink()
            # Values came column by column, so that a stable order by row leaves the columns of a row ascending.
            order = np.argsort(found["row"], kind="stable")
            at = slice(int(starts[first]), int(starts[last]))
            data[at], indices[at] = found["value"][order], found["column"][order]


def _spans(n_values: int) -> list[tuple[int, int]]:
    """Ranges of values that are read at a time."""
    step = storage.BLOCK_ENTRIES
    return [(low, min(low + step, n_values)) for low in range(0, n_values, step)]


def _bands(starts: np.ndarray) -> np.ndarray:
    """First cell of each band, and the number of cells."""
    cuts, first = [0], 0
    n_rows = len(starts) - 1
    while first < n_rows:
        first = max(int(np.searchsorted(starts, starts[first] + _BAND_ENTRIES, side="right")) - 1, first + 1)
        cuts.append(first)
    return np.array(cuts, dtype=np.int64)
