"""What would fewer of these cells have shown? Nested unions of blocks of one composition, and AUROCs of many unions.

Draws come from one finite set of blocks: they show how a score behaves as cells are added, given these cells. They
share blocks and all genes, so that their number is no sample size; errors come from genes and from leaving out blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.blocks import BlockScores, block_sums
from regulens.analyses.cssi_folds import drawn_pairs
from regulens.stats.jackknife import Deviations, auroc_deviations
from regulens.stats.ranking import influence
from regulens.types.labelled import LabelledEdges


def groups_of_blocks(table: pd.DataFrame) -> np.ndarray:
    """Cell state and donor of each block as one number, int64, shape ``(block,)``."""
    named = [table[c].astype(str) for c in ("cell_state", "donor") if c in table]
    if not named:
        return np.zeros(len(table), dtype=np.int64)
    return np.unique(pd.concat(named, axis=1).agg("\t".join, axis=1).to_numpy(), return_inverse=True)[1]


def nested_orders(group: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Orders of blocks whose every prefix has about the composition of all, int64, shape ``(replicate, block)``.

    Block i of a group of n (in random order) is put at ``(i + u) / n`` with u uniform: systematic sampling from every
    group at once. No group is forced into a small draw.

    Examples
    --------
    >>> order = nested_orders(np.array([0, 0, 0, 0, 1, 1]), 1, np.random.default_rng(0))[0]
    >>> sorted(np.array([0, 0, 0, 0, 1, 1])[order[:3]].tolist())
    [0, 0, 1]
    """
    out = np.empty((replicates, len(group)), dtype=np.int64)
    for r in range(replicates):
        key = np.empty(len(group))
        for g in np.unique(group):
            mine = rng.permutation(np.flatnonzero(group == g))
            key[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
        out[r] = np.argsort(key, kind="stable")
    return out


def grid_of_sizes(n_blocks: int, n_sizes: int) -> np.ndarray:
    """Numbers of blocks, about evenly spaced on a logarithmic scale, up to all of them; int64.

    >>> grid_of_sizes(20, 6).tolist()
    [1, 2, 3, 6, 11, 20]
    """
    return np.unique(np.round(np.geomspace(1, n_blocks, n_sizes)).astype(np.int64))


def prefixes(orders: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Weights of the unions, replicates outermost, float64, shape ``(replicate * size, block)``."""
    replicates, n_blocks = orders.shape
    place = np.argsort(orders, axis=1)
    return (place[:, None, :] < sizes[None, :, None]).astype(np.float64).reshape(replicates * len(sizes), n_blocks)


def load_blocks(inp: AnalysisInput, edges: LabelledEdges) -> BlockScores:
    """Block scores of the pre-specified attention score on the pairs of `edges`."""
    view = inp.partitions
    assert view is not None
    i, j = edges.regulator, edges.target
    return BlockScores(
        sums=block_sums(view, inp.request.primary, direction=inp.request.direction)[:, i, j],
        counts=view.counts()[:, i, j].astype(np.float64),
        cells=view.table["n_cells"].to_numpy(dtype=np.float64), min_cells=1,
    )  # fmt: skip


def met_in_all(scores: BlockScores, weight: np.ndarray) -> np.ndarray:
    """Pairs that met in at least one cell of every union, bool, shape ``(pair,)``."""
    met = np.ones(scores.counts.shape[1], dtype=bool)
    there = scores.counts > 0
    for row in weight > 0:
        met &= there[row].any(axis=0)
    return met


def thinned(edges: LabelledEdges, keep: np.ndarray, negatives: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of the pairs to use: all kept positives and at most `negatives` kept negatives."""
    kept = np.flatnonzero(keep)
    return kept[drawn_pairs(edges.label[kept], negatives, rng)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Areas:
    """AUROCs of many unions of blocks on the same pairs, with what is needed to put an error on sums of them.

    Parameters
    ----------
    deviations
        Estimate ``(union,)`` and delete-one deviations.
    psi
        Influence of every pair, shape ``(union, pair)``.
    """

    deviations: Deviations
    psi: np.ndarray

    def combined(self, weight: np.ndarray) -> Deviations:
        """Weighted sums of AUROCs, one per row of `weight`, shape ``(sum, union)``."""
        weight = np.atleast_2d(weight)
        d = self.deviations
        return Deviations(
            estimate=weight @ d.estimate, regulator=weight @ d.regulator, target=weight @ d.target,
            edge_variance=np.square(weight @ self.psi).sum(axis=1),
        )  # fmt: skip


def areas(values: np.ndarray, edges: LabelledEdges) -> Areas:
    """AUROC of every row of `values`, shape ``(union, pair)``, on the pairs of `edges`."""
    return Areas(
        deviations=auroc_deviations(values, edges.label, edges.regulator, edges.target),
        psi=influence(values, edges.label)[1],
    )
