"""How would the AUROC of a pooled score vary with other cells? A bootstrap over blocks of cells, from the store.

The store keeps sums and counts per partition of cells, so a resample of the cells is a weighted sum of partitions:
nothing is extracted or read again. The blocks are what was partitioned by (random blocks within a cell state and
donor, say); cells of one block move together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from threadpoolctl import threadpool_limits

from regulens.errors import AlignmentError, ParameterError
from regulens.stats._kernels import over_scores
from regulens.stats.ranking import auroc
from regulens.types.attention import AttentionSummary, Direction
from regulens.types.estimates import Estimate, Undefined

#: Pairs, and draws, whose weighted sums are formed at once.
_PAIRS, _DRAWS = 65_536, 8


def block_weights(stratum: np.ndarray, *, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each block counts in each resample, shape ``(draw, block)``; strata keep their total weight.

    Within a stratum of b blocks, b - 1 are drawn with replacement and weigh b / (b - 1), so that the variance of a
    mean over few blocks is not underrated (Rao & Wu 1988). A stratum of one block keeps it.

    Examples
    --------
    >>> w = block_weights(np.array([0, 0, 0, 1]), draws=5, rng=np.random.default_rng(0))
    >>> w[:, 3].tolist(), w[:, :3].sum(1).tolist()
    ([1.0, 1.0, 1.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0, 3.0])
    """
    number = np.unique(np.asarray(stratum), return_inverse=True)[1]
    out = np.ones((draws, number.size))
    for g in range(number.max(initial=-1) + 1):
        at = np.flatnonzero(number == g)
        if at.size > 1:
            drawn = rng.multinomial(at.size - 1, np.full(at.size, 1.0 / at.size), size=draws)
            out[:, at] = drawn * (at.size / (at.size - 1))
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellBootstrap:
    """AUROC of several pooled scores and how it varies over resampled blocks of cells.

    Parameters
    ----------
    names
        One per score.
    auroc
        Of the pooled scores, shape ``(score,)``.
    draws
        Shape ``(score, draw)``; NaN where a resample has no positives or no negatives.
    n_blocks, df
        Blocks in strata of two or more, and those less one per stratum; 0 where nothing can be resampled.
    n_fixed
        Blocks alone in their stratum, which every resample keeps.
    """

    names: tuple[str, ...]
    auroc: np.ndarray
    draws: np.ndarray
    n_blocks: int
    df: int
    n_fixed: int

    @property
    def bias(self) -> np.ndarray:
        """Mean of the draws minus the AUROC: resampled scores are noisier, so it is mostly below 0."""
        with np.errstate(invalid="ignore"):
            return np.nanmean(self.draws, axis=1) - self.auroc

    def estimates(self, *, level: float = 0.95) -> list[Estimate | Undefined]:
        """AUROC with ``-+ t * SD of the draws``: the spread over cells, not over genes.

        Percentiles are not used, because the draws are shifted (see `bias`). What is covered is the expected AUROC of
        a score that is pooled from as many cells.
        """
        out: list[Estimate | Undefined] = []
        for value, draws in zip(self.auroc, self.draws):
            finite = draws[np.isfinite(draws)]
            if self.df < 2:
                out.append(Undefined(reason=f"{self.n_blocks} blocks of cells to resample; needs 2 more than strata"))
            elif not np.isfinite(value):
                out.append(Undefined(reason="no positives or no negatives among the pairs"))
            elif finite.size < max(20, draws.size // 2):
                out.append(Undefined(reason=f"only {finite.size} of {draws.size} resamples gave a value"))
            else:
                se = float(finite.std(ddof=1))
                half = float(stdtrit(self.df, 0.5 + level / 2)) * se
                words = f"bootstrap over blocks of cells within strata, t interval, B={finite.size}, df={self.df}"
                if self.n_fixed:
                    words += f", {self.n_fixed} blocks alone in their stratum kept"
                out.append(
                    Estimate(
                        value=float(value), low=float(value) - half, high=float(value) + half, level=level,
                        method=words, n_units=self.n_blocks, unit="block of cells", se=se,
                    )
                )  # fmt: skip
        return out


def pooled_auroc_draws(
    sums: np.ndarray, counts: np.ndarray, label: np.ndarray, weights: np.ndarray, *, min_cells: float = 5.0
) -> np.ndarray:
    """AUROC of the pooled mean under each row of block weights, shape ``(draw,)``.

    Parameters
    ----------
    sums, counts
        Shape ``(block, pair)``: summed score and number of cells in which the pair was observed.
    label
        Bool, shape ``(pair,)``.
    weights
        Shape ``(draw, block)``, >= 0.
    min_cells
        A pair with less weighted count is missing from that draw, positive or not.
    """
    n_pairs = label.size
    if sums.shape != counts.shape or sums.shape != (weights.shape[1], n_pairs):
        message = (
            f"Expected sums and counts of shape (block, pair) = {(weights.shape[1], n_pairs)}, got {sums.shape} and "
            f"{counts.shape}. Take the same blocks and pairs everywhere."
        )
        raise AlignmentError(message)

    def one(start: int) -> np.ndarray:
        some = weights[start * _DRAWS : (start + 1) * _DRAWS]
        total, count = np.empty((len(some), n_pairs)), np.empty((len(some), n_pairs))
        for first in range(0, n_pairs, _PAIRS):
            part = slice(first, first + _PAIRS)
            total[:, part] = some @ sums[:, part].astype(np.float64)
            count[:, part] = some @ counts[:, part].astype(np.float64)
        out = np.empty(len(some))
        for b in range(len(some)):
            seen = count[b] >= max(min_cells, np.finfo(np.float64).tiny)
            out[b] = auroc(total[b, seen] / count[b, seen], label[seen])[0] if seen.any() else np.nan
        return out

    chunks = range(-(-len(weights) // _DRAWS))
    with threadpool_limits(limits=1):  # a product on two threads adds in another order than on one
        return np.concatenate(list(over_scores(one, len(chunks)))) if len(chunks) else np.empty(0)


def cell_bootstrap(
    summary: AttentionSummary,
    label: np.ndarray,
    regulator: np.ndarray,
    target: np.ndarray,
    *,
    scores: Sequence[tuple[int | None, int | None]],
    direction: Direction = Direction.REGULATOR_ATTENDS,
    partitions: Sequence[int] | None = None,
    stratum: Sequence[object] | None = None,
    draws: int = 500,
    min_cells: int = 5,
    rng: np.random.Generator,
) -> CellBootstrap:
    """Bootstrap the AUROC of pooled attention over blocks of cells, with the labels as they are.

    Each draw takes blocks with replacement within strata and merges their sums and counts: the mean over the drawn
    cells in which both genes were tokens. All scores share the draws. Held at a time: the sums and counts of one
    score (blocks x pairs) and 8 draws per thread.

    Parameters
    ----------
    summary
        Partitioned attention.
    label
        Bool, shape ``(pair,)``.
    regulator, target
        Rows and columns of the pairs in `summary`, shape ``(pair,)``.
    scores
        ``(layer, head)``, zero-based; head None is the mean over the heads, ``(None, None)`` the mean over all layers
        and heads.
    partitions
        Partitions to use; all by default.
    stratum
        One value per partition used; blocks are exchanged within a stratum only. By default the cell state and donor
        of the partition, whatever columns `summary.partitions` has besides ``partition``, ``block``, ``n_cells``.
    min_cells
        Pairs with fewer (weighted) cells in common are missing from that draw.
    """
    index = np.arange(len(summary.partitions)) if partitions is None else np.asarray(partitions, dtype=np.int64)
    label, i, j = np.asarray(label, dtype=bool), np.asarray(regulator), np.asarray(target)
    if not label.shape == i.shape == j.shape or label.ndim != 1 or index.size == 0 or draws < 1:
        message = (
            f"Expected one label, regulator and target per pair, at least one partition and one draw, got shapes "
            f"{label.shape}, {i.shape}, {j.shape}, {index.size} partitions and {draws} draws."
        )
        raise ParameterError(message)
    if stratum is None:
        roles = [c for c in summary.partitions.columns if c not in ("partition", "block", "n_cells")]
        rows = summary.partitions.iloc[index][roles].astype(str)
        joined = rows.agg("\x1f".join, axis=1).to_numpy() if roles else np.zeros(index.size)
        group = np.unique(joined, return_inverse=True)[1]
    else:
        group = np.unique(np.asarray(stratum), return_inverse=True)[1]
    if group.shape != index.shape:
        message = f"Expected one stratum per partition ({index.size}), got {group.size}. Give the strata of those used."
        raise AlignmentError(message)
    size = np.bincount(group)
    weights = np.concatenate([np.ones((1, index.size)), block_weights(group, draws=draws, rng=rng)])
    counts = np.stack([np.asarray(summary.counts[p])[i, j] for p in index])
    names, found = [], []
    for layer, head in scores:
        names.append(_name(summary, layer, head))
        layers = range(summary.n_layers) if layer is None else [layer]
        heads = slice(None) if head is None else slice(head, head + 1)
        sums = np.zeros(counts.shape, np.float64)
        for row, p in enumerate(index):
            for at in layers:
                sums[row] += np.asarray(summary.sums[p, at, heads, direction.axis], np.float64).mean(0)[i, j]
        found.append(pooled_auroc_draws(sums / len(layers), counts, label, weights, min_cells=min_cells))
    table = np.stack(found) if found else np.empty((0, draws + 1))
    free = size[size > 1]
    return CellBootstrap(
        names=tuple(names), auroc=table[:, 0], draws=table[:, 1:], n_blocks=int(free.sum()),
        df=int((free - 1).sum()), n_fixed=int((size == 1).sum()),
    )  # fmt: skip


def _name(summary: AttentionSummary, layer: int | None, head: int | None) -> str:
    """Name of a score as in the tables; raises where the model has no such layer or head."""
    if layer is None and head is None:
        return "pooled"
    if layer is None or not 0 <= layer < summary.n_layers or not (head is None or 0 <= head < summary.n_heads):
        message = (
            f"Expected layers in [0, {summary.n_layers - 1}] and heads in [0, {summary.n_heads - 1}] or None, got "
            f"{(layer, head)}. Both count from zero; (None, None) is the mean over all."
        )
        raise ParameterError(message)
    return f"L{layer:02d}_mean" if head is None else f"L{layer:02d}_H{head:02d}"
