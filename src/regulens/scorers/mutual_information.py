"""How much does one gene tell about another, in any shape of dependence? Plug-in mutual information on bins.

Every gene is cut at its own quantiles, equal values always in one bin, so that the zeros of a gene are one bin
however many they are. The estimate is that of `sklearn.metrics.mutual_info_score` on the same bins, for all pairs at
once: the joint counts of all pairs are one product of indicator matrices.

The plug-in estimate is biased upwards by about ``(bins_i − 1)(bins_j − 1) / 2n``, and a weakly detected gene has
fewer bins: part of the ranking is expression level. That is a property of the method, kept as it is.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.scorers.panel import Panel
from regulens.types.edges import EdgeScores

#: Fewest and most bins of the default rule.
FEWEST, MOST = 2, 16
_TARGETS = 64


def default_bins(n_cells: int) -> int:
    """Bins per gene: ``√(n / 5)``, so that a joint cell of independent genes expects five cells; in [2, 16].

    >>> default_bins(559), default_bins(20), default_bins(100_000)
    (10, 2, 16)
    """
    return int(np.clip(np.sqrt(n_cells / 5), FEWEST, MOST))


def quantile_bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Bin of every value: the number of inner quantiles ``1/B ... (B−1)/B`` of its column that lie below it.

    Parameters
    ----------
    values
        Shape ``(cell, gene)``.

    Returns
    -------
    Int64, same shape, in [0, n_bins − 1]; equal values of a column share a bin.

    Examples
    --------
    >>> quantile_bins(np.array([[0.0], [0.0], [0.0], [1.0], [2.0], [3.0]]), 3).ravel().tolist()
    [0, 0, 0, 1, 2, 2]
    """
    cuts = np.quantile(values, np.arange(1, n_bins) / n_bins, axis=0, method="lower")
    out = np.zeros(values.shape, dtype=np.int64)
    for cut in cuts:
        out += values > cut
    return out


def mutual_information_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...],
    n_bins: int | None = None,
) -> EdgeScores:  # fmt: skip
    r"""Mutual information of regulator and target, in nats.

    .. math:: I(i, j) = \sum_{a, b} \frac{n_{ab}}{n} \log \frac{n\, n_{ab}}{n_{a\cdot}\, n_{\cdot b}}

    Parameters
    ----------
    expression
        Shape ``(cell, gene)``, any monotone scale per gene.
    genes, regulators
        Axes of the grid; every regulator is one of the genes.
    n_bins
        Bins per gene, at least 2; by `default_bins` from the number of cells.

    Returns
    -------
    One score, ``mutual_information``, ≥ 0. Pairs with a constant gene and self-pairs are unobserved.
    """
    panel = Panel.build(expression, genes, regulators)
    n_bins = default_bins(panel.n_cells) if n_bins is None else n_bins
    if n_bins < 2:
        message = f"Expected at least 2 bins, got {n_bins}. With one bin nothing is told."
        raise ParameterError(message)
    bins = quantile_bins(panel.values, n_bins)
    n, n_reg, n_genes = panel.n_cells, len(panel.own), len(panel.genes)
    levels = np.arange(n_bins)
    # float32 products count exactly below 2^24 cells
    rows = (bins[:, panel.own, None] == levels).astype(np.float32).reshape(n, -1)
    counts = np.arange(n + 1, dtype=np.float64)
    x_log_x = counts * np.log(np.maximum(counts, 1.0))  # of every count there can be
    row_total = x_log_x[rows.sum(axis=0, dtype=np.float64).astype(np.int64)].reshape(n_reg, n_bins).sum(axis=1)
    out = np.empty((n_reg, n_genes))
    for start in range(0, n_genes, _TARGETS):
        block = bins[:, start : start + _TARGETS]
        columns = (block[:, :, None] == levels).astype(np.float32).reshape(n, -1)
        column_total = x_log_x[columns.sum(axis=0, dtype=np.float64).astype(np.int64)].reshape(-1, n_bins).sum(axis=1)
        joint = (rows.T @ columns).astype(np.int32).reshape(n_reg, n_bins, -1, n_bins)
        # sum of n_ab log n_ab, less the same of both margins: no division by an empty bin
        together = x_log_x[joint].sum(axis=(1, 3))
        out[:, start : start + _TARGETS] = (together - row_total[:, None] - column_total) / n + np.log(n)
    return panel.scores("mutual_information", np.maximum(out, 0.0), bins=str(n_bins))


SPEC = ScorerSpec(
    name="mutual_information",
    version=1,
    function=mutual_information_scores,
    summary="plug-in mutual information on quantile bins, in nats",
    source="Butte & Kohane 2000",
    needs=("expression",),
    pairwise=True,
)
