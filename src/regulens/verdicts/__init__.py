"""What may be claimed? Supported, not supported or inconclusive, by rules that are data and are printed as applied.

A rule reads planned tests of the corrected protocol from a closed ledger, and counts from outcomes. It never reads a
reproduction, never mixes models or references, and writes its reasons from the numbers. One claim, one file.
"""

from __future__ import annotations

from regulens.verdicts.decide import RULES, decide
from regulens.verdicts.rule import MAX_SMD, MIN_POSITIVES, MIN_REGULATORS, ClaimRule, Equivalence, Must, Precondition

__all__ = [
    "MAX_SMD",
    "MIN_POSITIVES",
    "MIN_REGULATORS",
    "RULES",
    "ClaimRule",
    "Equivalence",
    "Must",
    "Precondition",
    "decide",
]
