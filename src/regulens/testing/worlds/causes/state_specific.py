"""State-specific regulation: planted pairs live in one cell state and pooling dilutes them, or in all states alike."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import N_STATES, Cause, Draft

TRUTH = "attention is raised on reference pairs in one cell state only, the rarest; states are plain in expression"
TRUTH_ALL = "attention is raised on reference pairs in all cell states alike; states are plain in expression"

#: Standard deviation of the shifts of genes between states: plain enough to be found without labels.
SHIFT = 1.5


def _living(draft: Draft, state: np.ndarray) -> Cause:
    grid = draft.pairs(draft.prominence)
    positive = draft.edges(0.2 * grid)
    live = state[:, None, None, None, None]  # (state, donor, layer, regulator, gene)
    counts = draft.express(factors=0.2, by_state=SHIFT)
    return Cause(counts=counts, positive=positive, forward=0.3 * grid + draft.effect * live * positive)


def state_specific(draft: Draft) -> Cause:
    """Pairs of the reference are attended in the last state, everything else is alike in all states."""
    return _living(draft, np.arange(N_STATES) == N_STATES - 1)


def all_states(draft: Draft) -> Cause:
    """Pairs of the reference are attended everywhere, so that states are nothing but fewer cells."""
    return _living(draft, np.ones(N_STATES))
