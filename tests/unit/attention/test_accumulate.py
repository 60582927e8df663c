"""Blocks added at their places equal the explicit softmax; a merge of parts equals the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regulens.attention import accumulate
from regulens.attention.accumulate import PairAxes, add_counts, add_layer, clear_own, places
from regulens.attention.layout import Unit, expected_lengths, lay_out
from regulens.attention.unit import Gathered, Job, run_unit
from regulens.errors import CaptureError
from regulens.models.base import TokenBatch
from regulens.models.kernel import attend, attend_layer


@pytest.fixture(scope="module")
def job(toy, cells, axes):
    return Job(adapter=toy, cells=cells, axes=PairAxes.build(cells.genes, axes["genes"], axes["regulators"]), seed=0)


def unit(*batches):
    return Unit(partition=0, index=0, batches=tuple(tuple(b) for b in batches))


@pytest.mark.parametrize("copy_below", [0.0, 2.0], ids=["whole rows", "targets copied out"])
def test_padded_batches_equal_the_explicit_softmax(copy_below, monkeypatch, job, naive, axes):
    monkeypatch.setattr(accumulate, "_COPY_BELOW", copy_below)
    sums, counts = naive([3], **axes)
    (found,) = run_unit(job, unit([3]))
    clear_own(found.sums, found.counts, job.axes)
    np.testing.assert_allclose(found.sums, sums, atol=1e-6)
    sums, counts = naive([3, 8, 11, 20], **axes)
    (found,) = run_unit(job, unit([3, 8, 11, 20]))
    clear_own(found.sums, found.counts, job.axes)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.sums, sums, atol=4e-6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 69), min_size=2, max_size=10, unique=True), st.integers(1, 9))
def test_a_merge_of_parts_is_the_whole(job, rows, cut):
    cut = min(cut, len(rows) - 1)
    (whole,) = run_unit(job, unit(rows[:cut], rows[cut:]))
    merged: Gathered = run_unit(job, unit(rows[:cut]))[0].add(run_unit(job, unit(rows[cut:]))[0])
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_array_equal(merged.tokens, whole.tokens)
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-13, atol=0)


def test_special_tokens_and_padding_have_no_place(job):
    batch = job.adapter.tokenize(job.cells, np.array([0, 1, 2]), seed=0)
    for cell, place in enumerate(places(batch, job.axes)):
        for position in (place.regulator_position, place.target_position):
            assert (batch.gene[cell, position] >= 0).all() and batch.mask[cell, position].all()
        assert place.length == batch.mask[cell].sum()


def layer_and_batch(gene, *, causal=False, biased=False, masked=()):
    """One cell of tokens that belong to these genes, two random heads, and the explicit map."""
    gene = np.array([gene])
    random = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(1, 2, gene.shape[1], 8, generator=random) for _ in range(3))
    mask = torch.ones(gene.shape, dtype=torch.bool)
    mask[0, list(masked)] = False
    bias = torch.linspace(-1, 1, gene.shape[1])[None] if biased else None
    options = {"key_mask": mask, "key_bias": bias, "causal": causal}
    kept = []
    attend_layer(0, q, k, v, tap=kept.append, **options)
    maps = attend(q, k, v, kernel="plain", **options)[2][0].numpy()
    batch = TokenBatch(
        tokens=gene, values=None, gene=gene, mask=np.ones(gene.shape, bool), cell=np.zeros(1, dtype=np.int64)
    )
    return kept[0], batch, maps


#: Genes 0 and 1 regulate; every gene is a target.
FIVE = PairAxes(regulator=np.array([0, 1, -1, -1, -1, -1]), target=np.array([0, 1, 2, 3, 4, -1]), own=np.array([0, 1]))


@pytest.mark.parametrize("copy_below", [0.0, 2.0], ids=["whole rows", "targets copied out"])
def test_tokens_of_one_gene_are_summed_as_keys_and_averaged_as_queries(copy_below, monkeypatch):
    monkeypatch.setattr(accumulate, "_COPY_BELOW", copy_below)
    #        position 0  1  2   3  4  5  6
    layer, batch, A = layer_and_batch([0, 2, 2, -1, 0, 3, 2])
    found = places(batch, FIVE)
    sums, counts = np.zeros((1, 2, 2, 2, 5)), np.zeros((2, 5), dtype=np.int32)
    add_layer(sums, layer, found)
    add_counts(counts, found)
    # Gene 0 has tokens 0 and 4; gene 2 has tokens 1, 2 and 6; gene 3 has token 5.
    attends = (A[:, 0, 1] + A[:, 0, 2] + A[:, 0, 6] + A[:, 4, 1] + A[:, 4, 2] + A[:, 4, 6]) / 2
    attended = (A[:, 1, 0] + A[:, 1, 4] + A[:, 2, 0] + A[:, 2, 4] + A[:, 6, 0] + A[:, 6, 4]) / 3
    np.testing.assert_allclose(sums[0, :, 0, 0, 2], attends, atol=1e-6)
    np.testing.assert_allclose(sums[0, :, 1, 0, 2], attended, atol=1e-6)
    np.testing.assert_allclose(sums[0, :, 0, 0, 3], (A[:, 0, 5] + A[:, 4, 5]) / 2, atol=1e-6)
    np.testing.assert_allclose(sums[0, :, 1, 0, 3], A[:, 5, 0] + A[:, 5, 4], atol=1e-6)
    assert np.abs(sums[0, :, 0] - sums[0, :, 1]).max() > 0.05
    np.testing.assert_array_equal(counts, [[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]])
    assert found[0].repeats and not sums[:, :, :, 1].any()


@pytest.mark.parametrize(("causal", "biased", "masked"), [(True, False, ()), (False, True, ()), (True, True, (2, 5))])
@pytest.mark.parametrize("copy_below", [0.0, 2.0], ids=["whole rows", "targets copied out"])
def test_causal_biased_and_masked_blocks_equal_the_explicit_softmax(causal, biased, masked, copy_below, monkeypatch):
    monkeypatch.setattr(accumulate, "_COPY_BELOW", copy_below)
    layer, batch, A = layer_and_batch([2, 0, 3, -1, 4, 1], causal=causal, biased=biased, masked=masked)
    sums = np.zeros((1, 2, 2, 2, 5))
    add_layer(sums, layer, places(batch, FIVE))
    at = {2: 0, 0: 1, 3: 2, 4: 4, 1: 5}
    for regulator in (0, 1):
        for target, position in at.items():
            want = A[:, at[regulator], position], A[:, position, at[regulator]]
            np.testing.assert_allclose(sums[0, :, 0, regulator, target], want[0], atol=1e-6)
            np.testing.assert_allclose(sums[0, :, 1, regulator, target], want[1], atol=1e-6)
            for direction in (0, 1):
                assert (sums[0, :, direction, regulator, target][want[direction] == 0] == 0).all()
    if causal:
        assert (sums[0, :, 0, 0, 4] == 0).all() and (sums[0, :, 1, 0, 4] > 0).all()


def test_a_token_of_an_unknown_gene_is_refused(job):
    for wrong in (-2, 40):
        gene = np.array([[-1, 5, wrong]])
        batch = TokenBatch(tokens=gene, values=None, gene=gene, mask=np.ones((1, 3), bool), cell=np.array([7]))
        with pytest.raises(CaptureError, match="do not belong to these cells"):
            places(batch, job.axes)


def test_float64_sums_lose_nothing_over_many_cells(job):
    """One cell added 3,000 times: float64 keeps 12 digits."""
    batch = job.adapter.tokenize(job.cells, np.array([0]), seed=0)
    found = places(batch, job.axes)
    kept = []
    job.adapter.forward(batch, tap=kept.append)
    one, many = np.zeros(job.shape), np.zeros(job.shape)
    add_layer(one, kept[0], found)
    for _ in range(3000):
        add_layer(many, kept[0], found)
    np.testing.assert_allclose(many[0], 3000 * one[0], rtol=1e-12)
    counts = np.zeros(job.shape[-2:], dtype=np.int32)
    add_counts(counts, found)
    assert counts.max() == 1 and (one[0].sum(axis=(0, 1)) > 0)[counts == 0].sum() == 0


def test_the_layout_covers_every_cell_once_within_the_budget(cells, toy):
    lengths = expected_lengths(cells, toy.gene_tokens(cells.genes) >= 0, 20)
    assert lengths.max() == 20
    options = {"partition_by": ("donor",), "n_blocks": 3, "max_cells": None, "batch_tokens": 70, "seed": 1}
    layout = lay_out(cells, lengths, **options, unit_cells=5)
    rows = [r for u in layout.units for b in u.batches for r in b]
    assert sorted(rows) == list(range(70))
    for u in layout.units:
        assert u.n_cells <= 5
        for b in u.batches:
            assert len(b) == 1 or len(b) * lengths[list(b)].max() <= 70
    assert set(layout.partitions["cell_state"]) == {"all"}
    again = lay_out(cells, lengths, **options, unit_cells=5)
    assert again.units == layout.units
