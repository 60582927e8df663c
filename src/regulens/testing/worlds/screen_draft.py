"""What do all worlds of screens share? Genes with levels, perturbed genes, replicates, and counts of every cell.

Counts are gamma-Poisson around gene levels that spread over orders of magnitude, of cells with library sizes, with
shared factors in two thirds of the genes. A gene of a low level changes as much as any other and is seen to change
less often: the power of differential expression acts by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from regulens.rng import stream
from regulens.testing.worlds.draft import Draft

N_REPLICATES, N_FACTORS = 2, 4
#: Log of a gene's transcripts per 10,000: mean and standard deviation over genes. Half of them have fewer than 1.4.
LEVEL = (0.3, 1.2)
#: Every gene is well expressed and much alike, so that who responds is also seen to, whatever the gene.
EQUAL_POWER = (1.5, 0.1)
#: Median library size and standard deviation of its log; most transcripts are of genes outside the panel.
LIBRARY = (8000.0, 0.3)
#: Shape of the gamma part: variance of counts is mean + mean^2 / shape.
SHAPE = 4.0
#: Log fold change of a perturbed gene itself.
ON_TARGET = -2.0
N_LAYERS, N_HEADS = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScreenCause:
    """What a world of a screen is made of.

    Parameters
    ----------
    change
        Log fold change of every gene under every perturbation, shape ``(perturbation, gene)``.
    forward
        Log attention of a co-present pair when the perturbed gene is the query; broadcastable to the same shape.
    """

    change: np.ndarray
    forward: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScreenDraft:
    """Genes, perturbed genes and control cells of a world to be.

    Parameters
    ----------
    base
        Genes, their log levels per 10,000 transcripts, perturbed genes (``own``), control cells; its ``donor`` is the
        replicate.
    replicate_shift
        Added to log levels, shape ``(replicate, gene)``.
    loading
        Of the shared factors, shape ``(factor, gene)``.
    controls, control_totals
        Counts ``(cell, gene)`` and library sizes ``(cell,)`` of control cells.
    """

    base: Draft
    replicate_shift: np.ndarray
    loading: np.ndarray
    controls: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    control_totals: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def draw(
        cls, kind: str, *, seed: int, n_perturbations: int, n_genes: int, n_controls: int, effect: float,
        replicate_spread: float, level: tuple[float, float],
    ) -> ScreenDraft:  # fmt: skip
        """Draw genes and control cells.

        Parameters
        ----------
        level
            Mean and standard deviation of genes' log levels.
        replicate_spread
            Standard deviation of what a replicate adds to log levels.
        """
        rng = stream(seed, f"worlds/screen {kind}/genes")
        levels = level[0] + level[1] * rng.normal(size=n_genes)
        seen = np.argsort(levels)[n_genes // 3 :]  # a gene that is hardly expressed cannot be shown to be knocked down
        own = np.sort(rng.choice(seen, n_perturbations, replace=False))
        candidate = np.ones((n_perturbations, n_genes), dtype=bool)
        candidate[np.arange(n_perturbations), own] = False
        base = Draft(
            kind=f"screen {kind}", seed=seed, genes=tuple(f"G{k:04d}" for k in range(n_genes)), own=own,
            prominence=rng.normal(size=n_genes), level=levels, state=np.zeros(n_controls, dtype=np.int64),
            donor=np.arange(n_controls) % N_REPLICATES, candidate=candidate, n_layers=N_LAYERS, n_heads=N_HEADS,
            n_edges=0, effect=effect,
        )  # fmt: skip
        loading = 0.35 * rng.normal(size=(N_FACTORS, n_genes)) * rng.choice([0.0, 1.0], (1, n_genes), p=[1 / 3, 2 / 3])
        shift = replicate_spread * rng.normal(size=(N_REPLICATES, n_genes))
        bare = cls(base=base, replicate_shift=shift, loading=loading)
        counts, totals = bare.cells(np.zeros((n_controls, n_genes)), base.donor, use="controls")
        counts[0, counts.sum(axis=0) == 0] = 1.0  # a gene that no cell has is no gene of the input
        return cls(base=base, replicate_shift=shift, loading=loading, controls=counts, control_totals=totals)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of perturbations and genes."""
        return self.base.n_regulators, self.base.n_genes

    def rng(self, use: str) -> np.random.Generator:
        """Generator for a named use."""
        return self.base.rng(use)

    def cells(self, shift: np.ndarray, replicate: np.ndarray, *, use: str) -> tuple[np.ndarray, np.ndarray]:
        """Counts, float32 ``(cell, gene)``, and library sizes of cells.

        Parameters
        ----------
        shift
            Added to log levels, shape ``(cell, gene)``.
        """
        rng = self.rng(use)
        log_mean = self.base.level + rng.normal(size=(len(shift), N_FACTORS)) @ self.loading
        log_mean += self.replicate_shift[replicate] + shift - 0.5 * (self.loading**2).sum(axis=0)
        library = LIBRARY[0] * np.exp(LIBRARY[1] * rng.normal(size=len(shift)))
        mean = np.exp(log_mean) * (library / 1e4)[:, None]
        counts = rng.poisson(mean * rng.gamma(SHAPE, 1 / SHAPE, mean.shape)).astype(np.float32)
        total = counts.sum(axis=1, dtype=np.float64)
        rest = np.maximum(library - total, 0.2 * library)  # transcripts of genes outside the panel
        return counts, total + rng.poisson(rest)

    def responders(self, odds: np.ndarray, share: float, *, use: str) -> np.ndarray:
        """Bool ``(perturbation, gene)``: each perturbation's `share` of genes, drawn with odds ``exp(odds)``.

        Numbers of responders differ between perturbations, as in every screen.
        """
        rng = self.rng(use)
        keys = np.where(self.base.candidate, odds + rng.gumbel(size=self.shape), -np.inf)
        rank = (-keys).argsort(axis=1).argsort(axis=1)
        number = np.clip(share * np.exp(0.4 * rng.normal(size=self.shape[0])), 0.02, 0.5) * self.shape[1]
        return rank < np.rint(number)[:, None]

    def changes(self, responds: np.ndarray, *, use: str) -> np.ndarray:
        """Log fold changes of one size, up or down, where a gene responds; the perturbed gene itself goes down."""
        rng = self.rng(f"{use}/sizes")
        size = np.abs(1.3 + 0.2 * rng.normal(size=self.shape)) * rng.choice([-1.0, 1.0], self.shape)
        return np.where(responds, size, 0.0)
