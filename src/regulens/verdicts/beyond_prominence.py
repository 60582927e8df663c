"""Does attention recover regulation beyond gene prominence?"""

from __future__ import annotations

from regulens.verdicts.rule import (
    MAX_SMD,
    MIN_POSITIVES,
    ClaimRule,
    Equivalence,
    Facts,
    Must,
    Precondition,
    enough,
    long_enough,
    pre_specified,
)


def _balanced(facts: Facts) -> str:
    if facts["max_smd"] < MAX_SMD:
        return ""
    return (
        f"matching left {facts['max_smd_feature']} unbalanced: standardised mean difference {facts['max_smd']:.2f}, "
        f"{MAX_SMD} or more"
    )


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

RULE = ClaimRule(
    claim="beyond_prominence",
    title="Attention recovers regulation beyond gene prominence",
    preconditions=(
        *enough("reference_recovery"),
        pre_specified(),
        long_enough(),
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
    equivalence=Equivalence(
        analysis="gene_level_baselines", p_fact="strictest_tost_p", rival="the strictest gene-level null",
        rival_fact="strictest_null",
    ),
    text=(
        "Inconclusive if there are fewer than {min_pos} positives or {min_reg} regulators with positives, fewer than "
        "{min_pos} positives with matched negatives, a standardised mean difference of {max_smd} or more after "
        "matching (mean, detection, variance; both genes), a score not fixed in advance, an edge table too short to "
        "reach AUROC 0.5 + 2 x {seoi:g}, or a needed test without a result. Supported if, for every one of (1) "
        "attention - best one-gene statistic, (2) attention - fitted gene-only model, (3) attention - marginal "
        "product, (4) matched AUROC - 0.5, (5) attention - marginal product on matched pairs: q < {alpha:g} and the "
        "{level:.0%} interval lies above {seoi:g}. Not supported if the {level:.0%} interval of (4) or (5), or the "
        "joint {level:.0%} interval of attention - some gene-level null, lies below {seoi:g}, or attention equals its "
        "strictest gene-level null within {seoi:g} (TOST p < {alpha:g}). Otherwise inconclusive."
    ),
)  # fmt: skip
