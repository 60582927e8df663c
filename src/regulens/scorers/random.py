"""What does a score that knows nothing give? Independent uniform numbers from a named stream."""

from __future__ import annotations

import numpy as np

from regulens.scorers.base import ScorerSpec
from regulens.types.edges import EdgeScores


def random_scores(*, genes: tuple[str, ...], regulators: tuple[str, ...], rng: np.random.Generator) -> EdgeScores:
    """Independent uniform scores in [0, 1).

    Parameters
    ----------
    rng
        A named stream, see `regulens.rng.stream`.

    Returns
    -------
    One score called ``random``, observed everywhere but on self-pairs.
    """
    position = {g: j for j, g in enumerate(genes)}
    values = rng.random((1, len(regulators), len(genes)))
    observed = np.ones(values.shape[1:], dtype=bool)
    for i, regulator in enumerate(regulators):
        if regulator in position:
            observed[i, position[regulator]] = False
    return EdgeScores(
        values=values, observed=observed, names=("random",), genes=genes, regulators=regulators, scorer="random"
    )


SPEC = ScorerSpec(
    name="random",
    version=1,
    function=random_scores,
    summary="independent uniform numbers",
    source="",
    needs=(),
    pairwise=False,
)
