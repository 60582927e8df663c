"""What lies in an ``.h5ad`` file or an AnnData zarr folder? Opened without its matrices, or read whole."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from regulens.errors import InputError, nearest
from regulens.io.by_row import ConvertedRows, stored_by_column
from regulens.io.rows import StoredRows, damaged, is_group, opened, reading, require_chunks

if TYPE_CHECKING:
    from anndata import AnnData

#: Estimated bytes of all matrices of a file in memory above which ``backed="auto"`` leaves them in the file.
BACKED_ABOVE = 1 << 31
#: Files that mark a folder as zarr, version 2 and 3.
ZARR_MARKS = (".zgroup", "zarr.json")
_SPARSE = ("csr_matrix", "csc_matrix")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group."""
    return path.is_dir() and any((path / mark).is_file() for mark in ZARR_MARKS)


def require_cells(path: Path) -> None:
    """Refuse what is neither a file nor a zarr folder.

    Raises
    ------
    InputError
        With the nearest name beside it.
    """
    if path.is_file() or is_zarr(path):
        return
    what = "a folder that is not zarr" if path.is_dir() else "no such file"
    beside = [p.name for pattern in ("*.h5ad", "*.zarr") for p in path.parent.glob(pattern)]
    near = nearest(path.name, beside) if path.parent.is_dir() else ""
    message = f"Expected an .h5ad file or an AnnData zarr folder at {path}, got {what}.{near} Check the path."
    raise InputError(message)


def read_h5ad(path: Path) -> AnnData:
    """Read an ``.h5ad`` file, or an AnnData zarr folder, whole, without anndata's warnings about older versions.

    Raises
    ------
    InputError
        When it is missing, of another format, or damaged.
    """
    require_cells(path)
    import anndata as ad

    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not path.is_dir():
            return ad.read_h5ad(path)
        _require_whole(path)
        return ad.io.read_zarr(path)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredCells:
    """Annotation of a file or folder, and where its matrices are.

    Parameters
    ----------
    obs, var
        As anndata reads them.
    raw_var
        Of ``raw``; None where there is none.
    layers
        Names, in the order of the file.
    has_x
        Whether there is an ``X``.
    """

    path: Path
    obs: pd.DataFrame
    var: pd.DataFrame
    raw_var: pd.DataFrame | None
    layers: tuple[str, ...]
    has_x: bool

    def rows(self, key: str) -> StoredRows:
        """Rows of a matrix; one stored by column is copied by row first (`regulens.io.by_row`).

        Raises
        ------
        InputError
            When the matrix is damaged, or its copy does not fit.
        """
        rows = (ConvertedRows if stored_by_column(self.path, key) else StoredRows)(self.path, key)
        table = self.raw_var if key == "raw/X" else self.var
        if table is None or rows.shape != (len(self.obs), len(table)):
            wanted = (len(self.obs), 0 if table is None else len(table))
            raise damaged(self.path, f"{key} of shape {rows.shape} for {wanted[0]} cells and {wanted[1]} genes")
        return rows


def matrix_bytes(path: Path) -> int | None:
    """Estimated bytes of all matrices of a file in memory; None when it is of a version that is only read whole.

    Raises
    ------
    InputError
        When it cannot be opened.
    """
    with opened(path) as root, reading(path):
        total = 0
        for place in _matrices(root).values():
            if not is_group(place):
                total += int(place.dtype.itemsize * place.shape[0] * (place.shape[1] if len(place.shape) > 1 else 1))
            elif place.attrs.get("encoding-type") in _SPARSE:
                total += int(place["data"].shape[0]) * (place["data"].dtype.itemsize + place["indices"].dtype.itemsize)
            else:
                return None
        known = all(root[name].attrs.get("encoding-type") == "dataframe" for name in ("obs", "var"))
        return total if known else None


def open_cells(path: Path) -> StoredCells:
    """Read the annotation and leave the matrices where they are.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    import anndata as ad

    with opened(path) as root, reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places = _matrices(root)
        # Through an AnnData, so that names and columns come out as from a file that is read whole.
        tables = ad.AnnData(obs=ad.io.read_elem(root["obs"]), var=ad.io.read_elem(root["var"]))
        raw_var = ad.io.read_elem(root["raw/var"]) if "raw/X" in places else None
        if raw_var is not None:
            raw_var.index = raw_var.index.astype(str)
        return StoredCells(
            path=path, obs=tables.obs, var=tables.var, raw_var=raw_var, has_x="X" in places,
            layers=tuple(key.removeprefix("layers/") for key in places if key.startswith("layers/")),
        )  # fmt: skip


def _matrices(root: Any) -> dict[str, Any]:
    """Places of matrices by key."""
    found = {f"layers/{name}": root["layers"][name] for name in sorted(root["layers"])} if "layers" in root else {}
    for key, inside in (("raw/X", "raw" in root), ("X", True)):
        if inside and key in root and not _is_null(root[key]):
            found[key] = root[key]
    return found


def _is_null(place: Any) -> bool:
    return place.attrs.get("encoding-type") == "null"


def _require_whole(path: Path) -> None:
    """Refuse a folder of which chunks are missing."""
    with opened(path) as root, reading(path):
        for key, place in _matrices(root).items():
            if is_group(place) and place.attrs.get("encoding-type") in _SPARSE:
                for name in ("data", "indices"):
                    require_chunks(place[name], path, f"{key}/{name}")
