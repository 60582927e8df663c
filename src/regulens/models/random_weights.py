"""What would a model of the same shape say that has learned nothing? The same architecture with weights drawn anew.

Tokens, genes, layers, heads and the size of the weights stay; what training wrote into them goes. A number that such a
model reaches as well comes from the architecture, the tokens or the genes, not from what was learned.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from regulens.errors import ModelError
from regulens.provenance import digest_strings
from regulens.rng import stream

if TYPE_CHECKING:
    from regulens.models.base import AbstractAdapter


def with_random_weights(adapter: AbstractAdapter, *, seed: int) -> AbstractAdapter:
    """A copy of a loaded model whose weights are drawn anew; the model given is left alone.

    Every weight tensor of two or more dimensions gets normal entries with mean 0 and the standard deviation of its own
    trained entries, so that activations keep their size; rows of zeros (padding) stay zero. Vectors (biases, scales of
    norms) keep their entries in random order. Fixed tables that are no parameters (sinusoids, masks, embeddings that
    come with the checkpoint as data) are not touched.

    Parameters
    ----------
    adapter
        Any family with attention.
    seed
        Of the stream ``models/random_weights/<name of the tensor>``: a tensor's draw depends on its name and this only.

    Raises
    ------
    ModelError
        A model without attention, or without trainable weights.
    """
    from regulens.models.base import AbstractAdapter as Base

    if not isinstance(adapter, Base):
        message = (
            f"Expected a model with attention to draw weights for, got {type(adapter).__name__}. Its scores come from "
            "its weights alone, and of random weights they would be random; use the score 'random'."
        )
        raise ModelError(message)
    made = copy.deepcopy(adapter)
    parameters = list(made.module.named_parameters())  # tied tensors are named once
    if not parameters:
        message = f"Expected trainable weights in {adapter.card.name}, found none. Nothing can be drawn anew."
        raise ModelError(message)
    with torch.no_grad():
        for name, tensor in parameters:
            rng = stream(seed, f"models/random_weights/{name}")
            values = tensor.detach().cpu().double().numpy()
            if values.ndim < 2:
                drawn = rng.permutation(values.ravel()).reshape(values.shape)
            else:
                drawn = rng.standard_normal(values.shape) * values.std()
                drawn[~values.reshape(len(values), -1).any(axis=1)] = 0.0
            tensor.copy_(torch.from_numpy(np.asarray(drawn)).to(tensor))
    made.card = replace(
        adapter.card,
        sha256=digest_strings((adapter.card.sha256, "random weights", str(seed))),
        notes=(*adapter.card.notes, f"weights drawn at random (seed {seed}): a null, not the published model"),
    )
    return made
