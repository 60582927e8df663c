"""Resolution by regulator: planted regulators are found, errors are DeLong's, the spread test holds its level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from regulens.analyses.base import StatisticsSettings
from regulens.analyses.common import edges_of
from regulens.analyses.per_regulator import covariate_permutation, evaluate_regulators, spread_permutation
from regulens.analyses.reference_slices import reference_edges, slices
from regulens.analyses.tf_resolution import SPEC
from regulens.stats.delong import delong
from regulens.stats.heterogeneity import random_effects
from regulens.testing.calibration import WORLDS, PairWorld
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.networks import ReferenceNetwork

FAST = StatisticsSettings(bootstrap=200, permutations=99)


@pytest.fixture(scope="module")
def given():
    """A world whose reference says nothing of signs and evidence."""
    return replace(make_world("planted_pairs", seed=1).input(settings=FAST), networks={})


@pytest.fixture(scope="module")
def outcome(given):
    return SPEC.run(given)


def with_scores(inp, values):
    """The same input with other values for every score of attention."""
    made = {
        d: EdgeScores(
            values=np.broadcast_to(values, s.values.shape), observed=s.observed, names=s.names, genes=s.genes,
            regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in inp.attention.items()
    }  # fmt: skip
    return replace(inp, attention=made)


def with_positives(inp, positive):
    return replace(inp, universe=replace(inp.universe, positive=positive))


def drawn(world: PairWorld, rng: np.random.Generator) -> LabelledEdges:
    scores, label, regulator, target = world.draw(rng)
    return LabelledEdges(
        scores=scores, names=("x",), label=label, regulator=regulator, target=target, universe_digest="",
        endpoint=Endpoint.REFERENCE_RECOVERY,
    )  # fmt: skip


def test_every_planned_test_is_recorded_once(given, outcome):
    assert sorted(t.id for t in SPEC.plan(given.request)) == sorted(r.id for r in outcome.records)
    assert {r.id.rsplit("/", 1)[-1]: bool(r.undefined) for r in outcome.records} == {
        "regulators_differ": False, "goes_with_regulon_size": False, "goes_with_expression": False,
        "goes_with_evidence": True,
    }  # fmt: skip


def test_each_auroc_and_error_is_that_of_the_libraries(given, outcome):
    edges = edges_of(given, given.primary)
    table = outcome.tables["per_tf"].set_index("regulator")
    for name in table.index[[0, 7, -1]]:
        mine = edges.regulator == given.universe.regulators.index(name)
        y, x = edges.label[mine], edges.scores[0][mine]
        assert table.loc[name, "auroc"] == pytest.approx(roc_auc_score(y, x), abs=1e-12)
        wanted = delong(x, y)
        low, high = wanted.interval(0.95)
        assert table.loc[name, "se"] == pytest.approx(wanted.se[0], rel=1e-10)
        assert table.loc[name, ["low", "high"]].tolist() == pytest.approx([low[0], high[0]], rel=1e-10)


def test_ties_count_one_half(given):
    tied = with_scores(given, np.round(np.log(given.primary.values[0] + 1e-9)))
    edges = edges_of(tied, tied.primary)
    each = evaluate_regulators(edges, 0, min_positives=3)
    mine = edges.regulator == each.row[2]
    assert each.auroc[2] == pytest.approx(roc_auc_score(edges.label[mine], edges.scores[0][mine]), abs=1e-12)
    assert each.se[2] == pytest.approx(delong(edges.scores[0][mine], edges.label[mine]).se[0], rel=1e-10)


def test_one_planted_regulator_stands_out_and_carries_the_pooled_value(given):
    rng = np.random.default_rng(0)
    values = rng.normal(size=given.universe.candidate.shape)
    size = (given.universe.positive & given.primary.observed).sum(axis=1)
    row = int(np.argmax(size))
    values[row] += 4.0 * given.universe.positive[row]
    found = SPEC.run(with_scores(given, values))
    name = given.universe.regulators[row]
    assert found.tables["per_tf"].loc[0, "regulator"] == name
    assert found.facts["most_influential"] == name
    assert {r.id.rsplit("/", 1)[-1]: r.p_raw for r in found.records}["regulators_differ"] == 0.01
    alone = found.tables["per_tf"].set_index("regulator").loc[name]
    assert alone["auroc"] > alone["shrunk"] > found.facts["mean_tf_auroc"]


def test_transposed_attention_loses_the_planted_pairs():
    world = make_world("planted_pairs", seed=1)
    kept, lost = (SPEC.run(w.input(settings=FAST)).facts["mean_tf_auroc"] for w in (world, world.transposed()))
    assert kept > 0.7
    assert lost < 0.6


def test_leaving_one_out_equals_recomputation(given, outcome):
    edges = edges_of(given, given.primary)
    table = outcome.tables["per_tf"].set_index("regulator")
    name = table.index[3]
    keep = edges.regulator != given.universe.regulators.index(name)
    wanted = roc_auc_score(edges.label[keep], edges.scores[0][keep])
    assert table.loc[name, "auroc_without"] == pytest.approx(wanted, abs=1e-12)


def test_mean_over_regulators_is_unweighted(outcome):
    table = outcome.tables["tf_summary"].set_index("quantity")
    assert table.loc["mean_of_regulators", "value"] == pytest.approx(outcome.tables["per_tf"]["auroc"].mean())
    wide, narrow = table.loc["mean_of_regulators"], table.loc["mean_resampled"]
    assert wide["low"] < narrow["value"] < wide["high"]


def test_numbers_do_not_depend_on_the_order_of_pairs(given):
    edges = edges_of(given, given.primary)
    order = np.random.default_rng(0).permutation(len(edges.label))
    a, b = (evaluate_regulators(e, 0, min_positives=3) for e in (edges, edges.restrict(order)))
    np.testing.assert_allclose(a.auroc, b.auroc, atol=1e-12)
    np.testing.assert_allclose(a.se, b.se, rtol=1e-10)


@pytest.mark.parametrize("case", ["no positives", "one regulator", "two targets each"])
def test_too_little_data_is_refused_and_on_record(case, given):
    positive = np.zeros_like(given.universe.positive)
    i, j = np.nonzero(given.universe.positive & given.primary.observed)
    if case == "one regulator":
        positive[i[i == i[0]], j[i == i[0]]] = True
    if case == "two targets each":
        first = np.concatenate([np.flatnonzero(i == r)[:2] for r in np.unique(i)])
        positive[i[first], j[first]] = True
    found = SPEC.run(with_positives(given, positive))
    assert len(found.records) == len(SPEC.plan(given.request))
    assert all("needed" in r.undefined for r in found.records)
    assert all(isinstance(r.estimate, Undefined) for r in found.results)


def test_all_positives_and_ten_pairs_are_refused(given):
    assert "negatives" in SPEC.run(with_positives(given, given.universe.candidate)).facts["refused"]
    few = given.universe.candidate & (np.cumsum(given.universe.candidate).reshape(-1, 200) <= 10)
    tiny = replace(given, universe=replace(given.universe, candidate=few, positive=few & given.universe.positive))
    assert "needed" in SPEC.run(tiny).facts["refused"]


def test_a_constant_score_is_one_half_everywhere(given):
    found = SPEC.run(with_scores(given, np.full(given.universe.candidate.shape, 0.25)))
    assert (found.tables["per_tf"]["auroc"] == 0.5).all()
    assert found.tables["per_tf"]["low"].isna().all()
    assert all(r.undefined for r in found.records)


def test_perfect_separation_has_a_value_and_no_error(given):
    found = SPEC.run(with_scores(given, given.universe.positive.astype(float)))
    assert (found.tables["per_tf"]["auroc"] == 1.0).all()
    assert found.tables["per_tf"]["se"].isna().all()
    assert found.tables["per_tf"]["note"].str.contains("separated").all()


def test_signs_and_evidence_of_the_reference_are_used(given):
    i, j = np.nonzero(given.universe.positive)
    edges = pd.DataFrame(
        {"source": np.array(given.universe.regulators)[i], "target": np.array(given.universe.genes)[j], "sign": 0,
         "evidence": ""}
    )  # fmt: skip
    rng = np.random.default_rng(0)
    signed = edges.assign(sign=rng.integers(-1, 2, len(edges)), evidence=rng.choice(["x", "x;y", "x;y;z"], len(edges)))
    network = ReferenceNetwork(name=given.request.reference, edges=signed)
    found = SPEC.run(replace(given, networks={given.request.reference: network}))
    table = found.tables["tf_signs"].set_index("slice")
    assert table.loc["known sign", "n_pos"] < table.loc["all edges", "n_pos"] == found.facts["n_pos"]
    assert found.tables["per_tf"]["evidence_strength"].between(1, 3).all()
    listed = reference_edges(given.universe, network)
    assert {n for _, n, _ in slices(listed)} >= {"known sign", "activation", "repression", "2 or more sources", "y"}
    assert listed.strength().max() == 3


def test_levels_are_ordered_best_first(given):
    i, j = np.nonzero(given.universe.positive)
    edges = pd.DataFrame(
        {"source": np.array(given.universe.regulators)[i], "target": np.array(given.universe.genes)[j], "sign": 1,
         "evidence": np.array(list("ABC"))[np.arange(len(i)) % 3]}
    )  # fmt: skip
    listed = reference_edges(given.universe, ReferenceNetwork(name="r", edges=edges))
    assert listed.strength()[:3].tolist() == [5.0, 4.0, 3.0]
    names = [(k, n) for k, n, _ in slices(listed)]
    assert names == [("level", "A"), ("level", "B"), ("level", "A to B"), ("level", "C")]


def test_covariate_permutation_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40))
    rho, p = covariate_permutation(x, y, draws=4000, rng=rng)
    wanted = spearmanr(x, y)
    assert rho == pytest.approx(wanted.statistic, abs=1e-12)
    assert p == pytest.approx(wanted.pvalue, abs=0.04)


def rejections(world: PairWorld, *, worlds: int, seed: int = 0) -> tuple[float, float]:
    """Share of worlds in which the spread test, and Cochran's Q with DeLong's errors, reject at 5 %."""
    rng = np.random.default_rng(seed)
    mine, naive = [], []
    for _ in range(worlds):
        each = evaluate_regulators(drawn(world, rng), 0, min_positives=3)
        observed, null = spread_permutation(each, draws=99, rng=rng)
        mine.append((1 + np.count_nonzero(null >= observed)) / 100 <= 0.05)
        ok = np.isfinite(each.se)
        naive.append(random_effects(each.auroc[ok], each.se[ok]).p <= 0.05)
    return float(np.mean(mine)), float(np.mean(naive))


def bound(n: int) -> float:
    return 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize("name", ["25 regulators", "150 regulators, hubs only"])
def test_the_spread_test_holds_its_level_where_the_chi_square_form_does_not(name):
    world = next(w for w in WORLDS if w.name == name)
    mine, naive = rejections(world, worlds=40)
    assert mine <= bound(40)
    assert naive > bound(40)


@pytest.mark.long
@pytest.mark.parametrize(
    "world", [w for w in WORLDS if w.n_regulators >= 8 and w.prevalence >= 0.01], ids=lambda w: w.name
)
def test_long_the_spread_test_holds_its_level(world):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        each = evaluate_regulators(drawn(world, rng), 0, min_positives=3)
        if len(each.row) < 3:
            continue
        observed, null = spread_permutation(each, draws=199, rng=rng)
        found.append((1 + np.count_nonzero(null >= observed)) / 200 <= 0.05)
    assert np.mean(found) <= bound(len(found))


def test_published_protocol_is_a_reproduction(given):
    inp = replace(
        given, request=replace(given.request, protocol=Protocol.PUBLISHED),
        parameters={"master_regulators": list(given.universe.regulators[:6])},
    )  # fmt: skip
    tests = SPEC.plan(inp.request)
    assert [t.confirmatory for t in tests] == [False]
    found = SPEC.run(inp)
    assert [r.id for r in found.records] == [t.id for t in tests]
    assert 0 < found.records[0].p_raw <= 1
    assert len(found.tables["published"]) > len(SPEC.run(given).tables["per_tf"]) - 1
    unnamed = SPEC.run(replace(inp, parameters={}))
    assert "named as master regulators" in unnamed.records[0].undefined
