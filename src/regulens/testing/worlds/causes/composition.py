"""Composition (Simpson): within a cell state no pair means anything, pooled over states pairs appear."""

from __future__ import annotations

from regulens.testing.worlds.draft import N_STATES, Cause, Draft, z_scored

TRUTH = (
    "cell states shift genes; within a state genes are independent and attention is gene prominence, but pooled over "
    "states both follow composition, and so does the reference"
)


def composition(draft: Draft) -> Cause:
    """Attention within a state is the sum of both genes' shifts there: only a mixture of states makes pairs."""
    shift = 1.1 * draft.rng("states").normal(size=(N_STATES, draft.n_genes))
    counts = draft.express(factors=0.0, by_state=shift)
    odds = 1.5 * z_scored(draft.coexpression(counts))
    forward = draft.pairs(shift)[:, None, None]  # (state, donor, layer, regulator, gene)
    return Cause(counts=counts, positive=draft.edges(odds), forward=forward)
