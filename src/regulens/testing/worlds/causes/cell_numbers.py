"""Numbers of cells: noise of cells averages out with more of them, noise of pairs does not."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft

TRUTH_HELP = "as planted_pairs, with noise that is drawn anew in every cell, so that more cells know more"
TRUTH_FLAT = "as planted_pairs, with noise that every cell has alike, so that more cells know nothing more"


def more_cells_help(draft: Draft) -> Cause:
    """Nearly all noise is of cells."""
    positive = draft.edges(0.2 * draft.pairs(draft.prominence))
    return Cause(
        counts=draft.express(), positive=positive, forward=0.5 * draft.effect * positive, pair_noise=0.2,
        head_noise=0.2, group_noise=0.0, cell_noise=1.6,
    )  # fmt: skip


def cells_flat(draft: Draft) -> Cause:
    """No noise is of cells."""
    positive = draft.edges(0.2 * draft.pairs(draft.prominence))
    return Cause(
        counts=draft.express(), positive=positive, forward=draft.effect * positive, group_noise=0.0, cell_noise=0.0
    )
