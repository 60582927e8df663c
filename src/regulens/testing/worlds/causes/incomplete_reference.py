"""An incomplete reference: attention knows all true edges, the reference lists half of them."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "as planted_pairs, but a random half of the true pairs is missing from the reference"


def incomplete_reference(draft: Draft) -> Cause:
    """Twice as many planted pairs as edges; the other half counts as negatives, and is a reference of its own."""
    grid = draft.pairs(draft.prominence)
    planted = draft.edges(0.2 * grid, 2 * draft.n_edges)
    i, j = np.nonzero(planted)
    listed = draft.rng("listed").choice(len(i), draft.n_edges, replace=False)
    positive = np.zeros_like(planted)
    positive[i[listed], j[listed]] = True
    return Cause(
        counts=draft.express(), positive=positive, forward=0.3 * grid + draft.effect * planted,
        others={"the_other_half": planted & ~positive},
    )  # fmt: skip
