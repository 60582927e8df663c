"""The whole audit in worlds whose truth is known, over several seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses.base import ANALYSES
from regulens.errors import ParameterError
from regulens.testing.worlds import KINDS, judge, make_world
from regulens.types.endpoints import Protocol
from regulens.types.results import VerdictState

SEEDS = range(4)


def verdicts(world, **kwargs):
    _, _, found = judge(world.input(), **kwargs)
    return {v.claim: v for v in found}


def test_hubs_only_is_not_regulation():
    states = []
    for seed in SEEDS:
        found = verdicts(make_world("hubs_only", seed=seed))["beyond_prominence"]
        states.append(found.state)
        if found.state is VerdictState.NOT_SUPPORTED:
            assert any("joint" in r or "TOST" in r or "marginal product" in r for r in found.reasons)
        else:  # so few genes cannot always be matched, which must be said instead of judged
            assert found.state is VerdictState.INCONCLUSIVE
            assert any("unbalanced" in r for r in found.reasons)
    assert states.count(VerdictState.NOT_SUPPORTED) >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_pairs_are_found(seed):
    found = verdicts(make_world("planted_pairs", seed=seed))
    assert {v.state for v in found.values()} == {VerdictState.SUPPORTED}
    assert len(found["beyond_prominence"].reasons) == 5  # one per needed test, with its numbers


@pytest.mark.parametrize("seed", SEEDS)
def test_too_little_data_is_inconclusive_and_says_so(seed):
    found = verdicts(make_world("too_few_positives", seed=seed))
    assert {v.state for v in found.values()} == {VerdictState.INCONCLUSIVE}
    assert all(any("at least 20 are needed" in r for r in v.reasons) for v in found.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_no_signal_is_never_supported(seed):
    found = verdicts(make_world("no_signal", seed=seed))
    assert VerdictState.SUPPORTED not in {v.state for v in found.values()}


@pytest.mark.parametrize("seed", SEEDS)
def test_noisy_coexpression_is_not_beyond_coexpression(seed):
    found = verdicts(make_world("coexpression_only", seed=seed))["beyond_coexpression"]
    assert found.state is VerdictState.NOT_SUPPORTED


@pytest.mark.parametrize("seed", range(2))
def test_a_transposed_capture_destroys_the_planted_signal(seed):
    world = make_world("planted_pairs", seed=seed)
    kept, lost = world.input(), world.transposed().input()
    good, bad = (ANALYSES["reference_recovery"].run(i).facts["auroc"] for i in (kept, lost))
    assert good > 0.75
    assert bad < 0.65
    found = verdicts(world.transposed())
    assert VerdictState.SUPPORTED not in {v.state for v in found.values()}


def test_reproductions_feed_no_verdict():
    inp = make_world("planted_pairs", seed=0).input()
    published = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    outcomes, ledger, found = judge(published)
    assert all(r.protocol is Protocol.PUBLISHED for o in outcomes.values() for r in o.results)
    assert ledger.table()["q_value"].isna().all()
    assert {v.state for v in found} == {VerdictState.INCONCLUSIVE}


def test_worlds_are_functions_of_their_arguments():
    a, b, c = make_world("no_signal", seed=1), make_world("no_signal", seed=1), make_world("no_signal", seed=2)
    assert a.cells.digest == b.cells.digest != c.cells.digest
    assert a.universe.digest == b.universe.digest
    assert np.array_equal(a.summary.sums, b.summary.sums)


def test_unknown_world_is_answered_with_the_nearest():
    with pytest.raises(ParameterError, match=r"Expected a kind of world .* Did you mean 'hubs_only'\?"):
        make_world("hub_only", seed=0)


def test_every_kind_is_described_and_can_be_made():
    for kind in KINDS:
        assert make_world(kind, seed=0, n_regulators=10, n_genes=60, n_edges=40).kind == kind
