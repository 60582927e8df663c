"""The properties hold for both families, and each of several broken twins is named by the right one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from regulens.interventions import verify_interventions  # noqa: E402
from regulens.models.base import NO_EDITS, Edits  # noqa: E402


def failed(adapter, batch) -> set[str]:
    table = verify_interventions(adapter, batch)
    return {name.split("/")[0] for name in table.loc[~table["passed"], "name"]}


def test_both_families_pass(adapter, batch):
    table = verify_interventions(adapter, batch)
    assert table["passed"].all(), table[~table["passed"]]
    assert table["name"].is_unique and len(table) == 5 + 12 * 7
    assert {f"before/L{i:02d}_{part}" for i in range(12) for part in ("heads", "mlp")} <= set(table["name"])


@pytest.fixture
def scgpt(folders, cells):
    """Faults lie in how edits are called, which is one piece of code: one family is enough for the twins."""
    from regulens import models

    adapter = models.load(str(folders["scgpt"]))
    return adapter, adapter.tokenize(cells, np.array([0, 3]), seed=0)


def twin(adapter, change):
    """An adapter of the same class whose forward pass treats edits wrongly."""
    right = adapter.forward

    def forward(batch, *, tap=None, kernel="fused", edits=NO_EDITS):
        return right(batch, tap=tap, kernel=kernel, edits=edits if edits is NO_EDITS else change(edits))

    adapter.forward = forward
    return adapter


def one_later(edits):
    def head_output(layer, out):
        return edits.head_output(replace(layer, layer=layer.layer + 1), out)

    return replace(edits, head_output=edits.head_output and head_output)


def mlp_one_earlier(edits):
    return replace(edits, mlp_output=edits.mlp_output and (lambda layer, x: edits.mlp_output(layer - 1, x)))


def layers_as_words(edits):
    """Layers in the order of their names, 0 1 10 11 2 …: right for up to ten layers."""
    order = sorted(range(12), key=str)
    return replace(edits, mlp_output=edits.mlp_output and (lambda layer, x: edits.mlp_output(order[layer], x)))


def heads_as_one(edits):
    def head_output(layer, out):
        return edits.head_output(layer, out).mean(1, keepdim=True).expand(out.shape)

    return replace(edits, head_output=edits.head_output and head_output)


def leaking(edits):
    def mlp_output(layer, x):
        changed = edits.mlp_output(layer, x)
        return changed + (changed - x).sum(1, keepdim=True)

    return replace(edits, mlp_output=edits.mlp_output and mlp_output)


def rounded(edits):
    return replace(edits, embedding=lambda x: (edits.embedding(x) if edits.embedding else x).bfloat16().float())


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (lambda _: NO_EDITS, {"layers_shown_in_order", "behind", "heads_distinct", "embedding_restores"}),
        (lambda e: replace(e, mlp_output=None), {"layers_shown_in_order", "behind"}),
        (lambda e: replace(e, embedding=None), {"layers_shown_in_order", "embedding_restores"}),
        (one_later, {"layers_shown_in_order", "before", "behind"}),
        (mlp_one_earlier, {"layers_shown_in_order", "behind"}),
        (layers_as_words, {"layers_shown_in_order", "before", "behind"}),
        (heads_as_one, {"before"}),
        (leaking, {"only_there"}),
        (rounded, {"before", "embedding_restores"}),
    ],
    ids=["ignores", "ignores_mlp", "ignores_embedding", "one_later", "mlp_earlier", "as_words", "one_head", "leaking",
         "rounded"],
)  # fmt: skip
def test_broken_twins_are_caught_by_the_property_that_names_their_fault(scgpt, change, caught):
    adapter, batch = scgpt
    assert caught <= failed(twin(adapter, change), batch)


def test_the_twin_that_changes_nothing_passes(scgpt):
    adapter, batch = scgpt
    assert failed(twin(adapter, lambda edits: edits), batch) == set()


def test_edits_is_what_the_twins_are_made_of():
    assert {"embedding", "head_output", "mlp_output"} == set(Edits.__slots__)
