"""Which layer is best, without paying for having looked? Choose on some genes, evaluate on others.

Regulators are split into two halves and targets into two halves. A layer is chosen on the pairs of one regulator
half with one target half and evaluated on the opposite block, which shares no regulator and no target with it; the
four blocks take turns, so that every pair is evaluated exactly once by a choice that never saw its genes. Splitting
regulators alone would let a popular target help both to choose a layer and to praise it.
"""

from __future__ import annotations

import numpy as np

from regulens.analyses.chosen_layer import Block, ChosenLayer, chosen_layer
from regulens.stats.inference import default_se
from regulens.stats.jackknife import auroc_deviations
from regulens.stats.ranking import influence
from regulens.types.labelled import LabelledEdges

#: Positives that every block needs.
MIN_BLOCK_POSITIVES = 2


def balanced_halves(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign units to halves 0 and 1 so that their weights add up to about the same.

    Heaviest first, each to the lighter half; order among equals and the first half are random.

    Parameters
    ----------
    weight
        Shape ``(unit,)``, non-negative, e.g. positives per regulator.

    Examples
    --------
    >>> half = balanced_halves(np.array([5, 3, 2]), np.random.default_rng(0))
    >>> bool(half[0] != half[1] == half[2])
    True
    """
    order = rng.permutation(len(weight))
    order = order[np.argsort(-weight[order], kind="stable")]
    half = np.zeros(len(weight), dtype=np.int64)
    flip = int(rng.integers(2))
    load, size = np.zeros(2), np.zeros(2, dtype=np.int64)
    for u in order:
        side = int(load[1] < load[0]) if load[0] != load[1] else int(size[1] < size[0])
        half[u] = side
        load[side] += weight[u]
        size[side] += 1
    return half ^ flip


def nested_choice(
    edges: LabelledEdges, candidates: tuple[str, ...], rng: np.random.Generator, *, draws: int = 2000
) -> ChosenLayer:
    """Choose the candidate of largest AUROC in one block, evaluate it in the opposite one, all four ways.

    Parameters
    ----------
    candidates
        Names of scores of `edges`.
    rng
        Named stream for the halves, and then for the null.
    draws
        Of the null.

    Returns
    -------
    Mean over the blocks, weighted by their positives, of the AUROC, minus 0.5; the error is the delete-one jackknife
    over regulators and targets with choices held, p and interval come from the whole procedure. Without effect when a
    block has fewer than 2 positives or no negatives.
    """
    if not candidates:
        return ChosenLayer(reason="there is no layer to choose from")
    rows = [edges.names.index(c) for c in candidates]
    n_reg, n_tgt = int(edges.regulator.max()) + 1, int(edges.target.max()) + 1
    by_regulator = balanced_halves(np.bincount(edges.regulator[edges.label], minlength=n_reg), rng)
    by_target = balanced_halves(np.bincount(edges.target[edges.label], minlength=n_tgt), rng)
    block = 2 * by_regulator[edges.regulator] + by_target[edges.target]  # opposite block: 3 - block
    members = [np.flatnonzero(block == b) for b in range(4)]
    positives = np.array([int(edges.label[m].sum()) for m in members])
    if positives.min() < MIN_BLOCK_POSITIVES or any(p == len(m) for p, m in zip(positives, members)):
        reason = f"a block of held-apart genes has {positives.min()} positives; at least {MIN_BLOCK_POSITIVES} needed"
        return ChosenLayer(reason=reason)
    blocks = [
        block_of(edges.scores[np.ix_(rows, m)], edges.label[m], edges.regulator[m], edges.target[m]) for m in members
    ]
    return chosen_layer(
        blocks, candidates, positives / positives.sum(), n_units=n_reg, n_targets=n_tgt, infer=default_se, draws=draws,
        rng=rng,
    )  # fmt: skip


def block_of(scores: np.ndarray, label: np.ndarray, regulator: np.ndarray, target: np.ndarray) -> Block:
    """AUROCs of one block of pairs with their deviations; `scores` of shape ``(layer, pair)``."""
    found = auroc_deviations(scores, label, regulator, target)
    psi = influence(scores, label)[1]
    return Block(
        area=found.estimate, by_unit=found.regulator, units=np.unique(regulator), by_target=found.target,
        targets=np.unique(target), edge=psi @ psi.T,
    )  # fmt: skip
