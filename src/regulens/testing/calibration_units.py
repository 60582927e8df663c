"""Do the tests on units, profiles, ranks and blocks of cells keep their error rate? Situations without an effect.

The worlds of `regulens.testing.calibration` are made of pairs; the procedures here work on what analyses make of
them: one value per regulator, one profile over layers, one metric per number of cells, sums per block of cells. A
situation draws its data and hands back the p of the procedure on trial. For an interval, p is the level at which it
just fails to cover the truth, or 0 and 1 for "missed" and "covered" at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import ndtr

from regulens.rng import stream
from regulens.stats.cell_blocks import block_weights, pooled_auroc_draws
from regulens.stats.cluster_permutation import spearman_by_cluster
from regulens.stats.curves import monotone_trend
from regulens.stats.delong import UnitAurocs, delong, delong_by_unit, delong_difference
from regulens.stats.heterogeneity import RandomEffects, random_effects
from regulens.stats.hierarchical import hierarchical_fdr
from regulens.stats.rank_tests import RankTest, mann_whitney, sign_test, wilcoxon
from regulens.stats.smooth_profiles import Method, depth_trend
from regulens.types.estimates import Estimate

Draw = Callable[[np.random.Generator], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTrial:
    """A procedure in one situation without a true effect; `default` as in `regulens.testing.calibration.Trial`."""

    name: str
    situation: str
    draw: Draw
    default: bool = True


def trial_p_values(trial: UnitTrial, *, n_worlds: int, seed: int = 42) -> np.ndarray:
    """p of the procedure in `n_worlds` draws of its situation, shape ``(world,)``; NaN where it declines."""
    rng = stream(seed, f"calibration/{trial.name}/{trial.situation}")
    return np.array([trial.draw(rng) for _ in range(n_worlds)])


def _missed(estimate: object, truth: float) -> float:
    return (1.0 if estimate.low <= truth <= estimate.high else 0.0) if isinstance(estimate, Estimate) else math.nan


def _p(found: object) -> float:
    return found.p if isinstance(found, RankTest | RandomEffects) else math.nan


# one unit, independent pairs


def _delong_coverage(n_pos: int, scale: str) -> Draw:
    def draw(rng: np.random.Generator) -> float:
        label = np.arange(300) < n_pos
        (found,) = delong(rng.normal(size=300) + label, label).estimates(scale=scale)
        return _missed(found, float(ndtr(1 / math.sqrt(2))))

    return draw


def _delong_paired(n_pos: int) -> Draw:
    def draw(rng: np.random.Generator) -> float:
        label = np.arange(300) < n_pos
        scores = rng.normal(size=(2, 300)) + rng.normal(size=300) + label
        return float(delong_difference(scores[0], scores[1], label).p_two_sided()[0])

    return draw


# ranks and signs


def _wilcoxon(n: int, decimals: int) -> Draw:
    return lambda rng: _p(wilcoxon(np.round(rng.standard_t(3, n), decimals)))


def _pseudo_median(n: int) -> Draw:
    def draw(rng: np.random.Generator) -> float:
        found = wilcoxon(rng.standard_t(3, n) + 0.3)
        return _missed(found.effect, 0.3) if isinstance(found, RankTest) else math.nan

    return draw


def _sign(rng: np.random.Generator) -> float:
    return _p(sign_test(rng.standard_t(3, 40)))


def _mann_whitney(a: int, b: int) -> Draw:
    return lambda rng: _p(mann_whitney(np.round(rng.normal(size=a), 1), np.round(rng.normal(size=b), 1)))


# correlation over clusters


def _clustered(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = rng.integers(2, 16, 15) if kind == "unequal" else np.full(15, 8)
    cluster = np.repeat(np.arange(15), size)
    x = rng.normal(size=15)[cluster] + 0.5 * rng.normal(size=cluster.size)
    y = rng.normal(size=15)[cluster] + (0.5 * rng.normal(size=cluster.size) if kind == "varying" else 0.0)
    return x, y, cluster


def _cluster_spearman(kind: str) -> Draw:
    def draw(rng: np.random.Generator) -> float:
        found = spearman_by_cluster(*_clustered(rng, kind), draws=99, rng=rng)
        return getattr(found, "p", math.nan)

    return draw


def _row_spearman(rng: np.random.Generator) -> float:
    x, y, _ = _clustered(rng, "equal")
    return float(stats.spearmanr(x, y).pvalue)


# values per unit


def _q_known(rng: np.random.Generator) -> float:
    se = rng.uniform(0.03, 0.2, 15)
    return _p(random_effects(0.6 + se * rng.normal(size=15), se))


def _unit_aurocs(rng: np.random.Generator, low: int, high: int) -> UnitAurocs:
    size = rng.integers(low, high, 25)
    label = (np.arange(200) < size[:, None]).ravel()
    return delong_by_unit(rng.normal(size=5000) + 0.5 * label, label, np.repeat(np.arange(25), 200))


def _q_common(low: int, high: int) -> Draw:
    def draw(rng: np.random.Generator) -> float:
        found = _unit_aurocs(rng, low, high)
        return _p(random_effects(found.auroc[0], found.common_se[0], se_df=found.common_df))

    return draw


def _q_own(rng: np.random.Generator) -> float:
    found = _unit_aurocs(rng, 3, 20)
    has = np.isfinite(found.se[0])
    return _p(random_effects(found.auroc[0][has], found.se[0][has]))


def _random_mean(k: int) -> Draw:
    def draw(rng: np.random.Generator) -> float:
        se = rng.uniform(0.03, 0.2, k)
        found = random_effects(0.6 + 0.1 * rng.normal(size=k) + se * rng.normal(size=k), se)
        return _missed(found.mean, 0.6) if isinstance(found, RandomEffects) else math.nan

    return draw


def _shrunk(k: int) -> Draw:
    def draw(rng: np.random.Generator) -> float:
        se = rng.uniform(0.03, 0.2, k)
        truth = 0.6 + 0.1 * rng.normal(size=k)
        found = random_effects(truth + se * rng.normal(size=k), se)
        if not isinstance(found, RandomEffects):
            return math.nan
        unit = int(rng.integers(k))  # one unit at a time, so that worlds stay independent
        return 1.0 if found.shrunk_low[unit] <= truth[unit] <= found.shrunk_high[unit] else 0.0

    return draw


def _families(rng: np.random.Generator) -> float:
    # something is called a discovery exactly when a family's q reaches the level
    return float(hierarchical_fdr(rng.random(60), np.arange(60) // 6).families["q"].min())


# profiles over depth, metrics over sizes


def wandering_profile(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    """AR(1) profile in its steady state, or a random walk for ``rho = 1``; shape ``(layer,)``."""
    noise = rng.normal(size=n)
    if rho >= 1:
        return np.cumsum(noise)
    out = np.empty(n)
    out[0] = noise[0] / math.sqrt(1 - rho * rho)
    for k in range(1, n):
        out[k] = rho * out[k - 1] + noise[k]
    return out


def smooth_profile(rng: np.random.Generator, n: int, length: float) -> np.ndarray:
    """Noise under a moving average with Gaussian weights, shape ``(layer,)``."""
    weight = np.exp(-np.square(np.arange(-30, 31) / length))
    return np.convolve(rng.normal(size=n + 60), weight, mode="valid")


def _depth(make: Callable[[np.random.Generator], np.ndarray], method: Method = "bounded") -> Draw:
    draws = 250 if method == "bounded" else 199
    return lambda rng: float(depth_trend(make(rng), method=method, draws=draws, rng=rng).p[0])


def _layers_counted(rng: np.random.Generator) -> float:
    return float(stats.spearmanr(np.arange(12), wandering_profile(rng, 12, 0.9)).pvalue)


def _monotone(rng: np.random.Generator) -> float:
    block = np.tile(np.arange(5), 6)
    y = rng.normal(size=30) + rng.normal(size=5)[block]
    return monotone_trend(np.repeat(2.0 ** np.arange(6), 5), y, block=block, draws=99, rng=rng)[1]


# blocks of cells


def _pooled_world(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    base = stream(7, "calibration/cells/genes")
    label = base.random(300) < 0.2
    true = 0.35 * label + base.normal(0, 0.3, 300)
    counts = rng.integers(3, 8, (20, 300))
    effect = rng.normal(0, 0.5, (20, 300)) + rng.normal(0, 0.5, (20, 1)) * label
    return (true + effect) * counts, counts, label


def _expected_pooled_auroc() -> float:
    rng, one = stream(7, "calibration/cells/truth"), np.ones((1, 20))
    return float(np.mean([pooled_auroc_draws(*_pooled_world(rng), one, min_cells=1)[0] for _ in range(2000)]))


class _CellBlocks:
    """1 where the interval over blocks of cells covers the expected AUROC, 0 where it does not."""

    def __init__(self, *, percentile: bool) -> None:
        self.percentile = percentile
        self.truth: float | None = None

    def __call__(self, rng: np.random.Generator) -> float:
        if self.truth is None:  # made once, when it is first asked for
            self.truth = _expected_pooled_auroc()
        sums, counts, label = _pooled_world(rng)
        weights = np.concatenate([np.ones((1, 20)), block_weights(np.repeat(np.arange(4), 5), draws=99, rng=rng)])
        found = pooled_auroc_draws(sums, counts, label, weights, min_cells=1)
        value, draws = found[0], found[1:]
        if self.percentile:
            low, high = np.quantile(draws, [0.025, 0.975])
        else:
            half = stats.t.ppf(0.975, 16) * draws.std(ddof=1)
            low, high = value - half, value + half
        return 1.0 if low <= self.truth <= high else 0.0


def _depth_trials() -> list[UnitTrial]:
    out = []
    for n in (6, 12, 18):
        kinds: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
            "independent layers": lambda rng, n=n: wandering_profile(rng, n, 0.0),
            "autocorrelation 0.9": lambda rng, n=n: wandering_profile(rng, n, 0.9),
            "random walk": lambda rng, n=n: wandering_profile(rng, n, 1.0),
            "smooth over 2 layers": lambda rng, n=n: smooth_profile(rng, n, 2.0),
        }
        out += [
            UnitTrial(name="trend over depth, default", situation=f"{n} layers, {kind}", draw=_depth(make))
            for kind, make in kinds.items()
        ]
    for method in ("phase", "ar1", "gp"):
        out.append(
            UnitTrial(
                name=f"trend over depth, {method} surrogates", situation="12 layers, autocorrelation 0.9",
                draw=_depth(lambda rng: wandering_profile(rng, 12, 0.9), method), default=False,
            )
        )  # fmt: skip
    return out


UNIT_TRIALS: tuple[UnitTrial, ...] = (
    *(
        UnitTrial(
            name=f"1 - coverage, DeLong {scale} interval", situation=f"one unit, {n} of 300 pairs positive",
            draw=_delong_coverage(n, scale), default=scale == "logit",
        )
        for scale in ("logit", "plain") for n in (5, 20, 60)
    ),
    *(
        UnitTrial(
            name="DeLong difference != 0", situation=f"one unit, {n} of 300 pairs positive", draw=_delong_paired(n)
        )
        for n in (5, 20)
    ),
    UnitTrial(name="Wilcoxon != 0, exact", situation="12 pairs, ties", draw=_wilcoxon(12, 0)),
    UnitTrial(name="Wilcoxon != 0, normal", situation="80 pairs, ties and zeros", draw=_wilcoxon(80, 1)),
    UnitTrial(name="1 - coverage, pseudo-median", situation="12 pairs", draw=_pseudo_median(12)),
    UnitTrial(name="1 - coverage, pseudo-median", situation="60 pairs", draw=_pseudo_median(60)),
    UnitTrial(name="sign test", situation="40 pairs", draw=_sign),
    UnitTrial(name="Mann-Whitney, exact", situation="8 and 12 values, ties", draw=_mann_whitney(8, 12)),
    UnitTrial(name="Mann-Whitney, normal", situation="60 and 80 values, ties", draw=_mann_whitney(60, 80)),
    *(
        UnitTrial(name="Spearman, clusters permuted", situation=f"15 clusters, {words}", draw=_cluster_spearman(kind))
        for kind, words in (
            ("equal", "one quantity per cluster"), ("unequal", "one quantity per cluster, unequal sizes"),
            ("varying", "both vary within clusters"),
        )
    ),
    UnitTrial(
        name="Spearman, rows taken as independent", situation="15 clusters, one quantity per cluster",
        draw=_row_spearman, default=False,
    ),
    UnitTrial(name="units differ (Q), known errors", situation="15 units", draw=_q_known),
    *(
        UnitTrial(
            name="units differ (Q), AUROCs, common error", situation=f"25 units, {low}-{high - 1} positives",
            draw=_q_common(low, high),
        )
        for low, high in ((3, 6), (3, 20))
    ),
    UnitTrial(
        name="units differ (Q), AUROCs, own DeLong errors", situation="25 units, 3-19 positives", draw=_q_own,
        default=False,
    ),
    UnitTrial(name="1 - coverage, random-effects mean", situation="6 units", draw=_random_mean(6)),
    UnitTrial(name="1 - coverage, random-effects mean", situation="20 units", draw=_random_mean(20)),
    UnitTrial(name="1 - coverage, shrunken unit", situation="6 units", draw=_shrunk(6)),
    UnitTrial(name="1 - coverage, shrunken unit", situation="20 units", draw=_shrunk(20)),
    UnitTrial(name="hierarchical: some family selected", situation="10 families of 6 tests", draw=_families),
    *_depth_trials(),
    UnitTrial(
        name="trend over depth, layers taken as independent", situation="12 layers, autocorrelation 0.9",
        draw=_layers_counted, default=False,
    ),
    UnitTrial(name="monotone over sizes, isotonic", situation="6 sizes, 5 nested replicates", draw=_monotone),
    UnitTrial(
        name="1 - coverage, bootstrap over blocks of cells, t", situation="20 blocks in 4 strata",
        draw=_CellBlocks(percentile=False),
    ),
    UnitTrial(
        name="1 - coverage, bootstrap over blocks of cells, percentile", situation="20 blocks in 4 strata",
        draw=_CellBlocks(percentile=True), default=False,
    ),
)  # fmt: skip
