"""What do all worlds share before a cause acts? Genes, regulators, cells of states and donors, and their counts.

Counts are Poisson around gene levels. Cells differ by shared factors, by their state and by their donor, so that there
is co-expression within and between groups of cells. Which of these a reference or attention follows is up to the cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from regulens.rng import stream

N_STATES, N_DONORS = 3, 2
#: Share of the cells in each state; unequal, as in tissue.
STATE_SHARES = (0.45, 0.3, 0.25)


def z_scored(x: np.ndarray) -> np.ndarray:
    """`x` with mean 0 and standard deviation 1.

    >>> z_scored(np.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    return (x - x.mean()) / x.std()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draft:
    """Genes and cells of a world to be.

    Parameters
    ----------
    own
        Positions of the regulators among the genes, ascending, shape ``(regulator,)``.
    prominence
        How prominent a gene is, standard normal, shape ``(gene,)``.
    level
        Log mean count; follows prominence in part.
    state, donor
        Of every cell, counting from zero; crossed.
    candidate
        Every pair but self-pairs, bool, shape ``(regulator, gene)``.
    n_layers, n_heads, n_edges, effect
        As asked for.
    """

    kind: str
    seed: int
    genes: tuple[str, ...]
    own: np.ndarray
    prominence: np.ndarray
    level: np.ndarray
    state: np.ndarray
    donor: np.ndarray
    candidate: np.ndarray
    n_layers: int
    n_heads: int
    n_edges: int
    effect: float

    @classmethod
    def draw(
        cls, kind: str, *, seed: int, n_regulators: int, n_genes: int, n_cells: int, n_layers: int, n_heads: int,
        n_edges: int, effect: float,
    ) -> Draft:  # fmt: skip
        """Draw genes and divide the cells."""
        rng = stream(seed, f"worlds/{kind}/genes")
        own = np.sort(rng.choice(n_genes, n_regulators, replace=False))
        prominence = rng.normal(size=n_genes)
        level = -0.4 + 0.6 * prominence + 0.9 * rng.normal(size=n_genes)
        candidate = np.ones((n_regulators, n_genes), dtype=bool)
        candidate[np.arange(n_regulators), own] = False
        state = np.searchsorted(np.cumsum(STATE_SHARES)[:-1], (np.arange(n_cells) + 0.5) / n_cells)
        donor = np.arange(n_cells) % N_DONORS
        order = rng.permutation(n_cells)
        return cls(
            kind=kind, seed=seed, genes=tuple(f"G{k:04d}" for k in range(n_genes)), own=own, prominence=prominence,
            level=level, state=state[order], donor=donor[order], candidate=candidate, n_layers=n_layers,
            n_heads=n_heads, n_edges=n_edges, effect=effect,
        )  # fmt: skip

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.state)

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def n_regulators(self) -> int:
        """Number of regulators."""
        return len(self.own)

    def rng(self, use: str) -> np.random.Generator:
        """Generator for a named use."""
        return stream(self.seed, f"worlds/{self.kind}/{use}")

    def pairs(self, of_gene: np.ndarray) -> np.ndarray:
        """Sum of a gene quantity over both genes of each pair, shape ``(..., regulator, gene)``."""
        return of_gene[..., self.own, None] + of_gene[..., None, :]

    def express(
        self, *, factors: float = 0.5, by_state: np.ndarray | float = 0.25, by_donor: np.ndarray | float = 0.1,
        shift: np.ndarray | None = None, capture: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Counts, float32, shape ``(cell, gene)``.

        Parameters
        ----------
        factors
            Loadings on four shared factors, in two thirds of the genes, are this times a standard normal.
        by_state, by_donor
            Shifts of log levels, shape ``(state, gene)`` or ``(donor, gene)``; a number is the standard deviation of
            random ones.
        shift
            Added to log levels, shape ``(cell, gene)``.
        capture
            Share of its transcripts' cells in which a gene can be seen at all, shape ``(gene,)``.
        """
        rng = self.rng("expression")
        loading = rng.normal(size=(4, self.n_genes)) * rng.choice([0.0, 1.0], (1, self.n_genes), p=[1 / 3, 2 / 3])
        loading *= factors
        log_mean = self.level + rng.normal(size=(self.n_cells, 4)) @ loading - 0.5 * (loading**2).sum(axis=0)
        state_shift = rng.normal(size=(N_STATES, self.n_genes))
        donor_shift = rng.normal(size=(N_DONORS, self.n_genes))
        log_mean += (by_state * state_shift if np.ndim(by_state) == 0 else np.asarray(by_state))[self.state]
        log_mean += (by_donor * donor_shift if np.ndim(by_donor) == 0 else np.asarray(by_donor))[self.donor]
        if shift is not None:
            log_mean += shift
        counts = rng.poisson(np.exp(log_mean)).astype(np.float32)
        if capture is not None:
            counts *= rng.random(counts.shape) < capture
        counts[0, counts.sum(axis=0) == 0] = 1.0  # a gene that no cell has is no gene of the input
        counts[counts.sum(axis=1) == 0, 0] = 1.0  # nor is a cell without a gene a cell
        return counts

    def coexpression(self, counts: np.ndarray) -> np.ndarray:
        """|Spearman| of counts per total over all cells, shape ``(regulator, gene)``."""
        rank = rankdata(counts / counts.sum(axis=1, keepdims=True), axis=0)
        rank -= rank.mean(axis=0)
        norm = np.maximum(np.sqrt((rank**2).sum(axis=0)), 1e-9)
        return np.abs((rank[:, self.own].T @ rank) / np.outer(norm[self.own], norm))

    def edges(self, odds: np.ndarray, n_edges: int | None = None, *, use: str = "edges") -> np.ndarray:
        """Draw pairs without replacement, odds proportional to ``exp(odds)`` (Gumbel top-k), bool."""
        n_edges = self.n_edges if n_edges is None else n_edges
        keys = np.where(self.candidate, odds + self.rng(use).gumbel(size=self.candidate.shape), -np.inf)
        positive = np.zeros(keys.size, dtype=bool)
        positive[np.argpartition(-keys.ravel(), n_edges)[:n_edges]] = True
        return positive.reshape(keys.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cause:
    """What a world is made of: counts, labels, and log attention before noise.

    Parameters
    ----------
    counts
        Shape ``(cell, gene)``.
    positive
        Labels of the reference, bool, shape ``(regulator, gene)``.
    forward, backward
        Log attention of a co-present pair when the regulator, or the target, is the query; broadcastable to
        ``(state, donor, layer, regulator, gene)``. `backward` knows prominence only where None.
    pair_noise, head_noise, group_noise, cell_noise
        Standard deviations, on the log scale, of noise that is drawn per pair, per pair and head, per pair and group
        of cells (state x donor), and per pair and cell. The last may differ between pairs, shape
        ``(regulator, gene)``: log-normal noise moves the mean, so that wide tails raise a pair's mean over many cells.
    smooth
        Correlation of the noise of neighbouring layers.
    others
        Labels of further references of the study, by name.
    """

    counts: np.ndarray
    positive: np.ndarray
    forward: np.ndarray
    backward: np.ndarray | None = None
    pair_noise: float = 1.0
    head_noise: float = 0.7
    group_noise: float = 0.2
    cell_noise: float | np.ndarray = 0.7
    smooth: float = 0.0
    others: dict[str, np.ndarray] = field(default_factory=dict)
