"""Which regulators does boosting use to predict a target? GRNBoost2 with arboreto's settings, compiled.

The settings are those that arboreto's documentation gives: stochastic gradient boosting of depth-3 trees, learning
rate 0.01, at most 5,000 trees, a tenth of the regulators drawn per node, nine tenths of the cells per tree, stopped
when the improvement on the left-out cells, averaged over 25 trees, turns negative. A regulator's importance is its
share of the impurity reduction times the number of trees, so that targets with more to explain weigh more.

One thing is decided here: the improvement of a tree is taken on the cells that this very tree left out, before and
after it. Recent releases of scikit-learn report instead the difference to the loss of the previous tree on *its*
left-out cells, whose noise hides an improvement of a hundredth; arboreto was written for the former.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.scorers.boosted_trees import boost, sorted_above_minimum
from regulens.scorers.panel import Panel
from regulens.scorers.tree_regression import Regression, regress_all
from regulens.types.edges import EdgeScores

#: Cells x genes x regulators below which starting workers takes longer than the work.
_SMALL = 50_000_000

DEPTH, RATE, SUBSAMPLE, FEATURES, WINDOW = 3, 0.01, 0.9, 0.1, 25


def grnboost2_scores(
    expression: sp.csc_matrix | np.ndarray, *, genes: tuple[str, ...], regulators: tuple[str, ...], seed: int = 42,
    jobs: int = 1, max_trees: int = 5000, engine: Literal["compiled", "scikit-learn"] = "compiled",
) -> EdgeScores:  # fmt: skip
    """Importance of every regulator in the boosted trees of every target (Moerman et al. 2019).

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
    max_trees
        Most trees per target, at least 1.
    engine
        ``compiled``, or ``scikit-learn``, the same procedure on `GradientBoostingRegressor`: another random draw of
        the same ranking, many times slower; it is what the compiled one is tested against.

    Returns
    -------
    One score, ``grnboost2``, ≥ 0. Pairs with a constant gene and self-pairs are unobserved.
    """
    if max_trees < 1:
        message = f"Expected max_trees of at least 1, got {max_trees}. GRNBoost2 uses 5000."
        raise ParameterError(message)
    if engine not in ("compiled", "scikit-learn"):
        message = f"Expected engine 'compiled' or 'scikit-learn', got {engine!r}."
        raise ParameterError(message)
    panel = Panel.build(expression, genes, regulators)
    if engine == "compiled" and panel.values.size * len(panel.own) < _SMALL:
        jobs = 1
    fit, prepare = (_fit, _sorted) if engine == "compiled" else (_fit_scikit_learn, _plain)
    values, trees = regress_all(
        panel, fit, method="grnboost2", seed=seed, jobs=jobs, prepare=lambda x: (max_trees, prepare(x))
    )
    median = f"{np.median(trees):g}" if len(trees) else "0"
    return panel.scores("grnboost2", values, trees_median=median, engine=engine, seed=str(seed))


def _sorted(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return np.ascontiguousarray(x.T), x.min(axis=0), *sorted_above_minimum(x)


def _plain(_: np.ndarray) -> None:
    return None


def _weighted(reduction: np.ndarray, trees: int) -> np.ndarray:
    whole = reduction.sum()
    return reduction / whole * trees if whole > 0 else np.zeros_like(reduction)


def _fit(task: Regression) -> tuple[np.ndarray, np.ndarray]:
    max_trees, (rows, minimum, cells, start) = task.extra
    importance = np.zeros((len(task.target), task.x.shape[1]))
    trees = np.zeros(len(task.target), dtype=np.int64)
    for k in range(len(task.target)):
        use = task.others(k)
        if not len(use):
            continue
        own = int(np.flatnonzero(task.gene == task.target[k])[0]) if len(use) < len(task.gene) else -1
        reduction, trees[k] = boost(
            rows, minimum, cells, start, task.y[:, k], own, max(1, int(FEATURES * len(use))), DEPTH, max_trees, RATE,
            SUBSAMPLE, WINDOW, int(task.seeds[k]),
        )  # fmt: skip
        importance[k] = _weighted(reduction, int(trees[k]))
    return importance, trees


class _StopEarly:
    """Monitor of a `GradientBoostingRegressor`: stop when left-out cells do not gain over a window of trees."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.improvement: list[float] = []

    def __call__(self, tree: int, model: Any, seen: dict[str, Any]) -> bool:
        left_out = ~seen["sample_mask"]
        after = seen["y"][left_out] - seen["raw_predictions"][left_out, 0]
        step = model.learning_rate * model.estimators_[tree, 0].predict(seen["X"][left_out])
        self.improvement.append(float(np.mean((after + step) ** 2 - after**2)))
        return len(self.improvement) >= self.window and float(np.mean(self.improvement[-self.window :])) < 0.0


def _fit_scikit_learn(task: Regression) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.ensemble import GradientBoostingRegressor

    importance = np.zeros((len(task.target), task.x.shape[1]))
    trees = np.zeros(len(task.target), dtype=np.int64)
    for k in range(len(task.target)):
        use = task.others(k)
        if not len(use):
            continue
        model = GradientBoostingRegressor(
            learning_rate=RATE, n_estimators=task.extra[0], max_features=FEATURES, subsample=SUBSAMPLE,
            max_depth=DEPTH, random_state=int(task.seeds[k]),
        )  # fmt: skip
        model.fit(task.x[:, use], task.y[:, k], monitor=_StopEarly(WINDOW))
        trees[k] = len(model.estimators_)
        importance[k, use] = _weighted(model.feature_importances_, int(trees[k]))
    return importance, trees


SPEC = ScorerSpec(
    name="grnboost2",
    version=1,
    function=grnboost2_scores,
    summary="importance of the regulator in gradient-boosted trees of the target, stopped early, times their number",
    source="Moerman et al. 2019; Friedman 2002",
    needs=("expression",),
    pairwise=True,
)
