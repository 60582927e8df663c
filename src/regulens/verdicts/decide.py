"""Which state does a claim get? Rules applied to a closed ledger and to counts, with reasons written from numbers."""

from __future__ import annotations

from collections.abc import Mapping

from regulens.analyses.base import StatisticsSettings
from regulens.errors import OpenFamilyError, UnplannedTestError
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import TestLedger, TestRecord
from regulens.types.nouns import ATTENTION, in_terms_of
from regulens.types.results import AnalysisOutcome, Verdict, VerdictState
from regulens.verdicts import (
    adds_to_features,
    beyond_coexpression,
    beyond_degree,
    beyond_prominence,
    layers_specialise,
    predicts_response,
    strata_help,
)
from regulens.verdicts.rule import MAX_SMD, MIN_POSITIVES, MIN_REGULATORS, ClaimRule

#: The claims that regulens judges, in the order of the report.
RULES: tuple[ClaimRule, ...] = (
    beyond_prominence.RULE,
    beyond_coexpression.RULE,
    beyond_degree.RULE,
    layers_specialise.RULE,
    strata_help.RULE,
    predicts_response.RULE,
    adds_to_features.RULE,
)


def _find(ledger: TestLedger, analysis: str, test: str, model: str, reference: str) -> TestRecord | None:
    """Record of a confirmatory test of the corrected protocol, or None when it was not planned as one."""
    name = f"{analysis}/{model}/{reference}/{test}"
    planned = {t.id: t for t in ledger.planned}.get(name)
    if planned is None or planned.protocol is not Protocol.CORRECTED or not planned.confirmatory:
        return None
    try:
        return ledger.get(name)
    except UnplannedTestError:
        return None


def _sentence(words: str) -> str:
    """A reason as a sentence: its first letter large, one full stop; names inside stay as they are."""
    return f"{words[0].upper()}{words[1:].removesuffix('.')}."


def _small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _judge(
    rule: ClaimRule, outcomes: Mapping[str, AnalysisOutcome], ledger: TestLedger, *, model: str, reference: str,
    settings: StatisticsSettings, noun: str,
) -> Verdict:  # fmt: skip
    alpha, seoi = settings.alpha, settings.seoi if rule.seoi is None else rule.seoi
    text = rule.text.format(
        min_pos=MIN_POSITIVES, min_reg=MIN_REGULATORS, max_smd=MAX_SMD, alpha=alpha, level=1 - alpha, seoi=seoi
    )
    evidence = tuple(f"{m.analysis}/{model}/{reference}/{m.test}" for m in rule.musts)

    def verdict(state: VerdictState, reasons: list[str]) -> Verdict:
        return Verdict(
            claim=rule.claim, title=in_terms_of(rule.title, noun), model=model, reference=reference, state=state,
            reasons=tuple(in_terms_of(r, noun) for r in dict.fromkeys(reasons)), rule=in_terms_of(text, noun),
            evidence=evidence,
        )  # fmt: skip

    facts = {
        name: o.facts
        for name, o in outcomes.items()
        if not any(r.protocol is Protocol.PUBLISHED for r in o.results) and (o.model, o.reference) == (model, reference)
    }
    needed = dict.fromkeys([p.analysis for p in rule.preconditions] + [m.analysis for m in rule.musts])
    failed = [f"The analysis {n} was not run." for n in needed if n not in facts]
    failed += [_sentence(str(facts[n]["refused"])) for n in needed if n in facts and facts[n].get("refused")]
    failed += [f"The analysis {n} {facts[n]['skipped']}." for n in needed if n in facts and facts[n].get("skipped")]
    silent = {n for n, own in facts.items() if own.get("refused") or own.get("skipped")}
    for condition in rule.preconditions:
        own = facts.get(condition.analysis)
        if own is not None and condition.analysis not in silent and (wrong := condition.check(own)):
            failed.append(_sentence(wrong))
    records = {m.test: _find(ledger, m.analysis, m.test, model, reference) for m in rule.musts}
    for must in rule.musts:
        record = records[must.test]
        own = facts.get(must.analysis)
        if own is None or must.analysis in silent:
            continue
        if record is None:
            failed.append(f"The test {must.test} was not planned.")
        elif record.p_raw is None:
            failed.append(f"The test {must.test} has no result: {record.undefined}.")
    if failed:
        return verdict(VerdictState.INCONCLUSIVE, failed)

    met: list[str] = []
    missed: list[str] = []
    refuted: list[str] = []
    for must, name in zip(rule.musts, evidence):
        record = records[must.test]
        assert record is not None and record.effect is not None and record.low is not None and record.high is not None
        q = ledger.adjusted(name)
        assert q is not None
        bar = seoi if must.beyond_seoi else 0.0
        numbers = f"{record.effect:+.3f} [{record.low:+.3f}, {record.high:+.3f}] {must.unit}, q = {_small(q)}"
        sentence = f"{must.words[0].upper()}{must.words[1:]}: {numbers}"
        high = facts[must.analysis].get(must.high_fact, record.high) if must.high_fact else record.high
        if must.refutes and high < bar:
            joint = ""
            if must.high_fact:
                null = facts[must.analysis].get("strictest_high_null", "").replace("_", " ")
                joint = f" (jointly over all gene-level nulls: {high:+.3f} against {null})"
            refuted.append(f"{sentence}; the upper bound{joint} lies below {bar:g}.")
        elif q < alpha and record.low > bar:
            met.append(f"{sentence}; above {bar:g}.")
        else:
            why = f"q is not below {alpha:g}" if q >= alpha else f"the lower bound is not above {bar:g}"
            missed.append(f"{sentence}; {why}.")
    equal = rule.equivalence
    p_equal = facts[equal.analysis].get(equal.p_fact) if equal else None
    if equal and p_equal is not None and p_equal < alpha:
        named = facts[equal.analysis][equal.rival_fact].replace("_", " ") if equal.rival_fact else ""
        against = f"{equal.rival} ({named})" if named else equal.rival
        refuted.append(f"Attention equals {against} within ±{seoi:g} AUROC (TOST p = {_small(p_equal)}).")
    remark = rule.remark(facts) if rule.remark else ""
    remarks = [remark] if remark else []
    if refuted:
        return verdict(VerdictState.NOT_SUPPORTED, refuted + missed + remarks)
    if missed:
        return verdict(VerdictState.INCONCLUSIVE, missed + met + remarks)
    return verdict(VerdictState.SUPPORTED, met + remarks)


def decide(
    outcomes: Mapping[str, AnalysisOutcome], ledger: TestLedger, *, model: str, reference: str,
    settings: StatisticsSettings, endpoint: Endpoint = Endpoint.REFERENCE_RECOVERY, noun: str = ATTENTION,
) -> tuple[Verdict, ...]:  # fmt: skip
    """Judge every claim about one endpoint for one model and one reference, or one screen.

    Parameters
    ----------
    outcomes
        Analysis name → outcome of the corrected protocol; published ones are ignored.
    ledger
        Closed, so that q-values exist.
    noun
        What the model's scores are called (`regulens.types.nouns`).

    Returns
    -------
    One verdict per rule of `RULES` that the study asks, in that order. An analysis that was not run makes the claims
    that need it inconclusive.

    Raises
    ------
    OpenFamilyError
        When the ledger is still open.
    """
    if not ledger.is_closed:
        message = "Expected a closed ledger to decide from, got an open one. Record all tests and call close() first."
        raise OpenFamilyError(message)
    return tuple(
        _judge(r, outcomes, ledger, model=model, reference=reference, settings=settings, noun=noun)
        for r in RULES
        if r.endpoint is endpoint and (not r.asked_by or r.asked_by in outcomes)
    )
