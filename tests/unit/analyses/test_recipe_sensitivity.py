"""Definitions of attention: transforms against plain code, the plan's recipe unchanged, confounders not rewarded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from regulens.analyses.attention_recipes import (
    DIRECTIONS,
    NEVER,
    TRANSFORMED,
    _layer_maps,
    double_centred,
    product_corrected,
    ranked,
    row_centred,
)
from regulens.analyses.base import StatisticsSettings
from regulens.analyses.recipe_sensitivity import SPEC, pre_registered
from regulens.analyses.reference_recovery import SPEC as RECOVERY
from regulens.errors import ParameterError
from regulens.stats.ranking import auroc
from regulens.testing.worlds import make_world
from regulens.types.attention import Direction
from regulens.types.estimates import Undefined

FAST = StatisticsSettings(bootstrap=200, permutations=50)
SMALL = {"n_regulators": 20, "n_genes": 80, "n_edges": 160}


@pytest.fixture(scope="module")
def world():
    return make_world("planted_pairs", seed=1, **SMALL)


@pytest.fixture(scope="module")
def given(world):
    return world.input(settings=FAST)


@pytest.fixture(scope="module")
def outcome(given):
    return SPEC.run(given)


def record(outcome, test):
    return next(r for r in outcome.records if r.id.endswith(f"/{test}"))


def row(outcome, recipe, layers="all", direction="regulator_attends", missing="exclude"):
    t = outcome.tables["recipes"]
    mine = (t["recipe"] == recipe) & (t["layers"] == layers)
    mine &= (t["direction"] == direction) & (t["missing"] == missing)
    assert mine.sum() == 1
    return t[mine].iloc[0]


def test_transforms_equal_plain_code_on_a_map_with_holes():
    rng = np.random.default_rng(0)
    seen = rng.random((5, 9)) < 0.7
    a = np.where(seen, rng.random((5, 9)).round(1), 0.0)  # rounded: with ties
    n = np.where(seen, a, np.nan)
    rows, columns, grand = np.nanmean(n, 1, keepdims=True), np.nanmean(n, 0, keepdims=True), np.nanmean(n)
    np.testing.assert_allclose(row_centred(a, seen)[seen], (n - rows)[seen])
    np.testing.assert_allclose(double_centred(a, seen)[seen], (n - rows - columns + grand)[seen])
    np.testing.assert_allclose(product_corrected(a, seen)[seen], (n - rows * columns / grand)[seen])
    by_row = np.full(a.shape, np.nan)
    for i in range(5):
        by_row[i, seen[i]] = (rankdata(a[i, seen[i]]) - 0.5) / seen[i].sum()
    both = np.full(a.shape, np.nan)
    for j in range(9):
        both[seen[:, j], j] = (rankdata(by_row[seen[:, j], j]) - 0.5) / max(seen[:, j].sum(), 1)
    np.testing.assert_allclose(ranked(a, seen)[seen], both[seen])


def test_a_product_of_margins_leaves_nothing():
    a = np.outer([1.0, 2.0, 3.0], [1.0, 4.0])
    assert np.abs(product_corrected(a, np.ones_like(a, bool))).max() < 1e-12
    additive = np.add.outer([1.0, 2.0, 3.0], [1.0, 4.0])
    assert np.abs(double_centred(additive, np.ones_like(a, bool))).max() < 1e-12
    assert product_corrected(np.zeros((2, 2)), np.ones((2, 2), bool)).tolist() == [[0, 0], [0, 0]]


def test_layer_maps_are_those_of_the_scorer(given):
    for direction in Direction:
        got = _layer_maps(given.partitions.summary, direction, given.universe, 5)
        wanted = given.attention[str(direction)].select(got.names)
        seen = wanted.observed & given.universe.candidate
        assert np.array_equal(got.observed, seen)
        np.testing.assert_allclose(got.values[:, seen], wanted.values[:, seen], rtol=1e-12)


def test_every_planned_test_is_recorded(given, outcome):
    assert [r.id for r in outcome.records] == [t.id for t in SPEC.plan(given.request)]
    assert all(r.p_raw is not None for r in outcome.records)


def test_the_recipe_of_the_plan_has_the_numbers_of_reference_recovery(given, outcome):
    top = outcome.tables["recipes"].iloc[0]
    assert top["pre_registered"]
    assert outcome.tables["recipes"]["pre_registered"].sum() == 1
    recovery = RECOVERY.run(given)
    assert top["auroc"] == recovery.facts["auroc"]
    assert (top["low"], top["high"]) == pytest.approx((recovery.facts["auroc_low"], recovery.facts["auroc_high"]))
    same = next(r for r in recovery.records if r.id.endswith("pooled_above_chance"))
    assert record(outcome, "pre_registered_above_chance").p_raw == pytest.approx(same.p_raw)


def test_every_recipe_is_the_auroc_of_its_map(given, outcome):
    ok = given.primary.observed & given.coexpression.observed & given.universe.candidate
    y = given.universe.positive[ok]
    a, b = (given.attention[d].select(["L01_mean"]).values[0] for d in DIRECTIONS[:2])
    seen = given.primary.observed & given.universe.candidate
    for direction, m in zip(DIRECTIONS, (a, b, (a + b) / 2, np.maximum(a, b))):
        for recipe, made in {
            "probability": m,
            **{k: f(np.where(seen, m, 0.0), seen) for k, f in TRANSFORMED.items()},
        }.items():
            wanted = auroc(made[ok][None], y)[0]
            assert row(outcome, recipe, "1", direction)["auroc"] == pytest.approx(wanted, abs=1e-12)


def test_missing_as_zero_takes_all_candidates_in(given, outcome):
    one = row(outcome, "probability", missing="zero")
    assert one["n_pos"] == int((given.universe.positive & given.coexpression.observed).sum())
    assert row(outcome, "probability")["n_pos"] < one["n_pos"]
    assert not (
        (outcome.tables["recipes"]["missing"] == "zero") & (outcome.tables["recipes"]["recipe"] == "rank")
    ).any()


def test_direction_follows_the_world_when_it_is_transposed(world, outcome):
    turned = SPEC.run(world.transposed().input(settings=FAST))
    here, there = row(outcome, "probability"), row(turned, "probability", direction="target_attends")
    assert here["auroc"] == pytest.approx(there["auroc"], abs=1e-12)
    assert row(turned, "probability")["auroc"] < 0.65


def test_the_plan_may_name_a_layer_or_the_other_direction_and_a_head_has_no_recipe(given):
    layer = replace(given, request=replace(given.request, primary="L02_mean", direction="target_attends"))
    found = pre_registered(layer)
    assert (found.layers, found.direction) == ("2 (last)", "target_attends")
    head = SPEC.run(replace(given, request=replace(given.request, primary="L00_H01")))
    assert "one head" in record(head, "pre_registered_above_chance").undefined
    assert not head.tables["recipes"]["pre_registered"].any()
    assert head.results == ()


def test_other_recipes_enter_when_they_were_extracted_and_gaps_have_their_reason(given):
    own = given.partitions.summary
    counts = np.asarray(own.counts)[:, None, None, None]
    share = np.asarray(own.sums) / np.maximum(counts, 1)
    logs = replace(own, sums=(np.log(share + 1e-12) * counts).astype(np.float64), kind="log_probability")
    inp = replace(given, recipes={"log_probability": logs}, recipe_gaps={"logit": "the model is causal"})
    out = SPEC.run(inp)
    lost = out.tables["recipes_left_out"].set_index("recipe")["reason"]
    assert lost["logit"] == "the model is causal"
    assert lost["value_weighted"] == "not extracted for this study"
    assert set(NEVER) <= set(lost.index)
    assert row(out, "log_probability")["auroc"] > 0.6
    assert not (out.tables["recipes"].query("recipe == 'log_probability'")["missing"] == "zero").any()


def test_adjusted_p_allows_for_the_search(outcome):
    t = outcome.tables["recipes"]
    assert record(outcome, "some_recipe_above_chance").p_raw == t["p_recipes"].min()
    assert record(outcome, "some_recipe_above_strictest_null").p_raw == t["p_recipes_null"].min() < 0.05
    assert (t["null_auroc"] >= t["null_auroc"].min()).all()
    np.testing.assert_allclose(t["auroc"] - t["null_auroc"], t["delta"], atol=1e-12)


def test_hubs_are_not_rewarded_and_a_leak_is():
    world = make_world("hubs_only", seed=4, **SMALL)
    out = SPEC.run(world.input(settings=FAST))
    assert record(out, "some_recipe_above_chance").p_raw < 0.05
    assert record(out, "some_recipe_above_strictest_null").p_raw > 0.05
    assert "marginal_product" in set(out.tables["recipes"]["strictest_null"])
    leak = SPEC.run(world.leaking().input(settings=FAST))
    assert record(leak, "some_recipe_above_strictest_null").p_raw < 0.05


def test_no_signal_is_rarely_called_one():
    """12 worlds: more than 3 rejections at 5 % have probability 0.002."""
    p = []
    for seed in range(12):
        inp = make_world("no_signal", seed=seed, n_regulators=15, n_genes=60, n_edges=90, n_cells=80).input(
            settings=FAST
        )
        out = SPEC.run(inp)
        p.append([record(out, f"some_recipe_above_{x}").p_raw for x in ("chance", "strictest_null")])
    assert ((np.array(p) < 0.05).sum(axis=0) <= 3).all()


@pytest.mark.parametrize("case", ["no positives", "no attention", "constant"])
def test_degenerate_data_have_reasons(given, case):
    if case == "no positives":
        inp = replace(given, universe=replace(given.universe, positive=np.zeros_like(given.universe.positive)))
        wanted = "needed"
    elif case == "no attention":
        inp, wanted = replace(given, partitions=None), "from its weights alone"
    else:
        flat = replace(given.partitions.summary, sums=np.ones_like(np.asarray(given.partitions.summary.sums)))
        counts = np.ones_like(np.asarray(given.partitions.summary.counts)) * 30
        inp = replace(
            given, partitions=replace(given.partitions, summary=replace(flat, counts=counts)),
            attention={d: replace(s, values=np.full_like(s.values, 0.1)) for d, s in given.attention.items()},
        )  # fmt: skip
        wanted = ""
    out = SPEC.run(inp)
    assert [r.id for r in out.records] == [t.id for t in SPEC.plan(inp.request)]
    if wanted:
        assert all(wanted in r.undefined for r in out.records)
        assert all(isinstance(r.estimate, Undefined) for r in out.results)
    else:
        assert record(out, "some_recipe_above_chance").undefined == "no recipe has a standard error"


def test_policies_are_checked(given):
    with pytest.raises(ParameterError, match="Expected missing policies among exclude, zero"):
        SPEC.run(replace(given, parameters={**SPEC.parameters, "missing": ["zero"]}))
