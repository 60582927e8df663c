"""How would the AUROC vary over other sets of genes? Bootstraps over regulators, and over regulators and targets.

Weights are drawn once per call and used for all scores, so differences between scores are paired. A resample
without positives or negatives gives NaN, which the caller counts.
"""

from __future__ import annotations

import numpy as np

from regulens.stats._kernels import order_by_code, over_scores, weighted_auroc, win_matrix
from regulens.stats.jackknife import compact
from regulens.stats.ranking import checked, codes


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
    scores: np.ndarray, label: np.ndarray, regulator: np.ndarray, *, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """AUROC when whole regulators are drawn with replacement, with all their pairs.

    A positive of regulator r meets a negative of regulator s as often as r and s are drawn together, so that every
    draw is a quadratic form in the regulator x regulator matrix of wins: exact, without ranking again.

    Returns
    -------
    Float64, shape ``(score, draw)``; NaN where a draw has no positives or no negatives.
    """
    wins, n_pos, n_neg = regulator_wins(scores, label, regulator)
    return weighted_from_wins(wins, n_pos, n_neg, _multinomial(n_pos.size, draws, rng))


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
