"""Patching restores what it should, where it should, and refuses runs that do not correspond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from regulens.errors import ParameterError  # noqa: E402
from regulens.interventions import (  # noqa: E402
    EMBEDDING,
    ablate_gene,
    ablate_heads,
    all_components,
    gene_positions,
    head,
    intervene,
    mlp,
    patch,
    record,
    swap_gene_value,
)


@pytest.fixture
def changed(adapter, batch, cells):
    """The same cells with two genes swapped: as many tokens, other states."""
    return intervene(adapter, swap_gene_value("G0", "G1", genes=cells.genes)).edit(batch)


@pytest.mark.parametrize("kernel", ["fused", "plain"])
def test_patching_every_component_restores_the_clean_run_bit_for_bit(adapter, batch, changed, same, kernel):
    clean = adapter.forward(batch, kernel=kernel)
    source = record(adapter, batch, kernel=kernel)
    assert all(same(a, b) > 1e-3 for a, b in zip(clean, adapter.forward(changed, kernel=kernel)))
    for components in (all_components(adapter.card), EMBEDDING):
        restored = intervene(adapter, patch(components, source)).forward(changed, kernel=kernel)
        assert [same(a, b) for a, b in zip(clean, restored, strict=True)] == [0.0] * 13


def test_without_the_embedding_the_residual_is_restored_only_slowly(adapter, batch, changed, same):
    """What is carried past the components is not patched; the norms after every part of these models wear it down."""
    inside = [c for c in all_components(adapter.card) if c != EMBEDDING]
    restored = intervene(adapter, patch(inside, record(adapter, batch))).forward(changed)
    left = [same(a, b) for a, b in zip(adapter.forward(batch), restored, strict=True)]
    assert left[0] > left[1] > left[2] > 1e-6


def test_patching_a_run_with_itself_changes_no_bit(adapter, batch, same):
    source = record(adapter, batch)
    model = intervene(adapter, patch(all_components(adapter.card), source))
    assert [same(a, b) for a, b in zip(adapter.forward(batch), model.forward(batch))] == [0.0] * 13


def test_patching_undoes_an_ablation(adapter, batch, same):
    source = record(adapter, batch, components=[head(6, 1)])
    model = intervene(adapter, ablate_heads([(6, 1)]), patch(head(6, 1), source))
    assert same(adapter.forward(batch)[-1], model.forward(batch)[-1]) == 0


@pytest.mark.parametrize("layer", range(12))
def test_only_the_named_component_is_patched(adapter, batch, changed, layer):
    source = record(adapter, changed)
    after = record(intervene(adapter, patch([head(layer, 1), mlp(layer)], source)), batch)
    before = record(adapter, batch)
    mask = torch.as_tensor(batch.mask)
    assert torch.equal(after[head(layer, 1)][mask], source[head(layer, 1)][mask])
    assert torch.equal(after[mlp(layer)][mask], source[mlp(layer)][mask])
    assert torch.equal(after[head(layer, 0)], before[head(layer, 0)])
    for earlier in range(layer):
        assert torch.equal(after[mlp(earlier)], before[mlp(earlier)])


@pytest.mark.parametrize("component", [EMBEDDING, head(7, 2), mlp(7)], ids=str)
def test_chosen_positions_alone_are_touched_at_that_layer(adapter, batch, changed, component):
    source = record(adapter, changed)
    clean, layer = adapter.forward(batch), component.layer
    state = intervene(adapter, patch(component, source, positions=[1, 4])).forward(batch)
    differs = (state[layer + 1] != clean[layer + 1]).any(-1).numpy()
    want = np.zeros_like(differs)
    want[:, [1, 4]] = (source[component] != record(adapter, batch)[component]).any(-1).numpy()[:, [1, 4]]
    assert want.any() and np.array_equal(differs[batch.mask], (want & batch.mask)[batch.mask])
    if layer >= 0:
        assert torch.equal(state[layer], clean[layer])


def test_positions_of_a_gene_differ_between_cells(adapter, batch, changed, cells):
    where = gene_positions(batch, [5])
    assert np.array_equal(where, batch.gene == 5) and where.any()
    source = record(adapter, changed)
    state = intervene(adapter, patch(mlp(3), source, positions=where)).forward(batch)[4]
    differs = (state != adapter.forward(batch)[4]).any(-1).numpy()
    assert np.array_equal(differs[batch.mask], where[batch.mask])
    assert not gene_positions(batch, [-1]).any()


def test_padding_of_either_run_does_not_matter(adapter, batch, changed, same):
    by = ((0, 0), (0, 5))
    wide = replace(
        batch, tokens=np.pad(batch.tokens, by), gene=np.pad(batch.gene, by, constant_values=-1),
        mask=np.pad(batch.mask, by), values=None if batch.values is None else np.pad(batch.values, by),
    )  # fmt: skip
    narrow_source, wide_source = record(adapter, batch), record(adapter, wide)
    chosen = [head(4, 0), head(4, 1), mlp(9)]
    want = intervene(adapter, patch(chosen, narrow_source)).forward(changed)[-1]
    got = intervene(adapter, patch(chosen, wide_source)).forward(changed)[-1]
    assert same(want, got) <= 1e-4
    everything = intervene(adapter, patch(EMBEDDING, narrow_source)).forward(wide)[-1]
    assert same(adapter.forward(batch)[-1], everything) <= 1e-4


def test_a_run_with_another_number_of_tokens_is_refused(adapter, batch, cells):
    shorter = intervene(adapter, ablate_gene("G0", genes=cells.genes, how="remove"))
    source = record(shorter, shorter.edit(batch))
    with pytest.raises(ParameterError, match=r"as many tokens per cell .* in cell 0 .*goes by position"):
        intervene(adapter, patch(mlp(2), source)).forward(batch)
    fewer = record(adapter, adapter.tokenize(cells, np.arange(3), seed=0))
    with pytest.raises(ParameterError, match=r"as many cells as the batch has \(4\), got one of 3"):
        intervene(adapter, patch(mlp(2), fewer)).forward(batch)


def test_what_was_not_recorded_or_does_not_fit_is_refused(adapter, batch):
    source = record(adapter, batch, components=[mlp(2)])
    with pytest.raises(ParameterError, match=r"got L03_mlp, which is not among the 1 recorded"):
        patch(mlp(3), source)
    with pytest.raises(ParameterError, match=r"Expected a layer in 0 … 11"):
        record(adapter, batch, components=mlp(12))
    with pytest.raises(ParameterError, match=r"positions in 0 … .* got \[999\]"):
        intervene(adapter, patch(mlp(2), source, positions=[999])).forward(batch)
    with pytest.raises(ParameterError, match=r"positions as bool of the batch's shape"):
        intervene(adapter, patch(mlp(2), source, positions=np.ones((2, 2), dtype=bool))).forward(batch)
    stranger = replace(source, model="0" * 64)
    with pytest.raises(ParameterError, match=r"another checkpoint"):
        intervene(adapter, patch(mlp(2), stranger))
