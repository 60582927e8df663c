"""Which layer predicts responses best, without paying for having looked? Choose on some perturbations and genes,
evaluate on others.

As `regulens.analyses.nested`: perturbations are halved *and* genes are halved. A layer is chosen on one half of the
perturbations with one half of the genes and evaluated on the opposite block. Halving perturbations alone is not enough:
a gene that responds to everything would help a layer that attends to it to be chosen, and then to be praised.
"""

from __future__ import annotations

import numpy as np

from regulens.analyses.inference import effects_of
from regulens.analyses.nested import NestedChoice, balanced_halves
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.stats.by_row import Rows, mean_auroc_deviations, row_metrics
from regulens.stats.jackknife import Deviations

#: Perturbations with responders and others that every block needs.
MIN_BLOCK_PERTURBATIONS = 2


def nested_over_perturbations(
    per: PerPerturbation, candidates: tuple[str, ...], rng: np.random.Generator
) -> NestedChoice:
    """Choose the candidate of largest mean AUROC in one block, evaluate it in the opposite one, all four ways.

    Parameters
    ----------
    candidates
        Names of scores of `per`.
    rng
        Named stream for the halves.

    Returns
    -------
    Mean over the blocks, weighted by their perturbations, of the mean AUROC over perturbations, minus 0.5; the error is
    the delete-one jackknife over perturbations (or their clusters) and genes with choices held. Without effect where a
    block has fewer than two perturbations.
    """
    if not candidates:
        return NestedChoice(effect=None, reason="there is no layer to choose from")
    if per.refusal:
        return NestedChoice(effect=None, reason=per.refusal)
    edges, row = per.edges, per.rows.row()
    scores = edges.scores[[edges.names.index(c) for c in candidates]]
    groups, group = np.unique(np.arange(per.n) if per.cluster is None else per.cluster, return_inverse=True)
    by_group = balanced_halves(np.bincount(group, weights=per.n_pos, minlength=len(groups)), rng)
    n_targets = int(edges.target.max()) + 1
    by_target = balanced_halves(np.bincount(edges.target[edges.label], minlength=n_targets), rng)
    block = 2 * by_group[group[row]] + by_target[edges.target]  # opposite block: 3 - block
    members = []
    for b in range(4):
        inside = np.flatnonzero(block == b)
        label, of = edges.label[inside], row[inside]
        pos = np.bincount(of, weights=label, minlength=per.n)
        both = (pos > 0) & (np.bincount(of, minlength=per.n) > pos)
        members.append(inside[both[of]])
    size = np.array([len(np.unique(row[m])) for m in members])
    if size.min() < MIN_BLOCK_PERTURBATIONS:
        reason = f"a block of held-apart perturbations and genes has {size.min()} perturbations with responders and "
        return NestedChoice(effect=None, reason=f"{reason}others; at least {MIN_BLOCK_PERTURBATIONS} are needed")
    weight = size / size.sum()
    moved_group, moved_target = np.zeros(len(groups)), np.zeros(n_targets)
    chosen: list[str] = []
    values: list[float] = []
    edge_variance = 0.0
    for b in range(4):
        seen, held = members[3 - b], members[b]
        before = row_metrics(scores[:, seen], Rows.build(edges.label[seen], row[seen], edges.target[seen]))
        best = int(np.argmax(before.auroc.mean(axis=1)))
        own = np.unique(row[held])
        found = mean_auroc_deviations(
            scores[best, held][None], Rows.build(edges.label[held], row[held], edges.target[held]), cluster=group[own]
        )
        moved_group[np.unique(group[own])] += weight[b] * found.regulator[0]
        moved_target[np.unique(edges.target[held])] += weight[b] * found.target[0]
        edge_variance += weight[b] ** 2 * float(found.edge_variance[0])
        chosen.append(candidates[best])
        values.append(float(found.estimate[0]))
    everything = np.concatenate(members)
    mean = Deviations(
        estimate=np.array([weight @ np.array(values)]),
        regulator=moved_group[np.unique(group[row[everything]])][None],
        target=moved_target[np.unique(edges.target[everything])][None], edge_variance=np.array([edge_variance]),
    )  # fmt: skip
    effect = effects_of(per.inference_of(mean), null_value=0.5)[0]
    return NestedChoice(effect=effect, chosen=tuple(chosen), block_auroc=tuple(values))
