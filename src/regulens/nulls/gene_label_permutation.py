"""What if genes kept their kind and exchanged their names in the reference? The network permuted among like genes.

One permutation of genes renames both ends of every edge, inside strata of degree, expression and detection. The
network keeps its whole shape, families of co-regulated targets and all; only which gene has which place is random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.errors import AlignmentError, ParameterError
from regulens.nulls.base import NullSpec
from regulens.nulls.rank_sums import mid_ranks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenePermutations:
    """Edges of the renamed networks.

    Parameters
    ----------
    positions
        Pair number of each edge in each draw, int64 ``(draw, edge)``; -1 where an edge fell on a pair that is not
        allowed.
    observed
        The same for the observed network, ``(edge,)``.
    stratum
        Stratum of each gene, int64 ``(gene,)``.
    n_fixed
        Genes with a stratum of their own, which keep their name in every draw.
    lost
        Mean share of the edges that fell on a pair that is not allowed.
    """

    positions: np.ndarray
    observed: np.ndarray
    stratum: np.ndarray
    n_fixed: int
    lost: float


def gene_strata(columns: list[np.ndarray], *, is_regulator: np.ndarray, bins: int) -> np.ndarray:
    """Strata of like genes: quantile bins of every column, regulators apart from other genes; int64 ``(gene,)``.

    Equal values share a bin.

    Examples
    --------
    >>> gene_strata([np.array([1.0, 2.0, 3.0, 4.0])], is_regulator=np.array([1, 0, 0, 1], bool), bins=2).tolist()
    [2, 0, 1, 3]
    """
    key = [np.asarray(is_regulator, dtype=np.int64)]
    for x in columns:
        edge = np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1])
        key.append(np.searchsorted(edge, x, side="left"))
    return np.unique(np.column_stack(key), axis=0, return_inverse=True)[1].ravel()


def permuted_networks(
    positive: np.ndarray, allowed: np.ndarray, own: np.ndarray, stratum: np.ndarray, *, draws: int,
    rng: np.random.Generator,
) -> GenePermutations:  # fmt: skip
    """Rename the genes of the reference inside strata.

    Parameters
    ----------
    positive, allowed
        Bool, shape ``(regulator, gene)``; positives inside the allowed pairs.
    own
        Gene of each regulator row, shape ``(regulator,)``; strata must keep regulators apart from other genes.
    stratum
        From `gene_strata`, shape ``(gene,)``.
    """
    n_genes = positive.shape[1]
    if positive.shape != allowed.shape or (positive & ~allowed).any() or stratum.shape != (n_genes,):
        message = (
            f"Expected positives inside allowed pairs and one stratum per gene ({n_genes}), got {positive.shape}, "
            f"{allowed.shape} and {stratum.shape}. Take all from one universe."
        )
        raise AlignmentError(message)
    is_regulator = np.zeros(n_genes, dtype=bool)
    is_regulator[own] = True
    if draws < 1 or np.intersect1d(stratum[is_regulator], stratum[~is_regulator]).size:
        message = f"Expected at least one draw and strata of regulators only or of none, got {draws}. Use gene_strata."
        raise ParameterError(message)
    number = np.full(positive.shape, -1, dtype=np.int64)
    number[allowed] = np.arange(int(allowed.sum()))
    row_of = np.full(n_genes, -1, dtype=np.int64)
    row_of[own] = np.arange(len(own))
    order = np.argsort(stratum, kind="stable")
    shuffled = np.lexsort((rng.random((draws, n_genes)), np.broadcast_to(stratum, (draws, n_genes))), axis=-1)
    name = np.empty((draws, n_genes), dtype=np.int64)
    name[:, order] = shuffled  # gene g takes the place of another gene of its stratum
    i, j = np.nonzero(positive)
    positions = number[row_of[name[:, own[i]]], name[:, j]]
    return GenePermutations(
        positions=positions, observed=number[i, j], stratum=stratum,
        n_fixed=int((np.bincount(stratum)[stratum] == 1).sum()), lost=float((positions < 0).mean()) if len(i) else 0.0,
    )  # fmt: skip


def gene_label_permutation(
    scores: np.ndarray, positive: np.ndarray, allowed: np.ndarray, own: np.ndarray, stratum: np.ndarray, *, draws: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """AUROC of every score under renamed networks.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``, the allowed pairs in grid order; no NaN.

    Returns
    -------
    Float64, shape ``(score, draw)``; edges on pairs that are not allowed are left out of their draw; NaN for a draw
    without positives or without negatives.
    """
    found = permuted_networks(positive, allowed, own, stratum, draws=draws, rng=rng)
    ranks = mid_ranks(np.atleast_2d(np.asarray(scores, dtype=np.float64)))
    kept = found.positions >= 0
    n_pos = kept.sum(axis=1).astype(np.float64)
    n_neg = ranks.shape[1] - n_pos
    out = np.full((len(ranks), draws), np.nan)
    ok = (n_pos > 0) & (n_neg > 0)
    for s, rank in enumerate(ranks):
        sums = np.where(kept, rank[np.maximum(found.positions, 0)], 0.0).sum(axis=1)
        out[s, ok] = ((sums - n_pos * (n_pos + 1) / 2) / np.maximum(n_pos * n_neg, 1))[ok]
    return out


SPEC = NullSpec(
    name="gene_label_permutation",
    version=1,
    function=gene_label_permutation,
    summary="genes of the reference renamed among genes of like degree, expression and detection",
    preserves="every score; the network's shape; regulators stay regulators; degree, expression and detection of the "
    "gene in each place, within its stratum",
    randomises="which gene of a stratum has which place in the network",
    exchangeable="genes of one stratum, for labels and scores that have nothing to do with each other",
    reference="Krackhardt 1988, doi:10.1016/0378-8733(88)90004-4 (quadratic assignment)",
    parameters={"draws": 1000, "bins": 3},
)
