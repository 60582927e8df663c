"""What does the whole grid of designs say? The specification curve of a contrast, and one test for all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.analyses.design_grid import Cell, laid_out
from regulens.analyses.inference import Effect
from regulens.analyses.per_perturbation import UNIT
from regulens.stats.specification_curve import CurveTest, flipped_curve, two_way_loading


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridCurve:
    """What the whole grid says about one contrast.

    Parameters
    ----------
    leads, low, high
        Attention minus its rival in every defined design, with its interval.
    mean, interval
        Mean lead over the designs, with the error of perturbations and genes.
    test
        Signs of perturbations and of target genes flipped; None where there is no error.
    genes_fixed
        p with the signs of perturbations alone: descriptive, since the same genes are ranked for every perturbation.
    common
        Leads over the perturbations that every design keeps.
    """

    leads: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: Effect
    interval: tuple[float, float]
    test: CurveTest | None
    genes_fixed: float | None
    common: np.ndarray
    n_common: int
    stream: str

    @property
    def share(self) -> float:
        """Share of the defined designs in which attention leads."""
        return float((self.leads > 0).mean())

    def row(self, contrast: str) -> tuple[object, ...]:
        """Row of the summary."""
        common = self.common[np.isfinite(self.common)]
        test = self.test
        return (
            contrast, len(self.leads), self.share, self.mean.value, *self.interval, self.leads.min(), self.leads.max(),
            float((self.low > 0).mean()), float((self.high < 0).mean()), test.p if test else np.nan,
            test.p_share if test else np.nan, np.nan if self.genes_fixed is None else self.genes_fixed, self.n_common,
            float((common > 0).mean()) if len(common) else np.nan, float(common.mean()) if len(common) else np.nan,
        )  # fmt: skip


def grid_curve(inp: AnalysisInput, cells: list[Cell], contrast: str, common: frozenset[str]) -> GridCurve:
    """The curve of one contrast; `common` are the perturbations that every design keeps."""
    settings = inp.request.settings
    level = 1 - settings.alpha
    effects = [c.leads[contrast] for c in cells]
    leads = np.array([e.value for e in effects])
    ends = np.array([e.bounds(level) for e in effects])
    parts = laid_out(cells, contrast)
    loading = two_way_loading(parts)
    stream = f"permutation/design_sensitivity/{contrast}"
    whole = Effect(
        value=float(leads.mean()), se=float(np.sqrt(np.square(loading.mean(axis=0)).sum())),
        df=float(min(e.df for e in effects)), method=f"mean of {len(cells)} designs, {effects[0].method}",
        n_units=effects[0].n_units, unit=UNIT, undefined=next((e.undefined for e in effects if e.undefined), ""),
    )  # fmt: skip
    fixed = flipped_curve(leads, _by_perturbation(cells, contrast), draws=settings.permutations, rng=inp.rng(stream))
    return GridCurve(
        leads=leads, low=ends[:, 0], high=ends[:, 1], mean=whole,
        interval=(float("nan"),) * 2 if whole.undefined else whole.bounds(level),
        test=None if whole.undefined
        else flipped_curve(leads, loading, draws=settings.permutations, rng=inp.rng(f"{stream}/two-way")),
        genes_fixed=fixed.p if fixed else None,
        common=np.array([c.lead_in(contrast, common) for c in cells]), n_common=len(common),
        stream=f"{stream}/two-way",
    )  # fmt: skip


def _by_perturbation(cells: list[Cell], contrast: str) -> np.ndarray:
    """What each perturbation adds to each design's mean lead: signs of perturbations alone, genes held fixed."""
    index = {p: i for i, p in enumerate(sorted({p for c in cells for p in c.perturbations}))}
    out = np.zeros((len(cells), len(index)))
    for row, cell in zip(out, cells):
        row[[index[p] for p in cell.perturbations]] = cell.gaps[contrast] / cell.n
    return out
