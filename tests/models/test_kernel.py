"""Blocks read through the log-sum-exp equal the explicit softmax; masked keys are exactly zero; rows sum to one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from regulens.errors import ParameterError  # noqa: E402
from regulens.models import kernel as K  # noqa: E402
from regulens.models.base import LayerAttention  # noqa: E402


def make(seed=0, cells=3, heads=2, positions=41, width=8, lengths=None):
    rng = np.random.default_rng(seed)
    q, k, v = (
        torch.tensor(rng.standard_normal((cells, positions, heads, width)), dtype=torch.float32).transpose(1, 2)
        for _ in range(3)
    )
    if lengths is None:
        return q, k, v, None
    return q, k, v, torch.arange(positions)[None, :] < torch.tensor(lengths)[:, None]


def layer_of(q, k, v, mask, scale=None):
    out, lse, _ = K.attend(q, k, v, key_mask=mask, scale=scale)
    used = q.shape[-1] ** -0.5 if scale is None else scale
    return out, LayerAttention(layer=0, q=q, k=k, v=v, lse=lse, scale=used, key_mask=mask)


def test_the_fused_kernel_of_this_machine_is_trusted():
    assert K.fused_for("cpu") is TRUE_CPU_KERNEL


@pytest.mark.parametrize("lengths", [None, [41, 20, 1]])
@pytest.mark.parametrize("scale", [None, 0.05])
@pytest.mark.parametrize("stand_in", [False, True])
def test_fused_and_chunked_equal_plain(lengths, scale, stand_in, monkeypatch):
    if stand_in:
        monkeypatch.setattr(K, "fused_for", lambda device: K.chunked)
        monkeypatch.setattr(K, "_CHUNK", 7)
    q, k, v, mask = make(lengths=lengths)
    want, want_lse, A = K.attend(q, k, v, key_mask=mask, scale=scale, kernel="plain")
    out, layer = layer_of(q, k, v, mask, scale)
    assert torch.isfinite(out).all() and torch.isfinite(layer.lse).all()
    np.testing.assert_allclose(out.numpy(), want.numpy(), atol=2e-6)
    np.testing.assert_allclose(layer.lse.numpy(), want_lse.numpy(), atol=5e-6)
    positions = torch.tensor([0, 3, 17])
    rows, columns = K.query_rows(layer, positions), K.key_columns(layer, positions)
    np.testing.assert_allclose(rows.numpy(), A[:, :, positions].numpy(), atol=1e-6)
    want_columns = A[:, :, :, positions].transpose(-1, -2).clone()
    if mask is not None:
        want_columns.masked_fill_(~mask[:, None, None, :], 0.0)
        assert (rows.masked_select(~mask[:, None, None, :]) == 0).all()
        assert (A.masked_select(~mask[:, None, None, :]) == 0).all()
        assert (columns[2, :, 1:] == 0).all()
    np.testing.assert_allclose(columns.numpy(), want_columns.numpy(), atol=1e-6)
    everything = K.query_rows(layer, torch.arange(41)).sum(-1)
    real = torch.ones(3, 41, dtype=torch.bool) if mask is None else mask
    np.testing.assert_allclose(everything.transpose(1, 2)[real].numpy(), 1.0, atol=5e-6)


def test_a_transposed_block_is_noticed():
    q, k, v, _ = make()
    _, _, A = K.attend(q, k, v, kernel="plain")
    _, layer = layer_of(q, k, v, None)
    positions = torch.tensor([2, 9])
    assert (K.key_columns(layer, positions) - A[:, :, positions]).abs().max() > 0.1


TRUE_CPU_KERNEL = K._fused_cpu


def _transposed(*args):
    out, lse = TRUE_CPU_KERNEL(*args)
    return out, lse.transpose(1, 2)


def _base_two(*args):
    out, lse = TRUE_CPU_KERNEL(*args)
    return out, lse / np.log(2)


def _without_mask(q, k, v, bias, scale):
    return TRUE_CPU_KERNEL(q, k, v, None, scale)


def _absent(*args):
    message = "no such operator"
    raise AttributeError(message)


@pytest.mark.parametrize("broken", [_transposed, _base_two, _without_mask, _absent])
def test_a_kernel_that_differs_is_not_trusted(broken, monkeypatch):
    monkeypatch.setattr(K, "_fused_cpu", broken)
    K.fused_for.cache_clear()
    try:
        assert K.fused_for("cpu") is K.chunked
    finally:
        K.fused_for.cache_clear()


def test_half_precision_blocks_are_computed_in_float32():
    q, k, v, _ = make()
    half = LayerAttention(
        layer=0, q=q.half(), k=k.half(), v=v.half(), lse=K.attend(q, k, v)[1], scale=8**-0.5, key_mask=None
    )
    rows = K.query_rows(half, torch.tensor([1]))
    assert rows.dtype == torch.float32
    np.testing.assert_allclose(rows.sum(-1).numpy(), 1.0, atol=2e-2)


def test_double_precision():
    q, k, v, mask = make(lengths=[41, 20, 5])
    q, k, v = q.double(), k.double(), v.double()
    _, layer = layer_of(q, k, v, mask)
    _, _, A = K.attend(q, k, v, key_mask=mask, kernel="plain")
    np.testing.assert_allclose(K.query_rows(layer, torch.tensor([4])).numpy(), A[:, :, [4]].numpy(), atol=1e-12)


def test_an_all_true_mask_costs_nothing_and_changes_nothing():
    q, k, v, _ = make()
    assert K._bias(torch.ones(3, 41, dtype=torch.bool), k) is None
    out, _, maps = K.attend(q, k, v, key_mask=torch.ones(3, 41, dtype=torch.bool))
    assert torch.equal(out, K.attend(q, k, v)[0]) and maps is None


def test_refusals():
    q, k, v, mask = make(lengths=[41, 20, 5])
    with pytest.raises(ParameterError, match="head_width"):
        K.attend(q, k[:, :1], v)
    with pytest.raises(ParameterError, match="at least one real token"):
        K.attend(q, k, v, key_mask=mask & False)
    with pytest.raises(ParameterError, match="bool key_mask"):
        K.attend(q, k, v, key_mask=mask[:, :3] & False)
    with pytest.raises(ParameterError, match="'fused' or 'plain'"):
        K.attend(q, k, v, kernel="eager")
