"""The recipe decides: pairs are known in the direction that the plan did not choose, and only there."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "targets attend their regulators; in the direction that the plan chose attention knows no pair"


def recipe_dependent(draft: Draft) -> Cause:
    """As planted_pairs with the two directions exchanged, and no prominence in the chosen one."""
    grid = draft.pairs(draft.prominence)
    positive = draft.edges(0.2 * grid)
    return Cause(
        counts=draft.express(), positive=positive, forward=0.0 * grid, backward=0.3 * grid + draft.effect * positive
    )
