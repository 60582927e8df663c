"""Sensitivity to the reference: a second list that knows nothing is told apart, thinning equals plain recomputation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from regulens.analyses.base import StatisticsSettings
from regulens.analyses.incompleteness import random_subsets, thin_edges, wins_between
from regulens.analyses.reference_pairs import interaction, on_rows, share, swap_rows
from regulens.analyses.reference_sensitivity import SPEC
from regulens.stats.permutation import permutation_p
from regulens.testing.calibration import WORLDS
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.networks import ReferenceNetwork

FAST = StatisticsSettings(bootstrap=200, permutations=99)
SMALL = {"draws": 20, "dropped": [0.2, 0.6]}


@pytest.fixture(scope="module")
def first():
    """A study whose first reference attention knows; of the second it knows nothing."""
    inp = make_world("reference_dependent", seed=1).input(settings=FAST)
    ordered = {n: inp.universes[n] for n in (inp.request.reference, "second")}
    return replace(inp, universes=ordered, parameters=SMALL)


@pytest.fixture(scope="module")
def second(first):
    """The same study, seen from its second reference."""
    u = first.universes["second"]
    return replace(first, request=replace(first.request, reference="second"), universe=u)


@pytest.fixture(scope="module")
def outcome(second):
    return SPEC.run(second)


def test_a_reference_that_knows_nothing_is_told_from_one_that_attention_knows(first, outcome):
    (record,) = outcome.records
    assert record.p_raw < 0.01
    assert record.high < -0.05
    grid = outcome.tables["reference_grid"].set_index(["part", "slice"])
    other = first.request.reference
    assert grid.loc[("whole reference", "second"), "auroc"] < 0.6
    assert grid.loc[(f"pairs shared with {other}", other), "auroc"] > 0.7


def test_the_first_reference_and_a_single_one_have_no_test_and_say_so(first):
    found = SPEC.run(first)
    assert "first reference" in found.records[0].undefined
    assert len(found.tables["reference_pairs"]) == 1
    alone = SPEC.run(replace(first, universes={first.request.reference: first.universe}))
    assert "one reference" in alone.records[0].undefined
    assert alone.tables["reference_pairs"].empty
    assert len(alone.tables["reference_incompleteness"]) == 8


def test_the_same_list_twice_differs_by_nothing(first):
    u = first.universe
    twin = replace(
        first, request=replace(first.request, reference="twin"), universe=replace(u, reference="twin"),
        universes={first.request.reference: u, "twin": replace(u, reference="twin")},
    )  # fmt: skip
    found = SPEC.run(twin)
    row = found.tables["reference_pairs"].iloc[0]
    assert row["overlap"] == 1.0
    assert row["interaction"] == 0.0
    assert row["spearman"] == pytest.approx(1.0)
    assert "standard error is 0" in found.records[0].undefined


def test_interaction_is_what_plain_code_gives(first, second):
    shared = share(
        second, first.request.reference,
        {"attention": ["pooled"], "baselines": [], "coexpression": ["coexpression_abs"]}, symmetric=frozenset(),
    )  # fmt: skip
    e, names = shared.edges, ("pooled", "coexpression_abs")
    a, b, c, d = (roc_auc_score(y, e.score(n)) for y in (e.label, shared.other_label) for n in names)
    found = interaction(e, shared.other_label, names)
    assert found.value == pytest.approx((a - b) - (c - d), abs=1e-12)
    observed, null = swap_rows(e, shared.other_label, names, draws=50, rng=np.random.default_rng(0))
    assert observed == pytest.approx(found.value, abs=1e-10)
    assert np.isfinite(null).all()


@pytest.mark.parametrize("ties", [False, True])
def test_thinning_equals_recomputation_draw_by_draw(ties):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 400))
    if ties:
        scores = np.round(2 * scores) / 2
    label = rng.random(400) < 0.15
    keep = random_subsets(int(label.sum()), 20, draws=5, rng=rng)
    (found,) = thin_edges(scores, label, [keep])
    for d in range(5):
        y = label.copy()
        y[np.flatnonzero(label)[~keep[d]]] = False
        for s in range(2):
            assert found.auroc[s, d] == pytest.approx(roc_auc_score(y, scores[s]), abs=1e-12)
            assert found.average_precision[s, d] == pytest.approx(average_precision_score(y, scores[s]), abs=1e-12)


def test_thinning_to_nothing_or_to_everything():
    rng = np.random.default_rng(0)
    scores, label = rng.normal(size=(1, 50)), np.arange(50) < 6
    none, every = (random_subsets(6, n, draws=3, rng=rng) for n in (0, 6))
    found = thin_edges(scores, label, [none, every])
    assert np.isnan(found[0].auroc).all()
    np.testing.assert_allclose(found[1].auroc, roc_auc_score(label, scores[0]), atol=1e-12)
    assert np.isnan(thin_edges(scores, np.ones(50, dtype=bool), [np.ones((1, 50), dtype=bool)])[0].auroc).all()


def test_wins_between_groups_give_the_auroc_of_any_set_of_them():
    rng = np.random.default_rng(0)
    score, label = np.round(rng.normal(size=600), 1), rng.random(600) < 0.1
    group = rng.integers(0, 12, 600)
    table = wins_between(score, label, group, 12)
    member = random_subsets(12, 7, draws=4, rng=rng)
    for d, value in enumerate(table.auroc(member)):
        kept = member[d][group]
        assert value == pytest.approx(roc_auc_score(label[kept], score[kept]), abs=1e-12)
    assert np.isnan(table.auroc(np.zeros((1, 12)))[0])


def test_dropping_edges_at_random_keeps_the_mean_and_widens_the_range(outcome):
    table = outcome.tables["reference_incompleteness"]
    table = table[(table["score"] == "pooled") & (table["scheme"] == "edges at random")].set_index("dropped")
    assert table.loc[0.6, "high"] - table.loc[0.6, "low"] > table.loc[0.2, "high"] - table.loc[0.2, "low"]
    assert (table["auroc_ceiling"] < 1).all()
    assert table["n_pos"].tolist() == sorted(table["n_pos"], reverse=True)


def test_slices_leave_the_other_edges_out_of_the_pairs(first):
    i, j = np.nonzero(first.universe.positive)
    rng = np.random.default_rng(0)
    edges = pd.DataFrame(
        {"source": np.array(first.universe.regulators)[i], "target": np.array(first.universe.genes)[j],
         "sign": rng.integers(-1, 2, len(i)), "evidence": rng.choice(["a", "b", "a;b"], len(i))}
    )  # fmt: skip
    name = first.request.reference
    network = ReferenceNetwork(name=name, edges=edges)
    grid = SPEC.run(replace(first, networks={name: network})).tables["reference_grid"].set_index("slice")
    assert {"activation", "repression", "unknown sign", "a", "b", "2 or more sources"} <= set(grid.index)
    assert grid["n_neg"].iloc[:7].nunique() == 1
    three = ["activation", "repression", "unknown sign"]
    assert grid.loc[three, "n_pos"].sum() == grid["n_pos"].iloc[0]


def test_a_slice_without_enough_edges_has_a_reason(first):
    i, j = np.nonzero(first.universe.positive)
    sign = np.where(np.arange(len(i)) < 2, -1, 1)
    edges = pd.DataFrame(
        {"source": np.array(first.universe.regulators)[i], "target": np.array(first.universe.genes)[j], "sign": sign,
         "evidence": ""}
    )  # fmt: skip
    name = first.request.reference
    found = SPEC.run(replace(first, networks={name: ReferenceNetwork(name=name, edges=edges)}))
    row = found.tables["reference_grid"].set_index("slice").loc["repression"]
    assert np.isnan(row["auroc"])
    assert "needed" in row["note"]


def test_references_without_a_common_regulator_say_so(first, second):
    names = first.universe.regulators
    half = [
        on_rows(first.universes[r], part) for r, part in ((first.request.reference, names[:20]), ("second", names[20:]))
    ]
    apart = replace(first, universe=half[0], universes={"second": half[1], first.request.reference: half[0]})
    apart = replace(
        apart, attention={d: s.on(half[0]) for d, s in first.attention.items()}, baselines=first.baselines.on(half[0]),
        coexpression=first.coexpression.on(half[0]),
    )  # fmt: skip
    assert "no regulator" in SPEC.run(apart).records[0].undefined


def test_symmetric_references_lose_their_direction_on_shared_pairs(first, second):
    sym = SPEC.run(replace(second, parameters=SMALL | {"symmetric": ["second"]}))
    plain = SPEC.run(second)
    a, b = (o.tables["reference_pairs"].loc[0, "n_pairs"] for o in (sym, plain))
    n = len(second.universe.regulators)
    assert b - n * (n - 1) / 2 <= a < b


def test_transposed_attention_loses_the_lead():
    world = make_world("reference_dependent", seed=1)
    kept, lost = (
        SPEC.run(replace(w.input(settings=FAST), parameters=SMALL)).tables["reference_grid"].loc[0, "delta"]
        for w in (world, world.transposed())
    )
    assert kept > 0.1 > lost


@pytest.mark.parametrize("case", ["no positives", "all positives", "one regulator", "ten pairs"])
def test_too_little_data_is_refused_and_on_record(case, first):
    u = first.universe
    candidate, positive = u.candidate, np.zeros_like(u.positive)
    if case == "all positives":
        positive = candidate
    if case == "one regulator":
        positive[0, 5:30] = candidate[0, 5:30]
    if case == "ten pairs":
        candidate = candidate & (np.cumsum(candidate).reshape(candidate.shape) <= 10)
        positive = candidate & u.positive
    found = SPEC.run(replace(first, universe=replace(u, candidate=candidate, positive=positive)))
    assert "needed" in found.records[0].undefined
    assert all(isinstance(r.estimate, Undefined) for r in found.results)


def test_constant_scores_are_one_half_without_a_test(second):
    flat = {
        d: EdgeScores(
            values=np.full_like(s.values, 0.25), observed=s.observed, names=s.names, genes=s.genes,
            regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in second.attention.items()
    }  # fmt: skip
    found = SPEC.run(replace(second, attention=flat))
    assert found.tables["reference_incompleteness"].query("score == 'pooled'")["auroc"].eq(0.5).all()


def test_numbers_are_the_same_again(second, outcome):
    again = SPEC.run(second)
    for name, table in outcome.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


def rejections(name: str, worlds: int) -> tuple[float, float]:
    """Share of worlds without signal in which the jackknife, and the swap of rows, reject at 5 %."""
    world = replace(next(w for w in WORLDS if w.name == name), n_scores=2)
    rng = np.random.default_rng(0)
    mine, swap = [], []
    for _ in range(worlds):
        scores, label, regulator, target = world.draw(rng)
        other = world.draw(rng)[1]
        edges = LabelledEdges(
            scores=scores, names=("a", "b"), label=label, regulator=regulator, target=target, universe_digest="",
            endpoint=Endpoint.REFERENCE_RECOVERY,
        )  # fmt: skip
        effect = interaction(edges, other, ("a", "b"))
        if effect.undefined:
            continue
        mine.append(effect.p_two_sided() <= 0.05)
        observed, null = swap_rows(edges, other, ("a", "b"), draws=99, rng=rng)
        swap.append(permutation_p(observed, null[np.isfinite(null)], side="two-sided")[0] <= 0.05)
    return float(np.mean(mine)), float(np.mean(swap))


def bound(n: int) -> float:
    return 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


def test_the_jackknife_holds_its_level_where_swapping_rows_does_not():
    mine, swap = rejections("150 regulators, hubs only", 40)
    assert mine <= bound(40)
    assert swap > bound(40)


@pytest.mark.long
@pytest.mark.parametrize("name", [w.name for w in WORLDS if w.n_regulators >= 8])
def test_long_the_interaction_holds_its_level(name):
    assert rejections(name, 300)[0] <= bound(300)
