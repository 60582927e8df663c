"""What is the rank of every pair, and what do many sets of pairs sum to? Compiled sorting and gathering.

Sums of ranks over random sets of pairs are limited by memory, not by arithmetic. The ranks of a block of scores lie
side by side, one row per pair, and sets are walked tile by tile of rows, so that a row is in the processor's cache
when it is needed. All numbers are whole (twice the mid-ranks), so that no sum is rounded.
"""

from __future__ import annotations

import numpy as np

from regulens.compiled import kernel

#: Rows of a tile: 8,192 rows of 16 whole numbers are half a MiB.
TILE_BITS = 13
#: Scores whose ranks lie side by side: one cache line.
WIDTH = 16


def sort_keys(values: np.ndarray) -> np.ndarray:
    """Unsigned integers that order as the floats do, equal ones for equal numbers; float32 stays half as wide."""
    if values.dtype == np.float32:
        bits = np.ascontiguousarray(values + np.float32(0.0)).view(np.uint32)
        return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    bits = np.ascontiguousarray(np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))


@kernel
def radix_order(keys, n_bits):
    """Positions of the keys in ascending order (int32, stable) and the sorted keys; `keys` is overwritten."""
    n = keys.size
    order = np.arange(n).astype(np.int32)
    order_to = np.empty(n, np.int32)
    keys_to = np.empty_like(keys)
    for shift in range(0, n_bits, 11):
        start = np.zeros(2049, np.int64)
        for i in range(n):
            start[((np.uint64(keys[i]) >> np.uint64(shift)) & np.uint64(2047)) + np.uint64(1)] += 1
        is_sorted = False
        for b in range(2048):
            is_sorted = is_sorted or start[b + 1] == n  # one digit only: nothing to move
            start[b + 1] += start[b]
        if is_sorted:
            continue
        for i in range(n):
            b = (np.uint64(keys[i]) >> np.uint64(shift)) & np.uint64(2047)
            to = start[b]
            start[b] = to + 1
            order_to[to] = order[i]
            keys_to[to] = keys[i]
        order, order_to = order_to, order
        keys, keys_to = keys_to, keys
    return order, keys


@kernel
def twice_midranks(order, keys):
    """Twice the mid-rank (from 1) of every pair, int32, in the order of the pairs; `keys` are sorted."""
    n = order.size
    out = np.empty(n, np.int32)
    i = 0
    while i < n:
        j = i
        while j + 1 < n and keys[j + 1] == keys[i]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = i + j + 2
        i = j + 1
    return out


@kernel
def interleave(columns, out):
    """Copy ``(score, pair)`` into ``(pair, score)``, tile by tile."""
    n_columns, n = columns.shape
    for start in range(0, n, 1024):
        stop = min(start + 1024, n)
        for c in range(n_columns):
            for e in range(start, stop):
                out[e, c] = columns[c, e]


@kernel
def deal(pool, first, size, take, uniform, picked, start, tile_bits):
    """Draw ``take[g]`` of the pairs of every group without replacement; sort what was drawn by tile.

    `pool` holds the pairs group by group and is reordered in place (the first steps of a Fisher-Yates shuffle, which
    draws evenly from any starting order). `picked` gets the pairs, `start` the place of every tile in it.
    """
    drawn = np.empty(picked.size, np.int32)
    u = 0
    for g in range(first.size):
        for i in range(take[g]):
            j = i + np.int64(uniform[u] * (size[g] - i))
            here = first[g] + i
            there = first[g] + j
            chosen = pool[there]
            pool[there] = pool[here]
            pool[here] = chosen
            drawn[u] = chosen
            u += 1
    start[:] = 0
    for k in range(drawn.size):
        start[(drawn[k] >> tile_bits) + 1] += 1
    for t in range(start.size - 1):
        start[t + 1] += start[t]
    free = start.copy()
    for k in range(drawn.size):
        t = drawn[k] >> tile_bits
        picked[free[t]] = drawn[k]
        free[t] += 1


@kernel
def sums_over_sets(rows, picked, start, out, at_once):
    """Add up the rows of every set: ``out[d] += rows[picked[d]].sum(0)``.

    `rows` is ``(pair, 8)``, each number two int32 >= 0 side by side, added as one; `at_once` is how many rows can be
    added before the lower half could run over. `picked` is int32 ``(set, size)`` sorted by tile, with the places of
    the tiles in `start`; `out` is int64 ``(set, 16)``, lower half first.
    """
    low = np.uint64(0xFFFFFFFF)
    up = np.uint64(32)
    total = np.zeros(8, np.uint64)
    for t in range(start.shape[1] - 1):
        for d in range(picked.shape[0]):
            k = start[d, t]
            while k < start[d, t + 1]:
                stop = min(k + at_once, start[d, t + 1])
                total[:] = np.uint64(0)
                for q in range(k, stop):
                    row = rows[np.uint64(picked[d, q])]
                    for c in range(8):
                        total[c] += row[c]
                for c in range(8):
                    out[d, 2 * c] += np.int64(total[c] & low)
                    out[d, 2 * c + 1] += np.int64(total[c] >> up)
                k = stop
