"""Responses as a property of the pair: a network that attention knows, or does not, or no response at all."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.screen_draft import ScreenCause, ScreenDraft

TRUTH = "responses follow a network that has nothing to do with features of genes, and attention is raised on its pairs"
TRUTH_UNKNOWN = "responses follow a network, and attention, with prominence of its own, knows nothing of it"
TRUTH_NONE = "perturbations lower their target and do nothing else"

#: Share of genes that a perturbed gene regulates.
SHARE = 0.2


def planted_network(draft: ScreenDraft) -> ScreenCause:
    """A random network; log attention is raised on its pairs, seen to respond or not."""
    edges = draft.responders(np.zeros(draft.shape), SHARE, use="network")
    forward = 0.3 * draft.base.pairs(draft.base.prominence) + draft.base.effect * edges
    return ScreenCause(change=draft.changes(edges, use="network"), forward=forward)


def no_signal(draft: ScreenDraft) -> ScreenCause:
    """A random network; attention has margins of its own."""
    edges = draft.responders(np.zeros(draft.shape), SHARE, use="network")
    rng = draft.rng("hubs")
    forward = 0.6 * rng.normal(size=(draft.shape[0], 1)) + 0.6 * rng.normal(size=(1, draft.shape[1]))
    return ScreenCause(change=draft.changes(edges, use="network"), forward=forward)


def no_effects(draft: ScreenDraft) -> ScreenCause:
    """No gene responds."""
    return ScreenCause(change=np.zeros(draft.shape), forward=0.5 * draft.base.pairs(draft.base.prominence))
