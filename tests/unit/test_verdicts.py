"""Verdict rules on hand-made facts and records: every state, every precondition, numbers in the reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from regulens.analyses.base import ANALYSES, StatisticsSettings, TestRequest
from regulens.errors import OpenFamilyError
from regulens.types.endpoints import Endpoint
from regulens.types.ledger import TestLedger, TestRecord
from regulens.types.results import AnalysisOutcome, VerdictState
from regulens.verdicts import RULES, decide

NAMES = (
    "reference_recovery", "gene_level_baselines", "expression_matched", "coexpression_dominance", "degree_null",
    "layer_hierarchy", "cssi",
)  # fmt: skip
REQUEST = TestRequest(model="m", reference="r")
FACTS = {
    "reference_recovery": {"n_pos": 200, "n_regulators": 30, "primary_pre_specified": True},
    "gene_level_baselines": {
        "n_pos": 200, "n_regulators": 30, "strictest_null": "gene_model", "strictest_high": 0.2,
        "strictest_high_null": "gene_model", "strictest_tost_p": 0.9,
    },
    "expression_matched": {"n_pos": 200, "n_regulators": 30, "n_matched": 190, "max_smd": 0.05,
                           "max_smd_feature": "target mean"},
    "coexpression_dominance": {"n_pos": 200, "n_regulators": 30, "same_cells": True, "tost_p": 0.9},
    "degree_null": {"n_pos": 200, "n_regulators": 30, "n_regulators_3": 20, "self_tests_failed": [], "tost_p": 0.9,
                    "coexpression_excess": 0.05, "coexpression_low": 0.03, "coexpression_passes": True},
    "cssi": {"n_pos": 200, "n_regulators": 30, "purity": 0.9, "n_turns": 4},
    "layer_hierarchy": {"n_pos": 200, "n_regulators": 30, "n_layers": 12, "n_gene_level": 9,
                        "direction_of_trend": "rising"},
}  # fmt: skip


def judged(*, facts=None, effects=None, undefined=(), names=NAMES):
    """Verdicts by claim; `effects`: test → (effect, low, high, p), strong by default."""
    tests = [t for n in names for t in ANALYSES[n].plan(REQUEST)]
    ledger = TestLedger(tests)
    records = {n: [] for n in names}
    for t in tests:
        short = t.id.split("/")[-1]
        e, low, high, p = (effects or {}).get(short, (0.2, 0.1, 0.3, 1e-6))
        if short in undefined:
            record = TestRecord(id=t.id, undefined="nothing varies")
        else:
            record = TestRecord(id=t.id, effect=e, low=low, high=high, p_raw=p)
        ledger.record(record)
        records[t.analysis].append(record)
    ledger.close()
    outcomes = {
        n: AnalysisOutcome(
            analysis=n, model="m", reference="r", results=(), tables={}, records=tuple(records[n]),
            facts=FACTS[n] | (facts or {}).get(n, {}),
        )
        for n in names
    }  # fmt: skip
    return {v.claim: v for v in decide(outcomes, ledger, model="m", reference="r", settings=StatisticsSettings())}


def test_strong_evidence_supports_both_claims_with_numbers():
    found = judged()
    assert {v.state for v in found.values()} == {VerdictState.SUPPORTED}
    assert any("+0.200 [+0.100, +0.300]" in r and "q =" in r for r in found["beyond_prominence"].reasons)
    assert len(found["beyond_prominence"].evidence) == 5


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"reference_recovery": {"n_pos": 19}}, "19 positives; at least 20"),
        ({"reference_recovery": {"n_regulators": 4}}, "4 regulators with positives; at least 5"),
        ({"reference_recovery": {"primary_pre_specified": False}}, "was not fixed before"),
        ({"expression_matched": {"max_smd": 0.12}}, "target mean unbalanced"),
        ({"expression_matched": {"n_matched": 12}}, "12 positives have matched negatives"),
        ({"expression_matched": {"refused": "3 positives; 5 are needed"}}, "3 positives; 5 are needed"),
        ({"reference_recovery": {"list_too_short": "the table lists 9 of 99 pairs"}}, "The table lists 9 of 99 pairs."),
        (
            {"gene_level_baselines": {"skipped": "needs expression"}},
            "The analysis gene_level_baselines needs expression.",
        ),
    ],
)
def test_any_failed_precondition_is_inconclusive_with_its_reason(facts, words):
    found = judged(facts=facts)["beyond_prominence"]
    assert found.state is VerdictState.INCONCLUSIVE
    assert any(words in r for r in found.reasons)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"n_regulators_3": 2}, "2 regulators have 3 targets or more"),
        ({"self_tests_failed": ["draws identical to the reference"]}, "self-test: draws identical"),
    ],
)
def test_a_degree_null_that_is_not_sound_decides_nothing(facts, words):
    found = judged(facts={"degree_null": facts})["beyond_degree"]
    assert found.state is VerdictState.INCONCLUSIVE
    assert any(words in r for r in found.reasons)


@pytest.mark.parametrize("effect", [0.2, 0.03, -0.05])
def test_coexpression_stands_beside_attention_whatever_the_verdict(effect):
    found = judged(effects={"above_degree": (effect, effect - 0.02, effect + 0.02, 0.01)})["beyond_degree"]
    assert any("co-expression exceeds networks with the same degrees by +0.050" in r for r in found.reasons)


def test_different_cells_are_inconclusive_for_coexpression():
    found = judged(facts={"coexpression_dominance": {"same_cells": False}})["beyond_coexpression"]
    assert found.state is VerdictState.INCONCLUSIVE


#: Claims about networks; those about screens have files of their own.
NETWORKS = [r for r in RULES if r.endpoint is Endpoint.REFERENCE_RECOVERY]


@pytest.mark.parametrize("must", [m for rule in NETWORKS for m in rule.musts], ids=lambda m: m.test)
def test_each_needed_test_alone_prevents_support(must):
    claim = next(r.claim for r in NETWORKS if must in r.musts)
    unsure = judged(effects={must.test: (0.05, -0.1, 0.2, 0.3)})[claim]
    assert unsure.state is VerdictState.INCONCLUSIVE
    assert any("q is not below" in r for r in unsure.reasons)
    assert judged(undefined=(must.test,))[claim].state is VerdictState.INCONCLUSIVE


def test_significant_but_small_is_not_support():
    found = judged(effects={"attention_above_gene_model": (0.015, 0.005, 0.025, 1e-4)})["beyond_prominence"]
    assert found.state is VerdictState.INCONCLUSIVE
    assert any("lower bound is not above 0.02" in r for r in found.reasons)


@pytest.mark.parametrize("test", ["matched_above_chance", "matched_above_marginal_product"])
def test_an_interval_below_the_smallest_effect_is_not_supported(test):
    found = judged(effects={test: (-0.01, -0.03, 0.01, 0.8)})["beyond_prominence"]
    assert found.state is VerdictState.NOT_SUPPORTED


def test_joint_bound_and_equivalence_refute():
    joint = judged(facts={"gene_level_baselines": {"strictest_high": 0.01}})["beyond_prominence"]
    assert joint.state is VerdictState.NOT_SUPPORTED
    none = judged(facts={"degree_null": {"tost_p": 0.001}})["beyond_degree"]
    assert none.state is VerdictState.NOT_SUPPORTED
    assert any("jointly over all gene-level nulls" in r for r in joint.reasons)
    equal = judged(facts={"gene_level_baselines": {"strictest_tost_p": 0.001}})["beyond_prominence"]
    assert equal.state is VerdictState.NOT_SUPPORTED
    same = judged(facts={"coexpression_dominance": {"tost_p": 0.01}})["beyond_coexpression"]
    assert same.state is VerdictState.NOT_SUPPORTED


def test_negative_difference_never_supports_a_two_sided_test():
    found = judged(effects={"attention_differs_from_coexpression": (-0.2, -0.3, -0.1, 1e-9)})["beyond_coexpression"]
    assert found.state is VerdictState.NOT_SUPPORTED


def test_an_analysis_that_was_not_run_is_inconclusive():
    found = judged(names=("reference_recovery", "coexpression_dominance"))
    assert found["beyond_prominence"].state is VerdictState.INCONCLUSIVE
    assert any("gene_level_baselines was not run" in r for r in found["beyond_prominence"].reasons)
    assert found["beyond_coexpression"].state is VerdictState.INCONCLUSIVE  # needs the marginal product


def test_a_score_that_only_knows_hubs_is_not_beyond_coexpression():
    found = judged(effects={"attention_above_marginal_product": (0.0, -0.02, 0.02, 0.5)})["beyond_coexpression"]
    assert found.state is VerdictState.INCONCLUSIVE
    assert any("marginal product" in r for r in found.reasons)


def test_rule_text_is_filled_and_names_every_threshold():
    for v in judged().values():
        assert "{" not in v.rule
        assert "0.02" in v.rule
        assert "95%" in v.rule


def test_an_open_ledger_is_refused():
    ledger = TestLedger([])
    with pytest.raises(OpenFamilyError, match="Expected a closed ledger to decide from"):
        decide({}, ledger, model="m", reference="r", settings=StatisticsSettings())


def test_the_documentation_prints_the_rules_as_applied():
    page = Path(__file__).parents[2] / "docs" / "verdicts.md"
    text = " ".join(page.read_text().split())
    for v in judged().values():
        assert " ".join(v.rule.split()) in text


def test_claims_are_judged_by_endpoint_alone():
    """Everything that a claim about screens asks for is there, and it is not judged against a network."""
    network = {v.claim for v in judged().values()}
    assert network == {r.claim for r in NETWORKS} and "predicts_response" not in network
