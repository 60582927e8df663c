"""A toy model over toy cells, and the sums that a naive reading of its full maps gives."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from regulens.testing.toy_model import ToyAdapter, toy_cells
from regulens.types.attention import Direction, edges_from_map


@pytest.fixture(scope="session")
def cells():
    return toy_cells(n_cells=70, n_genes=40)


@pytest.fixture(scope="session")
def toy(cells):
    # Two genes of the cells are unknown to the model; its own order differs from that of the cells.
    return ToyAdapter(cells.genes.symbols[2:][::-1])


@pytest.fixture(scope="session")
def axes(cells):
    """Targets leave out known genes; regulators include an unknown gene and one that is no target."""
    names = cells.genes.symbols
    return {"genes": names[:35][::-1], "regulators": (*names[0:20:2], names[37])}


@pytest.fixture(scope="session")
def naive(toy, cells):
    """Sums and counts over some cells, by loops over the full maps of single cells."""

    def run(rows, genes, regulators):
        card = toy.card
        sums = np.zeros((card.n_layers, card.n_heads, 2, len(regulators), len(genes)))
        counts = np.zeros((len(regulators), len(genes)), dtype=np.int64)
        for row in rows:
            maps = {}
            batch = toy.tokenize(cells, np.array([row]), seed=0)
            toy.forward(batch, kernel="plain", tap=lambda x, m=maps: m.update({x.layer: x.probabilities[0].numpy()}))
            place = {cells.genes.symbols[g]: i for i, g in enumerate(batch.gene[0]) if g >= 0}
            for i, r in enumerate(regulators):
                for j, t in enumerate(genes):
                    if r == t or r not in place or t not in place:
                        continue
                    counts[i, j] += 1
                    at = np.array([place[r]]), np.array([place[t]])
                    for layer, found in maps.items():
                        for d in Direction:
                            sums[layer, :, d.axis, i, j] += edges_from_map(found, d, *at)[:, 0, 0]
        return sums, counts

    return run
