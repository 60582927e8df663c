"""Are the streamed sums what the model's own softmax says?

A few cells are run twice. Once as extraction runs them: fused kernel, in one padded batch with another cell, blocks
added at their place on the axes. Once alone, with the explicit softmax, whose full maps are then read with
`edges_from_map`, the definition of orientation. Both walk through the whole model, so that a difference in any layer
shows in the layers above it as well. Where a map would not fit (19,266 tokens), the explicit softmax goes by blocks of
queries and one cell is compared, with the rows of its regulators and targets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from regulens.attention.accumulate import PairAxes, add_layer, clear_own, places
from regulens.attention.layout import expected_lengths
from regulens.attention.recipes import Recipe, explicit, projection, recipe_for
from regulens.errors import ParameterError
from regulens.models.base import AbstractAdapter, LayerAttention
from regulens.models.kernel import query_rows, softmax_rows
from regulens.parallel import single_thread
from regulens.types.attention import Direction, edges_from_map

if TYPE_CHECKING:
    from regulens.types.cells import Cells

#: Numbers in all heads' maps of a layer, 1 GB, above which they are not formed.
MAP_LIMIT = 250_000_000
#: Rows of such a map that are formed at a time.
_ROWS = 64


def verify_blocks(
    adapter: AbstractAdapter,
    cells: Cells,
    *,
    genes: tuple[str, ...],
    regulators: tuple[str, ...],
    n_cells: int = 4,
    seed: int = 0,
    recipe: str = "probability",
) -> pd.DataFrame:
    """Largest difference per layer and direction, over cells spread evenly from the fewest to the most genes.

    Parameters
    ----------
    recipe
        What was summed; see `recipes`.

    Returns
    -------
    One row per layer and direction: ``layer``, ``direction``, ``max_abs_difference`` (of what the recipe sums; in
    [0, 1] for ``probability``), ``max_attention`` (largest value compared, for scale), ``row_sum_deviation`` (largest
    ``|Σ_k A[q, k] − 1|`` of the regulators' rows, streamed), ``padding`` (largest attention paid to a padded key; 0
    when masking is exact), ``n_values`` and ``n_cells``.

    Raises
    ------
    ParameterError
        When `n_cells` is below 1 or no cell has a regulator and a target among its tokens.
    """
    if n_cells < 1:
        message = f"Expected n_cells >= 1, got {n_cells}."
        raise ParameterError(message)
    chosen_recipe = recipe_for(recipe, adapter)
    axes = PairAxes.build(cells.genes, genes, regulators)
    lengths = expected_lengths(cells, adapter.gene_tokens(cells.genes) >= 0, adapter.card.max_length)
    ranked = np.argsort(lengths, kind="stable")
    ranked = ranked[lengths[ranked] > 0]
    if not len(ranked):
        message = f"Expected cells with genes that the model knows, got none among {cells.n_cells}."
        raise ParameterError(message)
    chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, n_cells).round().astype(int))]
    card = adapter.card
    if adapter.every_gene and card.n_heads * card.max_length**2 > MAP_LIMIT:
        chosen = chosen[-1:]
    worst = np.zeros((card.n_layers, 2, 4))
    n_values = np.zeros((card.n_layers, 2), dtype=np.int64)
    used = np.unique(np.append(chosen, ranked[-1]))
    few = cells.load(used)
    company = int(np.searchsorted(used, ranked[-1]))
    for row in np.searchsorted(used, chosen):
        # On one thread, as extraction runs, so that the same inputs print the same differences.
        with single_thread():
            _compare(adapter, few, int(row), company, axes, seed, chosen_recipe, worst, n_values)
    if not n_values.any():
        message = "Expected cells with a regulator and a target among their tokens, got none. Check the regulators."
        raise ParameterError(message)
    names = ("max_abs_difference", "max_attention", "row_sum_deviation", "padding")
    return pd.DataFrame(
        [
            {
                "layer": layer,
                "direction": str(direction),
                **dict(zip(names, worst[layer, direction.axis].tolist())),
                "n_values": int(n_values[layer, direction.axis]),
                "n_cells": len(chosen),
            }
            for layer in range(card.n_layers)
            for direction in Direction
        ]
    )


def _compare(
    adapter: AbstractAdapter,
    cells: Cells,
    row: int,
    company: int,
    axes: PairAxes,
    seed: int,
    recipe: Recipe,
    worst: np.ndarray,
    n_values: np.ndarray,
) -> None:
    """Run one cell both ways and raise `worst` (layer, direction, quantity) where it differs more."""
    card = adapter.card
    shape = (card.n_layers, card.n_heads, 2, len(axes.own), int(axes.target.max()) + 1)
    streamed = np.zeros(shape, dtype=np.float64)
    rows = [row] if row == company else [row, company]
    together = adapter.tokenize(cells, np.array(rows, dtype=np.int64), seed=seed)
    found = places(together, axes)[:1]
    mask = torch.from_numpy(together.mask[0])

    def stream(layer: LayerAttention) -> None:
        by_head = projection(adapter, layer.layer) if recipe.weighted else None
        add_layer(streamed, layer, found, recipe=recipe, by_head=by_head)
        full = query_rows(layer, torch.from_numpy(found[0].regulator_position).to(layer.q.device))[0].cpu()
        if full.numel():
            deviation = float((full.sum(-1) - 1.0).abs().max())
            paid = float(full[..., ~mask].max()) if not bool(mask.all()) else 0.0
            worst[layer.layer, :, 2] = np.maximum(worst[layer.layer, :, 2], deviation)
            worst[layer.layer, :, 3] = np.maximum(worst[layer.layer, :, 3], paid)

    adapter.forward(together, tap=stream)
    clear_own(streamed, np.zeros(shape[-2:], dtype=np.int32), axes)

    alone = adapter.tokenize(cells, np.array([row], dtype=np.int64), seed=seed)
    gene, copies = alone.gene[0], None
    if found[0].repeats:
        gene = np.unique(gene[gene >= 0])
        copies = (alone.gene[0][None, :] == gene[:, None]).astype(np.float32)
    regulator, target = (np.flatnonzero(where[gene] >= 0) for where in (axes.regulator, axes.target))
    r, t = axes.regulator[gene[regulator]], axes.target[gene[target]]
    other = gene[regulator][:, None] != gene[target][None, :]

    def edges(layer: LayerAttention, direction: Direction) -> np.ndarray:
        by_head = projection(adapter, layer.layer) if recipe.weighted else None
        if layer.probabilities is None:
            if direction is Direction.REGULATOR_ATTENDS:
                return _rows(layer, recipe, by_head, regulator, target)
            return np.swapaxes(_rows(layer, recipe, by_head, target, regulator), -1, -2)
        maps = explicit(layer, recipe, by_head)[0].cpu().numpy()
        if copies is not None:
            # Several tokens of a gene: mean over its queries; sum over its keys, or their mean on the logit scale.
            means = copies / copies.sum(axis=1, keepdims=True)
            maps = means @ maps @ (means if recipe.logarithmic else copies).T
        return edges_from_map(maps, direction, regulator, target)

    def compare(layer: LayerAttention) -> None:
        for direction in Direction:
            want = np.where(other, edges(layer, direction), 0.0)
            got = streamed[layer.layer, :, direction.axis][:, r[:, None], t[None, :]]
            if want.size:
                seen = worst[layer.layer, direction.axis]
                seen[0] = max(seen[0], float(np.abs(got - want).max()))
                seen[1] = max(seen[1], float(want.max()))
                n_values[layer.layer, direction.axis] += int(other.sum()) * want.shape[0]

    too_large = copies is None and card.n_heads * alone.tokens.shape[1] ** 2 > MAP_LIMIT
    adapter.forward(alone, tap=compare, kernel="chunked" if too_large else "plain")


def _rows(
    layer: LayerAttention, recipe: Recipe, by_head: torch.Tensor | None, queries: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """What `explicit` says of `queries` and `keys` of the first cell, shape ``(head, query, key)``, by full rows."""
    out = np.empty((layer.q.shape[1], len(queries), len(keys)))
    for start in range(0, len(queries), _ROWS):
        part = slice(start, start + _ROWS)
        chosen = torch.from_numpy(queries[part]).to(layer.q.device)
        some = replace(layer, q=layer.q[:, :, chosen], probabilities=softmax_rows(layer, chosen))
        rows = explicit(some, recipe, by_head)[0]
        out[:, part] = rows[..., torch.from_numpy(keys).to(rows.device)].cpu().numpy()
    return out
