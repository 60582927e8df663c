"""Conformal sets of responses: promises kept out of sample, trivial where perturbations are few, transfer, tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.analyses.conformal import SPEC
from regulens.analyses.conformal_published import run_published
from regulens.analyses.conformal_rows import (
    CLASSES,
    EXPRESSION,
    GUARANTEES,
    ONE,
    PAIRS,
    TABLES,
    WHOLE,
    Counted,
    Side,
    combined_p,
    elsewhere,
    in_screen,
)
from regulens.analyses.probabilities import quarters
from regulens.errors import ParameterError
from regulens.testing.worlds.screens import make_screen_input
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Undefined

FAST = StatisticsSettings(bootstrap=200, permutations=99)
SMALL = {"methods": [], "repeats": 4}
COMMON = {"methods": tuple(GUARANTEES), "delta": 0.1, "to_unit": "rank", "calibrator": "platt"}


@pytest.fixture(scope="module")
def planted():
    inp = make_screen_input("planted_network", seed=1, n_perturbations=14, n_genes=100, second="same", settings=FAST)
    inp = replace(inp, parameters=SMALL)
    return inp, SPEC.run(inp)


def side(rng, n, *, genes=50, slope=1.0, shift=0.0):
    """Exchangeable perturbations that differ in base rate and in how well the score works."""
    i, j = (a.ravel() for a in np.indices((n, genes)))
    s = rng.normal(size=len(i))
    y = rng.random(len(i)) < expit(shift - 1.5 + rng.normal(size=n)[i] + slope * rng.lognormal(0, 0.5, n)[i] * s)
    return Side(score=s, label=y, group=i, third=np.arange(genes)[j] * 3 // genes)


def records_of(outcome):
    return {r.id.split("/")[-1]: r for r in outcome.records}


def test_promises_hold_on_average_over_screens():
    """40 perturbations: 20 calibrate, 10 are judged, in 4 turns of 60 screens; bounds as the page gives them."""
    alphas, rows = (0.1, 0.2), {}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = in_screen(side(rng, 40), quarters(40, 4, rng), alphas=alphas, rng=rng, **COMMON)
        for row in found.rows:
            rows.setdefault((row["method"], row["alpha"]), []).append(row)
    mean = {
        k: {c: np.mean([r[c] for r in v]) for c in ("coverage", "coverage_no", "coverage_yes", "kept")}
        for k, v in rows.items()
    }
    error = {k: np.std([r["coverage"] for r in v]) / np.sqrt(60) for k, v in rows.items()}
    for alpha in alphas:
        low, n_cal = 1 - alpha, 20
        for method, width in ((ONE, 1), (PAIRS, 2), (EXPRESSION, 2)):
            at, se = mean[method, alpha]["coverage"], error[method, alpha]
            assert low - 3.5 * se <= at <= low + width / (n_cal + 1) + 3.5 * se, (method, alpha)
        for c in ("coverage_no", "coverage_yes"):
            assert low - 0.02 <= mean[CLASSES, alpha][c] <= low + 2 / (n_cal + 1) + 0.02
        assert 0.9 - 0.02 <= mean[WHOLE, alpha]["kept"] <= 0.9 + 1 / (n_cal + 1) + 0.02
        assert mean[PAIRS, alpha]["kept"] < 0.86  # covering on average is not covering every perturbation
        assert mean[PAIRS, alpha]["coverage_yes"] < mean[PAIRS, alpha]["coverage_no"] - 0.1


def test_too_few_perturbations_say_nothing_and_that_is_said():
    rng = np.random.default_rng(0)
    found = in_screen(side(rng, 9), quarters(9, 4, rng), alphas=(0.05, 0.2), rng=rng, **COMMON)
    for row in found.rows:
        if row["method"] != WHOLE and row["alpha"] == 0.05:
            assert (row["coverage"], row["size"], row["singleton"]) == (1.0, 2.0, 0.0)
            assert row["n_calibrating"] < row["n_needed"] == 19
    assert found.tests[0.05] == [1.0] * 4


def test_the_split_with_fewest_perturbations_says_whether_there_are_enough():
    """18 are dealt into quarters of 5 and 4: where two of 4 calibrate, every set holds both labels."""
    rng = np.random.default_rng(0)
    parts = quarters(18, 4, rng)
    assert {int(((p > 0) & (p < 3)).sum()) for p in parts} == {8, 9, 10}
    found = in_screen(side(rng, 18), parts, alphas=(0.1,), rng=rng, **COMMON)
    assert {r["n_calibrating"] for r in found.rows} == {8}


def test_a_score_that_separates_gives_singletons_of_both_labels():
    rng = np.random.default_rng(1)
    rows = {}
    for slope in (0.0, 6.0):
        found = in_screen(side(rng, 40, slope=slope), quarters(40, 4, rng), alphas=(0.2,), rng=rng, **COMMON)
        rows[slope] = next(r for r in found.rows if r["method"] == CLASSES)
    assert rows[6.0]["singleton"] > rows[0.0]["singleton"] + 0.2
    assert rows[6.0]["called_right"] > rows[0.0]["called_right"] + 0.2


def test_the_test_keeps_its_level_and_finds_screens_that_are_unlike():
    hits = {0.0: 0, 4.0: 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        first = side(rng, 40)
        for shift in hits:
            other = side(rng, 60, shift=shift)
            _, tests = elsewhere(
                first, quarters(40, 4, rng), other, alphas=(0.1,), rng=rng, **COMMON | {"methods": (ONE,)}
            )
            hits[shift] += combined_p(tests[0.1]) <= 0.05
    assert hits[0.0] <= 5
    assert hits[4.0] >= 20  # half of the screens whose genes mostly respond, where few did


def test_counting_is_a_loop_over_pairs():
    rng = np.random.default_rng(2)
    given, inside = side(rng, 6), rng.random((300, 2)) < 0.6
    row = Counted.of(inside, given, 7).row()
    hit, size = np.where(given.label, inside[:, 1], inside[:, 0]), inside.sum(axis=1)

    def mean(values, at=slice(None)):
        return np.mean([values[at][given.group[at] == g].mean() for g in np.unique(given.group[at])])

    called = inside[:, 1] & ~inside[:, 0]
    assert row["coverage"] == pytest.approx(mean(hit))
    assert row["coverage_yes"] == pytest.approx(mean(hit, given.label))
    assert row["coverage_no"] == pytest.approx(mean(hit, ~given.label))
    assert row["size"] == pytest.approx(mean(size))
    assert (row["empty"], row["singleton"], row["both"]) == tuple(pytest.approx(mean(size == k)) for k in range(3))
    assert row["called"] == pytest.approx(mean(called))
    assert row["called_right"] == pytest.approx(given.label[called].mean())


def test_every_test_is_recorded_and_none_is_confirmatory(planted):
    inp, outcome = planted
    planned = SPEC.plan(inp.request)
    assert {r.id for r in outcome.records} == {t.id for t in planned}
    assert not any(t.confirmatory for t in planned)
    assert {t.endpoint for t in planned} == {Endpoint.PERTURBATION_RESPONSE}
    table = outcome.tables["conformal"]
    assert list(table.columns) == TABLES["conformal"]
    assert set(table["method"]) == set(GUARANTEES)
    assert set(table["alpha"]) == {0.05, 0.1, 0.2}
    assert (table["n_calibrating"] == 6).all()  # 13 perturbations: 6 or 7
    assert outcome.facts["n_needed"] == 9
    assert outcome.facts["coverage"] == 1.0  # 6 perturbations are fewer than 9
    assert "every set holds both labels" in records_of(outcome)["covers_too_few"].undefined
    assert all("every set holds both labels" in r.estimate.reason for r in outcome.results)


def test_enough_perturbations_have_numbers():
    inp = make_screen_input("planted_network", seed=2, n_perturbations=20, n_genes=80, settings=FAST)
    outcome = SPEC.run(replace(inp, parameters=SMALL))
    assert outcome.facts["n_calibrating"] >= 9
    assert records_of(outcome)["covers_too_few"].p_raw > 0.05
    coverage, called = (r.estimate for r in outcome.results)
    assert 0.7 < coverage.value < 1
    assert coverage.unit == "perturbation"
    assert called.value > 0
    assert ANALYSES["conformal"] is SPEC


def test_transfer_has_no_guarantee_and_needs_a_second_screen(planted):
    inp, outcome = planted
    assert set(outcome.tables["conformal_transfer"]["screen"]) == {"second_screen"}
    assert "guarantee" not in outcome.tables["conformal_transfer"]
    assert not records_of(outcome)["covers_too_few_elsewhere"].undefined
    alone = SPEC.run(replace(inp, others={}))
    assert records_of(alone)["covers_too_few_elsewhere"].undefined == "the study has one screen"
    assert alone.tables["conformal"].equals(outcome.tables["conformal"])


def test_the_same_sets_with_more_workers(planted):
    inp, outcome = planted
    assert SPEC.run(replace(inp, jobs=2)).tables["conformal"].equals(outcome.tables["conformal"])


def test_degenerate_input_is_undefined(planted):
    inp, _ = planted
    for positive in (np.zeros_like(inp.universe.positive), inp.universe.candidate):
        outcome = SPEC.run(replace(inp, universe=replace(inp.universe, positive=positive)))
        assert all(r.undefined for r in outcome.records)
        assert all(isinstance(r.estimate, Undefined) for r in outcome.results)
        assert [(r.metric, r.null_value) for r in outcome.results] == [("coverage", 0.9), ("singleton_share", 0.0)]
        assert all(r.mde is None for r in outcome.results)
    flat = {d: replace(s, values=np.ones_like(s.values)) for d, s in inp.attention.items()}
    outcome = SPEC.run(replace(inp, attention=flat, others={}))
    own = outcome.tables["conformal"].query("score == 'pooled' and method == 'one_per_perturbation' and alpha == 0.2")
    assert own["coverage"].item() > 0.6  # ties are broken, not let in or out together
    with pytest.raises(ParameterError, match="Expected alphas and delta"):
        SPEC.run(replace(inp, parameters={"alphas": [1.5]}))


def test_published_sets_are_split_over_pairs(planted):
    inp, _ = planted
    inp = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    outcome = SPEC.run(inp)
    assert {r.id for r in outcome.records} == {t.id for t in SPEC.plan(inp.request)}
    assert {r.estimate.unit for r in outcome.results} == {"pair"}
    assert outcome.tables["published"]["alpha"].tolist() == [0.05, 0.05]
    none = np.zeros_like(inp.universe.candidate)
    empty = replace(inp, universe=replace(inp.universe, candidate=none, positive=none))
    assert all(r.undefined for r in run_published(empty, "conformal").records)
