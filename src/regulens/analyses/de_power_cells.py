"""What do the cells of a screen say about the power to see a gene respond? Moments, thinning and control splits.

Everything is on the universe's genes. Counts of cells in a file are read block by block; the control cells that are
split are held, at most `MAX_CONTROLS` of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.special import stdtr

from regulens.analyses.base import AnalysisInput
from regulens.stats.differential import GroupMoments, group_moments
from regulens.types.cells import Cells

#: Control cells that are split into placebo groups, at most.
MAX_CONTROLS = 4000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearMoments:
    """Mean and variance of CP10k per perturbation (rows, then the controls last), on the universe's genes.

    Parameters
    ----------
    unit
        Mean of 1e4 / library size over control cells: CP10k of one count.
    measured
        Bool, shape ``(gene,)``.
    """

    moments: GroupMoments
    unit: float
    measured: np.ndarray

    def log_fold_change(self) -> tuple[np.ndarray, np.ndarray]:
        """Log ratio of mean CP10k to the controls' and its standard error, shape ``(perturbation, gene)``.

        Half a count is added to both sums; variances are at least Poisson's. NaN where not measured.
        """
        m = self.moments
        n = m.n.astype(np.float64)[:, None]
        mean = m.mean + 0.5 * self.unit / n[:-1].min() if len(n) > 1 else m.mean
        variance = np.fmax(m.variance, mean * self.unit) / (n * mean**2)
        effect = np.log(mean[:-1] / mean[-1])
        se = np.sqrt(variance[:-1] + variance[-1])
        return np.where(self.measured, effect, np.nan), np.where(self.measured, se, np.nan)


def _columns(inp: AnalysisInput, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Column of every gene of the universe in the cells (0 where there is none), and whether there is one."""
    index = np.asarray(cells.genes.index(inp.universe.genes))
    return np.maximum(index, 0), index >= 0


def _blocks(
    cells: Cells, columns: np.ndarray, keep: np.ndarray | None, rng: np.random.Generator | None
) -> Iterator[tuple[int, sp.csr_matrix]]:
    """CP10k of some genes, counts thinned to the share `keep` of each first."""
    in_order = len(columns) == cells.n_genes and bool((columns == np.arange(len(columns))).all())
    for start, block in cells.blocks():
        part = sp.csr_matrix(block if in_order else block[:, columns], dtype=np.float64, copy=True)
        if keep is not None and rng is not None:
            # element by element in the order of the cells: the draws do not depend on the blocks
            part.data = rng.binomial(np.rint(part.data).astype(np.int64), keep[part.indices]).astype(np.float64)
        total = cells.total_counts[start : start + part.shape[0]]
        scale = np.divide(1e4, total, out=np.zeros(part.shape[0]), where=total > 0)
        part.data *= np.repeat(scale, np.diff(part.indptr))
        yield start, part


def linear_moments(
    inp: AnalysisInput, *, keep: np.ndarray | None = None, rng: np.random.Generator | None = None
) -> LinearMoments:
    """Moments of CP10k of every perturbation of the universe and of the controls.

    Parameters
    ----------
    keep
        Share of each gene's counts that is kept, in [0, 1], shape ``(gene,)``; all by default.
    rng
        Stream of the thinning.
    """
    screen = inp.screen
    assert screen is not None and screen.cells is not None
    cells, obs = screen.cells.cells, screen.cells.obs
    columns, measured = _columns(inp, cells)
    number = {p: k for k, p in enumerate(inp.universe.regulators)}
    control = obs["control"].to_numpy(dtype=bool)
    group = np.array([number.get(p, -1) for p in obs["perturbation"]], dtype=np.int64)
    group[control] = len(number)
    found = group_moments(
        lambda: _blocks(cells, columns, keep, rng), group, n_groups=len(number) + 1, n_genes=len(columns)
    )
    total = cells.total_counts[control]
    unit = float(np.mean(1e4 / total[total > 0])) if (total > 0).any() else 1.0
    return LinearMoments(moments=found, unit=unit, measured=measured)


def thinning(moments: LinearMoments, *, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Genes that can be brought to one coefficient of variation in the controls, and the share of counts to keep.

    The variance of CP10k is a Poisson part, ``mean * unit``, and the rest. Thinning to the share s scales the squared
    coefficient of variation's Poisson part by 1 / s and leaves the rest, so ``s = P / (c - B)`` gives the value c, the
    `quantile` of all genes' values; genes above it cannot get there.

    Returns
    -------
    Bool and float64, shape ``(gene,)``.
    """
    mean, variance = moments.moments.mean[-1], moments.moments.variance[-1]
    seen = moments.measured & (mean > 0) & np.isfinite(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        poisson = np.where(seen, moments.unit / mean, np.nan)
        rest = np.where(seen, np.maximum(variance / mean**2 - poisson, 0.0), np.nan)
        if not seen.any():
            return seen, np.zeros(len(seen))
        bar = float(np.nanquantile(poisson + rest, quantile))
        share = poisson / (bar - rest)
    keep = seen & (poisson + rest <= bar) & (share > 0) & (share <= 1 + 1e-9)
    return keep, np.where(keep, np.minimum(share, 1.0), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlCells:
    """Counts of control cells on the universe's genes.

    Parameters
    ----------
    counts
        CSC, float64, shape ``(cell, gene)``.
    scale
        1e4 / library size, shape ``(cell,)``.
    """

    counts: sp.csc_matrix
    scale: np.ndarray

    def thinned(self, keep: float, rng: np.random.Generator) -> ControlCells:
        """Every count kept with probability `keep`; library sizes stay, as if other genes had taken the room."""
        counts = self.counts.copy()
        counts.data = rng.binomial(np.rint(counts.data).astype(np.int64), keep).astype(np.float64)
        return ControlCells(counts=counts, scale=self.scale)

    def log_normalised(self) -> sp.csr_matrix:
        """log1p(CP10k), CSR."""
        out = sp.csr_matrix(sp.diags(self.scale) @ self.counts)
        np.log1p(out.data, out=out.data)
        return out


def control_cells(inp: AnalysisInput, rng: np.random.Generator) -> ControlCells:
    """Control cells of the screen, at most `MAX_CONTROLS` drawn at random."""
    screen = inp.screen
    assert screen is not None and screen.cells is not None
    cells = screen.cells.cells
    rows = np.flatnonzero(screen.cells.obs["control"].to_numpy(dtype=bool) & (cells.total_counts > 0))
    if len(rows) > MAX_CONTROLS:
        rows = np.sort(rng.choice(rows, MAX_CONTROLS, replace=False))
    columns, measured = _columns(inp, cells)
    parts = []
    for start, block in cells.blocks():
        here = rows[(rows >= start) & (rows < start + block.shape[0])] - start
        parts.append(sp.csr_matrix(block[here][:, columns], dtype=np.float64) @ sp.diags(measured.astype(np.float64)))
    return ControlCells(counts=sp.csc_matrix(sp.vstack(parts)), scale=1e4 / cells.total_counts[rows])


def welch_between(
    pool: ControlCells, splits: sp.csr_matrix, *, planted: np.ndarray | None = None, keep: float = 1.0,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Welch's test of log1p(CP10k) of every set of control cells against all the other control cells.

    Parameters
    ----------
    splits
        Ones at the cells of each set, shape ``(set, cell)``.
    planted
        Int8, shape ``(set, gene)``: +1 where the gene is made higher in the set, −1 where lower, by keeping the share
        `keep` of the counts of the others, or of the set. Counts are thinned once, for all sets.

    Returns
    -------
    Effect and two-sided p, shape ``(set, gene)``; p is NaN where nothing varies.
    """
    values = pool.log_normalised()
    squares = values.multiply(values).tocsr()
    n = np.asarray(splits.sum(axis=1)).ravel()[:, None]
    rest = values.shape[0] - n
    total, total2 = (np.asarray(x.sum(axis=0)).ravel() for x in (values, squares))
    own, own2 = (np.asarray((splits @ x).todense()) for x in (values, squares))
    others, others2 = total - own, total2 - own2
    if planted is not None:
        assert rng is not None
        fewer = pool.thinned(keep, rng).log_normalised()
        squares = fewer.multiply(fewer).tocsr()
        for x, mine, rest_of in ((fewer, own, others), (squares, own2, others2)):
            part = np.asarray((splits @ x).todense())
            mine[planted < 0] = part[planted < 0]
            rest_of[planted > 0] = (np.asarray(x.sum(axis=0)).ravel() - part)[planted > 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, mean0 = own / n, others / rest
        v = np.maximum(own2 - n * mean**2, 0.0) / (n - 1) / n
        v0 = np.maximum(others2 - rest * mean0**2, 0.0) / (rest - 1) / rest
        v[v < 1e-12 * mean**2] = 0.0
        v0[v0 < 1e-12 * mean0**2] = 0.0
        effect, both = mean - mean0, v + v0
        df = both**2 / (v**2 / (n - 1) + v0**2 / (rest - 1))
        p = np.where(both > 0, 2 * stdtr(df, -np.abs(effect) / np.sqrt(both)), np.nan)
    return effect, p
