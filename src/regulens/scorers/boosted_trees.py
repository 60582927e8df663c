"""Stochastic gradient boosting of depth-3 trees, compiled: which regulators' splits reduce a target's squared error?

The procedure of scikit-learn's `GradientBoostingRegressor` with squared error, exact splits and features drawn anew
at every node. Expression is mostly zero, so a regulator's cells above its smallest value are sorted once, from the
top; a split is found by going down that list, and the cells at the smallest value are what is left over.
"""

from __future__ import annotations

import numpy as np

from regulens.compiled import kernel

#: Values closer than this are one value, as in scikit-learn.
SAME = 1e-7


def sorted_above_minimum(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells of every column above its smallest value, highest first, and where each column's list begins.

    Parameters
    ----------
    x
        Float32, shape ``(cell, regulator)``.

    Returns
    -------
    Cells, int32, concatenated over columns; starts, int64, shape ``(regulator + 1,)``.

    Examples
    --------
    >>> cells, start = sorted_above_minimum(np.array([[0, 1], [2, 1], [5, 0]], dtype=np.float32))
    >>> cells.tolist(), start.tolist()
    ([2, 1, 0, 1], [0, 2, 4])
    """
    lists = []
    for column in x.T:
        order = np.argsort(-column, kind="stable")
        lists.append(order[column[order] > column.min() + np.float32(SAME)].astype(np.int32))
    start = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return (np.concatenate(lists) if lists else np.zeros(0, np.int32)), start


@kernel
def _next(state):
    """SplitMix64: advance ``state[0]`` and return 64 random bits (Steele, Lea & Flood 2014)."""
    state[0] = state[0] + np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def _below(state, n):
    """Random integer in [0, n); n far below 2^32."""
    return np.int64(((_next(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@kernel
def _best_split(x, cells, first, last, key, node, residual, n_node, sum_node):
    """Best gain of one regulator in one node: ``(gain, threshold, cells right, their sum, did it vary)``."""
    n_right = 0
    sum_right = 0.0
    gain, threshold, best_n, best_sum = -1.0, 0.0, 0, 0.0
    base = sum_node * sum_node / n_node
    value = 0.0
    varies = False
    for p in range(first, last):
        c = cells[p]
        if key[c] != node:
            continue
        here = x[c]
        if n_right > 0 and value - here > SAME:
            varies = True
            rest = sum_node - sum_right
            g = sum_right * sum_right / n_right + rest * rest / (n_node - n_right) - base
            if g > gain:
                gain, threshold, best_n, best_sum = g, 0.5 * (value + here), n_right, sum_right
        value = here
        n_right += 1
        sum_right += residual[c]
    if 0 < n_right < n_node:  # the cells at the smallest value go left
        varies = True
        rest = sum_node - sum_right
        g = sum_right * sum_right / n_right + rest * rest / (n_node - n_right) - base
        if g > gain:
            gain, threshold, best_n, best_sum = g, -np.inf, n_right, sum_right
    return gain, threshold, best_n, best_sum, varies


@kernel
def boost(x, minimum, cells, start, y, own, max_features, depth, max_trees, rate, subsample, window, seed):
    """Fit one target; return impurity reduction per regulator and the number of trees.

    Parameters
    ----------
    x
        Float32, shape ``(regulator, cell)``, C order: the transposed panel.
    minimum
        Smallest value of every regulator, float32.
    cells, start
        See `sorted_above_minimum`.
    y
        Target, float64, shape ``(cell,)``.
    own
        Row of `x` that is the target itself and takes no part, or −1.
    max_features
        Regulators drawn at every node; more only while none of those drawn varies in the node.
    depth, max_trees, rate, subsample
        Of the trees; `subsample` below 1 leaves cells out of every tree, drawn without replacement.
    window
        Stop when the improvement on the left-out cells, averaged over so many trees, is negative; 0 never stops.
    seed
        Of the random draws.

    Returns
    -------
    Float64, shape ``(regulator,)``: sums over all splits of (squared error before − after); number of trees.
    """
    n_features, n = x.shape
    state = np.empty(1, np.uint64)
    state[0] = np.uint64(seed)
    importance = np.zeros(n_features)
    features = np.empty(n_features, np.int64)
    n_use = 0
    for f in range(n_features):
        if f != own:
            features[n_use] = f
            n_use += 1
    n_bag = max(1, int(subsample * n))
    n_nodes = 2 ** (depth + 1) - 1
    # a cell's key is its node while it is in the bag, and its node less `n_nodes` while it is not
    key = np.empty(n, np.int64)
    residual = np.empty(n)
    predicted = np.full(n, y.mean())
    count = np.empty(n_nodes, np.int64)
    total = np.empty(n_nodes)
    leaf = np.empty(n_nodes)
    recent = np.zeros(max(window, 1))
    trees = 0
    for tree in range(max_trees):
        trees = tree + 1
        left_in, left_all = n_bag, n
        count[0], total[0] = n_bag, 0.0
        squares = 0.0
        for c in range(n):
            r = y[c] - predicted[c]
            residual[c] = r
            if n_bag == n or _below(state, left_all) < left_in:
                left_in -= 1
                key[c] = 0
                total[0] += r
                squares += r * r
            else:
                key[c] = -n_nodes
            left_all -= 1
        for v in range(1, n_nodes):
            count[v], total[v] = 0, 0.0
        for v in range(n_nodes):
            leaf[v] = 0.0
        for level in range(depth + 1):
            for v in range(2**level - 1, 2 ** (level + 1) - 1):
                if count[v] == 0:
                    continue
                leaf[v] = total[v] / count[v]
                if level == depth or count[v] < 2 or n_use == 0:
                    continue
                best, best_f, best_t, best_n, best_s = 1e-12 * squares, -1, 0.0, 0, 0.0
                some = False
                drawn = 0
                while drawn < n_use and (drawn < max_features or not some):
                    j = drawn + _below(state, n_use - drawn)
                    f = features[j]
                    features[j] = features[drawn]
                    features[drawn] = f
                    drawn += 1
                    gain, threshold, n_right, s_right, varies = _best_split(
                        x[f], cells, start[f], start[f + 1], key, v, residual, count[v], total[v]
                    )
                    some = some or varies
                    if gain > best:
                        best, best_f, best_t, best_n, best_s = gain, f, threshold, n_right, s_right
                if best_f < 0:
                    continue
                importance[best_f] += best
                low, high = 2 * v + 1, 2 * v + 2
                count[high], total[high] = best_n, best_s
                count[low], total[low] = count[v] - best_n, total[v] - best_s
                row = x[best_f]
                if best_t == -np.inf:
                    best_t = minimum[best_f] + SAME
                for c in range(n):
                    if key[c] == v:
                        key[c] = high if row[c] > best_t else low
                    elif key[c] == v - n_nodes:
                        key[c] = (high if row[c] > best_t else low) - n_nodes
        improved = 0.0
        for c in range(n):
            k = key[c]
            if k < 0:
                step = rate * leaf[k + n_nodes]
                r = residual[c]
                improved += r * r - (r - step) * (r - step)
            else:
                step = rate * leaf[k]
            predicted[c] += step
        if window > 0 and n_bag < n:
            recent[tree % window] = improved
            if trees >= window and recent.sum() < 0.0:
                break
    return importance, trees
