"""What do strata buy in a world whose states, edges and labels we know? Many simulated worlds at once.

Cells of K equally large states have 5 regulators, 25 targets and some marker genes. Some edges are alive in every
state, others in one state only; a live edge adds ``effect`` times the regulator to the target. Markers tell states
apart and are not scored; scored genes may differ in level between states as well (Simpson's paradox), and values may
drop out. A pair's score is |Spearman|. Everything has a leading axis of worlds, one per seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import comb
from scipy.stats import rankdata

N_REGULATORS, N_TARGETS = 5, 25
N_PAIRS = N_REGULATORS * N_TARGETS
#: A stratum of fewer cells takes no part.
MIN_STRATUM = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """How a world is made; effects are in standard deviations of a gene within a state.

    Parameters
    ----------
    states, cells
        Number of states and of cells in each.
    edges
        Edges alive in a state.
    shared
        Share of them that is alive in every state, in [0, 1]; the others are alive in one state each.
    effect
        Of a regulator on its target.
    separation
        Standard deviation of a marker's level between states: what labels are estimated from.
    shift
        Standard deviation of a scored gene's level between states.
    dropout
        Probability that a value is replaced by the lowest value of its gene.
    markers
        Number of marker genes.
    """

    states: int = 6
    cells: int = 100
    edges: int = 4
    shared: float = 0.5
    effect: float = 0.5
    separation: float = 1.0
    shift: float = 0.0
    dropout: float = 0.0
    markers: int = 20

    @property
    def n_shared(self) -> int:
        """Edges alive in every state."""
        return round(self.shared * self.edges)

    @property
    def n_true(self) -> int:
        """Edges alive in some state; the pairs that a score should find."""
        return self.n_shared + self.states * (self.edges - self.n_shared)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worlds:
    """Simulated cells of many worlds.

    Parameters
    ----------
    values
        Float64, shape ``(world, cell, gene)``: regulators, targets, markers.
    state
        True state of each cell, int64, shape ``(cell,)``; the same in all worlds.
    truth
        Bool, shape ``(world, pair)``, pairs regulator-major.
    """

    values: np.ndarray
    state: np.ndarray
    truth: np.ndarray


def simulate(dials: Dials, n_worlds: int, rng: np.random.Generator) -> Worlds:
    """Draw `n_worlds` independent worlds."""
    k, scored = dials.states, N_REGULATORS + N_TARGETS
    state = np.repeat(np.arange(k), dials.cells)
    order = rng.permuted(np.tile(np.arange(N_PAIRS), (n_worlds, 1)), axis=1)[:, : dials.n_true]
    truth = np.zeros((n_worlds, N_PAIRS), dtype=bool)
    np.put_along_axis(truth, order, values=True, axis=1)
    own = dials.edges - dials.n_shared
    alive = np.zeros((n_worlds, k, N_PAIRS))
    world = np.arange(n_worlds)[:, None]
    for s in range(k):
        first = dials.n_shared + s * own
        alive[world, s, np.concatenate([order[:, : dials.n_shared], order[:, first : first + own]], axis=1)] = 1.0
    values = rng.standard_normal((n_worlds, len(state), scored + dials.markers))
    weight = dials.effect * alive.reshape(n_worlds, k, N_REGULATORS, N_TARGETS)
    cut = values.reshape(n_worlds, k, dials.cells, -1)  # cells of a state are consecutive
    cut[..., N_REGULATORS:scored] += cut[..., :N_REGULATORS] @ weight
    cut[..., :scored] += dials.shift * rng.standard_normal((n_worlds, k, 1, scored))
    cut[..., scored:] += dials.separation * rng.standard_normal((n_worlds, k, 1, dials.markers))
    if dials.dropout:
        lowest = values.min(axis=1, keepdims=True)
        values = np.where(rng.random(values.shape) < dials.dropout, lowest, values)
    return Worlds(values=values, state=state, truth=truth)


def noisy(state: np.ndarray, share: float, n_worlds: int, rng: np.random.Generator) -> np.ndarray:
    """True labels, a share of which is shuffled among its cells; int64, shape ``(world, cell)``."""
    label = np.tile(state, (n_worlds, 1))
    wrong = rng.random(label.shape).argsort(axis=1)[:, : round(share * len(state))]
    picked = np.take_along_axis(label, wrong, axis=1)
    np.put_along_axis(label, wrong, rng.permuted(picked, axis=1), axis=1)
    return label


def k_means(values: np.ndarray, k: int, rng: np.random.Generator, *, starts: int = 3, steps: int = 30) -> np.ndarray:
    """Lloyd's k-means in all worlds at once, the best of some k-means++ starts; int64, shape ``(world, cell)``.

    As ``sklearn.cluster.KMeans`` does it, but for the greedy choice among candidate seeds.

    Parameters
    ----------
    values
        Shape ``(world, cell, gene)``.
    """
    n_worlds, n_cells, _ = values.shape
    values = values.astype(np.float32)  # distances to three digits decide nothing here, and cost half
    square = np.einsum("wcg,wcg->wc", values, values)
    world = np.arange(n_worlds)
    best, lowest = np.zeros((n_worlds, n_cells), dtype=np.int64), np.full(n_worlds, np.inf)
    for _ in range(starts):
        centre = np.empty((n_worlds, k, values.shape[2]), dtype=np.float32)
        centre[:, 0] = values[world, rng.integers(n_cells, size=n_worlds)]
        near = np.full((n_worlds, n_cells), np.inf, dtype=np.float32)
        for j in range(1, k):
            last = centre[:, j - 1]
            away = square - 2 * np.einsum("wcg,wg->wc", values, last) + (last**2).sum(axis=1)[:, None]
            near = np.minimum(near, np.maximum(away, 0.0))
            reach = near.cumsum(axis=1)
            chosen = (reach < rng.random((n_worlds, 1)) * reach[:, -1:]).sum(axis=1)
            centre[:, j] = values[world, np.minimum(chosen, n_cells - 1)]
        label = np.full((n_worlds, n_cells), -1)
        for _ in range(steps):
            distance = (centre**2).sum(axis=2)[:, None, :] - 2 * values @ centre.transpose(0, 2, 1)
            now = distance.argmin(axis=2)
            if (now == label).all():
                break
            label = now
            member = (label[:, None, :] == np.arange(k)[None, :, None]).astype(np.float32)
            size = member.sum(axis=2)[..., None]
            centre = np.where(size > 0, (member @ values) / np.maximum(size, 1), centre)
        cost = square.sum(axis=1) + np.take_along_axis(distance, label[..., None], axis=2).sum(axis=(1, 2))
        better = cost < lowest
        best[better], lowest[better] = label[better], cost[better]
    return best


def gene_ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks of regulators and targets over the cells of a world, shape ``(world, cell, gene)``."""
    return rankdata(values[..., : N_REGULATORS + N_TARGETS], axis=1)


def stratum_scores(ranks: np.ndarray, label: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """|Spearman| of every pair within every stratum; with one stratum, the pooled score.

    Parameters
    ----------
    ranks
        From `gene_ranks`.
    label
        In 0 … k − 1, shape ``(world, cell)``.

    Returns
    -------
    Scores of shape ``(world, stratum, pair)`` and cells ``(world, stratum)``; 0 and 0 for a stratum of fewer than
    `MIN_STRATUM` cells. A gene that does not vary in a stratum has a score of 0 there.
    """
    member = label[:, None, :] == np.arange(k)[None, :, None]  # world, stratum, cell
    size = member.sum(axis=2)
    # rank of (stratum, value), minus the middle rank of the stratum
    rank = ranks if k == 1 else rankdata(label[..., None] * (label.shape[1] + 1.0) + ranks, axis=1)
    below = np.concatenate([np.zeros((len(size), 1)), size.cumsum(axis=1)[:, :-1]], axis=1)
    middle = below + (size + 1) / 2
    rank = rank - np.take_along_axis(middle, label, axis=1)[..., None]
    source, target = rank[..., :N_REGULATORS], rank[..., N_REGULATORS:]
    out = np.zeros((len(label), k, N_PAIRS))
    for s in range(k):
        here = member[:, s, :, None]
        a, b = source * here, target * here
        norm = np.sqrt((a**2).sum(axis=1)[:, :, None] * (b**2).sum(axis=1)[:, None, :])
        dot = a.transpose(0, 2, 1) @ b
        out[:, s] = np.abs(np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0)).reshape(len(label), -1)
    size = np.where(size >= MIN_STRATUM, size, 0)
    return np.where((size > 0)[..., None], out, 0.0), size


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Adjusted Rand index of two labellings (Hubert & Arabie 1985); equal to ``sklearn.metrics.adjusted_rand_score``.

    >>> adjusted_rand(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    1.0
    """
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1.0)
    both = comb(table, 2).sum()
    rows, columns = comb(table.sum(axis=1), 2).sum(), comb(table.sum(axis=0), 2).sum()
    expected = rows * columns / comb(len(a), 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((both - expected) / (most - expected))
