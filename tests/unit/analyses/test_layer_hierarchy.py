"""Hierarchy of layers: a planted rise is found, wandering is not, symmetric networks count a pair once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from regulens.analyses.base import StatisticsSettings
from regulens.analyses.common import edges_of
from regulens.analyses.contrasts import contrast_inference
from regulens.analyses.inference import differences
from regulens.analyses.layer_hierarchy import SPEC, depth_weights, layer_names
from regulens.analyses.nested_peak import nested_peak
from regulens.analyses.symmetric import symmetric_universe, symmetrised
from regulens.errors import AlignmentError
from regulens.testing.calibration import WORLDS
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges

FAST = StatisticsSettings(bootstrap=400, permutations=50)


@pytest.fixture(scope="module")
def late():
    return make_world("layer_late", seed=2).input(settings=FAST)


@pytest.fixture(scope="module")
def outcome(late):
    return SPEC.run(late)


def with_values(inp, change):
    """The same input with `change(values)` in place of the values of every direction's scores."""
    made = {
        d: EdgeScores(
            values=np.broadcast_to(change(s.values), s.values.shape), observed=s.observed, names=s.names, genes=s.genes,
            regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in inp.attention.items()
    }  # fmt: skip
    return replace(inp, attention=made)


def record(outcome, name):
    return next(r for r in outcome.records if r.id.endswith(f"/{name}"))


def test_every_planned_test_is_recorded_once(late, outcome):
    assert sorted(t.id for t in SPEC.plan(late.request)) == sorted(r.id for r in outcome.records)
    assert all(r.p_raw is not None and r.low <= r.effect <= r.high for r in outcome.records)


def test_a_planted_rise_over_depth_is_found(outcome):
    for name in ("trend_over_depth", "trend_beyond_prominence"):
        assert record(outcome, name).p_raw < 0.05
        assert record(outcome, name).low > 0.02
    assert outcome.facts["direction_of_trend"] == "rising"
    assert record(outcome, "peak_above_others").p_raw < 0.05
    layers = outcome.tables["layers"]
    assert ((layers["band_low"] < layers["low"]) & (layers["high"] < layers["band_high"])).all()


def test_layers_in_reverse_order_are_a_fall_of_the_same_size(late, outcome):
    scores = late.attention["regulator_attends"]
    depth = np.array([scores.names.index(n) for n in layer_names(scores)])
    order = np.arange(scores.n_scores)
    order[depth] = depth[::-1]
    fallen = SPEC.run(with_values(late, lambda v: v[order]))
    a, b = record(outcome, "trend_over_depth"), record(fallen, "trend_over_depth")
    assert b.effect == pytest.approx(a.effect, abs=1e-12)
    assert (b.low, b.high) == pytest.approx((a.low, a.high), abs=1e-12)
    assert fallen.facts["direction_of_trend"] == "falling"
    assert fallen.tables["layer_trend"].loc[0, "change"] < 0 < outcome.tables["layer_trend"].loc[0, "change"]


def test_profile_and_change_are_what_plain_code_gives(late, outcome):
    names = layer_names(late.attention["regulator_attends"])
    edges = edges_of(late, late.attention["regulator_attends"].select(names))
    wanted = np.array([roc_auc_score(edges.label, s) for s in edges.scores])
    np.testing.assert_allclose(outcome.tables["layers"]["auroc"], wanted, atol=1e-12)
    trend = outcome.tables["layer_trend"].set_index("profile").loc["AUROC"]
    line = np.polyfit(np.arange(len(wanted)), wanted, 1)
    assert trend["change"] == pytest.approx(line[0] * (len(wanted) - 1), abs=1e-12)
    assert trend["rho"] == pytest.approx(spearmanr(np.arange(len(wanted)), wanted).statistic, abs=1e-12)


def test_contrasts_equal_the_paired_difference_and_leaving_out_a_gene(late):
    names = layer_names(late.attention["regulator_attends"])[:3]
    edges = edges_of(late, late.attention["regulator_attends"].select(names))
    found = contrast_inference(
        edges.scores, edges.label, np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]), edges.regulator, edges.target
    )
    wanted = differences(edges, names[0], [names[1]])
    assert found.estimate[0] == pytest.approx(wanted.estimate[0], abs=1e-12)
    assert found.se[0] == pytest.approx(wanted.se[0], rel=1e-9)
    keep = edges.regulator != edges.regulator.min()
    a = [roc_auc_score(edges.label[keep], s[keep]) for s in edges.scores]
    assert found.estimate[1] + found.regulator[1, 0] == pytest.approx(a[0] + a[1] - 2 * a[2], abs=1e-12)
    per_label = contrast_inference(
        edges.scores, np.tile(edges.label, (3, 1)), np.array([[1.0, -1.0, 0.0]]), edges.regulator, edges.target
    )
    assert per_label.se[0] == pytest.approx(found.se[0], rel=1e-12)
    with pytest.raises(AlignmentError, match="Expected one weight per score"):
        contrast_inference(edges.scores, edges.label, np.ones((1, 2)), edges.regulator, edges.target)


def test_a_taste_for_prominent_genes_is_no_specialisation():
    inp = make_world("hubs_only", seed=0, n_layers=12, n_heads=1).input(settings=FAST)
    rng = np.random.default_rng(0)
    scores = inp.attention["regulator_attends"]
    depth = np.where(np.array(scores.layers) >= 0, np.array(scores.layers), 6) / 11

    def more_and_more(values):
        margin = np.log(values.mean(axis=2, keepdims=True) + 1e-9) + np.log(values.mean(axis=1, keepdims=True) + 1e-9)
        return np.exp(depth[:, None, None] * margin + 0.7 * rng.normal(size=values.shape))

    found = SPEC.run(with_values(inp, more_and_more))
    assert record(found, "trend_over_depth").statistic > 0.9
    assert record(found, "trend_over_depth").low > 0.02
    assert not (record(found, "trend_beyond_prominence").low > 0.02)


def test_few_layers_show_a_profile_and_test_nothing():
    found = SPEC.run(make_world("planted_pairs", seed=0).input(settings=FAST))
    assert len(found.tables["layers"]) == 3
    assert all("at least 6" in r.undefined for r in found.records)


def test_a_model_without_layers_says_so(late):
    only = {d: s.select(["pooled"]) for d, s in late.attention.items()}
    found = SPEC.run(replace(late, attention=only))
    assert all("no attention layers" in r.undefined for r in found.records)


@pytest.mark.parametrize("case", ["no positives", "all positives", "two regulators", "ten pairs"])
def test_too_little_data_is_refused_and_on_record(case, late):
    u = late.universe
    candidate, positive = u.candidate, np.zeros_like(u.positive)
    if case == "all positives":
        positive = candidate
    if case == "two regulators":
        positive[:2] = u.positive[:2]
        positive[:2, 20:60] = candidate[:2, 20:60]
    if case == "ten pairs":
        candidate = candidate & (np.cumsum(candidate).reshape(candidate.shape) <= 10)
        positive = candidate & u.positive
    found = SPEC.run(replace(late, universe=replace(u, candidate=candidate, positive=positive)))
    assert len(found.records) == len(SPEC.plan(late.request))
    assert all("needed" in r.undefined for r in found.records)
    assert all(isinstance(r.estimate, Undefined) for r in found.results)


def test_constant_scores_have_no_trend_and_no_best_layer(late):
    found = SPEC.run(with_values(late, lambda v: np.full(v.shape, 0.25)))
    assert (found.tables["layers"]["auroc"] == 0.5).all()
    assert all(r.undefined for r in found.records)


def test_transposed_attention_loses_the_planted_rise():
    world = make_world("layer_late", seed=2)
    found = SPEC.run(world.transposed().input(settings=FAST))
    assert max(found.facts["auroc_by_layer"]) < 0.65


def test_numbers_do_not_depend_on_the_order_of_regulators(late, outcome):
    order = np.random.default_rng(0).permutation(len(late.universe.regulators))
    names = tuple(late.universe.regulators[k] for k in order)
    u = late.universe
    universe = replace(u, regulators=names, candidate=u.candidate[order], positive=u.positive[order])

    def moved(s):
        return replace(s, regulators=names, values=s.values[:, order], observed=s.observed[order])

    again = SPEC.run(
        replace(
            late, universe=universe, attention={d: moved(s) for d, s in late.attention.items()},
            baselines=moved(late.baselines), coexpression=moved(late.coexpression),
        )
    )  # fmt: skip
    columns = ["auroc", "low", "high", "excess", "beyond_coexpression"]
    np.testing.assert_allclose(again.tables["layers"][columns], outcome.tables["layers"][columns], atol=1e-10)
    assert record(again, "trend_over_depth").p_raw == record(outcome, "trend_over_depth").p_raw


def test_a_symmetric_network_counts_every_pair_once_in_either_order(late):
    u = late.universe
    own = u.regulator_columns()
    positive = np.zeros_like(u.positive)
    positive[3, own[5]] = positive[5, own[3]] = True  # listed in both orders
    positive[7, own[2]] = True  # listed only from the later row
    outside = next(j for j in range(len(u.genes)) if j not in own)
    positive[4, outside] = True
    found = symmetric_universe(replace(u, positive=positive))
    assert found.positive.sum() == 3
    assert found.positive[3, own[5]]
    assert not found.positive[5, own[3]]
    assert found.positive[2, own[7]]
    assert found.positive[4, outside]
    n = len(own)
    assert found.candidate.sum() == u.candidate.sum() - n * (n - 1) / 2
    made = symmetrised(late)
    a, b = made.attention["regulator_attends"], made.attention["target_attends"]
    assert np.array_equal(a.values, b.values)
    first = late.attention["regulator_attends"].values[0], late.attention["target_attends"].values[0]
    np.testing.assert_allclose(a.values[0], (first[0] + first[1]) / 2)
    assert not any(n.startswith(("source_", "target_")) for n in made.baselines.names)


def test_symmetric_is_asked_for_by_name(late, outcome):
    twice = SPEC.run(replace(late, parameters={"symmetric": [late.request.reference]}))
    assert twice.facts["symmetric"]
    assert not outcome.facts["symmetric"]
    assert twice.facts["n_neg"] < outcome.facts["n_neg"]
    other = SPEC.run(replace(late, parameters={"symmetric": ["another"]}))
    assert other.facts["n_neg"] == outcome.facts["n_neg"]


def test_weights_of_depth():
    assert depth_weights(5).sum() == pytest.approx(0)
    assert depth_weights(5) @ (0.1 * np.arange(5)) == pytest.approx(0.4)


def rejections(name: str, *, worlds: int, selected_on_itself: bool = False) -> float:
    """Share of worlds without signal in which the best of six layers is above the others at 5 %."""
    world = replace(next(w for w in WORLDS if w.name == name), n_scores=6)
    rng = np.random.default_rng(0)
    out = []
    for _ in range(worlds):
        scores, label, regulator, target = world.draw(rng)
        edges = LabelledEdges(
            scores=scores, names=tuple("abcdef"), label=label, regulator=regulator, target=target, universe_digest="",
            endpoint=Endpoint.REFERENCE_RECOVERY,
        )  # fmt: skip
        if selected_on_itself:
            best = int(np.argmax([roc_auc_score(label, s) for s in scores]))
            matrix = np.full((1, 6), -0.2)
            matrix[0, best] = 1.0
            out.append(contrast_inference(scores, label, matrix, regulator, target).p_greater(0.0)[0] <= 0.05)
            continue
        found = nested_peak(edges, edges.names, rivals={}, rng=rng)
        if not found.reason:
            out.append(found.p_others <= 0.05)
    return float(np.mean(out))


def bound(n: int) -> float:
    return 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


def test_nested_choice_holds_its_level_and_choosing_on_the_same_pairs_does_not():
    assert rejections("25 regulators", worlds=60) <= bound(60)
    assert rejections("25 regulators", worlds=60, selected_on_itself=True) > bound(60)


@pytest.mark.long
@pytest.mark.parametrize("name", [w.name for w in WORLDS if w.n_regulators >= 8])
def test_long_nested_choice_holds_its_level(name):
    assert rejections(name, worlds=400) <= bound(400)


def test_published_protocol_is_a_reproduction(late):
    inp = replace(late, request=replace(late.request, protocol=Protocol.PUBLISHED))
    tests = SPEC.plan(inp.request)
    assert [t.confirmatory for t in tests] == [False]
    found = SPEC.run(inp)
    assert [r.id for r in found.records] == [t.id for t in tests]
    assert all(r.protocol is Protocol.PUBLISHED for r in found.results)
    profile = found.tables["published"]["auroc"]
    wanted = spearmanr(np.arange(len(profile)), profile)
    assert found.tables["published_trend"].loc[0, ["rho", "p"]].tolist() == pytest.approx(
        [wanted.statistic, wanted.pvalue]
    )
    assert set(found.tables["published_tails"]["tail"]) == {"strongest", "weakest"}
