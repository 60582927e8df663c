"""Would a gain be found if there were one? A planted score whose gain over gene features is known.

The score is the label times a strength, plus noise. Under a model that is right about the genes, adding strength times
score to its log odds is the best that can be done, so the gain of that sum is the known gain.
"""

from __future__ import annotations

import numpy as np

from regulens.analyses.incremental_fit import GENES_ONLY, Grid, Task, evaluate
from regulens.analyses.incremental_metrics import mean_difference, ranked
from regulens.analyses.incremental_splits import Turns

#: Strongest score that is tried: by itself an AUROC of 0.983.
_STRONGEST = 3.0


def plant(grid: Grid, gain: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A score of every pair, ``(perturbation, gene)``, and the gain in mean AUROC that it can give.

    Parameters
    ----------
    gain
        Wanted; less is reached where gene features leave no room for it.
    rng
        Named stream, of noise and folds.

    Raises
    ------
    StatisticsError
        When the model of gene features cannot be fitted.
    """
    n_rows, n_columns = grid.label.shape
    turns = Turns.deal("perturbation", n_rows, n_columns, folds=min(5, n_rows), rng=rng)
    task = Task(
        grid=grid, turns=turns, learner="logistic", models={GENES_ONLY: ()}, contrasts=(),
        weight=np.zeros((0, n_rows)),
    )  # fmt: skip
    base = evaluate(task).prediction[GENES_ONLY]
    rows, label = grid.rows, grid.label[grid.use]
    noise = rng.normal(size=grid.label.shape)
    before = ranked(base, rows)

    def reached(strength: float) -> float:
        score = strength * label + noise[grid.use]
        return float(mean_difference(ranked(base + strength * score, rows), before)[0])

    low, high = 0.0, _STRONGEST
    if reached(high) > gain:
        for _ in range(12):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if reached(middle) < gain else (low, middle)
    return high * grid.label + noise, reached(high)
