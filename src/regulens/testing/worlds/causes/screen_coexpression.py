"""Responses along co-expression: a gene's partners respond, and attention is a noisy copy of co-expression."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from regulens.scorers.coexpression import coexpression_scores
from regulens.testing.worlds.draft import z_scored
from regulens.testing.worlds.screen_draft import ScreenCause, ScreenDraft

TRUTH = "co-expressed genes respond, and attention is a noisy copy of co-expression over the control cells"


def coexpression_only(draft: ScreenDraft) -> ScreenCause:
    """Odds to respond and log attention follow |Spearman| over the control cells."""
    base = draft.base
    scores = coexpression_scores(
        sp.csc_matrix(np.log1p(1e4 * draft.controls / draft.control_totals[:, None])),
        genes=base.genes, regulators=tuple(base.genes[k] for k in base.own),
    )  # fmt: skip
    rho = 1.5 * z_scored(scores.select(["coexpression_abs"]).values[0])
    responds = draft.responders(rho, 0.2, use="responders")
    return ScreenCause(change=draft.changes(responds, use="responders"), forward=rho)
