"""Where does every pair stand among the positives? Compiled sweeps that the ranking statistics share.

A full sort of the scores is never made. The distinct values ``u_0 < ... < u_{m-1}`` of the *positives* cut the line
into ``2 m + 1`` cells: code ``2 i + 1`` is "equal to u_i", code ``2 i`` is "strictly between u_{i-1} and u_i". All
ranking statistics here depend on the scores through these codes only, and ties are ties of codes.
The kernels release the interpreter lock and start no threads of their own, so that they can be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numba
import numpy as np

T = TypeVar("T")


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter lock; keep the machine code on disk where a folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no writable cache folder: compile anew in every process
        return numba.njit(nogil=True)(function)


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
def codes_of(x, label):
    """Code of every pair, int32 shape ``(edge,)``, and ``m``; -1 in place of ``m`` when a value is NaN."""
    n = x.size
    n_pos = 0
    for e in range(n):
        n_pos += label[e]
    values = np.empty(n_pos, np.float64)
    k = 0
    for e in range(n):
        if np.isnan(x[e]):
            return np.empty(0, np.int32), -1
        if label[e]:
            values[k] = x[e]
            k += 1
    values.sort()
    m = 0
    for k in range(n_pos):
        if m == 0 or values[k] != values[m - 1]:
            values[m] = values[k]
            m += 1
    code = np.empty(n, np.int32)
    if m == 0:
        code[:] = 0
        return code, 0
    for e in range(n):
        # branch-free lower bound: the comparison is unpredictable, so it must not be a jump
        base = 0
        size = m
        v = x[e]
        while size > 1:
            half = size // 2
            base += half * (values[base + half - 1] < v)
            size -= half
        base += values[base] < v
        code[e] = 2 * base + (base < m and values[min(base, m - 1)] == v)
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
def within_wins(code, order, label, cluster, n_clusters):
    """Wins of the positives of a cluster over the negatives of the same cluster, float64 shape ``(cluster,)``."""
    wins = np.zeros(n_clusters, np.float64)
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
                wins[cluster[e]] += seen[cluster[e]]
        for k in range(i, j):
            e = order[k]
            if not label[e]:
                seen[cluster[e]] += 0.5
        i = j
    return wins


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
