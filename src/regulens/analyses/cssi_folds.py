"""Do strata help on cells and regulators that chose nothing? Variant and layer from one half, the gain from the other.

Blocks of cells are halved (by donor where there are two) and regulators are halved. A variant and a layer are chosen
in one half of the blocks on one half of the regulators, and evaluated in the other half of the blocks on the other
regulators; the four combinations take turns. The same chosen variant is evaluated with labels that mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.analyses.blocks import BlockScores
from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.nested import MIN_BLOCK_POSITIVES, balanced_halves
from regulens.scorers.stratified import Strata, combine
from regulens.stats.inference import default_se
from regulens.stats.jackknife import Deviations
from regulens.stats.ranking import auroc
from regulens.types.labelled import LabelledEdges

#: A stratum of fewer cells takes no part.
MIN_STRATUM = 5


def halves_of_blocks(table: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Half of each block, 0 or 1, and what was kept apart: ``donor`` where there are two, else ``block``.

    Blocks of one donor stay together; without donors the blocks of every state are dealt to both halves.
    """
    cells = table["n_cells"].to_numpy(dtype=np.float64)
    donors = table["donor"].to_numpy() if "donor" in table else np.zeros(len(table))
    names, code = np.unique(donors.astype(str), return_inverse=True)
    if len(names) >= 2:
        return balanced_halves(np.bincount(code, weights=cells), rng)[code], "donor"
    state = table["cell_state"].to_numpy().astype(str) if "cell_state" in table else np.zeros(len(table)).astype(str)
    half = np.zeros(len(table), dtype=np.int64)
    load = np.zeros(2)
    for name in sorted(set(state)):
        mine = rng.permutation(np.flatnonzero(state == name))
        first = int(load[1] < load[0]) if load[0] != load[1] else int(rng.integers(2))
        for n, block in enumerate(mine):
            side = (first + n) % 2
            half[block] = side
            load[side] += cells[block]
    return half, "block"


def usable(labels: np.ndarray, cells: np.ndarray, k: int) -> np.ndarray:
    """Labels without strata of fewer than `MIN_STRATUM` cells (−1), same shape; draws on leading axes.

    >>> usable(np.array([0, 1, 1]), np.array([4, 10, 10]), 2).tolist()
    [-1, 1, 1]
    """
    member = np.asarray(labels)[..., None, :] == np.arange(k)[:, None]
    small = (member @ cells.astype(np.float64)) < MIN_STRATUM
    return np.where((member & small[..., None]).any(axis=-2), -1, labels)


def gains(scores: BlockScores, label: np.ndarray, labels: np.ndarray, k: int, variants: tuple[str, ...]) -> np.ndarray:
    """AUROC of strata minus AUROC of the pooled score, shape ``(variant, draw)``, on the pairs of `scores`.

    Parameters
    ----------
    label
        Bool, shape ``(pair,)``.
    labels
        Stratum of each block, shape ``(draw, block)``.
    """
    labels = usable(np.atleast_2d(labels), scores.cells, k)
    base = auroc(scores.pooled, label)[0]
    errors = "lower" in variants
    out = np.empty((len(variants), len(labels)))
    for part in scores.chunks(len(labels), k):
        made = scores.strata(labels[part], k, errors=errors)
        for v, variant in enumerate(variants):
            out[v, part] = auroc(combine(made, variant), label) - base
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """One of the four turns.

    Parameters
    ----------
    train_blocks, held_blocks
        Blocks that choose, and blocks that evaluate.
    train_pairs, held_pairs
        Pairs of the regulators that choose, and of those that evaluate; int64 positions among all pairs.
    sample
        Positions of `held_pairs` on which nulls are computed: all positives and as many negatives as asked for.
    """

    name: str
    train_blocks: np.ndarray
    held_blocks: np.ndarray
    train_pairs: np.ndarray
    held_pairs: np.ndarray
    sample: np.ndarray


def drawn_pairs(label: np.ndarray, negatives: int, rng: np.random.Generator) -> np.ndarray:
    """All positives and at most `negatives` negatives, ascending positions."""
    others = np.flatnonzero(~label)
    if len(others) > negatives:
        others = rng.choice(others, size=negatives, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(label), others]))


def make_folds(
    edges: LabelledEdges, half: np.ndarray, *, negatives: int, rng: np.random.Generator
) -> tuple[list[Fold], str]:
    """The four turns, and why there are none."""
    n_reg = int(edges.regulator.max()) + 1
    of_regulator = balanced_halves(np.bincount(edges.regulator[edges.label], minlength=n_reg), rng)
    side = of_regulator[edges.regulator]
    pairs = [np.flatnonzero(side == s) for s in (0, 1)]
    positives = [int(edges.label[p].sum()) for p in pairs]
    if min(positives) < MIN_BLOCK_POSITIVES or any(n == len(p) for n, p in zip(positives, pairs)):
        return [], f"a half of the regulators has {min(positives)} positives; at least {MIN_BLOCK_POSITIVES} needed"
    blocks = [np.flatnonzero(half == s) for s in (0, 1)]
    if min(len(b) for b in blocks) < 2:
        return [], f"a half of the cells has {min(len(b) for b in blocks)} blocks; at least 2 are needed"
    folds = []
    for b in (0, 1):
        for p in (0, 1):
            held = pairs[1 - p]
            folds.append(
                Fold(
                    name=f"{b}{p}",
                    train_blocks=blocks[b],
                    held_blocks=blocks[1 - b],
                    train_pairs=pairs[p][drawn_pairs(edges.label[pairs[p]], negatives, rng)],
                    held_pairs=held,
                    sample=held[drawn_pairs(edges.label[held], negatives, rng)],
                )
            )
    return folds, ""


def joint(found: list[tuple[float, Deviations, np.ndarray, np.ndarray]], n_reg: int, n_tgt: int) -> Effect:
    """Weighted mean of paired differences that were computed on parts of the pairs, with its delete-one jackknife.

    Parameters
    ----------
    found
        Per part: weight, deviations of one score, and the regulators and targets present in the part.
    """
    moved_regulator, moved_target = np.zeros(n_reg), np.zeros(n_tgt)
    value = edge_variance = 0.0
    seen_regulator, seen_target = np.zeros(n_reg, dtype=bool), np.zeros(n_tgt, dtype=bool)
    for weight, d, regulators, targets in found:
        moved_regulator[regulators] += weight * d.regulator[0]
        moved_target[targets] += weight * d.target[0]
        seen_regulator[regulators] = seen_target[targets] = True
        value += weight * float(d.estimate[0])
        edge_variance += weight**2 * float(d.edge_variance[0])
    return effects_of(
        default_se(
            Deviations(
                estimate=np.array([value]), regulator=moved_regulator[seen_regulator][None],
                target=moved_target[seen_target][None], edge_variance=np.array([edge_variance]),
            )
        )
    )[0]  # fmt: skip


def stratified(scores: BlockScores, label: np.ndarray, k: int, variant: str) -> tuple[np.ndarray, Strata]:
    """Joined score of one labelling, shape ``(pair,)``, and what it was made of."""
    made = scores.strata(usable(label, scores.cells, k), k, errors=variant.endswith("lower"))
    return combine(made, variant), made
