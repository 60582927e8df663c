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

from regulens.errors import ParameterError
from regulens.types.attention import Direction, ModelCard
from regulens.types.edges import EdgeScores
from regulens.types.genes import GeneVocabulary


class AbstractScoreModel(ABC):
    """A loaded model that scores gene pairs without attention.

    Subclasses are final: they override the abstract members and nothing else.
    """

    #: Filled by the loader; ``n_layers`` and ``n_heads`` are 0.
    card: ModelCard

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


def as_directions(scores: EdgeScores, *, primary: str) -> dict[str, EdgeScores]:
    """Scores under both directions of attention, as analyses read them.

    Parameters
    ----------
    scores
        From `AbstractScoreModel.edge_scores`.
    primary
        The score that is put first under the name ``pooled``, by which plans ask for a model's overall score.

    Returns
    -------
    Direction value → scores; the same numbers under both directions, because no token attends to another.
    """
    if primary not in scores.names or "pooled" in scores.names:
        message = f"Expected the primary score among {', '.join(scores.names)}, none of them 'pooled', got '{primary}'."
        raise ParameterError(f"{message} Name one of the model's scores.")
    first = scores.names.index(primary)
    values = np.concatenate([scores.values[[first]], scores.values])
    return {
        str(d): EdgeScores(
            values=values, observed=scores.observed, names=("pooled", *scores.names), genes=scores.genes,
            regulators=scores.regulators, direction=str(d), scorer=scores.scorer,
            provenance=scores.provenance | {"pooled": primary},
        )
        for d in Direction
    }  # fmt: skip
