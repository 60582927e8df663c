"""What would the same strata say if attention within a stratum were gene prominence alone? Margins, stratum by stratum.

A variant of spread over states is large for genes that only some states have, whatever pairs do, and shuffled labels
take the states away together with their genes. The margins keep both: every stratum is replaced by its own row means
times column means, and joined by the same variant.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regulens.analyses.blocks import BlockScores
from regulens.analyses.cssi_folds import usable
from regulens.scorers.stratified import Strata

#: Margins are kept to so many binary digits, so that means of equal numbers stay ties whatever their order of summing.
_DIGITS = 40


def _margins(
    values: np.ndarray, there: np.ndarray, regulator: np.ndarray, target: np.ndarray, *, additive: bool
) -> np.ndarray:
    """Margins of every row of `values` over its pairs that are `there`, on the scale of `values`; same shape."""
    out = np.zeros(values.shape)
    for s, (value, own) in enumerate(zip(values, there)):
        if not own.any():
            continue
        of_gene = []
        for gene in (regulator, target):
            total = np.bincount(gene[own], weights=value[own], minlength=int(gene.max()) + 1)
            n = np.bincount(gene[own], minlength=len(total))
            of_gene.append((total / np.maximum(n, 1))[gene])
        row, column = of_gene
        mean = float(value[own].mean())
        if additive:
            out[s] = row + column - mean
        elif mean > 0:
            out[s] = row * column / mean
        size = float(np.abs(out[s]).max())
        if size > 0:
            step = 2.0 ** (np.ceil(np.log2(size)) - _DIGITS)
            out[s] = np.round(out[s] / step) * step
    return out


def stratified_margins(
    scores: BlockScores, made: Strata, label: np.ndarray, k: int, regulator: np.ndarray, target: np.ndarray, *,
    additive: bool,
) -> Strata | str:  # fmt: skip
    r"""The strata with every map replaced by its margins, or why there are none.

    .. math:: m_{kij} = \bar w_{ki\cdot}\, \bar w_{k\cdot j} / \bar w_{k\cdot\cdot}, \qquad
              m_{kij} = \bar w_{ki\cdot} + \bar w_{k\cdot j} - \bar w_{k\cdot\cdot} \text{ where additive}

    over the pairs that met in stratum k. The division, which changes no order within one map, keeps strata
    comparable with each other and with the pooled score: variants take maxima and differences over them. A pair that
    met in too few cells of a stratum takes its pooled margins there, as it takes its pooled score in `made`, and one
    that never met keeps what it has. Standard errors, where there are any, are replaced by their own margins.

    Parameters
    ----------
    scores
        The score of some pairs by block of cells.
    made
        Its strata.
    label
        Stratum of each block, shape ``(block,)``.
    regulator, target
        Integers >= 0, shape ``(pair,)``.

    Returns
    -------
    Strata of the same shape; a sentence where all pairs have one regulator or one target, whose means are the pairs.
    """
    for gene, name in ((regulator, "regulator"), (target, "target")):
        if len(np.unique(gene)) < 2:
            return f"the held-out pairs of a turn have one {name}, so that margins are the pairs themselves"
    member = (usable(label, scores.cells, k)[None] == np.arange(k)[:, None]).astype(np.float64)
    own = member @ scores.counts >= max(scores.min_cells, 1)
    ever = (scores.counts.sum(axis=0) > 0)[None]
    pooled = np.where(ever[0], _margins(made.pooled[None], ever, regulator, target, additive=additive)[0], made.pooled)
    within = _margins(made.scores, own, regulator, target, additive=additive)
    se = made.se
    if se is not None:
        met, not_met = (_margins(se, there, regulator, target, additive=False) for there in (own, ~own))
        se = np.where(own, met, not_met)
    return replace(made, scores=np.where(own, within, pooled), pooled=pooled, se=se)
