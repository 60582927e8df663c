"""Which layer, baseline, direction and threshold does one screen favour, and what are they worth on other pairs?

`choose` reads some screens and some of their perturbations; `applied` scores pairs by choices that are given. They are
the same for all pairs (`frozen_rows`), of the screen's own other folds (`retuned_rows`), or of other screens that saw
neither the perturbation nor the gene (`apart_rows`): screens share genes and often perturbations, so that a choice made
in one has seen the other's answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.analyses.design_scores import BASELINES, RIVAL
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.provenance import digest_of
from regulens.stats.by_row import row_metrics
from regulens.types.labelled import LabelledEdges

#: Scores that `applied` makes.
APPLIED = ("score", "layer", "baseline", "calls", "over_coexpression", "over_coexpression rival", "over_gene_level",
           "over_gene_level rival")  # fmt: skip
#: Scores of attention whose values are held at once.
_CHUNK = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One screen: its pairs, and the AUROC of every score in every perturbation.

    Parameters
    ----------
    per
        Pre-specified attention, co-expression and gene-level statistics.
    names
        Scores of attention.
    auroc
        Of `names`, shape ``(score, perturbation)``.
    """

    inp: AnalysisInput
    per: PerPerturbation
    names: tuple[str, ...]
    auroc: np.ndarray

    @classmethod
    def build(cls, inp: AnalysisInput, *, keep: np.ndarray | None = None) -> Side:
        """All pairs of a screen, or those at `keep`, bool ``(perturbation, gene)`` of its universe."""
        per = PerPerturbation.build(
            inp, inp.primary, inp.coexpression.select([RIVAL]), inp.baselines.select(list(BASELINES)), keep=keep
        )
        scores = inp.attention[inp.request.direction]
        found = [
            row_metrics(scores.values[a : a + _CHUNK, per.edges.regulator, per.edges.target], per.rows).auroc
            for a in range(0, scores.n_scores, _CHUNK)
        ]
        return cls(inp=inp, per=per, names=scores.names, auroc=np.concatenate(found))

    def attention(self, name: str) -> np.ndarray:
        """Values of one score of attention, shape ``(pair,)``."""
        edges = self.per.edges
        scores = self.inp.attention[self.inp.request.direction]
        return scores.values[scores.names.index(name), edges.regulator, edges.target]

    @property
    def layer_means(self) -> np.ndarray:
        """Which of `names` are the mean of a layer, bool ``(score,)``."""
        return np.array([n.startswith("L") and n.endswith("_mean") for n in self.names])


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Choices that one or several screens made.

    Parameters
    ----------
    score
        Head, layer or mean of all of largest mean AUROC.
    layer
        Layer of largest mean AUROC; empty for a model without layers.
    baseline
        Gene-level statistic of largest mean AUROC.
    over_coexpression, over_gene_level
        +1 where that score led its rival, −1 where it was behind.
    threshold
        A response is called where the score is at least this: the cut of largest mean sensitivity + specificity.
    """

    score: str
    layer: str
    baseline: str
    over_coexpression: int
    over_gene_level: int
    threshold: float

    @property
    def digest(self) -> str:
        """Digest of the choices."""
        return digest_of(
            self.score, self.layer, self.baseline, self.over_coexpression, self.over_gene_level,
            float(self.threshold).hex(),
        )  # fmt: skip

    def words(self, effect: str) -> str:
        """What was chosen for an effect."""
        if effect in ("over_coexpression", "over_gene_level"):
            rival = "co-expression" if effect == "over_coexpression" else self.baseline
            return f"{self.score} {'leads' if getattr(self, effect) > 0 else 'is behind'} {rival}"
        known = {"score": self.score, "layer": self.layer, "baseline": self.baseline}
        return known.get(effect, f"{self.score} >= {self.threshold:.4g}")


def choose(sides: Iterable[tuple[Side, np.ndarray]]) -> Frozen:
    """Choices of largest mean over screens of the mean over perturbations; each screen with a mask of those it uses.

    Ties fall to the first name. Scores that only some of the screens have cannot be chosen.
    """
    given = [(side, keep) for side, keep in sides if keep.any()]
    first = given[0][0]
    shared = [n for n in first.names if all(n in side.names for side, _ in given)]

    def mean(of: list[np.ndarray]) -> np.ndarray:
        return np.mean(of, axis=0)

    area = mean([side.auroc[[side.names.index(n) for n in shared]][:, keep].mean(axis=1) for side, keep in given])
    layered = np.flatnonzero([n in set(np.array(first.names)[first.layer_means]) for n in shared])
    score = shared[int(np.argmax(area))]
    level = mean([np.array([side.per.values(b)[keep].mean() for b in BASELINES]) for side, keep in given])
    rival = float(np.mean([side.per.values(RIVAL)[keep].mean() for side, keep in given]))
    return Frozen(
        score=score, layer=shared[int(layered[np.argmax(area[layered])])] if len(layered) else "",
        baseline=BASELINES[int(np.argmax(level))], over_coexpression=1 if area.max() >= rival else -1,
        over_gene_level=1 if area.max() >= level.max() else -1, threshold=_threshold(given, score),
    )  # fmt: skip


def _threshold(given: list[tuple[Side, np.ndarray]], score: str) -> float:
    """Value from which a response is called: the largest mean over perturbations of sensitivity + specificity."""
    values, weights = [], []
    for side, keep in given:
        rows, row = side.per.rows, side.per.rows.row()
        size = np.where(rows.label, rows.n_pos[row], -rows.n_neg[row])
        pair = keep[row]
        values.append(side.attention(score)[pair])
        weights.append(1.0 / size[pair] / (keep.sum() * len(given)))
    value, weight = np.concatenate(values), np.concatenate(weights)
    order = np.argsort(-value, kind="stable")
    value, gained = value[order], np.cumsum(weight[order])
    last = np.append(np.flatnonzero(np.diff(value)), len(value) - 1)  # pairs of one value are called together
    return float(value[last[np.argmax(gained[last])]])


def applied(side: Side, choices: list[Frozen], of_pair: np.ndarray) -> LabelledEdges:
    """Pairs of a screen scored by given choices.

    Parameters
    ----------
    of_pair
        Which of `choices` scores a pair, shape ``(pair,)``.

    Returns
    -------
    Scores ``score``, ``layer``, ``baseline``, ``calls`` (1 where a response is called), and for each contrast the two
    sides of it (``over_coexpression`` and ``over_coexpression rival``), turned round where the choice says that
    attention is behind: their difference is above 0 where the choice holds.
    """
    edges = side.per.edges
    values = np.zeros((len(APPLIED), len(of_pair)))
    for k, choice in enumerate(choices):
        mine = of_pair == k
        if not mine.any():
            continue
        score = side.attention(choice.score)[mine]
        baseline = edges.score(choice.baseline)[mine]
        values[0, mine] = score
        values[1, mine] = side.attention(choice.layer)[mine] if choice.layer else 0.0
        values[2, mine] = baseline
        values[3, mine] = score >= choice.threshold
        values[4, mine] = choice.over_coexpression * score
        values[5, mine] = choice.over_coexpression * edges.score(RIVAL)[mine]
        values[6, mine] = choice.over_gene_level * score
        values[7, mine] = choice.over_gene_level * baseline
    return replace(edges, scores=values, names=APPLIED)


def frozen_rows(side: Side, choices: Frozen) -> PerPerturbation:
    """A screen by choices that others made, unchanged."""
    edges = applied(side, [choices], np.zeros(len(side.per.edges.label), dtype=np.int64))
    return PerPerturbation.of(edges, side.inp.universe.regulators)


def retuned_rows(side: Side, *, folds: int, rng: np.random.Generator) -> PerPerturbation:
    """A screen by its own choices, each perturbation by those of the folds that it is not in."""
    fold = rng.permutation(np.arange(side.per.n) % max(min(folds, side.per.n), 1))
    choices = [choose([(side, fold != k)]) for k in range(int(fold.max()) + 1)]
    return PerPerturbation.of(applied(side, choices, fold[side.per.rows.row()]), side.inp.universe.regulators)


def apart_rows(here: Side, first: list[Side], rng: np.random.Generator) -> PerPerturbation | str:
    """A screen by choices of others that saw neither the perturbation nor the gene; or why that cannot be.

    Perturbations and genes are halved by name, alike in all screens. A pair is scored by what the other screens choose
    on the other half of perturbations and the other half of genes. A perturbation has two rows, one per half of genes,
    which are left out together.
    """
    perturbed = sorted({p for s in (here, *first) for p in s.per.perturbations})
    genes = sorted({g for s in (here, *first) for g in s.inp.universe.genes})
    half = dict(zip(perturbed, (rng.permutation(len(perturbed)) % 2).tolist()))
    side_of = dict(zip(genes, (rng.permutation(len(genes)) % 2).tolist()))

    def of_genes(side: Side) -> np.ndarray:
        return np.array([side_of[g] for g in side.inp.universe.genes])

    def seen(other: int) -> list[Side]:
        """The screens that choose, on one half of the genes."""
        out = []
        for side in first:
            keep = np.zeros(side.inp.universe.candidate.shape, dtype=bool)
            keep[side.per.edges.regulator, side.per.edges.target] = True
            out.append(Side.build(side.inp, keep=keep & (of_genes(side) == other)[None, :]))
        return out

    parts = [seen(1), seen(0)]  # by half of the gene that is judged: the other half
    choices = []
    for a in range(2):
        for b in range(2):
            masks = [np.array([half[p] != a for p in part.per.perturbations], dtype=bool) for part in parts[b]]
            if not any(keep.any() for keep in masks):
                return "no perturbation has responders in half of the genes, so that choices cannot be held apart"
            choices.append(choose(list(zip(parts[b], masks))))
    edges, row = here.per.edges, here.per.rows.row()
    own = np.array([half[p] for p in here.per.perturbations])[row]
    gene = of_genes(here)[edges.target]
    made = applied(here, choices, 2 * own + gene)
    names = here.inp.universe.regulators
    return PerPerturbation.of(
        replace(made, regulator=2 * edges.regulator + gene), tuple(f"{p}, half {h}" for p in names for h in (0, 1)),
        cluster=np.repeat(np.arange(len(names)), 2),
    )  # fmt: skip


def common_pairs(inputs: list[AnalysisInput]) -> list[np.ndarray]:
    """Pairs that every screen tested and every score observed, for each input on its own grid, by gene names."""
    from regulens.analyses.common import shared_pairs

    masks = [shared_pairs(i) for i in inputs]
    out = [m.copy() for m in masks]
    for a, mine in enumerate(inputs):
        for b, other in enumerate(inputs):
            if a == b:
                continue
            row = {p: i for i, p in enumerate(other.universe.regulators)}
            column = {g: j for j, g in enumerate(other.universe.genes)}
            i = np.array([row.get(p, -1) for p in mine.universe.regulators])
            j = np.array([column.get(g, -1) for g in mine.universe.genes])
            seen = masks[b][np.maximum(i, 0)][:, np.maximum(j, 0)]
            out[a] &= seen & (i >= 0)[:, None] & (j >= 0)[None, :]
    return out
