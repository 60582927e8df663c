"""verify() passes on what is right and shows what is wrong, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.attention import accumulate, verify
from regulens.attention.extract import extract
from regulens.errors import ParameterError
from regulens.models.base import TokenBatch


@pytest.fixture(scope="module")
def attention(toy, cells, axes):
    return extract(toy, cells.subset(np.arange(20)), **axes)


def test_streamed_blocks_equal_the_plain_softmax(attention):
    table = attention.verify(n_cells=4)
    assert list(table["layer"]) == sorted(list(range(12)) * 2)
    assert list(table["direction"][:2]) == ["regulator_attends", "target_attends"]
    assert table["max_abs_difference"].max() < 2e-6
    assert table["row_sum_deviation"].max() < 5e-6
    assert (table["padding"] == 0).all()
    assert (table["max_attention"] > 0.05).all() and (table["n_values"] > 0).all()
    with pytest.raises(ParameterError):
        attention.verify(n_cells=0)


def _swapped(true):
    def add(sums, layer, found, **options):
        wrong = np.zeros_like(sums)
        true(wrong, layer, found, **options)
        sums += wrong[:, :, ::-1]

    return add


def _other_layer(true):
    def add(sums, layer, found, **options):
        wrong = np.zeros_like(sums)
        true(wrong, layer, found, **options)
        order = sorted(range(12), key=str)
        sums += wrong[order]

    return add


@pytest.mark.parametrize("broken", [_swapped, _other_layer])
def test_a_broken_twin_is_caught(attention, monkeypatch, broken):
    monkeypatch.setattr(verify, "add_layer", broken(accumulate.add_layer))
    assert attention.verify(n_cells=2)["max_abs_difference"].max() > 0.1


def test_a_wrong_log_sum_exp_shows_in_the_row_sums(attention, monkeypatch, toy):
    import dataclasses

    true = type(toy).forward

    def forward(self, batch, *, tap=None, kernel="fused"):
        def shifted(layer):
            tap(dataclasses.replace(layer, lse=layer.lse + 0.01) if layer.layer == 5 else layer)

        return true(self, batch, tap=shifted, kernel=kernel)

    monkeypatch.setattr(type(toy), "forward", forward)
    table = attention.verify(n_cells=2).set_index("layer")["row_sum_deviation"]
    assert table[5].max() > 5e-3 and table[4].max() < 1e-5


def _with_repeats(true):
    """Tokens as an adapter that samples a sentence makes them: the first two genes come back at the end."""

    def tokenize(self, cells, rows, *, seed):
        batch = true(self, cells, rows, seed=seed)
        wide = {}
        for name in ("tokens", "values", "gene", "mask"):
            array = getattr(batch, name)
            wide[name] = np.concatenate([array[:, :3], array[:, 1:]], axis=1)
        return TokenBatch(**wide, cell=batch.cell)

    return tokenize


def test_pooled_tokens_are_verified_and_recorded(toy, cells, axes, monkeypatch, attention):
    assert attention.facts["cells_with_repeats"] == 0 and attention.facts["pooling"].startswith("none")
    monkeypatch.setattr(type(toy), "tokenize", _with_repeats(type(toy).tokenize))
    found = extract(toy, cells.subset(np.arange(20)), **axes)
    assert found.facts["cells_with_repeats"] > 10 and "mean over the tokens" in found.facts["pooling"]
    np.testing.assert_array_equal(found.summary.counts, attention.summary.counts)
    assert found.verify(n_cells=4)["max_abs_difference"].max() < 3e-6
    wrong = accumulate._add_shares

    def unshared(sums, block, row, source, column, row_share, column_share):
        wrong(sums, block, row, source, column, np.ones(len(row)), np.ones(len(column)))

    monkeypatch.setattr(accumulate, "_add_shares", unshared)
    assert found.verify(n_cells=4)["max_abs_difference"].max() > 1e-3
