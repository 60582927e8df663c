"""Does attention predict perturbation responses beyond what is known of each gene alone?"""

from __future__ import annotations

from collections.abc import Mapping

from regulens.types.endpoints import Endpoint
from regulens.verdicts.rule import ClaimRule, Equivalence, Facts, Must, Precondition

#: Perturbations with responders below which nothing is said.
MIN_PERTURBATIONS = 20

_RECOVERY, _BASELINES = "perturbation_recovery", "perturbation_baselines"

_POWER = {
    "power_matched": "every gene thinned to the same power",
    "effect_size": "responders ranked by effect size, since there are no cells to thin",
}


def _enough(facts: Facts) -> str:
    n = facts["n_perturbations"]
    if n >= MIN_PERTURBATIONS:
        return ""
    return f"{n} perturbations can be evaluated; at least {MIN_PERTURBATIONS} are needed"


def _scale(facts: Facts) -> str:
    return "" if facts.get("scale") else "the scale of the effects is not known"


def _controls_only(facts: Facts) -> str:
    n = facts["perturbed_cells_read"]
    return f"attention was read in {n} perturbed cells of the screen; control cells only are allowed" if n else ""


def _design(facts: Facts) -> str:
    return "; ".join(facts["confounded"])


def screen_preconditions(analysis: str = _RECOVERY) -> tuple[Precondition, ...]:
    """What any claim about a screen needs: perturbations, modality, scale, control cells, a design that separates."""
    return (
        Precondition(analysis=analysis, words=f"at least {MIN_PERTURBATIONS} perturbations", check=_enough),
        Precondition(
            analysis=analysis, words="modality of the screen verified", check=lambda f: str(f["modality_problem"])
        ),
        Precondition(analysis=analysis, words="scale of the effects known", check=_scale),
        Precondition(analysis=analysis, words="attention read in control cells only", check=_controls_only),
        Precondition(analysis=analysis, words="replicates not confounded with perturbations", check=_design),
        Precondition(
            analysis=analysis,
            words="score fixed in advance",
            check=lambda f: (
                "" if f.get("primary_pre_specified") else "the attention score was not fixed before the data were read"
            ),
        ),
    )


def _remark(facts: Mapping[str, Facts]) -> str:
    """Which control of power was possible, and how attention stands to co-expression: it is no gene-level baseline."""
    own = facts.get(_RECOVERY, {}).get("coexpression_delta")
    power = _POWER.get(str(facts.get(_BASELINES, {}).get("power_control", "")), "")
    out = [f"Control of power: {power}."] if power else []
    if own is not None:
        out.append(f"Attention minus co-expression, which is no gene-level baseline: {own:+.3f} AUROC.")
    return " ".join(out)


RULE = ClaimRule(
    claim="predicts_response",
    title="Attention predicts perturbation responses beyond gene-level baselines",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    asked_by=_RECOVERY,
    preconditions=screen_preconditions(),
    musts=(
        Must(
            analysis=_RECOVERY, test="mean_above_chance",
            words="mean AUROC over perturbations minus 0.5",
        ),
        Must(
            analysis=_BASELINES, test="attention_above_best_baseline",
            words="attention minus the best one-gene statistic", high_fact="strictest_high",
        ),
        Must(
            analysis=_BASELINES, test="attention_above_response_propensity",
            words="attention minus how often a gene responds to other perturbations", refutes=False,
        ),
        Must(
            analysis=_BASELINES, test="attention_above_gene_model",
            words="attention minus the fitted gene-only model", refutes=False,
        ),
        Must(
            analysis=_BASELINES, test="attention_above_best_baseline_power_controlled",
            words="attention minus the strongest gene-level baseline, power controlled",
        ),
        Must(
            analysis=_BASELINES, test="attention_above_marginal_product",
            words="attention minus its own marginal product", refutes=False,
        ),
    ),
    equivalence=Equivalence(
        analysis=_BASELINES, p_fact="strictest_tost_p", rival="the strictest gene-level baseline",
        rival_fact="strictest_null",
    ),
    remark=_remark,
    text=(
        f"Inconclusive if fewer than {MIN_PERTURBATIONS} perturbations can be evaluated, the modality is not verified, "
        "the scale of the effects is not known, attention was read in perturbed cells, replicates are confounded with "
        "perturbations, the score was not fixed in advance, or a needed test has no result. Supported if, for every "
        "one of (1) mean AUROC over perturbations - 0.5, (2) attention - best one-gene statistic, (3) attention - "
        "response propensity, (4) attention - fitted gene-only model, (5) attention - strongest gene-level baseline "
        "with the power to call responses controlled, (6) attention - its own marginal product: q < {alpha:g} and the "
        "{level:.0%} interval lies above {seoi:g}. "
        "Not supported if the {level:.0%} interval of (1), or the joint {level:.0%} interval of (5), lies below "
        "{seoi:g}; and, unless attention is above all gene-level baselines by more than {seoi:g} with power "
        "controlled, if the joint {level:.0%} interval of attention - some gene-level baseline lies below {seoi:g} or "
        "attention equals its strictest gene-level baseline within {seoi:g} (TOST p < {alpha:g}). Otherwise "
        "inconclusive."
    ),
)  # fmt: skip
