"""Depth: what attention knows of the reference rises over the layers, or wanders without a trend."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import Cause, Draft

TRUTH_LATE = "attention knows the reference pairs the better the deeper the layer"
TRUTH_FLAT = "attention knows the reference pairs to a degree that wanders smoothly over the layers, without a trend"


def _profile(draft: Draft, strength: np.ndarray) -> Cause:
    grid = draft.pairs(draft.prominence)
    positive = draft.edges(0.2 * grid)
    forward = 0.3 * grid + draft.effect * strength[:, None, None] * positive  # (layer, regulator, gene)
    return Cause(counts=draft.express(), positive=positive, forward=forward, smooth=0.8)


def layer_late(draft: Draft) -> Cause:
    """Strength grows from a fifth to the full effect."""
    return _profile(draft, np.linspace(0.2, 1.0, draft.n_layers))


def layer_flat(draft: Draft) -> Cause:
    """Strength is a stationary smooth profile around a half: autoregressive, neighbours correlated by 0.7."""
    noise = draft.rng("profile").normal(size=draft.n_layers)
    for k in range(1, draft.n_layers):
        noise[k] = 0.7 * noise[k - 1] + np.sqrt(1 - 0.7**2) * noise[k]
    return _profile(draft, 0.5 + 0.15 * noise)
