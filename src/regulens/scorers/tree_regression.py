"""How is one regression per target spread over workers, so that neither their number nor the order moves a number?

Every target has a random seed of its own, from a stream named after the method and the gene, and is fitted on the
regulators that vary, itself left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from regulens.parallel import run_ordered
from regulens.rng import stream
from regulens.scorers.panel import Panel

#: Targets per task.
CHUNK = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regression:
    """What fitting any target needs.

    Parameters
    ----------
    x
        Float32, shape ``(cell, regulator)``, Fortran order: regulators that vary.
    gene
        Column of each of them among the genes.
    y
        Float64, shape ``(cell, target)``, Fortran order: the targets of one task.
    target
        Column of each of them among the genes.
    seeds
        One per target of `y`, in [0, 2³¹).
    extra
        What a method prepares once for all targets.
    """

    x: np.ndarray
    gene: np.ndarray
    y: np.ndarray
    target: np.ndarray
    seeds: np.ndarray
    extra: Any = None

    def others(self, k: int) -> np.ndarray:
        """Columns of `x` that are not target k itself."""
        return np.flatnonzero(self.gene != self.target[k])


def target_seeds(method: str, genes: list[str], seed: int) -> np.ndarray:
    """One seed per gene, from the stream ``scorers/<method>/<gene>``; int64 in [0, 2³¹)."""
    return np.array([stream(seed, f"scorers/{method}/{g}").integers(2**31) for g in genes], dtype=np.int64)


def regress_all(
    panel: Panel, fit: Callable[[Regression], tuple[np.ndarray, np.ndarray]], *, method: str, seed: int, jobs: int,
    prepare: Callable[[np.ndarray], Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Importance of every regulator for every target that varies.

    Parameters
    ----------
    fit
        Importable function from one task to importances, shape ``(target, regulator of x)``, and trees per target.
    prepare
        Makes `Regression.extra` from `x`, once.

    Returns
    -------
    Float64, shape ``(regulator, gene)``; trees per target, int64, in the order of the targets that vary.
    """
    usable = np.flatnonzero(panel.varies[panel.own])
    x = np.asfortranarray(panel.values[:, panel.own[usable]], dtype=np.float32)
    targets = np.flatnonzero(panel.varies)
    values = np.zeros((len(panel.own), len(panel.genes)))
    if not len(usable) or not len(targets):
        return values, np.zeros(0, dtype=np.int64)
    seeds = target_seeds(method, [panel.genes[t] for t in targets], seed)
    extra = None if prepare is None else prepare(x)
    parts = [slice(s, s + CHUNK) for s in range(0, len(targets), CHUNK)]
    tasks = [
        Regression(
            x=x, gene=panel.own[usable], y=np.asfortranarray(panel.values[:, targets[p]]), target=targets[p],
            seeds=seeds[p], extra=extra,
        )
        for p in parts
    ]  # fmt: skip
    trees = []
    for part, (importance, used) in zip(parts, run_ordered(partial(_fitted, fit), tasks, jobs=jobs)):
        values[np.ix_(usable, targets[part])] = importance.T
        trees.append(used)
    return values, np.concatenate(trees)


def _fitted(fit: Callable[[Regression], Any], task: Regression) -> Any:
    return fit(task)
