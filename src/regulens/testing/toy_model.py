"""A small deterministic model with planted, one-way attention, for tests of everything that reads attention.

Gene ``g`` attends, in head 0 of layer ``l``, to gene ``g + 1 + l`` (counted around) and not the other way, so that a
transposed capture, a shifted layer or layers ordered as strings are all visible in the numbers. The other heads are
random. There is a special token in front, values, and padding: whatever extraction has to handle in real models.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from regulens.models.base import AbstractAdapter, Kernel, LayerAttention, Tap, TokenBatch
from regulens.models.kernel import attend, padding_mask
from regulens.provenance import digest_of
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment, GeneVocabulary

_CLS, _PAD, _FIRST_GENE = 0, 1, 2


class ToyAdapter(AbstractAdapter):
    """Twelve layers by default, so that layer 10 sorts before layer 2 wherever somebody sorts strings.

    Parameters
    ----------
    names
        Vocabulary in the model's order; genes of cells are matched by symbol.
    gain
        Logit of a planted pair; the others of head 0 scatter around 0.
    max_length
        Tokens at most, the special one included; the most expressed genes are kept.

    Examples
    --------
    >>> toy = ToyAdapter(("A", "B", "C"))
    >>> toy.card.n_layers, toy.planted_target("A", layer=1)
    (12, 'C')
    """

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        n_layers: int = 12,
        n_heads: int = 2,
        head_width: int = 16,
        gain: float = 6.0,
        max_length: int = 512,
        seed: int = 0,
    ) -> None:
        width = n_heads * head_width
        random = torch.Generator().manual_seed(seed)
        self._names = tuple(names)
        self._gain = gain
        self._module = torch.nn.Module()
        vocabulary = len(names) + _FIRST_GENE
        parameters = {
            "embedding": torch.randn(vocabulary, width, generator=random),
            "value": torch.randn(width, generator=random) * 0.1,
            "planted": torch.nn.functional.normalize(torch.randn(vocabulary, head_width, generator=random), dim=1),
            "qkv": torch.randn(n_layers, 3 * width, width, generator=random) / math.sqrt(width),
            "out": torch.randn(n_layers, width, width, generator=random) / math.sqrt(width),
        }
        for name, tensor in parameters.items():
            self._module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
        self.card = ModelCard(
            name="toy",
            family="toy",
            spec="toy",
            n_layers=n_layers,
            n_heads=n_heads,
            width=width,
            vocabulary_size=vocabulary,
            max_length=max_length,
            n_parameters=sum(t.numel() for t in parameters.values()),
            sha256=digest_of(self._names, n_layers, n_heads, head_width, gain, seed),
            namespace="symbol",
            tokenisation="non-zero genes by descending count after one special token",
            normalisation="post",
            activation="none",
            special_tokens=("<cls>", "<pad>"),
            demonstration=True,
        )

    def planted_target(self, name: str, *, layer: int) -> str:
        """Gene that `name` attends to in head 0 of `layer`."""
        return self._names[(self._names.index(name) + 1 + layer) % len(self._names)]

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Vocabulary id of every gene, −1 where unknown."""
        where = {name: i + _FIRST_GENE for i, name in enumerate(self._names)}
        return np.array([where.get(s, -1) for s in genes.symbols], dtype=np.int64)

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Special token, then the cell's known genes by descending count, ties by column."""
        ids = self.gene_tokens(cells.genes)
        chosen = []
        for row in rows:
            at = slice(cells.counts.indptr[row], cells.counts.indptr[row + 1])
            gene, count = cells.counts.indices[at].astype(np.int64), cells.counts.data[at]
            kept = (ids[gene] >= 0) & (count > 0)
            gene, count = gene[kept], count[kept]
            order = np.argsort(-count, kind="stable")[: self.card.max_length - 1]
            chosen.append((gene[order], count[order]))
        width = 1 + max(len(g) for g, _ in chosen)
        tokens = np.full((len(rows), width), _PAD, dtype=np.int64)
        values = np.zeros((len(rows), width), dtype=np.float32)
        genes = np.full((len(rows), width), -1, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=bool)
        for i, (gene, count) in enumerate(chosen):
            end = 1 + len(gene)
            tokens[i, 0], tokens[i, 1:end] = _CLS, ids[gene]
            values[i, 1:end], genes[i, 1:end], mask[i, :end] = np.log1p(count), gene, True
        return TokenBatch(tokens=tokens, values=values, gene=genes, mask=mask, cell=np.asarray(rows, dtype=np.int64))

    @torch.no_grad()
    def forward(self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused") -> list[torch.Tensor]:
        """Attention and a norm per layer."""
        m, card = self._module, self.card
        tokens, key_mask = torch.from_numpy(batch.tokens), padding_mask(batch.mask)
        x = m.embedding[tokens] + torch.from_numpy(batch.values)[..., None] * m.value
        states = [x]
        split = (*tokens.shape, 3, card.n_heads, card.width // card.n_heads)
        for layer in range(card.n_layers):
            q, k, v = (x @ m.qkv[layer].T).view(split).permute(2, 0, 3, 1, 4)  # each: cell, head, position, width
            q, k = q.clone(), k.clone()
            scale = split[-1] ** -0.5
            q[:, 0] = m.planted[self._partner(tokens, layer)] * (self._gain / scale)
            k[:, 0] = m.planted[tokens]
            out, lse, maps = attend(q, k, v, key_mask=key_mask, scale=scale, kernel=kernel)
            if tap is not None:
                tap(
                    LayerAttention(
                        layer=layer, q=q, k=k, v=v, lse=lse, scale=scale, key_mask=key_mask, probabilities=maps
                    )
                )
            mixed = out.transpose(1, 2).reshape(x.shape) @ m.out[layer].T
            x = torch.nn.functional.layer_norm(x + mixed, (card.width,))
            states.append(x)
        return states

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of the mix of the heads."""
        return self._module.out[layer]

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Input embeddings of the genes."""
        return self._names, self._module.embedding[_FIRST_GENE:].numpy().copy()

    @property
    def module(self) -> Any:
        """Parameters of the toy."""
        return self._module

    def _partner(self, tokens: torch.Tensor, layer: int) -> torch.Tensor:
        partner = (tokens - _FIRST_GENE + 1 + layer) % len(self._names) + _FIRST_GENE
        return torch.where(tokens < _FIRST_GENE, tokens, partner)


def toy_cells(
    *, n_cells: int = 60, n_genes: int = 40, seed: int = 0, states: tuple[str, ...] = ("a", "b"), density: float = 0.6
) -> Cells:
    """Cells with genes ``G000 …``, counts of very unequal depth, and the roles ``cell_state`` and ``donor``.

    Parameters
    ----------
    density
        Largest share of genes detected in a cell; cells range from a fifth of it up.
    """
    rng = np.random.default_rng(seed)
    share = rng.uniform(density / 5, density, size=(n_cells, 1))
    counts = rng.poisson(3, size=(n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < share)
    counts[np.arange(n_cells), rng.integers(0, n_genes, n_cells)] += 1
    names = tuple(f"G{i:03d}" for i in range(n_genes))
    obs = pd.DataFrame(
        {"cell_state": rng.choice(states, n_cells), "donor": rng.choice(["d1", "d2"], n_cells)},
        index=[f"c{i}" for i in range(n_cells)],
    )
    table = pd.DataFrame({"input": names, "status": "kept", "symbol": names, "ensembl": "", "reason": ""})
    return Cells(
        counts=sp.csr_matrix(counts.astype(np.float32)),
        genes=GeneVocabulary(symbols=names, ensembl=("",) * n_genes),
        obs=obs,
        total_counts=counts.sum(axis=1).astype(np.float64),
        alignment=GeneAlignment(table=table),
        source="toy",
        name="toy",
    )
