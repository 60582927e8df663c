"""Does attention know pairs beyond the degrees of regulators and targets?"""

from __future__ import annotations

from collections.abc import Mapping

from regulens.verdicts.rule import ClaimRule, Equivalence, Facts, Must, Precondition, enough, long_enough, pre_specified

#: Regulators with several targets that a claim about pairs needs, and how many targets each.
MIN_SIZED, MIN_TARGETS = 3, 3


def _self_tests(facts: Facts) -> str:
    failed = facts.get("self_tests_failed") or []
    return f"the degree null failed its self-test: {'; '.join(failed)}" if failed else ""


def _sized(facts: Facts) -> str:
    n = facts["n_regulators_3"]
    return "" if n >= MIN_SIZED else f"{n} regulators have {MIN_TARGETS} targets or more; {MIN_SIZED} are needed"


def _coexpression(facts: Mapping[str, Facts]) -> str:
    own = facts["degree_null"]
    excess, low = own.get("coexpression_excess"), own.get("coexpression_low")
    if excess is None:
        return ""
    bound = "without an interval" if low is None else f"interval from {low:+.3f}"
    reads = "passes the same null" if own.get("coexpression_passes") else "does not pass the same null by that margin"
    return (
        f"For comparison: co-expression exceeds networks with the same degrees by {excess:+.3f} AUROC ({bound}); it "
        f"{reads}."
    )


RULE = ClaimRule(
    claim="beyond_degree",
    title="Attention knows pairs beyond the degrees of their genes",
    asked_by="degree_null",
    preconditions=(
        *enough("degree_null"),
        pre_specified(),
        long_enough(),
        Precondition(analysis="degree_null", words="self-tests of the degree null passed", check=_self_tests),
        Precondition(
            analysis="degree_null",
            words=f"at least {MIN_SIZED} regulators with {MIN_TARGETS} targets or more",
            check=_sized,
        ),
    ),
    musts=(
        Must(
            analysis="degree_null", test="above_degree",
            words="AUROC of attention minus that of networks with the same degrees",
        ),
        Must(
            analysis="degree_null", test="above_degree_without_any_regulator",
            words="the same without the regulator whose absence costs most", beyond_seoi=False, refutes=False,
        ),
    ),
    equivalence=Equivalence(
        analysis="degree_null", p_fact="tost_p", rival="what the degrees of both genes explain"
    ),
    text=(
        "Inconclusive if there are fewer than {min_pos} positives or {min_reg} regulators with positives, fewer than "
        "3 regulators with 3 targets or more, if the degree null failed a self-test, if the score was not fixed in "
        "advance, if an edge table is too short to reach AUROC 0.5 + 2 x {seoi:g}, or if a needed test has no result. "
        "Supported if (1) the AUROC exceeds the mean AUROC of networks with the same degrees with q < {alpha:g} and "
        "its {level:.0%} interval above {seoi:g}, and (2) the excess without any one regulator has q < {alpha:g} and "
        "its {level:.0%} interval above 0. Not supported if the interval of (1) lies below {seoi:g}, or the excess is "
        "0 within {seoi:g} (TOST p < {alpha:g}). Otherwise inconclusive. Passing this is not knowledge that is the "
        "model's own: a score that only sees which genes are expressed together can pass too, and its excess is given "
        "beside that of attention."
    ),
    remark=_coexpression,
)  # fmt: skip
