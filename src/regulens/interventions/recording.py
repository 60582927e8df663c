"""What did the parts of the model put out in a run? A `Recording`, from which `patch` takes values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regulens.errors import ParameterError
from regulens.interventions.places import Component, all_components, as_components
from regulens.models.base import AbstractAdapter, Edits, Kernel, LayerAttention, TokenBatch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """Outputs of components in one run, and the tokens of that run.

    Parameters
    ----------
    batch
        Tokens that were run.
    values
        By component: the embedding and MLPs ``(cell, position, width)``, a head ``(cell, position, head_width)``.
        Values at padded positions mean nothing.
    model
        sha256 of the checkpoint.
    """

    batch: TokenBatch
    values: dict[Component, torch.Tensor]
    model: str

    def __getitem__(self, component: Component) -> torch.Tensor:
        """Return the output of a component; one that was not recorded is a `ParameterError`."""
        if component not in self.values:
            message = (
                f"Expected a recorded component, got {component}, which is not among the {len(self.values)} recorded. "
                "Name it in `record(…, components=…)`."
            )
            raise ParameterError(message)
        return self.values[component]


def checkpoint_of(adapter: AbstractAdapter) -> str:
    """sha256 of the checkpoint behind a model, intervened or not."""
    return getattr(adapter, "adapter", adapter).card.sha256


def record(
    adapter: AbstractAdapter,
    batch: TokenBatch,
    *,
    components: Component | Iterable[Component] | None = None,
    kernel: Kernel = "fused",
) -> Recording:
    """Run once and keep what components put out.

    Parameters
    ----------
    adapter
        A model, or an intervened one (`intervene`): its changed outputs are then recorded.
    batch
        Tokens, as `adapter` makes them.
    components
        What to keep; by default all. All of them take ``(1 + 2 n_layers) × width`` numbers per token.
    kernel
        See `regulens.models.kernel.attend`. Record and patch with the same kernel to get the same bits.

    Raises
    ------
    ParameterError
        On a component that the model does not have.
    """
    card = adapter.card
    wanted = frozenset(all_components(card) if components is None else as_components(components))
    for component in sorted(wanted):
        component.check(card)
    values: dict[Component, torch.Tensor] = {}
    by_layer: dict[int, list[Component]] = {}
    for component in sorted(wanted):
        if component.kind == "head":
            by_layer.setdefault(component.layer, []).append(component)

    # Copies: an adapter may go on to add to what it was given back.
    def embedding(x: torch.Tensor) -> torch.Tensor:
        if (here := Component("embedding")) in wanted:
            values[here] = x.clone()
        return x

    def head_output(layer: LayerAttention, out: torch.Tensor) -> torch.Tensor:
        for component in by_layer.get(layer.layer, ()):
            values[component] = out[:, component.head].clone()
        return out

    def mlp_output(layer: int, out: torch.Tensor) -> torch.Tensor:
        if (here := Component("mlp", layer)) in wanted:
            values[here] = out.clone()
        return out

    edits = Edits(embedding=embedding, head_output=head_output, mlp_output=mlp_output)
    adapter.forward(batch, kernel=kernel, edits=edits)
    absent = sorted(wanted - set(values))
    if absent:
        message = (
            f"Expected {card.name} to show the outputs of all its components, got none of {absent[0]}. Its forward "
            "pass ignores edits; see regulens.interventions.verify_interventions."
        )
        raise ParameterError(message)
    return Recording(batch=batch, values=values, model=checkpoint_of(adapter))
