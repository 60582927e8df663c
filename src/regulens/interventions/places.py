"""Where in a forward pass does something happen, and what comes before what?

The pass is a line of places::

    tokens → embedding → [attention → heads → mlp → state] of layer 0 → … → state of the last layer → output

A change at one place can be seen only at later places. ``attention`` (the softmax of a layer) comes before ``heads``
(what was read by it), so that changing what a head reads cannot be seen in the attention of its own layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

from regulens.errors import ParameterError

if TYPE_CHECKING:
    from regulens.types.attention import ModelCard


class Stage(IntEnum):
    """Part of a layer, in the order of computation."""

    TOKENS = 0
    ATTENTION = 1
    HEADS = 2
    MLP = 3
    STATE = 4


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the computation order; places compare as they are computed.

    Parameters
    ----------
    layer
        Zero-based; −1 before the first layer, the number of layers behind the last one (the model's own head).
    stage
        Part of the layer. The embedding is the state of layer −1.

    Examples
    --------
    >>> Place(3, Stage.ATTENTION) < Place(3, Stage.HEADS) < Place(4, Stage.ATTENTION)
    True
    >>> print(Place(3, Stage.MLP))
    the MLP of layer 3
    """

    layer: int
    stage: Stage

    def __str__(self) -> str:
        if self.layer < 0:
            return "the input tokens" if self.stage is Stage.TOKENS else "the embedding"
        if self.stage is Stage.TOKENS:
            return "the model's output"
        words = {Stage.ATTENTION: "attention", Stage.HEADS: "heads", Stage.MLP: "MLP", Stage.STATE: "state"}
        return f"the {words[self.stage]} of layer {self.layer}"


TOKENS = Place(-1, Stage.TOKENS)


def output_of(card: ModelCard) -> Place:
    """Place of the model's own head, behind every layer."""
    return Place(card.n_layers, Stage.TOKENS)


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """A part of the model whose output can be recorded, patched or ablated.

    Parameters
    ----------
    kind
        ``"embedding"`` (the state that enters the first layer), ``"head"`` or ``"mlp"``.
    layer
        Zero-based; −1 for the embedding.
    head
        Zero-based for a head, otherwise −1.
    """

    kind: Literal["embedding", "head", "mlp"]
    layer: int = -1
    head: int = -1

    def __str__(self) -> str:
        if self.kind == "embedding":
            return "embedding"
        return f"L{self.layer:02d}_H{self.head:02d}" if self.kind == "head" else f"L{self.layer:02d}_mlp"

    @property
    def place(self) -> Place:
        """Where it is computed."""
        return Place(self.layer, {"embedding": Stage.STATE, "head": Stage.HEADS, "mlp": Stage.MLP}[self.kind])

    def check(self, card: ModelCard) -> None:
        """Refuse a layer or head that the model does not have."""
        check_layer(self.layer, card, allowed_below=self.kind == "embedding")
        if self.kind == "head" and not 0 <= self.head < card.n_heads:
            message = (
                f"Expected a head in 0 … {card.n_heads - 1} of {card.name}, got {self.head} (in layer {self.layer}). "
                "Heads count from 0."
            )
            raise ParameterError(message)


EMBEDDING = Component("embedding")


def head(layer: int, index: int) -> Component:
    """Head `index` of `layer`, both zero-based: what it read, before the output projection.

    >>> str(head(3, 1))
    'L03_H01'
    """
    return Component("head", int(layer), int(index))


def mlp(layer: int) -> Component:
    """Feed-forward part of `layer`: its output before the residual addition.

    >>> str(mlp(3))
    'L03_mlp'
    """
    return Component("mlp", int(layer))


def all_components(card: ModelCard) -> tuple[Component, ...]:
    """Embedding, every head and every MLP, in the order of computation."""
    inside: list[Component] = []
    for layer in range(card.n_layers):
        inside += [head(layer, h) for h in range(card.n_heads)]
        inside.append(mlp(layer))
    return (EMBEDDING, *inside)


def as_components(components: Component | Iterable[Component]) -> tuple[Component, ...]:
    """One component or several, as a tuple."""
    return (components,) if isinstance(components, Component) else tuple(components)


def check_layer(layer: int, card: ModelCard, *, allowed_below: bool = False) -> None:
    """Refuse a layer that the model does not have; ``-1`` passes where the embedding is meant."""
    if not (0 <= layer < card.n_layers or (allowed_below and layer == -1)):
        message = (
            f"Expected a layer in 0 … {card.n_layers - 1} of {card.name}, got {layer}. Layers count from 0, from the "
            "input to the output."
        )
        raise ParameterError(message)
