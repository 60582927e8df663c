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


def rough_seconds(name: str, *, n_cells: int, n_regulators: int, n_genes: int) -> float:
    """Processor seconds that a method takes, within a factor of a few; one core of a common machine.

    Forests sort the cells at every level of every tree; boosting stops after tens to hundreds of shallow trees, about
    as many as an immune data set of 559 cells took (measured: 2.4 s a target for GENIE3, 5 ms for GRNBoost2). The
    others take seconds for thousands of genes.

    >>> round(rough_seconds("genie3", n_cells=559, n_regulators=204, n_genes=1))
    2
    """
    if name == "genie3":
        return 3.2e-5 * n_cells * float(np.log2(max(n_cells, 2))) * n_regulators**0.5 * n_genes
    if name == "grnboost2":
        return 4.4e-8 * n_cells * n_regulators * n_genes
    return 1e-9 * n_cells * n_regulators * n_genes


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
