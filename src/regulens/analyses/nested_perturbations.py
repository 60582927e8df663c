"""Which layer predicts responses best, without paying for having looked? Choose on some pairs, evaluate on others.

As `regulens.analyses.nested`: perturbations are halved *and* genes are halved. A layer is chosen on one half of the
perturbations with one half of the genes and evaluated on the opposite block. Halving perturbations alone is not enough:
a gene that responds to everything would help a layer that attends to it to be chosen, and then to be praised. The p and
the interval are those of `regulens.analyses.chosen_layer`.
"""

from __future__ import annotations

import numpy as np

from regulens.analyses.chosen_layer import Block, ChosenLayer, chosen_layer
from regulens.analyses.nested import balanced_halves
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.stats.by_row import Rows, Sweep, mean_deviations_over_rows, sweep

#: Perturbations with responders and others that every block needs.
MIN_BLOCK_PERTURBATIONS = 2


def _swept(scores: np.ndarray, label: np.ndarray, row: np.ndarray, target: np.ndarray, group: np.ndarray) -> Block:
    """Mean AUROCs of one block, deviations by group of perturbations and by target."""
    rows = Rows.build(label, row, target)
    found: list[Sweep] = [sweep(s, rows) for s in scores]
    own = group[np.unique(row)]
    mean, moved, _ = mean_deviations_over_rows(np.stack([w.area for w in found]), cluster=own)
    psi = np.stack([w.psi for w in found])
    return Block(
        area=mean, by_unit=moved, units=np.unique(own), by_target=np.stack([w.moved for w in found]),
        targets=np.unique(target), edge=psi @ psi.T,
    )  # fmt: skip


def nested_over_perturbations(
    per: PerPerturbation, candidates: tuple[str, ...] | list[str], rng: np.random.Generator, *, draws: int = 2000
) -> ChosenLayer:
    """Choose the candidate of largest mean AUROC in one block, evaluate it in the opposite one, all four ways.

    Parameters
    ----------
    candidates
        Names of scores of `per`.
    rng
        Named stream for the halves, and then for the null.
    draws
        Of the null.

    Returns
    -------
    Mean over the blocks, weighted by their perturbations, of the mean AUROC over perturbations, minus 0.5; the error is
    the delete-one jackknife over perturbations (or their clusters) and genes with choices held. Without effect where a
    block has fewer than two perturbations.
    """
    if not candidates:
        return ChosenLayer(reason="there is no layer to choose from")
    if per.refusal:
        return ChosenLayer(reason=per.refusal)
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
        return ChosenLayer(reason=f"{reason}others; at least {MIN_BLOCK_PERTURBATIONS} are needed")
    blocks = [_swept(scores[:, m], edges.label[m], row[m], edges.target[m], group) for m in members]
    return chosen_layer(
        blocks, candidates, size / size.sum(), n_units=len(groups), n_targets=n_targets, infer=per.inference_of,
        draws=draws, rng=rng,
    )  # fmt: skip
