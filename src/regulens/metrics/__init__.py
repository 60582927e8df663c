"""By what yardstick is a score held against a reference? The table of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regulens.registry import Registry

if TYPE_CHECKING:
    from regulens.metrics.base import MetricSpec

#: Built-in metrics, in the order they are listed.
METRICS: Registry[MetricSpec] = Registry(
    "metric",
    {
        "auroc": "regulens.metrics.auroc:SPEC",
        "partial_auroc": "regulens.metrics.partial_auroc:SPEC",
        "average_precision": "regulens.metrics.average_precision:SPEC",
        "early_precision_ratio": "regulens.metrics.early_precision:SPEC",
        "precision_at_k": "regulens.metrics.precision_at_k:SPEC",
        "recall_at_k": "regulens.metrics.recall_at_k:SPEC",
        "f1_at_k": "regulens.metrics.thresholded:SPEC",
    },
    group="regulens.metrics",
)
