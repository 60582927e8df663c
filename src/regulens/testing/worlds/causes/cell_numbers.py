"""Numbers of cells: noise of cells averages out with more of them, noise of pairs does not."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft

TRUTH_HELP = "as planted_pairs, with noise that is drawn anew in every cell, so that more cells know more"
TRUTH_HURT = (
    "as planted_pairs, but the attention of some pairs has wide tails over cells: means over many cells follow the "
    "tails, which know nothing"
)
TRUTH_FLAT = "as planted_pairs, with noise that every cell has alike, so that more cells know nothing more"


def more_cells_help(draft: Draft) -> Cause:
    """Nearly all noise is of cells."""
    positive = draft.edges(0.2 * draft.pairs(draft.prominence))
    return Cause(
        counts=draft.express(), positive=positive, forward=0.5 * draft.effect * positive, pair_noise=0.2,
        head_noise=0.2, group_noise=0.0, cell_noise=1.6,
    )  # fmt: skip


def cells_flat(draft: Draft) -> Cause:
    """Hardly any noise is of cells."""
    positive = draft.edges(0.2 * draft.pairs(draft.prominence))
    return Cause(
        counts=draft.express(), positive=positive, forward=draft.effect * positive, group_noise=0.0, cell_noise=0.1
    )


def more_cells_hurt(draft: Draft) -> Cause:
    """A mean of few cells is near a pair's usual value, a mean of many cells near what its tails make of it."""
    positive = draft.edges(0.2 * draft.pairs(draft.prominence))
    tails = draft.rng("tails").uniform(0.3, 3.5, size=positive.shape)
    return Cause(
        counts=draft.express(), positive=positive, forward=draft.effect * positive, pair_noise=0.2, head_noise=0.2,
        group_noise=0.0, cell_noise=tails,
    )  # fmt: skip
