"""Detection: attention and reference both prefer genes that are seen in many cells, whatever their level."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from regulens.testing.worlds.draft import Cause, Draft, z_scored

TRUTH = "attention and reference both follow in how many cells both genes are seen; no pair means anything"


def detection(draft: Draft) -> Cause:
    """Cells miss transcripts gene by gene, so that detection is more than level; everything follows detection."""
    capture = expit(0.5 + 1.5 * draft.rng("capture").normal(size=draft.n_genes))
    counts = draft.express(capture=capture)
    seen = np.log((counts > 0).mean(axis=0))
    grid = draft.pairs(z_scored(seen))
    return Cause(counts=counts, positive=draft.edges(0.7 * grid), forward=0.8 * grid)
