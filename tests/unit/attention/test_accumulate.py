"""Blocks added at their places equal the explicit softmax; a merge of parts equals the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regulens.attention import accumulate
from regulens.attention.accumulate import PairAxes, add_counts, add_layer, clear_own, places
from regulens.attention.extract import Gathered, Job, run_unit
from regulens.attention.layout import Unit, expected_lengths, lay_out
from regulens.errors import CaptureError
from regulens.models.base import TokenBatch


@pytest.fixture(scope="module")
def job(toy, cells, axes):
    return Job(adapter=toy, cells=cells, axes=PairAxes.build(cells.genes, axes["genes"], axes["regulators"]), seed=0)


def unit(*batches):
    return Unit(partition=0, index=0, batches=tuple(tuple(b) for b in batches))


@pytest.mark.parametrize("copy_below", [0.0, 2.0], ids=["whole rows", "targets copied out"])
def test_padded_batches_equal_the_explicit_softmax(copy_below, monkeypatch, job, naive, axes):
    monkeypatch.setattr(accumulate, "_COPY_BELOW", copy_below)
    sums, counts = naive([3], **axes)
    found = run_unit(job, unit([3]))
    clear_own(found.sums, found.counts, job.axes)
    np.testing.assert_allclose(found.sums, sums, atol=1e-6)
    sums, counts = naive([3, 8, 11, 20], **axes)
    found = run_unit(job, unit([3, 8, 11, 20]))
    clear_own(found.sums, found.counts, job.axes)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.sums, sums, atol=4e-6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 69), min_size=2, max_size=10, unique=True), st.integers(1, 9))
def test_a_merge_of_parts_is_the_whole(job, rows, cut):
    cut = min(cut, len(rows) - 1)
    whole = run_unit(job, unit(rows[:cut], rows[cut:]))
    merged: Gathered = run_unit(job, unit(rows[:cut])).add(run_unit(job, unit(rows[cut:])))
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_array_equal(merged.tokens, whole.tokens)
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-13, atol=0)


def test_special_tokens_and_padding_have_no_place(job):
    batch = job.adapter.tokenize(job.cells, np.array([0, 1, 2]), seed=0)
    for cell, place in enumerate(places(batch, job.axes)):
        for position in (place.regulator_position, place.target_position):
            assert (batch.gene[cell, position] >= 0).all() and batch.mask[cell, position].all()
        assert place.length == batch.mask[cell].sum()


def test_a_gene_twice_in_a_cell_is_refused(job):
    gene = np.array([[-1, 5, 5]])
    twice = TokenBatch(tokens=gene, values=None, gene=gene, mask=np.ones((1, 3), bool), cell=np.array([7]))
    with pytest.raises(CaptureError, match="row 7"):
        places(twice, job.axes)


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
