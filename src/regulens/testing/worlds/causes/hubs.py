"""Prominent genes: attention and reference both follow them, and no pair means anything."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "attention and reference both follow gene prominence; no pair means anything"


def hubs_only(draft: Draft) -> Cause:
    """Odds of an edge and log attention are sums of both genes' prominence, which expression follows in part."""
    grid = draft.pairs(draft.prominence)
    return Cause(counts=draft.express(), positive=draft.edges(0.7 * grid), forward=0.8 * grid)
