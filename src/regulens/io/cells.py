"""How do cells come in? Raw counts found and verified, genes mapped, roles as the user named them; the rest counted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.errors import InputError, NamespaceError, ScaleError, SchemaError, examples, nearest
from regulens.io.counts import FoundCounts, as_csr, recover_counts, verify_counts
from regulens.io.gene_ids import Duplicates, GeneMap, align_genes, check_ids
from regulens.io.roles import column_of, labels_of, library_sizes
from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment

if TYPE_CHECKING:
    from anndata import AnnData


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
) -> Cells:
    """Read cells with raw counts from an ``.h5ad`` file or an AnnData, which is not changed.

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

    Raises
    ------
    InputError
        When the file is missing or cannot be read as ``.h5ad``, or no cell or gene is left.
    ScaleError
        When no raw counts are found; the message says what was seen.
    SchemaError
        When a named column or layer does not exist, or cell names repeat.
    NamespaceError
        When gene names repeat or are not human.
    """
    data, words = _open(source)
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
    found, var = _find_counts(data, counts, log1p_cp10k=log1p_cp10k, total=total, total_name=total_counts or "")

    row_sums = np.asarray(found.counts.sum(axis=1, dtype=np.float64)).ravel()
    library = total if total is not None else (found.total if found.total is not None else row_sums)
    _check_library(library, row_sums, total_counts)
    keep, dropped = row_sums > 0, {"zero_counts": int((row_sums == 0).sum())}
    for role, (_, present) in labels.items():
        # Counted one after the other, so that the reasons add up to the cells dropped.
        dropped[f"missing_{role}"] = int((keep & ~present).sum())
        keep &= present
    if not keep.any():
        message = f"Expected cells with counts and labels, got none of {len(keep)} ({dropped}). Check the columns."
        raise InputError(message)

    ids = var.index if gene_column is None else _gene_column(var, gene_column)
    matrix, genes, alignment = _to_genes(found.counts[np.flatnonzero(keep)], ids, gene_map, duplicates)
    return Cells(
        counts=matrix,
        genes=genes,
        obs=pd.DataFrame(
            {role: values[keep].astype(str) for role, (values, _) in labels.items()},
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


def read_h5ad(path: Path) -> AnnData:
    """Read an ``.h5ad`` file without anndata's warnings about files of older versions.

    Raises
    ------
    InputError
        When the file is missing, is no ``.h5ad``, or is damaged.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        near = nearest(path.name, [p.name for p in path.parent.glob("*.h5ad")]) if path.parent.is_dir() else ""
        message = f"Expected an .h5ad file at {path}, got {what}.{near} Check the path."
        raise InputError(message)
    import anndata as ad

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ad.read_h5ad(path)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"Expected a readable .h5ad file, got '{reason}' from {path.name}. The file is damaged, cut short or of "
            f"another format: copy it again, or write it with anndata's write_h5ad."
        )
        raise InputError(message) from error


def _open(source: Any) -> tuple[AnnData, str]:
    if isinstance(source, str | Path):
        return read_h5ad(Path(source).expanduser()), Path(source).name
    if not all(hasattr(source, a) for a in ("obs", "var", "X", "layers")):
        message = f"Expected a path or an AnnData, got {type(source).__name__}. Wrap the matrix in an AnnData first."
        raise InputError(message)
    return source, "AnnData"


def _candidates(data: AnnData, counts: str) -> list[tuple[str, Any, pd.DataFrame]]:
    """Places to look for counts: words, matrix, var."""
    places = {}
    if "counts" in data.layers:
        places["counts"] = ("layers['counts']", data.layers["counts"], data.var)
    if data.raw is not None:
        places["raw"] = ("raw", data.raw.X, data.raw.var)
    if data.X is not None:
        places["X"] = ("X", data.X, data.var)
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
    data: AnnData, counts: str, *, log1p_cp10k: bool, total: np.ndarray | None, total_name: str
) -> tuple[FoundCounts, pd.DataFrame]:
    refusals: list[ScaleError] = []
    for where, raw, var in _candidates(data, counts):
        matrix = as_csr(raw)
        try:
            if log1p_cp10k:
                return recover_counts(matrix, where=where, total=total, total_name=total_name), var
            return verify_counts(matrix, where=where), var
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


def _to_genes(
    counts: sp.csr_matrix, ids: Any, gene_map: GeneMap | None, duplicates: Duplicates
) -> tuple[sp.csr_matrix, Any, GeneAlignment]:
    """Counts per gene of the vocabulary, without genes that no cell expresses.

    Silent columns leave before ids are compared: otherwise an approved symbol without a count would push out the
    alias that carries the counts.
    """
    names = [str(i) for i in ids]
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    check_ids(names, gene_map, duplicates=duplicates)
    expressed = np.flatnonzero(counts.getnnz(axis=0))
    if not expressed.size:
        message = f"Expected genes with counts, got none of {len(names)}. Check the layer and the cells."
        raise InputError(message)
    genes, column, aligned = align_genes([names[i] for i in expressed], gene_map, duplicates=duplicates)
    if not len(genes):
        message = f"Expected genes with usable ids, got none of {len(names)} (such as {examples(names, limit=3)})."
        raise NamespaceError(message)
    kept = column >= 0
    ones = np.ones(int(kept.sum()), dtype=np.float32)
    sum_up = sp.csr_matrix((ones, (expressed[kept], column[kept])), (len(names), len(genes)))
    table = pd.DataFrame(
        {"input": names, "status": "unexpressed", "symbol": "", "ensembl": "", "reason": "no count in any cell kept"}
    )
    for field in ("status", "symbol", "ensembl", "reason"):
        words = table[field].to_numpy(dtype=object).copy()
        words[expressed] = aligned.table[field].to_numpy(dtype=object)
        table[field] = words
    return sp.csr_matrix(counts @ sum_up), genes, GeneAlignment(table=table)
