"""Half precision: asked for only, measured against float32, weights restored, sums never in half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from regulens.attention import precision as P
from regulens.attention.extract import extract
from regulens.attention.recipes import RECIPES
from regulens.errors import ParameterError
from regulens.models.kernel import attend
from regulens.testing.toy_model import ToyAdapter


@pytest.fixture(scope="module")
def few(cells):
    return cells.subset(np.arange(12))


def weights(adapter):
    return [(p.dtype, p.detach().clone()) for p in adapter.module.parameters()]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_measured_and_the_weights_come_back(precision, toy, few, axes, tmp_path):
    before = weights(toy)
    exact = extract(toy, few, **axes)
    half = extract(toy, few, **axes, precision=precision)
    assert [d for d, _ in weights(toy)] == [d for d, _ in before]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(weights(toy), before))
    found, met = half.facts, exact.summary.counts[:] > 0
    gap = np.abs(half.summary.sums - exact.summary.sums)
    assert gap.max() > 1e-5, "half precision must not be a no-op"
    assert found["precision"] == precision and found["precision_n_cells"] == P.COMPARED_CELLS
    assert 1e-5 < found["precision_max_abs"] < 0.5
    assert 0 < found["precision_median_abs"] < found["precision_max_abs"]
    assert 0 < found["precision_median_relative"] < found["precision_max_relative"]
    assert -1 <= found["precision_spearman_min"] <= found["precision_spearman_median"] <= 1
    assert found["precision_spearman_median"] > 0.9
    assert half.summary.sums.dtype == np.float32 and met.any()
    assert half.summary.digest != exact.summary.digest
    assert exact.facts["precision"] == "float32" and "precision_max_abs" not in exact.facts
    stored = extract(toy, few, **axes, precision=precision, out=tmp_path / "a.zarr", jobs=2)
    np.testing.assert_array_equal(stored.summary.sums[:], half.summary.sums)
    assert stored.facts == half.facts


def test_the_recorded_difference_is_that_of_single_cells(toy, few, axes):
    """Against two extractions of the same cells, one a time, and scipy's rank correlation."""
    facts = extract(toy, few, **axes, precision="bfloat16").facts
    lengths = np.diff(few.counts.indptr)
    known = toy.gene_tokens(few.genes) >= 0
    lengths = np.array([known[few.counts[i].indices].sum() for i in range(few.n_cells)])
    rows = P.cells_to_compare(lengths, np.arange(few.n_cells))
    pair = [
        extract(toy, few.subset(np.sort(rows)), **axes, batch_tokens=1, partition_by=(), precision=p).summary
        for p in ("float32", "bfloat16")
    ]
    met = pair[0].counts[0] > 0
    a, b = ((s.sums[0] / np.maximum(s.counts[0], 1))[..., met] for s in pair)
    assert facts["precision_max_abs"] == pytest.approx(np.abs(a - b).max(), rel=1e-4)
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    rho = [spearmanr(x, y).statistic for x, y in zip(a, b)]
    assert facts["precision_spearman_min"] == pytest.approx(min(rho), abs=2e-3)
    assert facts["precision_n_values"] == a.size


def test_passes_over_layers_measure_the_same(toy, few, axes):
    whole = extract(toy, few, **axes, precision="bfloat16", batch_tokens=90)
    per_layer = 2 * 8 * 2 * 2 * 11 * 35
    parts = extract(
        toy, few, **axes, precision="bfloat16", batch_tokens=90,
        memory=4 * 32 * (12 + 1 + 16) * 90 + 4 * 11 * 40 + 5 * per_layer,
    )  # fmt: skip
    assert parts.facts == whole.facts
    np.testing.assert_array_equal(parts.summary.sums, whole.summary.sums)


def test_a_model_that_overflows_is_refused(few, axes):
    loud = ToyAdapter(few.genes.symbols)
    loud.module.out.data *= 1e6
    assert np.isfinite(extract(loud, few, **axes).summary.sums).all()
    with pytest.raises(ParameterError, match=r"overflow.*bfloat16"):
        extract(loud, few, **axes, precision="float16")
    assert np.isfinite(extract(loud, few, **axes, precision="bfloat16").summary.sums).all()


def test_refusals(toy, few, axes, monkeypatch):
    with pytest.raises(ParameterError, match=r"float32, bfloat16, float16.*Did you mean 'bfloat16'"):
        extract(toy, few, **axes, precision="bfloat6")

    def no_half(*args, **kwargs):
        message = "\"addmm_impl_cpu_\" not implemented for 'Half'"
        raise RuntimeError(message)

    monkeypatch.setattr(torch.nn.functional, "linear", no_half)
    with pytest.raises(ParameterError, match=r"computes in float16.*Use float32"):
        extract(toy, few, **axes, precision="float16")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kernel", ["fused", "chunked", "plain"])
def test_the_log_sum_exp_stays_wide(dtype, kernel):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 40, 16).to(dtype) for _ in range(3))
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[1, 30:] = False
    with torch.autocast("cpu", dtype=dtype):
        out, lse, maps = attend(q, k, v, key_mask=mask, kernel=kernel)
    logits = (q.double() @ k.double().transpose(-1, -2) / 4).masked_fill(~mask[:, None, None], -torch.inf)
    assert out.dtype == dtype and lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), torch.logsumexp(logits, -1), atol=1e-4, rtol=0)
    if maps is not None:
        torch.testing.assert_close(maps.double(), torch.softmax(logits, -1), atol=1e-5, rtol=0)


def test_every_recipe_runs_in_half_precision(toy, few, axes):
    for recipe in RECIPES:
        found = extract(ToyAdapter(few.genes.symbols), few, **axes, precision="bfloat16", recipe=recipe)
        assert np.isfinite(found.summary.sums).all()
