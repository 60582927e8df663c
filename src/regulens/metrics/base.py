"""What is a metric? A function of labelled pairs, with the record that says what it claims about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regulens.types.labelled import LabelledEdges


def prevalence(edges: LabelledEdges) -> float:
    """Share of positives among the pairs; NaN without pairs."""
    return edges.n_pos / len(edges.label) if len(edges.label) else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A registered metric.

    Parameters
    ----------
    version
        Bumped on any change of meaning.
    function
        ``function(edges, **parameters) -> ndarray`` of shape ``(score,)``; NaN where the metric is undefined.
    bounds
        Smallest and largest possible value.
    chance
        Value that a score without knowledge reaches on these pairs.
    invariances
        Claims that the test suite checks, and for which it demands a counter-example where they are absent:
        ``"monotone"`` (any increasing map of the scores), ``"edge_order"``, ``"negation"`` (1 minus itself).
    parameters
        Names and default values.
    """

    name: str
    version: int
    function: Callable[..., np.ndarray]
    summary: str
    reference: str
    bounds: tuple[float, float]
    chance: Callable[[LabelledEdges], float]
    invariances: frozenset[str]
    parameters: dict[str, Any] = field(default_factory=dict)
