"""Does an adapter honour interventions? One row per property that must hold of any model; no published numbers needed.

An adapter that ignores edits, applies them one layer off, or lets them leak to other positions fails here. Every layer
is tried: a fault of one layer in twelve washes out at the last state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regulens.errors import ParameterError
from regulens.interventions.ablate import ablate_heads, ablate_mlp
from regulens.interventions.intervene import intervene
from regulens.interventions.intervention import NULL, Intervention
from regulens.interventions.patch import patch
from regulens.interventions.places import EMBEDDING, Component, all_components, head, mlp
from regulens.interventions.recording import record
from regulens.models.base import AbstractAdapter, Edits, LayerAttention, TokenBatch

if TYPE_CHECKING:
    import torch

#: Largest difference of states between two float32 routes, relative to the largest entry of the state.
TOLERANCE = 1e-4

#: A run unlike the clean one with the same tokens: the state that enters the first layer, rolled along the width.
DISTURBED = Intervention(
    name="disturbed", components=(EMBEDDING,), bind=lambda _: Edits(embedding=lambda x: x.roll(1, -1) + 0.5)
)


def verify_interventions(adapter: AbstractAdapter, batch: TokenBatch) -> pd.DataFrame:
    """Check that changes of a forward pass act where they should and nowhere else.

    Parameters
    ----------
    adapter, batch
        What to check on what; a batch of cells with different numbers of tokens tells most.

    Returns
    -------
    Columns ``name``, ``passed``, ``value``, ``tolerance``; a check passes when ``value <= tolerance``.

    =========================  =======================================================================================
    null_changes_nothing       largest difference of states without and with the null intervention: 0
    layers_shown_in_order      1 if edits are not called once per layer, in order
    before/…                   ablating a part changes the states before it: 0
    behind/…                   1 if ablating a part leaves the state behind it as it was
    only_there/…               patching a part at one position changes others behind it: 0
    heads_distinct/…           1 if ablating each head of a layer does not give as many different states
    embedding_restores         patching the embedding of a disturbed run gives other bits than the clean run: 0
    everything_restores        the same for all components: 0
    padding                    ablations change the states differently when the batch is padded wider
    =========================  =======================================================================================
    """
    clean = adapter.forward(batch)
    disturbed = intervene(adapter, DISTURBED)
    found = [
        ("null_changes_nothing", _difference(clean, intervene(adapter, NULL).forward(batch), batch), 0.0),
        ("layers_shown_in_order", _out_of_order(adapter, batch), 0.0),
    ]
    other = record(disturbed, batch) if found[1][1] == 0 else None
    n_layers, n_heads = adapter.card.n_layers, adapter.card.n_heads
    for layer in range(n_layers):
        singly = [intervene(adapter, ablate_heads([(layer, h)])).forward(batch) for h in range(n_heads)]
        whole = intervene(adapter, ablate_heads([(layer, h) for h in range(n_heads)])).forward(batch)
        without = intervene(adapter, ablate_mlp(layer)).forward(batch)
        for part, states in (("heads", whole), ("mlp", without)):
            name = f"L{layer:02d}_{part}"
            found.append((f"before/{name}", _difference(clean[: layer + 1], states[: layer + 1], batch), 0.0))
            found.append((f"behind/{name}", float(_difference(clean[layer + 1], states[layer + 1], batch) == 0), 0.0))
        different = {s[layer + 1].cpu().numpy()[batch.mask].tobytes() for s in (clean, *singly)}
        found.append((f"heads_distinct/L{layer:02d}", float(len(different) != n_heads + 1), 0.0))
        if other is not None:
            heads = tuple(head(layer, h) for h in range(n_heads))
            for part, components in (("heads", heads), ("mlp", (mlp(layer),))):
                patched = intervene(adapter, patch(components, other, positions=[0])).forward(batch)[layer + 1]
                found.append((f"only_there/L{layer:02d}_{part}", _elsewhere(clean[layer + 1], patched, batch), 0.0))
    found += [("embedding_restores", _restored(adapter, batch, (EMBEDDING,)), 0.0)]
    found += [("everything_restores", _restored(adapter, batch, all_components(adapter.card)), 0.0)]
    found += [("padding", _padding(adapter, batch), TOLERANCE)]
    table = pd.DataFrame(found, columns=["name", "value", "tolerance"])
    table.insert(1, "passed", table["value"] <= table["tolerance"])
    return table


def _difference(a: torch.Tensor | list, b: torch.Tensor | list, batch: TokenBatch) -> float:
    """Largest difference at real tokens of one state or of lists of states; infinite when their numbers differ."""
    if isinstance(a, list):
        return max((_difference(x, y, batch) for x, y in zip(a, b)), default=0.0) if len(a) == len(b) else np.inf
    return float(np.abs(a.double().cpu().numpy() - b.double().cpu().numpy())[batch.mask].max(initial=0.0))


def _elsewhere(a: torch.Tensor, b: torch.Tensor, batch: TokenBatch) -> float:
    mask = batch.mask.copy()
    mask[:, 0] = False
    return float(np.abs(a.double().cpu().numpy() - b.double().cpu().numpy())[mask].max(initial=0.0))


def _out_of_order(adapter: AbstractAdapter, batch: TokenBatch) -> float:
    seen: dict[str, list[int]] = {"embedding": [], "heads": [], "mlp": []}

    def embedding(x: torch.Tensor) -> torch.Tensor:
        seen["embedding"].append(-1)
        return x

    def head_output(layer: LayerAttention, out: torch.Tensor) -> torch.Tensor:
        seen["heads"].append(layer.layer)
        return out

    def mlp_output(layer: int, out: torch.Tensor) -> torch.Tensor:
        seen["mlp"].append(layer)
        return out

    adapter.forward(batch, edits=Edits(embedding=embedding, head_output=head_output, mlp_output=mlp_output))
    layers = list(range(adapter.card.n_layers))
    return float(seen != {"embedding": [-1], "heads": layers, "mlp": layers})


def _restored(adapter: AbstractAdapter, batch: TokenBatch, components: tuple[Component, ...]) -> float:
    """Largest difference between a clean run and a disturbed one in which components are patched back.

    Infinite when the disturbance itself cannot be seen or the components cannot be recorded.
    """
    clean = adapter.forward(batch)
    if _difference(clean[-1], intervene(adapter, DISTURBED).forward(batch)[-1], batch) == 0:
        return np.inf
    try:
        source = record(adapter, batch, components=components)
    except ParameterError:
        return np.inf
    return _difference(clean, intervene(adapter, DISTURBED, patch(components, source)).forward(batch), batch)


def _padding(adapter: AbstractAdapter, batch: TokenBatch) -> float:
    """Largest difference at real tokens, relative to the state, after three more padded positions."""
    by = ((0, 0), (0, 3))
    wide = replace(
        batch,
        tokens=np.pad(batch.tokens, by),
        values=None if batch.values is None else np.pad(batch.values, by),
        gene=np.pad(batch.gene, by, constant_values=-1),
        mask=np.pad(batch.mask, by),
    )
    middle = adapter.card.n_layers // 2
    changed = intervene(adapter, ablate_heads([(middle, 0)], how="uniform"), ablate_mlp(middle))
    narrow = changed.forward(batch)[-1]
    cut = changed.forward(wide)[-1][:, : narrow.shape[1]]
    return _difference(narrow, cut, batch) / max(float(narrow.abs().max()), 1e-30)
