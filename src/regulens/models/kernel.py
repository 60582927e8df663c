"""How is attention computed, and how does one read a block of it without ever forming the map?

One row of attention is ``A[q, k] = exp(l[q, k] − lse[q])`` with logits ``l[q, k] = q·k·scale + bias[k]`` and
``lse[q] = log Σ_k exp(l[q, k])`` over the keys that are not masked and, in a causal model, not ahead of the query; most
models have no bias. A fused kernel needs that row log-sum-exp for itself (Dao et al. 2022, FlashAttention) and hands it
back, so any rows or columns of the exact map cost one small matrix product afterwards.

The fused entry points of torch are private. Each is therefore tried once per device against the explicit softmax
before it is used; where it is absent, or its log-sum-exp is laid out otherwise, a chunked pass stands in.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import Protocol

import numpy as np
import torch

from regulens.errors import ParameterError
from regulens.models.base import NO_EDITS, Edits, Kernel, LayerAttention, Tap

_LOG = logging.getLogger(__name__)

#: Queries per step of the stand-in: bounds its memory at ``cells × heads × 256 × keys`` numbers.
_CHUNK = 256
#: What a fused kernel may differ by, on logits of order one, before it is not trusted. Float32 gives about 1e-6; half
#: precision rounds what it returns to 8 or 11 bits, and the shares before they meet the values.
_TRUST = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
_TRUST_WIDE = 1e-4


class _Fused(Protocol):
    """Output and row log-sum-exp of query, key, value, additive bias or None, and scale."""

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
        *,
        causal: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


def padding_mask(mask: np.ndarray | torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor | None:
    """Key mask of a right-padded batch, or None when nothing is padded (no mask tensor, no cost).

    Parameters
    ----------
    mask
        Bool, shape ``(cell, position)``, True at real tokens.

    Examples
    --------
    >>> padding_mask(np.array([[True, True]])) is None
    True
    >>> padding_mask(np.array([[True, True], [True, False]])).tolist()
    [[True, True], [True, False]]
    """
    tensor = torch.as_tensor(mask, dtype=torch.bool, device=device)
    return None if bool(tensor.all()) else tensor


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    key_mask: torch.Tensor | None = None,
    key_bias: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    kernel: Kernel = "fused",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Softmax attention, its row log-sum-exp and, with ``kernel="plain"``, the map itself.

    Parameters
    ----------
    q, k, v
        Shape ``(cell, head, position, head_width)``, one floating type.
    key_mask
        Bool, shape ``(cell, position)``, True at keys that may be attended to; None when none is masked. Every
        cell needs at least one such key. Rows of padded queries are finite and mean nothing.
    key_bias
        Finite, shape ``(cell, position)``, added to the logits of every query and head; None for none.
    causal
        Query ``i`` sees keys ``0 … i`` only. The first key of every cell must then be unmasked.
    scale
        Factor of the logits; ``1/sqrt(head_width)`` by default.
    kernel
        ``"fused"``: exact, without forming the map; ``"plain"``: explicit softmax, masked keys exactly zero;
        ``"chunked"``: explicit softmax by blocks of queries, also without the map.

    Returns
    -------
    out
        Shape of `q`.
    lse
        Row log-sum-exp over unmasked keys (natural logarithm), shape ``(cell, head, position)``; float32 or better,
        also where q, k and v are in half precision.
    probabilities
        Shape ``(cell, head, query, key)`` with ``kernel="plain"``, otherwise None; float32 or better.

    Raises
    ------
    ParameterError
        When shapes disagree, a query has no key, a bias is not finite, or the kernel is unknown.

    Examples
    --------
    >>> x = torch.zeros(1, 1, 4, 2)
    >>> out, lse, A = attend(x, x, x, kernel="plain")
    >>> A[0, 0, 0].tolist(), round(float(lse[0, 0, 0].exp()), 6)
    ([0.25, 0.25, 0.25, 0.25], 4.0)
    """
    if q.ndim != 4 or q.shape[:2] != k.shape[:2] or k.shape != v.shape or q.shape[-1] != k.shape[-1]:
        message = (
            "Expected q, k and v of shape (cell, head, position, head_width), got "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}. Split the heads before calling attend."
        )
        raise ParameterError(message)
    if causal:
        _check_causal(q, k, key_mask)
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    bias = _bias(key_mask, k, key_bias)
    # Logits are formed as they are written here, whatever an automatic choice of precision around the call would do.
    with torch.autocast(q.device.type, enabled=False):
        if kernel == "plain":
            wide = wide_type(q)
            logits = torch.matmul(q.to(wide), k.to(wide).transpose(-1, -2)) * scale
            if bias is not None:
                logits = logits + bias
            if causal:
                logits = logits.masked_fill(_ahead(q.shape[-2], q.device), -math.inf)
            lse = torch.logsumexp(logits, dim=-1)
            weights = torch.softmax(logits, dim=-1)
            return torch.matmul(weights, v.to(wide)).to(q.dtype), lse, weights
        if kernel == "chunked":
            return *chunked(q, k, v, bias, scale, causal=causal), None
        if kernel != "fused":
            message = f"Expected kernel 'fused', 'plain' or 'chunked', got {kernel!r}."
            raise ParameterError(message)
        out, lse = fused_for(q.device.type, causal=causal, dtype=q.dtype)(q, k, v, bias, scale, causal=causal)
    return out, lse, None


def wide_type(x: torch.Tensor) -> torch.dtype:
    """Type in which logits and log-sum-exp of `x` are kept: its own, but at least float32.

    >>> wide_type(torch.zeros(1, dtype=torch.bfloat16)), wide_type(torch.zeros(1, dtype=torch.float64))
    (torch.float32, torch.float64)
    """
    return torch.promote_types(x.dtype, torch.float32)


def attend_layer(
    index: int,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    key_mask: torch.Tensor | None = None,
    key_bias: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    kernel: Kernel = "fused",
    tap: Tap | None = None,
    edits: Edits = NO_EDITS,
) -> torch.Tensor:
    """One layer's attention as every adapter calls it: attend, show it to the tap, let an edit change what was read.

    Parameters
    ----------
    index
        Zero-based layer.
    key_mask, key_bias, causal, scale, kernel
        See `attend`.

    Returns
    -------
    What the heads read, shape of `q`, before the output projection.
    """
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    # Rotary angles are float32: in a pass in half precision they would leave query and key wider than the value.
    q, k = q.to(v.dtype), k.to(v.dtype)
    out, lse, probabilities = attend(
        q, k, v, key_mask=key_mask, key_bias=key_bias, causal=causal, scale=scale, kernel=kernel
    )
    if tap is not None or edits.head_output is not None:
        layer = LayerAttention(
            layer=index,
            q=q,
            k=k,
            v=v,
            lse=lse,
            scale=scale,
            key_mask=key_mask,
            probabilities=probabilities,
            causal=causal,
            key_bias=key_bias,
        )
        if tap is not None:
            tap(layer)
        if edits.head_output is not None:
            out = edits.head_output(layer, out)
    return out


def query_rows(layer: LayerAttention, positions: torch.Tensor) -> torch.Tensor:
    """Rows ``A[positions, :]``: what the tokens at `positions` attend to.

    Parameters
    ----------
    layer
        As handed to a tap.
    positions
        Int64, shape ``(position_chosen,)``; the same for all cells of the batch.

    Returns
    -------
    Shape ``(cell, head, position_chosen, key)``; keys that are masked or, in a causal model, ahead are exactly zero.
    """
    positions = positions.to(layer.q.device)
    lse = layer.lse[:, :, positions, None]
    if layer.key_bias is not None:
        lse = lse - layer.key_bias[:, None, None, :].to(lse.dtype)
    rows = softmax_block(layer.q[:, :, positions], layer.k, lse, scale=layer.scale)
    if layer.causal:
        rows.masked_fill_(ahead_of(positions, torch.arange(rows.shape[-1], device=rows.device)), 0.0)
    return rows if layer.key_mask is None else rows.masked_fill_(~layer.key_mask[:, None, None, :], 0.0)


def softmax_rows(layer: LayerAttention, positions: torch.Tensor) -> torch.Tensor:
    """Rows ``A[positions, :]`` by a softmax of their own, not through the log-sum-exp: `query_rows`'s independent twin.

    Returns
    -------
    Shape ``(cell, head, position_chosen, key)``; taken from the map where the layer holds one.
    """
    positions = positions.to(layer.q.device)
    if layer.probabilities is not None:
        return layer.probabilities[:, :, positions]
    wide = wide_type(layer.q)
    logits = torch.matmul(layer.q[:, :, positions].to(wide), layer.k.to(wide).transpose(-1, -2)) * layer.scale
    bias = _bias(layer.key_mask, layer.k, layer.key_bias)
    if bias is not None:
        logits += bias
    if layer.causal:
        logits.masked_fill_(ahead_of(positions, torch.arange(logits.shape[-1], device=logits.device)), -math.inf)
    return torch.softmax(logits, dim=-1)


def key_columns(layer: LayerAttention, positions: torch.Tensor) -> torch.Tensor:
    """Columns ``A[:, positions]``, transposed: who attends to the tokens at `positions`.

    Returns
    -------
    Shape ``(cell, head, position_chosen, query)``: the chosen token comes first, as in `query_rows`. Padded queries,
    which mean nothing, masked keys, and in a causal model queries before the key are exactly zero.
    """
    positions = positions.to(layer.q.device)
    lse = layer.lse[:, :, None, :]
    if layer.key_bias is not None:
        lse = lse - layer.key_bias[:, None, positions, None].to(lse.dtype)
    columns = softmax_block(layer.k[:, :, positions], layer.q, lse, scale=layer.scale)
    if layer.causal:
        columns.masked_fill_(ahead_of(torch.arange(columns.shape[-1], device=columns.device), positions).T, 0.0)
    if layer.key_mask is not None:
        columns.masked_fill_(~layer.key_mask[:, None, None, :], 0.0)
        columns.masked_fill_(~layer.key_mask[:, None, positions, None], 0.0)
    return columns


def ahead_of(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Which keys a causal model cannot see: bool, shape ``(query, key)``, from positions in the sequence.

    Examples
    --------
    >>> ahead_of(torch.tensor([0, 2]), torch.tensor([0, 1, 3])).tolist()
    [[False, True, True], [False, False, True]]
    """
    return keys[None, :] > queries[:, None]


def softmax_block(left: torch.Tensor, right: torch.Tensor, lse: torch.Tensor, *, scale: float) -> torch.Tensor:
    """``exp(left·right·scale − lse)`` in one pass over fresh memory.

    Parameters
    ----------
    left, right
        Shape ``(..., a, head_width)`` and ``(..., b, head_width)``.
    lse
        Broadcasts to ``(..., a, b)``: ``(..., a, 1)`` when `left` holds queries, ``(..., 1, b)`` when `right` does.

    Returns
    -------
    Shape ``(..., a, b)``; float32 for half-precision input, whose logits are too coarse to exponentiate.
    """
    wide = torch.promote_types(left.dtype, torch.float32)
    left, right, lse = left.to(wide), right.to(wide), lse.to(wide)
    shape = (*left.shape[:-1], right.shape[-2])
    many = math.prod(shape[:-2])
    flat = torch.baddbmm(
        lse.expand(shape).reshape(many, *shape[-2:]),
        left.reshape(many, *left.shape[-2:]),
        right.reshape(many, *right.shape[-2:]).transpose(1, 2),
        beta=-1.0,
        alpha=scale,
    )
    return flat.exp_().view(shape)


def softmax_block_into(
    out: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    bias: torch.Tensor | None = None,
    forbidden: torch.Tensor | None = None,
    logarithm: bool = False,
) -> None:
    """`softmax_block` of one head into memory that the caller keeps; `left` is already scaled.

    Parameters
    ----------
    out
        Shape ``(a, b)``, overwritten. Small enough to stay in the processor's cache, it makes the pass twice as fast.
    left, right
        Shape ``(a, head_width)`` and ``(b, head_width)``.
    lse
        Shape ``(a, 1)`` or ``(1, b)``; None to take nothing off the logits.
    bias
        Added to the logits; shape ``(a, 1)`` when `left` holds keys, ``(1, b)`` when `right` does.
    forbidden
        Bool, broadcasts to ``(a, b)``: pairs whose attention is exactly zero.
    logarithm
        Stop before the exponential.
    """
    torch.mm(left, right.T, out=out)
    if lse is not None:
        out.sub_(lse)
    if bias is not None:
        out.add_(bias)
    if not logarithm:
        out.exp_()
    if forbidden is not None:
        out.masked_fill_(forbidden, 0.0)


@functools.cache
def fused_for(device: str, *, causal: bool = False, dtype: torch.dtype = torch.float32) -> _Fused:
    """Return the fused kernel that has proved itself on this kind of device and numbers, else the chunked stand-in."""
    fused = {"cpu": _fused_cpu, "cuda": _fused_cuda}.get(device)
    if fused is None:
        return chunked
    try:
        error = _disagreement(fused, device, causal=causal, dtype=dtype)
    except (AttributeError, RuntimeError, TypeError, ValueError) as problem:
        _LOG.warning("no fused attention with a log-sum-exp on %s (%s); using the chunked one", device, problem)
        return chunked
    if not error <= _TRUST.get(dtype, _TRUST_WIDE):
        _LOG.warning("fused attention on %s differs by %.1e from the softmax; using the chunked one", device, error)
        return chunked
    return fused


def chunked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, scale: float, *, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact attention by blocks of queries: the stand-in where no fused kernel returns its log-sum-exp."""
    wide = wide_type(q)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:-1], dtype=wide, device=q.device)
    keys, values = k.to(wide).transpose(-1, -2) * scale, v.to(wide)
    position = torch.arange(k.shape[-2], device=q.device)
    for start in range(0, q.shape[-2], _CHUNK):
        part = slice(start, start + _CHUNK)
        logits = torch.matmul(q[:, :, part].to(wide), keys)
        if bias is not None:
            logits += bias
        if causal:
            logits.masked_fill_(ahead_of(position[part], position), -math.inf)
        lse[:, :, part] = torch.logsumexp(logits, dim=-1)
        out[:, :, part] = torch.matmul(logits.sub_(lse[:, :, part, None]).exp_(), values)
    return out, lse


def _ahead(positions: int, device: torch.device) -> torch.Tensor:
    index = torch.arange(positions, device=device)
    return ahead_of(index, index)


def _check_causal(q: torch.Tensor, k: torch.Tensor, key_mask: torch.Tensor | None) -> None:
    if q.shape[2] != k.shape[2]:
        message = (
            f"Expected as many queries as keys in causal attention, got {q.shape[2]} and {k.shape[2]}. "
            "Hand over the whole sequence."
        )
        raise ParameterError(message)
    if key_mask is not None and not bool(key_mask[:, 0].all()):
        message = (
            "Expected the first token of every cell to be real in causal attention, got a masked one: its query would "
            "see nothing. Pad on the right."
        )
        raise ParameterError(message)


def _bias(key_mask: torch.Tensor | None, k: torch.Tensor, key_bias: torch.Tensor | None = None) -> torch.Tensor | None:
    """Additive mask, shape ``(cell, 1, 1, key)``: the bias (or 0) at keys to attend to, −inf at the others, or None."""
    if key_mask is not None and bool(key_mask.all()):
        key_mask = None
    if key_mask is None and key_bias is None:
        return None
    # Rows are padded to a multiple of 16 numbers in memory, an alignment that the CUDA kernels insist on.
    width = -(-k.shape[2] // 16) * 16
    store = torch.zeros((k.shape[0], 1, 1, width), dtype=k.dtype, device=k.device)[..., : k.shape[2]]
    if key_bias is not None:
        if key_bias.shape != (k.shape[0], k.shape[2]) or not bool(torch.isfinite(key_bias).all()):
            message = (
                f"Expected a finite key_bias of shape (cell, position) = {(k.shape[0], k.shape[2])}, got shape "
                f"{tuple(key_bias.shape)}. Forbid keys with key_mask, not with an infinite bias."
            )
            raise ParameterError(message)
        store += key_bias[:, None, None, :].to(k.dtype)
    if key_mask is None:
        return store
    if key_mask.shape != (k.shape[0], k.shape[2]) or key_mask.dtype != torch.bool:
        message = (
            f"Expected a bool key_mask of shape (cell, position) = {(k.shape[0], k.shape[2])}, got "
            f"{key_mask.dtype} of shape {tuple(key_mask.shape)}."
        )
        raise ParameterError(message)
    if not bool(key_mask.any(dim=1).all()):
        message = "Expected at least one real token in every cell, got a cell with none. Leave empty cells out."
        raise ParameterError(message)
    return store.masked_fill_(~key_mask[:, None, None, :], -math.inf)


def _fused_cpu(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, scale: float, *, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return fused(q, k, v, 0.0, causal, attn_mask=bias, scale=scale)


def _fused_cuda(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, scale: float, *, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    full = None if bias is None else bias.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    fused = torch.ops.aten._scaled_dot_product_efficient_attention
    out, lse, *_ = fused(q, k, v, full, True, 0.0, causal, scale=scale)
    # The kernel rounds the number of queries up to a multiple of 32.
    return out, lse[:, :, : q.shape[2]]


def _disagreement(fused: _Fused, device: str, *, causal: bool, dtype: torch.dtype = torch.float32) -> float:
    """Largest difference between a fused kernel and the explicit softmax over 37 tokens, plain, padded and biased.

    In half precision the explicit softmax reads the same rounded numbers, and goes on in float32.
    """
    shape = (2, 3, 37, 16)
    grid = torch.arange(math.prod(shape), dtype=torch.float32, device=device).view(shape)
    q, k, v = (x.to(dtype) for x in (torch.sin(grid * 0.7), torch.cos(grid * 1.3), torch.sin(grid * 0.11)))
    mask = torch.ones(2, 37, dtype=torch.bool, device=device)
    mask[1, 20:] = False
    worst = 0.0
    for key_mask, key_bias in ((None, None), (mask, None), (mask, k[:, 0, :, 0])):
        out, lse = fused(q, k, v, _bias(key_mask, k, key_bias), 0.4, causal=causal)
        want, want_lse, _ = attend(
            q, k, v, key_mask=key_mask, key_bias=key_bias, causal=causal, scale=0.4, kernel="plain"
        )
        if lse.shape != want_lse.shape:
            return math.inf
        worst = max(worst, float((out - want).abs().max()), float((lse - want_lse).abs().max()))
    return worst
