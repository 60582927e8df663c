"""The claim about perturbation responses: on hand-made facts, and in worlds of screens whose truth is known."""

from pathlib import Path

import pytest

from regulens.analyses.base import ANALYSES, StatisticsSettings, TestRequest
from regulens.analyses.perturbation_recovery import CONFOUNDED
from regulens.analyses.screen_checks import design_flags
from regulens.testing.worlds.screens import make_screen_input, make_screen_world
from regulens.types.endpoints import Endpoint
from regulens.types.ledger import TestLedger, TestRecord
from regulens.types.results import AnalysisOutcome, VerdictState
from regulens.verdicts import decide as judge
from regulens.verdicts.predicts_response import MIN_PERTURBATIONS, RULE

NAMES = ("perturbation_recovery", "perturbation_baselines")
REQUEST = TestRequest(model="m", reference="s")
FACTS = {
    "perturbation_recovery": {
        "n_perturbations": 40, "modality_problem": "", "scale": "log1p", "perturbed_cells_read": 0, "confounded": [],
        "primary_pre_specified": True, "coexpression_delta": 0.1,
    },
    "perturbation_baselines": {
        "n_perturbations": 40, "strictest_null": "target_mean", "strictest_high": 0.2,
        "strictest_high_null": "target_mean", "strictest_tost_p": 0.9, "power_control": "power_matched",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def only_this_rule(monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["regulens.verdicts.decide"], "RULES", (RULE,))


def verdict(outcomes, ledger, request):
    (found,) = judge(
        outcomes, ledger, model=request.model, reference=request.reference, settings=StatisticsSettings(),
        endpoint=Endpoint.PERTURBATION_RESPONSE,
    )  # fmt: skip
    return found


def judged(*, facts=None, effects=None):
    tests = [t for n in NAMES for t in ANALYSES[n].plan(REQUEST)]
    ledger = TestLedger(tests)
    records = {n: [] for n in NAMES}
    for t in tests:
        e, low, high, p = (effects or {}).get(t.id.split("/")[-1], (0.2, 0.1, 0.3, 1e-6))
        records[t.analysis].append(TestRecord(id=t.id, effect=e, low=low, high=high, p_raw=p))
        ledger.record(records[t.analysis][-1])
    ledger.close()
    outcomes = {
        n: AnalysisOutcome(analysis=n, model="m", reference="s", results=(), tables={}, records=tuple(records[n]),
                           facts=FACTS[n] | (facts or {}).get(n, {}))
        for n in NAMES
    }  # fmt: skip
    return verdict(outcomes, ledger, REQUEST)


def of_world(kind, **options):
    """Run both analyses in a world and judge."""
    inp = make_screen_input(kind, **options)
    tests = [t for n in NAMES for t in ANALYSES[n].plan(inp.request)]
    ledger, outcomes = TestLedger(tests), {}
    for n in NAMES:
        outcomes[n] = ANALYSES[n].run(inp)
        for r in outcomes[n].records:
            ledger.record(r)
    ledger.close()
    return verdict(outcomes, ledger, inp.request)


def test_strong_evidence_supports_and_names_coexpression_beside():
    found = judged()
    assert found.state is VerdictState.SUPPORTED and len(found.evidence) == len(RULE.musts)
    assert any("co-expression, which is no gene-level baseline: +0.100" in r for r in found.reasons)
    assert "every gene thinned to the same power" in " ".join(found.reasons)
    assert "{" not in found.rule


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"n_perturbations": MIN_PERTURBATIONS - 1}, "19 perturbations can be evaluated; at least 20"),
        ({"modality_problem": "declared as CRISPRi, but all went up"}, "declared as CRISPRi, but all went up"),
        ({"scale": ""}, "scale of the effects is not known"),
        ({"perturbed_cells_read": 7}, "read in 7 perturbed cells"),
        ({"confounded": [f"replicates are {CONFOUNDED}: 9 of 9"]}, f"{CONFOUNDED}: 9 of 9"),
        ({"primary_pre_specified": False}, "not fixed before"),
        ({"refused": "3 perturbations have responders"}, "3 perturbations have responders"),
    ],
)
def test_any_failed_precondition_is_inconclusive_with_its_reason(facts, words):
    found = judged(facts={"perturbation_recovery": facts})
    assert found.state is VerdictState.INCONCLUSIVE and any(words.lower() in r.lower() for r in found.reasons)


def test_a_refusal_is_printed_as_it_was_said():
    said = "too few responders to fit on others: Expected both classes under CRISPRi, got one. Use fewer folds."
    found = judged(facts={"perturbation_recovery": {"refused": said}})
    assert found.reasons == (f"T{said[1:]}",)


@pytest.mark.parametrize("test", [m.test for m in RULE.musts])
def test_every_must_is_needed(test):
    found = judged(effects={test: (0.02, -0.05, 0.3, 0.4)})
    assert found.state is VerdictState.INCONCLUSIVE


def test_baselines_that_win_refute_unless_power_explains_them():
    lost = {"strictest_high": -0.1, "strictest_high_null": "target_mean"}
    found = judged(
        facts={"perturbation_baselines": lost}, effects={"attention_above_best_baseline": (-0.2, -0.3, -0.1, 1.0)}
    )
    assert found.state is VerdictState.NOT_SUPPORTED and "target mean" in " ".join(found.reasons)
    # with power controlled attention is above all: the analysis then gives the bound of the control
    found = judged(
        facts={"perturbation_baselines": {"strictest_high": 0.3}},
        effects={"attention_above_best_baseline": (-0.2, -0.3, -0.1, 1.0)},
    )
    assert found.state is VerdictState.INCONCLUSIVE
    found = judged(effects={"attention_above_best_baseline_power_controlled": (-0.1, -0.2, 0.0, 1.0)})
    assert found.state is VerdictState.NOT_SUPPORTED
    assert judged(facts={"perturbation_baselines": {"strictest_tost_p": 0.01}}).state is VerdictState.NOT_SUPPORTED


def test_the_documentation_prints_the_rule_as_applied():
    page = Path(__file__).parents[2] / "docs" / "verdicts.md"
    assert " ".join(judged().rule.split()) in " ".join(page.read_text().split())


def test_the_words_of_a_confounded_design_are_those_of_the_checks():
    flags = design_flags(make_screen_world("replicate_confounded", n_perturbations=10, n_genes=60).screen.obs)
    assert any(CONFOUNDED in f for f in flags)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("planted_network", VerdictState.SUPPORTED),
        ("expression_only", VerdictState.NOT_SUPPORTED),
        ("shared_responders", VerdictState.NOT_SUPPORTED),
        ("no_signal", VerdictState.NOT_SUPPORTED),
        ("replicate_confounded", VerdictState.INCONCLUSIVE),
    ],
)
def test_worlds(kind, state):
    found = of_world(kind, seed=1)
    assert found.state is state, found.reasons
    if kind == "replicate_confounded":
        assert any(CONFOUNDED in r for r in found.reasons)


def test_few_perturbations_are_inconclusive():
    found = of_world("planted_network", seed=1, n_perturbations=12, n_genes=150)
    assert found.state is VerdictState.INCONCLUSIVE and "at least 20" in " ".join(found.reasons)
