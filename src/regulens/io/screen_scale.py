"""Do all cells of a file hold numbers of one scale? Concatenated screens hold counts of one line, logs of another.

Asked when no counts were found, so that the refusal says which cells are counts and which are not (methods: in a
widely used file of two cell lines one is log1p(CP10k) and the other raw).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regulens.errors import SchemaError
from regulens.io.cell_files import matrix_bytes, open_cells, read_h5ad
from regulens.io.counts import NOISE
from regulens.io.roles import labels_of
from regulens.io.rows import AbstractRows, MemoryRows
from regulens.io.screen_labels import plain

#: Columns that may say where a cell comes from.
_GROUPS = (
    "cellline", "celllinename", "dataset", "batch", "study", "source", "sample", "library", "gemgroup", "celltype",
    "replicate", "donor", "biorep", "condition",
)  # fmt: skip
#: A column with more groups says nothing about the origin.
_MAX_GROUPS = 500


def mixed_scale(
    source: Any, *, counts: str, obs: pd.DataFrame, columns: tuple[str, ...], label: str
) -> str:  # fmt: skip
    """A sentence when some cells hold whole numbers only and others do not; otherwise an empty string.

    Parameters
    ----------
    source
        Path or AnnData.
    counts
        Place that was looked at: ``auto``, ``X``, ``raw`` or the name of a layer.
    columns
        Columns of `obs` to look for the origin first.
    """
    for where, rows in _matrices(source, counts):
        whole, largest = _whole_rows(rows)
        seen = whole >= 0
        n_whole, n_odd = int((whole == 1).sum()), int((whole == 0).sum())
        # Logarithms of a cell with one count each are not whole either, but a handful of cells may be anything.
        if min(n_whole, n_odd) < max(2, 0.001 * seen.sum()):
            continue
        for column in _origins(obs, columns):
            told = _by_group(obs, column, whole, largest)
            if told:
                return (
                    f"Expected one scale in {where} of {label}, got counts for {told[0]} and values that are no counts "
                    f"for {told[1]}, by obs['{column}']. Write one file each, with raw counts; counts of log1p(CP10k) "
                    "values can be recovered there (--log1p-cp10k)."
                )
        return (
            f"Expected one scale in {where} of {label}, got whole numbers only in {n_whole} cells and others in "
            f"{n_odd}, with no column that tells them apart. Take the counts of all cells from their origin."
        )
    return ""


def _by_group(obs: pd.DataFrame, column: str, whole: np.ndarray, largest: np.ndarray) -> tuple[str, str] | None:
    """Words for the groups of counts and of other values, where every group is one of both."""
    try:
        labels, _ = labels_of(obs, column, role="origin")
    except SchemaError:
        return None
    seen = whole >= 0
    table = pd.DataFrame({"group": labels[seen].astype(str), "whole": whole[seen], "largest": largest[seen]})
    share = table.groupby("group").agg(share=("whole", "mean"), n=("whole", "size"), largest=("largest", "max"))
    if not 2 <= len(share) <= _MAX_GROUPS or not ((share["share"] <= 0.01) | (share["share"] >= 0.99)).all():
        return None
    is_counts = share["share"] >= 0.99
    if is_counts.all() or not is_counts.any():
        return None
    return tuple(
        ", ".join(
            f"'{g}' ({int(r.n)} cells, largest {r.largest:.4g})" for g, r in list(share[part].iterrows())[:3]
        ) + (f" and {int(part.sum()) - 3} more" if part.sum() > 3 else "")
        for part in (is_counts, ~is_counts)
    )  # fmt: skip


def _origins(obs: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    named = [c for c in columns if c in obs]
    known = [str(c) for n in _GROUPS for c in obs.columns if plain(str(c)) == n]
    return list(dict.fromkeys([*named, *known]))


def _whole_rows(rows: AbstractRows) -> tuple[np.ndarray, np.ndarray]:
    """Per cell 1 when all values are whole and not negative, 0 when not, −1 when it has none; and its largest value."""
    whole, largest = np.full(rows.shape[0], -1, dtype=np.int8), np.zeros(rows.shape[0])
    for start, block in rows.blocks():
        filled = np.flatnonzero(np.diff(block.indptr))
        if not filled.size:
            continue
        odd = (np.abs(block.data - np.rint(block.data)) > NOISE) | (block.data < 0)
        at = block.indptr[filled]
        whole[start + filled] = 1 - np.maximum.reduceat(odd.astype(np.int8), at)
        largest[start + filled] = np.maximum.reduceat(block.data, at)
    return whole, largest


def _matrices(source: Any, counts: str) -> Iterator[tuple[str, AbstractRows]]:
    """Places that are looked at for counts, in order, as far as there are."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if matrix_bytes(path) is not None:
            stored = open_cells(path)
            keys = {"counts": "layers/counts", "raw": "raw/X", "X": "X"}
            there = {f"layers/{name}" for name in stored.layers} | ({"X"} if stored.has_x else set())
            there |= {"raw/X"} if stored.raw_var is not None else set()
            wanted = keys.values() if counts == "auto" else [keys.get(counts, f"layers/{counts}")]
            for key in wanted:
                if key in there:
                    yield _words(key), stored.rows(key)
            return
        source = read_h5ad(path)
    places = {f"layers/{name}": matrix for name, matrix in source.layers.items()}
    if source.raw is not None:
        places["raw/X"] = source.raw.X
    if source.X is not None:
        places["X"] = source.X
    order = ["layers/counts", "raw/X", "X"] if counts == "auto" else [f"layers/{counts}", f"{counts}/X", counts]
    for key in order:
        if key in places:
            matrix = places[key]
            yield _words(key), MemoryRows(matrix.to_memory() if hasattr(matrix, "to_memory") else matrix[...])


def _words(key: str) -> str:
    return {"X": "X", "raw/X": "raw"}.get(key, f"layers['{key.removeprefix('layers/')}']")
