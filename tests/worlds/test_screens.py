"""Worlds of screens: what was put in can be seen, bad requests are answered, broken twins are caught."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from regulens.analyses import response_propensity
from regulens.analyses.common import shared_pairs
from regulens.errors import AlignmentError, InputError, ParameterError
from regulens.testing.worlds.measure import Task, answers_of
from regulens.testing.worlds.screen_expectations import SCREEN_EXPECTATIONS
from regulens.testing.worlds.screens import SCREEN_KINDS, ScreenWorld, make_screen_input, make_screen_world
from regulens.types.endpoints import Endpoint
from regulens.types.screens import LabelRule, ResponseLabels

SMALL = {"n_perturbations": 20, "n_genes": 200}
WITH_EFFECTS = [k for k in SCREEN_KINDS if k != "no_effects"]


@cache
def world(kind: str, seed: int = 0, **options: object) -> ScreenWorld:
    return make_screen_world(kind, seed=seed, **SMALL, **options)


def mean_auroc(inp, values: np.ndarray) -> float:
    """Mean over perturbations, on shared pairs, by scikit-learn."""
    keep, positive = shared_pairs(inp), inp.universe.positive
    return float(np.mean([roc_auc_score(y[k], v[k]) for y, v, k in zip(positive, values, keep)]))


def measured(kind: str, seed: int) -> dict[str, float]:
    inp = world(kind, seed).input()
    names = ("target_mean", "target_variance", "marginal_product")
    found = {n: mean_auroc(inp, inp.baselines.select([n]).values[0]) for n in names}
    found["attention"] = mean_auroc(inp, inp.primary.values[0])
    found["coexpression"] = mean_auroc(inp, inp.coexpression.select(["coexpression_abs"]).values[0])
    return found


@pytest.mark.parametrize("kind", WITH_EFFECTS)
def test_an_input_is_that_of_a_screen(kind):
    inp = world(kind).input()
    view = inp.screen
    assert view is not None
    assert view.cells is not None
    assert inp.request.reference == view.name == inp.universe.reference
    assert set(inp.universe.regulators) <= set(view.labels.effects.perturbations)
    assert inp.cells is not None
    assert inp.cells.n_cells == int(view.cells.obs["control"].sum())  # attention is that of control cells
    own = inp.universe.regulator_columns()
    assert not inp.universe.positive[np.arange(len(own)), own].any()
    assert (inp.universe.positive.sum(axis=1) >= view.labels.rule.min_positives).all()


def test_power_acts_by_itself():
    # a planted network has nothing to do with expression, and who is seen to respond does
    a = world("planted_network")
    i = np.array([a.summary.genes.index(p) for p in a.effects.perturbations])
    true = a.change != 0
    seen = ResponseLabels.build(a.effects, LabelRule()).positive
    level = np.asarray(a.controls.log_normalised().mean(axis=0)).ravel()
    low, high = level < np.quantile(level, 0.3), level > np.quantile(level, 0.7)
    assert abs(true[:, low].mean() - true[:, high].mean()) < 0.05
    assert seen[:, low][true[:, low]].mean() < 0.3 < 0.8 < seen[:, high][true[:, high]].mean()
    assert seen[~true & a.effects.tested].mean() < 0.02  # and who does not respond is rarely seen to
    assert (a.effects.effect[np.arange(len(i)), i] < -0.5).mean() > 0.8  # targets are knocked down


@pytest.mark.parametrize("seed", range(2))
def test_what_is_true_can_be_seen(seed):
    planted, unknown = measured("planted_network", seed), measured("no_signal", seed)
    assert planted["attention"] > max(0.65, planted["marginal_product"] + 0.1)
    assert abs(unknown["attention"] - 0.5) < 0.06
    level = measured("expression_only", seed)
    assert level["target_mean"] > level["attention"] > 0.6
    assert level["target_mean"] > 0.75
    shared = measured("shared_responders", seed)
    assert shared["marginal_product"] > shared["attention"] > 0.65
    coexpressed = measured("coexpression_only", seed)
    assert coexpressed["coexpression"] > coexpressed["attention"] > 0.65
    confounded = measured("replicate_confounded", seed)
    assert abs(confounded["attention"] - 0.5) < 0.06
    assert confounded["target_variance"] > 0.8


def test_without_effects_nothing_can_be_labelled():
    with pytest.raises(InputError, match=r"at least one perturbation of 'screen' with responders .* got none of 20"):
        world("no_effects").input()


def test_worlds_are_functions_of_their_arguments():
    a, b = make_screen_world("no_signal", seed=3, **SMALL), make_screen_world("no_signal", seed=3, **SMALL)
    c = make_screen_world("no_signal", seed=4, **SMALL)
    assert a.effects.digest == b.effects.digest != c.effects.digest
    assert np.array_equal(a.summary.sums, b.summary.sums)


def test_a_table_of_effects_has_no_cells():
    inp = make_screen_input("planted_network", cells=False, **SMALL)
    assert inp.screen is not None
    assert inp.screen.cells is None
    assert inp.universe.digest == world("planted_network").input().universe.digest


def test_genes_that_were_not_measured_are_no_candidates():
    inp = make_screen_input("planted_network", unmeasured=0.3, **SMALL)
    lost = [g for g in inp.universe.genes if g not in inp.screen.labels.effects.genes]
    assert 30 < len(lost) < 90
    columns = [inp.universe.genes.index(g) for g in lost]
    assert not inp.universe.candidate[:, columns].any()


def test_ties_are_ties():
    free, tied = world("planted_network").input(), make_screen_input("planted_network", ties=4, **SMALL)
    assert len(np.unique(free.primary.values[0][free.primary.observed])) > 3000
    assert len(np.unique(tied.primary.values[0][tied.primary.observed])) == 4
    assert mean_auroc(tied, tied.primary.values[0]) > 0.6


@pytest.mark.parametrize(("second", "same"), [("same", True), ("unknown", False), ("known", False)])
def test_a_second_screen_agrees_or_does_not(second, same):
    first = world("planted_network", second=second)
    inp = first.input()
    assert inp.request.others == ("second_screen",)
    other = inp.others["second_screen"]()
    assert other.request.reference == "second_screen"
    assert set(other.universe.regulators) <= set(inp.universe.regulators)
    common = [(inp.universe.regulators.index(r), k) for k, r in enumerate(other.universe.regulators)]
    one = inp.universe.positive[[i for i, _ in common]]
    two = other.universe.positive[[k for _, k in common]]
    assert (one & two).sum() / two.sum() > 0.6 if same else (one & two).sum() / two.sum() < 0.4
    assert (mean_auroc(inp, inp.primary.values[0]) > 0.6) is (second != "known")
    assert (mean_auroc(other, other.primary.values[0]) > 0.6) is (second != "unknown")


def test_a_transposed_capture_loses_the_network():
    a = world("planted_network")
    good, bad = a.input(), a.transposed().input()
    assert mean_auroc(good, good.primary.values[0]) > 0.65
    assert abs(mean_auroc(bad, bad.primary.values[0]) - 0.5) < 0.05


SEEDS = range(700, 703)
BATTERY = ("perturbation_recovery", "perturbation_baselines")


def answered(setting: str, twin: str = "") -> dict[str, int]:
    """In how many of three worlds each test answers."""
    found = [a for s in SEEDS for a in answers_of(Task(setting=setting, seed=s, analyses=BATTERY, twin=twin))]
    return {test: sum(a.state == "answers" for a in found if a.test == test) for test in {a.test for a in found}}


def upward() -> set[str]:
    """Tests of the battery that must answer where attention knows the network."""
    return {e.test for e in SCREEN_EXPECTATIONS if e.analysis in BATTERY and "screen: planted_network" in e.answers}


def test_labels_dealt_anew_lose_what_was_planted():
    found = answered("screen: planted_network", "relabelled")
    assert {"mean_above_chance", "attention_above_response_propensity"} <= upward() <= set(found)
    kept = {"attention_above_best_baseline_power_controlled"}  # makes labels of its own from the cells
    assert all(found[t] < 2 for t in upward() - kept)


def test_attention_that_saw_the_labels_breaks_the_silence():
    found = answered("screen: no_signal", "leaking")
    assert found["mean_above_chance"] == found["layer_nested_above_chance"] == len(SEEDS)


def test_a_propensity_that_counts_the_perturbation_itself_is_caught(monkeypatch):
    # one label in forty is enough: where nothing about a gene is to be known, genes seem to be known
    setting = "screen: no_signal, equal power"
    assert answered(setting)["some_baseline_above_attention"] < 2

    def leaking(positive, tested, own):
        return np.broadcast_to((positive & tested).sum(axis=0) / tested.sum(axis=0), (len(own), positive.shape[1]))

    monkeypatch.setattr(response_propensity, "leave_one_out_share", leaking)
    assert answered(setting)["some_baseline_above_attention"] == len(SEEDS)


def test_labels_that_hold_the_perturbed_gene_itself_are_refused():
    a = world("no_signal")
    labels = ResponseLabels.build(a.effects, LabelRule())
    own = [a.effects.genes.index(p) for p in a.effects.perturbations]
    positive, tested = labels.positive.copy(), labels.tested.copy()
    positive[np.arange(len(own)), own] = tested[np.arange(len(own)), own] = True
    with pytest.raises(AlignmentError, match="self-pairs"):
        replace(a, labels=replace(labels, positive=positive, tested=tested)).input()


@pytest.mark.parametrize("kind", WITH_EFFECTS)
def test_confounded_replicates_are_flagged_and_others_are_not(kind):
    view = world(kind).input().screen
    flagged = any("replicates are confounded with perturbations" in f for f in view.flags)
    assert flagged is (kind == "replicate_confounded")
    assert not view.modality_problem
    assert view.checks["verified"].mean() > 0.9


def test_responders_that_a_feature_all_but_gives_away_can_be_fitted():
    # Newton's step from a neighbouring fit overshot here until every pair was certain and nothing was left to solve
    setting = "screen: replicate_confounded, small"
    found = answers_of(Task(setting=setting, seed=100_000, analyses=("incremental_value",)))
    assert {a.state for a in found if a.analysis == "incremental_value"} <= {"silent", "answers"}
    assert sum(a.state == "answers" for a in found) <= 1


def test_a_wrong_modality_is_refused():
    a = world("no_signal")
    with pytest.raises(InputError, match=r"(?i)crispra"):
        replace(a, screen=replace(a.screen, modality="crispra")).input()


def test_endpoints_are_not_mixed():
    from regulens.analyses.common import edges_of

    inp = world("planted_network").input()
    assert edges_of(inp, inp.primary).endpoint is Endpoint.PERTURBATION_RESPONSE


def test_unknown_requests_are_answered():
    with pytest.raises(ParameterError, match=r"Expected a kind of screen .* Did you mean 'no_signal'\?"):
        make_screen_world("no_signals")
    with pytest.raises(ParameterError, match="Expected a second screen among"):
        make_screen_world("no_signal", second="third")
