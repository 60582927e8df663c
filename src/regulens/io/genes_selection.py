"""Which genes go into the universe? The most variable ones, plus the regulators that are seen in enough cells."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from regulens.errors import InputError, ParameterError
from regulens.types.cells import Cells

#: Bins of equal width of log1p of the mean, in which dispersions are compared.
N_BINS = 20


def select_genes(
    cells: Cells, *, n_top: int | None, regulators: Iterable[str], min_cells: int
) -> tuple[np.ndarray, str]:
    """Positions of the genes to keep, and the words for it.

    Genes detected in fewer than `min_cells` cells are never kept, regulator or not. Of the others the `n_top` most
    variable ones are kept (normalised dispersion within bins of mean expression, Satija et al. 2015, as in scanpy's
    ``highly_variable_genes``, flavour "seurat"), and every gene of `regulators`.

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
    n_cells, mean, variance = _moments(cells)
    detected = n_cells >= min_cells
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
            kept[candidates[most_variable(mean[candidates], variance[candidates], n_top)]] = True
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


def _moments(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells with a count, mean and variance of counts per 10,000, of every gene; each of shape ``(gene,)``.

    One pass. Every gene's sums run from the first cell to the last, so that blocks and cores change no bit (scanpy's
    own depend on the number of threads).
    """
    n_cells = np.zeros(cells.n_genes, dtype=np.int64)
    sums, squares = np.zeros(cells.n_genes), np.zeros(cells.n_genes)
    scale = np.divide(1e4, cells.total_counts, out=np.zeros(cells.n_cells), where=cells.total_counts > 0)
    for start, block in cells.blocks():
        x = block.data * np.repeat(scale[start : start + block.shape[0]], np.diff(block.indptr))
        n_cells += np.bincount(block.indices[block.data > 0], minlength=cells.n_genes)
        np.add.at(sums, block.indices, x)
        np.add.at(squares, block.indices, x * x)
    mean = sums / cells.n_cells
    variance = squares / cells.n_cells - mean**2
    if cells.n_cells > 1:
        variance *= cells.n_cells / (cells.n_cells - 1)
    return n_cells, mean, variance


def most_variable(mean: np.ndarray, variance: np.ndarray, n_top: int) -> np.ndarray:
    """Positions of the genes whose log dispersion lies furthest above that of genes of similar mean, best first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.log(np.where(variance == 0, np.nan, variance / np.where(mean == 0, 1e-12, mean)))
    table = pd.DataFrame({"dispersion": dispersion, "bin": pd.cut(np.log1p(mean), bins=N_BINS)})
    bins = table.groupby("bin", observed=True)["dispersion"].agg(["mean", "std"]).reindex(table["bin"])
    centre, spread = bins["mean"].to_numpy(), bins["std"].to_numpy()
    # A gene that is alone in its bin has no spread to compare with; it counts as one standard deviation above.
    alone = np.isnan(spread)
    score = np.where(alone, dispersion / centre, (dispersion - centre) / np.where(alone, 1.0, spread))
    return np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")[:n_top]
