"""Expression level: attention and reference both prefer highly expressed genes."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import Cause, Draft, z_scored

TRUTH = "attention and reference both follow the expression level of both genes; no pair means anything"


def expression_level(draft: Draft) -> Cause:
    """Odds of an edge follow the log levels of both genes; attention follows what its cells show of them."""
    counts = draft.express()
    per_total = counts / counts.sum(axis=1, keepdims=True)
    shown = z_scored(np.log1p(1e4 * per_total).mean(axis=0))
    odds = 0.7 * draft.pairs(z_scored(draft.level))
    return Cause(counts=counts, positive=draft.edges(odds), forward=0.8 * draft.pairs(shown))
