"""Do the tests keep their promised error rate? No-signal worlds, the procedures on trial, and the check itself.

A world has regulators of very unequal regulon size, targets that many regulators share, and scores with effects of
regulators and of targets that are drawn independently of the labels. Nothing links a pair's score to its label
unless `PairWorld.signal` says so, but pairs are far from independent: this is where a test that counts pairs fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from regulens.nulls.label_shuffle import label_shuffle_within_regulator
from regulens.rng import stream
from regulens.stats.bootstrap_tests import one_sided_p, test_greater
from regulens.stats.cluster import (
    auroc_difference,
    auroc_inference,
    bootstrap_auroc,
    cluster_se,
    max_t_p,
    twoway_bootstrap_auroc,
)
from regulens.stats.permutation import permutation_p
from regulens.stats.permuted_labels import permuted_auroc
from regulens.stats.ranking import influence
from regulens.stats.resample import bootstrap_edges


@dataclass(frozen=True, slots=True, kw_only=True)
class PairWorld:
    """How labels and scores of regulator x target pairs come about; effects are standard deviations.

    Parameters
    ----------
    prevalence
        Expected share of positives.
    regulon_spread
        Of log regulon size.
    target_label, target_score
        Of a target's log odds to be regulated, and of its additive effect on scores; independent of each other.
    regulator_score
        Of a regulator's additive effect on scores. Pair noise has standard deviation 1.
    signal
        Added to the score of every positive pair.
    n_scores
        Scores per world, each with its own effects.
    """

    name: str
    n_regulators: int
    n_targets: int
    prevalence: float = 0.02
    regulon_spread: float = 1.2
    target_label: float = 1.0
    target_score: float = 1.0
    regulator_score: float = 1.0
    signal: float = 0.0
    n_scores: int = 1

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Scores ``(score, edge)``, label, regulator and target of one world."""
        shape = (self.n_regulators, self.n_targets)
        odds = np.exp(
            rng.normal(0, self.regulon_spread, (shape[0], 1)) + rng.normal(0, self.target_label, (1, shape[1]))
        )
        label = rng.random(shape) < np.minimum(odds / odds.mean() * self.prevalence, 0.9)
        scores = rng.normal(size=(self.n_scores, *shape))
        scores += rng.normal(0, self.regulator_score, (self.n_scores, shape[0], 1))
        scores += rng.normal(0, self.target_score, (self.n_scores, 1, shape[1]))
        scores += self.signal * label
        regulator, target = np.indices(shape)
        return scores.reshape(self.n_scores, -1), label.ravel(), regulator.ravel(), target.ravel()


#: No-signal worlds of the calibration, from few to many regulators.
WORLDS = (
    PairWorld(name="5 regulators", n_regulators=5, n_targets=300, prevalence=0.05),
    PairWorld(name="8 regulators", n_regulators=8, n_targets=300),
    PairWorld(name="8 regulators, strong hubs", n_regulators=8, n_targets=300, target_label=1.8, target_score=1.5),
    PairWorld(name="13 regulators, 700 targets", n_regulators=13, n_targets=700),
    PairWorld(name="25 regulators", n_regulators=25, n_targets=300),
    PairWorld(name="25 regulators, few positives", n_regulators=25, n_targets=300, prevalence=0.003),
    PairWorld(name="25 regulators, very unequal", n_regulators=25, n_targets=300, regulon_spread=1.8),
    PairWorld(name="25 regulators, strong hubs", n_regulators=25, n_targets=300, target_label=1.8, target_score=1.5),
    PairWorld(
        name="25 regulators, no effects in scores", n_regulators=25, n_targets=300, target_score=0, regulator_score=0
    ),
    PairWorld(
        name="25 regulators, labels without hubs", n_regulators=25, n_targets=300, target_label=0, target_score=1
    ),
    PairWorld(name="150 regulators", n_regulators=150, n_targets=400, prevalence=0.01),
    PairWorld(
        name="150 regulators, hubs only", n_regulators=150, n_targets=400, prevalence=0.01, target_label=1.5,
        regulator_score=0,
    ),
)  # fmt: skip

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
#: One p-value for "there is signal" (NaN where the procedure declines).
Procedure = Callable[[Data, np.random.Generator], float]

DELTA = 0.05
"""Half width of the margin at whose edge the equivalence test is put on trial."""


def _two_way(data: Data, rng: np.random.Generator) -> float:
    return float(auroc_inference(data[0][:1], *data[1:]).p_greater(0.5)[0])


def _two_sided(data: Data, rng: np.random.Generator) -> float:
    return float(auroc_inference(data[0][:1], *data[1:]).p_two_sided(0.5)[0])


def _one_way(data: Data, rng: np.random.Generator) -> float:
    return float(auroc_inference(data[0][:1], *data[1:], clustering="regulator").p_greater(0.5)[0])


def _difference(data: Data, rng: np.random.Generator) -> float:
    return float(auroc_difference(data[0][:1], data[0][1], *data[1:]).p_greater(0.0)[0])


def _difference_two_sided(data: Data, rng: np.random.Generator) -> float:
    return float(auroc_difference(data[0][:1], data[0][1], *data[1:]).p_two_sided(0.0)[0])


def _difference_one_way(data: Data, rng: np.random.Generator) -> float:
    return float(auroc_difference(data[0][:1], data[0][1], *data[1:], clustering="regulator").p_greater(0.0)[0])


def _max_t(data: Data, rng: np.random.Generator) -> float:
    found = max_t_p(auroc_inference(data[0], *data[1:]), 0.5, draws=299, rng=rng)["p_adjusted"]
    return float(np.nanmin(found)) if np.isfinite(found).any() else math.nan


def _smallest_p(data: Data, rng: np.random.Generator) -> float:
    p = auroc_inference(data[0], *data[1:]).p_greater(0.5)
    return float(np.nanmin(p)) if np.isfinite(p).any() else math.nan


def _tost(data: Data, rng: np.random.Generator) -> float:
    # the truth (0.5) is put on the upper edge of the margin: equivalence is just false
    return float(auroc_inference(data[0][:1], *data[1:]).p_equivalent(0.5 - DELTA, delta=DELTA)[0])


def _linearised(data: Data, rng: np.random.Generator) -> float:
    area, psi = influence(data[0][:1], data[1])
    n = len(np.unique(data[2]))
    return float(test_greater(area, cluster_se(psi, data[2]), 0.5, n - 1)[0])


def _linearised_two_way(data: Data, rng: np.random.Generator) -> float:
    area, psi = influence(data[0][:1], data[1])
    n = min(len(np.unique(data[2])), len(np.unique(data[3])))
    return float(test_greater(area, cluster_se(psi, data[2], data[3]), 0.5, n - 1)[0])


def _percentile(data: Data, rng: np.random.Generator) -> float:
    return float(one_sided_p(bootstrap_auroc(data[0][:1], data[1], data[2], draws=399, rng=rng), 0.5)[0])


def _percentile_two_way(data: Data, rng: np.random.Generator) -> float:
    return float(one_sided_p(twoway_bootstrap_auroc(data[0][:1], *data[1:], draws=199, rng=rng), 0.5)[0])


def _percentile_edges(data: Data, rng: np.random.Generator) -> float:
    return float(one_sided_p(bootstrap_edges(data[0][:1], data[1], draws=199, rng=rng), 0.5)[0])


def _labels_permuted(data: Data, rng: np.random.Generator) -> float:
    draws = permuted_auroc(data[0][:1], data[1], draws=199, rng=rng)
    return float(permutation_p(influence(data[0][:1], data[1])[0], draws)[0]) if np.isfinite(draws).all() else math.nan


def _label_shuffle(data: Data, rng: np.random.Generator) -> float:
    draws = label_shuffle_within_regulator(data[0][:1], data[1], data[2], draws=199, rng=rng)
    observed = influence(data[0][:1], data[1])[0]
    return float(permutation_p(observed, draws)[0]) if np.isfinite(observed).all() else math.nan


def independent_pairs(data: Data, rng: np.random.Generator) -> float:
    """The broken twin: a test that takes every pair for an independent observation."""
    area, psi = influence(data[0][:1], data[1])
    return float(ndtr(-(area[0] - 0.5) / math.sqrt(float(np.square(psi).sum()))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A procedure on trial, how many scores it needs, and whether analyses use it for confirmatory tests."""

    name: str
    procedure: Procedure
    n_scores: int = 1
    default: bool = False


TRIALS = (
    Trial(name="AUROC > 0.5, default", procedure=_two_way, default=True),
    Trial(name="AUROC != 0.5, default (1 - coverage of the 95 % interval)", procedure=_two_sided, default=True),
    Trial(name="paired difference > 0, default", procedure=_difference, n_scores=2, default=True),
    Trial(name="paired difference != 0, default", procedure=_difference_two_sided, n_scores=2, default=True),
    Trial(name="max-T over 10 scores", procedure=_max_t, n_scores=10, default=True),
    Trial(name="TOST with the truth on the margin", procedure=_tost, default=True),
    Trial(name="AUROC > 0.5, jackknife by regulator only", procedure=_one_way),
    Trial(name="paired difference > 0, jackknife by regulator only", procedure=_difference_one_way, n_scores=2),
    Trial(name="AUROC > 0.5, linearised by regulator, df = C - 1", procedure=_linearised),
    Trial(name="AUROC > 0.5, linearised two-way, df = C - 1", procedure=_linearised_two_way),
    Trial(name="AUROC > 0.5, percentile bootstrap over regulators", procedure=_percentile),
    Trial(name="AUROC > 0.5, percentile bootstrap over regulators x targets", procedure=_percentile_two_way),
    Trial(name="AUROC > 0.5, percentile bootstrap over pairs", procedure=_percentile_edges),
    Trial(name="AUROC > label shuffle within regulator", procedure=_label_shuffle),
    Trial(name="AUROC > labels permuted over all pairs", procedure=_labels_permuted),
    Trial(name="smallest of 10 unadjusted p", procedure=_smallest_p, n_scores=10),
    Trial(name="AUROC > 0.5, pairs taken as independent", procedure=independent_pairs),
)


def p_values(procedure: Procedure, world: PairWorld, *, n_worlds: int, seed: int = 42, name: str = "") -> np.ndarray:
    """p of `procedure` in `n_worlds` draws of `world`, shape ``(world,)``; NaN where it declines."""
    rng = stream(seed, f"calibration/{name}/{world.name}")
    out = np.full(n_worlds, np.nan)
    for k in range(n_worlds):
        data = world.draw(rng)
        if 0 < data[1].sum() < data[1].size:
            out[k] = procedure(data, rng)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Share of rejections among the worlds in which the procedure gave a p."""

    rate: float
    alpha: float
    n: int
    n_undefined: int

    @property
    def monte_carlo_se(self) -> float:
        """Standard error of `rate` if the true level is `alpha`."""
        return math.sqrt(self.alpha * (1 - self.alpha) / max(self.n, 1))

    @property
    def holds(self) -> bool:
        """Whether the rate is at most alpha plus three Monte Carlo standard errors (false alarm about 1 in 700)."""
        return self.n > 0 and self.rate <= self.alpha + 3 * self.monte_carlo_se


def level(p: np.ndarray, *, alpha: float = 0.05) -> Level:
    """Rejection rate of p-values at `alpha`; undefined ones are counted apart.

    Examples
    --------
    >>> level(np.array([0.01, 0.2, 0.7, np.nan])).rate
    0.3333333333333333
    """
    given = p[np.isfinite(p)]
    rate = float((given <= alpha).mean()) if given.size else math.nan
    return Level(rate=rate, alpha=alpha, n=given.size, n_undefined=p.size - given.size)
