"""How strong is an edge in the attention of a head, of a layer, of the whole model?

The score of a pair is the mean attention over the cells in which both genes were tokens (sum / count of the
store). A pair that met in too few cells is unobserved, which is not the same as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.types.attention import AttentionSummary, Direction
from regulens.types.edges import EdgeScores


def attention_scores(
    summary: AttentionSummary,
    *,
    direction: Direction | str = Direction.REGULATOR_ATTENDS,
    min_cells: int = 5,
    partitions: Sequence[int] | None = None,
) -> EdgeScores:
    r"""Mean attention of every head, every layer and the whole model.

    .. math:: w_{h}(i, j) = \frac{\sum_{c \ni i, j} A^{(c)}_{h}[q, k]}{n_{ij}}

    with `n_ij` the cells in which both genes were tokens and (q, k) = (i, j) or (j, i) by `direction`. The score of
    a layer is the plain mean over its heads, ``pooled`` the plain mean over all heads of all layers.

    Parameters
    ----------
    summary
        Sums ``(partition, layer, head, direction, regulator, target)`` and counts.
    direction
        Which of the two genes is the query.
    min_cells
        A pair that met in fewer cells is unobserved; at least 1.
    partitions
        Positions of the partitions to merge; all of them by default.

    Returns
    -------
    Names ``L00_H00, L00_H01, ...`` (layer-major), then ``L00_mean, ...``, then ``pooled``; zero-based. In [0, 1] for
    sums of kind ``probability``; of any sign for logits. Self-pairs are unobserved.

    Raises
    ------
    ParameterError
        When `min_cells` < 1 or `direction` is unknown.
    """
    if min_cells < 1:
        message = f"Expected min_cells of at least 1, got {min_cells}. A pair that never met has no mean."
        raise ParameterError(message)
    if direction not in list(Direction):
        message = f"Expected a direction among {[str(d) for d in Direction]}, got '{direction}'. Choose one of them."
        raise ParameterError(message)
    direction = Direction(direction)
    n_layers, n_heads = summary.n_layers, summary.n_heads
    counts = summary.pair_counts(partitions)  # (regulator, target)
    position = {g: j for j, g in enumerate(summary.genes)}
    observed = counts >= min_cells
    for i, regulator in enumerate(summary.regulators):
        if regulator in position:
            observed[i, position[regulator]] = False
    n_head_scores = n_layers * n_heads
    values = np.zeros((n_head_scores + n_layers + 1, *counts.shape))
    for layer in range(n_layers):
        heads = values[layer * n_heads : (layer + 1) * n_heads]
        np.divide(summary.layer_sums(layer, direction, partitions), counts, out=heads, where=observed)
        values[n_head_scores + layer] = heads.mean(axis=0)
    values[-1] = values[n_head_scores:-1].mean(axis=0)
    grid = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    return EdgeScores(
        values=values,
        observed=observed,
        names=(*(f"L{l:02d}_H{h:02d}" for l, h in grid), *(f"L{l:02d}_mean" for l in range(n_layers)), "pooled"),
        layers=(*(l for l, _ in grid), *range(n_layers), -1),
        heads=(*(h for _, h in grid), *([-1] * (n_layers + 1))),
        genes=summary.genes,
        regulators=summary.regulators,
        direction=str(direction),
        scorer="attention",
        provenance={
            "model": summary.card.name,
            "store": summary.digest,
            "min_cells": str(min_cells),
            **({} if summary.kind == "probability" else {"kind": summary.kind}),
        },
    )


SPEC = ScorerSpec(
    name="attention",
    version=1,
    function=attention_scores,
    summary="mean attention over the cells in which both genes are tokens, per head, per layer and over all",
    source="",
    needs=("attention",),
    pairwise=True,
)
