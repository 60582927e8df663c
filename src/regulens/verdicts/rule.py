"""What is a rule? Preconditions on counts, tests that must hold, what refutes, and the words that are printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from regulens.types.endpoints import Endpoint

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
class Equivalence:
    """A fact that refutes a claim by equality: the p of a TOST of "attention equals its rival".

    Parameters
    ----------
    p_fact
        Fact of the analysis that holds the p; absent or None where it could not be tested.
    rival
        The rival in words.
    rival_fact
        Fact that names the rival more closely, or empty.
    """

    analysis: str
    p_fact: str
    rival: str
    rival_fact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRule:
    """One claim, what it needs, and the rule as printed (``{...}`` filled with the settings).

    Parameters
    ----------
    endpoint
        What the claim is about; it is judged for the networks, or for the screens, of a study.
    seoi
        Smallest effect of interest of this claim; None for that of the study.
    asked_by
        The claim is judged in studies that run this analysis; empty for a claim that every study answers.
    remark
        Facts of all analyses → a sentence that is printed with the reasons whatever the state, or an empty string.
    """

    claim: str
    title: str
    preconditions: tuple[Precondition, ...]
    musts: tuple[Must, ...]
    text: str
    equivalence: Equivalence | None = None
    endpoint: Endpoint = Endpoint.REFERENCE_RECOVERY
    seoi: float | None = None
    asked_by: str = ""
    remark: Callable[[Mapping[str, Facts]], str] | None = None


def enough(analysis: str, n_pos: str = "n_pos", n_reg: str = "n_regulators") -> tuple[Precondition, ...]:
    """At least so many positives and regulators among the pairs of an analysis."""
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


def pre_specified() -> Precondition:
    """The attention score was fixed in the plan."""
    return Precondition(analysis="reference_recovery", words="score fixed in advance", check=_pre_specified)


def long_enough() -> Precondition:
    """An edge table lists enough pairs for its AUROC to rise above chance."""
    return Precondition(
        analysis="reference_recovery", words="a list long enough", check=lambda f: str(f.get("list_too_short") or "")
    )


def _pre_specified(facts: Facts) -> str:
    return "" if facts.get("primary_pre_specified") else "the attention score was not fixed before the data were read"
