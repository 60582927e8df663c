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
        monkeypatch.setattr(K, "fused_for", lambda device, **causal: K.chunked)
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


def explicit(q, k, mask, bias, causal):
    """The map by loops over queries, in float64."""
    logits = (q.double() @ k.double().transpose(-1, -2)).numpy() * q.shape[-1] ** -0.5
    A = np.zeros_like(logits)
    for cell in range(A.shape[0]):
        for query in range(A.shape[2]):
            keys = [j for j in range(A.shape[3]) if (mask is None or mask[cell, j]) and not (causal and j > query)]
            row = logits[cell][:, query, keys] + (0.0 if bias is None else bias[cell].double().numpy()[keys])
            row = np.exp(row - row.max(axis=1, keepdims=True))
            A[cell][:, query, keys] = row / row.sum(axis=1, keepdims=True)
    return A


@pytest.mark.parametrize("lengths", [None, [41, 20, 1]])
@pytest.mark.parametrize(("causal", "biased"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("stand_in", [False, True])
def test_causal_and_biased_attention_equal_the_explicit_softmax(lengths, causal, biased, stand_in, monkeypatch):
    if stand_in:
        monkeypatch.setattr(K, "fused_for", lambda device, **causal: K.chunked)
        monkeypatch.setattr(K, "_CHUNK", 7)
    q, k, v, mask = make(lengths=lengths)
    bias = torch.linspace(-2, 2, 3 * 41).view(3, 41) if biased else None
    want = explicit(q, k, mask, bias, causal)
    out, _, A = K.attend(q, k, v, key_mask=mask, key_bias=bias, causal=causal, kernel="plain")
    np.testing.assert_allclose(A.numpy(), want, atol=1e-6)
    assert (A.numpy()[want == 0] == 0).all()
    kept = []
    fused = K.attend_layer(4, q, k, v, key_mask=mask, key_bias=bias, causal=causal, tap=kept.append)
    np.testing.assert_allclose(fused.numpy(), want @ v.double().numpy(), atol=3e-6)
    np.testing.assert_allclose(fused.numpy(), out.numpy(), atol=3e-6)
    (layer,) = kept
    assert layer.layer == 4 and layer.causal == causal and (layer.key_bias is not None) == biased
    positions = torch.tensor([17, 0, 3])
    rows, columns = K.query_rows(layer, positions).numpy(), K.key_columns(layer, positions).numpy()
    np.testing.assert_allclose(rows, want[:, :, positions], atol=1e-6)
    assert (rows[want[:, :, positions] == 0] == 0).all()
    want_columns = want[..., positions].swapaxes(-1, -2)
    if mask is not None:
        want_columns = want_columns * mask[:, None, None, :].numpy()
    np.testing.assert_allclose(columns, want_columns, atol=1e-6)
    assert (columns[want_columns == 0] == 0).all()
    # The broken twins: nothing hidden, or no bias.
    wrong = K.attend(q, k, v, key_mask=mask, kernel="plain")[2]
    assert np.abs(wrong.numpy() - want).max() > 0.1


def _looks_ahead(q, k, v, bias, scale, *, causal):
    return TRUE_CPU_KERNEL(q, k, v, bias, scale, causal=False)


def test_a_kernel_that_looks_ahead_is_trusted_without_the_causal_mask_only(monkeypatch):
    monkeypatch.setattr(K, "_fused_cpu", _looks_ahead)
    K.fused_for.cache_clear()
    try:
        assert K.fused_for("cpu") is _looks_ahead
        assert K.fused_for("cpu", causal=True) is K.chunked
    finally:
        K.fused_for.cache_clear()


def test_refusals_of_causal_masks_and_biases():
    q, k, v, mask = make(lengths=[41, 20, 5])
    with pytest.raises(ParameterError, match="Pad on the right"):
        K.attend(q, k, v, key_mask=~mask | (torch.arange(41) > 3), causal=True)
    with pytest.raises(ParameterError, match="as many queries as keys"):
        K.attend(q[:, :, :5], k, v, causal=True)
    for wrong in (torch.zeros(3, 40), torch.full((3, 41), float("nan")), torch.full((3, 41), -np.inf)):
        with pytest.raises(ParameterError, match="finite key_bias"):
            K.attend(q, k, v, key_bias=wrong)


def test_a_transposed_block_is_noticed():
    q, k, v, _ = make()
    _, _, A = K.attend(q, k, v, kernel="plain")
    _, layer = layer_of(q, k, v, None)
    positions = torch.tensor([2, 9])
    assert (K.key_columns(layer, positions) - A[:, :, positions]).abs().max() > 0.1


TRUE_CPU_KERNEL = K._fused_cpu


def _transposed(*args, **causal):
    out, lse = TRUE_CPU_KERNEL(*args, **causal)
    return out, lse.transpose(1, 2)


def _base_two(*args, **causal):
    out, lse = TRUE_CPU_KERNEL(*args, **causal)
    return out, lse / np.log(2)


def _without_mask(q, k, v, bias, scale, *, causal):
    return TRUE_CPU_KERNEL(q, k, v, None, scale, causal=causal)


def _absent(*args, **causal):
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
    with pytest.raises(ParameterError, match="'fused', 'plain' or 'chunked'"):
        K.attend(q, k, v, kernel="eager")
