"""What did the published simulation of stratified aggregation print? The same generator, draw for draw.

States have no difference in mean expression, so that k-means clusters noise; labels are those of the generator. The
legacy generator of numpy is used because the printed digits depend on it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr, wilcoxon
from sklearn.cluster import KMeans

from regulens.stats.ranking import auroc

#: States and cells in each.
CONFIGURATIONS = ((2, 100), (4, 100), (6, 100), (8, 125), (10, 100), (12, 125))
N_SEEDS = 10
N_REGULATORS, N_GENES, MIN_STRATUM = 5, 30, 5
#: The split-half simulation: genes, edges, pairs called.
SPLIT_GENES, SPLIT_EDGES, SPLIT_TOP = 50, 20, 40


def _absolute_spearman(values: np.ndarray) -> np.ndarray:
    rank = rankdata(values, axis=0)
    rank = (rank - rank.mean(axis=0)) / rank.std(axis=0)
    return np.abs(rank[:, :N_REGULATORS].T @ rank[:, N_REGULATORS:] / len(values)).ravel()


def _f1_at_truth(score: np.ndarray, truth: np.ndarray) -> float:
    """F1 of the strongest ``n_true`` pairs: precision and recall are the same number."""
    n = int(truth.sum())
    return float(truth[np.argsort(-score, kind="stable")[:n]].sum() / n)


def simulation(states: int, cells: int, seed: int) -> dict[str, float]:
    """One seed of one configuration.

    Returns
    -------
    ``n_true``, and F1 and AUROC of the pooled score, of the maximum and of the mean over true states, and of the
    maximum over k-means clusters.
    """
    rng = np.random.RandomState(seed * 100 + states)  # the printed digits come from this generator
    pairs = [(i, j) for i in range(N_REGULATORS) for j in range(N_REGULATORS, N_GENES)]
    rng.shuffle(pairs)
    own = max(2, 12 // states)
    edges = [pairs[:2] + pairs[2 + k * own : 2 + (k + 1) * own] for k in range(states)]
    values = rng.standard_normal((states * cells, N_GENES))
    truth = np.zeros((N_REGULATORS, N_GENES - N_REGULATORS), dtype=bool)
    for k, alive in enumerate(edges):
        block = slice(k * cells, (k + 1) * cells)
        for i, j in alive:
            values[block, j] += 0.5 * values[block, i]
            truth[i, j - N_REGULATORS] = True
    label = truth.ravel()
    pooled = _absolute_spearman(values)
    oracle = np.array([_absolute_spearman(values[k * cells : (k + 1) * cells]) for k in range(states)])
    found = KMeans(n_clusters=states, random_state=seed, n_init=3).fit_predict(values)
    kept = [k for k in range(states) if (found == k).sum() >= MIN_STRATUM]
    estimated = np.array([_absolute_spearman(values[found == k]) for k in kept])
    score = {
        "pooled": pooled, "max_oracle": oracle.max(axis=0), "mean_oracle": oracle.mean(axis=0),
        "max_estimated": estimated.max(axis=0),
    }  # fmt: skip
    area = auroc(np.stack(list(score.values())), label)
    return (
        {"n_true": float(label.sum())}
        | {f"f1_{name}": _f1_at_truth(s, label) for name, s in score.items()}
        | {f"auroc_{name}": float(a) for name, a in zip(score, area)}
    )


def every_seed() -> pd.DataFrame:
    """All seeds of all configurations, 60 rows."""
    return pd.DataFrame(
        [
            {"states": k, "n_cells": k * n, "seed": s, **simulation(k, n, s)}
            for k, n in CONFIGURATIONS
            for s in range(N_SEEDS)
        ]
    )


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, sample standard deviations of two of them, and the ratio of the mean F1."""
    grouped = rows.groupby("states", sort=True)
    mean, sd = grouped.mean(numeric_only=True), grouped.std(ddof=1, numeric_only=True)
    out = pd.DataFrame(
        {
            "states": mean.index.to_numpy(),
            "n_cells": mean["n_cells"].to_numpy().astype(np.int64),
            "n_true": mean["n_true"].to_numpy().astype(np.int64),
            "f1_pooled": mean["f1_pooled"].to_numpy(),
            "f1_pooled_sd": sd["f1_pooled"].to_numpy(),
            "f1_max_oracle": mean["f1_max_oracle"].to_numpy(),
            "f1_max_oracle_sd": sd["f1_max_oracle"].to_numpy(),
            "ratio": (mean["f1_max_oracle"] / mean["f1_pooled"]).to_numpy(),
            "f1_mean_oracle": mean["f1_mean_oracle"].to_numpy(),
            "f1_max_estimated": mean["f1_max_estimated"].to_numpy(),
        }
    )
    for name in ("pooled", "max_oracle", "max_estimated"):
        out[f"auroc_{name}"] = mean[f"auroc_{name}"].to_numpy()
    return out


def printed_tests(rows: pd.DataFrame) -> dict[str, tuple[float, float, float, int]]:
    """Statistic, effect, p and number of units of the three printed tests.

    Wilcoxon's is one-sided over the seeds and configurations that differ; Spearman's correlate 60 rows with the
    number of states.
    """
    gap = (rows["f1_max_oracle"] - rows["f1_pooled"]).to_numpy()
    gap = gap[gap != 0]
    signed = wilcoxon(gap, alternative="greater")
    out = {"max_above_pooled": (float(signed.statistic), float(gap.mean()), float(signed.pvalue), len(gap))}
    for name in ("pooled", "max_oracle"):
        found = spearmanr(rows["states"], rows[f"f1_{name}"])
        out[f"{name}_falls_with_states"] = (
            float(found.statistic), float(found.statistic), float(found.pvalue), len(rows)
        )  # fmt: skip
    return out


def split_half(states: int, cells: int, seed: int) -> tuple[float, float]:
    """F1 of the held-out half: pooled, and strata by the variant (maximum or mean) chosen on the other half.

    Self-pairs are never called. Memory is ``cells * 2500`` numbers.
    """
    rng = np.random.RandomState(100 * seed + 7)
    label = np.arange(cells) % states
    rng.shuffle(label)
    edges: dict[tuple[int, int], int] = {}
    while len(edges) < SPLIT_EDGES:
        i, j = (int(g) for g in rng.choice(SPLIT_GENES, 2, replace=False))
        if (i, j) not in edges:
            edges[i, j] = int(rng.choice(states))
    score = 0.5 * rng.randn(cells, SPLIT_GENES, SPLIT_GENES)
    truth = np.zeros((SPLIT_GENES, SPLIT_GENES), dtype=bool)
    for (i, j), k in edges.items():
        mine = np.flatnonzero(label == k)
        score[mine, i, j] += 0.4 * (1 + 0.1 * rng.randn(len(mine)))
        truth[i, j] = True
    order = np.random.RandomState(seed + 999).permutation(cells)
    pair = ~np.eye(SPLIT_GENES, dtype=bool)

    def f1(values: np.ndarray) -> float:
        called = np.argsort(-values[pair], kind="stable")[:SPLIT_TOP]
        return float(2 * truth[pair][called].sum() / (SPLIT_TOP + SPLIT_EDGES))

    def of(half: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        members = [half[label[half] == k] for k in range(states)]
        members = [m for m in members if len(m) >= 3]
        means = np.array([score[m].mean(axis=0) for m in members])
        return score[half].mean(axis=0), means.max(axis=0), np.average(means, axis=0, weights=[len(m) for m in members])

    train, held = order[: cells // 2], order[cells // 2 :]
    _, *seen = of(train)
    pooled, *variants = of(held)
    return f1(pooled), f1(variants[int(f1(seen[1]) > f1(seen[0]))])


def split_half_table() -> pd.DataFrame:
    """Held-out F1 by number of states; standard deviations over seeds with ``ddof=0``, as printed."""
    rows = []
    for states, cells in CONFIGURATIONS:
        found = np.array([split_half(states, states * cells, s) for s in range(N_SEEDS)])
        mean, sd = found.mean(axis=0), found.std(axis=0)
        rows.append((states, states * cells, mean[0], sd[0], mean[1], sd[1], mean[1] / mean[0]))
    columns = ["states", "n_cells", "f1_pooled", "f1_pooled_sd", "f1_strata", "f1_strata_sd", "ratio"]
    return pd.DataFrame(rows, columns=columns)
