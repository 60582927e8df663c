"""Does attention add to what features of the responding gene say about perturbation responses?"""

from __future__ import annotations

from collections.abc import Mapping

from regulens.types.endpoints import Endpoint
from regulens.verdicts.predicts_response import MIN_PERTURBATIONS, screen_preconditions
from regulens.verdicts.rule import ClaimRule, Equivalence, Facts, Must, Precondition

_ANALYSIS = "incremental_value"

#: Smallest gain in AUROC that counts (F27), not that of an AUROC over its null.
GAIN = 0.005

_SPLIT = {"perturbation": "unseen perturbations", "gene": "unseen genes", "joint": "unseen perturbations and genes"}
_LEARNER = {"logistic": "logistic regression", "trees": "boosted trees"}
_METRIC = {"auroc": "AUROC", "auprc": "average precision"}


def _control(facts: Facts) -> str:
    missed = facts["planted_missed"]
    if not missed:
        return ""
    return (
        f"a planted score with a known gain of {facts['planted_gain']:.3f} AUROC was not found ({'; '.join(missed)}): "
        "these data could not show a gain of that size"
    )


def _bound(facts: Facts) -> str:
    gain = facts["gain_of_interest"]
    return "" if gain == GAIN else f"the gain of interest was set to {gain:g}; the rule is made for {GAIN:g}"


def _remark(facts: Mapping[str, Facts]) -> str:
    """What was added to, and what is left of the gain where it is known how often a gene responds to anything."""
    own = facts.get(_ANALYSIS, {})
    out = [f"Mean prevalence of responders: {own['prevalence']:.3f}."] if "prevalence" in own else []
    left = [
        f"{found[0]:+.3f} [{found[1]:+.3f}, {found[2]:+.3f}] AUROC ({_LEARNER[learner]})"
        for learner, found in own.get("over_propensity", {}).items()
        if found
    ]
    if left:
        out.append(
            f"Gain on unseen perturbations beside how often a gene responds to other perturbations: {', '.join(left)}."
        )
    return " ".join(out)


RULE = ClaimRule(
    claim="adds_to_features",
    title="Attention adds to gene features in predicting perturbation responses",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    asked_by=_ANALYSIS,
    seoi=GAIN,
    preconditions=(
        *screen_preconditions(_ANALYSIS),
        Precondition(
            analysis=_ANALYSIS, words="model of gene features with a valid interval",
            check=lambda f: str(f["base_problem"]),
        ),
        Precondition(analysis=_ANALYSIS, words="planted score found by every model", check=_control),
        Precondition(analysis=_ANALYSIS, words=f"gain of interest {GAIN:g}", check=_bound),
    ),
    musts=tuple(
        Must(
            analysis=_ANALYSIS, test=f"{metric}_added_{split}_{learner}", unit=_METRIC[metric],
            words=f"gain by attention on {_SPLIT[split]}, {_LEARNER[learner]}",
            beyond_seoi=metric == "auroc", refutes=metric == "auroc",
        )
        for metric in _METRIC
        for split in _SPLIT
        for learner in _LEARNER
    ),
    equivalence=Equivalence(analysis=_ANALYSIS, p_fact="tost_p", rival="no score at all, beside gene features,"),
    remark=_remark,
    text=(
        f"Inconclusive if fewer than {MIN_PERTURBATIONS} perturbations can be evaluated, the modality is not verified, "
        "the scale of the effects is not known, attention was read in perturbed cells, replicates are confounded with "
        "perturbations, the score was not fixed in advance, the model of gene features has no valid interval, a "
        "planted score of known gain was missed by any model, or a needed test has no result. Supported if, on unseen "
        "perturbations, on unseen genes and on both, by logistic regression and by boosted trees: the gain in AUROC "
        "has q < {alpha:g} and a {level:.0%} interval above {seoi:g}, and the gain in average precision has q < "
        "{alpha:g} and a {level:.0%} interval above 0. Not supported if the {level:.0%} interval of any gain in AUROC "
        "lies below {seoi:g}, or all six are within {seoi:g} of 0 (TOST p < {alpha:g}: attention adds nothing). "
        "Otherwise inconclusive."
    ),
)  # fmt: skip
