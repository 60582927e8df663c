"""Which methods infer a network from expression alone, and how is one of them run by name?"""

from __future__ import annotations

import inspect

import numpy as np
import scipy.sparse as sp

from regulens.errors import ParameterError, nearest
from regulens.scorers import SCORERS
from regulens.types.edges import EdgeScores

#: Methods in the order in which they are shown, each an entry of `SCORERS`.
METHODS = ("spearman", "pearson", "mutual_information", "partial_correlation", "lasso", "grnboost2", "genie3")

#: Those that take seconds for 1,500 genes; GENIE3 takes minutes to hours.
FAST = METHODS[:-1]


def check_methods(names: list[str] | tuple[str, ...]) -> None:
    """Refuse a name that is no method of `METHODS`, or a repeated one."""
    for name in names:
        if name not in METHODS:
            message = f"Expected a method among {', '.join(METHODS)}, got {name!r}.{nearest(str(name), METHODS)}"
            raise ParameterError(message)
    if len(set(names)) != len(names):
        message = f"Expected every method once, got {', '.join(names)}. Leave the repeats out."
        raise ParameterError(message)


def infer(
    name: str, expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...],
    seed: int = 42, jobs: int = 1,
) -> EdgeScores:  # fmt: skip
    """Score every pair with one method; `seed` and `jobs` reach those that draw and those that run in parallel.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [2.0, 0.0], [3.0, 1.0]])
    >>> infer("pearson", x, genes=("A", "B"), regulators=("A",)).names
    ('pearson',)
    """
    check_methods([name])
    function = SCORERS[name].function
    wanted = inspect.signature(function).parameters
    given = {k: v for k, v in (("seed", seed), ("jobs", jobs)) if k in wanted}
    return function(expression, genes=genes, regulators=regulators, **given)
