"""Responses as a property of the responding gene: its expression, or that it answers to any stress."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import z_scored
from regulens.testing.worlds.screen_draft import ScreenCause, ScreenDraft

TRUTH = "genes of high level respond more often, and more often visibly; attention follows level, and knows no pair"
TRUTH_SHARED = "the same genes respond to every perturbation; attention knows which, and knows no pair"


def expression_only(draft: ScreenDraft) -> ScreenCause:
    """Odds to respond follow a gene's level; attention follows what control cells show of it."""
    shown = z_scored(np.log1p(1e4 * draft.controls / draft.control_totals[:, None]).mean(axis=0))
    odds = 0.6 * z_scored(draft.base.level)[None, :]
    responds = draft.responders(odds, 0.3, use="responders")
    return ScreenCause(change=draft.changes(responds, use="responders"), forward=0.8 * draft.base.pairs(shown))


def shared_responders(draft: ScreenDraft) -> ScreenCause:
    """A hidden popularity of genes decides who responds; attention is drawn to popular genes."""
    popular = z_scored(draft.rng("popularity").normal(size=draft.shape[1]))
    responds = draft.responders(1.8 * popular[None, :], 0.2, use="responders")
    return ScreenCause(change=draft.changes(responds, use="responders"), forward=0.9 * popular[None, :])
