"""The claim that layers specialise: where a rise is planted it is supported, elsewhere it is not."""

from __future__ import annotations

import pytest

from regulens.analyses.base import StatisticsSettings
from regulens.testing.worlds import judge, make_world
from regulens.types.results import VerdictState

FAST = StatisticsSettings(bootstrap=400, permutations=50)


def verdict(kind, **shape):
    _, _, found = judge(make_world(kind, **shape).input(settings=FAST), ("layer_hierarchy",))
    return {v.claim: v for v in found}["layers_specialise"]


def test_the_claim_follows_the_planted_rise():
    found = verdict("layer_late", seed=2)
    assert found.state is VerdictState.SUPPORTED
    assert any("rising with depth" in r for r in found.reasons)


def test_few_layers_are_inconclusive_and_say_so():
    found = verdict("planted_pairs", seed=0)
    assert found.state is VerdictState.INCONCLUSIVE
    assert any("at least 6" in r for r in found.reasons)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["layer_flat", "hubs_only", "no_signal"])
def test_it_is_not_supported_where_nothing_rises(kind, seed):
    assert verdict(kind, seed=seed, n_layers=12, n_heads=1).state is not VerdictState.SUPPORTED
