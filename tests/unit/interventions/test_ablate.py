"""Ablations do what their names say, at their layer and behind it, nowhere before."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from regulens.errors import ParameterError  # noqa: E402
from regulens.interventions import (  # noqa: E402
    NULL,
    ablate_heads,
    ablate_mlp,
    component_means,
    head,
    intervene,
    mlp,
    patch,
    record,
)
from regulens.interventions.ablate import uniform_read  # noqa: E402
from regulens.models.base import Edits, LayerAttention  # noqa: E402

LAST = 11


def projection(adapter, layer):
    """Output projection of a layer, bias aside."""
    if adapter.card.family == "scgpt":
        return adapter.module.transformer_encoder.layers[layer].self_attn.out_proj.weight
    return adapter.module.layers[layer].attention.output.dense.weight


@pytest.mark.parametrize("kernel", ["fused", "plain"])
def test_null_interventions_change_no_bit(adapter, batch, kernel):
    clean = adapter.forward(batch, kernel=kernel)
    for nothing in ([], [NULL], [ablate_heads([])], [ablate_mlp([])], [ablate_heads([]), NULL]):
        with intervene(adapter, *nothing) as model:
            for a, b in zip(clean, model.forward(batch, kernel=kernel), strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("layer", [0, 1, 10, 11])
@pytest.mark.parametrize("kernel", ["fused", "plain"])
def test_a_zeroed_head_is_its_zeroed_columns_of_the_output_projection(adapter, batch, same, layer, kernel):
    by_edit = intervene(adapter, ablate_heads([(layer, 2)])).forward(batch, kernel=kernel)
    with torch.no_grad():
        projection(adapter, layer)[:, 12:18] = 0
    by_weights = adapter.forward(batch, kernel=kernel)
    assert max(map(same, by_edit, by_weights)) <= 1e-5


def test_zeroed_columns_of_another_head_differ(adapter, batch, same):
    by_edit = intervene(adapter, ablate_heads([(4, 2)])).forward(batch)
    with torch.no_grad():
        projection(adapter, 4)[:, :6] = 0
    assert same(by_edit[-1], adapter.forward(batch)[-1]) > 1e-3


@pytest.mark.parametrize("layer", range(12))
@pytest.mark.parametrize("make", [lambda i: ablate_heads([(i, 1)]), lambda i: ablate_heads([(i, 1)], how="uniform"),
                                  ablate_mlp])  # fmt: skip
def test_an_ablation_changes_later_layers_only(adapter, batch, same, layer, make):
    plain, edited = [], []
    clean = adapter.forward(batch, tap=plain.append)
    states = intervene(adapter, make(layer)).forward(batch, tap=edited.append)
    assert all(torch.equal(a, b) for a, b in zip(clean[: layer + 1], states[: layer + 1]))
    assert all(same(a, b) > 0 for a, b in zip(clean[layer + 1 :], states[layer + 1 :]))
    changed = [not torch.equal(a.q, b.q) for a, b in zip(plain, edited, strict=True)]
    assert changed == [i > layer for i in range(12)]


def test_an_ablated_head_leaves_the_other_heads_of_its_layer(adapter, batch):
    clean, changed = record(adapter, batch), record(intervene(adapter, ablate_heads([(5, 1)])), batch)
    assert torch.equal(clean[head(5, 0)], changed[head(5, 0)])
    assert torch.equal(clean[head(5, 2)], changed[head(5, 2)])
    assert not changed[head(5, 1)].any()
    assert not torch.equal(clean[mlp(5)], changed[mlp(5)])


def test_uniform_is_the_plain_average_of_values_over_unmasked_keys(adapter, batch):
    seen = []
    adapter.forward(batch, tap=seen.append)
    changed = record(intervene(adapter, ablate_heads([(5, 1)], how="uniform")), batch)[head(5, 1)]
    v = seen[5].v[:, 1].numpy()
    for cell, mask in enumerate(batch.mask):
        want = v[cell, mask].mean(0)
        assert np.abs(changed[cell].numpy()[mask] - want).max() <= 1e-5 * np.abs(v).max()


def test_uniform_in_a_causal_model_averages_over_keys_up_to_the_query():
    v = torch.arange(6.0).view(1, 1, 3, 2)
    mask = torch.tensor([[True, True, False]])
    layer = LayerAttention(layer=0, q=v, k=v, v=v, lse=v[..., 0], scale=1.0, key_mask=mask, causal=True)
    assert uniform_read(layer)[0, 0].tolist() == [[0, 1], [1, 2], [1, 2]]


def test_means_are_those_of_real_tokens_whatever_the_batches(adapter, cells, batch):
    one = component_means(adapter, [batch], cells="four cells")
    two = component_means(
        adapter, (adapter.tokenize(cells, np.array(rows), seed=0) for rows in ([0], [1, 2, 3])), cells="four cells"
    )
    source = record(adapter, batch)
    assert (one.n_cells, one.n_tokens) == (4, batch.mask.sum()) == (two.n_cells, two.n_tokens)
    for layer in (0, 11):
        want = source[head(layer, 2)].double().numpy()[batch.mask].mean(0)
        assert np.abs(one.heads[layer, 2] - want).max() <= 1e-12
        assert np.abs(one.mlp[layer] - source[mlp(layer)].double().numpy()[batch.mask].mean(0)).max() <= 1e-12
    assert np.abs(one.heads - two.heads).max() <= 1e-4
    assert np.abs(one.mlp - two.mlp).max() <= 1e-4 * np.abs(one.mlp).max()


def test_mean_ablation_puts_the_mean_everywhere(adapter, batch):
    means = component_means(adapter, [batch], cells="four cells")
    model = intervene(adapter, ablate_heads([(3, 0), (7, 2)], how="mean", means=means),
                      ablate_mlp(4, how="mean", means=means))  # fmt: skip
    source = record(model, batch)
    assert "(mean of four cells)" in model.name
    assert np.allclose(source[head(7, 2)][0, :3].numpy(), means.heads[7, 2].astype(np.float32))
    assert np.array_equal(source[mlp(4)][1, 2].numpy(), means.mlp[4].astype(np.float32))


def test_ablating_every_mlp_by_zero_leaves_nothing_of_them(adapter, batch):
    model = intervene(adapter, ablate_mlp(range(12)))
    source = record(model, batch, components=[mlp(i) for i in range(12)])
    assert not any(source[mlp(i)].any() for i in range(12))
    assert not torch.equal(model.forward(batch)[-1], adapter.forward(batch)[-1])


def test_several_act_in_the_order_given(adapter, batch):
    zero, uniform = ablate_heads([(5, 1)]), ablate_heads([(5, 1)], how="uniform")
    last = record(intervene(adapter, uniform, zero), batch)[head(5, 1)]
    first = record(intervene(adapter, zero, uniform), batch)[head(5, 1)]
    assert not last.any() and first.any()
    nested = intervene(intervene(adapter, uniform), zero)
    assert nested.interventions == (uniform, zero) and nested.adapter is adapter
    double = Edits(head_output=lambda layer, out: out + 1 if layer.layer == 5 else out)
    by_hand = adapter.forward(
        batch, edits=Edits(head_output=lambda layer, out: 0 * out + 1 if layer.layer == 5 else out)
    )
    everything = intervene(adapter, ablate_heads([(5, h) for h in range(3)]))
    assert torch.equal(everything.forward(batch, edits=double)[-1], by_hand[-1])


def test_the_model_is_untouched_and_a_closed_block_runs_no_more(adapter, batch):
    before, weights = adapter.forward(batch)[-1], {k: v.clone() for k, v in adapter.module.state_dict().items()}
    with intervene(adapter, ablate_heads([(2, 0)])) as model:
        model.forward(batch)
    assert torch.equal(before, adapter.forward(batch)[-1])
    assert all(torch.equal(v, weights[k]) for k, v in adapter.module.state_dict().items())
    with pytest.raises(ParameterError, match=r"Expected an open intervention.*Call intervene again"):
        model.forward(batch)


def test_a_changed_model_has_another_identity(adapter, batch):
    import pickle

    source, other = record(adapter, batch), record(intervene(adapter, ablate_mlp(0)), batch)
    assert source.model == other.model == adapter.card.sha256
    changes = [
        [ablate_heads([(2, 0)])],
        [ablate_heads([(2, 0)], how="uniform")],
        [ablate_heads([(2, 0)]), ablate_mlp(3)],
        [patch(mlp(5), source)],
        [patch(mlp(5), other)],
        [patch(mlp(5), other, positions=[1])],
    ]
    digests = {intervene(adapter, *c).card.sha256 for c in changes} | {adapter.card.sha256}
    assert len(digests) == len(changes) + 1
    assert intervene(adapter, patch(mlp(5), source)).card.sha256 in digests
    assert intervene(adapter).card is adapter.card
    with pytest.raises(ParameterError, match=r"sent to other processes.*zero L00_mlp.*jobs=1"):
        pickle.dumps(intervene(adapter, ablate_mlp(0)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ablate_heads([(12, 0)]), r"Expected a layer in 0 … 11 .* got 12.*count from 0"),
        (lambda: ablate_heads([(-1, 0)]), r"Expected a layer in 0 … 11 .* got -1"),
        (lambda: ablate_heads([(3, 3)]), r"Expected a head in 0 … 2 .* got 3 \(in layer 3\)"),
        (lambda: ablate_mlp(12), r"Expected a layer in 0 … 11 .* got 12"),
        (lambda: ablate_heads([(0, 0)], how="half"), r"Expected how to be one of zero, mean, uniform, got 'half'"),
        (lambda: ablate_mlp(0, how="uniform"), r"Expected how to be one of zero, mean, got 'uniform'"),
        (lambda: ablate_heads([(0, 0)], how="mean"), r"Expected means with how='mean'.* got none.*component_means"),
    ],
)
def test_what_the_model_does_not_have_is_refused(adapter, make, words):
    with pytest.raises(ParameterError, match=words):
        intervene(adapter, make())


def test_means_need_words_tokens_and_the_same_checkpoint(folders, cells):
    from regulens import models

    one, other = (models.load(str(folders[f])) for f in ("scgpt", "geneformer"))
    batch = one.tokenize(cells, np.arange(2), seed=0)
    with pytest.raises(ParameterError, match=r"which cells the means are of, got none"):
        component_means(one, [batch], cells=" ")
    with pytest.raises(ParameterError, match=r"got 0 tokens.*at least one cell"):
        component_means(one, [], cells="none at all")
    means = component_means(one, [batch], cells="two cells")
    with pytest.raises(ParameterError, match=r"got means of two cells with how='zero'"):
        ablate_mlp(0, means=means)
    with pytest.raises(ParameterError, match=r"another checkpoint.*Record them with this model"):
        intervene(other, ablate_mlp(0, how="mean", means=means))
