"""What must a scorer say about itself? `ScorerSpec`, the record behind every entry of `SCORERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regulens.types.edges import EdgeScores


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSpec:
    """A registered scorer; its function is plain and can be called alone.

    Parameters
    ----------
    version
        Bumped on any change of meaning.
    function
        Returns `EdgeScores`; larger is always stronger.
    summary
        The formula in words, one sentence.
    source
        Publication that the formula comes from, or ``""``.
    needs
        What it reads: ``"attention"``, ``"expression"``, ``"scores"``.
    pairwise
        True when the score of a pair can hold more than two one-gene numbers.
    """

    name: str
    version: int
    function: Callable[..., EdgeScores]
    summary: str
    source: str
    needs: tuple[str, ...]
    pairwise: bool
