"""What do several methods say together? The mean of their normalised ranks (a Borda count)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from regulens.errors import AlignmentError, ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.types.edges import EdgeScores


def ensemble_scores(scores: Sequence[EdgeScores]) -> EdgeScores:
    """Mean over methods of every pair's rank among all pairs, divided by their number.

    Parameters
    ----------
    scores
        At least one set of scores on one grid; every score of every set is a voice.

    Returns
    -------
    One score, ``ensemble``, in (0, 1], on the pairs that all of them observed; equal scores share their mean rank.

    Examples
    --------
    >>> a = EdgeScores(values=np.array([[[0.0, 3.0, 5.0]]]), observed=np.array([[False, True, True]]), names=("a",),
    ...                genes=("A", "B", "C"), regulators=("A",))
    >>> ensemble_scores([a]).values[0].tolist()
    [[0.0, 0.5, 1.0]]
    """
    if not scores:
        message = "Expected at least one method to put together, got none. Name methods."
        raise ParameterError(message)
    first = scores[0]
    if any((s.genes, s.regulators) != (first.genes, first.regulators) for s in scores):
        message = "Expected scores on one grid, got other genes or regulators. Put them on one universe first."
        raise AlignmentError(message)
    observed = np.logical_and.reduce([s.observed for s in scores])
    voices = [v[observed] for s in scores for v in s.values]
    values = np.zeros(observed.shape)
    values[observed] = np.mean([rankdata(v) / max(len(v), 1) for v in voices], axis=0)
    return EdgeScores(
        values=values[None], observed=observed, names=("ensemble",), genes=first.genes, regulators=first.regulators,
        scorer="ensemble", provenance={"of": ", ".join(n for s in scores for n in s.names)},
    )  # fmt: skip


SPEC = ScorerSpec(
    name="ensemble",
    version=1,
    function=ensemble_scores,
    summary="mean of the normalised ranks of several methods",
    source="Marbach et al. 2012",
    needs=("scores",),
    pairwise=True,
)
