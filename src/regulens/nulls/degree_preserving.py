"""What if regulators kept how many targets they have, and targets how many regulators, but not which? Curveball draws.

Two regulators trade: targets that only one of them has, and that both may have, are pooled and dealt back at random,
each keeping its number (Strona et al. 2014). Every row and every column sum stays; pairs that are no candidate
(self-pairs, unobserved pairs) are never made.

Draws are made by the parallel method of Besag & Clifford (1989): a chain of trades leads from the observed matrix to a
hub, and each draw is the end of its own chain of as many trades from that hub. A trade and its reverse are equally
likely, so the observed matrix is one more such end, exactly exchangeable with the draws however slowly chains mix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.compiled import kernel
from regulens.errors import AlignmentError, ParameterError
from regulens.nulls.base import NullSpec
from regulens.nulls.rank_sums import auroc_at, mid_ranks

#: Trades tried by the pilot chain, times the number of rows, to see how often a trade moves something.
_PILOT = 20
#: Chains that show what more trades would do, and how many times as long as a draw's they are.
_N_FAR, _FAR = 10, 8
#: A network in which a smaller share of the trades moves anything is not randomised; the self-test says so.
_SMALLEST_RATE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DegreeDraws:
    """Label draws with the degrees of the observed network.

    Parameters
    ----------
    positions
        Pairs that are positive in each draw, int32 ``(draw, n_pos)``: positions among the allowed pairs in grid order.
    observed
        Positions of the observed positives, int32 ``(n_pos,)``.
    n_rows
        Regulators that can trade: with at least one positive.
    trades
        Effective trades (at least one target changed hands or could have) behind each draw, int64 ``(draw,)``.
    tried
        Trades tried for each draw.
    jaccard
        Overlap of each draw with the observed positives over their union, ``(draw,)``.
    jaccard_mixed
        The same for the ends of some chains that are `_FAR` times as long, averaged: what is attained by mixing on.
    jaccard_floor
        No matrix with these margins can overlap less with the observed one.
    """

    positions: np.ndarray
    observed: np.ndarray
    n_rows: int
    trades: np.ndarray
    tried: int
    jaccard: np.ndarray
    jaccard_mixed: float
    jaccard_floor: float

    @property
    def n_identical(self) -> int:
        """Draws equal to the observed network."""
        return int((self.jaccard == 1.0).sum())

    @property
    def trades_per_row(self) -> float:
        """Fewest effective trades of a draw per regulator."""
        return float(self.trades.min()) / max(self.n_rows, 1)


@kernel
def _trade(start, target, allowed, r, s, mark, stamp, pool, rng):
    """One trade between rows r and s, in place; returns whether both had something to give."""
    a0, a1, b0, b1 = start[r], start[r + 1], start[s], start[s + 1]
    for k in range(a0, a1):
        mark[target[k]] = stamp
    for k in range(b0, b1):  # stamp + 1: in both
        if mark[target[k]] == stamp:
            mark[target[k]] = stamp + 1
    n = 0
    for k in range(a0, a1):
        if mark[target[k]] == stamp and allowed[s, target[k]]:
            pool[n] = target[k]
            n += 1
    n_first = n
    for k in range(b0, b1):
        if mark[target[k]] != stamp + 1 and allowed[r, target[k]]:
            pool[n] = target[k]
            n += 1
    if n_first == 0 or n == n_first:
        return False
    for k in range(n_first):  # the first row's share, drawn without replacement
        pick = k + min(int(rng.random() * (n - k)), n - k - 1)
        pool[k], pool[pick] = pool[pick], pool[k]
    m = 0
    for k in range(a0, a1):
        if mark[target[k]] == stamp and allowed[s, target[k]]:
            target[k] = pool[m]
            m += 1
    for k in range(b0, b1):
        if mark[target[k]] != stamp + 1 and allowed[r, target[k]]:
            target[k] = pool[m]
            m += 1
    return True


@kernel
def _chain(start, target, allowed, rows, tried, mark, pool, rng):
    """`tried` trades between random pairs of `rows`, in place; returns how many were effective. `mark` is all 0."""
    effective = 0
    stamp = 1
    n = rows.size
    for _ in range(tried):
        a = min(int(rng.random() * n), n - 1)
        b = min(int(rng.random() * (n - 1)), n - 2)
        if b >= a:
            b += 1
        if _trade(start, target, allowed, rows[a], rows[b], mark, stamp, pool, rng):
            effective += 1
        stamp += 2
    return effective


@kernel
def _draws(start, hub, allowed, number, rows, tried, draws, mark, pool, rng):
    """Every draw's positives as pair numbers, from the hub by a chain of its own."""
    out = np.empty((draws, hub.size), np.int32)
    trades = np.empty(draws, np.int64)
    target = np.empty_like(hub)
    for d in range(draws):
        target[:] = hub
        mark[:] = 0
        trades[d] = _chain(start, target, allowed, rows, tried, mark, pool, rng)
        for r in range(start.size - 1):
            for k in range(start[r], start[r + 1]):
                out[d, k] = number[r, target[k]]
    return out, trades


def jaccard_floor(positive: np.ndarray, allowed: np.ndarray) -> float:
    """Smallest Jaccard index with the observed matrix that its margins leave room for (a lower bound).

    A row with d positives among a allowed pairs keeps at least ``2 d - a`` of them; columns likewise.

    Examples
    --------
    >>> jaccard_floor(np.array([[1, 1, 0], [0, 0, 1]], bool), np.ones((2, 3), bool))
    0.2
    """
    n = int(positive.sum())
    kept = max(
        int(np.maximum(2 * positive.sum(axis=axis) - allowed.sum(axis=axis), 0).sum()) for axis in (0, 1)
    )  # fmt: skip
    return kept / (2 * n - kept) if n else 1.0


def _overlap(positions: np.ndarray, observed: np.ndarray, n_pairs: int) -> np.ndarray:
    """Jaccard index of every draw with the observed positives."""
    held = np.zeros(n_pairs, dtype=bool)
    held[observed] = True
    both = held[positions].sum(axis=1)
    return both / (2 * len(observed) - both)


def degree_preserving_draws(
    positive: np.ndarray, allowed: np.ndarray, *, draws: int, rng: np.random.Generator, trades_per_row: float = 10.0
) -> DegreeDraws:
    """Draw label matrices with the row and column sums of `positive`, inside `allowed`.

    Parameters
    ----------
    positive
        Bool, shape ``(regulator, target)``, subset of `allowed`.
    allowed
        Bool, same shape: pairs that may be positive. Self-pairs and unobserved pairs are False.
    draws
        1 or more.
    rng
        Named stream.
    trades_per_row
        Effective trades per regulator with positives, in the chain to the hub and in that of every draw; a third is
        tried on top, and as many more as trades are seen to move nothing.

    Raises
    ------
    ParameterError
        Fewer than two regulators with positives: nothing can be traded.

    Examples
    --------
    >>> y = np.eye(6, dtype=bool)
    >>> found = degree_preserving_draws(y, np.ones((6, 6), bool), draws=50, rng=np.random.default_rng(0))
    >>> found.positions.shape, bool(found.jaccard.mean() < 0.3)
    ((50, 6), True)
    """
    positive, allowed = np.asarray(positive, dtype=bool), np.ascontiguousarray(allowed, dtype=bool)
    if positive.shape != allowed.shape or positive.ndim != 2 or (positive & ~allowed).any():
        message = (
            f"Expected positives inside the allowed pairs of one grid, got shapes {positive.shape} and "
            f"{allowed.shape}. Restrict both to the observed candidate pairs of one universe."
        )
        raise AlignmentError(message)
    rows = np.flatnonzero(positive.any(axis=1))
    if draws < 1 or len(rows) < 2 or not trades_per_row > 0:
        message = (
            f"Expected at least one draw, two regulators with positives and trades_per_row above 0, got {draws}, "
            f"{len(rows)} and {trades_per_row}. With one regulator, degrees leave nothing to trade."
        )
        raise ParameterError(message)
    number = np.full(allowed.shape, -1, dtype=np.int32)
    number[allowed] = np.arange(allowed.sum(), dtype=np.int32)
    start = np.concatenate([[0], np.cumsum(positive.sum(axis=1))]).astype(np.int64)
    target = np.nonzero(positive)[1].astype(np.int32)
    observed = number[positive]
    mark = np.zeros(allowed.shape[1], dtype=np.int64)
    pool = np.empty(2 * int(positive.sum(axis=1).max()), dtype=np.int32)

    pilot = _PILOT * len(rows)
    moved = _chain(start, target.copy(), allowed, rows, pilot, mark, pool, rng)
    rate = max(moved / pilot, _SMALLEST_RATE)
    tried = int(np.ceil(4 / 3 * trades_per_row * len(rows) / rate)) + 10
    mark[:] = 0
    _chain(start, target, allowed, rows, tried, mark, pool, rng)  # to the hub
    positions, trades = _draws(start, target, allowed, number, rows, tried, draws, mark, pool, rng)
    far, _ = _draws(start, target, allowed, number, rows, _FAR * tried, _N_FAR, mark, pool, rng)
    return DegreeDraws(
        positions=positions, observed=observed, n_rows=len(rows), trades=trades, tried=tried,
        jaccard=_overlap(positions, observed, int(allowed.sum())),
        jaccard_mixed=float(_overlap(far, observed, int(allowed.sum())).mean()),
        jaccard_floor=jaccard_floor(positive, allowed),
    )  # fmt: skip


def degree_preserving(
    scores: np.ndarray, positive: np.ndarray, allowed: np.ndarray, *, draws: int, rng: np.random.Generator,
    trades_per_row: float = 10.0,
) -> np.ndarray:  # fmt: skip
    """AUROC of every score under labels with the observed degrees.

    Parameters
    ----------
    scores
        Shape ``(score, pair)``, the allowed pairs in grid order; no NaN.

    Returns
    -------
    Float64, shape ``(score, draw)``; all scores see the same draws.
    """
    found = degree_preserving_draws(positive, allowed, draws=draws, rng=rng, trades_per_row=trades_per_row)
    return auroc_at(mid_ranks(np.atleast_2d(scores)), found.positions)


SPEC = NullSpec(
    name="degree_preserving",
    version=1,
    function=degree_preserving,
    summary="labels traded between regulators so that all degrees stay (curveball)",
    preserves="every score; every regulator's number of targets and every target's number of regulators",
    randomises="which regulator goes with which target",
    exchangeable="all networks with these degrees are equally likely; regulators that share targets by function "
    "break that where scores have a structure of their own",
    reference="Strona et al. 2014, doi:10.1038/ncomms5114; Besag & Clifford 1989, doi:10.1093/biomet/76.4.633",
    parameters={"draws": 1000, "trades_per_row": 10.0},
)
