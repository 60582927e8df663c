"""How do cells come in? Raw counts found and verified, genes mapped, roles as the user named them; the rest counted.

Counts go through one path, in blocks: a pass over the rows verifies them and finds which genes are expressed, and a
second one brings them into the order of the genes. In memory the second pass is made at once and kept; of a file that
stays where it is, it is made again for whatever rows are asked for. So both give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from regulens.errors import InputError, NamespaceError, ParameterError, ScaleError, SchemaError, examples, nearest
from regulens.io.backed_counts import BackedCounts
from regulens.io.cell_files import BACKED_ABOVE, StoredCells, matrix_bytes, open_cells, read_h5ad, require_cells
from regulens.io.counts import FoundCounts, recover_counts, verify_counts
from regulens.io.gene_ids import Duplicates, GeneMap, align_genes, check_ids
from regulens.io.roles import column_of, labels_of, library_sizes
from regulens.io.rows import AbstractRows, MemoryRows, StoredRows
from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

#: Whether counts stay in their file: always, never, or when all matrices of the file take more than 2 GB in memory.
Backed = bool | Literal["auto"]


def read_cells(
    source: str | Path | AnnData,
    *,
    cell_state: str | None = None,
    donor: str | None = None,
    batch: str | None = None,
    perturbation: str | None = None,
    counts: str = "auto",
    log1p_cp10k: bool = False,
    gene_column: str | None = None,
    duplicates: Duplicates = "refuse",
    total_counts: str | None = None,
    name: str | None = None,
    gene_map: GeneMap | None = None,
    backed: Backed = "auto",
) -> Cells:
    """Read cells with raw counts from an ``.h5ad`` file, an AnnData zarr folder or an AnnData, which is not changed.

    Cells without any count, and cells without a label in a column that was named for a role, are dropped and
    counted in ``Cells.dropped``. Genes without any count in the cells kept are dropped and counted as
    ``unexpressed`` in ``Cells.alignment``.

    Parameters
    ----------
    cell_state, donor, batch, perturbation
        Columns of ``obs`` that play these roles. None is guessed.
    counts
        ``"auto"`` takes the first of ``layers["counts"]``, ``raw``, ``X`` that holds counts; otherwise ``"raw"``,
        ``"X"`` or the name of a layer.
    log1p_cp10k
        Recover counts from ``log1p`` of counts per 10,000 (`regulens.io.counts.recover_counts`).
    gene_column
        Column of ``var`` with gene ids; by default ``var_names``.
    duplicates
        What to do with genes that occur more than once (`regulens.io.gene_ids.align_genes`).
    total_counts
        Column of ``obs`` with library sizes; by default the row sums over all genes of the object. Needed when the
        object holds only part of the transcriptome.
    name
        By default the file's stem.
    gene_map
        By default the bundled human table.
    backed
        Whether counts stay in the file and are read in blocks, which changes no number: True, False, or ``"auto"``,
        when its matrices would take more than 2 GB in memory. Of an AnnData that was opened with ``backed="r"``, those
        stay that it left in its file (``X`` and ``raw``), unless False.

    Raises
    ------
    InputError
        When the file is missing or cannot be read, or no cell or gene is left.
    ScaleError
        When no raw counts are found; the message says what was seen.
    SchemaError
        When a named column or layer does not exist, or cell names repeat.
    NamespaceError
        When gene names repeat or are not human.
    """
    data, words = _open(source, backed)
    obs = data.obs
    if not obs.index.is_unique:
        repeated = sorted(set(obs.index[obs.index.duplicated()].astype(str)))
        message = (
            f"Expected unique cell names, got {int(obs.index.duplicated().sum())} repeats in obs_names "
            f"({examples(repeated)}). Call obs_names_make_unique() first."
        )
        raise SchemaError(message)
    roles = {"cell_state": cell_state, "donor": donor, "batch": batch, "perturbation": perturbation}
    labels = {role: labels_of(obs, column, role=role) for role, column in roles.items() if column is not None}
    total = None if total_counts is None else library_sizes(obs, total_counts)
    labelled = np.ones(len(obs), dtype=bool)
    for _, present in labels.values():
        labelled &= present
    rows, found, var = _find_counts(
        data, counts, log1p_cp10k=log1p_cp10k, wanted=labelled, total=total, total_name=total_counts or ""
    )

    library = total if total is not None else (found.total if found.total is not None else found.row_sums)
    _check_library(library, found.row_sums, total_counts)
    keep, dropped = found.row_sums > 0, {"zero_counts": int((found.row_sums == 0).sum())}
    for role, (_, present) in labels.items():
        # Counted one after the other, so that the reasons add up to the cells dropped.
        dropped[f"missing_{role}"] = int((keep & ~present).sum())
        keep &= present
    if not keep.any():
        message = f"Expected cells with counts and labels, got none of {len(keep)} ({dropped}). Check the columns."
        raise InputError(message)

    ids = var.index if gene_column is None else _gene_column(var, gene_column)
    genes, column, alignment = _genes(found.cells_per_column, ids, gene_map, duplicates)
    merged = len(np.unique(column[column >= 0])) < int((column >= 0).sum())
    stored = BackedCounts(
        rows, rule=found.rule, cells=np.flatnonzero(keep), column=column, n_genes=len(genes),
        nnz=None if merged else int(found.cells_per_column[column >= 0].sum()),
    )  # fmt: skip
    return Cells(
        counts=stored if isinstance(rows, StoredRows) else stored.take(np.arange(stored.shape[0])),
        genes=genes,
        obs=pd.DataFrame(
            {role: values[keep] for role, (values, _) in labels.items()},
            index=pd.Index(obs.index[keep].astype(str), name="cell"),
        ),
        total_counts=np.array(library[keep], dtype=np.float64),
        alignment=alignment,
        source=f"{words}: {found.words}"
        + (f"; library sizes from obs['{total_counts}']" if total_counts else "")
        + (f"; genes from var['{gene_column}']" if gene_column else ""),
        name=name or (Path(source).stem if isinstance(source, str | Path) else "cells"),
        dropped={k: v for k, v in dropped.items() if v},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """Annotation, and matrices that are opened when they are looked at.

    Parameters
    ----------
    raw, x
        Words, rows and genes; None where there is none.
    layers
        Rows by name.
    """

    obs: pd.DataFrame
    var: pd.DataFrame
    raw_var: pd.DataFrame | None
    raw: Callable[[], AbstractRows] | None
    x: Callable[[], AbstractRows] | None
    layers: dict[str, Callable[[], AbstractRows]]


def _open(source: Any, backed: Backed) -> tuple[_Source, str]:
    if backed not in (True, False, "auto"):
        message = f"Expected backed to be True, False or 'auto', got {backed!r}."
        raise ParameterError(message)
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        require_cells(path)
        stay = backed is True or (backed == "auto" and (matrix_bytes(path) or 0) > BACKED_ABOVE)
        if stay and matrix_bytes(path) is None:
            message = (
                f"Expected a file that anndata 0.7 or later has written, to read it in blocks, got an older one in "
                f"{path.name}. Read it whole (cells.backed: false), or write it again with anndata's write_h5ad."
            )
            raise InputError(message)
        return (_of_file(open_cells(path)) if stay else _of_anndata(read_h5ad(path))), path.name
    if not all(hasattr(source, a) for a in ("obs", "var", "X", "layers")):
        message = f"Expected a path or an AnnData, got {type(source).__name__}. Wrap the matrix in an AnnData first."
        raise InputError(message)
    is_backed = bool(getattr(source, "isbacked", False))
    if backed is True and not is_backed:
        message = (
            "Expected a path, or an AnnData opened with backed='r', to leave its counts in the file, got an AnnData in "
            "memory. Leave out `backed`."
        )
        raise ParameterError(message)
    return (_of_backed(source) if is_backed and backed is not False else _of_anndata(source)), "AnnData"


def _of_file(stored: StoredCells) -> _Source:
    return _Source(
        obs=stored.obs,
        var=stored.var,
        raw_var=stored.raw_var,
        raw=None if stored.raw_var is None else lambda: stored.rows("raw/X"),
        x=(lambda: stored.rows("X")) if stored.has_x else None,
        layers={layer: lambda key=f"layers/{layer}": stored.rows(key) for layer in stored.layers},
    )


def _of_anndata(data: AnnData) -> _Source:
    return _Source(
        obs=data.obs,
        var=data.var,
        raw_var=None if data.raw is None else data.raw.var,
        raw=None if data.raw is None else lambda: MemoryRows(_loaded(data.raw.X)),
        x=None if data.X is None else lambda: MemoryRows(_loaded(data.X)),
        layers={layer: lambda matrix=matrix: MemoryRows(_loaded(matrix)) for layer, matrix in data.layers.items()},
    )


def _of_backed(data: AnnData) -> _Source:
    """An AnnData that left `X` and `raw` in its file, unless it shows only some of its cells or genes."""
    whole = _of_anndata(data)
    path = Path(data.filename)
    try:
        if data.is_view or matrix_bytes(path) is None:
            return whole
    except InputError:  # opened for writing, so that nobody else can read it
        return whole
    stored = StoredCells(
        path=path, obs=data.obs, var=data.var, raw_var=whole.raw_var, layers=(), has_x=whole.x is not None
    )
    left = _of_file(stored)
    return _Source(
        obs=data.obs, var=data.var, raw_var=whole.raw_var, raw=left.raw, x=left.x, layers=whole.layers
    )  # fmt: skip


def _loaded(matrix: Any) -> Any:
    """A matrix of a backed AnnData in memory; any other as it is."""
    if hasattr(matrix, "to_memory"):
        return matrix.to_memory()
    return matrix[...] if type(matrix).__module__.startswith(("h5py", "zarr")) else matrix


def _candidates(data: _Source, counts: str) -> list[tuple[str, Callable[[], AbstractRows], pd.DataFrame]]:
    """Places to look for counts: words, rows, var."""
    places = {}
    if "counts" in data.layers:
        places["counts"] = ("layers['counts']", data.layers["counts"], data.var)
    if data.raw is not None and data.raw_var is not None:
        places["raw"] = ("raw", data.raw, data.raw_var)
    if data.x is not None:
        places["X"] = ("X", data.x, data.var)
    if counts == "auto":
        if not places:
            message = (
                "Expected counts in layers['counts'], raw or X, got none of them. Name the layer (--counts LAYER)."
            )
            raise SchemaError(message)
        return list(places.values())
    if counts in data.layers:
        return [(f"layers['{counts}']", data.layers[counts], data.var)]
    if counts in places:
        return [places[counts]]
    known = [*data.layers, *(k for k in ("raw", "X") if k in places)]
    message = f"Expected counts in '{counts}', got only {examples(known, limit=12)}.{nearest(counts, known)} Name one."
    raise SchemaError(message)


def _find_counts(
    data: _Source, counts: str, *, log1p_cp10k: bool, wanted: np.ndarray, total: np.ndarray | None, total_name: str
) -> tuple[AbstractRows, FoundCounts, pd.DataFrame]:
    refusals: list[ScaleError] = []
    for where, opened, var in _candidates(data, counts):
        try:
            rows = opened()
            if log1p_cp10k:
                found = recover_counts(rows, where=where, wanted=wanted, total=total, total_name=total_name)
            else:
                found = verify_counts(rows, where=where, wanted=wanted)
            return rows, found, var
        except ScaleError as error:
            refusals.append(error)
    # The last place is X, which is what people look at; the first refusal is about the place meant for counts.
    if len(refusals) == 1:
        raise refusals[0]
    message = " ".join(dict.fromkeys(str(r) for r in refusals))
    raise ScaleError(message) from refusals[0]


def _check_library(library: np.ndarray, row_sums: np.ndarray, column: str | None) -> None:
    short = int((library < row_sums - 0.5).sum())
    if short:
        message = (
            f"Expected library sizes at least as large as each cell's counts, got {short} cells with a smaller value "
            f"in obs['{column}']. Name the column with the total counts, or leave total_counts out."
        )
        raise ScaleError(message)


def _gene_column(var: pd.DataFrame, column: str) -> list[str]:
    return [str(v) for v in column_of(var, column, purpose="gene ids", table="var").to_numpy(dtype=object)]


def _genes(
    cells_per_column: np.ndarray, ids: Any, gene_map: GeneMap | None, duplicates: Duplicates
) -> tuple[Any, np.ndarray, GeneAlignment]:
    """Genes that any cell expresses, the gene of every stored column (−1 for none), and what became of each.

    Silent columns leave before ids are compared: otherwise an approved symbol without a count would push out the
    alias that carries the counts.
    """
    names = [str(i) for i in ids]
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    check_ids(names, gene_map, duplicates=duplicates)
    expressed = np.flatnonzero(cells_per_column)
    if not expressed.size:
        message = f"Expected genes with counts, got none of {len(names)}. Check the layer and the cells."
        raise InputError(message)
    genes, aligned_column, aligned = align_genes([names[i] for i in expressed], gene_map, duplicates=duplicates)
    if not len(genes):
        message = f"Expected genes with usable ids, got none of {len(names)} (such as {examples(names, limit=3)})."
        raise NamespaceError(message)
    column = np.full(len(names), -1, dtype=np.int64)
    column[expressed] = aligned_column
    table = pd.DataFrame(
        {"input": names, "status": "unexpressed", "symbol": "", "ensembl": "", "reason": "no count in any cell kept"}
    )
    for field in ("status", "symbol", "ensembl", "reason"):
        words = table[field].to_numpy(dtype=object).copy()
        words[expressed] = aligned.table[field].to_numpy(dtype=object)
        table[field] = words
    return genes, column, GeneAlignment(table=table)
