"""Every recipe equals its formula, in both directions, and is recorded; what has no value is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from regulens.attention import accumulate
from regulens.attention.accumulate import PairAxes, add_layer, places
from regulens.attention.extract import extract
from regulens.attention.recipes import RECIPES, projection, recipe_for, value_norms
from regulens.attention.result import Attention
from regulens.errors import CaptureError, DigestMismatchError, ParameterError
from regulens.models.base import AbstractAdapter, TokenBatch
from regulens.models.kernel import attend_layer
from regulens.testing.toy_model import ToyAdapter

#: Genes 0 and 1 regulate; every gene is a target.
AXES = PairAxes(regulator=np.array([0, 1, -1, -1, -1, -1]), target=np.array([0, 1, 2, 3, 4, -1]), own=np.array([0, 1]))


def captured(gene, *, masked=(), biased=True):
    """One cell with two random heads of width 8, a bias of keys, and an output projection onto 12 numbers."""
    gene = np.array([gene])
    random = torch.Generator().manual_seed(11)
    q, k, v = (torch.randn(1, 2, gene.shape[1], 8, generator=random) for _ in range(3))
    weight = torch.randn(12, 16, generator=random)
    mask = torch.ones(gene.shape, dtype=torch.bool)
    mask[0, list(masked)] = False
    kept = []
    bias = torch.linspace(-1, 1, gene.shape[1])[None] if biased else None
    attend_layer(0, q, k, v, key_mask=mask, key_bias=bias, tap=kept.append)
    batch = TokenBatch(
        tokens=gene, values=None, gene=gene, mask=np.ones(gene.shape, bool), cell=np.zeros(1, dtype=np.int64)
    )
    return kept[0], batch, weight, weight.view(12, 2, 8).transpose(0, 1)


def by_formula(name, layer, weight, head, query, key):
    """One number, by loops over keys in plain Python floats."""
    q, k = layer.q[0, head].double(), layer.k[0, head].double()
    logits = [float(q[query] @ k[j]) * 8**-0.5 + float(layer.key_bias[0, j]) for j in range(len(k))]
    total = np.log(sum(np.exp(x) for x in logits))
    if name == "logit":
        return logits[key]
    if name == "log_probability":
        return logits[key] - total
    share = np.exp(logits[key] - total)
    if name == "probability":
        return share
    moved = np.zeros(12)
    for out in range(12):
        for i in range(8):
            moved[out] += float(weight[out, head * 8 + i]) * float(layer.v[0, head, key, i])
    return share * np.sqrt((moved**2).sum())


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("copy_below", [0.0, 2.0], ids=["whole rows", "targets copied out"])
def test_a_recipe_equals_its_formula_in_both_directions(name, copy_below, monkeypatch):
    monkeypatch.setattr(accumulate, "_COPY_BELOW", copy_below)
    layer, batch, weight, by_head = captured([2, 0, 3, -1, 4, 1])
    at = {2: 0, 0: 1, 3: 2, 4: 4, 1: 5}
    sums = np.zeros((1, 2, 2, 2, 5))
    add_layer(sums, layer, places(batch, AXES), recipe=RECIPES[name], by_head=by_head)
    want = np.zeros_like(sums)
    for head in (0, 1):
        for regulator in (0, 1):
            for target, position in at.items():
                here = at[regulator], position
                want[0, head, 0, regulator, target] = by_formula(name, layer, weight, head, *here)
                want[0, head, 1, regulator, target] = by_formula(name, layer, weight, head, *here[::-1])
    np.testing.assert_allclose(sums, want, rtol=2e-5, atol=2e-6)
    # The broken twins: directions exchanged, heads of the projection exchanged, another recipe.
    assert np.abs(sums[:, :, ::-1] - want).max() > 0.05
    if name == "value_weighted":
        wrong = np.zeros_like(sums)
        add_layer(wrong, layer, places(batch, AXES), recipe=RECIPES[name], by_head=by_head.flip(0))
        assert np.abs(wrong - want).max() > 0.05
    for other in RECIPES:
        if other != name:
            wrong = np.zeros_like(sums)
            add_layer(wrong, layer, places(batch, AXES), recipe=RECIPES[other], by_head=by_head)
            assert np.abs(wrong - want).max() > 0.05


@pytest.mark.parametrize("name", RECIPES)
def test_tokens_of_one_gene_are_pooled_as_the_recipe_says(name):
    layer, batch, weight, by_head = captured([0, 2, 2, -1, 0, 3, 2])
    sums = np.zeros((1, 2, 2, 2, 5))
    add_layer(sums, layer, places(batch, AXES), recipe=RECIPES[name], by_head=by_head)
    pool = np.mean if RECIPES[name].logarithmic else np.sum
    for head in (0, 1):
        got = sums[0, head, :, 0, 2]
        attends = np.mean([pool([by_formula(name, layer, weight, head, q, k) for k in (1, 2, 6)]) for q in (0, 4)])
        attended = np.mean([pool([by_formula(name, layer, weight, head, q, k) for k in (0, 4)]) for q in (1, 2, 6)])
        np.testing.assert_allclose(got, [attends, attended], rtol=2e-5, atol=2e-6)


def test_masked_pairs_are_zero_or_refused():
    layer, batch, _, by_head = captured([2, 0, 3, -1, 4, 1], masked=(2,))
    found = places(batch, AXES)
    for name, recipe in RECIPES.items():
        sums = np.zeros((1, 2, 2, 2, 5))
        if recipe.logarithmic:
            with pytest.raises(CaptureError, match="minus infinity"):
                add_layer(sums, layer, found, recipe=recipe)
        else:
            add_layer(sums, layer, found, recipe=recipe, by_head=by_head)
            assert (sums[0, :, 0, :, 3] == 0).all() and (sums[0, :, 0, :, 4] > 0).all(), name
            assert (sums[0, :, 1, :, 3] > 0).all(), "a masked key still attends"


@pytest.fixture(scope="module")
def few(cells):
    return cells.subset(np.arange(12))


@pytest.mark.parametrize("name", RECIPES)
def test_extraction_records_the_recipe_and_verifies(name, toy, few, axes, tmp_path):
    found = extract(toy, few, **axes, recipe=name, out=tmp_path / "a.zarr")
    assert found.summary.kind == name and Attention.open(tmp_path / "a.zarr").summary.kind == name
    table = found.verify(n_cells=3)
    assert table["max_abs_difference"].max() < 2e-5
    assert table["n_values"].min() > 0
    other = next(r for r in RECIPES if r != name)
    with pytest.raises(DigestMismatchError):
        extract(toy, few, **axes, recipe=other, out=tmp_path / "a.zarr")
    held = extract(toy, few, **axes, recipe=name)
    np.testing.assert_array_equal(held.summary.sums, found.summary.sums[:])
    assert held.summary.kind == name and held.summary.digest == found.summary.digest


def test_the_default_is_the_probability_with_its_old_key(toy, few, axes):
    plain, named = extract(toy, few, **axes), extract(toy, few, **axes, recipe="probability", device="cpu")
    assert plain.summary.digest == named.summary.digest and plain.summary.kind == "probability"
    np.testing.assert_array_equal(plain.summary.sums, named.summary.sums)


def test_the_recipes_hang_together(toy, few, axes):
    """Logit minus log-probability is the log-sum-exp of the query: one number per cell, query, layer and head."""
    one = few.subset(np.array([3]))
    found = {name: extract(toy, one, **axes, partition_by=(), recipe=name).summary for name in RECIPES}
    met = found["probability"].counts[0] > 0
    sums = {name: np.asarray(summary.sums[0], dtype=float)[..., met] for name, summary in found.items()}
    np.testing.assert_allclose(np.exp(sums["log_probability"]), sums["probability"], rtol=1e-4)
    lse = np.asarray(found["logit"].sums[0] - found["log_probability"].sums[0], dtype=float)[:, :, 0]
    for row in range(lse.shape[-2]):
        values = lse[:, :, row][..., met[row]]
        if values.shape[-1] > 1:
            np.testing.assert_allclose(values, values[..., :1].repeat(values.shape[-1], -1), atol=2e-5)
    assert (sums["value_weighted"] > 0).all()


def test_refusals(toy, few, axes, monkeypatch):
    with pytest.raises(ParameterError, match="Did you mean 'probability'"):
        extract(toy, few, **axes, recipe="probabilty")
    causal = ToyAdapter(few.genes.symbols)
    causal.card = dataclasses.replace(causal.card, causal=True)
    for name in ("logit", "log_probability"):
        with pytest.raises(ParameterError, match="which is causal"):
            extract(causal, few, **axes, recipe=name)
    assert recipe_for("value_weighted", causal).weighted
    monkeypatch.setattr(ToyAdapter, "output_projection", AbstractAdapter.output_projection)
    with pytest.raises(ParameterError, match="does not expose one"):
        extract(toy, few, **axes, recipe="value_weighted")
    monkeypatch.setattr(ToyAdapter, "output_projection", lambda self, layer: torch.zeros(4, 33))
    with pytest.raises(ParameterError, match="heads x head width"):
        recipe_for("value_weighted", toy)


def test_the_projection_by_head_writes_what_the_whole_one_writes(toy):
    """Summed over heads, the projected parts are the projection of all heads side by side."""
    by_head = projection(toy, 5)
    read = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))
    parts = sum(read[h] @ by_head[h].T for h in range(2))
    whole = read.transpose(0, 1).reshape(7, 32) @ toy.output_projection(5).T
    np.testing.assert_allclose(parts.numpy(), whole.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        value_norms(read, by_head)[1].numpy(), (read[1] @ by_head[1].T).norm(dim=1).numpy(), rtol=1e-5
    )
