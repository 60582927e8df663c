"""How well do models rank the responders of perturbations or genes that they have not seen, and how sure is that?

Every pair is predicted once, out of fold. The error of a mean over perturbations includes that of the fits: draws of
perturbations weigh the training side and the judged side of every turn alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from regulens.analyses.incremental_logistic import (
    count_classes,
    curved,
    fit_logistic,
    log_odds,
    normal_scores,
    trained_ranks,
)
from regulens.analyses.incremental_metrics import gene_variance, mean_difference, ranked
from regulens.analyses.incremental_splits import Turn, Turns
from regulens.analyses.incremental_trees import BINS, binned, fit_trees
from regulens.analyses.per_perturbation import METRICS
from regulens.rng import stream
from regulens.stats.by_row import Rows

LEARNERS = ("logistic", "trees")

#: Name of the feature that is made of the labels of other training perturbations.
PROPENSITY = "propensity"

#: Models by name, with the scores of the pair that they read beside the features of the gene.
GENES_ONLY = "gene features"
Models = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Pairs of perturbation and gene with what models may read.

    Parameters
    ----------
    label, use
        Bool, shape ``(perturbation, gene)``; only pairs of `use` count.
    feature
        Mean, variance and share of cells without the gene, shape ``(gene, 3)``.
    scores
        Scores of the pairs by name, finite, shape ``(perturbation, gene)``.
    """

    label: np.ndarray
    use: np.ndarray
    feature: np.ndarray
    scores: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> Rows:
        """The pairs in use, perturbation by perturbation."""
        row, column = np.nonzero(self.use)
        return Rows.build(self.label[self.use], row, column)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One split by one learner.

    Parameters
    ----------
    weight
        Draws: how often each perturbation occurs, shape ``(draw, perturbation)``.
    seed
        Of the groups of genes that are left out.
    """

    grid: Grid
    turns: Turns
    learner: str
    models: Models
    contrasts: tuple[tuple[str, str], ...]
    weight: np.ndarray
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What the models of one split and learner reached.

    Parameters
    ----------
    metrics
        Model → its `METRICS` for every perturbation, shape ``(metric, perturbation)``.
    draws
        Contrast (model, model) → mean difference of `METRICS` in every draw, shape ``(draw, metric)``; a model alone
        (model, "") → its mean.
    gene_variance
        Contrast → variance of the mean differences by the draw of judged genes, beyond that of pairs, ``(metric,)``.
    prediction
        Model → out-of-fold log odds of the pairs in use, shape ``(pair,)``.
    """

    split: str
    learner: str
    metrics: dict[str, np.ndarray]
    draws: dict[tuple[str, str], np.ndarray]
    gene_variance: dict[tuple[str, str], np.ndarray]
    prediction: dict[str, np.ndarray]


def propensity(grid: Grid, turns: Turns, turn: Turn) -> np.ndarray:
    """Log odds that a gene responds to other training perturbations, shape ``(perturbation, gene)``.

    For a training perturbation, those of its own fold are left out as well: a gene's count without just the
    perturbation at hand would give that label away.
    """
    out = np.zeros(grid.label.shape)
    for fold in range(int(turns.row_fold.max()) + 1):
        others = turn.train_row & (turns.row_fold != fold)
        y = (grid.label & grid.use)[others].sum(axis=0)
        n = grid.use[others].sum(axis=0)
        out[turns.row_fold == fold] = np.log((y + 0.5) / (n - y + 0.5))
    return out


def _block(turn: Turn) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    return np.ix_(turn.train_row, turn.train_column), np.ix_(turn.test_row, turn.test_column)


def _ranks(task: Task, turn: Turn) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Ranks by the training side of every score that models read: on the training block and on the test block.

    Raises `StatisticsError` where the training side has one class only, for either learner.
    """
    train, test = _block(turn)
    use = task.grid.use[train]
    count_classes(task.grid.label[train], use)
    taught, judged = {}, {}
    for name in dict.fromkeys(s for scores in task.models.values() for s in scores):
        values = propensity(task.grid, task.turns, turn) if name == PROPENSITY else task.grid.scores[name]
        taught[name] = trained_ranks(values[train], values[train][use])
        judged[name] = trained_ranks(values[test], values[train][use])
    return taught, judged


class _Logistic:
    """Fits of every turn, and predictions for the coefficients of any draw."""

    def __init__(self, task: Task) -> None:
        grid = task.grid
        self.names = list(task.models)
        self.turns = task.turns.turns
        self.gene: list[np.ndarray] = []
        self.coefficient: list[dict[str, np.ndarray]] = []
        self.pair = {n: np.zeros(grid.label.shape) for scores in task.models.values() for n in scores}
        self.scores = task.models
        for turn in self.turns:
            train, test = _block(turn)
            use, label = grid.use[train], grid.label[train]
            taught, judged = _ranks(task, turn)
            pair = {n: normal_scores(r) for n, r in taught.items()}
            weight = np.zeros(len(grid.feature))
            weight[turn.train_column] = use.sum(axis=0)
            gene = curved(grid.feature, weight)
            found: dict[str, np.ndarray] = {}
            start = None
            for name, scores in task.models.items():
                stack = np.stack([pair[s] for s in scores]) if scores else np.zeros((0, *use.shape))
                fit = fit_logistic(gene[turn.train_column], stack, label, use, start=start)
                start = fit.coefficient[: gene.shape[1]] if start is None else start
                found[name] = np.vstack([fit.coefficient, fit.refitted(task.weight[:, turn.train_row])])
            self.coefficient.append(found)
            self.gene.append(gene)
            for n, r in judged.items():
                self.pair[n][test] = normal_scores(r)

    def predicted(self, draw: int) -> list[np.ndarray]:
        """Predictions of all models on the grid; draw −1 is the fit to all perturbations."""
        out = [np.zeros(self.shape) for _ in self.names]
        for turn, gene, found in zip(self.turns, self.gene, self.coefficient):
            test = _block(turn)[1]
            for k, name in enumerate(self.names):
                pair = [self.pair[s][test] for s in self.scores[name]]
                stack = np.stack(pair) if pair else np.zeros((0, int(turn.test_row.sum()), int(turn.test_column.sum())))
                out[k][test] = log_odds(gene[turn.test_column], stack, found[name][draw + 1])
        return out

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.turns[0].train_row), len(self.turns[0].train_column)


def _cells(code: np.ndarray, scores: list[np.ndarray], use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the pairs in use: features of each cell, and the cell of every pair, shape ``(pair,)``."""
    row, column = np.nonzero(use)
    key = column
    for s in scores:
        key = key * BINS + s[row, column]
    size = len(code) * BINS ** len(scores)
    present = np.zeros(size, dtype=bool)
    present[key] = True
    number = np.cumsum(present) - 1
    kept = np.flatnonzero(present)
    parts = []
    for _ in scores:
        parts.append((kept % BINS).astype(np.uint8))
        kept = kept // BINS
    return np.column_stack([code[kept], *parts[::-1]]), number[key]


class _Boosted:
    """Cells of every turn; fits and predictions for any draw."""

    def __init__(self, task: Task) -> None:
        grid = task.grid
        self.shape = grid.label.shape
        self.names = list(task.models)
        self.weight = task.weight
        self.parts: list[list[tuple[Turn, np.ndarray, sp.csr_matrix, sp.csr_matrix, np.ndarray, np.ndarray]]] = []
        for turn in task.turns.turns:
            train, test = _block(turn)
            use, label = grid.use[train], grid.label[train]
            taught, judged = (({n: binned(r) for n, r in ranks.items()}) for ranks in _ranks(task, turn))
            seen = np.flatnonzero(turn.train_column)[use.any(axis=0)]
            code = np.column_stack([binned(trained_ranks(x, x[seen])) for x in grid.feature.T])
            row = np.nonzero(use)[0]
            own = []
            for scores in task.models.values():
                cells, of_pair = _cells(code[turn.train_column], [taught[s] for s in scores], use)
                shape = (len(cells), len(use))
                every = sp.csr_matrix((np.ones(len(row)), (of_pair, row)), shape=shape)
                positive = sp.csr_matrix((label[use].astype(np.float64), (of_pair, row)), shape=shape)
                judged_cells, judged_of_pair = _cells(
                    code[turn.test_column], [judged[s] for s in scores], np.ones_like(grid.use[test])
                )
                own.append((turn, cells, every, positive, judged_cells, judged_of_pair))
            self.parts.append(own)

    def predicted(self, draw: int) -> list[np.ndarray]:
        """As `_Logistic.predicted`; NaN where a draw leaves one class only on a training side."""
        out = [np.zeros(self.shape) for _ in self.names]
        weight = np.ones(self.shape[0]) if draw < 0 else self.weight[draw]
        for own in self.parts:
            for k, (turn, cells, every, positive, judged, of_pair) in enumerate(own):
                n_all, n_pos = every @ weight[turn.train_row], positive @ weight[turn.train_row]
                block = np.ix_(turn.test_row, turn.test_column)
                total, found = n_all.sum(), n_pos.sum()
                if not 0 < found < total:
                    out[k][block] = np.nan
                    continue
                kept = n_all > 0
                trees = fit_trees(cells[kept], n_pos[kept], n_all[kept])
                out[k][block] = (trees.log_odds(judged)[of_pair] - trees.centre).reshape(out[k][block].shape)
        return out


def evaluate(task: Task) -> Found:
    """Fit, predict and judge one split by one learner, with all draws.

    Raises
    ------
    StatisticsError
        A training side has no responding pair, or no other.
    """
    grid, rows = task.grid, task.grid.rows
    engine = (_Logistic if task.learner == "logistic" else _Boosted)(task)
    names = list(task.models)
    flat = {n: p[grid.use] for n, p in zip(names, engine.predicted(-1))}
    metrics = {n: ranked(p, rows) for n, p in flat.items()}
    contrasts = [*task.contrasts, *((n, "") for n in names)]
    draws = {pair: np.full((len(task.weight), len(METRICS)), np.nan) for pair in contrasts}
    for b, weight in enumerate(task.weight):
        drawn = {n: p[grid.use] for n, p in zip(names, engine.predicted(b))}
        if not all(np.isfinite(p).all() for p in drawn.values()):
            continue
        keep = (weight > 0)[rows.row()]
        found = {n: ranked(p, rows, keep) for n, p in drawn.items()}
        for one, other in contrasts:
            draws[one, other][b] = mean_difference(found[one], found[other] if other else 0.0, weight)
    genes = gene_variance(flat, task.contrasts, rows, stream(task.seed, "judged genes"))
    return Found(
        split=task.turns.split, learner=task.learner, metrics=metrics, draws=draws, gene_variance=genes,
        prediction=flat,
    )  # fmt: skip
