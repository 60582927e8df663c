"""Which scores are tried as probabilities of a response, and which perturbations fit, calibrate and judge?

Perturbations are dealt into quarters at random, without a look at their responses: what is fitted on some is judged on
others, and dealing by responses would make them unlike each other.
"""

from __future__ import annotations

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.errors import ParameterError
from regulens.scorers.ensemble import ensemble_scores
from regulens.scorers.network_inference import check_methods, infer
from regulens.types.edges import EdgeScores

#: Absolute Spearman correlation over control cells.
COEXPRESSION = "coexpression_abs"

#: Scores that know nothing, one gene, or the margins of attention only.
BASELINES = ("random", "target_variance", "target_mean", "target_detection", "product_mean", "marginal_product")

ENSEMBLE = "ensemble"

#: Two perturbations in every quarter.
FEWEST = 8

#: Part of a deal; quarters 0 and 1 fit.
CALIBRATE, TEST = 2, 3


def too_few(n: int) -> str:
    """Why so many perturbations cannot be split into quarters, or an empty string."""
    return f"{n} perturbations can be judged; {FEWEST} are needed, two in every quarter" if n < FEWEST else ""


def scores_of(inp: AnalysisInput, methods: tuple[str, ...]) -> list[EdgeScores]:
    """Attention first, then co-expression, baselines, networks inferred from control cells, and their ensemble.

    Parameters
    ----------
    methods
        Names of `regulens.scorers.network_inference.METHODS`; taken from the input where an audit has made them.
    """
    check_methods(methods)
    universe = inp.universe
    inferred = []
    for method in methods:
        found = inp.inferred.get(method)
        if found is None:
            found = infer(
                method, inp.expression, genes=universe.genes, regulators=universe.regulators,
                seed=inp.request.settings.seed,
            )  # fmt: skip
        inferred.append(found.on(universe))
    coexpression = inp.coexpression.select([COEXPRESSION])
    voices = [coexpression, *inferred]
    if len(voices) > 1:
        inferred.append(ensemble_scores(voices))
    return [inp.primary, coexpression, inp.baselines.select(BASELINES), *inferred]


def quarters(n: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Part of every perturbation in every repeat, int64 shape ``(repeat, perturbation)``: 0, 1 fit, 2, 3 see above.

    Each deal of perturbations into quarters is turned four times, so that in `repeats` every perturbation is judged
    equally often.

    Examples
    --------
    >>> part = quarters(10, 8, np.random.default_rng(0))
    >>> part.shape, (part == TEST).sum(axis=0).tolist()
    ((8, 10), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    if repeats < 4 or repeats % 4:
        message = f"Expected repeats as a multiple of 4 (every quarter is judged in turn), got {repeats}. Choose 20."
        raise ParameterError(message)
    deals = [rng.permutation(np.arange(n) % 4) for _ in range(repeats // 4)]
    return np.stack([(deal + turn) % 4 for deal in deals for turn in range(4)])
