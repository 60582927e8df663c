"""How well are positives ranked before almost all negatives?"""

from __future__ import annotations

import numpy as np

from regulens.metrics.base import MetricSpec
from regulens.stats import top_lists
from regulens.types.labelled import LabelledEdges


def partial_auroc(edges: LabelledEdges, *, max_fpr: float = 0.1, standardised: bool = True) -> np.ndarray:
    """Area under the ROC curve up to `max_fpr`, standardised so that chance is 0.5 (McClish 1989) unless turned off.

    Returns
    -------
    Shape ``(score,)``, in [0, 1]; NaN without positives or without negatives.
    """
    return top_lists.partial_auroc(edges.scores, edges.label, max_fpr=max_fpr, standardised=standardised)


SPEC = MetricSpec(
    name="partial_auroc",
    version=1,
    function=partial_auroc,
    summary="Area under the ROC curve up to a false positive rate, standardised; chance is 0.5.",
    reference="McClish 1989, doi:10.1177/0272989X8900900307",
    bounds=(0.0, 1.0),
    chance=lambda edges: 0.5,
    invariances=frozenset({"monotone", "edge_order"}),
    parameters={"max_fpr": 0.1, "standardised": True},
)
