"""Which worlds of screens are there, what is true in each, and what does an analysis read of one?

A screen is simulated cell by cell and goes the way of a real one: differential expression, labels, universe. Attention
is that of its control cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import rankdata

from regulens.analyses.base import AnalysisInput, ScreenView, StatisticsSettings, TestRequest
from regulens.analyses.build import build_input
from regulens.analyses.screen_checks import check_screen
from regulens.errors import ParameterError, nearest
from regulens.rng import stream
from regulens.stats.screen_effects import effects_of
from regulens.testing.worlds.causes import screen_coexpression, screen_gene_level, screen_pairs
from regulens.testing.worlds.draft import Cause
from regulens.testing.worlds.maps import summarise
from regulens.testing.worlds.screen_draft import LEVEL, N_REPLICATES, ON_TARGET, ScreenCause, ScreenDraft
from regulens.types.attention import AttentionSummary
from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment, GeneVocabulary
from regulens.types.screens import LabelRule, PerturbationEffects, ResponseLabels, Screen

TRUTH_REPLICATES = (
    "perturbations do little, each was made in one replicate, and replicates shift genes up and down; attention, with "
    "prominence of its own, knows nothing"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenKind:
    """A kind of screen.

    Parameters
    ----------
    truth
        What is true in it.
    make
        `ScreenDraft` → `ScreenCause`.
    replicate_spread
        Standard deviation of what a replicate adds to log levels.
    confounded
        Whether every perturbation was made in one replicate only; controls are in all of them.
    """

    truth: str
    make: Callable[[ScreenDraft], ScreenCause]
    replicate_spread: float = 0.05
    confounded: bool = False


_ALL = {
    "no_signal": ScreenKind(truth=screen_pairs.TRUTH_UNKNOWN, make=screen_pairs.no_signal),
    "planted_network": ScreenKind(truth=screen_pairs.TRUTH, make=screen_pairs.planted_network),
    "expression_only": ScreenKind(truth=screen_gene_level.TRUTH, make=screen_gene_level.expression_only),
    "shared_responders": ScreenKind(truth=screen_gene_level.TRUTH_SHARED, make=screen_gene_level.shared_responders),
    "coexpression_only": ScreenKind(truth=screen_coexpression.TRUTH, make=screen_coexpression.coexpression_only),
    "replicate_confounded": ScreenKind(
        truth=TRUTH_REPLICATES, make=screen_pairs.no_effects, replicate_spread=0.7, confounded=True
    ),
    "no_effects": ScreenKind(truth=screen_pairs.TRUTH_NONE, make=screen_pairs.no_effects),
}

#: Kinds of screens and what is true in them.
SCREEN_KINDS: dict[str, str] = {name: kind.truth for name, kind in _ALL.items()}

#: Second screens: the same changes in new cells, or changes of another draw; then attention knows what it knows of the
#: first screen only, or of the second only.
SECOND = ("", "same", "unknown", "known")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScreenWorld:
    """A synthetic screen: its cells, what they say, attention in its control cells, and the truth.

    Parameters
    ----------
    change
        True log fold changes, shape ``(perturbation, gene)``.
    with_cells
        Whether analyses may see the screen's cells; otherwise they have a table of effects.
    second
        Another screen of the same study.
    labels
        In the place of those that the effects make; for broken twins.
    """

    kind: str
    summary: AttentionSummary
    controls: Cells
    screen: Screen
    effects: PerturbationEffects
    change: np.ndarray
    with_cells: bool = True
    second: ScreenWorld | None = None
    labels: ResponseLabels | None = None

    def input(
        self, *, settings: StatisticsSettings | None = None, direction: str = "regulator_attends",
        rule: LabelRule | None = None,
    ) -> AnalysisInput:  # fmt: skip
        """What the analyses read.

        Raises
        ------
        InputError
            When no perturbation has responders, as in a world without effects.
        """
        labels = self.labels or ResponseLabels.build(self.effects, rule or LabelRule())
        genes = self.summary.genes
        universe = labels.universe(genes=genes, name=self.screen.name, screen=self.screen.name)
        request = TestRequest(
            model=self.summary.card.name, reference=self.screen.name, direction=direction,
            others=() if self.second is None else (self.second.screen.name,),
            settings=settings or StatisticsSettings(bootstrap=500, permutations=200),
        )  # fmt: skip
        cells = self.screen if self.with_cells else None
        checks, modality, problem, flags = check_screen(self.effects, cells, modality=self.screen.modality)
        view = ScreenView(
            name=self.screen.name, labels=labels, cells=cells, checks=checks, modality=modality,
            modality_problem=problem, lost=labels.kept(genes)[1], flags=flags,
        )  # fmt: skip
        made = build_input(
            summary=self.summary, cells=self.controls, universe=universe, request=request, card=self.summary.card
        )
        others = {}
        if self.second is not None:
            second = self.second
            others = {second.screen.name: lambda: second.input(settings=settings, direction=direction, rule=rule)}
        return replace(made, screen=view, others=others, cells=self.controls)

    def transposed(self) -> ScreenWorld:
        """A broken twin: the two directions of attention exchanged, as a transposed capture would have them."""
        flipped = np.ascontiguousarray(np.asarray(self.summary.sums)[:, :, :, ::-1])
        return replace(self, summary=replace(self.summary, sums=flipped))

    def relabelled(self) -> ScreenWorld:
        """A broken twin: every perturbation keeps its number of responders, and which genes they are is random."""
        labels = ResponseLabels.build(self.effects, LabelRule())
        rng = stream(len(self.effects.genes), f"worlds/relabelled/{self.screen.cells.source}")
        key = np.where(labels.tested, rng.random(labels.tested.shape), np.inf)
        rank = key.argsort(axis=1).argsort(axis=1)
        return replace(self, labels=replace(labels, positive=rank < labels.positive.sum(axis=1, keepdims=True)))

    def leaking(self) -> ScreenWorld:
        """A broken twin: attention of a pair is doubled where the gene responds."""
        labels = ResponseLabels.build(self.effects, LabelRule())
        row = {p: i for i, p in enumerate(self.effects.perturbations)}
        column = {g: j for j, g in enumerate(self.effects.genes)}
        leak = np.ones((len(self.summary.regulators), len(self.summary.genes)), dtype=np.float32)
        for k, name in enumerate(self.summary.regulators):
            if name in row:
                own = [labels.positive[row[name], column[g]] if g in column else False for g in self.summary.genes]
                leak[k] += np.array(own, dtype=np.float32)
        return replace(self, summary=replace(self.summary, sums=np.asarray(self.summary.sums) * leak))


def _cells(draft: ScreenDraft, counts: np.ndarray, totals: np.ndarray, obs: pd.DataFrame, genes: np.ndarray) -> Cells:
    names = tuple(draft.base.genes[k] for k in genes)
    table = pd.DataFrame({"input": names, "status": "kept", "symbol": names, "ensembl": "", "reason": ""})
    return Cells(
        counts=sp.csr_matrix(counts[:, genes]), genes=GeneVocabulary(symbols=names, ensembl=("",) * len(names)),
        obs=obs, total_counts=totals, alignment=GeneAlignment(table=table),
        source=f"synthetic world {draft.base.kind}, seed {draft.base.seed}",
    )  # fmt: skip


def _screen(
    draft: ScreenDraft, change: np.ndarray, rows: np.ndarray, *, name: str, n_cells: int, confounded: bool,
    measured: np.ndarray,
) -> Screen:  # fmt: skip
    """Cells of the perturbations at `rows` beside the control cells."""
    n, own = len(rows), draft.base.own[rows]
    shift = change[rows].copy()
    shift[np.arange(n), own] = ON_TARGET
    member = np.repeat(np.arange(n), n_cells)
    replicate = member % N_REPLICATES if confounded else np.arange(len(member)) % N_REPLICATES
    counts, totals = draft.cells(shift[member], replicate, use=f"{name}/perturbed")
    n_controls = len(draft.controls)
    symbols = np.array([draft.base.genes[k] for k in own], dtype=object)
    number = np.concatenate([draft.base.donor, replicate])
    obs = pd.DataFrame(
        {
            "perturbation": np.concatenate([np.full(n_controls, "", dtype=object), symbols[member]]),
            "control": np.arange(n_controls + len(member)) < n_controls,
            "replicate": [f"replicate{k}" for k in number],
        },
        index=[f"c{k}" for k in range(len(number))],
    )
    cells = _cells(
        draft, np.concatenate([draft.controls, counts]), np.concatenate([draft.control_totals, totals]),
        obs[["perturbation"]].copy(), measured,
    )  # fmt: skip
    return Screen(name=name, cells=cells, obs=obs, modality="crispri")


def make_screen_world(
    kind: str, *, seed: int = 0, n_perturbations: int = 40, n_genes: int = 300, cells: bool = True,
    cells_per_perturbation: int = 60, n_controls: int = 400, effect: float = 1.2, unmeasured: float = 0.0,
    ties: int = 0, second: str = "", level: tuple[float, float] = LEVEL,
) -> ScreenWorld:  # fmt: skip
    """Build one world of a screen; a function of its arguments only.

    Parameters
    ----------
    kind
        Key of `SCREEN_KINDS`.
    cells
        Whether analyses may see the screen's cells; otherwise they have a table of effects.
    effect
        Rise of log attention on pairs of the network where attention knows it.
    unmeasured
        Share of genes that attention has and the screen did not measure, in [0, 1).
    ties
        Number of values that attention has, the same in every head, so that many pairs are tied; 0 for no rounding.
    second
        A second screen of 80 % of the perturbations: the ``same`` changes in new cells, or other changes, of which
        attention knows nothing (``unknown``); or attention knows of those, and nothing of the first (``known``).
    level
        Mean and standard deviation of genes' log levels per 10,000 transcripts.

    Examples
    --------
    >>> world = make_screen_world("planted_network", n_perturbations=10, n_genes=60)
    >>> world.effects.effect.shape, world.screen.cells.n_cells
    ((10, 60), 1000)
    """
    if kind not in _ALL:
        message = f"Expected a kind of screen among {sorted(_ALL)}, got '{kind}'.{nearest(kind, list(_ALL))}"
        raise ParameterError(message)
    if second not in SECOND:
        message = f"Expected a second screen among {list(SECOND)}, got '{second}'. Choose one of them."
        raise ParameterError(message)
    spec = _ALL[kind]
    draft = ScreenDraft.draw(
        kind, seed=seed, n_perturbations=n_perturbations, n_genes=n_genes, n_controls=n_controls, effect=effect,
        replicate_spread=spec.replicate_spread, level=level,
    )  # fmt: skip
    base, cause = draft.base, spec.make(draft)
    everything = np.arange(n_genes)
    obs = pd.DataFrame(
        {"cell_state": "control", "donor": [f"replicate{k}" for k in base.donor]},
        index=[f"c{k}" for k in range(n_controls)],
    )
    controls = _cells(draft, draft.controls, draft.control_totals, obs, everything)
    summary = summarise(
        base,
        Cause(counts=draft.controls, positive=np.zeros(draft.shape, dtype=bool), forward=cause.forward, cell_noise=0.0),
        controls,
    )
    if ties:
        summary = _tied(summary, ties)
    lost = draft.rng("unmeasured").random(n_genes) < unmeasured
    measured = np.flatnonzero(~lost)
    how = {"n_cells": cells_per_perturbation, "confounded": spec.confounded, "measured": measured}

    def world(change: np.ndarray, rows: np.ndarray, name: str, other: ScreenWorld | None) -> ScreenWorld:
        screen = _screen(draft, change, rows, name=name, **how)
        return ScreenWorld(
            kind=kind, summary=summary, controls=controls, screen=screen, effects=effects_of(screen),
            change=change[rows], with_cells=cells, second=other,
        )  # fmt: skip

    first, beside = cause.change, None
    if second:
        other = cause.change
        if second != "same":  # attention stays as it is
            other = spec.make(replace(draft, base=replace(base, seed=base.seed + 1_000_000))).change
        first, other = (other, first) if second == "known" else (first, other)
        rows = np.sort(draft.rng("second").choice(n_perturbations, int(np.ceil(0.8 * n_perturbations)), replace=False))
        beside = world(other, rows, "second_screen", None)
    return world(first, np.arange(n_perturbations), "screen", beside)


def _tied(summary: AttentionSummary, values: int) -> AttentionSummary:
    """Pooled attention in `values` bins of equal numbers of pairs, the same in every head, layer and partition."""
    counts = np.asarray(summary.counts)
    number = counts.sum(axis=0)
    mean = np.asarray(summary.sums).mean(axis=(1, 2), dtype=np.float64).sum(axis=0) / np.maximum(number, 1)
    rank = rankdata(mean.reshape(len(mean), -1), axis=1).reshape(mean.shape)
    level = np.ceil(values * rank / rank[0].size) * 2.0**-12  # sums of such numbers are exact
    sums = level * counts[:, None, None, None]
    shape = np.asarray(summary.sums).shape
    return replace(summary, sums=np.array(np.broadcast_to(sums, shape), dtype=np.float32))


def make_screen_input(
    kind: str, *, seed: int = 0, n_perturbations: int = 40, n_genes: int = 300, cells: bool = True,
    settings: StatisticsSettings | None = None, **options: object,
) -> AnalysisInput:  # fmt: skip
    """What an analysis reads of one world of a screen; `options` are those of `make_screen_world`.

    Examples
    --------
    >>> inp = make_screen_input("planted_network", n_perturbations=10, n_genes=60)
    >>> inp.universe.reference, len(inp.universe.regulators) > 5, inp.primary.names
    ('screen', True, ('pooled',))
    """
    world = make_screen_world(kind, seed=seed, n_perturbations=n_perturbations, n_genes=n_genes, cells=cells, **options)
    return world.input(settings=settings)
