"""How much of a score is its own margins? Row mean times column mean, or their sum for logits: prominence, no pairs."""

from __future__ import annotations

import numpy as np

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.types.edges import EdgeScores

#: Ends of the kinds of attention that live on the scale of logits.
LOGARITHMIC = ("logit", "log_probability")


def margins_of(values: np.ndarray, observed: np.ndarray, *, additive: bool) -> np.ndarray:
    """The marginal product of one map (the sum where `additive`), whose values are 0 where unobserved; same shape."""
    row = values.sum(axis=1) / np.maximum(observed.sum(axis=1), 1)
    column = values.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    if additive:
        return row[:, None] + column[None, :] - values.sum() / max(int(observed.sum()), 1)
    return row[:, None] * column[None, :]


def marginal_product(scores: EdgeScores, *, name: str | None = None) -> EdgeScores:
    r"""Product of a score's row mean and column mean.

    .. math:: m_{ij} = \frac{1}{|T_i|}\sum_{t \in T_i} a_{it} \cdot \frac{1}{|R_j|}\sum_{r \in R_j} a_{rj}

    where `T_i` are the observed targets of regulator i and `R_j` the observed regulators of target j; the pair (i, j)
    itself is included, self-pairs are not. For a score that is a product of a regulator's and a target's prominence
    plus noise, the marginal product is the better measurement of the two, so such a score cannot beat it.

    Scores on the scale of logits (recipes ``logit`` and ``log_probability``, or any score that is negative somewhere)
    have no such product: two negative margins would make a large score. There a product of prominences is a sum of
    logarithms, and the margins are added,

    .. math:: m_{ij} = \bar a_{i\cdot} + \bar a_{\cdot j} - \bar a_{\cdot\cdot}

    with the mean over all observed pairs taken off, so that m is on the scale of a. ``provenance["form"]`` says
    which of the two it is.

    Parameters
    ----------
    scores
        Scores on a grid ``(regulator, target)``.
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
    >>> logits = EdgeScores(values=-s.values, observed=s.observed, names=("a",), genes=s.genes, regulators=("A",))
    >>> marginal_product(logits).values[0].tolist()
    [[0.0, -1.0, -3.0]]
    """
    if name is None and scores.n_scores != 1:
        message = f"Expected the name of one score, got none for {scores.n_scores} scores. Pass `name`."
        raise ParameterError(message)
    one = scores if name is None else scores.select([name])
    a, observed = one.values[0], one.observed  # a is 0 where unobserved
    additive = one.provenance.get("kind", "").endswith(LOGARITHMIC) or bool((a < 0).any())
    return EdgeScores(
        values=margins_of(a, observed, additive=additive)[None],
        observed=observed,
        names=("marginal_product",),
        genes=one.genes,
        regulators=one.regulators,
        direction=one.direction,
        scorer="marginal_product",
        provenance={
            "of": one.names[0],
            **({"form": "row mean + column mean - mean, on the scale of logits"} if additive else {}),
            **one.provenance,
        },
    )


SPEC = ScorerSpec(
    name="marginal_product",
    version=1,
    function=marginal_product,
    summary="row mean times column mean of a score over its observed pairs; their sum on the scale of logits",
    source="",
    needs=("scores",),
    pairwise=False,
)
