"""A synthetic study: everything that the audit reads, and its broken twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.analyses.base import AnalysisInput, StatisticsSettings, TestRequest
from regulens.analyses.build import build_input
from regulens.rng import stream
from regulens.testing.worlds.draft import Cause, Draft
from regulens.testing.worlds.maps import summarise
from regulens.types.attention import AttentionSummary
from regulens.types.cells import Cells
from regulens.types.edges import EdgeUniverse
from regulens.types.genes import GeneAlignment, GeneVocabulary
from regulens.types.networks import ReferenceNetwork


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """A synthetic study: everything the audit reads, and the truth.

    Parameters
    ----------
    kind
        Key of `KINDS`.
    networks, universes
        Every reference of the study by name, and its universe; `reference` and `universe` are among them.
    """

    kind: str
    summary: AttentionSummary
    cells: Cells
    reference: ReferenceNetwork
    universe: EdgeUniverse
    networks: Mapping[str, ReferenceNetwork]
    universes: Mapping[str, EdgeUniverse]

    def input(
        self, *, settings: StatisticsSettings | None = None, direction: str = "regulator_attends"
    ) -> AnalysisInput:
        """What the analyses read."""
        request = TestRequest(
            model=self.summary.card.name, reference=self.reference.name, direction=direction,
            settings=settings or StatisticsSettings(bootstrap=500, permutations=200),
        )  # fmt: skip
        return build_input(
            summary=self.summary, cells=self.cells, universe=self.universe, request=request, card=self.summary.card,
            networks=self.networks, universes=self.universes,
        )  # fmt: skip

    def transposed(self) -> World:
        """A broken twin: the two directions of attention exchanged, as a transposed capture would have them."""
        flipped = np.ascontiguousarray(np.asarray(self.summary.sums)[:, :, :, ::-1])
        return replace(self, summary=replace(self.summary, sums=flipped))

    def relabelled(self) -> World:
        """A broken twin: every regulator keeps its number of positives, and which targets they are is random."""
        rng = stream(len(self.universe.genes), f"worlds/relabelled/{self.cells.source}")
        key = np.where(self.universe.candidate, rng.random(self.universe.positive.shape), np.inf)
        rank = key.argsort(axis=1).argsort(axis=1)
        positive = rank < self.universe.positive.sum(axis=1, keepdims=True)
        universe = replace(self.universe, positive=positive)
        return replace(self, universe=universe, universes={**self.universes, universe.reference: universe})

    def leaking(self) -> World:
        """A broken twin: attention of a pair is doubled where the reference has an edge."""
        leak = (1 + self.universe.positive).astype(np.float32)
        return replace(self, summary=replace(self.summary, sums=np.asarray(self.summary.sums) * leak))


def assemble_world(draft: Draft, cause: Cause) -> World:
    """Cells, attention, reference and universe of one cause."""
    total = cause.counts.sum(axis=1, dtype=np.float64)
    table = pd.DataFrame({"input": draft.genes, "status": "kept", "symbol": draft.genes, "ensembl": "", "reason": ""})
    obs = pd.DataFrame(
        {
            "cell_state": [f"state{k}" for k in draft.state],
            "donor": [f"donor{k}" for k in draft.donor],
            "batch": [f"batch{k}" for k in draft.donor],
        },
        index=[f"c{k}" for k in range(draft.n_cells)],
    )
    cells = Cells(
        counts=sp.csr_matrix(cause.counts), genes=GeneVocabulary(symbols=draft.genes, ensembl=("",) * draft.n_genes),
        obs=obs, total_counts=total, alignment=GeneAlignment(table=table),
        source=f"synthetic world {draft.kind}, seed {draft.seed}",
    )  # fmt: skip
    summary = summarise(draft, cause, cells)
    labels = cause.others | {draft.kind: cause.positive}  # the study's first reference is another where there is one
    networks = {name: _network(draft, name, positive) for name, positive in labels.items()}
    universes = {
        name: EdgeUniverse(
            genes=draft.genes, regulators=summary.regulators, candidate=draft.candidate, positive=positive,
            reference=name, counts={"reference_edges": int(positive.sum()), "evaluable": int(positive.sum())},
            name=name,
        )
        for name, positive in labels.items()
    }  # fmt: skip
    return World(
        kind=draft.kind, summary=summary, cells=cells, reference=networks[draft.kind], universe=universes[draft.kind],
        networks=networks, universes=universes,
    )  # fmt: skip


def _network(draft: Draft, name: str, positive: np.ndarray) -> ReferenceNetwork:
    """The labels as a table; signs and the number of sources are random and mean nothing."""
    rng = draft.rng(f"network/{name}")
    names = np.array(draft.genes, dtype=object)
    i, j = np.nonzero(positive)
    edges = pd.DataFrame(
        {
            "source": names[draft.own[i]],
            "target": names[j],
            "sign": rng.integers(-1, 2, len(i)),
            "evidence": rng.choice(["one", "one;two", "one;two;three"], len(i)),
        }
    )
    return ReferenceNetwork(name=name, edges=edges.sort_values(["source", "target"], ignore_index=True))
