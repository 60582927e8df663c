"""State-specific regulation: planted pairs live in one cell state, and pooling dilutes them."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import N_STATES, Cause, Draft

TRUTH = "attention is raised on reference pairs in one cell state only, the rarest"


def state_specific(draft: Draft) -> Cause:
    """Pairs of the reference are attended in the last state, everything else is alike in all states."""
    grid = draft.pairs(draft.prominence)
    positive = draft.edges(0.2 * grid)
    live = (np.arange(N_STATES) == N_STATES - 1)[:, None, None, None, None]  # (state, donor, layer, regulator, gene)
    return Cause(counts=draft.express(), positive=positive, forward=0.3 * grid + draft.effect * live * positive)
