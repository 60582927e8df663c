"""Choices of one screen in another: frozen unchanged, apart from what they saw, tuned again; levels, and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses.base import StatisticsSettings
from regulens.analyses.dataset_generalisation import DESIGNS, SPEC, TABLES, TESTED
from regulens.analyses.frozen_choices import Side, apart_rows, choose, common_pairs, frozen_rows, retuned_rows
from regulens.analyses.frozen_effects import found_of, minus
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.errors import InputError, ParameterError
from regulens.stats.by_row import mean_auroc_deviations
from regulens.stats.ranking import auroc
from regulens.testing.worlds.screens import make_screen_input, make_screen_world
from regulens.types.endpoints import Endpoint

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SETTINGS = StatisticsSettings(bootstrap=100, permutations=99)
SIZE = {"n_perturbations": 20, "n_genes": 120}


def made(kind, second="same", seed=2, **options):
    return make_screen_input(kind, seed=seed, settings=SETTINGS, second=second, **(SIZE | options))


def all_of(side):
    return np.ones(side.per.n, dtype=bool)


@pytest.fixture(scope="module")
def planted():
    return made("planted_network")


@pytest.fixture(scope="module")
def second(planted):
    return planted.others["second_screen"]()


@pytest.fixture(scope="module")
def outcome(planted):
    return SPEC.run(planted)


def record(outcome, name):
    return next(r for r in outcome.records if r.id.endswith(f"/{name}"))


def test_every_planned_test_is_recorded_under_the_endpoint_of_screens(planted, outcome):
    planned = SPEC.plan(planted.request)
    assert [t.id for t in planned] == [r.id for r in outcome.records]
    assert {t.endpoint for t in planned} == {Endpoint.PERTURBATION_RESPONSE}
    assert {r.endpoint for r in outcome.results} == {Endpoint.PERTURBATION_RESPONSE}
    for name, columns in TABLES.items():
        assert list(outcome.tables[name].columns) == columns
    assert [d.name for d in DESIGNS] == list(TESTED.values())


def test_what_attention_knows_of_both_screens_carries_over(outcome):
    for name in ("frozen_score_above_chance", "frozen_order_with_coexpression", "frozen_calls_above_chance"):
        r = record(outcome, name)
        assert r.p_raw < 0.001, name
        assert r.low > 0, name
        assert r.n_units == outcome.facts["n_perturbations"]  # not the halves of them
    table = outcome.tables["generalisation"].set_index(["universe", "effect"])
    assert set(table.index.get_level_values("universe")) == {"own", "shared"}
    change = table.loc[("own", "score")]
    assert change["change_low"] < 0 < change["change_high"]  # the same responders: no loss


def test_what_attention_knows_of_the_other_screen_only_is_lost_here():
    found = SPEC.run(made("planted_network", second="known"))
    assert record(found, "frozen_score_above_chance").p_raw > 0.01
    table = found.tables["generalisation"].set_index(["universe", "effect"])
    assert table.loc[("own", "score"), "first_as_chosen"] > 0.15
    assert table.loc[("own", "score"), "change_high"] < 0  # the loss is seen


def test_one_screen_leaves_every_test_undefined_with_its_reason():
    inp = made("planted_network", second="")
    found = SPEC.run(inp)
    assert [r.id for r in found.records] == [t.id for t in SPEC.plan(inp.request)]
    reason = "the study has one screen; choices made in one must be applied to another"
    assert {r.undefined for r in found.records} == {reason}


def test_choices_are_the_largest_of_the_screen_that_makes_them(second):
    side = Side.build(second)
    chosen = choose([(side, all_of(side))])
    scores = second.attention[second.request.direction]
    per = PerPerturbation.build(second, scores, second.coexpression, second.baselines)
    mean = {n: per.values(n).mean() for n in per.names}
    assert chosen.score == max(scores.names, key=mean.__getitem__)
    assert chosen.layer == max((n for n in scores.names if n.endswith("_mean")), key=mean.__getitem__)
    assert chosen.baseline == max(("target_mean", "target_variance", "target_detection"), key=mean.__getitem__)
    assert chosen.over_coexpression == np.sign(mean[chosen.score] - mean["coexpression_abs"])
    assert chosen.over_gene_level == np.sign(mean[chosen.score] - mean[chosen.baseline])


def test_the_threshold_is_the_best_of_all_cuts(second):
    side = Side.build(second)
    chosen = choose([(side, all_of(side))])
    values, row, label = side.attention(chosen.score), side.per.rows.row(), side.per.rows.label

    def sum_of_rates(cut):
        called = values >= cut
        true = np.bincount(row, weights=called & label) / side.per.n_pos
        false = np.bincount(row, weights=called & ~label) / side.per.n_neg
        return (true - false).mean()

    cuts = np.quantile(values, np.linspace(0, 1, 400))
    assert sum_of_rates(chosen.threshold) >= max(map(sum_of_rates, cuts)) - 1e-12
    calls = frozen_rows(side, chosen).values("calls")
    assert calls.mean() - 0.5 == pytest.approx(0.5 * sum_of_rates(chosen.threshold))


def test_frozen_choices_are_applied_unchanged_and_digested(planted, second, outcome):
    side, here = Side.build(second), Side.build(planted)
    chosen = choose([(side, all_of(side))])
    applied = frozen_rows(here, chosen)
    np.testing.assert_array_equal(applied.values("score"), here.auroc[here.names.index(chosen.score)])
    gap = applied.values("over_gene_level") - applied.values("over_gene_level rival")
    plain = here.auroc[here.names.index(chosen.score)] - here.per.values(chosen.baseline)
    np.testing.assert_allclose(gap, chosen.over_gene_level * plain, atol=1e-12)
    table = outcome.tables["generalisation"].query("universe == 'own'").set_index("effect")
    assert table.loc["score", "frozen"] == pytest.approx(applied.values("score").mean() - 0.5)
    assert table.loc["score", "choice"] == chosen.score
    other = replace(chosen, threshold=float(np.nextafter(chosen.threshold, 1)))
    assert other.digest != chosen.digest == replace(chosen).digest
    assert table["choices_digest"].nunique() == 1


def test_tuned_again_a_perturbation_is_scored_by_the_choice_of_the_others(planted):
    side = Side.build(planted)
    found = retuned_rows(side, folds=4, rng=np.random.default_rng(7))
    fold = np.random.default_rng(7).permutation(np.arange(side.per.n) % 4)
    for k in range(4):
        chosen = choose([(side, fold != k)])
        wanted = side.auroc[side.names.index(chosen.score)][fold == k]
        np.testing.assert_allclose(found.values("score")[fold == k], wanted)


def test_apart_a_choice_saw_neither_the_perturbation_nor_the_gene(planted, second):
    """Labels of the first screen are turned round on the blocks that a choice may not read: nothing changes there."""
    here, side = Side.build(planted), Side.build(second)
    found = apart_rows(here, [side], np.random.default_rng(3))
    rng = np.random.default_rng(3)
    names = sorted({p for s in (here, side) for p in s.per.perturbations})
    half = dict(zip(names, rng.permutation(len(names)) % 2))
    genes = sorted(planted.universe.genes)
    of_gene = dict(zip(genes, rng.permutation(len(genes)) % 2))
    a = np.array([half.get(p, 0) for p in second.universe.regulators])
    b = np.array([of_gene[g] for g in second.universe.genes])
    spoiled = second.universe.positive.copy()
    touched = ((a == 0)[:, None] | (b == 0)[None, :]) & second.universe.candidate
    spoiled[touched] = np.random.default_rng(0).random(int(touched.sum())) < 0.1
    broken = Side.build(replace(second, universe=replace(second.universe, positive=spoiled)))
    again = apart_rows(here, [broken], np.random.default_rng(3))

    def at(per, p, h):
        return per.values("score")[per.perturbations.index(f"{p}, half {h}")]

    mine = [p for p in here.per.perturbations if half[p] == 0 and f"{p}, half 0" in found.perturbations]
    assert len(mine) > 3
    assert all(at(found, p, 0) == at(again, p, 0) for p in mine)


def test_shared_pairs_are_the_same_pairs_of_both_screens(planted, second):
    one, two = common_pairs([planted, second])
    left = {(planted.universe.regulators[i], planted.universe.genes[j]) for i, j in zip(*np.nonzero(one))}
    right = {(second.universe.regulators[i], second.universe.genes[j]) for i, j in zip(*np.nonzero(two))}
    assert left == right
    assert left


def test_a_model_without_layers_has_its_score_and_no_layer(planted, second):
    def static(inp):
        only = {d: s.select(["pooled"]) for d, s in inp.attention.items()}
        return replace(inp, attention=only, card=replace(inp.card, n_layers=0, n_heads=0))

    found = SPEC.run(replace(static(planted), others={"second_screen": lambda: static(second)}))
    table = found.tables["generalisation"].query("universe == 'own'").set_index("effect")
    assert table.loc["layer", "note"] == "the model has no layers to choose from"
    assert np.isnan(table.loc["layer", "frozen"])
    assert table.loc["score", "choice"] == "pooled"
    assert all(r.p_raw is not None for r in found.records)


def test_three_screens_choose_together_and_are_summarised(planted, second):
    third = replace(
        made("planted_network", seed=2, cells_per_perturbation=50), request=replace(planted.request, reference="third")
    )
    inp = replace(
        planted, others={"second_screen": lambda: second, "third": lambda: third},
        request=replace(planted.request, others=("second_screen", "third")),
    )  # fmt: skip
    found = SPEC.run(inp)
    assert found.facts["chosen_in"] == "all other screens"
    assert set(found.tables["generalisation"]["chosen_in"]) == {"all other screens", "second_screen", "third"}
    screens = found.tables["generalisation_screens"]
    mean = screens.query("effect == 'attention' and screen == 'mean of screens'").iloc[0]
    new = screens.query("effect == 'attention' and screen == 'another screen'").iloc[0]
    assert new["low"] < mean["low"] < mean["value"] < mean["high"] < new["high"]
    assert screens.query("effect == 'attention'")["weight"].sum() == pytest.approx(1.0)
    assert 0 < found.facts["heterogeneity_p_attention"] <= 1


def test_two_screens_have_no_heterogeneity_and_say_so(outcome):
    note = outcome.tables["generalisation_screens"].query("screen == 'mean of screens'")["note"]
    assert note.str.contains("2 screens with a standard error; heterogeneity needs at least 3").all()


def test_a_screen_without_perturbations_enough_is_left_out_with_its_reason(planted, second):
    few = replace(second, universe=replace(second.universe, positive=np.zeros_like(second.universe.positive)))
    found = SPEC.run(replace(planted, others={"second_screen": lambda: few}))
    assert all("no other screen can be evaluated" in r.undefined for r in found.records)
    alone = SPEC.run(replace(planted, others={}, request=replace(planted.request, others=("second_screen",))))
    assert all("not at hand" in r.undefined for r in alone.records)

    def broken():
        message = "Expected perturbations, got none."
        raise InputError(message)

    found = SPEC.run(replace(planted, others={"second_screen": broken}))
    assert all(r.undefined.endswith("second_screen: Expected perturbations, got none.") for r in found.records)
    assert list(found.tables["generalisation_left_out"]["screen"]) == ["second_screen"]
    with pytest.raises(ParameterError, match="at least 2 folds"):
        SPEC.run(replace(planted, parameters={"folds": 1}))


def test_what_pairs_contribute_is_the_variance_of_independent_pairs(planted, second):
    chosen = choose([(Side.build(second), all_of(Side.build(second)))])
    found = found_of(frozen_rows(Side.build(planted), chosen), planted.universe.genes)
    scores, rows = found.per.edges.score, found.per.rows
    plain = mean_auroc_deviations(scores("score")[None], rows)
    assert np.square(found.influence("score")).sum() == pytest.approx(plain.edge_variance[0])
    paired = mean_auroc_deviations(scores("over_coexpression")[None], rows, baseline=scores("over_coexpression rival"))
    assert np.square(found.influence("over_coexpression")).sum() == pytest.approx(paired.edge_variance[0])
    same = minus(found, found, "score")
    assert same.value == 0
    assert "standard error is 0" in same.undefined


def coverage(worlds):
    """Share of worlds with the same responders twice in which the interval of the change holds 0."""
    out = []
    for seed in range(worlds):
        inp = made("planted_network", seed=seed, n_genes=100)
        table = SPEC.run(inp).tables["generalisation"].set_index(["universe", "effect"])
        for universe in ("own", "shared"):
            rows = table.loc[[(universe, e) for e in ("score", "baseline", "over_coexpression", "over_gene_level")]]
            out.append(((rows["change_low"] <= 0) & (rows["change_high"] >= 0)).to_numpy())
    return np.mean(out, axis=0)


def test_the_interval_of_a_change_holds_none_where_there_is_none():
    assert coverage(10).min() >= 0.75


@pytest.mark.long
def test_coverage_of_the_change_in_many_worlds():
    found = coverage(150)
    assert found.min() >= 0.91
    assert found.max() < 1.0


def without_knowledge(world, rng, *, margin):
    """Both screens of a world with scores of noise, in which every gene has a habit of its own."""
    first = world.input(settings=SETTINGS)
    second = first.others["second_screen"]()
    names = sorted({*first.universe.regulators, *second.universe.regulators})
    row, drawn = {p: i for i, p in enumerate(names)}, {}

    def noise(inp, scores, key):
        n = (scores.n_scores, len(names), len(scores.genes))
        if key not in drawn:
            drawn[key] = margin * rng.normal(size=(n[0], 1, n[2])) + rng.normal(size=n)
        return replace(scores, values=drawn[key][:, [row[p] for p in inp.universe.regulators]])

    def made(inp):
        return replace(
            inp, attention={d: noise(inp, s, d) for d, s in inp.attention.items()},
            coexpression=noise(inp, inp.coexpression, "c"), baselines=noise(inp, inp.baselines, "b"),
        )  # fmt: skip

    return replace(made(first), others={"second_screen": lambda: made(second)})


def rejections(worlds, *, margin):
    """Share of worlds in which each test rejects: responders are the same in both screens, scores know nothing.

    Last is the twin that tests choices on what they have seen: the interval of the unchanged threshold's calls.
    """
    out = []
    for seed in range(worlds):
        world = make_screen_world("no_signal", seed=seed, n_perturbations=20, n_genes=100, second="same")
        found = SPEC.run(without_knowledge(world, np.random.default_rng(seed), margin=margin))
        calls = found.tables["generalisation"].query("universe == 'own' and effect == 'calls'").iloc[0]
        rejected = [r.p_raw is not None and r.p_raw <= 0.05 for r in found.records]
        out.append([*rejected, calls["frozen_low"] > 0])
    return np.mean(out, axis=0)


def test_level_holds_apart_where_screens_share_their_responders():
    *held, seen = rejections(12, margin=1.0)
    assert max(held) <= 3 / 12
    assert seen >= 3 / 12


@pytest.mark.long
def test_level_in_many_worlds_and_the_twin_that_has_seen_the_answers():
    *held, seen = rejections(200, margin=1.0)
    assert max(held) <= 0.09
    assert seen >= 0.2


def test_metrics_of_applied_choices_are_those_of_plain_ranking(planted, second):
    side, here = Side.build(second), Side.build(planted)
    applied = frozen_rows(here, choose([(side, all_of(side))]))
    rows = applied.rows
    for k in range(3):
        pairs = slice(rows.start[k], rows.start[k + 1])
        wanted = auroc(applied.edges.score("calls")[pairs], applied.edges.label[pairs])[0]
        assert applied.values("calls")[k] == pytest.approx(wanted)
