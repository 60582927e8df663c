"""Two references: attention knows the pairs of one and nothing of the other."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "attention is raised on the pairs of the reference, and knows nothing of a second one"


def reference_dependent(draft: Draft) -> Cause:
    """As planted_pairs; the second reference has as many edges, drawn by prominence alone."""
    grid = draft.pairs(draft.prominence)
    positive = draft.edges(0.2 * grid)
    second = draft.edges(np.where(positive, -np.inf, 0.2 * grid), use="second")
    return Cause(
        counts=draft.express(), positive=positive, forward=0.3 * grid + draft.effect * positive,
        others={"second": second},
    )  # fmt: skip
