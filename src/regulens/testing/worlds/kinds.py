"""Which worlds are there, what is true in each, and how is one made?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from regulens.errors import ParameterError, nearest
from regulens.testing.worlds.causes import (
    batch,
    cell_numbers,
    coexpression,
    composition,
    degree,
    depth,
    detection,
    expression_level,
    hubs,
    incomplete_reference,
    no_signal,
    one_regulator,
    planted,
    recipe_dependent,
    reference_dependent,
    shared_upstream,
    state_specific,
)
from regulens.testing.worlds.draft import Cause, Draft
from regulens.testing.worlds.study import World, assemble_world


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of world.

    Parameters
    ----------
    truth
        What is true in it.
    make
        `Draft` → `Cause`.
    shape
        Sizes that differ from the usual ones.
    """

    truth: str
    make: Callable[[Draft], Cause]
    shape: dict[str, int] = field(default_factory=dict)


_USUAL = {"n_cells": 240, "n_layers": 3, "n_heads": 2}
_MANY_CELLS = {"n_cells": 600, "n_layers": 2, "n_heads": 1}
_DEEP = {"n_layers": 12, "n_heads": 1}

_ALL = {
    "hubs_only": Kind(truth=hubs.TRUTH, make=hubs.hubs_only),
    "planted_pairs": Kind(truth=planted.TRUTH, make=planted.planted_pairs),
    "too_few_positives": Kind(truth=planted.TRUTH_FEW, make=planted.too_few_positives),
    "no_signal": Kind(truth=no_signal.TRUTH, make=no_signal.no_signal),
    "coexpression_only": Kind(truth=coexpression.TRUTH, make=coexpression.coexpression_only),
    "expression_level": Kind(truth=expression_level.TRUTH, make=expression_level.expression_level),
    "detection": Kind(truth=detection.TRUTH, make=detection.detection),
    "degree": Kind(truth=degree.TRUTH, make=degree.degree),
    "batch": Kind(truth=batch.TRUTH, make=batch.batch),
    "composition": Kind(truth=composition.TRUTH, make=composition.composition, shape=_MANY_CELLS),
    "shared_upstream": Kind(truth=shared_upstream.TRUTH, make=shared_upstream.shared_upstream),
    "incomplete_reference": Kind(truth=incomplete_reference.TRUTH, make=incomplete_reference.incomplete_reference),
    "reference_dependent": Kind(truth=reference_dependent.TRUTH, make=reference_dependent.reference_dependent),
    "state_specific": Kind(truth=state_specific.TRUTH, make=state_specific.state_specific, shape=_MANY_CELLS),
    "all_states": Kind(truth=state_specific.TRUTH_ALL, make=state_specific.all_states, shape=_MANY_CELLS),
    "recipe_dependent": Kind(truth=recipe_dependent.TRUTH, make=recipe_dependent.recipe_dependent),
    "one_regulator": Kind(truth=one_regulator.TRUTH, make=one_regulator.one_regulator),
    "layer_late": Kind(truth=depth.TRUTH_LATE, make=depth.layer_late, shape=_DEEP),
    "layer_flat": Kind(truth=depth.TRUTH_FLAT, make=depth.layer_flat, shape=_DEEP),
    "more_cells_help": Kind(truth=cell_numbers.TRUTH_HELP, make=cell_numbers.more_cells_help, shape=_MANY_CELLS),
    "more_cells_hurt": Kind(truth=cell_numbers.TRUTH_HURT, make=cell_numbers.more_cells_hurt, shape=_MANY_CELLS),
    "cells_flat": Kind(truth=cell_numbers.TRUTH_FLAT, make=cell_numbers.cells_flat, shape=_MANY_CELLS),
}

#: Kinds of worlds and what is true in them.
KINDS: dict[str, str] = {name: kind.truth for name, kind in _ALL.items()}


def make_world(
    kind: str, *, seed: int, n_regulators: int = 40, n_genes: int = 200, n_cells: int | None = None,
    n_layers: int | None = None, n_heads: int | None = None, n_edges: int = 400, effect: float = 1.5,
) -> World:  # fmt: skip
    """Build one world.

    Parameters
    ----------
    kind
        Key of `KINDS`.
    seed
        Root seed; a world is a function of its arguments only.
    n_cells, n_layers, n_heads
        By default what the kind needs to show its cause: 240 cells, 3 layers of 2 heads, unless it is about many
        cells or about depth.
    n_edges
        Reference edges; a dozen in ``too_few_positives``.
    effect
        Rise of log attention on reference pairs where pairs are planted, in standard deviations of its noise.

    Examples
    --------
    >>> w = make_world("hubs_only", seed=0)
    >>> w.universe.counts["evaluable"], w.summary.sums.shape
    (400, (8, 3, 2, 2, 40, 200))
    """
    if kind not in _ALL:
        message = f"Expected a kind of world among {sorted(KINDS)}, got '{kind}'.{nearest(kind, list(KINDS))}"
        raise ParameterError(message)
    usual = _USUAL | _ALL[kind].shape
    asked = {"n_cells": n_cells, "n_layers": n_layers, "n_heads": n_heads}
    sizes = {name: usual[name] if value is None else value for name, value in asked.items()}
    draft = Draft.draw(
        kind, seed=seed, n_regulators=n_regulators, n_genes=n_genes, n_edges=n_edges, effect=effect, **sizes
    )
    return assemble_world(draft, _ALL[kind].make(draft))
