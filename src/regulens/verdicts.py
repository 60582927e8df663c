"""What may be claimed? Supported, not supported or inconclusive, by rules that are data and are printed as applied.

A rule reads planned tests of the corrected protocol from a closed ledger, and counts from outcomes. It never reads a
reproduction, never mixes models or references, and writes its reasons from the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from regulens.analyses.base import StatisticsSettings
from regulens.errors import OpenFamilyError, UnplannedTestError
from regulens.types.endpoints import Protocol
from regulens.types.ledger import TestLedger, TestRecord
from regulens.types.results import AnalysisOutcome, Verdict, VerdictState

#: What a claim needs before anything is said.
MIN_POSITIVES, MIN_REGULATORS, MAX_SMD = 20, 5, 0.1

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """A condition on the facts of one analysis; when it fails nothing can be concluded.

    Parameters
    ----------
    check
        Facts → a sentence saying what is wrong, or an empty string.
    """

    analysis: str
    words: str
    check: Callable[[Facts], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Must:
    """A planned test that a supported claim needs.

    Parameters
    ----------
    words
        What the effect is, for the reasons.
    unit
        ``"AUROC"`` or another scale, for the reasons.
    beyond_seoi
        Whether the interval must lie beyond the smallest effect of interest (AUROC scale), or only above 0.
    refutes
        Whether an interval wholly below that bar makes the claim not supported.
    high_fact
        Fact of the analysis that holds the upper bound to refute with, where several nulls were looked at jointly.
    """

    analysis: str
    test: str
    words: str
    unit: str = "AUROC"
    beyond_seoi: bool = True
    refutes: bool = True
    high_fact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRule:
    """One claim, what it needs, and the rule as printed (``{...}`` filled with the settings)."""

    claim: str
    title: str
    preconditions: tuple[Precondition, ...]
    musts: tuple[Must, ...]
    equivalence: tuple[str, str, str]
    text: str


def _enough(analysis: str, n_pos: str = "n_pos", n_reg: str = "n_regulators") -> tuple[Precondition, ...]:
    return (
        Precondition(
            analysis=analysis,
            words=f"at least {MIN_POSITIVES} positives",
            check=lambda f: (
                "" if f[n_pos] >= MIN_POSITIVES else f"{f[n_pos]} positives; at least {MIN_POSITIVES} are needed"
            ),
        ),
        Precondition(
            analysis=analysis,
            words=f"at least {MIN_REGULATORS} regulators with positives",
            check=lambda f: (
                ""
                if f[n_reg] >= MIN_REGULATORS
                else f"{f[n_reg]} regulators with positives; at least {MIN_REGULATORS} are needed"
            ),
        ),
    )


def _pre_specified(facts: Facts) -> str:
    return "" if facts.get("primary_pre_specified") else "the attention score was not fixed before the data were read"


def _balanced(facts: Facts) -> str:
    if facts["max_smd"] < MAX_SMD:
        return ""
    return (
        f"matching left {facts['max_smd_feature']} unbalanced: standardised mean difference {facts['max_smd']:.2f}, "
        f"{MAX_SMD} or more"
    )


def _same_cells(facts: Facts) -> str:
    return "" if facts.get("same_cells") else "attention and co-expression were not read in the same cells"


_MATCHED = (
    Precondition(
        analysis="expression_matched",
        words=f"at least {MIN_POSITIVES} positives with matched negatives",
        check=lambda f: (
            ""
            if f["n_matched"] >= MIN_POSITIVES
            else f"{f['n_matched']} positives have matched negatives; at least {MIN_POSITIVES} are needed"
        ),
    ),
    Precondition(
        analysis="expression_matched",
        words=f"matched genes balanced (standardised mean difference of mean, detection, variance < {MAX_SMD})",
        check=_balanced,
    ),
)

#: The claims that regulens judges, in the order of the report.
RULES: tuple[ClaimRule, ...] = (
    ClaimRule(
        claim="beyond_prominence",
        title="Attention recovers regulation beyond gene prominence",
        preconditions=(
            *_enough("reference_recovery"),
            Precondition(analysis="reference_recovery", words="score fixed in advance", check=_pre_specified),
            *_MATCHED,
        ),
        musts=(
            Must(
                analysis="gene_level_baselines", test="attention_above_best_baseline",
                words="attention minus the best one-gene statistic", high_fact="strictest_high",
            ),
            Must(
                analysis="gene_level_baselines", test="attention_above_gene_model",
                words="attention minus the fitted gene-only model", refutes=False,
            ),
            Must(
                analysis="gene_level_baselines", test="attention_above_marginal_product",
                words="attention minus its own marginal product", refutes=False,
            ),
            Must(
                analysis="expression_matched", test="matched_above_chance",
                words="conditional AUROC on expression-matched pairs minus 0.5",
            ),
            Must(
                analysis="expression_matched", test="matched_above_marginal_product",
                words="attention minus its marginal product on matched pairs",
            ),
        ),
        equivalence=("gene_level_baselines", "strictest_tost_p", "strictest_null"),
        text=(
            "Inconclusive if there are fewer than {min_pos} positives or {min_reg} regulators with positives, fewer "
            "than {min_pos} positives with matched negatives, a standardised mean difference of {max_smd} or more "
            "after matching (mean, detection, variance; both genes), a score not fixed in advance, or a needed test "
            "without a result. Supported if, for every one of (1) attention - best one-gene statistic, (2) attention "
            "- fitted gene-only model, (3) attention - marginal product, (4) matched AUROC - 0.5, (5) attention - "
            "marginal product on matched pairs: q < {alpha:g} and the {level:.0%} interval lies above {seoi:g}. Not "
            "supported if the {level:.0%} interval of (4) or (5), or the joint {level:.0%} interval of attention - "
            "some gene-level null, lies below {seoi:g}, or attention equals its strictest gene-level null within "
            "{seoi:g} (TOST p < {alpha:g}). Otherwise inconclusive."
        ),
    ),
    ClaimRule(
        claim="beyond_coexpression",
        title="Attention recovers regulation beyond co-expression",
        preconditions=(
            *_enough("coexpression_dominance"),
            Precondition(analysis="reference_recovery", words="score fixed in advance", check=_pre_specified),
            Precondition(analysis="coexpression_dominance", words="same cells for both", check=_same_cells),
        ),
        musts=(
            Must(
                analysis="reference_recovery", test="pooled_above_chance", words="AUROC of attention minus 0.5",
                beyond_seoi=False, refutes=False,
            ),
            Must(
                analysis="coexpression_dominance", test="attention_differs_from_coexpression",
                words="attention minus co-expression",
            ),
            Must(
                analysis="coexpression_dominance", test="attention_coefficient",
                words="coefficient of attention given co-expression and both genes", unit="log odds per SD",
                beyond_seoi=False,
            ),
        ),
        equivalence=("coexpression_dominance", "tost_p", ""),
        text=(
            "Inconclusive if there are fewer than {min_pos} positives or {min_reg} regulators with positives, if "
            "attention and co-expression come from different cells, if the score was not fixed in advance, or if a "
            "needed test has no result. Supported if (1) the AUROC of attention exceeds 0.5 with q < {alpha:g} and "
            "its {level:.0%} interval above 0.5, (2) attention - co-expression has q < {alpha:g} and its {level:.0%} "
            "interval lies above {seoi:g}, and (3) the coefficient of attention given co-expression and both genes' "
            "expression has q < {alpha:g} and its {level:.0%} interval lies above 0. Not supported if the interval "
            "of (2) lies below {seoi:g} or that of (3) below 0, or if attention equals co-expression within {seoi:g} "
            "(TOST p < {alpha:g}). Otherwise inconclusive."
        ),
    ),
)  # fmt: skip


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


def _small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _judge(
    rule: ClaimRule, outcomes: Mapping[str, AnalysisOutcome], ledger: TestLedger, *, model: str, reference: str,
    settings: StatisticsSettings,
) -> Verdict:  # fmt: skip
    alpha, seoi = settings.alpha, settings.seoi
    text = rule.text.format(
        min_pos=MIN_POSITIVES, min_reg=MIN_REGULATORS, max_smd=MAX_SMD, alpha=alpha, level=1 - alpha, seoi=seoi
    )
    evidence = tuple(f"{m.analysis}/{model}/{reference}/{m.test}" for m in rule.musts)

    def verdict(state: VerdictState, reasons: list[str]) -> Verdict:
        return Verdict(
            claim=rule.claim, title=rule.title, model=model, reference=reference, state=state,
            reasons=tuple(dict.fromkeys(reasons)), rule=text, evidence=evidence,
        )  # fmt: skip

    facts = {
        name: o.facts
        for name, o in outcomes.items()
        if not any(r.protocol is Protocol.PUBLISHED for r in o.results) and (o.model, o.reference) == (model, reference)
    }
    needed = dict.fromkeys([p.analysis for p in rule.preconditions] + [m.analysis for m in rule.musts])
    failed = [f"The analysis {n} was not run." for n in needed if n not in facts]
    failed += [f"{facts[n]['refused'].capitalize()}." for n in needed if n in facts and facts[n].get("refused")]
    for condition in rule.preconditions:
        own = facts.get(condition.analysis)
        if own is not None and not own.get("refused") and (wrong := condition.check(own)):
            failed.append(f"{wrong[0].upper()}{wrong[1:]}.")
    records = {m.test: _find(ledger, m.analysis, m.test, model, reference) for m in rule.musts}
    for must in rule.musts:
        record = records[must.test]
        own = facts.get(must.analysis)
        if own is None or own.get("refused"):
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
    analysis, p_name, null_name = rule.equivalence
    p_equal = facts[analysis].get(p_name)
    if p_equal is not None and p_equal < alpha:
        named = facts[analysis][null_name].replace("_", " ") if null_name else ""
        against = f"the strictest gene-level null ({named})" if null_name else "co-expression"
        refuted.append(f"Attention equals {against} within ±{seoi:g} AUROC (TOST p = {_small(p_equal)}).")
    if refuted:
        return verdict(VerdictState.NOT_SUPPORTED, refuted + missed)
    if missed:
        return verdict(VerdictState.INCONCLUSIVE, missed + met)
    return verdict(VerdictState.SUPPORTED, met)


def decide(
    outcomes: Mapping[str, AnalysisOutcome], ledger: TestLedger, *, model: str, reference: str,
    settings: StatisticsSettings,
) -> tuple[Verdict, ...]:  # fmt: skip
    """Judge every claim for one model and one reference.

    Parameters
    ----------
    outcomes
        Analysis name → outcome of the corrected protocol; published ones are ignored.
    ledger
        Closed, so that q-values exist.

    Returns
    -------
    One verdict per rule of `RULES`, in that order. An analysis that was not run makes its claims inconclusive.

    Raises
    ------
    OpenFamilyError
        When the ledger is still open.
    """
    if not ledger.is_closed:
        message = "Expected a closed ledger to decide from, got an open one. Record all tests and call close() first."
        raise OpenFamilyError(message)
    return tuple(_judge(r, outcomes, ledger, model=model, reference=reference, settings=settings) for r in RULES)
