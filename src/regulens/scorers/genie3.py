"""Which regulators does a random forest use to predict a target? GENIE3 on scikit-learn, with arboreto's settings.

Slow: about 1,000 deep trees per target. `grnboost2` answers nearly the same question in a small part of the time.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.scorers.panel import Panel
from regulens.scorers.tree_regression import Regression, regress_all
from regulens.types.edges import EdgeScores


def genie3_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...], seed: int = 42,
    jobs: int = 1, n_trees: int = 1000,
) -> EdgeScores:  # fmt: skip
    """Importance of every regulator in a random forest of every target (Huynh-Thu et al. 2010).

    Forests of `n_trees` fully grown trees that look at √p regulators per node, as GENIE3 and arboreto set them; the
    importance is scikit-learn's mean decrease of impurity, which sums to 1 over the regulators of a target (arboreto
    leaves it so; the original multiplies it with the target's variance, after scaling targets to variance 1).

    Parameters
    ----------
    expression
        log1p(CP10k), shape ``(cell, gene)``.
    genes, regulators
        Axes of the grid; every regulator is one of the genes. A target is no regressor of itself.
    seed
        Root of the random streams, one per target.
    jobs
        Worker processes; changes no number.
    n_trees
        Trees per target, at least 1.

    Returns
    -------
    One score, ``genie3``, in [0, 1]. Pairs with a constant gene and self-pairs are unobserved.
    """
    if n_trees < 1:
        message = f"Expected n_trees of at least 1, got {n_trees}. GENIE3 uses 1000."
        raise ParameterError(message)
    panel = Panel.build(expression, genes, regulators)
    values, _ = regress_all(panel, _fit, method="genie3", seed=seed, jobs=jobs, prepare=lambda _: n_trees)
    return panel.scores("genie3", values, n_trees=str(n_trees), seed=str(seed))


def _fit(task: Regression) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.ensemble import RandomForestRegressor

    importance = np.zeros((len(task.target), task.x.shape[1]))
    for k in range(len(task.target)):
        use = task.others(k)
        if len(use):
            forest = RandomForestRegressor(
                n_estimators=task.extra, max_features="sqrt", n_jobs=1, random_state=int(task.seeds[k])
            )
            importance[k, use] = forest.fit(task.x[:, use], task.y[:, k]).feature_importances_
    return importance, np.full(len(task.target), task.extra, dtype=np.int64)


SPEC = ScorerSpec(
    name="genie3",
    version=1,
    function=genie3_scores,
    summary="importance of the regulator in a random forest of the target, 1000 trees, √p regulators per node",
    source="Huynh-Thu et al. 2010; Moerman et al. 2019",
    needs=("expression",),
    pairwise=True,
)
