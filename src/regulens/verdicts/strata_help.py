"""Do strata of cell states help to see regulation in attention?"""

from __future__ import annotations

from regulens.verdicts.rule import ClaimRule, Facts, Must, Precondition, enough

#: Share of cells that must be in a block of their own estimated state.
MIN_PURITY = 0.7


def _pure(facts: Facts) -> str:
    if facts.get("purity", 0.0) >= MIN_PURITY:
        return ""
    return (
        f"{facts.get('purity', 0.0):.0%} of the cells are in a block of their own estimated state; at least "
        f"{MIN_PURITY:.0%} are needed (divide the store by these states: --cell-state COLUMN)"
    )


def _turns(facts: Facts) -> str:
    return "" if facts.get("n_turns") == 4 else f"{facts.get('n_turns', 0)} of 4 turns of held-out cells and regulators"


RULE = ClaimRule(
    claim="strata_help",
    title="Strata of cell states help attention to recover regulation",
    preconditions=(
        *enough("cssi"),
        Precondition(
            analysis="cssi", words=f"{MIN_PURITY:.0%} of the cells in a block of their own state", check=_pure
        ),
        Precondition(analysis="cssi", words="all four turns of held-out cells and regulators", check=_turns),
    ),
    musts=(
        Must(analysis="cssi", test="gain_above_pooled", words="held-out strata minus the score pooled over all cells"),
        Must(
            analysis="cssi", test="gain_above_shuffled_labels",
            words="held-out strata minus the same with shuffled state labels", beyond_seoi=False,
        ),
        Must(  # margins are means over many pairs: with less noise than a pair, they may lead where pairs are known too
            analysis="cssi", test="gain_above_margins",
            words="held-out strata minus the margins of the same strata", beyond_seoi=False, refutes=False,
        ),
    ),
    text=(
        "Inconclusive if there are fewer than {min_pos} positives or {min_reg} regulators with positives, if fewer "
        "than 70 % of the cells are in a block of their own state, if a turn of held-out cells and regulators is "
        "missing, or if a needed test has no result. Supported if (1) strata - pooled has q < {alpha:g} and its "
        "{level:.0%} interval lies above {seoi:g}, and (2) strata - the same with shuffled labels and (3) strata - the "
        "margins of the same strata each have q < {alpha:g} and a {level:.0%} interval above 0. Not supported if the "
        "interval of (1) lies below {seoi:g} or that of (2) below 0. Otherwise inconclusive; (3) does not refute, "
        "because margins, with less noise than pairs, may lead where attention knows pairs as well. Layer, variant "
        "and gain come from different cells and different regulators."
    ),
    asked_by="cssi",
)  # fmt: skip
