"""How much of a score is its own margins? Row mean times column mean, the score's prominence without its pairs."""

from __future__ import annotations

import numpy as np

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.types.edges import EdgeScores


def marginal_product(scores: EdgeScores, *, name: str | None = None) -> EdgeScores:
    r"""Product of a score's row mean and column mean.

    .. math:: m_{ij} = \frac{1}{|T_i|}\sum_{t \in T_i} a_{it} \cdot \frac{1}{|R_j|}\sum_{r \in R_j} a_{rj}

    where `T_i` are the observed targets of regulator i and `R_j` the observed regulators of target j; the pair (i, j)
    itself is included, self-pairs are not. For a score that is a product of a regulator's and a target's prominence
    plus noise, the marginal product is the better measurement of the two, so such a score cannot beat it.

    Parameters
    ----------
    scores
        Non-negative scores on a grid ``(regulator, target)``.
    name
        Which of them; may be left out when there is one.

    Returns
    -------
    One score called ``marginal_product``, observed exactly where `scores` is.

    Examples
    --------
    >>> s = EdgeScores(values=np.array([[[0.0, 1.0, 3.0]]]), observed=np.array([[False, True, True]]), names=("a",),
    ...                genes=("A", "B", "C"), regulators=("A",))
    >>> marginal_product(s).values[0].tolist()
    [[0.0, 2.0, 6.0]]
    """
    if name is None and scores.n_scores != 1:
        message = f"Expected the name of one score, got none for {scores.n_scores} scores. Pass `name`."
        raise ParameterError(message)
    one = scores if name is None else scores.select([name])
    a, observed = one.values[0], one.observed  # a is 0 where unobserved
    row = a.sum(axis=1) / np.maximum(observed.sum(axis=1), 1)
    column = a.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    return EdgeScores(
        values=(row[:, None] * column[None, :])[None],
        observed=observed,
        names=("marginal_product",),
        genes=one.genes,
        regulators=one.regulators,
        direction=one.direction,
        scorer="marginal_product",
        provenance={"of": one.names[0], **one.provenance},
    )


SPEC = ScorerSpec(
    name="marginal_product",
    version=1,
    function=marginal_product,
    summary="row mean times column mean of a score over its observed pairs",
    source="",
    needs=("scores",),
    pairwise=False,
)
