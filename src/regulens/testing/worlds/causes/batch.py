"""Batch: donors shift genes, co-expression and attention follow, and the reference has blocks of its own."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import N_DONORS, Cause, Draft

TRUTH = "donors shift genes up and down; co-expression and attention follow them, the reference does not"


def batch(draft: Draft) -> Cause:
    """Pairs of attention hang together through a donor's shift, pairs of the reference through shared regulators."""
    rng = draft.rng("batch")
    shift = 0.8 * rng.normal(size=(N_DONORS, draft.n_genes))
    own = rng.normal(size=(2, draft.n_regulators))
    theirs = rng.normal(size=(2, draft.n_genes))
    odds = 0.8 * np.einsum("kr,kt->rt", own, theirs)
    forward = draft.pairs(shift)[None, :, None]  # (state, donor, layer, regulator, gene)
    return Cause(counts=draft.express(by_donor=shift), positive=draft.edges(odds), forward=forward)
