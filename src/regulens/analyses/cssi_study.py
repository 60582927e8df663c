"""How are strata judged on cells and regulators that chose nothing? Choice, held-out effects, and empty labels.

Everything reads block scores of a sample of the pairs, but for the held-out effects, which are on all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.analyses.blocks import BlockScores, block_sums
from regulens.analyses.cssi_folds import (
    Fold,
    drawn_pairs,
    gains,
    halves_of_blocks,
    joint,
    make_folds,
    stratified,
    usable,
)
from regulens.analyses.cssi_margins import stratified_margins
from regulens.analyses.inference import Effect
from regulens.analyses.strata_labels import BlockLabels, ward
from regulens.nulls.label_permuted_strata import permuted_strata
from regulens.scorers.marginal_product import LOGARITHMIC
from regulens.scorers.stratified import combine
from regulens.stats.jackknife import AurocSweeps
from regulens.stats.permutation import permutation_p
from regulens.stats.ranking import auroc
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges

NAME = "cssi"

#: Label-shuffled scores whose mean the strata are held against, with the full error of both.
_NULL_SCORES = 12
#: Bytes of block scores that may be held at once.
_HELD = 500_000_000
_K_SCAN = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrataStudy:
    """What all kinds of strata share: pairs, folds, and block scores of the sampled pairs by layer."""

    inp: AnalysisInput
    edges: LabelledEdges
    folds: list[Fold]
    thin: dict[str, BlockScores]
    place: np.ndarray  # position of a pair among the sampled ones, -1 elsewhere
    load: Callable[[str], BlockScores]
    donor: np.ndarray
    cells: np.ndarray
    parameters: dict[str, Any]

    def at(self, score: str, blocks: np.ndarray, pairs: np.ndarray) -> BlockScores:
        """Block scores of some sampled pairs."""
        return self.thin[score].at(blocks=blocks, pairs=self.place[pairs])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What a fold chose, and the labels of its held-out blocks."""

    fold: Fold
    score: str
    variant: str
    gain: float
    labels: np.ndarray
    k: int


def make_study(
    inp: AnalysisInput, edges: LabelledEdges, parameters: dict[str, Any]
) -> tuple[StrataStudy | None, str, str]:
    """Folds and block scores; without them the reason. Third: what the halves keep apart."""
    view = inp.partitions
    assert view is not None
    rng = inp.rng(f"split/{NAME}")
    half, apart = halves_of_blocks(view.table, rng)
    negatives = int(parameters["null_negatives"])
    folds, reason = make_folds(edges, half, negatives=negatives, rng=rng)
    if not folds:
        return None, reason, apart
    i, j = edges.regulator, edges.target
    cells = view.table["n_cells"].to_numpy(dtype=np.float64)
    counts = view.counts()[:, i, j].astype(np.float64)

    scores = inp.attention[inp.request.direction]
    layers = [n for n, l, h in zip(scores.names, scores.layers, scores.heads) if l >= 0 and h < 0]

    @lru_cache(maxsize=max(2, _HELD // max(counts.nbytes, 1)))  # a layer is read from the store once, where it fits
    def full(score: str) -> BlockScores:
        if score == "pooled":
            sums = np.zeros_like(counts)
            for layer in layers:
                sums += full(layer).sums
            sums /= len(layers)
        else:
            sums = block_sums(view, score, direction=inp.request.direction)[:, i, j]
        return BlockScores(sums=sums, counts=counts, cells=cells, min_cells=view.min_cells)

    wanted = np.unique(np.concatenate([p for f in folds for p in (f.train_pairs, f.sample)]))
    place = np.full(len(edges.label), -1, dtype=np.int64)
    place[wanted] = np.arange(len(wanted))
    thin = {n: full(n).at(pairs=wanted) for n in dict.fromkeys([inp.request.primary, *layers])}
    donor = view.table["donor"].to_numpy().astype(str) if "donor" in view.table else np.full(len(cells), "all")
    return (
        StrataStudy(
            inp=inp, edges=edges, folds=folds, thin=thin, place=place, load=full, donor=donor, cells=cells,
            parameters=parameters,
        ),
        "",
        apart,
    )  # fmt: skip


def variants_of(study: StrataStudy) -> tuple[str, ...]:
    """Ways of joining strata that may be chosen."""
    return tuple(study.parameters["variants"])


def choose(study: StrataStudy, made: BlockLabels) -> list[Choice]:
    """Per fold the score and variant of largest gain on the training half; folds with one stratum are left out."""
    k, variants, out = len(made.names), variants_of(study), []
    for fold in study.folds:
        train = usable(made.label[fold.train_blocks], study.cells[fold.train_blocks], k)
        held = usable(made.label[fold.held_blocks], study.cells[fold.held_blocks], k)
        if min(len(np.unique(x[x >= 0])) for x in (train, held)) < 2:
            continue
        label = study.edges.label[fold.train_pairs]
        table = np.stack(
            [
                gains(study.at(s, fold.train_blocks, fold.train_pairs), label, train, k, variants)[:, 0]
                for s in study.thin
            ]
        )
        best = np.unravel_index(int(np.argmax(table)), table.shape)
        out.append(
            Choice(
                fold=fold, score=list(study.thin)[best[0]], variant=variants[best[1]], gain=float(table[best]),
                labels=held, k=k,
            )
        )  # fmt: skip
    return out


def _null_gains(study: StrataStudy, choices: list[Choice], deal: Callable[[Choice], np.ndarray]) -> np.ndarray:
    """Gains on the sampled pairs, weighted over folds by positives, shape ``(draw,)``.

    Parameters
    ----------
    deal
        Labels of the held-out blocks of a fold, shape ``(draw, block)``.
    """
    weights = np.array([study.edges.label[c.fold.sample].sum() for c in choices], dtype=np.float64)
    total = 0.0
    for weight, c in zip(weights / weights.sum(), choices):
        scores = study.at(c.score, c.fold.held_blocks, c.fold.sample)
        label = study.edges.label[c.fold.sample]
        total = total + weight * gains(scores, label, deal(c), c.k, (c.variant,))[0]
    return np.asarray(total)


def _shuffled(study: StrataStudy, c: Choice, draws: int, rng: np.random.Generator) -> Any:
    blocks = c.fold.held_blocks
    return permuted_strata(
        c.labels, donor=study.donor[blocks], size=study.cells[blocks], draws=draws, rng=rng,
        tolerance=float(study.parameters["size_tolerance"]),
    )  # fmt: skip


def _as_labels(draws: Any) -> np.ndarray:
    """Labels of draws as they were before `permuted_strata` numbered them."""
    return np.asarray(draws.strata)[draws.labels]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """What the choices gain on cells and regulators that chose nothing, on all pairs, and the AUROCs behind it.

    Parameters
    ----------
    pooled, shuffled, margins
        AUROC of the strata minus that of the pooled score, minus the mean of label-shuffled scores, and minus that of
        the margins of the same strata (or why there are none).
    auroc_margins
        NaN where there are no margins.
    """

    pooled: Effect
    shuffled: Effect
    margins: Effect | Undefined
    auroc_pooled: float
    auroc_strata: float
    auroc_margins: float


def held_out_effects(study: StrataStudy, choices: list[Choice], kind: str) -> HeldOut:
    """Held-out gain over the pooled score, over label-shuffled scores and over the margins of the same strata."""
    edges = study.edges
    n_reg, n_tgt = int(edges.regulator.max()) + 1, int(edges.target.max()) + 1
    weight = np.array([edges.label[c.fold.held_pairs].sum() for c in choices], dtype=np.float64)
    weight /= weight.sum()
    full = {s: study.load(s) for s in dict.fromkeys(c.score for c in choices)}
    gain, excess, beyond, no_margins = [], [], [], ""
    pooled_auroc = strata_auroc = margins_auroc = 0.0
    kind_of_attention = study.inp.attention[study.inp.request.direction].provenance.get("kind", "")
    for w, c in zip(weight, choices):
        pairs = c.fold.held_pairs
        scores = full[c.score].at(blocks=c.fold.held_blocks, pairs=pairs)
        joined, made = stratified(scores, c.labels, c.k, c.variant)
        present = np.unique(edges.regulator[pairs]), np.unique(edges.target[pairs])
        sweeps = AurocSweeps(edges.label[pairs], edges.regulator[pairs], edges.target[pairs])
        pooled = sweeps.baseline(made.pooled)
        rng = study.inp.rng(f"nulls/{NAME}/scores/{kind}/{c.fold.name}")
        shuffled = usable(_as_labels(_shuffled(study, c, _NULL_SCORES, rng)), scores.cells, c.k)
        null = np.concatenate(
            [
                combine(scores.strata(shuffled[part], c.k, errors=c.variant == "lower"), c.variant)
                for part in scores.chunks(_NULL_SCORES, c.k)
            ]
        )
        own, above_pooled = sweeps.paired(joined, [pooled])
        gain.append((w, above_pooled, *present))
        excess.append((w, sweeps.paired(joined, [sweeps.baseline(null)])[1], *present))
        strata_auroc += w * float(own.estimate[0])
        pooled_auroc += w * pooled.estimate
        margins = stratified_margins(
            scores, made, c.labels, c.k, edges.regulator[pairs], edges.target[pairs],
            additive=kind_of_attention.endswith(LOGARITHMIC) or bool((made.scores < 0).any()),
        )  # fmt: skip
        if isinstance(margins, str):
            no_margins = margins
            continue
        of_margins = sweeps.baseline(combine(margins, c.variant))
        beyond.append((w, sweeps.paired(joined, [of_margins])[1], *present))
        margins_auroc += w * of_margins.estimate
    return HeldOut(
        pooled=joint(gain, n_reg, n_tgt), shuffled=joint(excess, n_reg, n_tgt),
        margins=Undefined(reason=no_margins) if no_margins else joint(beyond, n_reg, n_tgt),
        auroc_pooled=pooled_auroc, auroc_strata=strata_auroc,
        auroc_margins=float("nan") if no_margins else margins_auroc,
    )  # fmt: skip


def control_rows(study: StrataStudy, choices: list[Choice], kind: str) -> list[tuple[Any, ...]]:
    """Rows of `cssi_nulls`: gain of the labels and of labels that mean nothing, on the sampled pairs."""
    inp, draws = study.inp, int(study.parameters["draws"])
    fewer = max(20, draws // 5)
    observed = float(_null_gains(study, choices, lambda c: c.labels[None])[0])
    least = np.inf

    def within_donor(c: Choice) -> np.ndarray:
        nonlocal least
        made = _shuffled(study, c, draws, inp.rng(f"nulls/{NAME}/labels/{kind}/{c.fold.name}"))
        least = min(least, made.n_arrangements)
        return _as_labels(made)

    def sizes_only(c: Choice) -> np.ndarray:
        rng = inp.rng(f"nulls/{NAME}/sizes/{kind}/{c.fold.name}")
        return rng.permuted(np.tile(c.labels, (fewer, 1)), axis=1)

    def random(c: Choice) -> np.ndarray:
        rng = inp.rng(f"nulls/{NAME}/random/{kind}/{c.fold.name}")
        return rng.integers(len(np.unique(c.labels[c.labels >= 0])), size=(fewer, len(c.labels)))

    rows = []
    for name, deal in (
        ("labels dealt anew within donors", within_donor),
        ("random strata of the same sizes", sizes_only),
        ("random strata", random),
    ):
        null = _null_gains(study, choices, deal)
        arrangements = least if deal is within_donor else np.nan
        rows.append((kind, name, observed, float(null.mean()), float(np.quantile(null, 0.95)),
                     float(permutation_p(observed, null[None])[0]), len(null), arrangements))  # fmt: skip
    return rows


def grid_rows(study: StrataStudy, made: BlockLabels, kind: str, rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Every layer and variant in all blocks, on all positives and sampled negatives: descriptive, nothing held out."""
    sampled = np.flatnonzero(study.place >= 0)
    keep = sampled[drawn_pairs(study.edges.label[sampled], int(study.parameters["null_negatives"]), rng)]
    label, k, blocks = study.edges.label[keep], len(made.names), np.arange(len(study.cells))
    rows = []
    for score in study.thin:
        scores = study.at(score, blocks, keep)
        pooled = float(auroc(scores.pooled, label)[0])
        for variant, gain in zip(variants_of(study), gains(scores, label, made.label, k, variants_of(study))[:, 0]):
            rows.append((kind, score, variant, pooled, pooled + float(gain), float(gain)))
    return rows


def k_scan_rows(study: StrataStudy, choices: list[Choice], space: np.ndarray) -> list[tuple[Any, ...]]:
    """Gain by the number of strata: blocks clustered by their mean place in expression space (Ward)."""
    inp, view = study.inp, study.inp.partitions
    assert view is not None
    centre = np.stack([space[view.cell_partition == p].mean(axis=0) for p in range(len(study.cells))])
    rows = []
    most = min(len(c.labels) for c in choices)
    for k in (k for k in _K_SCAN if k < most):
        label = ward(centre, k)
        own = [
            Choice(fold=c.fold, score=c.score, variant=c.variant, gain=c.gain, labels=label[c.fold.held_blocks], k=k)
            for c in choices
        ]
        observed = float(_null_gains(study, own, lambda c: c.labels[None])[0])
        null = _null_gains(
            study, own, lambda c: _as_labels(_shuffled(study, c, 25, inp.rng(f"nulls/{NAME}/k{c.k}/{c.fold.name}")))
        )
        used = float(np.mean([len(np.unique(usable(c.labels, study.cells[c.fold.held_blocks], k))) for c in own]))
        rows.append((k, observed, float(null.mean()), float(np.quantile(null, 0.95)), used))
    return rows
