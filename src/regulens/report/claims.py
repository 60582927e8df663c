"""What may a report say of a claim? A sentence per claim and state, its decisive numbers, how often each state came.

No conclusion is written down: a sentence is looked up by the state that the rule gave, and a claim that has no
template of its own is printed with its title and state.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from regulens.report import lists
from regulens.report.model import RunView
from regulens.report.numbers import count, estimate, fixed, is_missing
from regulens.report.wording import STATES, score_label, step_label
from regulens.types.nouns import in_terms_of

_SENTENCES: dict[tuple[str, str], str] = {
    ("beyond_prominence", "supported"): (
        "Held against the reference {reference}, "
        "the attention of {model} separates regulatory pairs from other pairs better than "
        "gene prominence does: it passed every comparison of the rule."
    ),
    ("beyond_prominence", "not supported"): (
        "Held against the reference {reference}, "
        "the attention of {model} does not separate regulatory pairs from other pairs "
        "better than gene prominence does, by any amount that the rule counts as of interest."
    ),
    ("beyond_prominence", "inconclusive"): (
        "Held against the reference {reference}, "
        "these data do not decide whether the attention of {model} knows more about "
        "regulatory pairs than gene prominence does."
    ),
    ("beyond_coexpression", "supported"): (
        "Held against the reference {reference}, "
        "the attention of {model} separates regulatory pairs from other pairs better than "
        "co-expression over the same cells does, and adds to it."
    ),
    ("beyond_coexpression", "not supported"): (
        "Held against the reference {reference}, "
        "the attention of {model} does not add to what co-expression over the same cells "
        "says about regulatory pairs, by any amount that the rule counts as of interest."
    ),
    ("beyond_coexpression", "inconclusive"): (
        "Held against the reference {reference}, "
        "these data do not decide whether the attention of {model} adds to what "
        "co-expression over the same cells says about regulatory pairs."
    ),
    ("beyond_degree", "supported"): (
        "Held against the reference {reference}, "
        "the attention of {model} knows which regulator goes with which target, beyond how many "
        "targets a regulator and how many regulators a target has."
    ),
    ("beyond_degree", "not supported"): (
        "Held against the reference {reference}, "
        "the attention of {model} says no more about regulatory pairs than how many targets a "
        "regulator and how many regulators a target has, by any amount that the rule counts as of interest."
    ),
    ("beyond_degree", "inconclusive"): (
        "Held against the reference {reference}, "
        "these data do not decide whether the attention of {model} says more about regulatory "
        "pairs than how many targets a regulator and how many regulators a target has."
    ),
}

_SENTENCES |= {
    ("strata_help", "supported"): (
        "Held against the reference {reference}, joining the attention of {model} over cell states recovers regulation "
        "better than pooling over all cells, on cells and regulators that chose nothing, better than with shuffled "
        "states, and better than gene prominence within the states."
    ),
    ("strata_help", "not supported"): (
        "Held against the reference {reference}, joining the attention of {model} over cell states does not recover "
        "regulation better than pooling over all cells by any amount of interest, or no better than with shuffled "
        "states."
    ),
    ("strata_help", "inconclusive"): (
        "Held against the reference {reference}, these data do not decide whether cell states help the attention of "
        "{model} to recover regulation."
    ),
}

_SENTENCES |= {
    ("layers_specialise", "supported"): (
        "Held against the reference {reference}, layers of {model} differ in how well their attention recovers "
        "regulation: recovery changes with depth more than smooth profiles do by themselves, and the best layer stays "
        "ahead on genes that did not choose it."
    ),
    ("layers_specialise", "not supported"): (
        "Held against the reference {reference}, recovery by the attention of {model} does not differ between layers "
        "by any amount that the rule counts as of interest."
    ),
    ("layers_specialise", "inconclusive"): (
        "Held against the reference {reference}, these data do not decide whether layers of {model} differ in how well "
        "their attention recovers regulation."
    ),
}

_SENTENCES |= {
    ("predicts_response", "supported"): (
        "Held against the screen {reference}, the attention of {model} tells which genes respond to a perturbation "
        "better than what is known of each gene alone: it passed every comparison of the rule."
    ),
    ("predicts_response", "not supported"): (
        "Held against the screen {reference}, the attention of {model} does not tell which genes respond to a "
        "perturbation better than gene-level baselines do, by any amount that the rule counts as of interest."
    ),
    ("predicts_response", "inconclusive"): (
        "Held against the screen {reference}, these data do not decide whether the attention of {model} predicts "
        "responses beyond gene-level baselines."
    ),
    ("adds_to_features", "supported"): (
        "Held against the screen {reference}, the attention of {model} adds to gene features in predicting which "
        "genes respond, for perturbations and genes that nothing was fitted on."
    ),
    ("adds_to_features", "not supported"): (
        "Held against the screen {reference}, the attention of {model} adds nothing of interest to gene features in "
        "predicting which genes respond."
    ),
    ("adds_to_features", "inconclusive"): (
        "Held against the screen {reference}, these data do not decide whether the attention of {model} adds to gene "
        "features in predicting which genes respond."
    ),
}

#: Rungs whose numbers stand on the card of a claim.
DECISIVE = {
    "beyond_prominence": ("pooled", "baseline", "gene_model", "marginal", "matched"),
    "beyond_coexpression": ("pooled", "coexpression"),
    "beyond_degree": ("pooled", "degree"),
    "predicts_response": ("pooled", "baseline", "response_propensity", "gene_model", "coexpression"),
}


def verdict_sentence(view: RunView, verdict: dict[str, Any]) -> str:
    """The sentence that the state of a verdict allows; a model is always named by its label."""
    words = {"model": view.label(verdict["model"]), "reference": verdict["reference"]}
    against = "screen" if verdict["reference"] in view.screens else "reference"
    template = _SENTENCES.get((verdict["claim"], verdict["state"]))
    if template is None:
        template = f"Held against the {against} {{reference}}, the claim “{{title}}” is {{state}} for {{model}}."
        words |= {"title": verdict.get("title", verdict["claim"]), "state": verdict["state"]}
    return in_terms_of(template, view.noun_of(verdict["model"])).format(**words)


def answers(view: RunView) -> list[str]:
    """One sentence per claim that counts its states over models and references, or screens."""
    claims: dict[str, tuple[str, str, Counter[str]]] = {}
    for verdict in view.run.get("verdicts", []):
        against = "screen" if verdict["reference"] in view.screens else "reference"
        _, _, states = claims.setdefault(verdict["claim"], (verdict.get("title", verdict["claim"]), against, Counter()))
        states[verdict["state"]] += 1
    out = []
    for name, against, states in claims.values():
        total = sum(states.values())
        everything = "both" if total == 2 else f"all {total}"
        order = [*STATES, *sorted(set(states) - set(STATES))]
        parts = [f"{s} for {states[s] if states[s] < total else everything}" for s in order if states[s]]
        listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        if total == 1:
            out.append(f"“{name}”: {next(iter(states))}, for the one model and {against} of this run.")
        else:
            of = "" if len(parts) == 1 else f" of {total}"
            out.append(f"“{name}”: {listed}{of} pairs of model and {against}.")
    return out


def no_verdict(view: RunView) -> str:
    """What stands in place of the answer when no rule could be applied."""
    skipped = len(view.run.get("skipped", []))
    more = f" {skipped} analyses were skipped; they are listed with their reasons below." if skipped else ""
    return f"This run holds no verdict: no claim had all the analyses that its rule reads.{more}"


def decisive(view: RunView, verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Numbers for the card of a verdict: label, value with interval, and the row itself."""
    out = []
    for step in DECISIVE.get(verdict["claim"], ("pooled",)):
        row = view.step(verdict["model"], verdict["reference"], step)
        if row is not None:
            label = step_label(step)
            if step == "pooled" and row.get("score") not in (None, "", "pooled"):
                label = f"attention, {score_label(row['score'])}"
            if step == "baseline" and row.get("score") and row["score"] != "baseline":
                label = f"{label} ({score_label(row['score'])})"
            words = estimate(row["value"], row["low"], row["high"], undefined=row.get("undefined"))
            rival = step not in ("pooled", "layer", "matched")
            label = in_terms_of(label, view.noun_of(verdict["model"]))
            out.append({"label": label, "words": words, "row": row, "rival": rival})
    return out


def card_facts(view: RunView, verdict: dict[str, Any]) -> list[tuple[str, str]]:
    """n⁺, units, strictest null and minimum detectable AUROC of the pooled score, as printed pairs."""
    row = view.step(verdict["model"], verdict["reference"], "pooled")
    if row is None:
        return []
    units = "perturbations" if verdict["reference"] in view.screens else "regulators"
    facts = [("n⁺", count(row["n_pos"])), ("n⁻", count(row["n_neg"])), (units, count(row["n_regulators"]))]
    if row.get("strictest_null"):
        facts.append(("strictest null beaten", score_label(row["strictest_null"])))
    elif verdict["reference"] not in view.screens:  # what a score about responses has to beat is in the rule
        facts.append(("strictest null beaten", "none"))
    if not is_missing(row.get("mde")):
        facts.append(("detectable from AUROC", fixed(row["mde"])))
    return facts + lists.beside(view, verdict["model"], verdict["reference"])
