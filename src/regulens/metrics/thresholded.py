"""What F1 does a list of k pairs reach, and what is the most that it could reach?"""

from __future__ import annotations

import numpy as np

from regulens.metrics.base import MetricSpec, prevalence
from regulens.stats import ranking
from regulens.types.labelled import LabelledEdges


def f1_ceiling(n_pos: int, *, k: int) -> float:
    """Largest possible F1 of a list of `k` pairs: ``2 min(k, n_pos) / (k + n_pos)``.

    With ``k = 2 n_pos`` it is 2/3 however good the score is, so no F1 at k is printed without it.

    Examples
    --------
    >>> round(f1_ceiling(22, k=44), 4)
    0.6667
    """
    return 2.0 * min(k, n_pos) / (k + n_pos) if k + n_pos > 0 else float("nan")


def f1_at_k(edges: LabelledEdges, *, k: int = 100) -> np.ndarray:
    """``2 TP / (k + n_pos)`` of the `k` strongest pairs; a tie at the cut counts in expectation.

    Returns
    -------
    Shape ``(score,)``, in [0, `f1_ceiling`]; NaN without positives or with fewer than `k` pairs.
    """
    if edges.n_pos == 0 or k > len(edges.label):
        return np.full(len(edges.names), np.nan)
    return 2.0 * k * ranking.early_precision(edges.scores, edges.label, k=k) / (k + edges.n_pos)


def recall_at_k(edges: LabelledEdges, *, k: int = 100) -> np.ndarray:
    """Share of all positives among the `k` strongest pairs, shape ``(score,)``; NaN as in `f1_at_k`."""
    if edges.n_pos == 0 or k > len(edges.label):
        return np.full(len(edges.names), np.nan)
    return k * ranking.early_precision(edges.scores, edges.label, k=k) / edges.n_pos


def _chance(edges: LabelledEdges) -> float:
    k = SPEC.parameters["k"]
    return 2.0 * k * prevalence(edges) / (k + edges.n_pos)


SPEC = MetricSpec(
    name="f1_at_k",
    version=1,
    function=f1_at_k,
    summary="F1 of the k strongest pairs; its ceiling is 2 min(k, n_pos) / (k + n_pos).",
    reference="van Rijsbergen 1979, Information Retrieval, chapter 7",
    bounds=(0.0, 1.0),
    chance=_chance,
    invariances=frozenset({"monotone", "edge_order"}),
    parameters={"k": 100},
)
