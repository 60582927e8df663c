"""What would the model do without a head or an MLP? Ablation by zero, by the mean, and by uniform attention.

=========  =========================================================================================
zero       what the heads read is 0; equal to zeroing their columns of the output projection
mean       the mean over a stated set of cells (`component_means`), the same at every position
uniform    heads only: every query reads the plain average of the values of all keys it may attend to
=========  =========================================================================================

Zero takes the model far from anything it has seen, mean less so; uniform keeps the values and removes only the
selection. A finding that holds for one of them only is a finding about that one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from regulens.errors import ParameterError
from regulens.interventions.intervention import Intervention
from regulens.interventions.means import Means
from regulens.interventions.places import Component, head, mlp
from regulens.models.base import Edits, LayerAttention, TokenBatch
from regulens.provenance import digest_array, digest_of

if TYPE_CHECKING:
    import torch


def ablate_heads(
    heads: Iterable[tuple[int, int]], *, how: Literal["zero", "mean", "uniform"] = "zero", means: Means | None = None
) -> Intervention:
    """Replace what heads read, at every position.

    Parameters
    ----------
    heads
        Pairs (layer, head), zero-based. None at all is the null intervention.
    how
        See the head of this file.
    means
        For ``how="mean"`` only: of which cells.

    Raises
    ------
    ParameterError
        On an unknown `how`, or means that are lacking or not used.

    Examples
    --------
    >>> change = ablate_heads([(3, 1), (3, 2)])
    >>> change.name, [str(p) for p in change.places]
    ('zero L03_H01+L03_H02', ['the heads of layer 3'])
    """
    _check(how, ("zero", "mean", "uniform"), means)
    components = tuple(sorted({head(*pair) for pair in heads}))
    by_layer: dict[int, list[int]] = {}
    for component in components:
        by_layer.setdefault(component.layer, []).append(component.head)

    def head_output(layer: LayerAttention, out: torch.Tensor) -> torch.Tensor:
        chosen = by_layer.get(layer.layer)
        if chosen is None:
            return out
        out = out.clone()
        if how == "zero":
            out[:, chosen] = 0.0
        elif how == "mean":
            out[:, chosen] = out.new_tensor(means.heads[layer.layer, chosen])[None, :, None, :]
        else:
            out[:, chosen] = uniform_read(layer)[:, chosen].to(out.dtype)
        return out

    return _intervention(how, components, means, Edits(head_output=head_output))


def ablate_mlp(
    layers: int | Iterable[int], *, how: Literal["zero", "mean"] = "zero", means: Means | None = None
) -> Intervention:
    """Replace what the feed-forward parts of layers add to the residual, at every position.

    Parameters
    ----------
    layers
        One or several, zero-based.
    how, means
        As in `ablate_heads`.

    Examples
    --------
    >>> ablate_mlp(2).name
    'zero L02_mlp'
    """
    _check(how, ("zero", "mean"), means)
    chosen = {layers} if isinstance(layers, int) else set(layers)
    components = tuple(sorted(mlp(layer) for layer in chosen))

    def mlp_output(layer: int, out: torch.Tensor) -> torch.Tensor:
        if layer not in chosen:
            return out
        return out.new_zeros(out.shape) if how == "zero" else out.new_tensor(means.mlp[layer]).expand(out.shape)

    return _intervention(how, components, means, Edits(mlp_output=mlp_output))


def uniform_read(layer: LayerAttention) -> torch.Tensor:
    """What every head reads when each query attends equally to all keys that it may attend to.

    Masked keys do not count; in a causal model, neither do keys after the query. A bias on keys is left out: it is
    part of the selection.

    Returns
    -------
    Shape ``(cell, head, position, head_width)``.
    """
    v = layer.v
    keys = v.new_ones((v.shape[0], v.shape[2])) if layer.key_mask is None else layer.key_mask.to(v.dtype)
    keys = keys[:, None, :, None]
    if layer.causal:
        return (v * keys).cumsum(2) / keys.cumsum(2)
    return ((v * keys).sum(2, keepdim=True) / keys.sum(2, keepdim=True)).expand(v.shape)


def _check(how: str, known: tuple[str, ...], means: Means | None) -> None:
    if how not in known:
        message = f"Expected how to be one of {', '.join(known)}, got {how!r}."
        raise ParameterError(message)
    if (how == "mean") != (means is not None):
        got = "none" if means is None else f"means of {means.cells} with how={how!r}"
        message = (
            f"Expected means with how='mean' and only there, got {got}. Make them with component_means from cells that "
            "you can name."
        )
        raise ParameterError(message)


def _intervention(how: str, components: tuple[Component, ...], means: Means | None, edits: Edits) -> Intervention:
    def bind(_: TokenBatch) -> Edits:
        return edits

    words = f"{how} {'+'.join(str(c) for c in components) or 'nothing'}"
    return Intervention(
        name=words if means is None else f"{words} (mean of {means.cells})",
        components=components,
        bind=bind if components else None,
        model="" if means is None else means.model,
        values=None if means is None else lambda: digest_of(digest_array(means.heads), digest_array(means.mlp)),
    )
