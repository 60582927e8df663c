"""The claim that attention adds to gene features: every state has a world or a fact that leads to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from regulens.analyses.base import ANALYSES
from regulens.testing.worlds.screens import make_screen_input
from regulens.types.endpoints import Endpoint
from regulens.types.ledger import TestLedger
from regulens.verdicts import decide
from regulens.verdicts.adds_to_features import RULE

NAME = "incremental_value"


@pytest.fixture(scope="module")
def runs():
    spec, out = ANALYSES[NAME], {}
    for kind in ("planted_network", "expression_only"):
        inp = make_screen_input(kind, seed=1, n_perturbations=24, n_genes=160, cells=False)
        out[kind] = inp, spec.run(replace(inp, parameters={"draws": 40, "tree_draws": 12}))
    return out


def state(inp, outcome, **facts):
    ledger = TestLedger(ANALYSES[NAME].plan(inp.request))
    for record in outcome.records:
        ledger.record(record)
    ledger.close()
    changed = replace(outcome, facts={**outcome.facts, **facts})
    found = decide(
        {NAME: changed}, ledger, model=inp.request.model, reference=inp.request.reference,
        settings=inp.request.settings, endpoint=Endpoint.PERTURBATION_RESPONSE,
    )  # fmt: skip
    return next(v for v in found if v.claim == RULE.claim)


ENOUGH = {"n_perturbations": 24, "planted_missed": []}


def test_a_planted_network_is_supported(runs):
    found = state(*runs["planted_network"], **ENOUGH)
    assert str(found.state) == "supported", found.reasons
    assert sum("above 0.005" in r for r in found.reasons) == 6
    assert "0.005" in found.rule and len(found.evidence) == 12


def test_expression_alone_is_not_supported(runs):
    found = state(*runs["expression_only"], **ENOUGH)
    assert str(found.state) == "not supported", found.reasons


def test_equality_in_all_splits_by_both_learners_refutes(runs):
    found = state(*runs["expression_only"], **ENOUGH, tost_p=0.01)
    assert any("within ±0.005 AUROC (TOST p = 0.010)" in r for r in found.reasons)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"n_perturbations": 12}, "at least 20 are needed"),
        ({"planted_missed": ["gene split, boosted trees"], "planted_gain": 0.02}, "was not found"),
        ({"base_problem": "the model of gene features has no error"}, "no error"),
        ({"modality_problem": "the modality is not verified"}, "not verified"),
        ({"gain_of_interest": 0.5}, "gain of interest was set to 0.5"),
    ],
)  # fmt: skip
def test_what_is_missing_makes_it_inconclusive(runs, facts, words):
    found = state(*runs["planted_network"], **{**ENOUGH, **facts})
    assert str(found.state) == "inconclusive"
    assert any(words in r for r in found.reasons)


def test_the_bar_of_the_claim_is_its_own(runs):
    """The study's smallest effect of interest is another one."""
    assert RULE.seoi == 0.005 != runs["planted_network"][0].request.settings.seoi


def test_the_documentation_prints_the_rule_as_applied(runs):
    page = Path(__file__).parents[2] / "docs" / "verdicts.md"
    found = state(*runs["planted_network"], **ENOUGH)
    assert " ".join(found.rule.split()) in " ".join(page.read_text().split())


def test_what_is_left_beside_the_propensity_to_respond_is_said(runs):
    """A score that knows popular responders gains over gene features; beside their popularity it must be told apart."""
    inp, outcome = runs["planted_network"]
    found = state(inp, outcome, **ENOUGH)
    said = [r for r in found.reasons if "how often a gene responds to other perturbations" in r]
    value = outcome.facts["over_propensity"]["logistic"][0]
    assert len(said) == 1 and f"{value:+.3f}" in said[0] and value > 0.005
    none = state(inp, outcome, **ENOUGH, over_propensity={"logistic": [], "trees": []})
    assert not any("how often a gene responds" in r for r in none.reasons)
