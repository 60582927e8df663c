"""Co-expression: attention is a noisy copy of it, and the reference prefers co-expressed pairs."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft, z_scored

TRUTH = "attention is a noisy copy of co-expression, and the reference prefers co-expressed pairs"


def coexpression_only(draft: Draft) -> Cause:
    """Odds of an edge and log attention follow |Spearman| over the same cells."""
    counts = draft.express()
    rho = 1.5 * z_scored(draft.coexpression(counts))
    return Cause(counts=counts, positive=draft.edges(rho), forward=rho)
