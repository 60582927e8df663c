"""How does a model without attention enter an audit? `AbstractScoreModel`: scores of gene pairs straight from weights.

Such a model has no tokens, no layers and no map (its card says ``n_layers=0``). It hands out one or several scores per
pair, symmetric or not, and names the one that is judged before anything is looked at. Nothing is extracted from cells,
so that an audit of it compares what the model stored with what the cells and the genes alone would say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from regulens.errors import ParameterError
from regulens.types.attention import Direction, ModelCard
from regulens.types.cells import Cells
from regulens.types.edges import EdgeScores
from regulens.types.genes import GeneVocabulary

#: Genes that `verify_scores` looks at, at most.
LIMIT = 500


class AbstractScoreModel(ABC):
    """A loaded model that scores gene pairs without attention.

    Subclasses are final: they override the abstract members and nothing else.
    """

    #: Filled by the loader; ``n_layers`` and ``n_heads`` are 0.
    card: ModelCard

    #: Smallest value that the primary score can take; see `as_directions`.
    floor: float = 0.0

    @property
    @abstractmethod
    def primary(self) -> str:
        """Name of the score that an audit judges; fixed for the family, never chosen from results."""

    @abstractmethod
    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Row of every gene in the model's own gene list, int64, shape ``(gene,)``; −1 where it does not know it."""

    @abstractmethod
    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names in the model's own gene list and what it stores of each gene, shape ``(gene, width)``."""

    @abstractmethod
    def edge_scores(self, genes: GeneVocabulary, regulators: Sequence[str]) -> EdgeScores:
        """Scores of regulators × genes, larger where the model ties two genes more closely.

        Parameters
        ----------
        genes
            Target axis, in order.
        regulators
            Symbols of the regulator axis, all of them among `genes`.

        Returns
        -------
        Pairs with a gene that the model does not know, and self-pairs, are unobserved.
        """

    @property
    @abstractmethod
    def module(self) -> Any:
        """What holds the parameters."""


def verify_scores(model: AbstractScoreModel, cells: Cells) -> pd.DataFrame:
    """Check a loaded score model on the genes of some cells, as `regulens.models.checks.verify` does for attention.

    Returns
    -------
    Columns ``name``, ``passed``, ``value``, ``tolerance``. A check passes when ``value <= tolerance``, except
    ``genes_known`` and ``pairs_observed``, which need at least one.
    """
    known = np.flatnonzero(model.gene_tokens(cells.genes) >= 0)
    genes = cells.genes.take(known[:LIMIT])
    first, again = (model.edge_scores(genes, genes.symbols) for _ in range(2))
    turned = model.edge_scores(genes.take(np.arange(len(genes))[::-1]), genes.symbols[::-1])
    n_odd = np.count_nonzero(~np.isfinite(first.values))
    exact = [
        ("no_layers", float(model.card.n_layers + model.card.n_heads), 0.0),
        ("primary_among_scores", float(model.primary not in first.names), 0.0),
        ("scores_finite", float(n_odd), 0.0),
        ("self_pairs_unobserved", float(np.diag(first.observed).sum()), 0.0),
        ("scores_deterministic", float(np.abs(first.values - again.values).max(initial=0.0)), 0.0),
        ("scores_ignore_gene_order", float(np.abs(first.values - turned.values[:, ::-1, ::-1]).max(initial=0.0)), 1e-9),
    ]
    rows = [(name, value <= tolerance, value, tolerance) for name, value, tolerance in exact]
    for name, n in (("pairs_observed", int(first.observed.sum())), ("genes_known", len(known))):
        rows.append((name, n > 0, float(n), 1.0))
    return pd.DataFrame(rows, columns=["name", "passed", "value", "tolerance"])


def as_directions(scores: EdgeScores, *, primary: str, floor: float = 0.0) -> dict[str, EdgeScores]:
    """Scores under both directions of attention, as analyses read them.

    Parameters
    ----------
    scores
        From `AbstractScoreModel.edge_scores`.
    primary
        The score that is put first under the name ``pooled``, by which plans ask for a model's overall score.
    floor
        Subtracted from ``pooled``: baselines that multiply a score's own margins need numbers that are not negative.
        Ranks do not change.

    Returns
    -------
    Direction value → scores; the same numbers under both directions, because no token attends to another.
    """
    if primary not in scores.names or "pooled" in scores.names:
        message = f"Expected the primary score among {', '.join(scores.names)}, none of them 'pooled', got '{primary}'."
        raise ParameterError(f"{message} Name one of the model's scores.")
    first = scores.names.index(primary)
    pooled = np.where(scores.observed, scores.values[first] - floor, 0.0)
    if (pooled < 0).any():
        message = f"Expected '{primary}' of at least {floor}, got {scores.values[first][scores.observed].min():.4g}."
        raise ParameterError(f"{message} Name the smallest value that the score can take.")
    values = np.concatenate([pooled[None], scores.values])
    return {
        str(d): EdgeScores(
            values=values, observed=scores.observed, names=("pooled", *scores.names), genes=scores.genes,
            regulators=scores.regulators, direction=str(d), scorer=scores.scorer,
            provenance=scores.provenance | {"pooled": primary},
        )
        for d in Direction
    }  # fmt: skip
