"""How many of the k strongest pairs are in the reference?"""

from __future__ import annotations

import numpy as np

from regulens.metrics.base import MetricSpec, prevalence
from regulens.stats import ranking
from regulens.types.labelled import LabelledEdges


def precision_at_k(edges: LabelledEdges, *, k: int = 100) -> np.ndarray:
    """Share of positives among the `k` strongest pairs; a tie at the cut counts in expectation.

    Returns
    -------
    Shape ``(score,)``, in [0, 1]; NaN when there are fewer than `k` pairs.
    """
    if k > len(edges.label):
        return np.full(len(edges.names), np.nan)
    return ranking.early_precision(edges.scores, edges.label, k=k)


SPEC = MetricSpec(
    name="precision_at_k",
    version=1,
    function=precision_at_k,
    summary="Share of positives among the k strongest pairs; chance is the prevalence.",
    reference="Manning, Raghavan & Schuetze 2008, Introduction to Information Retrieval, section 8.4",
    bounds=(0.0, 1.0),
    chance=prevalence,
    invariances=frozenset({"monotone", "edge_order"}),
    parameters={"k": 100},
)
