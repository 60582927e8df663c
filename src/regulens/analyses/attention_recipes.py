"""How many things are called "the attention score"? Every recipe of a grid as a map, with a name for each choice.

A recipe is a value (what is read from a map, and how it is normalised), a choice of layers (one, or the mean of all),
a direction (which gene is the query, or both together) and what a pair that never met counts as. Heads are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from regulens.analyses.base import AnalysisInput
from regulens.types.attention import AttentionSummary, Direction
from regulens.types.edges import EdgeScores, EdgeUniverse

#: Recipes of extraction, then what is made of the probabilities.
EXTRACTED = ("probability", "logit", "log_probability", "value_weighted", "mean_cell")
DIRECTIONS = ("regulator_attends", "target_attends", "mean", "max")
MISSING = ("exclude", "zero")

#: What the store cannot give, whatever the study.
NEVER = {
    "rollout": "products of whole maps over layers need every token's attention; the store keeps regulators' rows and "
    "columns",
    "special tokens renormalised away": "the attention that special tokens draw is not kept, so shares stay shares of "
    "all tokens",
}  # fmt: skip


def _row_mean(a: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return a.sum(axis=1, keepdims=True) / np.maximum(seen.sum(axis=1, keepdims=True), 1)


def _column_mean(a: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return a.sum(axis=0, keepdims=True) / np.maximum(seen.sum(axis=0, keepdims=True), 1)


def _settled(made: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Differences that are rounding of equal numbers are zero, lest a ranking be made of them."""
    return np.where(np.abs(made) < 1e-12 * np.abs(a).max(initial=0.0), 0.0, made)


def row_centred(a: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Each regulator's mean over its observed targets taken off."""
    return _settled(a - _row_mean(a, seen), a)


def double_centred(a: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Row mean and column mean taken off, the grand mean put back: what an additive model of two genes leaves."""
    grand = a.sum() / max(int(seen.sum()), 1)
    return _settled(a - _row_mean(a, seen) - _column_mean(a, seen) + grand, a)


def product_corrected(a: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Average product correction: row mean times column mean over the grand mean, taken off (Dunn et al. 2008)."""
    grand = a.sum() / max(int(seen.sum()), 1)
    return _settled(a - (_row_mean(a, seen) * _column_mean(a, seen) / grand if grand > 0 else 0.0), a)


def ranked(a: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Ranks within each regulator, then ranks of these within each target, as shares ``(rank − ½) / n`` in (0, 1)."""
    for axis in (1, 0):
        rank = rankdata(np.where(seen, a, np.nan), axis=axis, nan_policy="omit") - 0.5
        a = np.where(seen, rank / np.maximum(seen.sum(axis=axis, keepdims=True), 1), 0.0)
    return a


#: Made from the map of probabilities, after the direction is chosen; a is 0 where unseen.
TRANSFORMED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "row_centred": row_centred,
    "double_centred": double_centred,
    "apc": product_corrected,
    "rank": ranked,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One recipe, in words; `recipe` is what is read from a map and how it is normalised."""

    recipe: str
    layers: str
    direction: str
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Maps of all choices of layers under one value, direction and missing policy.

    Parameters
    ----------
    base
        Recipe of extraction that the maps come from.
    choices
        One per map.
    values
        Float64, shape ``(choice, regulator, target)``.
    raw
        The same before centring or ranking; the very same array where there is none.
    observed
        Bool, shape ``(regulator, target)``.
    """

    base: str
    choices: tuple[Choice, ...]
    values: np.ndarray
    raw: np.ndarray
    observed: np.ndarray


def layer_names(scores: EdgeScores) -> dict[str, str]:
    """Name of every head-averaged score → what its choice of layers is called; the last layer is marked.

    >>> layer_names(EdgeScores(values=np.zeros((4, 1, 1)), observed=np.zeros((1, 1)), genes=("A",), regulators=("A",),
    ...     names=("L00_H00", "L00_mean", "L01_mean", "pooled"), layers=(0, 0, 1, -1), heads=(0, -1, -1, -1)))
    {'L00_mean': '0', 'L01_mean': '1 (last)', 'pooled': 'all'}
    """
    last = max(scores.layers)
    return {
        n: "all" if layer < 0 else f"{layer} (last)" if layer == last else str(layer)
        for n, layer, head in zip(scores.names, scores.layers, scores.heads)
        if head < 0
    }


def own_value(inp: AnalysisInput) -> str:
    """Recipe that the study itself extracted."""
    return inp.partitions.summary.kind if inp.partitions is not None else "probability"


def _layer_maps(summary: AttentionSummary, direction: Direction, universe: EdgeUniverse, least: int) -> EdgeScores:
    """Head-averaged maps of every layer and of all, as `attention_scores` names them, without the single heads."""
    position = {g: j for j, g in enumerate(summary.genes)}
    row = {g: i for i, g in enumerate(summary.regulators)}
    grid = np.ix_([row[r] for r in universe.regulators], [position[g] for g in universe.genes])
    counts = summary.pair_counts()[grid]
    seen = (counts >= least) & universe.candidate
    layers = range(summary.n_layers)
    values = np.zeros((summary.n_layers + 1, *counts.shape))
    for layer in layers:
        total = summary.layer_sums(layer, direction).mean(axis=0)[grid]
        np.divide(total, counts, out=values[layer], where=seen)
    values[-1] = values[:-1].mean(axis=0)
    return EdgeScores(
        values=values, observed=seen, names=(*(f"L{l:02d}_mean" for l in layers), "pooled"), genes=universe.genes,
        regulators=universe.regulators, direction=str(direction), layers=(*layers, -1), scorer="attention",
    )  # fmt: skip


def _maps(inp: AnalysisInput, value: str, *, missing: str) -> dict[str, EdgeScores]:
    """Direction → head-averaged maps of one extracted recipe on the universe."""
    if value == own_value(inp) and missing == "exclude":
        return {d: s.select(list(layer_names(s))) for d, s in inp.attention.items()}
    summary = inp.partitions.summary if value == own_value(inp) else inp.recipes[value]
    least = 1 if missing == "zero" else inp.request.settings.min_cells
    return {str(d): _layer_maps(summary, d, inp.universe, least) for d in Direction}


def blocks(inp: AnalysisInput, missing: tuple[str, ...]) -> Iterator[Block]:
    """Every recipe of the grid, a block at a time.

    Missing pairs are left out (``exclude``) or counted as zero attention (``zero``); the latter for probabilities and
    value-weighted probabilities alone, where zero is the value of a pair that gets no attention.
    """
    available = [v for v in EXTRACTED if v == own_value(inp) or v in inp.recipes]
    for policy in missing:
        for value in available:
            if policy == "zero" and value not in ("probability", "value_weighted"):
                continue
            maps = _maps(inp, value, missing=policy)
            first = maps["regulator_attends"]
            seen = first.observed & inp.universe.candidate
            if policy == "zero":
                seen = inp.universe.candidate
            labels = list(layer_names(first).values())
            a, b = (np.where(seen, maps[d].values, 0.0) for d in DIRECTIONS[:2])
            for direction, raw in zip(DIRECTIONS, (a, b, (a + b) / 2, np.maximum(a, b))):
                names = [value]
                if value == "probability" and policy == "exclude":
                    names += list(TRANSFORMED)
                for name in names:
                    values = raw
                    if name in TRANSFORMED:
                        made = np.stack([TRANSFORMED[name](m, seen) for m in raw])
                        values = np.where(seen, made, 0.0)
                    choices = tuple(Choice(recipe=name, layers=l, direction=direction, missing=policy) for l in labels)
                    yield Block(base=value, choices=choices, values=values, raw=raw, observed=seen)


def left_out(inp: AnalysisInput, wanted: tuple[str, ...]) -> dict[str, str]:
    """What the grid does not hold, with the reason."""
    lost = {}
    for value in wanted:
        if value != own_value(inp) and value not in inp.recipes:
            lost[value] = inp.recipe_gaps.get(value, "not extracted for this study")
    if "probability" in lost:
        lost |= dict.fromkeys(TRANSFORMED, "made from probabilities, which were not extracted")
    return lost | NEVER
