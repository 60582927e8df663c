"""How does attention do against its rivals in every cell of the grid? One mean over perturbations per design."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.analyses.design_labels import Comparisons, on_set
from regulens.analyses.design_scores import BASELINES, RIVAL, SetScores
from regulens.analyses.inference import Effect, effects_of, part_of
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.stats.inference import Inference
from regulens.types.edges import EdgeUniverse
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges

#: Contrasts of the grid: attention against the best gene-level statistic, and against co-expression.
CONTRASTS = ("gene_level", "coexpression")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One design and what it gives; its pairs are not kept, since a grid has many designs.

    Parameters
    ----------
    genes
        Number of target genes.
    undefined
        Why there is no number, or an empty string.
    auroc
        Mean over perturbations, of attention, minus 0.5.
    baseline
        Gene-level statistic of largest mean AUROC in this cell.
    rivals
        Mean AUROC of co-expression and of that statistic.
    leads
        By contrast: attention minus rival.
    found
        By contrast: the inference behind it.
    gaps
        By contrast: attention minus rival in every perturbation.
    perturbations
        Those that are evaluated.
    targets
        Genes that some pair has.
    """

    test: str
    controls: int
    alpha: float
    min_effect: float
    genes: int
    auroc: Effect
    baseline: str
    rivals: dict[str, float]
    leads: dict[str, Effect]
    found: dict[str, Inference]
    gaps: dict[str, np.ndarray]
    perturbations: tuple[str, ...]
    targets: tuple[str, ...]
    n_pos: int
    n_neg: int
    universe_digest: str
    undefined: str

    @property
    def n(self) -> int:
        """Number of perturbations."""
        return len(self.perturbations)

    def lead_in(self, contrast: str, perturbations: frozenset[str]) -> float:
        """Mean lead over some of the cell's perturbations only."""
        keep = np.array([p in perturbations for p in self.perturbations], dtype=bool)
        return float(self.gaps[contrast][keep].mean()) if keep.any() else float("nan")


def evaluated(per: PerPerturbation, targets: tuple[str, ...], **design: object) -> Cell:
    """Attention among its rivals on the pairs of one design; `targets` are the genes that pairs number."""
    name = per.names[0]
    means = [float(per.values(b).mean()) if per.n else float("nan") for b in BASELINES]
    best = BASELINES[int(np.argmax(means))] if per.n else BASELINES[0]
    gaps = per.differences(name, [best, RIVAL])
    rival = float(per.values(RIVAL).mean()) if per.n else float("nan")
    auroc, edges = per.above_chance(name), per.edges
    return Cell(
        auroc=auroc, baseline=best, perturbations=per.perturbations, undefined=per.refusal or auroc.undefined,
        targets=tuple(targets[j] for j in np.unique(edges.target)), n_pos=edges.n_pos, n_neg=edges.n_neg,
        universe_digest=edges.universe_digest,
        gaps={c: per.values(name) - per.values(o) for c, o in zip(CONTRASTS, (best, RIVAL))},
        rivals={"gene_level": max(means), "coexpression": rival},
        leads=dict(zip(CONTRASTS, effects_of(gaps))),
        found={c: part_of(gaps, np.array([k])) for k, c in enumerate(CONTRASTS)},
        **design,  # type: ignore[arg-type]
    )  # fmt: skip


def grid_cells(
    inp: AnalysisInput, scores: SetScores, made: list[Comparisons], *, alphas: list[float], min_effects: list[float]
) -> Iterator[Cell]:
    """Every test × controls × level × threshold on one gene set.

    All designs of a set are on the same pairs: those tested under every comparison and observed by every score.
    """
    assert inp.screen is not None
    rule = inp.screen.labels.rule
    rows, targets = scores.perturbations, scores.targets
    labels = [[on_set(c.effects, inp, perturbations=rows, targets=targets, alpha=a) for a in alphas] for c in made]
    pairs = scores.observed & np.logical_and.reduce([one.tested for by_alpha in labels for one in by_alpha])
    for comparison, by_alpha in zip(made, labels):
        for alpha, one in zip(alphas, by_alpha):
            for min_effect in min_effects:
                positive = one.positive(min_effect) & pairs
                n_pos, n_all = positive.sum(axis=1), pairs.sum(axis=1)
                enough = (n_pos >= rule.min_positives) & (n_all - n_pos >= rule.min_negatives)
                edges = _edges(scores, positive, pairs & enough[:, None], name=inp.request.reference)
                yield evaluated(
                    PerPerturbation.of(edges, rows), targets, test=comparison.test, controls=comparison.controls,
                    alpha=alpha, min_effect=min_effect, genes=len(targets),
                )  # fmt: skip


def _edges(scores: SetScores, positive: np.ndarray, pairs: np.ndarray, *, name: str) -> LabelledEdges:
    i, j = np.nonzero(pairs)
    genes = (*scores.targets, *(p for p in scores.perturbations if p not in set(scores.targets)))
    wide = np.zeros((2, len(scores.perturbations), len(genes)), dtype=bool)
    wide[0, :, : len(scores.targets)], wide[1, :, : len(scores.targets)] = pairs, positive & pairs
    universe = EdgeUniverse(
        genes=genes, regulators=scores.perturbations, candidate=wide[0], positive=wide[1], reference=name, counts={}
    )
    return LabelledEdges(
        scores=scores.values[:, i, j], names=scores.names, label=positive[i, j], regulator=i.astype(np.int64),
        target=j.astype(np.int64), universe_digest=universe.digest, endpoint=Endpoint.PERTURBATION_RESPONSE,
    )  # fmt: skip


def laid_out(cells: list[Cell], contrast: str) -> list[Inference]:
    """The inference of every cell on one axis of perturbations and one of genes, 0 where they take no part."""
    perturbation = {p: i for i, p in enumerate(sorted({p for c in cells for p in c.perturbations}))}
    gene = {g: j for j, g in enumerate(sorted({g for c in cells for g in c.targets}))}
    out = []
    for cell in cells:
        found = cell.found[contrast]
        row, column = np.zeros((1, len(perturbation))), np.zeros((1, len(gene)))
        if not found.undefined[0]:
            row[0, [perturbation[p] for p in cell.perturbations]] = found.regulator[0]
            if found.target.shape[1]:
                column[0, [gene[g] for g in cell.targets]] = found.target[0]
        out.append(replace(found, regulator=row, target=column))
    return out
