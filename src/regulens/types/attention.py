"""Attention as the model has it ([query, key]) and as the store keeps it (sums and co-presence per partition).

`Direction` is the one place where a map [query, key] becomes an edge regulator → target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from regulens.errors import AlignmentError, ParameterError


class Direction(StrEnum):
    """Which of the two tokens of a pair is the query.

    ``regulator_attends``: edge (r → t) takes A[query=r, key=t]; ``target_attends``: it takes A[query=t, key=r].
    """

    REGULATOR_ATTENDS = "regulator_attends"
    TARGET_ATTENDS = "target_attends"

    @property
    def axis(self) -> int:
        """Position on the direction axis of the store."""
        return 0 if self is Direction.REGULATOR_ATTENDS else 1


def edges_from_map(
    weights: np.ndarray, direction: Direction, regulators: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Read edges regulator → target out of a full map [query, key].

    Parameters
    ----------
    weights
        Shape ``(..., query, key)``.
    direction
        Which of the two tokens is the query.
    regulators, targets
        Positions in the sequence.

    Returns
    -------
    Shape ``(..., regulator, target)``.

    Examples
    --------
    >>> A = np.array([[0.0, 1.0], [0.2, 0.8]])
    >>> edges_from_map(A, Direction.REGULATOR_ATTENDS, np.array([0]), np.array([1])).item()
    1.0
    >>> edges_from_map(A, Direction.TARGET_ATTENDS, np.array([0]), np.array([1])).item()
    0.2
    """
    if direction is Direction.REGULATOR_ATTENDS:
        return weights[..., regulators[:, None], targets[None, :]]
    return np.swapaxes(weights[..., targets[:, None], regulators[None, :]], -1, -2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Who a model is: identity by digest, dimensions from the weights, labels for the report.

    Parameters
    ----------
    name
        Short, unique within a run; appears in tables.
    demonstration
        True for the small models that regulens trains itself; the report says so wherever the name appears.
    """

    name: str
    family: str
    spec: str
    n_layers: int
    n_heads: int
    width: int
    vocabulary_size: int
    max_length: int
    n_parameters: int
    sha256: str
    namespace: str
    tokenisation: str
    normalisation: str
    activation: str
    special_tokens: tuple[str, ...] = ()
    causal: bool = False
    demonstration: bool = False
    licence: str = ""
    notes: tuple[str, ...] = ()

    def label(self) -> str:
        """Name as printed, with the mark of a demonstration model."""
        return f"{self.name} (small demonstration model)" if self.demonstration else self.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionSummary:
    """Sums of attention and co-presence counts per partition of cells; everything later is a merge of these.

    Parameters
    ----------
    sums
        Array-like (numpy, or zarr on disk), float64 or float32, shape
        ``(partition, layer, head, direction, regulator, target)``; direction axis as in `Direction.axis`.
        The diagonal (regulator = target) is 0 and never observed.
    counts
        Array-like, int32, shape ``(partition, regulator, target)``: cells of the partition in which both genes
        were tokens (the same for both directions, all layers and all heads). 0 on the diagonal.
    partitions
        One row per partition: ``partition`` (id), one column per role (``all`` where not divided by), ``block``,
        ``n_cells``.
    genes, regulators
        Symbols of the target and regulator axes.
    kind
        What was summed: ``"probability"``.
    cell_partition
        Row of `partitions` that every cell belongs to, int64, shape ``(cell,)`` in the order of the cells; -1 for a
        cell that was left out. None where a store was opened without its cells.
    """

    sums: Any
    counts: Any
    partitions: pd.DataFrame
    genes: tuple[str, ...]
    regulators: tuple[str, ...]
    card: ModelCard
    kind: str = "probability"
    digest: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    cell_partition: np.ndarray | None = None

    def __post_init__(self) -> None:
        p, r, t = len(self.partitions), len(self.regulators), len(self.genes)
        wanted = (p, self.card.n_layers, self.card.n_heads, 2, r, t)
        if tuple(self.sums.shape) != wanted or tuple(self.counts.shape) != (p, r, t):
            message = (
                f"Expected sums of shape (partition, layer, head, direction, regulator, target) = {wanted} and "
                f"counts {(p, r, t)}, got {tuple(self.sums.shape)} and {tuple(self.counts.shape)}."
            )
            raise AlignmentError(message)

    @property
    def n_layers(self) -> int:
        """Number of attention layers."""
        return self.card.n_layers

    @property
    def n_heads(self) -> int:
        """Heads per layer."""
        return self.card.n_heads

    def pair_counts(self, partitions: Sequence[int] | None = None) -> np.ndarray:
        """Cells in which both genes were tokens, int64, shape ``(regulator, target)``, over the partitions."""
        index = range(len(self.partitions)) if partitions is None else partitions
        total = np.zeros((len(self.regulators), len(self.genes)), dtype=np.int64)
        for p in index:
            total += np.asarray(self.counts[p])
        return total

    def layer_sums(self, layer: int, direction: Direction, partitions: Sequence[int] | None = None) -> np.ndarray:
        """Summed attention of one layer, float64, shape ``(head, regulator, target)``, over the partitions."""
        if not 0 <= layer < self.n_layers:
            message = f"Expected a layer in [0, {self.n_layers - 1}], got {layer}. Layers count from zero."
            raise ParameterError(message)
        index = range(len(self.partitions)) if partitions is None else partitions
        total = np.zeros((self.n_heads, len(self.regulators), len(self.genes)), dtype=np.float64)
        for p in index:
            total += np.asarray(self.sums[p, layer, :, direction.axis], dtype=np.float64)
        return total
