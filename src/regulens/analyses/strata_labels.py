"""Which cells are alike? States estimated from expression or from a model's cell embedding, and carried to blocks.

Attention is stored by block of cells, so a stratum has to be a union of blocks: a block takes the label of most of its
cells. How many of its cells have that label (purity) says how much of the estimated states is left.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from regulens.types.estimates import Undefined

N_COMPONENTS = 30


def expression_space(expression: sp.csc_matrix, *, n_components: int = N_COMPONENTS) -> np.ndarray:
    """Principal components of log-normalised expression (genes centred, not scaled), shape ``(cell, component)``."""
    from sklearn.decomposition import PCA

    n = min(n_components, min(expression.shape) - 1)
    if n < 1:
        return np.zeros((expression.shape[0], 1))
    return PCA(n_components=n, svd_solver="arpack", random_state=0).fit_transform(sp.csr_matrix(expression))


def embedding_space(embedding: np.ndarray, *, n_components: int = N_COMPONENTS) -> np.ndarray:
    """Principal components of a cell embedding; cells without one (NaN) are put at the mean."""
    from sklearn.decomposition import PCA

    known = np.isfinite(embedding).all(axis=1)
    if known.sum() < 2:
        return np.zeros((len(embedding), 1))
    centred = np.where(known[:, None], embedding - embedding[known].mean(axis=0), 0.0)
    n = min(n_components, min(centred.shape) - 1)
    return PCA(n_components=n, svd_solver="full").fit_transform(centred)


def neighbour_graph(space: np.ndarray, *, k: int = 15) -> sp.coo_matrix:
    """Symmetric graph of k nearest neighbours, weighted by the Jaccard overlap of neighbourhoods; upper triangle."""
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(space) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(space).kneighbors_graph(mode="connectivity")
    near = sp.csr_matrix(near + sp.identity(len(space), format="csr"))
    shared = sp.csr_matrix(near @ near.T)
    linked = sp.csr_matrix(((near + near.T) > 0).astype(np.float64)).multiply(shared).tocoo()
    upper = linked.row < linked.col
    weight = linked.data[upper] / (2 * (k + 1) - linked.data[upper])
    return sp.coo_matrix((weight, (linked.row[upper], linked.col[upper])), shape=linked.shape)


def leiden(space: np.ndarray, *, k: int = 15, resolution: float = 1.0, seed: int = 0) -> np.ndarray | Undefined:
    """Leiden communities of the neighbour graph (Traag, Waltman & van Eck 2019), largest first, int64 ``(cell,)``.

    `Undefined` where igraph is not installed or there are fewer than 10 cells.
    """
    try:
        import igraph
    except ImportError:
        return Undefined(reason="Leiden needs igraph: install regulens[demo], or set the parameter `clustering: ward`")
    if len(space) < 10:
        return Undefined(reason=f"{len(space)} cells; at least 10 are needed to estimate states")
    graph = neighbour_graph(space, k=k)
    made = igraph.Graph(n=len(space), edges=np.column_stack([graph.row, graph.col]))
    igraph.set_random_number_generator(random.Random(seed))  # igraph knows one generator for the whole process
    try:
        found = made.community_leiden(
            objective_function="modularity", weights=graph.data, resolution=resolution, n_iterations=-1
        )
    finally:
        igraph.set_random_number_generator(random)
    return by_size(np.array(found.membership, dtype=np.int64))


def ward(space: np.ndarray, n_clusters: int) -> np.ndarray:
    """Ward clustering, largest first, int64 ``(row,)``."""
    from sklearn.cluster import AgglomerativeClustering

    return by_size(AgglomerativeClustering(n_clusters=n_clusters).fit_predict(space))


def by_size(label: np.ndarray) -> np.ndarray:
    """The same clusters numbered from the largest.

    >>> by_size(np.array([5, 2, 2])).tolist()
    [1, 0, 0]
    """
    names, code, size = np.unique(label, return_inverse=True, return_counts=True)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(-size, kind="stable")] = np.arange(len(names))
    return rank[code]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockLabels:
    """Strata of blocks.

    Parameters
    ----------
    label
        Int64, shape ``(block,)``, numbering the strata that some block has; −1 for a block without cells.
    names
        Of the strata.
    purity
        Share of the cells that are in a block of their own label, in [0, 1]; 1 for annotation that divides the store.
    block_purity
        The same by block, shape ``(block,)``.
    n_cell_labels
        Labels that cells have; more than there are strata where a label is nowhere in the majority.
    """

    label: np.ndarray
    names: tuple[str, ...]
    purity: float
    block_purity: np.ndarray
    n_cell_labels: int


def majority(label: np.ndarray, cell_partition: np.ndarray, n_blocks: int, *, prefix: str = "") -> BlockLabels:
    """Give every block the label of most of its cells; ties go to the smaller (larger) label number's stratum.

    Parameters
    ----------
    label
        Of each cell, any values, shape ``(cell,)``.
    cell_partition
        Block of each cell; −1 for a cell that was left out.

    Examples
    --------
    >>> made = majority(np.array(["a", "a", "b", "b"]), np.array([0, 0, 0, 1]), 2)
    >>> made.label.tolist(), made.names, made.purity
    ([0, 1], ('a', 'b'), 0.75)
    """
    inside = cell_partition >= 0
    names, code = np.unique(label[inside], return_inverse=True)
    table = np.zeros((n_blocks, len(names)))
    np.add.at(table, (cell_partition[inside], code), 1.0)
    size = table.sum(axis=1)
    most = np.where(size > 0, table.argmax(axis=1), -1)
    used = np.unique(most[most >= 0])
    renumbered = np.searchsorted(used, most)
    top = table.max(axis=1)
    return BlockLabels(
        label=np.where(most >= 0, renumbered, -1).astype(np.int64),
        names=tuple(f"{prefix}{names[u]}" for u in used),
        purity=float(top.sum() / max(size.sum(), 1.0)),
        block_purity=np.divide(top, size, out=np.zeros(n_blocks), where=size > 0),
        n_cell_labels=len(names),
    )


def stability(space: np.ndarray, label: np.ndarray, cluster, rng: np.random.Generator, *, draws: int = 10) -> float:
    """Mean adjusted Rand index between labels and those of random nine tenths of the cells.

    Parameters
    ----------
    cluster
        Rows of the space → labels.
    """
    from sklearn.metrics import adjusted_rand_score

    n, found = len(space), []
    for _ in range(draws):
        rows = np.sort(rng.choice(n, size=max(2, round(0.9 * n)), replace=False))
        again = cluster(space[rows])
        if not isinstance(again, Undefined):
            found.append(adjusted_rand_score(label[rows], again))
    return float(np.mean(found)) if found else float("nan")
