"""What do the expression features of both genes predict about a score, learned on other genes? Cross-fitted residuals.

Genes are dealt into folds; the pairs with regulator in fold f and target in fold g are predicted by a model that saw
no pair with a gene of f or g in either role. Least squares goes by normal equations: one matrix per block of folds,
summed over the blocks that may be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingRegressor

from regulens.errors import StatisticsError
from regulens.parallel import single_thread
from regulens.stats.splits import gene_folds, two_way_blocks

_CHUNK = 1 << 18  # pairs whose design is held at once, about 46 MB
_MIN_LEAF = 20

#: Fixed settings of the trees.
TREES = {
    "max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 15, "min_samples_leaf": _MIN_LEAF, "early_stopping": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairFeatures:
    """Features of the genes of every pair.

    Parameters
    ----------
    gene
        Standardised log1p of mean, variance and detection, shape ``(gene, 3)``.
    source, target
        Gene numbers of both ends of every pair, shape ``(pair,)``.
    """

    gene: np.ndarray
    source: np.ndarray
    target: np.ndarray

    def plain(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Regulator's features, then the target's, shape ``(row, 6)``."""
        return np.concatenate([self.gene[self.source[rows]], self.gene[self.target[rows]]], axis=1)

    def design(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Intercept, features, their squares, and products across both genes, shape ``(row, 22)``."""
        a, b = self.gene[self.source[rows]], self.gene[self.target[rows]]
        cross = (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)
        return np.column_stack([np.ones(len(a)), a, b, a**2, b**2, cross])


#: Sub-models of the design by the columns they keep: each must explain no more of its own training pairs.
SUB_MODELS = {
    "intercept": [0],
    "regulator's features": [0, 1, 2, 3, 7, 8, 9],
    "target's features": [0, 4, 5, 6, 10, 11, 12],
    "features without squares and products": [0, 1, 2, 3, 4, 5, 6],
    "features without products": list(range(13)),
}


def pair_features(features: np.ndarray, source: np.ndarray, target: np.ndarray) -> PairFeatures:
    """Standardise ``log1p`` of the genes' features; a constant feature becomes 0.

    Parameters
    ----------
    features
        Mean, variance, detection; shape ``(gene, 3)``, >= 0.
    """
    x = np.log1p(np.asarray(features, dtype=np.float64))
    x = x - x.mean(axis=0)
    sd = x.std(axis=0)
    return PairFeatures(gene=np.where(sd > 0, x / np.where(sd > 0, sd, 1.0), 0.0), source=source, target=target)


def normal_ranks(scores: np.ndarray) -> np.ndarray:
    """Every score as normal quantiles of its mid-ranks, so that no monotone change of scale matters; same shape.

    >>> normal_ranks(np.array([[1.0, 100.0, 10.0]])).round(2).tolist()
    [[-0.97, 0.97, 0.0]]
    """
    return np.stack([ndtri((rankdata(s) - 0.5) / s.size) for s in scores])


def assert_no_shared_gene(present: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
    """Raise `StatisticsError` when a gene occurs on both sides.

    Parameters
    ----------
    present
        Genes of each block of pairs, bool ``(block, gene)``.
    train, test
        Bool masks of blocks.
    """
    both = present[train].any(axis=0) & present[test].any(axis=0)
    if both.any():
        message = (
            f"Expected no gene on both sides of a split, got {int(both.sum())}, first number "
            f"{np.flatnonzero(both)[0]}. Split pairs by the folds of both genes."
        )
        raise StatisticsError(message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Blocks:
    """Pairs by (regulator's fold, target's fold), and the splits over those blocks."""

    of_pair: np.ndarray
    rows: list[np.ndarray]
    splits: list[tuple[np.ndarray, np.ndarray]]


def _blocks(features: PairFeatures, fold: np.ndarray, n_folds: int) -> _Blocks:
    of_pair = fold[features.source] * n_folds + fold[features.target]
    order = np.argsort(of_pair, kind="stable")
    ends = np.cumsum(np.bincount(of_pair, minlength=n_folds**2))
    rows = np.split(order, ends[:-1])
    present = np.zeros((n_folds**2, len(fold)), dtype=bool)
    present[of_pair, features.source] = True
    present[of_pair, features.target] = True
    f, g = (x.ravel() for x in np.indices((n_folds, n_folds)))
    splits = list(two_way_blocks(f, g, np.arange(n_folds), n_folds))
    for train, test in splits:
        assert_no_shared_gene(present, train, test)
    return _Blocks(of_pair=of_pair, rows=rows, splits=splits)


def _solve(gram: np.ndarray, moment: np.ndarray, columns: list[int]) -> np.ndarray:
    part = np.ix_(columns, columns)
    return np.linalg.lstsq(gram[part], moment[columns], rcond=1e-12)[0]


def _explained(gram: np.ndarray, moment: np.ndarray, total: np.ndarray, columns: list[int]) -> np.ndarray:
    """Sum of squares of the response explained about 0, per score."""
    beta = _solve(gram, moment, columns)
    return 2 * (beta * moment[columns]).sum(axis=0) - (beta * (gram[np.ix_(columns, columns)] @ beta)).sum(axis=0)


def least_squares(
    features: PairFeatures, response: np.ndarray, fold: np.ndarray, n_folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold predictions and training R² of ordinary least squares, float64.

    Parameters
    ----------
    response
        Shape ``(score, pair)``.
    fold
        From `gene_folds`.

    Returns
    -------
    Predictions ``(score, pair)`` and mean training R² ``(score,)``.

    Raises
    ------
    StatisticsError
        A sub-model explains more of its training pairs than the full one, or a gene is on both sides.
    """
    blocks = _blocks(features, fold, n_folds)
    width, n_scores = len(features.design(np.zeros(1, dtype=np.int64))[0]), len(response)
    gram = np.zeros((n_folds**2, width, width))
    moment = np.zeros((n_folds**2, width, n_scores))
    total = np.zeros((n_folds**2, n_scores))
    for b, rows in enumerate(blocks.rows):
        for first in range(0, len(rows), _CHUNK):
            some = rows[first : first + _CHUNK]
            X, y = features.design(some), response[:, some]
            gram[b] += X.T @ X
            moment[b] += X.T @ y.T
            total[b] += (y**2).sum(axis=1)
    every = list(range(width))
    out, r2 = np.zeros(response.shape), []
    for train, test in blocks.splits:
        G, m, t = gram[train].sum(axis=0), moment[train].sum(axis=0), total[train].sum(axis=0)
        if G[0, 0] <= width:  # fewer training pairs than coefficients
            message = f"Expected more than {width} training pairs, got {int(G[0, 0])}. Use fewer folds or more genes."
            raise StatisticsError(message)
        around = t - m[0] ** 2 / G[0, 0]
        full = _explained(G, m, t, every)
        for name, columns in SUB_MODELS.items():
            short = full - _explained(G, m, t, columns)
            if (short < -1e-8 * np.maximum(t, 1e-300)).any():
                message = f"Expected the full model to explain no less than '{name}' alone, got less by {-short}."
                raise StatisticsError(message)
        r2.append(1 - np.divide(t - full, around, out=np.ones(n_scores), where=around > 0))
        beta = _solve(G, m, every)
        for b in np.flatnonzero(test):
            rows = blocks.rows[b]
            for first in range(0, len(rows), _CHUNK):
                some = rows[first : first + _CHUNK]
                out[:, some] = (features.design(some) @ beta).T
    return out, np.mean(r2, axis=0)


def predicted(model: HistGradientBoostingRegressor, features: PairFeatures, rows: np.ndarray) -> np.ndarray:
    """`model.predict` on the plain features of some pairs, leaf by leaf instead of pair by pair.

    Each feature belongs to one gene, so a leaf is reached by the pairs of some regulators with some targets: a tree is
    a sum of outer products over its leaves, and all trees are one matrix product over genes. Falls back to
    `model.predict` where scikit-learn keeps its trees in another form.
    """
    source, i = np.unique(features.source[rows], return_inverse=True)
    target, j = np.unique(features.target[rows], return_inverse=True)
    try:
        trees = [tree.nodes for (tree,) in model._predictors]
        known = ("value", "feature_idx", "num_threshold", "left", "right", "is_leaf", "is_categorical")
        plain = all(set(known) <= set(t.dtype.names) and not t["is_categorical"].any() for t in trees)
        start = float(model._baseline_prediction.item())
    except (AttributeError, TypeError, ValueError):
        plain = False
    if not plain or len(source) * len(target) > 4 * len(rows):
        return model.predict(features.plain(rows))
    reached, value = [], []
    for nodes in trees:
        sides = {0: (np.ones(len(source), dtype=bool), np.ones(len(target), dtype=bool))}
        for n, node in enumerate(nodes):  # a parent comes before its children
            r, t = sides.pop(n)
            if node["is_leaf"]:
                reached.append((r, t))
                value.append(node["value"])
                continue
            k = int(node["feature_idx"])
            genes, which = (source, r) if k < 3 else (target, t)
            left = features.gene[genes, k % 3] <= node["num_threshold"]
            for child, go in ((node["left"], left), (node["right"], ~left)):
                sides[int(child)] = (which & go, t) if k < 3 else (r, which & go)
    of_source, of_target = (np.array(side, dtype=np.float64) for side in zip(*reached))
    return start + ((of_source * np.array(value)[:, None]).T @ of_target)[i, j]


def boosted_trees(
    features: PairFeatures, response: np.ndarray, fold: np.ndarray, n_folds: int, *, rng: np.random.Generator,
    most_pairs: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """As `least_squares`, with scikit-learn's histogram gradient boosting on the six plain features.

    Each fit takes at most `most_pairs` random training pairs; one fit serves both orders of a pair of folds, whose
    training pairs are the same. One thread, so that sums are added in one order.
    """
    blocks = _blocks(features, fold, n_folds)
    out, r2 = np.zeros(response.shape), []
    by_train: dict[bytes, tuple[np.ndarray, list[int]]] = {}
    for train, test in blocks.splits:
        by_train.setdefault(train.tobytes(), (train, []))[1].extend(np.flatnonzero(test).tolist())
    with single_thread():
        for train, tested in by_train.values():
            rows = np.concatenate([blocks.rows[b] for b in np.flatnonzero(train)])
            if len(rows) > most_pairs:
                rows = rows[np.sort(rng.choice(len(rows), most_pairs, replace=False))]
            if len(rows) < 2 * _MIN_LEAF:
                message = f"Expected {2 * _MIN_LEAF} training pairs or more, got {len(rows)}. Use fewer folds."
                raise StatisticsError(message)
            seed = int(rng.integers(1 << 31))
            X = features.plain(rows)
            held = np.concatenate([blocks.rows[b] for b in tested])
            if not len(held):  # no regulator of one fold meets a gene of the other
                continue
            for s, y in enumerate(response):
                model = HistGradientBoostingRegressor(**TREES, random_state=seed).fit(X, y[rows])
                r2.append((s, float(model.score(X, y[rows]))))
                out[s, held] = predicted(model, features, held)
    return out, np.array([np.mean([v for k, v in r2 if k == s]) for s in range(len(response))])


def cross_fitted(
    features: PairFeatures, response: np.ndarray, *, n_genes: int, n_folds: int, seeds: int,
    rng: np.random.Generator, trees: bool, most_pairs: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Residuals of every fold seed, ``(seed, score, pair)``, and R² ``(score,)`` averaged over seeds."""
    residual, r2 = [], []
    for _ in range(seeds):
        fold = gene_folds(n_genes, n_folds, rng)
        if trees:
            found, fit = boosted_trees(features, response, fold, n_folds, rng=rng, most_pairs=most_pairs)
        else:
            found, fit = least_squares(features, response, fold, n_folds)
        residual.append(response - found)
        r2.append(fit)
    return np.stack(residual), np.mean(r2, axis=0)
