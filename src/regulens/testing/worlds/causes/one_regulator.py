"""One regulator: a single large regulon carries all recovery."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "attention is raised on the reference pairs of one regulator with a large regulon, and on no others"


def one_regulator(draft: Draft) -> Cause:
    """The chosen regulator has a third of all targets as edges; the other regulons are small and unattended."""
    rng = draft.rng("regulator")
    chosen = int(rng.integers(draft.n_regulators))
    large = rng.random(draft.n_genes) < 1 / 3
    rest = draft.edges(0.2 * draft.pairs(draft.prominence), max(draft.n_edges - int(large.sum()), 1))
    positive = rest.copy()
    positive[chosen] = large & draft.candidate[chosen]
    known = np.zeros_like(positive)
    known[chosen] = positive[chosen]
    return Cause(counts=draft.express(), positive=positive, forward=2 * draft.effect * known)
