"""Two references on the same pairs: which do they share, and does the lead of attention depend on the reference?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.analyses.contrasts import contrast_inference
from regulens.analyses.incompleteness import wins_between
from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.symmetric import symmetric_universe, symmetrised
from regulens.types.edges import EdgeUniverse
from regulens.types.labelled import LabelledEdges


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shared:
    """Pairs that two references both could list, with the labels of each.

    Parameters
    ----------
    edges
        Scores on those pairs, labelled by the first reference.
    other_label
        Labels of the second, shape ``(pair,)``.
    n_regulators
        Rows in common.
    """

    edges: LabelledEdges
    other_label: np.ndarray
    n_regulators: int


def on_rows(universe: EdgeUniverse, regulators: tuple[str, ...]) -> EdgeUniverse:
    """The universe with these of its regulators only, in that order."""
    row = {r: k for k, r in enumerate(universe.regulators)}
    index = np.array([row[r] for r in regulators], dtype=np.int64)
    return replace(
        universe, regulators=tuple(regulators), candidate=universe.candidate[index], positive=universe.positive[index]
    )


def share(inp: AnalysisInput, other: str, names: dict[str, list[str]], *, symmetric: frozenset[str]) -> Shared | None:
    """The pairs of the regulators that are in both universes; None when there is no such regulator.

    Parameters
    ----------
    names
        ``attention``, ``baselines``, ``coexpression`` → names of scores.
    symmetric
        References without direction; one of the two is enough to make both lose theirs.
    """
    mine, theirs = inp.universe, inp.universes[other]
    both = tuple(r for r in mine.regulators if r in set(theirs.regulators))
    if not both or theirs.genes != mine.genes:
        return None
    place = {r: k for k, r in enumerate(mine.regulators)}
    seen = (inp.primary.observed & inp.coexpression.observed)[[place[r] for r in both]]
    mine, theirs = on_rows(mine, both), on_rows(theirs, both)
    if symmetric & {inp.request.reference, other}:
        mine, theirs, inp = symmetric_universe(mine), symmetric_universe(theirs), symmetrised(inp)
    keep = mine.candidate & theirs.candidate & seen
    sets = [
        inp.attention[inp.request.direction].select(names["attention"]),
        inp.baselines.select([n for n in names["baselines"] if n in inp.baselines.names]),
        inp.coexpression.select(names["coexpression"]),
    ]
    edges = LabelledEdges.build(sets, replace(mine, candidate=keep, positive=mine.positive & keep))
    return Shared(
        edges=edges, other_label=theirs.positive[edges.regulator, edges.target], n_regulators=len(both)
    )  # fmt: skip


def interaction(edges: LabelledEdges, other_label: np.ndarray, names: tuple[str, str]) -> Effect:
    """(score − rival by the first label) − (score − rival by the second), with the two-way jackknife of all four.

    Parameters
    ----------
    names
        Score and rival among the scores of `edges`.
    """
    rows = [edges.names.index(n) for n in names]
    scores = edges.scores[rows + rows]
    labels = np.stack([edges.label, edges.label, other_label, other_label])
    found = contrast_inference(scores, labels, np.array([[1.0, -1.0, -1.0, 1.0]]), edges.regulator, edges.target)
    return effects_of(found)[0]


def swap_rows(
    edges: LabelledEdges, other_label: np.ndarray, names: tuple[str, str], *, draws: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Observed interaction, and draws in which every regulator's two rows of labels are exchanged with probability 1/2.

    Exact when a regulator's rows in the two references are alike in everything but the name of the list. References
    of different size, or with favourite targets of their own, are not: the draws are shown, not tested with.
    """
    rows, where = np.unique(edges.regulator, return_inverse=True)
    n = len(rows)
    group = np.concatenate([where, where + n])
    label = np.concatenate([edges.label, other_label])
    swap = rng.random((draws, n)) < 0.5
    first = np.vstack([np.concatenate([np.ones(n), np.zeros(n)])[None], np.hstack([~swap, swap])])
    second = 1 - first
    gap = np.zeros(len(first))
    for name, side in zip(names, (1.0, -1.0)):
        table = wins_between(np.tile(edges.score(name), 2), label, group, 2 * n)
        gap += side * (table.auroc(first) - table.auroc(second))
    return float(gap[0]), gap[1:]
