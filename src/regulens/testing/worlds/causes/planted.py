"""Planted pairs: attention is raised on the very pairs of the reference, many or few."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "attention is raised on the very pairs of the reference"
TRUTH_FEW = "as planted_pairs, with a dozen reference edges"


def _planted(draft: Draft, n_edges: int) -> Cause:
    grid = draft.pairs(draft.prominence)
    positive = draft.edges(0.2 * grid, n_edges)
    return Cause(counts=draft.express(), positive=positive, forward=0.3 * grid + draft.effect * positive)


def planted_pairs(draft: Draft) -> Cause:
    """Regulation and a little prominence."""
    return _planted(draft, draft.n_edges)


def too_few_positives(draft: Draft) -> Cause:
    """The same, with too few edges to know."""
    return _planted(draft, 12)
