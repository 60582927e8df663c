"""How much richer in positives is the top of the list than the list?"""

from __future__ import annotations

import numpy as np

from regulens.metrics.base import MetricSpec, prevalence
from regulens.stats import ranking
from regulens.types.labelled import LabelledEdges


def early_precision_ratio(edges: LabelledEdges) -> np.ndarray:
    """Precision among the ``n_pos`` strongest pairs over the prevalence (EPR; Pratapa et al. 2020).

    A tie at the cut counts in expectation, where the original takes all tied pairs.

    Returns
    -------
    Shape ``(score,)``, in [0, 1 / prevalence]; 1 is chance; NaN without positives.
    """
    if edges.n_pos == 0:
        return np.full(len(edges.names), np.nan)
    return ranking.early_precision(edges.scores, edges.label, k=edges.n_pos) / prevalence(edges)


SPEC = MetricSpec(
    name="early_precision_ratio",
    version=1,
    function=early_precision_ratio,
    summary="Precision among the n_pos strongest pairs over the prevalence; chance is 1.",
    reference="Pratapa et al. 2020, doi:10.1038/s41592-019-0690-6",
    bounds=(0.0, float("inf")),
    chance=lambda edges: 1.0,
    invariances=frozenset({"monotone", "edge_order"}),
)
