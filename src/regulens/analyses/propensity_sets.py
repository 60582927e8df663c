"""How often does a responder beat its own matched genes, perturbation by perturbation, and what could still explain it?

Matched sets lie within one perturbation. The mean over perturbations has the error of the delete-one jackknife over
perturbations and over genes; leaving out a gene takes its sets and its places in other sets away, weights are held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from regulens.nulls.entropy_balance import balance_weights
from regulens.nulls.nearest import NearestNegatives
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import Deviations


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sets:
    """Responders with their matched genes.

    Parameters
    ----------
    row, gene
        Perturbation (0 .. n−1, every one present) and gene of each responder, shape ``(set,)``.
    owner, other_gene
        Set and gene of every matched pair, shape ``(pair,)``.
    size
        Matched genes of each set, shape ``(set,)``.
    perturbations
        Which of the perturbations that were given have a set, ascending.
    positive, negative
        Positions of responders, ``(set,)``, and of matched pairs, ``(pair,)``, among the units that were matched.
    weight
        Of every matched pair, summing to 1 in each set, shape ``(pair,)``.
    """

    row: np.ndarray
    gene: np.ndarray
    owner: np.ndarray
    other_gene: np.ndarray
    size: np.ndarray
    perturbations: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, matched: NearestNegatives, row: np.ndarray, gene: np.ndarray, balanced: np.ndarray) -> Sets:
        """From matched units, whose perturbation and gene are `row` and `gene`, shape ``(unit,)``.

        Parameters
        ----------
        balanced
            What matched genes must equal their responder in on average, shape ``(unit, feature)``: inside the caliper
            there are more genes of lower propensity than of higher, so equal weights would favour any score that
            follows propensity. Weights by entropy balancing, of the differences and of their signs.
        """
        present, number = np.unique(row[matched.positive], return_inverse=True)
        owner = matched.owner
        difference = balanced[matched.negative] - balanced[matched.positive][owner]
        return cls(
            row=number, gene=gene[matched.positive], owner=owner,
            weight=balance_weights(np.column_stack([difference, np.sign(difference)]), owner),
            other_gene=gene[matched.negative],
            size=np.diff(matched.start), perturbations=present, positive=matched.positive, negative=matched.negative,
        )  # fmt: skip

    def wins(self, score: np.ndarray) -> np.ndarray:
        """1 where a responder scores above its matched gene, ½ at a tie, 0 below; shape ``(pair,)``.

        Parameters
        ----------
        score
            Shape ``(unit,)``.
        """
        gap = score[self.positive][self.owner] - score[self.negative]
        return (gap > 0) + 0.5 * (gap == 0)

    def share(self, wins: np.ndarray) -> np.ndarray:
        """Weighted share of its matched genes that each responder beats, shape ``(set,)``."""
        return np.bincount(self.owner, weights=self.weight * wins, minlength=self.size.size)

    def by_perturbation(self, value: np.ndarray) -> np.ndarray:
        """Mean over the sets of each perturbation of a value per set, shape ``(perturbation,)``."""
        return np.bincount(self.row, weights=value) / np.bincount(self.row)

    def inference(self, wins: np.ndarray, *, minus: np.ndarray | float = 0.0) -> Inference:
        """Mean over perturbations of the share of matched genes beaten, with its error.

        Parameters
        ----------
        wins
            From `wins`, or a difference of two; shape ``(pair,)``.
        minus
            Taken off the share of every set, shape ``(set,)``.
        """
        value = self.share(wins) - minus
        n_rows, n_genes = len(self.perturbations), int(max(self.gene.max(), self.other_gene.max())) + 1
        per_row, number = self.by_perturbation(value), np.bincount(self.row).astype(np.float64)
        mean = per_row.mean()
        by_row = (n_rows * mean - per_row) / (n_rows - 1) - mean if n_rows > 1 else np.full(1, np.nan)
        by_gene = self._without_genes(value, wins, minus, n_genes) - mean
        present = np.zeros(n_genes, dtype=bool)
        present[self.gene] = present[self.other_gene] = True
        spread = (value - per_row[self.row]) / number[self.row] / n_rows
        return default_se(
            Deviations(
                estimate=np.array([mean]), regulator=by_row[None], target=by_gene[present][None],
                edge_variance=np.array([np.square(spread).sum()]),
            )
        )  # fmt: skip

    def _without_genes(
        self, value: np.ndarray, wins: np.ndarray, minus: np.ndarray | float, n_genes: int
    ) -> np.ndarray:  # fmt: skip
        """Mean over perturbations without each gene, shape ``(gene,)``."""
        n_rows = len(self.perturbations)
        alive = self.size[self.owner] > 1
        rest = self.share(wins)[self.owner] - self.weight * wins
        less = np.divide(rest, 1 - self.weight, out=np.zeros(len(wins)), where=alive & (self.weight < 1))
        less = less - np.broadcast_to(minus, value.shape)[self.owner]
        # what a perturbation's sum gains, and how many sets it loses, when a gene goes
        cell = self.row[self.owner] * n_genes + self.other_gene
        shape, length = (n_rows, n_genes), n_rows * n_genes
        gained = np.bincount(cell, weights=np.where(alive, less, 0.0) - value[self.owner], minlength=length)
        lost = np.bincount(cell, weights=~alive, minlength=length)
        own = self.row * n_genes + self.gene
        gained -= np.bincount(own, weights=value, minlength=length)
        lost += np.bincount(own, minlength=length)
        number = np.bincount(self.row).astype(np.float64)
        summed = (self.by_perturbation(value) * number)[:, None] + gained.reshape(shape)
        left = number[:, None] - lost.reshape(shape)
        per_row = np.divide(summed, left, out=np.full(shape, np.nan), where=left > 0)
        count = np.isfinite(per_row).sum(axis=0)
        return np.divide(np.nansum(per_row, axis=0), count, out=np.full(n_genes, np.nan), where=count > 0)


def largest_share(size: np.ndarray, gamma: float) -> np.ndarray:
    r"""Largest expected share of its matched genes that a responder beats by a hidden cause alone (Rosenbaum 2002).

    Odds to respond may differ by up to :math:`\Gamma` within a set. With values :math:`q_i = i / n`, the expectation is
    largest when the top a of the n + 1 genes have the higher odds, for the best a:
    :math:`\max_a (\Gamma \sum_{top} q + \sum_{rest} q) / (\Gamma a + n + 1 - a)`.

    Parameters
    ----------
    size
        Matched genes n of each set, shape ``(set,)``.
    gamma
        1 for no hidden cause, which gives 0.5.

    Examples
    --------
    >>> largest_share(np.array([1, 5]), 2.0).round(3).tolist()
    [0.667, 0.6]
    """
    out = np.zeros(len(size))
    for n in np.unique(size):
        q = np.arange(n, -1, -1) / n
        top = np.cumsum(q)
        a = np.arange(1, n + 2)
        out[size == n] = ((gamma * top + top[-1] - top) / (gamma * a + n + 1 - a)).max()
    return out


def overlap_weights(log_odds: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Weights that make responders and others alike where they overlap: 1 − e, and e (Li, Morgan & Zaslavsky 2018)."""
    e = expit(log_odds)
    return np.where(label, 1 - e, e)


def weighted_auroc(score: np.ndarray, label: np.ndarray, weight: np.ndarray, row: np.ndarray) -> np.ndarray:
    """AUROC of every perturbation with weighted units, ties one half; NaN without responders or others.

    Parameters
    ----------
    row
        Perturbation of each unit, ascending, 0 .. n−1, shape ``(unit,)``.

    Returns
    -------
    Shape ``(perturbation,)``.

    Examples
    --------
    >>> y = np.array([True, False, False])
    >>> weighted_auroc(np.array([2.0, 1.0, 3.0]), y, np.array([1.0, 3.0, 1.0]), np.zeros(3, int)).tolist()
    [0.75]
    """
    out = np.full(int(row.max(initial=-1)) + 1, np.nan)
    ends = np.searchsorted(row, np.arange(out.size + 1))
    for r in range(out.size):  # over perturbations
        s, y, w = (x[ends[r] : ends[r + 1]] for x in (score, label, weight))
        order = np.argsort(s[~y])
        values, summed = s[~y][order], np.concatenate([[0.0], np.cumsum(w[~y][order])])
        if y.any() and summed[-1] > 0 and w[y].sum() > 0:
            below = summed[np.searchsorted(values, s[y], "left")] + summed[np.searchsorted(values, s[y], "right")]
            out[r] = float(np.average(below / 2, weights=w[y]) / summed[-1])
    return out
