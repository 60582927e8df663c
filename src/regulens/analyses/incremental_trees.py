"""What do boosted trees of gene features and a pair score predict? Histogram boosting over cells of bins.

Every feature is read in bins, and three of four belong to the gene alone: pairs of one gene with the score in one bin
are one cell, with its numbers of responding and other pairs. Loss, gradients and splits are those of
`sklearn.ensemble.HistGradientBoostingClassifier` on the binned pairs, which is the oracle of the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.compiled import kernel

#: Bins of every feature, and fixed settings of the trees, under scikit-learn's names.
BINS = 32
TREES = {"max_iter": 40, "learning_rate": 0.1, "max_depth": 2, "min_samples_leaf": 40, "l2_regularization": 5.0}

_LEAF = -1


@kernel
def _boost(code, n_pos, n_all, n_bins, rounds, rate, depth, least, ridge, feature, threshold, value, raw):
    """Grow `rounds` trees of complete depth; nodes of a tree are numbered as in a heap. Fills the trees and `raw`."""
    n_cells, n_features = code.shape
    n_nodes = 2 ** (depth + 1) - 1
    node = np.zeros(n_cells, np.int64)
    slope = np.empty(n_cells)
    curve = np.empty(n_cells)
    hist = np.empty((n_nodes, n_features, n_bins, 3))
    split = np.empty(n_nodes, np.bool_)
    for t in range(rounds):
        for c in range(n_cells):
            p = 1.0 / (1.0 + np.exp(-raw[c]))
            slope[c] = n_all[c] * p - n_pos[c]
            curve[c] = n_all[c] * p * (1.0 - p)
            node[c] = 0
        split[:] = False
        split[0] = True
        for level in range(depth + 1):
            first, last = 2**level - 1, 2 ** (level + 1) - 1
            hist[first:last] = 0.0
            for c in range(n_cells):
                m = node[c]
                if m < first:
                    continue
                for f in range(n_features):
                    h = hist[m, f, code[c, f]]
                    h[0] += slope[c]
                    h[1] += curve[c]
                    h[2] += n_all[c]
                    if level == depth:  # only sums are needed for leaves
                        break
            for m in range(first, last):
                if m > 0 and not split[(m - 1) // 2]:
                    continue
                g = hist[m, 0, :, 0].sum()
                h = hist[m, 0, :, 1].sum()
                n = hist[m, 0, :, 2].sum()
                value[t, m] = -rate * g / (h + ridge + 1e-15)
                feature[t, m] = -1
                split[m] = False
                if level == depth or n < 2 * least:
                    continue
                best = 0.0
                for f in range(n_features):
                    gl = hl = nl = 0.0
                    for b in range(n_bins - 1):
                        gl += hist[m, f, b, 0]
                        hl += hist[m, f, b, 1]
                        nl += hist[m, f, b, 2]
                        if nl < least or hl < 1e-3:
                            continue
                        if n - nl < least or h - hl < 1e-3:
                            break
                        gain = gl * gl / (hl + ridge) + (g - gl) ** 2 / (h - hl + ridge) - g * g / (h + ridge)
                        if gain > best + 1e-12:
                            best = gain
                            feature[t, m] = f
                            threshold[t, m] = b
                split[m] = feature[t, m] >= 0
            for c in range(n_cells):
                m = node[c]
                if m >= first and split[m]:
                    node[c] = 2 * m + (1 if code[c, feature[t, m]] <= threshold[t, m] else 2)
        for c in range(n_cells):
            raw[c] += value[t, node[c]]


@kernel
def _read(code, feature, threshold, value, out):
    """Add up the leaves that every cell reaches."""
    for c in range(code.shape[0]):
        total = 0.0
        for t in range(feature.shape[0]):
            m = 0
            while feature[t, m] >= 0:
                m = 2 * m + (1 if code[c, feature[t, m]] <= threshold[t, m] else 2)
            total += value[t, m]
        out[c] += total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """Fitted trees.

    Parameters
    ----------
    start
        Log odds of the training pairs, before the first tree.
    centre
        Mean log odds of the training pairs after the last.
    feature, threshold, value
        Shape ``(tree, node)``; a code at most the threshold goes left, a feature of −1 is a leaf.
    """

    start: float
    centre: float
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray

    def log_odds(self, code: np.ndarray) -> np.ndarray:
        """Predicted log odds, shape ``(cell,)``."""
        out = np.full(len(code), self.start)
        _read(code, self.feature, self.threshold, self.value, out)
        return out


def fit_trees(code: np.ndarray, n_pos: np.ndarray, n_all: np.ndarray) -> Trees:
    """Boost `TREES` on cells.

    Parameters
    ----------
    code
        Bin of every feature, uint8 below `BINS`, shape ``(cell, feature)``.
    n_pos, n_all
        Responding and all pairs of every cell, or their weights, shape ``(cell,)``; both classes must occur.

    Examples
    --------
    >>> code = np.arange(32, dtype=np.uint8)[:, None]
    >>> found = fit_trees(code, np.where(np.arange(32) > 15, 90.0, 10.0), np.full(32, 100.0))
    >>> found.log_odds(code[[0, 31]]).round(1).tolist()
    [-2.1, 2.1]
    """
    code = np.ascontiguousarray(code, dtype=np.uint8)
    n_pos, n_all = (np.ascontiguousarray(x, dtype=np.float64) for x in (n_pos, n_all))
    share = float(n_pos.sum() / n_all.sum())
    start = float(np.log(share / (1 - share)))
    rounds, depth = TREES["max_iter"], TREES["max_depth"]
    shape = (rounds, 2 ** (depth + 1) - 1)
    feature, threshold = np.full(shape, _LEAF, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    value, raw = np.zeros(shape), np.full(len(code), start)
    _boost(
        code, n_pos, n_all, BINS, rounds, TREES["learning_rate"], depth, float(TREES["min_samples_leaf"]),
        TREES["l2_regularization"], feature, threshold, value, raw,
    )  # fmt: skip
    return Trees(
        start=start, centre=float(np.average(raw, weights=n_all)), feature=feature, threshold=threshold, value=value
    )


def binned(rank: np.ndarray) -> np.ndarray:
    """Bins of equal mass on the training side from ranks in (0, 1), uint8.

    >>> binned(np.array([0.001, 0.5, 0.999])).tolist()
    [0, 16, 31]
    """
    return np.minimum(rank * BINS, BINS - 1).astype(np.uint8)
