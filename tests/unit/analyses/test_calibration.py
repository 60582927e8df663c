"""Scores as probabilities: splits by perturbation, what is fitted where, base rate, transfer, label rules, levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.analyses.calibration import SPEC, _gain, _over_splits, with_rule
from regulens.analyses.calibration_published import _ece_draws, published_labels, run_published, squeezed
from regulens.analyses.calibration_tables import TABLES, curve_rows
from regulens.analyses.calibration_transfer import WAYS, transfer
from regulens.analyses.judged import BASE_RATE, METRICS, RAW, ece_moved, judge, out_of_sample
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.analyses.probabilities import CALIBRATE, TEST, quarters, scores_of
from regulens.errors import InputError, ParameterError
from regulens.rng import stream
from regulens.stats.calibration_error import equal_width
from regulens.stats.calibrators import CALIBRATORS, RankMap
from regulens.stats.inference import mean_inference
from regulens.testing.worlds.screens import make_screen_input
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges

FAST = StatisticsSettings(bootstrap=200, permutations=99)
SMALL = {"methods": [], "repeats": 4}
ALL = ("platt", "isotonic", "beta")


def world_input(kind="planted_network", **options):
    made = {"seed": 1, "n_perturbations": 14, "n_genes": 100, "settings": FAST} | options
    return replace(make_screen_input(kind, **made), parameters=SMALL)


@pytest.fixture(scope="module")
def planted():
    inp = world_input(second="same")
    return inp, SPEC.run(inp)


def records_of(outcome):
    return {r.id.split("/")[-1]: r for r in outcome.records}


def pairs(seed=0, n=24, genes=60, slope=1.0, gene=0.0):
    """Score, label and perturbation of pairs whose base rate differs between perturbations (and genes)."""
    rng = np.random.default_rng(seed)
    i, j = (a.ravel() for a in np.indices((n, genes)))
    s = rng.normal(size=len(i)) + 0.7 * rng.normal(size=genes)[j]
    y = rng.random(len(i)) < expit(-2 + 0.6 * rng.normal(size=n)[i] + gene * rng.normal(size=genes)[j] + slope * s)
    return s, y, i, j


def test_every_perturbation_is_judged_equally_often_and_dealt_without_its_responses():
    part = quarters(13, 12, np.random.default_rng(0))
    assert part.shape == (12, 13)
    for quarter in range(4):
        assert ((part == quarter).sum(axis=0) == 3).all()
    assert {tuple(sorted(np.bincount(p))) for p in part} == {(3, 3, 3, 4)}
    with pytest.raises(ParameterError, match="multiple of 4"):
        quarters(13, 6, np.random.default_rng(0))


def test_out_of_sample_is_a_loop_over_repeats_that_never_sees_a_judged_perturbation():
    s, y, g, _ = pairs()
    parts = quarters(24, 4, np.random.default_rng(1))
    found = out_of_sample(s, y, g, parts, to_unit="rank", calibrators=ALL, base_rate=True)
    p_sum, square = np.zeros(len(s)), np.zeros(len(s))
    for r, part in enumerate(parts):
        role = part[g]
        fit, cal, held = role < CALIBRATE, role == CALIBRATE, role == TEST
        assert not set(g[held]) & (set(g[fit]) | set(g[cal]))
        to_unit = RankMap.fit(s[fit])
        p = CALIBRATORS["beta"](to_unit(s[cal]), y[cal])(to_unit(s[held]))
        np.testing.assert_allclose(found["beta"].metrics[r], judge(p, y[held]), atol=1e-10)
        np.testing.assert_allclose(found[RAW].metrics[r][0], equal_width(to_unit(s[held]), y[held]).ece, atol=1e-12)
        np.testing.assert_allclose(
            found[BASE_RATE].metrics[r][METRICS.index("brier")], np.mean((y[cal].mean() - y[held]) ** 2), atol=1e-12
        )
        p_sum[held] += p
        square[held] += (p - y[held]) ** 2
    np.testing.assert_allclose(found["beta"].p, p_sum, atol=1e-10)  # four turns of one deal judge every pair once
    np.testing.assert_allclose(found["beta"].square, square, atol=1e-10)


def test_labels_of_judged_perturbations_move_no_probability():
    s, y, g, _ = pairs(2)
    parts = quarters(24, 4, np.random.default_rng(1))[:1]
    first = out_of_sample(s, y, g, parts, to_unit="rank", calibrators=ALL)
    other = np.where(parts[0][g] == TEST, ~y, y)
    second = out_of_sample(s, other, g, parts, to_unit="rank", calibrators=ALL)
    for way in (RAW, *ALL):
        np.testing.assert_array_equal(first[way].p, second[way].p)
    leaking = np.where(parts[0][g] == CALIBRATE, ~y, y)
    third = out_of_sample(s, leaking, g, parts, to_unit="rank", calibrators=ALL)
    assert np.abs(first["platt"].p - third["platt"].p).max() > 0.1  # the check can fail


def test_leaving_a_perturbation_out_moves_the_ece_as_said():
    s, y, g, _ = pairs(3, n=9)
    p = expit(s - 1)
    moved = ece_moved(p, y, g, 9)
    for k in range(9):
        keep = g != k
        assert moved[k] == pytest.approx(equal_width(p[keep], y[keep]).ece - equal_width(p, y).ece, abs=1e-12)
    absent = ece_moved(p[g > 0], y[g > 0], g[g > 0], 9)
    assert absent[0] == 0


def test_planted_pairs_give_probabilities_with_resolution(planted):
    inp, outcome = planted
    records = records_of(outcome)
    assert {r.id for r in outcome.records} == {t.id for t in SPEC.plan(inp.request)}
    assert {t.endpoint for t in SPEC.plan(inp.request)} == {Endpoint.PERTURBATION_RESPONSE}
    assert records["better_than_base_rate"].p_raw < 0.01
    table = outcome.tables["calibration"].set_index(["score", "calibration"])
    assert list(outcome.tables["calibration"].columns) == TABLES["calibration"]
    own, base = table.loc[("pooled", "platt")], table.loc[("", "base_rate")]
    assert outcome.tables["calibration"]["calibration"].iloc[0] == "base_rate"  # what knows nothing is read first
    assert own["resolution"] > 3 * table.loc[("random", "platt"), "resolution"]
    assert own["resolution"] > 5 * base["resolution"]
    assert own["skill"] > 0.02
    assert base["skill"] == 0
    assert base["ece"] < table.loc[("pooled", "raw"), "ece"]  # a base rate is calibrated and says nothing
    parts = table["reliability"] - table["resolution"] + table["uncertainty"] + table["within_bins"]
    np.testing.assert_allclose(parts, table["brier"], atol=1e-12)
    assert table.loc[("pooled", "raw"), "auroc"] == pytest.approx(own["auroc"], abs=0.02)
    assert outcome.facts["ece"] == own["ece"]
    assert ANALYSES["calibration"] is SPEC


def test_only_the_gain_over_the_base_rate_is_confirmatory(planted):
    inp, _ = planted
    assert [t.id.split("/")[-1] for t in SPEC.plan(inp.request) if t.confirmatory] == ["better_than_base_rate"]
    published = SPEC.plan(replace(inp.request, protocol=Protocol.PUBLISHED))
    assert [t.confirmatory for t in published] == [False]


def test_transfer_needs_a_second_screen(planted):
    inp, outcome = planted
    table = outcome.tables["calibration_transfer"]
    assert set(table["calibration"]) == set(WAYS)
    assert set(table["screen"]) == {"second_screen"}
    assert (table["n_shared"] > 0).all()
    assert not records_of(outcome)["transfer_worse_than_local"].undefined
    alone = SPEC.run(replace(inp, others={}, request=replace(inp.request, others=())))
    record = records_of(alone)["transfer_worse_than_local"]
    assert record.undefined == "the study has one screen"
    assert not len(alone.tables["calibration_transfer"])

    def broken():
        message = "Expected perturbations, got none."
        raise InputError(message)

    record = records_of(SPEC.run(replace(inp, others={"second_screen": broken})))["transfer_worse_than_local"]
    assert record.undefined == "Expected perturbations, got none."


def test_frozen_probabilities_fail_where_the_base_rate_changes_and_the_correction_helps():
    s1, y1, _, _ = pairs(4, n=40)
    s2, y2, g2, _ = pairs(5, n=40)
    rng = np.random.default_rng(0)
    few = ~y2 | (rng.random(len(y2)) < 0.2)
    parts = quarters(40, 8, rng)
    found = transfer((s1, y1), (s2[few], y2[few], g2[few]), parts, to_unit="rank", calibrator="platt")
    ece = {w: found.of(w)["ece"] for w in WAYS}
    assert ece["frozen"] > 2 * ece["frozen_new_base_rate"]
    assert ece["frozen"] > 2 * ece["local"]
    assert ece["base_rate_frozen"] > 2 * ece["base_rate_local"]
    same = transfer((s1, y1), (s2, y2, g2), parts, to_unit="rank", calibrator="platt")
    assert same.of("frozen")["ece"] < 0.05


def test_label_rules_are_of_the_same_pairs(planted):
    inp, outcome = planted
    table = outcome.tables["calibration_rules"]
    study = table[table["rule"] == "of_the_study"].iloc[0]
    assert study["n_pos"] == outcome.facts["n_pos"]
    main = outcome.tables["calibration"].set_index(["score", "calibration"])
    for way, score in (("raw", "pooled"), ("platt", "pooled"), (BASE_RATE, "")):  # on the same splits
        row = table[(table["rule"] == "of_the_study") & (table["calibration"] == way)].iloc[0]
        assert row["brier"] == pytest.approx(main.loc[(score, way), "brier"], abs=1e-12)
    by_rule = table.groupby("rule")["n_pos"].first()
    assert by_rule["any_effect"] >= by_rule["half_the_effect"] >= by_rule["of_the_study"] >= by_rule["twice_the_effect"]
    rule = inp.screen.labels.rule
    again = with_rule(inp, rule).universe
    np.testing.assert_array_equal(again.positive, inp.universe.positive)
    assert with_rule(inp, replace(rule, min_effect=99.0)).universe.positive.sum() == 0


def test_reliability_bands_hold_the_shares_and_widen_with_fewer_perturbations():
    s, y, g, _ = pairs(6, n=40)
    p = expit(s - 2)
    rng = np.random.default_rng(0)
    wide = {}
    for n in (8, 40):
        keep = g < n
        draws = rng.multinomial(n, np.full(n, 1 / n), size=400)
        rows = curve_rows("a", "raw", p[keep], y[keep], g[keep], draws, 0.95)
        assert sum(r["n_pairs"] for r in rows) == keep.sum()
        assert all(r["low"] <= r["observed"] <= r["high"] for r in rows)
        wide[n] = np.mean([r["high"] - r["low"] for r in rows])
    assert wide[8] > 1.5 * wide[40]
    assert (
        len(curve_rows("a", "base_rate", np.full(9, 0.2), np.arange(9) < 2, np.arange(9), np.eye(9, dtype=int), 0.95))
        == 1
    )


def gain_p(seed, *, n, gene, slope, calibrator="platt"):
    s, y, i, j = pairs(seed, n=n, genes=80, slope=slope, gene=gene)
    parts = quarters(n, 4, np.random.default_rng(seed))
    found = out_of_sample(s, y, i, parts, to_unit="rank", calibrators=(calibrator,), base_rate=True)
    inference = mean_inference((found[BASE_RATE].square - found[calibrator].square)[None], i, j)
    return 1.0 if inference.undefined[0] else float(inference.p_greater(0.0)[0])


@pytest.mark.parametrize(("n", "gene"), [(10, 1.5), (24, 0.0)])
def test_a_score_that_knows_nothing_is_not_better_than_the_base_rate(n, gene):
    """Also where genes have responses and scores of their own, which have nothing to do with each other."""
    hits = sum(gain_p(s, n=n, gene=gene, slope=0.0) <= 0.05 for s in range(40))
    assert hits <= 5  # 0.05 of 40 is 2; six or more in one of 70 runs
    assert sum(gain_p(s, n=n, gene=gene, slope=1.5) <= 0.05 for s in range(8)) >= 7


@pytest.mark.long
@pytest.mark.parametrize("calibrator", ["platt", "isotonic", "beta"])
@pytest.mark.parametrize(("n", "gene"), [(10, 0.0), (10, 1.5), (60, 1.5)])
def test_the_level_holds_over_many_screens(n, gene, calibrator):
    hits = sum(gain_p(s, n=n, gene=gene, slope=0.0, calibrator=calibrator) <= 0.05 for s in range(400))
    assert hits <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_a_probability_read_in_its_own_sample_would_pass():
    """The broken twin: isotonic steps fitted and judged on the same pairs of a score of noise."""
    s, y, g, _ = pairs(7, slope=0.0)
    u = RankMap.fit(s)(s)
    p = CALIBRATORS["isotonic"](u, y)(u)
    inside = float(np.mean((y.mean() - y) ** 2) - np.mean((p - y) ** 2))
    parts = quarters(24, 8, np.random.default_rng(0))
    found = out_of_sample(s, y, g, parts, to_unit="rank", calibrators=("isotonic",), base_rate=True)
    assert inside > 0
    assert found["isotonic"].mean("brier") > found[BASE_RATE].mean("brier")


def test_ece_drop_keeps_silent_where_scores_are_probabilities_already():
    hits = 0
    for seed in range(30):
        rng = stream(seed, "ece drop")
        g = np.repeat(np.arange(24), 60)
        s = rng.random(len(g))
        y = rng.random(len(g)) < s
        found = out_of_sample(s, y, g, quarters(24, 4, rng), to_unit="rank", calibrators=("platt",))
        drop = _over_splits(found[RAW].of("ece") - found["platt"].of("ece"), 24)
        hits += bool(not drop.undefined and drop.p_greater() <= 0.05)
    assert hits <= 5


@pytest.mark.parametrize("n", [12, pytest.param(40, marks=pytest.mark.long)])
def test_intervals_of_the_ece_hold_its_mean_over_screens(n):
    """Errors over splits are those of fits and of judged perturbations; the twin that takes splits for data fails."""
    draws, found = 60, {RAW: [], "platt": []}
    for seed in range(draws):
        s, y, g, _ = pairs(seed, n=n)
        judged = out_of_sample(
            s, y, g, quarters(n, 8, np.random.default_rng(seed)), to_unit="rank", calibrators=("platt",)
        )
        for way, kept in found.items():
            effect = _over_splits(judged[way].of("ece"), n)
            kept.append((effect.value, effect.se, *effect.bounds(0.95)))
    for kept in found.values():
        value, se, low, high = np.array(kept).T
        inside = (low <= value.mean()) & (value.mean() <= high)
        assert inside.mean() >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)
        naive = se * np.sqrt((1 / 8) / (1 / 8 + 1 / 3))
        assert (np.abs(value - value.mean()) <= 2.4 * naive).mean() < inside.mean()


def test_scores_are_those_of_the_methods(planted):
    inp, _ = planted
    names = [n for s in scores_of(inp, ("pearson",)) for n in s.names]
    assert names[:3] + names[-2:] == ["pooled", "coexpression_abs", "random", "pearson", "ensemble"]
    given = replace(inp, inferred={"pearson": scores_of(inp, ("pearson",))[3]})
    np.testing.assert_array_equal(
        scores_of(given, ("pearson",))[3].values, scores_of(inp, ("pearson",))[3].values
    )  # fmt: skip
    with pytest.raises(ParameterError, match="Expected a method among"):
        scores_of(inp, ("tarot",))
    with pytest.raises(ParameterError, match="Expected calibrator among"):
        SPEC.run(replace(inp, parameters={"calibrator": "plat"}))


def test_degenerate_input_is_undefined(planted):
    inp, _ = planted
    for positive in (np.zeros_like(inp.universe.positive), inp.universe.candidate):
        outcome = SPEC.run(replace(inp, universe=replace(inp.universe, positive=positive)))
        assert all(r.undefined for r in outcome.records)
        assert all(isinstance(r.estimate, Undefined) for r in outcome.results)
        assert [r.metric for r in outcome.results] == ["ece", "ece", "brier_gain"]
        assert all(r.mde is None for r in outcome.results)
    few = inp.universe.positive.copy()
    few[6:] = False
    outcome = SPEC.run(replace(inp, universe=replace(inp.universe, positive=few)))
    assert all("perturbations" in r.undefined for r in outcome.records)
    flat = {d: replace(s, values=np.ones_like(s.values)) for d, s in inp.attention.items()}
    record = records_of(SPEC.run(replace(inp, attention=flat, others={})))["better_than_base_rate"]
    assert "base rate" in record.undefined


def test_the_same_numbers_with_more_workers(planted):
    inp, outcome = planted
    again = SPEC.run(replace(inp, jobs=2, others={}))
    assert records_of(again)["better_than_base_rate"] == records_of(outcome)["better_than_base_rate"]
    assert again.tables["calibration"].equals(outcome.tables["calibration"])


def test_the_gain_is_the_difference_of_brier_scores(planted):
    inp, _ = planted
    per = PerPerturbation.build(inp, *scores_of(inp, ()))
    parts = quarters(per.n, 4, np.random.default_rng(0))
    group = np.searchsorted(per.row, per.edges.regulator)
    found = out_of_sample(
        per.edges.scores[0], per.edges.label, group, parts, to_unit="logit", calibrators=("platt",), base_rate=True
    )
    gain = _gain(per, found[BASE_RATE], found["platt"])
    pooled = (found[BASE_RATE].square - found["platt"].square).mean()
    assert gain.value == pytest.approx(pooled, abs=1e-12)
    assert "perturbations" in gain.method


def test_published_rule_and_split_over_pairs_are_a_reproduction(planted):
    inp, _ = planted
    inp = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    outcome = SPEC.run(inp)
    assert {r.id for r in outcome.records} == {t.id for t in SPEC.plan(inp.request)}
    positive, tested = published_labels(inp)
    assert positive.sum() >= inp.universe.positive.sum()
    assert positive[inp.universe.positive].all()
    assert not (positive & ~tested).any()
    effects = replace(inp.screen.labels.effects, scale="log2 fold change ('log2fc')")  # the bound is 0.1 of these
    labels = replace(inp.screen.labels, effects=effects)
    fewer, _ = published_labels(replace(inp, screen=replace(inp.screen, labels=labels)))
    assert fewer.sum() < positive.sum() and not (fewer & ~positive).any()
    table = outcome.tables["published"]
    assert table["calibration"].tolist() == ["raw", "platt", "isotonic"] * 2
    assert {r.estimate.unit for r in outcome.results} == {"pair"}
    empty = replace(
        inp, universe=replace(inp.universe, candidate=np.zeros_like(tested), positive=np.zeros_like(tested))
    )
    assert all(r.undefined for r in run_published(empty, "calibration").records)
    assert squeezed(np.ones(3)).tolist() == [0.5] * 3


def test_published_draws_resample_the_same_pairs_for_both_readings():
    rng = np.random.default_rng(0)
    p = rng.beta(1, 3, size=1000)
    y = rng.random(1000) < np.minimum(p + 0.05, 1)
    readings = [p, p**1.2]
    drawn = [rng.integers(0, 1000, 1000) for _ in range(1000)]
    loop = np.array([[equal_width(r[at], y[at]).ece for at in drawn] for r in readings])
    found = _ece_draws(readings, y, 1000, rng)
    np.testing.assert_allclose(found.mean(axis=1), loop.mean(axis=1), rtol=0.1)
    np.testing.assert_allclose(found.std(axis=1), loop.std(axis=1), rtol=0.15)
    assert np.subtract(*found).std() == pytest.approx(np.subtract(*loop).std(), rel=0.15)
    apart = np.subtract(*(_ece_draws([r], y, 1000, rng)[0] for r in readings))
    assert apart.std() > 1.5 * np.subtract(*loop).std()  # the twin that draws other pairs for each


def test_edges_without_scores_of_their_own_are_counted(planted):
    inp, outcome = planted
    edges = LabelledEdges.build(inp.primary, inp.universe)
    assert outcome.facts["n_pos"] <= edges.n_pos
    assert set(outcome.dropped) >= {"perturbations without responders or without others"}
