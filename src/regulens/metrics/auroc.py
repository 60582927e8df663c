"""With what probability does a positive outscore a negative?"""

from __future__ import annotations

import numpy as np

from regulens.metrics.base import MetricSpec
from regulens.stats import ranking
from regulens.types.labelled import LabelledEdges


def auroc(edges: LabelledEdges) -> np.ndarray:
    """Area under the receiver operating characteristic of every score, ties one half (Hanley & McNeil 1982).

    Returns
    -------
    Shape ``(score,)``, in [0, 1]; NaN without positives or without negatives.
    """
    return ranking.auroc(edges.scores, edges.label)


SPEC = MetricSpec(
    name="auroc",
    version=1,
    function=auroc,
    summary="Probability that a positive pair outscores a negative one; ties count one half.",
    reference="Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747",
    bounds=(0.0, 1.0),
    chance=lambda edges: 0.5,
    invariances=frozenset({"monotone", "edge_order", "negation"}),
)
