"""Are tests on truncated lists held to their level? Hubs in labels and, independently, in the list; most pairs tie."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.analyses.degree_excess import degree_excess
from regulens.analyses.inference import above_half, effects_of
from regulens.nulls.degree_preserving import degree_preserving_draws
from regulens.nulls.rank_sums import mid_ranks
from regulens.rng import stream
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges

N_REGULATORS, N_TARGETS, ALPHA = 40, 200, 0.05


def truncations(strength: np.ndarray) -> dict[str, np.ndarray]:
    """The same scores cut at a weight, and at ten targets a regulator; what is cut ties at 0."""
    tenth = np.sort(strength, axis=1)[:, -10][:, None]
    return {
        "by weight": np.where(strength > np.quantile(strength, 0.95), strength, 0.0),
        "top ten": np.where(strength >= tenth, strength, 0.0),
    }


def rejections(n_worlds: int, *, planted: float, seed: str) -> dict[str, float]:
    """Share of worlds in which the AUROC of a list is found above one half."""
    rng = stream(0, seed)
    row, column = np.indices((N_REGULATORS, N_TARGETS)).reshape(2, -1)
    found = {"by weight": 0, "top ten": 0}
    for _ in range(n_worlds):
        hubs = rng.gamma(1, 1, (N_REGULATORS, 1)) * rng.gamma(1, 1, (1, N_TARGETS))
        label = rng.random(hubs.shape) < np.clip(0.03 * hubs, 0, 0.9)
        strength = rng.gamma(1, 1, (N_REGULATORS, 1)) * rng.gamma(1, 1, (1, N_TARGETS)) * rng.gamma(1, 1, hubs.shape)
        strength = strength * np.where(label, 1 + planted, 1.0)
        for name, scores in truncations(strength).items():
            edges = LabelledEdges(
                scores=scores.ravel()[None].copy(), names=("list",), label=label.ravel().copy(), regulator=row.copy(),
                target=column.copy(), universe_digest="", endpoint=Endpoint.REFERENCE_RECOVERY,
            )  # fmt: skip
            effect = above_half(edges, "list")
            found[name] += int(not effect.undefined and effect.p_greater() < ALPHA)
    return {name: n / n_worlds for name, n in found.items()}


def test_a_list_without_signal_is_rarely_called_above_chance():
    n = 200
    rate = rejections(n, planted=0.0, seed="test/lists/null")
    assert max(rate.values()) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / n), rate


def test_a_list_that_knows_edges_is_found():
    rate = rejections(40, planted=4.0, seed="test/lists/planted")
    assert min(rate.values()) >= 0.8, rate


@pytest.mark.long
def test_the_level_of_truncated_lists_over_many_worlds():
    n = 2000
    rate = rejections(n, planted=0.0, seed="test/lists/long")
    assert max(rate.values()) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / n), rate


def beyond_degree(n_worlds: int, seed: str) -> dict[str, float]:
    """Share of worlds in which a list that knows the hubs of the labels, and nothing else, is found beyond degree."""
    rng = stream(0, seed)
    row, column = np.indices((N_REGULATORS, N_TARGETS)).reshape(2, -1)
    found = {"by weight": 0, "top ten": 0}
    for _ in range(n_worlds):
        hubs = rng.gamma(1, 1, (N_REGULATORS, 1)) * rng.gamma(1, 1, (1, N_TARGETS))
        label = rng.random(hubs.shape) < np.clip(0.03 * hubs, 0, 0.9)
        draws = degree_preserving_draws(label, np.ones_like(label), draws=200, rng=rng, trades_per_row=10.0)
        share = np.bincount(draws.positions.ravel(), minlength=label.size) / len(draws.positions)
        for name, scores in truncations(hubs * rng.gamma(1, 1, hubs.shape)).items():
            excess = degree_excess(mid_ranks(scores.ravel()[None]), label.ravel(), share, row, column)
            effect = effects_of(excess.found)[0]
            found[name] += int(not effect.undefined and effect.p_greater() < ALPHA)
    return {name: n / n_worlds for name, n in found.items()}


@pytest.mark.parametrize("n", [40, pytest.param(400, marks=pytest.mark.long)])
def test_a_list_of_hubs_is_rarely_called_beyond_degree(n):
    rate = beyond_degree(n, "test/lists/degree")
    assert max(rate.values()) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / n), rate
