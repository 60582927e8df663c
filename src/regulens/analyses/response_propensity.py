"""How often does a gene respond to *other* perturbations? The strongest score that knows the responding gene alone."""

from __future__ import annotations

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.types.edges import EdgeScores

NAME = "response_propensity"


def leave_one_out_share(positive: np.ndarray, tested: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Share of the other perturbations in which a gene responds.

    Parameters
    ----------
    positive, tested
        Bool, shape ``(perturbation of the screen, gene)``.
    own
        Row of each perturbation that is evaluated, shape ``(evaluated,)``.

    Returns
    -------
    Float64, shape ``(evaluated, gene)``; NaN where no other perturbation tested the gene.

    Examples
    --------
    >>> y = np.array([[1, 0], [1, 0], [0, 1]]) > 0
    >>> leave_one_out_share(y, np.ones((3, 2), dtype=bool), np.array([0, 2])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    positive = positive & tested
    hits = positive.sum(axis=0)[None, :] - positive[own]
    looks = tested.sum(axis=0)[None, :] - tested[own]
    return np.divide(hits, looks, out=np.full(hits.shape, np.nan), where=looks > 0)


def response_propensity(inp: AnalysisInput) -> EdgeScores:
    """The leave-one-perturbation-out propensity on the universe's grid, from all perturbations with enough cells.

    A perturbation's own labels take no part in its own scores. Perturbations that are not evaluated for themselves
    (too few responders, say) count: they tell which genes do *not* respond.
    """
    screen, universe = inp.screen, inp.universe
    assert screen is not None
    labels = screen.labels
    n_cells = labels.effects.n_cells
    enough = (n_cells < 0) | (n_cells >= labels.rule.min_cells)
    column = {g: j for j, g in enumerate(labels.effects.genes)}
    j = np.array([column.get(g, -1) for g in universe.genes])
    tested = np.where(j >= 0, labels.tested[:, j], False) & enough[:, None]
    row = {p: i for i, p in enumerate(labels.effects.perturbations)}
    own = np.array([row[p] for p in universe.regulators], dtype=np.int64)
    share = leave_one_out_share(np.where(j >= 0, labels.positive[:, j], False), tested, own)
    # observed is one grid for all genes; where nothing else was tested the gene has no propensity
    return EdgeScores(
        values=np.nan_to_num(share)[None], observed=np.isfinite(share), names=(NAME,), genes=universe.genes,
        regulators=universe.regulators, scorer="baselines",
    )  # fmt: skip
