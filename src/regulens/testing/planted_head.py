"""A model whose head says, for every gene, a known sum over the values of all genes of the cell.

Taking gene s away changes the prediction of gene t by ``-value(s) * weights[s, t]``, so that in-silico effects are
known before anything is run. It has the tokens and values of scGPT, no attention and no parts that could be changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from regulens.errors import ParameterError
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, Tap, TokenBatch
from regulens.provenance import digest_array, digest_of
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

_PAD, _FIRST_GENE = 0, 1


class _Head(torch.nn.Module):
    """The one number of a state is the prediction; without the head the attribute `decoder` is absent."""

    def __init__(self, *, head: bool) -> None:
        super().__init__()
        if head:
            self.decoder = torch.nn.Identity()

    def predict(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.decoder(hidden)[..., 0]


class PlantedHead(AbstractAdapter):
    """A head that follows `weights`.

    Parameters
    ----------
    names
        Genes that the model knows, in the order of `weights`.
    weights
        Shape ``(gene, gene)``: what a unit of the first adds to the prediction for the second.
    head
        Whether the checkpoint kept its head; without it only states can be read.

    Examples
    --------
    >>> PlantedHead(("A", "B"), np.array([[0.0, 2.0], [0.0, 0.0]])).card.n_layers
    1
    """

    def __init__(self, names: tuple[str, ...], weights: np.ndarray, *, head: bool = True) -> None:
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (len(names), len(names)):
            message = f"Expected weights of shape ({len(names)}, {len(names)}) (gene, gene), got {weights.shape}."
            raise ParameterError(message)
        self._names = tuple(names)
        self._weights = torch.from_numpy(weights)
        self._module = _Head(head=head)
        self.card = ModelCard(
            name="planted-head", family="scgpt", spec="planted-head", n_layers=1, n_heads=1, width=1,
            vocabulary_size=len(names) + _FIRST_GENE, max_length=len(names), n_parameters=weights.size,
            sha256=digest_of(self._names, digest_array(weights), head), namespace="symbol",
            tokenisation="all expressed genes, with log1p of their counts", normalisation="none", activation="none",
            special_tokens=("<pad>",), demonstration=True,
        )  # fmt: skip

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Vocabulary id of every gene, −1 where unknown."""
        where = {name: i + _FIRST_GENE for i, name in enumerate(self._names)}
        return np.array([where.get(s, -1) for s in genes.symbols], dtype=np.int64)

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """The cell's known genes in the order of the cells' columns."""
        ids = self.gene_tokens(cells.genes)
        chosen = []
        for row in rows:
            at = slice(cells.counts.indptr[row], cells.counts.indptr[row + 1])
            gene, count = cells.counts.indices[at].astype(np.int64), cells.counts.data[at]
            kept = (ids[gene] >= 0) & (count > 0)
            chosen.append((gene[kept], count[kept]))
        shape = (len(chosen), max((len(g) for g, _ in chosen), default=0))
        tokens, genes = np.full(shape, _PAD, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
        values, mask = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
        for i, (gene, count) in enumerate(chosen):
            end = len(gene)
            tokens[i, :end], genes[i, :end], mask[i, :end] = ids[gene], gene, True
            values[i, :end] = np.log1p(count)
        return TokenBatch(tokens=tokens, values=values, gene=genes, mask=mask, cell=np.asarray(rows, dtype=np.int64))

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Values, and what the weights make of them."""
        if edits.embedding or edits.head_output or edits.mlp_output:
            message = "Expected changes of the input only, got changes of parts that this model does not have."
            raise ParameterError(message)
        own = torch.from_numpy(np.maximum(batch.tokens - _FIRST_GENE, 0))
        value = torch.from_numpy(np.where(batch.mask, batch.values, 0.0)).double()
        told = torch.einsum("cp,cpq->cq", value, self._weights[own[:, :, None], own[:, None, :]])
        return [value[..., None], told[..., None]]

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names, and one number each."""
        return self._names, np.ones((len(self._names), 1))

    @property
    def module(self) -> Any:
        """The head."""
        return self._module
