"""How would the AUROC vary over other sets of genes? Bootstraps over regulators, over both genes, over pairs.

Weights over genes are drawn once per call and used for all scores, so differences between scores are paired. A
resample without positives or negatives gives NaN, which the caller counts (`Estimate.from_draws`). Which one:

- `bootstrap_auroc` draws regulators with all their pairs: other regulators, the same targets.
- `twoway_bootstrap_auroc` draws regulators and targets: the strict form, too wide where pairs are independent.
- `bootstrap_edges` draws pairs: too narrow where pairs share genes, for comparison with published intervals.

Tests and reported intervals rest on the jackknife of `regulens.stats.inference`, which holds its level where these do
not. Draws over *cells* are in `regulens.stats.cell_blocks`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from threadpoolctl import threadpool_limits

from regulens.stats._kernels import count_codes, order_by_code, over_scores, weighted_auroc, win_matrix
from regulens.stats.jackknife import compact
from regulens.stats.ranking import checked, codes

#: Draws that are worked on at once.
_DRAWS = 64


def _multinomial(n_clusters: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each cluster is drawn, float64 shape ``(draw, cluster)``."""
    return rng.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=draws).astype(np.float64)


def regulator_wins(
    scores: np.ndarray, label: np.ndarray, regulator: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wins of regulator r's positives over regulator s's negatives, ties one half.

    Returns
    -------
    wins
        Shape ``(score, r, s)``; its sum over ``n_pos n_neg`` is the AUROC.
    n_pos, n_neg
        Per regulator.
    """
    scores, label = checked(scores, label)
    number, n = compact(regulator, label.size, "regulator")
    n_pos = np.bincount(number, weights=label, minlength=n)
    n_neg = np.bincount(number, minlength=n) - n_pos

    def one(s: int) -> np.ndarray:
        code, m = codes(scores[s], label)
        return win_matrix(code, order_by_code(code, m), label, number, n)

    return np.stack(list(over_scores(one, len(scores)))), n_pos, n_neg


def weighted_from_wins(wins: np.ndarray, n_pos: np.ndarray, n_neg: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC of every score under every row of regulator weights, shape ``(score, draw)``; exact, no re-ranking."""
    pairs = (weights @ n_pos) * (weights @ n_neg)
    won = np.stack([np.einsum("br,br->b", weights @ u, weights) for u in wins])
    out = np.full(won.shape, np.nan)
    np.divide(won, pairs[None, :], out=out, where=np.broadcast_to(pairs > 0, won.shape))
    return out


def bootstrap_auroc(
    scores: np.ndarray | Iterable[np.ndarray],
    label: np.ndarray,
    regulator: np.ndarray,
    *,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """AUROC when whole regulators are drawn with replacement, with all their pairs.

    A positive of regulator r meets a negative of regulator s as often as r and s are drawn together, so that every
    draw is a quadratic form in the regulator x regulator matrix of wins: exact, without ranking again. One matrix per
    thread is held, however many scores there are.

    Parameters
    ----------
    scores
        Shape ``(score, edge)``, or an iterable of such blocks (float32 or float64).
    regulator
        Integers, shape ``(edge,)``.

    Returns
    -------
    Float64, shape ``(score, draw)``; NaN where a draw has no positives or no negatives.
    """
    label = checked(np.empty((0, np.size(label))), label)[1]
    number, n = compact(regulator, label.size, "regulator")
    number = number.astype(np.int32)
    n_pos = np.bincount(number, weights=label, minlength=n)
    n_neg = np.bincount(number, minlength=n) - n_pos
    weights = _multinomial(n, draws, rng)
    parts = []
    with threadpool_limits(limits=1):  # products run beside each other already
        for block in [scores] if isinstance(scores, np.ndarray) else scores:
            values, _ = checked(block, label)

            def one(s: int, values=values) -> np.ndarray:
                code, m = codes(values[s], label)
                wins = win_matrix(code, order_by_code(code, m), label, number, n)
                return weighted_from_wins(wins[None], n_pos, n_neg, weights)[0]

            parts += over_scores(one, len(values))
    return np.stack(parts) if parts else np.empty((0, draws))


def bootstrap_edges(
    scores: np.ndarray | Iterable[np.ndarray], label: np.ndarray, *, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """AUROC when positives, and negatives, are drawn with replacement as if pairs were independent.

    The usual bootstrap of published tables: its intervals are far too narrow where pairs share genes
    (``docs/calibration.tsv``), and it is here to show by how much. Draws are multinomial over the groups of tied
    pairs, which is the same as drawing pairs.

    Returns
    -------
    Float64, shape ``(score, draw)``; NaN without positives or negatives. Each score has draws of its own.
    """
    label = checked(np.empty((0, np.size(label))), label)[1]
    n_pos = int(label.sum())
    n_neg = label.size - n_pos
    parts = []
    for block in [scores] if isinstance(scores, np.ndarray) else scores:
        values, _ = checked(block, label)
        for row in values:
            out = np.full(draws, np.nan)
            if n_pos and n_neg:
                code, m = codes(row, label)
                pos, neg = count_codes(code, label, m)
                for start in range(0, draws, _DRAWS):
                    size = min(_DRAWS, draws - start)
                    p = rng.multinomial(n_pos, pos / n_pos, size=size)
                    q = rng.multinomial(n_neg, neg / n_neg, size=size)
                    below = np.cumsum(q, axis=1) - 0.5 * q
                    out[start : start + size] = np.einsum("bc,bc->b", p, below) / (float(n_pos) * float(n_neg))
            parts.append(out)
    return np.stack(parts) if parts else np.empty((0, draws))


def weighted_two_way(
    scores: np.ndarray,
    label: np.ndarray,
    regulator: np.ndarray,
    target: np.ndarray,
    regulator_weight: np.ndarray,
    target_weight: np.ndarray,
) -> np.ndarray:
    """AUROC with a pair's weight the product of its regulator's and its target's; shape ``(score, draw)``.

    Parameters
    ----------
    regulator_weight, target_weight
        Shape ``(draw, cluster)``, >= 0; columns are the sorted distinct values of `regulator` and `target`.
    """
    scores, label = checked(scores, label)
    rows, _ = compact(regulator, label.size, "regulator")
    columns, _ = compact(target, label.size, "target")
    out = np.empty((len(scores), len(regulator_weight)))
    for s in range(len(scores)):
        code, m = codes(scores[s], label)
        order = order_by_code(code, m)
        # edges laid out in the order of the sweep once, so that each draw reads memory straight through
        args = (code[order], np.arange(order.size, dtype=np.int32), label[order], rows[order], columns[order])

        def one(b: int, args=args) -> float:
            return weighted_auroc(*args, regulator_weight[b], target_weight[b])

        out[s] = np.fromiter(over_scores(one, out.shape[1]), dtype=np.float64, count=out.shape[1])
    return out


def twoway_bootstrap_auroc(
    scores: np.ndarray,
    label: np.ndarray,
    regulator: np.ndarray,
    target: np.ndarray,
    *,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """AUROC when regulators and targets are drawn with replacement, independently (pigeonhole bootstrap, Owen 2007).

    Ties are exact. Conservative: where pairs are independent its variance is about three times too large.

    Returns
    -------
    Float64, shape ``(score, draw)``; NaN where a draw has no positives or no negatives.
    """
    n_regulators = compact(regulator, len(label), "regulator")[1]
    n_targets = compact(target, len(label), "target")[1]
    rows = _multinomial(n_regulators, draws, rng)
    columns = _multinomial(n_targets, draws, rng)
    return weighted_two_way(scores, label, regulator, target, rows, columns)
