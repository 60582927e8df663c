"""Do layers specialise?"""

from __future__ import annotations

from collections.abc import Mapping

from regulens.stats.smooth_profiles import MIN_LAYERS
from regulens.verdicts.rule import ClaimRule, Facts, Must, Precondition, enough


def _deep(facts: Facts) -> str:
    n = facts["n_layers"]
    return "" if n >= MIN_LAYERS else f"the model has {n} layers; at least {MIN_LAYERS} are needed"


def _baselines(facts: Facts) -> str:
    return "" if facts["n_gene_level"] else "no gene-level baseline stands beside the layers"


def _direction(facts: Mapping[str, Facts]) -> str:
    own = facts.get("layer_hierarchy", {})
    return f"Along its fitted line the profile is {own['direction_of_trend']} with depth." if own else ""


RULE = ClaimRule(
    claim="layers_specialise",
    title="Layers specialise in how well they recover regulation",
    asked_by="layer_hierarchy",
    preconditions=(
        *enough("layer_hierarchy"),
        Precondition(analysis="layer_hierarchy", words=f"at least {MIN_LAYERS} layers", check=_deep),
        Precondition(
            analysis="layer_hierarchy", words="gene-level baselines on the same reference", check=_baselines
        ),
    ),
    musts=(
        Must(
            analysis="layer_hierarchy", test="trend_over_depth", words="size of the change of AUROC over depth",
        ),
        Must(
            analysis="layer_hierarchy", test="trend_beyond_prominence",
            words="size of the change over depth of AUROC beyond each layer's marginal product", refutes=False,
        ),
        Must(
            analysis="layer_hierarchy", test="peak_above_others",
            words="best layer minus the other layers, on genes that did not choose it",
        ),
    ),
    remark=_direction,
    text=(
        "Inconclusive if there are fewer than {min_pos} positives or {min_reg} regulators with positives, fewer than "
        "6 layers, no gene-level baselines on the same reference, or a needed test without a result. Supported if, "
        "for every one of (1) the change of AUROC over depth, (2) the change over depth of AUROC beyond each layer's "
        "own marginal product, both against smooth profiles that only wander, and (3) the best layer minus the other "
        "layers, on genes that did not choose it: q < {alpha:g} and the {level:.0%} interval of its size lies above "
        "{seoi:g}. Not supported if the {level:.0%} interval of (1) or (3) lies below {seoi:g}. Otherwise "
        "inconclusive."
    ),
)  # fmt: skip
