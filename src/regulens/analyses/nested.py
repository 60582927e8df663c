"""Which layer is best, without paying for having looked? Choose on some genes, evaluate on others.

Regulators are split into two halves and targets into two halves. A layer is chosen on the pairs of one regulator
half with one target half and evaluated on the opposite block, which shares no regulator and no target with it; the
four blocks take turns, so that every pair is evaluated exactly once by a choice that never saw its genes. Splitting
regulators alone would let a popular target help both to choose a layer and to praise it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.analyses.inference import Effect, effects_of
from regulens.stats.inference import default_se
from regulens.stats.jackknife import Deviations, auroc_deviations
from regulens.stats.ranking import auroc
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestedChoice:
    """Result of choosing among scores on held-apart genes.

    Parameters
    ----------
    effect
        Positive-weighted mean of the blocks' AUROCs, minus 0.5; None when it could not be done.
    chosen
        Score chosen for each evaluated block.
    block_auroc
        AUROC of each block by the score chosen for it.
    reason
        Why there is no effect.
    """

    effect: Effect | None
    chosen: tuple[str, ...] = ()
    block_auroc: tuple[float, ...] = ()
    reason: str = ""


def nested_choice(edges: LabelledEdges, candidates: tuple[str, ...], rng: np.random.Generator) -> NestedChoice:
    """Choose the candidate of largest AUROC in one block, evaluate it in the opposite one, all four ways.

    Parameters
    ----------
    candidates
        Names of scores of `edges`.
    rng
        Named stream for the halves.

    Returns
    -------
    The choice; without effect when a block has fewer than 2 positives or no negatives. The error is the delete-one
    jackknife over regulators and targets of the weighted mean, choices held fixed.
    """
    if not candidates:
        return NestedChoice(effect=None, reason="there is no layer to choose from")
    rows = [edges.names.index(c) for c in candidates]
    n_reg, n_tgt = int(edges.regulator.max()) + 1, int(edges.target.max()) + 1
    by_regulator = balanced_halves(np.bincount(edges.regulator[edges.label], minlength=n_reg), rng)
    by_target = balanced_halves(np.bincount(edges.target[edges.label], minlength=n_tgt), rng)
    block = 2 * by_regulator[edges.regulator] + by_target[edges.target]  # opposite block: 3 - block
    members = [np.flatnonzero(block == b) for b in range(4)]
    positives = np.array([int(edges.label[m].sum()) for m in members])
    if positives.min() < MIN_BLOCK_POSITIVES or any(p == len(m) for p, m in zip(positives, members)):
        reason = f"a block of held-apart genes has {positives.min()} positives; at least {MIN_BLOCK_POSITIVES} needed"
        return NestedChoice(effect=None, reason=reason)
    weight = positives / positives.sum()
    moved_regulator, moved_target = np.zeros(n_reg), np.zeros(n_tgt)
    chosen: list[str] = []
    aurocs: list[float] = []
    edge_variance = 0.0
    for b in range(4):
        seen, held = members[3 - b], members[b]
        best = int(np.argmax(auroc(edges.scores[np.ix_(rows, seen)], edges.label[seen])))
        label, regulator, target = edges.label[held], edges.regulator[held], edges.target[held]
        found = auroc_deviations(edges.scores[rows[best]][None, held], label, regulator, target)
        moved_regulator[np.unique(regulator)] += weight[b] * found.regulator[0]
        moved_target[np.unique(target)] += weight[b] * found.target[0]
        edge_variance += weight[b] ** 2 * float(found.edge_variance[0])
        chosen.append(candidates[best])
        aurocs.append(float(found.estimate[0]))
    mean = Deviations(
        estimate=np.array([weight @ np.array(aurocs)]),
        regulator=moved_regulator[np.unique(edges.regulator)][None],
        target=moved_target[np.unique(edges.target)][None],
        edge_variance=np.array([edge_variance]),
    )
    effect = effects_of(default_se(mean), null_value=0.5)[0]
    return NestedChoice(effect=effect, chosen=tuple(chosen), block_auroc=tuple(aurocs))
