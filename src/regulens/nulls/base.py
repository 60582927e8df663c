"""What is a null? A way to randomise, with the record of what it keeps and what it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NullSpec:
    """A registered null.

    Parameters
    ----------
    version
        Bumped on any change of meaning.
    function
        Makes the draws or the matched pairs.
    preserves, randomises
        In words, for tables; the test suite checks what `preserves` says.
    exchangeable
        What must be true of the world for its p-values to hold their level.
    parameters
        Names and default values.
    """

    name: str
    version: int
    function: Callable[..., Any]
    summary: str
    preserves: str
    randomises: str
    exchangeable: str
    reference: str
    parameters: dict[str, Any] = field(default_factory=dict)
