"""The computation order, and how composition treats places that nobody changes."""

from __future__ import annotations

import subprocess
import sys

from regulens.interventions import EMBEDDING, Place, Stage, head, mlp
from regulens.interventions.intervention import chain
from regulens.interventions.places import TOKENS
from regulens.models.base import NO_EDITS, Edits


def test_places_are_ordered_as_they_are_computed():
    line = [TOKENS, EMBEDDING.place]
    for layer in range(12):
        line += [Place(layer, Stage.ATTENTION), head(layer, 0).place, mlp(layer).place, Place(layer, Stage.STATE)]
    line.append(Place(12, Stage.TOKENS))
    assert line == sorted(line) and len(set(line)) == len(line)
    assert [str(p) for p in (line[0], line[1], line[3], line[-1])] == [
        "the input tokens", "the embedding", "the heads of layer 0", "the model's output",
    ]  # fmt: skip


def test_layers_sort_by_number():
    assert sorted([mlp(10), mlp(2)]) == [mlp(2), mlp(10)]
    assert [str(c) for c in (EMBEDDING, head(10, 2), mlp(2))] == ["embedding", "L10_H02", "L02_mlp"]


def test_chaining_leaves_places_alone_that_nobody_changes():
    assert chain([NO_EDITS, NO_EDITS]) is NO_EDITS
    one = Edits(mlp_output=lambda layer, x: (layer, x, "one"))
    two = Edits(mlp_output=lambda layer, x: (layer, x, "two"))
    assert chain([one]) is one
    both = chain([one, NO_EDITS, two])
    assert both.embedding is None and both.head_output is None
    assert both.mlp_output(3, "x") == (3, (3, "x", "one"), "two")


def test_importing_the_package_loads_no_torch():
    code = "import regulens.interventions, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
