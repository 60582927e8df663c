"""Data that no number can be made of: every analysis says so for every test it planned, and crashes for none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses.base import ANALYSES, AnalysisInput, StatisticsSettings
from regulens.testing.worlds import make_world
from regulens.types.ledger import TestLedger
from regulens.verdicts import decide

NAMES = [n for n in ANALYSES.names() if ANALYSES[n].scope == "model_reference"]
SETTINGS = StatisticsSettings(bootstrap=100, permutations=99)


def rebuilt(world, **changes) -> AnalysisInput:
    """The input of a world whose parts were replaced."""
    world = replace(world, **changes)
    return world.input(settings=SETTINGS)


def labelled(world, positive):
    return rebuilt(world, universe=replace(world.universe, positive=positive & world.universe.candidate))


def scored(world, sums):
    return rebuilt(world, summary=replace(world.summary, sums=sums))


def only_rows(world, rows):
    """A universe of a few regulators."""
    u = world.universe
    return rebuilt(
        world,
        universe=replace(
            u, regulators=tuple(u.regulators[r] for r in rows), candidate=u.candidate[rows], positive=u.positive[rows]
        ),
    )


def ten_pairs(world):
    keep = np.zeros_like(world.universe.candidate)
    i, j = np.nonzero(world.universe.positive)
    keep[i[:3], j[:3]] = True
    i, j = np.nonzero(world.universe.candidate & ~world.universe.positive)
    keep[i[:7], j[:7]] = True
    u = world.universe
    return rebuilt(world, universe=replace(u, candidate=keep & u.candidate, positive=u.positive & keep))


def never_met(world):
    """Half of the pairs, all positives among them, were never seen in one cell."""
    counts = np.array(world.summary.counts)
    columns = [world.summary.genes.index(g) for g in world.universe.genes]
    rows = [world.summary.regulators.index(r) for r in world.universe.regulators]
    lost = np.zeros(counts.shape[1:], dtype=bool)
    lost[np.ix_(rows, columns)] = world.universe.positive
    counts[:, lost] = 0
    return rebuilt(world, summary=replace(world.summary, counts=counts))


CASES = {
    "no positives": lambda w: labelled(w, np.zeros_like(w.universe.positive)),
    "all positives": lambda w: labelled(w, np.ones_like(w.universe.positive)),
    "constant scores": lambda w: scored(w, np.asarray(w.summary.counts)[:, None, None, None] * np.full(
        (1, *w.summary.sums.shape[1:4], 1, 1), 0.01)),
    "zero scores": lambda w: scored(w, np.zeros_like(np.asarray(w.summary.sums))),
    "one regulator": lambda w: only_rows(w, np.array([0])),
    "two regulators": lambda w: only_rows(w, np.array([0, 1])),
    "ten pairs": ten_pairs,
    "no positive ever met": never_met,
}  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return make_world("planted_pairs", seed=3, n_regulators=10, n_genes=40, n_cells=80, n_edges=40)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("name", NAMES)
def test_every_planned_test_is_answered_or_has_its_reason(name, case, world):
    spec = ANALYSES[name]
    given = replace(CASES[case](world), parameters=dict(spec.parameters))
    planned = spec.plan(given.request)
    outcome = spec.run(given)
    records = {r.id: r for r in outcome.records}
    assert set(records) == {t.id for t in planned}
    for record in records.values():
        assert record.p_raw is not None or len(record.undefined) > 10, record
    if case in ("no positives", "all positives", "no positive ever met"):
        for test in planned:
            assert records[test.id].p_raw is None, "a p-value was made of nothing"
    ledger = TestLedger(planned)
    for record in outcome.records:
        ledger.record(record)
    ledger.close()
    for verdict in decide({name: outcome}, ledger, model=given.request.model, reference=given.request.reference,
                          settings=SETTINGS):  # fmt: skip
        assert str(verdict.state) == "inconclusive" or case not in ("no positives", "all positives")


def test_the_world_itself_is_answered(world):
    """The cases above are refused for what was done to them, not for the size of this world."""
    spec = ANALYSES["reference_recovery"]
    outcome = spec.run(replace(world.input(settings=SETTINGS), parameters=dict(spec.parameters)))
    assert {r.undefined for r in outcome.records if "pooled_above_chance" in r.id} == {""}
