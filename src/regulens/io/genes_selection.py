"""Which genes go into the universe? The most variable ones, plus the regulators that are seen in enough cells."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from regulens.errors import InputError, ParameterError
from regulens.types.cells import Cells


def select_genes(
    cells: Cells, *, n_top: int | None, regulators: Iterable[str], min_cells: int
) -> tuple[np.ndarray, str]:
    """Positions of the genes to keep, and the words for it.

    Genes detected in fewer than `min_cells` cells are never kept, regulator or not. Of the others the `n_top` most
    variable ones are kept (scanpy's ``highly_variable_genes``, flavour "seurat": normalised dispersion within
    bins of mean expression, Satija et al. 2015, on log1p of counts per 10,000), and every gene of `regulators`.

    Parameters
    ----------
    n_top
        Number of variable genes; None, or at least the number of detected genes, keeps all detected ones.
    regulators
        Symbols; those that are not genes of `cells` are ignored.
    min_cells
        Cells in which a gene must have a count, ``>= 1``.

    Returns
    -------
    index
        Sorted int64, shape ``(kept,)``.
    words
        One sentence that says what was kept and what was not.

    Raises
    ------
    InputError
        When no gene is detected in enough cells.
    ParameterError
        When a number is below its range.
    """
    if min_cells < 1 or (n_top is not None and n_top < 0):
        message = f"Expected min_cells >= 1 and n_top >= 0, got {min_cells} and {n_top}."
        raise ParameterError(message)
    detected = cells.counts.getnnz(axis=0) >= min_cells
    n_detected = int(detected.sum())
    if not n_detected:
        message = (
            f"Expected genes detected in at least {min_cells} of {cells.n_cells} cells, got none of {cells.n_genes}. "
            f"Lower the number of cells in which a gene must be expressed."
        )
        raise InputError(message)
    symbols = cells.genes.symbols
    where = {s: i for i, s in enumerate(symbols)}
    known = sorted({where[r] for r in regulators if r in where})
    kept = np.zeros(cells.n_genes, dtype=bool)
    if n_top is None or n_top >= n_detected:
        kept |= detected
        words = f"all {n_detected} genes detected in at least {min_cells} cells"
    else:
        candidates = np.flatnonzero(detected)
        if n_top:
            kept[candidates[_most_variable(cells, candidates, n_top)]] = True
        added = [i for i in known if detected[i] and not kept[i]]
        kept[added] = True
        words = (
            f"the {n_top} most variable of {n_detected} genes detected in at least {min_cells} cells, plus "
            f"{len(added)} more regulators detected in as many"
        )
    lost = cells.n_genes - n_detected
    lost_regulators = sum(1 for i in known if not detected[i])
    words += f"; {lost} genes ({lost_regulators} of them regulators) were detected in fewer"
    return np.flatnonzero(kept), words


def _most_variable(cells: Cells, candidates: np.ndarray, n_top: int) -> np.ndarray:
    import anndata as ad
    import scanpy as sc

    data = ad.AnnData(cells.log_normalised(candidates))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = sc.pp.highly_variable_genes(data, flavor="seurat", n_top_genes=n_top, inplace=False)
    # scanpy keeps ties at the threshold; ordering by dispersion, then position, gives exactly n_top.
    score = table["dispersions_norm"].to_numpy(dtype=np.float64)
    return np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")[:n_top]
