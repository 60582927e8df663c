"""How far do gene-level baselines get? Worlds of screens, ready tables, degenerate data, levels by simulation."""

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses.base import ANALYSES
from regulens.analyses.inference import Effect, effects_of, joint_critical
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.analyses.perturbation_baselines import (
    DESIGNS,
    NAME,
    PROPENSITY,
    SINGLE,
    SPEC,
    TABLES,
    out_degree,
    run,
    weakest,
)
from regulens.analyses.response_propensity import leave_one_out_share
from regulens.stats.cluster import max_t_p
from regulens.stats.screen_effects import effects_of as effects_of_screen
from regulens.testing.worlds.screens import make_screen_input, make_screen_world
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.labelled import LabelledEdges
from regulens.types.screens import LabelRule, ResponseLabels

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def planted():
    return make_screen_input("planted_network", seed=1)


@pytest.fixture(scope="module")
def found(planted):
    return run(planted)


def record(outcome, name):
    return next(r for r in outcome.records if r.id.endswith(f"/{name}"))


def test_every_planned_test_is_on_record_and_tables_have_their_columns(planted, found):
    planned = SPEC.plan(planted.request)
    assert {t.id for t in planned} == {r.id for r in found.records} and len(planned) == len(DESIGNS)
    assert {t.endpoint for t in planned} == {Endpoint.PERTURBATION_RESPONSE}
    for name, columns in TABLES.items():
        assert list(found.tables[name].columns) == columns, name
    assert ANALYSES[NAME] is SPEC


def test_attention_that_knows_the_network_is_above_every_baseline(found):
    for name in (
        "attention_above_best_baseline", "attention_above_response_propensity", "attention_above_gene_model",
        "attention_above_best_baseline_power_controlled",
    ):  # fmt: skip
        assert record(found, name).p_raw < 0.01 and record(found, name).low > 0, name
    assert record(found, "some_baseline_above_attention").p_raw > 0.5
    assert found.facts["power_control"] == "power_matched" and found.facts["above_power_controlled"]


def test_where_responses_follow_expression_the_baselines_win():
    outcome = run(make_screen_input("expression_only", seed=2))
    assert record(outcome, "some_baseline_above_attention").p_raw < 0.01
    for name in ("attention_above_best_baseline", "attention_above_best_baseline_power_controlled"):
        assert record(outcome, name).p_raw > 0.5 and record(outcome, name).high < 0.02, name
    assert outcome.facts["strictest_high"] < 0 and not outcome.facts["above_power_controlled"]


def test_a_baseline_that_lives_on_power_is_unmasked():
    outcome = run(make_screen_input("no_signal", seed=2))
    power = outcome.tables["de_power"].set_index(["responders", "score"])["auroc"]
    assert power["called", "target_mean"] > 0.62 and power["planted", "target_mean"] > 0.7
    assert power["power_matched", "target_mean"] == pytest.approx(0.5, abs=0.06)
    assert record(outcome, "planted_above_chance").p_raw < 0.01
    assert record(outcome, "placebo_above_chance").p_raw > 0.01
    planned = {t.id: t.confirmatory for t in SPEC.plan(make_screen_input("no_signal", n_perturbations=8).request)}
    assert not any(v for k, v in planned.items() if "placebo" in k or "planted" in k)


def test_shared_responders_are_known_to_the_propensity():
    outcome = run(make_screen_input("shared_responders", seed=2))
    table = outcome.tables["pert_baselines"].set_index("baseline")
    assert table.loc[PROPENSITY, "auroc"] > table.loc["pooled", "auroc"] > table.loc["target_mean", "auroc"]
    assert record(outcome, "attention_above_response_propensity").p_raw > 0.9
    assert record(outcome, "attention_above_best_baseline_power_controlled").p_raw > 0.5


def test_a_table_of_effects_falls_back_on_effect_size_and_says_so():
    outcome = run(make_screen_input("planted_network", seed=1, cells=False, n_genes=150, n_perturbations=20))
    assert outcome.facts["power_control"] == "effect_size"
    for kind in ("placebo", "planted"):
        assert "no cells" in record(outcome, f"{kind}_above_chance").undefined
    assert record(outcome, "attention_above_best_baseline_power_controlled").p_raw is not None
    notes = outcome.tables["de_power_labels"].set_index("responders")["note"]
    assert "no cells" in notes["power_matched"] and notes["effect_size"] == ""


def test_the_joint_bound_of_the_control_counts_chance_among_the_rivals(planted, monkeypatch):
    from regulens.analyses import power_control as control

    asked = []

    def joint(inference, **options):
        asked.append(len(inference.undefined))
        assert len(inference.regulator) == len(inference.target) == len(inference.se) == asked[-1]
        return joint_critical(inference, **options)

    monkeypatch.setattr(control, "joint_critical", joint)
    outcome = run(planted)
    assert asked == [5, 5]  # by effect size and of equal power: three statistics, the propensity and 0.5
    assert record(outcome, "attention_above_best_baseline_power_controlled").high > 0


def test_few_perturbations_are_undefined_with_a_reason():
    few = make_screen_input("planted_network", seed=1, n_genes=60, n_perturbations=4)
    for protocol in Protocol:
        inp = replace(few, request=replace(few.request, protocol=protocol))
        outcome = run(inp)
        assert {t.id for t in SPEC.plan(inp.request)} == {r.id for r in outcome.records}
        assert all("perturbations" in r.undefined for r in outcome.records)


def test_constant_attention_is_no_crash(planted):
    flat = {d: replace(a, values=np.ones_like(a.values)) for d, a in planted.attention.items()}
    outcome = run(replace(planted, attention=flat))
    assert {t.id for t in SPEC.plan(planted.request)} == {r.id for r in outcome.records}
    assert record(outcome, "attention_above_best_baseline").p_raw > 0.9
    assert record(outcome, "attention_above_response_propensity").undefined.startswith("the standard error is 0")


def test_out_degree_needs_networks(planted):
    import pandas as pd

    assert out_degree(planted) is None
    genes = planted.universe.genes
    edges = pd.DataFrame({"source": [genes[0], genes[0], genes[3]], "target": [genes[1], genes[2], genes[1]]})
    network = type("N", (), {"edges": edges})()
    found = out_degree(replace(planted, networks={"a": network, "b": network}))
    assert found.values[0, 0, [0, 1, 3]].tolist() == [2.0, 0.0, 1.0]
    outcome = run(replace(planted, networks={"a": network}))
    assert "target_out_degree" in set(outcome.tables["pert_baselines"]["baseline"])


def test_published_protocol_compares_univariate_rankings_with_coexpression(planted):
    inp = replace(planted, request=replace(planted.request, protocol=Protocol.PUBLISHED))
    outcome = run(inp)
    assert {t.id for t in SPEC.plan(inp.request)} == {r.id for r in outcome.records}
    rows = outcome.tables["published"]
    assert set(rows["group"]) == {"all"} and (rows.loc[rows["baseline"].isin(SINGLE), "auroc"] > 0.6).all()


def test_weakest_is_an_intersection():
    a, b = (Effect(value=v, se=0.1, df=20, method="m", n_units=9, unit="u") for v in (0.5, 0.1))
    found = weakest("t", [a, b], level=0.95)
    assert found.effect == 0.1 and found.p_raw == b.p_greater() and found.low == b.bounds(0.95)[0]
    assert weakest("t", [a, replace(b, undefined="none")], level=0.95).undefined == "none"
    assert weakest("t", [a, b], level=0.95, high=0.7).high == 0.7


def equal_scores(rng, n_perturbations, n_genes=80):
    """Attention, three one-gene scores and the propensity, none of which knows anything; responders are shared."""
    gene = rng.normal(size=n_genes)
    y = rng.random((n_perturbations, n_genes)) < 1 / (1 + np.exp(2 - 0.0 * gene))
    share = np.nan_to_num(leave_one_out_share(y, np.ones_like(y), np.arange(n_perturbations)))
    single = [np.broadcast_to(rng.normal(size=n_genes), y.shape) for _ in range(3)]
    scores = [rng.normal(size=n_genes) + rng.normal(size=y.shape), *single, share]
    i, j = (a.ravel() for a in np.indices(y.shape))
    edges = LabelledEdges(
        scores=np.stack([s.ravel() for s in scores]), names=("attention", "a", "b", "c", PROPENSITY), label=y.ravel(),
        regulator=i, target=j, universe_digest="u", endpoint=Endpoint.PERTURBATION_RESPONSE,
    )  # fmt: skip
    return PerPerturbation.of(edges, tuple(f"P{k}" for k in range(n_perturbations)))


def levels(n_sim, seed, n_perturbations):
    rng = np.random.default_rng(seed)
    p = {"propensity": [], "propensity below": [], "best": [], "some": []}
    for _ in range(n_sim):
        per = equal_scores(rng, n_perturbations)
        gap = effects_of(per.differences("attention", [PROPENSITY]))[0]
        p["propensity"].append(gap.p_greater())
        p["propensity below"].append(replace(gap, value=-gap.value).p_greater())
        singles = per.differences("attention", ["a", "b", "c"])
        p["best"].append(max(e.p_greater() for e in effects_of(singles)))
        turned = replace(singles, estimate=-singles.estimate, regulator=-singles.regulator, target=-singles.target)
        p["some"].append(np.nanmin(max_t_p(turned, 0.0, draws=300, rng=rng)["p_adjusted"]))
    return {k: float((np.array(v) < 0.05).mean()) for k, v in p.items()}


def test_levels_where_nobody_knows_anything():
    assert max(levels(80, 1, 20).values()) <= 0.1


@pytest.mark.long
@pytest.mark.parametrize("n_perturbations", [6, 20, 40])
def test_levels_where_nobody_knows_anything_many_times(n_perturbations):
    assert max(levels(1000, 2, n_perturbations).values()) <= 0.07


def odd_screens():
    """Screens that are allowed to be odd: what cannot be said is undefined with a reason, and nothing crashes."""
    few = {"n_perturbations": 15, "n_genes": 100, "seed": 3}
    world = make_screen_world("planted_network", **few)
    plain = world.input()
    observed = {d: np.array(a.observed) for d, a in plain.attention.items()}
    for grid in observed.values():
        grid[:, ::2] = False
    holes = {d: replace(a, observed=a.observed & observed[d]) for d, a in plain.attention.items()}
    flat = replace(plain.features, mean=np.ones(100), variance=np.ones(100), detection=np.ones(100))

    def labelled(effects, *, cells=False):
        labels = ResponseLabels.build(effects, LabelRule())
        return replace(world, labels=labels, with_cells=cells).input()

    tested = np.isfinite(world.effects.p)
    yield "unmeasured genes", make_screen_input("planted_network", unmeasured=0.4, **few)
    yield "ties", make_screen_input("planted_network", ties=3, **few)
    yield "few controls", make_screen_input("planted_network", n_controls=30, **few)
    yield "rank test", labelled(effects_of_screen(world.screen, test="mann_whitney"), cells=True)
    yield "no p", labelled(replace(world.effects, p=None, se=None))
    yield "adjusted p", labelled(replace(world.effects, adjusted=True, se=None))
    yield "p of zero", labelled(replace(world.effects, p=np.where(tested, 0.0, np.nan), se=None))
    yield "pairs never met", replace(plain, attention=holes)
    yield "flat features", replace(plain, features=flat)


@pytest.mark.parametrize("name", ["perturbation_recovery", "perturbation_baselines"])
def test_odd_screens_are_answered_or_refused(name):
    spec = ANALYSES[name]
    for what, inp in odd_screens():
        for protocol in Protocol:
            asked = replace(inp, request=replace(inp.request, protocol=protocol))
            outcome = spec.run(asked)
            assert {t.id for t in spec.plan(asked.request)} == {r.id for r in outcome.records}, what
            for r in outcome.records:
                if r.undefined:
                    assert "cells" in r.undefined or "perturbations" in r.undefined, (what, r)
