"""What share of the reference is among the k strongest pairs?"""

from __future__ import annotations

from regulens.metrics.base import MetricSpec
from regulens.metrics.thresholded import recall_at_k
from regulens.types.labelled import LabelledEdges


def _chance(edges: LabelledEdges) -> float:
    return SPEC.parameters["k"] / len(edges.label) if len(edges.label) else float("nan")


SPEC = MetricSpec(
    name="recall_at_k",
    version=1,
    function=recall_at_k,
    summary="Share of all positives among the k strongest pairs; its ceiling is min(k, n_pos) / n_pos.",
    reference="Manning, Raghavan & Schuetze 2008, Introduction to Information Retrieval, section 8.4",
    bounds=(0.0, 1.0),
    chance=_chance,
    invariances=frozenset({"monotone", "edge_order"}),
    parameters={"k": 100},
)
