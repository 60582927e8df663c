"""Expression level: attention and reference both prefer highly expressed genes."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft, z_scored

TRUTH = "attention and reference both follow the expression level of both genes; no pair means anything"


def expression_level(draft: Draft) -> Cause:
    """Odds of an edge and log attention are sums of both genes' log levels."""
    grid = draft.pairs(z_scored(draft.level))
    return Cause(counts=draft.express(), positive=draft.edges(0.7 * grid), forward=0.8 * grid)
