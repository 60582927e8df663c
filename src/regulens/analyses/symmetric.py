"""How is a network without direction held against a directed score? Both directions averaged, each pair once.

A protein-protein or pathway network says that two genes belong together, not which of them acts. The score of a pair
is then the mean of both directions, a pair is positive when either order is listed, and a pair whose two genes are
both rows of the grid is one candidate and not two.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.types.attention import Direction
from regulens.types.edges import EdgeScores, EdgeUniverse

#: Gene-level scores that are the same in both orders.
_SYMMETRIC_BASELINES = ("product_mean", "product_variance", "product_detection", "random")


def symmetric_universe(universe: EdgeUniverse) -> EdgeUniverse:
    """The same grid with every unordered pair once: in the row of the regulator that comes first."""
    own = universe.regulator_columns()
    candidate, positive = universe.candidate.copy(), universe.positive.copy()
    among = np.ix_(np.arange(len(own)), own)  # pairs of two regulators, shape (regulator, regulator)
    both = positive[among] | positive[among].T
    known = candidate[among] | candidate[among].T
    first = np.triu(np.ones_like(both), k=1).astype(bool)
    positive[among], candidate[among] = both & first, known & first
    return EdgeUniverse(
        genes=universe.genes, regulators=universe.regulators, candidate=candidate, positive=positive,
        reference=universe.reference,
        counts=universe.counts | {"evaluable": int(positive.sum()), "candidates": int(candidate.sum())},
        restrictions=(*universe.restrictions, "network without direction: every pair once, whatever its order"),
        name=universe.name,
    )  # fmt: skip


def symmetric_scores(attention: dict[str, EdgeScores]) -> EdgeScores:
    """Mean of both directions of every attention score."""
    a, b = (attention[str(d)] for d in Direction)
    return replace(a, values=(a.values + b.values) / 2, observed=a.observed & b.observed, direction="none")


def symmetrised(inp: AnalysisInput) -> AnalysisInput:
    """The same input for a network without direction: universe, attention and baselines in which order is nothing.

    The marginal product is made anew from the symmetrised primary score; co-expression is symmetric as it is; scores
    of one gene alone, which would depend on which of the two is called the regulator, leave.
    """
    from regulens.scorers.marginal_product import marginal_product

    universe = symmetric_universe(inp.universe)
    scores = symmetric_scores(inp.attention)
    kept = inp.baselines.select([n for n in _SYMMETRIC_BASELINES if n in inp.baselines.names])
    margin = marginal_product(scores.select([inp.request.primary]))
    baselines = replace(
        kept, values=np.concatenate([kept.values, margin.values]), names=(*kept.names, *margin.names),
        observed=kept.observed & margin.observed, layers=(), heads=(),
    )  # fmt: skip
    return replace(
        inp, universe=universe, baselines=baselines,
        attention={str(d): replace(scores, direction=str(d)) for d in Direction},
    )  # fmt: skip


def is_symmetric(inp: AnalysisInput) -> bool:
    """Whether the plan lists this input's reference under the parameter ``symmetric``."""
    return inp.request.reference in {str(n) for n in inp.parameters.get("symmetric", [])}
