"""Nothing: attention and reference have hubs, each its own."""

from __future__ import annotations

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = "attention, with prominence of its own, and reference, with hubs of its own, are independent"


def no_signal(draft: Draft) -> Cause:
    """Regulators and targets have effects on labels, other effects on attention, and others on a second reference."""
    rng = draft.rng("hubs")
    r, t = (draft.n_regulators, 1), (1, draft.n_genes)
    odds = 0.7 * rng.normal(size=r) + 0.5 * rng.normal(size=t)
    forward = 0.6 * rng.normal(size=r) + 0.6 * rng.normal(size=t)
    second = 0.7 * rng.normal(size=r) + 0.5 * rng.normal(size=t)
    return Cause(
        counts=draft.express(), positive=draft.edges(odds), forward=forward,
        others={"second": draft.edges(second, use="second")},
    )  # fmt: skip
