"""Degree: hubs of the reference are also hubs of attention, beyond their expression; pairs carry nothing."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "degrees of the reference and margins of attention agree, unseen by expression; no pair means anything"


def degree(draft: Draft) -> Cause:
    """One hub score per regulator and one per target, drawn independently of expression, makes labels and attention."""
    rng = draft.rng("hubs")
    hub = 0.9 * rng.normal(size=(draft.n_regulators, 1)) + 0.7 * rng.normal(size=(1, draft.n_genes))
    return Cause(counts=draft.express(), positive=draft.edges(hub), forward=hub)
