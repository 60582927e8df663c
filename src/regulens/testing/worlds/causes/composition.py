"""Composition (Simpson): within a cell state no pair means anything, pooled over states pairs appear."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import N_STATES, Cause, Draft, z_scored

TRUTH = (
    "half of the genes mark a cell state; within a state genes are independent and attention is gene prominence, but "
    "pooled over states both follow shared markers, and so does the reference"
)


def composition(draft: Draft) -> Cause:
    """Attention within a state is the sum of both genes' shifts there: only a mixture of states makes pairs."""
    rng = draft.rng("states")
    marks = rng.integers(0, 2 * N_STATES, draft.n_genes)  # those of N_STATES and above mark none
    strength = rng.uniform(1.0, 2.0, draft.n_genes)
    shift = strength * (marks == np.arange(N_STATES)[:, None])  # (state, gene)
    counts = draft.express(factors=0.0, by_state=shift)
    odds = 1.5 * z_scored(draft.coexpression(counts))
    forward = draft.pairs(shift)[:, None, None]  # (state, donor, layer, regulator, gene)
    return Cause(counts=counts, positive=draft.edges(odds), forward=forward)
