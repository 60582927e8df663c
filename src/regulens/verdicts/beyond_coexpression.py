"""Does attention recover regulation beyond co-expression?"""

from __future__ import annotations

from regulens.verdicts.rule import ClaimRule, Equivalence, Facts, Must, Precondition, enough, long_enough, pre_specified


def _same_cells(facts: Facts) -> str:
    return "" if facts.get("same_cells") else "attention and co-expression were not read in the same cells"


RULE = ClaimRule(
    claim="beyond_coexpression",
    title="Attention recovers regulation beyond co-expression",
    preconditions=(
        *enough("coexpression_dominance"),
        pre_specified(),
        long_enough(),
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
        # A hub that expression does not show as one is "more than co-expression" for any score that knows hubs.
        Must(
            analysis="gene_level_baselines", test="attention_above_marginal_product",
            words="attention minus its own marginal product", refutes=False,
        ),
    ),
    equivalence=Equivalence(analysis="coexpression_dominance", p_fact="tost_p", rival="co-expression"),
    text=(
        "Inconclusive if there are fewer than {min_pos} positives or {min_reg} regulators with positives, if "
        "attention and co-expression come from different cells, if the score was not fixed in advance, if an edge "
        "table is too short to reach AUROC 0.5 + 2 x {seoi:g}, or if a needed test has no result. Supported if (1) "
        "the AUROC of attention exceeds 0.5 with q < {alpha:g} and its {level:.0%} interval above 0.5, (2) attention "
        "- co-expression has q < {alpha:g} and its {level:.0%} interval lies above {seoi:g}, (3) the coefficient of "
        "attention given co-expression and both genes' expression has q < {alpha:g} and its {level:.0%} interval lies "
        "above 0, and (4) attention - marginal product has q < {alpha:g} and its {level:.0%} interval lies above "
        "{seoi:g}. Not supported if the interval of (2) lies below {seoi:g} or that of (3) below 0, or if attention "
        "equals co-expression within {seoi:g} (TOST p < {alpha:g}). Otherwise inconclusive."
    ),
)  # fmt: skip
