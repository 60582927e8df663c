"""What AUROC would the same scores reach if each regulator's targets were drawn at random?

Labels are permuted among the pairs of each regulator, so regulon sizes stay and target genes' popularity does not.
A score that only knows which genes are popular targets beats this null: it is the weakest rung of the ladder.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from regulens.compiled import kernel
from regulens.errors import ParameterError
from regulens.nulls.base import NullSpec
from regulens.nulls.rank_sums import auroc_at, mid_ranks
from regulens.stats import ranking
from regulens.stats.jackknife import compact
from regulens.types.estimates import NullDistribution

_BLOCK_POSITIONS = 1 << 22  # positions held at once, about 16 MB


@kernel
def _deal(permutation, start, n_pos, uniform):
    """Positions of the positives per draw: partial Fisher-Yates within each group, state kept between draws."""
    draws, total = uniform.shape
    out = np.empty((draws, total), np.int32)
    for d in range(draws):
        k = 0
        for g in range(n_pos.size):
            size = start[g + 1] - start[g]
            for i in range(n_pos[g]):
                j = i + min(int(uniform[d, k] * (size - i)), size - i - 1)
                a = start[g] + i
                b = start[g] + j
                permutation[a], permutation[b] = permutation[b], permutation[a]
                out[d, k] = permutation[a]
                k += 1
    return out


def shuffled_positions(
    label: np.ndarray, regulator: np.ndarray, *, draws: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Blocks of draws: positions of the positives after labels were permuted within each regulator's pairs.

    Yields
    ------
    int32, shape ``(draws of the block, n_pos)``; together `draws` rows.
    """
    number, n = compact(regulator, label.size, "regulator")
    permutation = np.argsort(number, kind="stable").astype(np.int32)
    start = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=n))])
    n_pos = np.bincount(number[label], minlength=n)
    total = int(n_pos.sum())
    per_block = max(1, _BLOCK_POSITIONS // max(total, 1))
    for first in range(0, draws, per_block):
        yield _deal(permutation, start, n_pos, rng.random((min(per_block, draws - first), total)))


def label_shuffle_within_regulator(
    scores: np.ndarray, label: np.ndarray, regulator: np.ndarray, *, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """AUROC of every score under labels permuted within each regulator's pairs.

    The AUROC is that of `regulens.stats.ranking.auroc`: the sum of the positives' mid-ranks, which are made once,
    because permuting labels moves no score. All scores see the same permutations.

    Parameters
    ----------
    scores
        Shape ``(score, edge)``; no NaN.
    label
        Bool, shape ``(edge,)``.
    regulator
        Integers, shape ``(edge,)``.

    Returns
    -------
    Float64, shape ``(score, draw)``; NaN without positives or negatives. The mean of a row is not 0.5 when
    regulators with large regulons have high scores: that is kept, not broken.

    Examples
    --------
    >>> g = np.random.default_rng(0)
    >>> x = label_shuffle_within_regulator(np.arange(6.0)[None], np.array([1, 0, 0, 1, 0, 0], bool),
    ...                                    np.array([0, 0, 0, 1, 1, 1]), draws=2000, rng=g)
    >>> round(float(x.mean()), 1)
    0.5
    """
    scores, label = ranking.checked(scores, label)
    if draws < 1:
        message = f"Expected at least one draw, got {draws}. Use about 1000 or more."
        raise ParameterError(message)
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    out = np.full((len(scores), draws), np.nan)
    if n_pos == 0 or n_neg == 0:
        return out
    if np.isnan(scores).any():
        message = "Expected scores without NaN, got some. Leave pairs that were never observed out."
        raise ParameterError(message)
    ranks = mid_ranks(scores)
    done = 0
    for positions in shuffled_positions(label, regulator, draws=draws, rng=rng):
        out[:, done : done + len(positions)] = auroc_at(ranks, positions)
        done += len(positions)
    return out


def null_distributions(
    scores: np.ndarray,
    label: np.ndarray,
    regulator: np.ndarray,
    *,
    draws: int,
    rng: np.random.Generator,
    stream: str,
) -> list[NullDistribution]:
    """One `NullDistribution` per score, the observed value by the same statistic.

    Raises
    ------
    ParameterError
        No positives or no negatives: there is no AUROC to compare.
    """
    found = label_shuffle_within_regulator(scores, label, regulator, draws=draws, rng=rng)
    observed = ranking.auroc(scores, label)
    return [
        NullDistribution(
            observed=float(o), draws=d, scheme=SPEC.name, preserves=SPEC.preserves, randomises=SPEC.randomises,
            stream=stream,
        )
        for o, d in zip(observed, found)
    ]  # fmt: skip


SPEC = NullSpec(
    name="label_shuffle",
    version=1,
    function=label_shuffle_within_regulator,
    summary="Labels permuted among the pairs of each regulator.",
    preserves="every score, and every regulator's number of positives",
    randomises="which targets a regulator has, and how many regulators a target has",
    exchangeable="a regulator's targets are exchangeable; popular targets with gene-level scores break that",
    reference="Phipson & Smyth 2010, doi:10.2202/1544-6115.1585",
    parameters={"draws": 1000},
)
