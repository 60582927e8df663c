"""What would the audit say if we knew the truth? Small synthetic worlds with one cause each.

Every world is numpy only: expression of some hundred cells, attention of a few heads, a reference network, and which
of them causes which. Cells are Poisson around gene means with a few shared factors, so that there is co-expression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import rankdata

from regulens.analyses.base import ANALYSES, AnalysisInput, StatisticsSettings, TestRequest
from regulens.analyses.build import build_input
from regulens.errors import ParameterError, nearest
from regulens.rng import stream
from regulens.types.attention import AttentionSummary, ModelCard
from regulens.types.cells import Cells
from regulens.types.edges import EdgeUniverse
from regulens.types.genes import GeneAlignment, GeneVocabulary
from regulens.types.ledger import TestLedger
from regulens.types.networks import ReferenceNetwork
from regulens.types.results import AnalysisOutcome, Verdict
from regulens.verdicts import decide

#: Kinds of worlds and what is true in them.
KINDS = {
    "hubs_only": "attention and reference both follow gene prominence; no pair means anything",
    "planted_pairs": "attention is raised on the very pairs of the reference",
    "too_few_positives": "as planted_pairs, with a dozen reference edges",
    "no_signal": "attention, with prominence of its own, and reference, with hubs of its own, are independent",
    "coexpression_only": "attention is a noisy copy of co-expression, and the reference prefers co-expressed pairs",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """A synthetic study: everything the audit reads, and the truth.

    Parameters
    ----------
    kind
        Key of `KINDS`.
    """

    kind: str
    summary: AttentionSummary
    cells: Cells
    reference: ReferenceNetwork
    universe: EdgeUniverse

    def input(
        self, *, settings: StatisticsSettings | None = None, direction: str = "regulator_attends"
    ) -> AnalysisInput:
        """What the analyses read."""
        request = TestRequest(
            model=self.summary.card.name, reference=self.reference.name, direction=direction,
            settings=settings or StatisticsSettings(bootstrap=500, permutations=200),
        )  # fmt: skip
        return build_input(
            summary=self.summary, cells=self.cells, universe=self.universe, request=request, card=self.summary.card
        )

    def transposed(self) -> World:
        """A broken twin: the two directions of attention exchanged, as a transposed capture would have them."""
        flipped = np.ascontiguousarray(np.asarray(self.summary.sums)[:, :, :, ::-1])
        return replace(self, summary=replace(self.summary, sums=flipped))


def _card(n_layers: int, n_heads: int) -> ModelCard:
    return ModelCard(
        name="world", family="synthetic", spec="synthetic", n_layers=n_layers, n_heads=n_heads, width=8,
        vocabulary_size=0, max_length=0, n_parameters=0, sha256="", namespace="symbol", tokenisation="none",
        normalisation="none", activation="none", demonstration=True,
    )  # fmt: skip


def _z(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / x.std()


def _edges(score: np.ndarray, candidate: np.ndarray, n_edges: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n_edges` pairs without replacement, odds proportional to ``exp(score)`` (Gumbel top-k)."""
    keys = np.where(candidate, score + rng.gumbel(size=score.shape), -np.inf)
    positive = np.zeros(score.size, dtype=bool)
    positive[np.argpartition(-keys.ravel(), n_edges)[:n_edges]] = True
    return positive.reshape(score.shape)


def make_world(
    kind: str, *, seed: int, n_regulators: int = 40, n_genes: int = 200, n_cells: int = 240, n_layers: int = 3,
    n_heads: int = 2, n_edges: int = 400, effect: float = 1.5,
) -> World:  # fmt: skip
    """Build one world.

    Parameters
    ----------
    kind
        Key of `KINDS`.
    seed
        Root seed; a world is a function of its arguments only.
    n_edges
        Reference edges; a dozen in ``too_few_positives``.
    effect
        Rise of log attention on reference pairs where pairs are planted, in standard deviations of its noise.

    Examples
    --------
    >>> w = make_world("hubs_only", seed=0)
    >>> w.universe.counts["evaluable"], w.summary.sums.shape
    (400, (1, 3, 2, 2, 40, 200))
    """
    rng = stream(seed, f"worlds/{kind}")
    genes = tuple(f"G{k:04d}" for k in range(n_genes))
    own = np.sort(rng.choice(n_genes, n_regulators, replace=False))
    prominence = rng.normal(size=n_genes)
    # expression: level follows prominence in part, two thirds of the genes load on shared factors
    level = -0.4 + 0.6 * prominence + 0.9 * rng.normal(size=n_genes)
    loading = rng.normal(size=(4, n_genes)) * rng.choice([0.0, 0.5], (1, n_genes), p=[1 / 3, 2 / 3])
    activity = rng.normal(size=(n_cells, 4))
    counts = rng.poisson(np.exp(level + activity @ loading - 0.5 * (loading**2).sum(axis=0))).astype(np.float32)
    counts[0, counts.sum(axis=0) == 0] = 1.0  # a gene that no cell has is no gene of the input
    total = np.maximum(counts.sum(axis=1, dtype=np.float64), 1.0)
    candidate = np.ones((n_regulators, n_genes), dtype=bool)
    candidate[np.arange(n_regulators), own] = False
    grid = prominence[own][:, None] + prominence[None, :]
    if kind == "hubs_only":
        positive = _edges(0.7 * grid, candidate, n_edges, rng)
        signal = 0.8 * grid
    elif kind in ("planted_pairs", "too_few_positives"):
        n = n_edges if kind == "planted_pairs" else 12
        positive = _edges(0.2 * grid, candidate, n, rng)
        signal = 0.3 * grid + effect * positive
    elif kind == "no_signal":
        hub_r, hub_t = rng.normal(size=(n_regulators, 1)), rng.normal(size=(1, n_genes))
        positive = _edges(0.7 * hub_r + 0.5 * hub_t, candidate, n_edges, rng)
        signal = 0.6 * rng.normal(size=(n_regulators, 1)) + 0.6 * rng.normal(size=(1, n_genes))
    elif kind == "coexpression_only":
        rho = np.abs(np.corrcoef(rankdata(counts / total[:, None], axis=0), rowvar=False))[own]
        positive = _edges(1.5 * _z(rho), candidate, n_edges, rng)
        signal = 1.5 * _z(rho)
    else:
        message = f"Expected a kind of world among {sorted(KINDS)}, got '{kind}'.{nearest(kind, list(KINDS))}"
        raise ParameterError(message)
    # Attention: one common map per direction plus noise of each head; the other direction knows no pairs.
    shape = (n_layers, n_heads, n_regulators, n_genes)
    common = signal + rng.normal(size=signal.shape)
    forward = np.exp(-7 + common + 0.7 * rng.normal(size=shape))
    backward = np.exp(-7 + 0.3 * grid + rng.normal(size=signal.shape) + 0.7 * rng.normal(size=shape))
    met = rng.binomial(n_cells, 0.5, size=candidate.shape) * candidate
    met[rng.random(candidate.shape) < 0.02] = 0  # some pairs never meet
    sums = np.stack([forward, backward], axis=2) * met  # (layer, head, direction, regulator, target)
    regulators = tuple(genes[k] for k in own)
    card = _card(n_layers, n_heads)
    summary = AttentionSummary(
        sums=sums[None],
        counts=met[None].astype(np.int32),
        partitions=pd.DataFrame({"partition": [0], "cell_state": ["all"], "donor": ["all"], "block": [0],
                                 "n_cells": [n_cells]}),
        genes=genes,
        regulators=regulators,
        card=card,
    )  # fmt: skip
    names = np.array(genes, dtype=object)
    table = pd.DataFrame({"input": genes, "status": "kept", "symbol": genes, "ensembl": "", "reason": ""})
    cells = Cells(
        counts=sp.csr_matrix(counts), genes=GeneVocabulary(symbols=genes, ensembl=("",) * n_genes),
        obs=pd.DataFrame(index=[f"c{k}" for k in range(n_cells)]), total_counts=total,
        alignment=GeneAlignment(table=table), source=f"synthetic world {kind}, seed {seed}",
    )  # fmt: skip
    i, j = np.nonzero(positive)
    edges = pd.DataFrame({"source": names[own[i]], "target": names[j], "sign": 0, "evidence": ""})
    reference = ReferenceNetwork(name=kind, edges=edges.sort_values(["source", "target"], ignore_index=True))
    candidates = EdgeUniverse(
        genes=genes, regulators=regulators, candidate=candidate, positive=positive, reference=kind,
        counts={"reference_edges": int(positive.sum()), "evaluable": int(positive.sum())}, name=kind,
    )  # fmt: skip
    return World(kind=kind, summary=summary, cells=cells, reference=reference, universe=candidates)


def judge(
    inp: AnalysisInput, analyses: tuple[str, ...] | None = None, **replaced: Any
) -> tuple[dict[str, AnalysisOutcome], TestLedger, tuple[Verdict, ...]]:
    """Plan, run, record and decide, as an audit does for one model and one reference.

    Parameters
    ----------
    analyses
        Names; all built-in ones by default.
    """
    inp = replace(inp, **replaced) if replaced else inp
    names = ("reference_recovery", "gene_level_baselines", "expression_matched", "coexpression_dominance")
    specs = [ANALYSES[n] for n in (analyses or names)]
    ledger = TestLedger([t for s in specs for t in s.plan(inp.request)])
    outcomes = {s.name: s.run(inp) for s in specs}
    for outcome in outcomes.values():
        for record in outcome.records:
            ledger.record(record)
    ledger.close()
    verdicts = decide(
        outcomes, ledger, model=inp.request.model, reference=inp.request.reference, settings=inp.request.settings
    )
    return outcomes, ledger, verdicts
