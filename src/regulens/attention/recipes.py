"""What is summed when attention is summed: the share itself, its logarithm, its logit, or the share times what moves.

For a query ``q`` and a key ``k`` of one head, with logits ``l`` as they enter the softmax::

    probability      A[q, k] = exp(l[q, k] − lse[q])         the share of the query's attention, in [0, 1]
    logit            l[q, k] = q·k·scale + bias[k]           before the other keys compete
    log_probability  l[q, k] − lse[q]                        its mean over cells is that of a geometric mean of shares
    value_weighted   A[q, k] · ‖W v_k‖                       length of the vector that k adds to the residual of q
                                                             through the head's part W of the output projection
                                                             (Kobayashi et al. 2020, EMNLP)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regulens.errors import CaptureError, ParameterError, nearest
from regulens.models.base import AbstractAdapter, LayerAttention

#: Where every gene of every cell had one token at most.
NOT_POOLED = "none: every gene had one token at most"
_SHARES = "sum over the tokens of the attended gene, mean over the tokens of the attending gene"
_MEANS = "mean over the tokens of the attended gene, mean over the tokens of the attending gene"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way of reading a number out of a pair of tokens.

    Parameters
    ----------
    name
        As stored and recorded.
    logarithmic
        The number lives on the scale of the logits: no value where a mask or a causal model rules a pair out, and
        several tokens of a gene are averaged on both sides. Otherwise ruled-out pairs are exactly zero and attended
        tokens of a gene are summed.
    normalised
        The row log-sum-exp is taken off.
    weighted
        Multiplied with the norm of the projected value of the key.
    """

    name: str
    logarithmic: bool = False
    normalised: bool = True
    weighted: bool = False

    @property
    def steps(self) -> tuple[bool, bool, bool]:
        """What has been done to a product of query and key; in this order each recipe follows from the one before."""
        return self.normalised, not self.logarithmic, self.weighted

    @property
    def pooling(self) -> str:
        """How several tokens of one gene in one cell become one number."""
        return _MEANS if self.logarithmic else _SHARES


PROBABILITY = Recipe(name="probability")
RECIPES = {
    r.name: r
    for r in (
        PROBABILITY,
        Recipe(name="logit", logarithmic=True, normalised=False),
        Recipe(name="log_probability", logarithmic=True),
        Recipe(name="value_weighted", weighted=True),
    )
}


def recipe_for(name: str, adapter: AbstractAdapter) -> Recipe:
    """Look up a recipe and make sure that this model has what it takes.

    Raises
    ------
    ParameterError
        When the name is unknown, the model does not expose its output projection, or it is causal and the recipe has
        no value for pairs that it cannot see.
    """
    if name not in RECIPES:
        message = f"Expected a recipe among {', '.join(RECIPES)}, got {name!r}.{nearest(name, list(RECIPES))}"
        raise ParameterError(message)
    recipe = RECIPES[name]
    if recipe.logarithmic and adapter.card.causal:
        message = (
            f"Expected a model that sees all tokens for recipe '{name}', got {adapter.card.name}, which is causal: "
            "half of its pairs have no logit. Use recipe 'probability', where they are zero."
        )
        raise ParameterError(message)
    if recipe.weighted:
        projection(adapter, 0)
    return recipe


def projection(adapter: AbstractAdapter, layer: int) -> torch.Tensor:
    """Output projection of a layer, by head: shape ``(head, width, head_width)``.

    Raises
    ------
    ParameterError
        When the adapter does not expose it, or with another shape.
    """
    weight, card = adapter.output_projection(layer), adapter.card
    if weight is None:
        message = (
            f"Expected a model with an output projection for recipe 'value_weighted', got {card.name} ({card.family}), "
            "which does not expose one. Use recipe 'probability', or give its adapter the method output_projection."
        )
        raise ParameterError(message)
    if weight.ndim != 2 or weight.shape[1] % card.n_heads:
        message = (
            f"Expected an output projection of shape (width, heads x head width) with {card.n_heads} heads, got "
            f"{tuple(weight.shape)}. Return the weight as torch.nn.Linear keeps it."
        )
        raise ParameterError(message)
    return weight.detach().view(weight.shape[0], card.n_heads, -1).transpose(0, 1)


def value_norms(v: torch.Tensor, by_head: torch.Tensor) -> torch.Tensor:
    """Length of every projected value: ``‖W_h v[h, t]‖``.

    Parameters
    ----------
    v
        Shape ``(head, token, head_width)``.
    by_head
        Shape ``(head, width, head_width)``, from `projection`.

    Returns
    -------
    Shape ``(head, token)``.
    """
    wide = torch.promote_types(v.dtype, torch.float32)
    # Head by head: all heads together would hold heads x tokens x width numbers at once.
    return torch.stack(
        [torch.linalg.vector_norm(a.to(wide) @ w.to(wide).T, dim=-1) for a, w in zip(v, by_head, strict=True)]
    )


def explicit(layer: LayerAttention, recipe: Recipe, by_head: torch.Tensor | None) -> torch.Tensor:
    """The whole map of every head, straight from the definition: for `verify` and for tests.

    Parameters
    ----------
    layer
        As handed to a tap by a forward pass with ``kernel="plain"``.

    Returns
    -------
    Shape ``(cell, head, query, key)``.
    """
    if not recipe.logarithmic:
        if not recipe.weighted:
            return layer.probabilities
        norms = torch.stack([value_norms(v.double(), by_head.double()) for v in layer.v])
        return layer.probabilities * norms[:, :, None, :]
    found = layer.q.double() @ layer.k.double().transpose(-1, -2) * layer.scale
    if layer.key_bias is not None:
        found = found + layer.key_bias.double()[:, None, None, :]
    if recipe.normalised:
        masked = found if layer.key_mask is None else found.masked_fill(~layer.key_mask[:, None, None, :], -torch.inf)
        found = found - torch.logsumexp(masked, dim=-1, keepdim=True)
    return found


def refuse_ruled_out(recipe: Recipe) -> None:
    """Say that a pair without a logit was met where the recipe needs one.

    Raises
    ------
    CaptureError
        Always.
    """
    message = (
        f"Expected every regulator and target to be visible for recipe '{recipe.name}', got a masked or causal pair, "
        "whose logit is minus infinity. Use recipe 'probability', where it is zero."
    )
    raise CaptureError(message)
