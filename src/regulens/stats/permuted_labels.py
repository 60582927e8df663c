"""How large would these AUROCs be if the labels sat on other pairs? Many permutations for many scores at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from regulens.errors import AlignmentError, ParameterError
from regulens.stats._kernels import over_scores
from regulens.stats._rank_kernels import (
    TILE_BITS,
    WIDTH,
    deal,
    interleave,
    radix_order,
    sort_keys,
    sums_over_sets,
    twice_midranks,
)
from regulens.stats.ranking import checked

#: Pairs drawn at most at once over all permutations, 4 bytes each.
_HELD = 100_000_000


def twice_ranks(values: np.ndarray) -> np.ndarray:
    """Twice the mid-ranks (from 1) of one score, int32, shape ``(pair,)``.

    Examples
    --------
    >>> twice_ranks(np.array([0.5, -1.0, 0.5, 2.0])).tolist()
    [5, 2, 5, 8]
    """
    if np.isnan(values).any():
        message = (
            "Expected scores without NaN, got some. A pair that was never observed is missing, not scored: "
            "leave it out of the pairs."
        )
        raise ParameterError(message)
    keys = sort_keys(values)
    return twice_midranks(*radix_order(keys, keys.dtype.itemsize * 8))


class _Sets:
    """Random sets of pairs as large as the positives, group by group, drawn in order from one stream."""

    def __init__(self, label: np.ndarray, group: np.ndarray | None, rng: np.random.Generator) -> None:
        number = np.zeros(label.size, np.int64) if group is None else np.unique(group, return_inverse=True)[1]
        if number.shape != label.shape:
            message = f"Expected one group per pair, shape {label.shape}, got {number.shape}. Use the regulators."
            raise AlignmentError(message)
        self.size = np.bincount(number).astype(np.int64)
        self.first = np.cumsum(self.size) - self.size
        self.take = np.bincount(number, weights=label, minlength=self.size.size).astype(np.int64)
        self.pool = np.argsort(number, kind="stable").astype(np.int32)
        self.n_tiles = (label.size >> TILE_BITS) + 1
        self.rng = rng

    def draw(self, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """The next `draws` sets, int32 ``(set, positive)`` sorted by tile, and the places of the tiles."""
        n_pos = int(self.take.sum())
        picked = np.empty((draws, n_pos), np.int32)
        start = np.empty((draws, self.n_tiles + 1), np.int32)
        for d in range(draws):
            uniform = self.rng.random(n_pos)
            deal(self.pool, self.first, self.size, self.take, uniform, picked[d], start[d], TILE_BITS)
        return picked, start


def permuted_auroc(
    scores: np.ndarray | Iterable[np.ndarray],
    label: np.ndarray,
    *,
    group: np.ndarray | None = None,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """AUROC of every score when the positives are dealt anew, in `draws` permutations that all scores share.

    Each score is ranked once; a permutation is a sum of mid-ranks over a random set of pairs, exact under ties.
    Because the permutations are shared, the joint distribution over scores is kept (for the largest of them, say).

    Permuting takes pairs for exchangeable. Within regulators (`group`) it keeps each regulon's size and still ignores
    that some targets are popular: with target effects in both labels and scores it rejects too often
    (``docs/calibration.tsv``), so its p is descriptive.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``, or an iterable of such blocks (float32 or float64); no NaN.
    label
        Bool, shape ``(pair,)``.
    group
        Integers, shape ``(pair,)``: positives keep their group. None deals over all pairs.
    draws
        Number of permutations, > 0.

    Returns
    -------
    Float64, shape ``(score, draw)``; NaN without positives or negatives. The same numbers for any number of threads
    and any blocks.

    Raises
    ------
    ParameterError
        More sets of pairs than are held at once (`draws` x positives above 10^8 in all) with scores that can be
        read only once.

    Examples
    --------
    >>> y = np.arange(6) < 2
    >>> found = permuted_auroc(np.arange(6.0), y, draws=2000, rng=np.random.default_rng(0))
    >>> found.shape, bool(abs(found.mean() - 0.5) < 0.02)
    ((1, 2000), True)
    """
    if draws < 1:
        message = f"Expected at least one draw, got {draws}. Use about 1000 or more."
        raise ParameterError(message)
    blocks = [scores] if isinstance(scores, np.ndarray) else scores
    label = np.asarray(label)
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    at_once = draws if n_pos == 0 else max(1, min(draws, _HELD // n_pos))
    if at_once < draws and isinstance(blocks, Iterator):
        message = (
            f"Expected scores that can be read again for {draws} permutations of {n_pos} positives, got an iterator. "
            "Give an array or a list of blocks, or fewer permutations."
        )
        raise ParameterError(message)
    sets = _Sets(label, group, rng)
    parts = []
    for start in range(0, draws, at_once):
        picked, tiles = sets.draw(min(at_once, draws - start))
        parts.append(np.concatenate([_block(b, label, picked, tiles) for b in blocks]))
    twice_sum = np.concatenate(parts, axis=1)
    if n_pos == 0 or n_neg == 0:
        return np.full(twice_sum.shape, np.nan)
    return (0.5 * twice_sum - 0.5 * n_pos * (n_pos + 1.0)) / (float(n_pos) * float(n_neg))


def _block(scores: np.ndarray, label: np.ndarray, picked: np.ndarray, tiles: np.ndarray) -> np.ndarray:
    """Twice the rank sums of one block of scores, int64, shape ``(score, draw)``."""
    scores, label = checked(scores, label)
    n_threads = max(int(numba.config.NUMBA_NUM_THREADS), 1)
    out = np.empty((len(scores), len(picked)), np.int64)
    rows = np.zeros((label.size, WIDTH), np.int32)
    at_once = np.iinfo(np.uint32).max // (2 * label.size)
    for first in range(0, len(scores), WIDTH):
        width = min(WIDTH, len(scores) - first)
        ranks = np.stack(list(over_scores(lambda s, first=first: twice_ranks(scores[first + s]), width)))
        interleave(ranks, rows)
        total = np.zeros((len(picked), WIDTH), np.int64)
        edges = np.linspace(0, len(picked), n_threads + 1).astype(int)

        def one(t: int, total=total, edges=edges) -> None:
            part = slice(edges[t], edges[t + 1])
            sums_over_sets(rows.view(np.uint64), picked[part], tiles[part], total[part], at_once)

        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(one, range(n_threads)))
        out[first : first + width] = total[:, :width].T
    return out
