"""How pure are the pairs above each positive, on average?"""

from __future__ import annotations

import numpy as np

from regulens.metrics.base import MetricSpec, prevalence
from regulens.stats import ranking
from regulens.types.labelled import LabelledEdges


def average_precision(edges: LabelledEdges) -> np.ndarray:
    """Average precision of every score (area under precision-recall by steps, ties entering together).

    Read it beside the prevalence, its chance value, and as their ratio.

    Returns
    -------
    Shape ``(score,)``, in (0, 1]; NaN without positives.
    """
    return ranking.average_precision(edges.scores, edges.label)


SPEC = MetricSpec(
    name="average_precision",
    version=1,
    function=average_precision,
    summary="Mean precision at the positives; chance is the prevalence.",
    reference="Davis & Goadrich 2006, doi:10.1145/1143844.1143874",
    bounds=(0.0, 1.0),
    chance=prevalence,
    invariances=frozenset({"monotone", "edge_order"}),
)
