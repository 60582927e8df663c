"""Where does every pair stand among the positives? Compiled sweeps that the ranking statistics share.

A full sort of the scores is never made. The distinct values ``u_0 < ... < u_{m-1}`` of the *positives* cut the line
into ``2 m + 1`` cells: code ``2 i + 1`` is "equal to u_i", code ``2 i`` is "strictly between u_{i-1} and u_i". All
ranking statistics here depend on the scores through these codes only, and ties are ties of codes.
The kernels release the interpreter lock and start no threads of their own, so that they can be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba
import numpy as np

from regulens.compiled import kernel

T = TypeVar("T")


def over_scores(function: Callable[[int], T], n_scores: int) -> Iterator[T]:
    """``function(0), function(1), ...`` in order, computed by as many threads as numba is allowed.

    The order of completion changes nothing: every score is computed by one thread alone.
    """
    n_threads = min(int(numba.config.NUMBA_NUM_THREADS), n_scores)
    if n_threads <= 1:
        yield from map(function, range(n_scores))
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(function, range(n_scores))


@kernel
def _distinct(values):
    """Sort in place, move distinct values to the front, return how many there are."""
    values.sort()
    m = 0
    for k in range(values.size):
        if m == 0 or values[k] != values[m - 1]:
            values[m] = values[k]
            m += 1
    return m


@kernel
def _bit_keys(x):
    """Numbers that order as the floats do and grow like their logarithm: for long tails."""
    bits = x.view(np.int64)
    out = np.empty(x.size, np.float64)
    for e in range(x.size):
        b = bits[e]
        out[e] = np.float64(b if b >= 0 else b ^ np.int64(0x7FFFFFFFFFFFFFFF))
    return out


@kernel
def _buckets(keys, n_buckets):
    """First value of each equally wide bucket of sorted `keys`, its scale, and the sum of squared loads."""
    start = np.zeros(n_buckets + 1, np.int32)
    width = keys[-1] - keys[0]
    scale = (n_buckets - 1) / width if 0.0 < width < np.inf else 0.0
    if not scale < np.inf:
        scale = 0.0
    for k in range(keys.size):
        start[np.int64((keys[k] - keys[0]) * scale if scale > 0.0 else 0.0) + 1] += 1
    load = 0.0
    for g in range(n_buckets):
        load += np.float64(start[g + 1]) ** 2
        start[g + 1] += start[g]
    return start, scale, load


@kernel
def _search(x, keys, values, start, first_key, scale, code):
    """Code of every value: its bucket is computed, the place within the bucket found by counting what is smaller."""
    m = values.size
    last = np.float64(start.size - 2)
    for e in range(x.size):
        v = x[e]
        g = np.int64(min(max((keys[e] - first_key) * scale, 0.0), last)) if scale > 0.0 else 0
        low = start[g]
        high = start[g + 1]
        while high - low > 6:
            middle = (low + high) // 2
            if values[middle] < v:
                low = middle + 1
            else:
                high = middle
        place = low
        for k in range(low, high):  # a short count has no branch to mispredict
            place += values[k] < v
        code[e] = 2 * place + (place < m and values[place] == v)


@kernel
def codes_of(x, label):
    """Code of every pair, int32 shape ``(edge,)``, and ``m``; -1 in place of ``m`` when a value is NaN.

    A table of buckets, equally wide in value or in bits, whichever spreads the positives better, replaces most of
    the binary search. Both keys are monotone, so all smaller values lie in the same or an earlier bucket.
    """
    n_pos = 0
    for e in range(x.size):
        if np.isnan(x[e]):
            return np.empty(0, np.int32), -1
        n_pos += label[e]
    values = np.empty(n_pos, np.float64)
    k = 0
    for e in range(x.size):
        if label[e]:
            values[k] = x[e] + 0.0  # -0.0 becomes 0.0: equal numbers must have equal bits
            k += 1
    m = _distinct(values)
    code = np.zeros(x.size, np.int32)
    if m == 0:
        return code, 0
    values = values[:m].copy()
    n_buckets = max(4 * m, min(16 * m, x.size))  # a finer table pays where it is read more often than made
    start, scale, load = _buckets(values, n_buckets)
    if load < 4.0 * m:
        _search(x, x, values, start, values[0], scale, code)
        return code, m
    value_keys = _bit_keys(values)
    start_bits, scale_bits, load_bits = _buckets(value_keys, n_buckets)
    if load <= load_bits:
        _search(x, x, values, start, values[0], scale, code)
    else:
        _search(x, _bit_keys(x + 0.0), values, start_bits, value_keys[0], scale_bits, code)
    return code, m


@kernel
def count_codes(code, label, m):
    """Positives and negatives per code, int64 shape ``(2 m + 1,)`` each."""
    pos = np.zeros(2 * m + 1, np.int64)
    neg = np.zeros(2 * m + 1, np.int64)
    for e in range(code.size):
        if label[e]:
            pos[code[e]] += 1
        else:
            neg[code[e]] += 1
    return pos, neg


@kernel
def placements(pos, neg):
    """Per code: negatives below plus half of those tied, positives above plus half of those tied, total wins."""
    n = pos.size
    below = np.empty(n, np.float64)
    above = np.empty(n, np.float64)
    seen_neg = 0
    seen_pos = 0
    n_pos = pos.sum()
    wins = 0.0
    for c in range(n):
        below[c] = seen_neg + 0.5 * neg[c]
        above[c] = n_pos - seen_pos - 0.5 * pos[c]
        wins += pos[c] * below[c]
        seen_neg += neg[c]
        seen_pos += pos[c]
    return below, above, wins


@kernel
def order_by_code(code, m):
    """Stable counting sort: edges by ascending code, int32 shape ``(edge,)``."""
    start = np.zeros(2 * m + 2, np.int64)
    for e in range(code.size):
        start[code[e] + 1] += 1
    for c in range(2 * m + 1):
        start[c + 1] += start[c]
    order = np.empty(code.size, np.int32)
    for e in range(code.size):
        order[start[code[e]]] = e
        start[code[e]] += 1
    return order


@kernel
def pairs_by_cluster(cluster, label, n_clusters):
    """Edges of each cluster, its positives first: order, where each cluster starts, and its number of positives."""
    start = np.zeros(n_clusters + 1, np.int64)
    n_pos = np.zeros(n_clusters, np.int64)
    for e in range(cluster.size):
        start[cluster[e] + 1] += 1
        n_pos[cluster[e]] += label[e]
    for c in range(n_clusters):
        start[c + 1] += start[c]
    free_pos = start[:-1].copy()
    free_neg = start[:-1] + n_pos
    order = np.empty(cluster.size, np.int32)
    for e in range(cluster.size):
        c = cluster[e]
        if label[e]:
            order[free_pos[c]] = e
            free_pos[c] += 1
        else:
            order[free_neg[c]] = e
            free_neg[c] += 1
    return order, start, n_pos


@kernel
def _beaten_by(codes, high, own):
    """How many of the sorted ``codes[:high]`` exceed `own`, plus half of those equal to it."""
    low = 0
    end = high
    while low < high:
        middle = (low + high) // 2
        if codes[middle] < own:
            low = middle + 1
        else:
            high = middle
    first = low
    while low < end and codes[low] == own:
        low += 1
    return 1.0 * (end - low) + 0.5 * (low - first)


@kernel
def cluster_wins(code, below, above, order, start, n_pos):
    """Wins that every cluster takes part in; a win inside a cluster counts once.

    `order`, `start` and `n_pos` are of `pairs_by_cluster`.
    """
    n = n_pos.size
    lost = np.zeros(n, np.float64)
    largest = 0
    for c in range(n):
        largest = max(largest, start[c + 1] - start[c])
    own = np.empty(largest, np.int32)
    for c in range(n):
        first = start[c]
        size = start[c + 1] - first
        p = n_pos[c]
        total = 0.0
        for k in range(p):
            own[k] = code[order[first + k]]
            total += below[own[k]]
        for k in range(p, size):
            own[k] = code[order[first + k]]
            total += above[own[k]]
        # a win inside a cluster is the loss of one positive and of one negative, but one win only
        if p <= 256:  # counting is quicker than the jumps of a bisection
            twice = 0
            for a in range(p):
                for b in range(p, size):
                    twice += (own[a] > own[b]) + (own[a] >= own[b])
            total -= 0.5 * twice
        else:
            own[:p].sort()
            for b in range(p, size):
                total -= _beaten_by(own, p, own[b])
        lost[c] = total
    return lost


@kernel
def squared_gap(code, label, of_pos, of_neg, other):
    """Sum over edges of the squared difference of an influence, known by code, and of another, known by edge."""
    total = 0.0
    for e in range(code.size):
        gap = (of_pos[code[e]] if label[e] else of_neg[code[e]]) - other[e]
        total += gap * gap
    return total


@kernel
def win_matrix(code, order, label, cluster, n_clusters):
    """Wins of the positives of cluster r over the negatives of cluster s, float64 shape ``(r, s)``."""
    wins = np.zeros((n_clusters, n_clusters), np.float64)
    seen = np.zeros(n_clusters, np.float64)
    n = code.size
    i = 0
    while i < n:
        j = i
        while j < n and code[order[j]] == code[order[i]]:
            e = order[j]
            if not label[e]:
                seen[cluster[e]] += 0.5
            j += 1
        for k in range(i, j):
            e = order[k]
            if label[e]:
                r = cluster[e]
                for s in range(n_clusters):
                    wins[r, s] += seen[s]
        for k in range(i, j):
            e = order[k]
            if not label[e]:
                seen[cluster[e]] += 0.5
        i = j
    return wins


@kernel
def weighted_auroc(code, order, label, regulator, target, row_weight, column_weight):
    """AUROC with weight ``row_weight[regulator] * column_weight[target]`` per pair; NaN without positives."""
    wins = 0.0
    seen = 0.0
    total_pos = 0.0
    n = code.size
    i = 0
    while i < n:
        c = code[order[i]]
        pos = 0.0
        neg = 0.0
        while i < n and code[order[i]] == c:
            e = order[i]
            w = row_weight[regulator[e]] * column_weight[target[e]]
            if label[e]:
                pos += w
            else:
                neg += w
            i += 1
        wins += pos * (seen + 0.5 * neg)
        total_pos += pos
        seen += neg
    if total_pos <= 0.0 or seen <= 0.0:
        return np.nan
    return wins / (total_pos * seen)
