"""What regulens needs of a model: `AbstractAdapter`, the tokens it makes, and the tap through which attention leaves.

One adapter is one file that can be read alone: layout, tokenisation, forward pass. The forward pass is ours
(plain PyTorch on the published tensors); attention goes through `regulens.models.kernel`, so that a tap sees the
query, key and row log-sum-exp of every layer without the attention matrix ever being formed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regulens.errors import AlignmentError
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

if TYPE_CHECKING:
    import torch

#: ``fused``: exact attention through the fused kernel and its log-sum-exp; ``plain``: explicit softmax, for checks;
#: ``chunked``: explicit softmax by blocks of queries, for checks of sequences whose map would not fit.
Kernel = Literal["fused", "plain", "chunked"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenBatch:
    """Tokens of some cells, right-padded.

    Parameters
    ----------
    tokens
        Int64, shape ``(cell, position)``; vocabulary ids of the model.
    values
        Float32, same shape, or None for models without values.
    gene
        Int64, same shape: column of the gene in the `Cells` that were tokenised, −1 at special tokens and padding.
        A gene may have several tokens (word pieces, sampled sentences); they are pooled, see
        `regulens.attention.accumulate`.
    mask
        Bool, same shape; True at real tokens (special ones included), False at padding.
    cell
        Int64, shape ``(cell,)``: row of each cell in the `Cells` that were tokenised.
    """

    tokens: np.ndarray
    values: np.ndarray | None
    gene: np.ndarray
    mask: np.ndarray
    cell: np.ndarray

    def __post_init__(self) -> None:
        shape = self.tokens.shape
        if self.gene.shape != shape or self.mask.shape != shape or len(self.cell) != shape[0]:
            message = (
                f"Expected tokens, gene and mask of one shape (cell, position), got {shape}, {self.gene.shape}, "
                f"{self.mask.shape}, and {len(self.cell)} cells."
            )
            raise AlignmentError(message)
        if self.values is not None and self.values.shape != shape:
            message = f"Expected values of shape {shape}, got {self.values.shape}."
            raise AlignmentError(message)
        if (self.gene[~self.mask] != -1).any():
            message = "Expected no gene at padded positions, got some."
            raise AlignmentError(message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerAttention:
    """What one layer's attention was made of; enough to recompute any block of the map.

    ``A[q, k] = exp(q·k·scale + key_bias[k] − lse[q])``; exactly zero at masked keys and, when causal, at keys after
    the query.

    Parameters
    ----------
    layer
        Zero-based.
    q, k, v
        Tensors, shape ``(cell, head, position, head_width)``.
    lse
        Row log-sum-exp over unmasked keys, shape ``(cell, head, position)``, float32 or better.
    scale
        Factor of the logits, usually ``1/sqrt(head_width)``.
    key_mask
        Bool, shape ``(cell, position)``, True at keys that may be attended to; None when none is masked.
    probabilities
        Full maps, shape ``(cell, head, query, key)``; only with ``kernel="plain"``.
    causal
        A query sees the keys up to its own position only.
    key_bias
        Finite, shape ``(cell, position)``: added to the logits of a key, for all queries and heads; None for none.
    """

    layer: int
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    lse: torch.Tensor
    scale: float
    key_mask: torch.Tensor | None
    probabilities: torch.Tensor | None = None
    causal: bool = False
    key_bias: torch.Tensor | None = None


#: Called once per layer, in order, while the forward pass runs. Must not change what it is given. It may raise, to end
#: a pass whose later layers nobody needs.
Tap = Callable[[LayerAttention], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edits:
    """Changes made to a forward pass while it runs; None leaves that place exactly as it is.

    Parameters
    ----------
    embedding
        State that enters the first layer, shape ``(cell, position, width)`` → the same shape.
    head_output
        What a layer's heads read, before the output projection: `LayerAttention` and a tensor of shape
        ``(cell, head, position, head_width)`` → the same shape.
    mlp_output
        Zero-based layer and the output of its feed-forward part, before it is added to the residual, shape
        ``(cell, position, width)`` → the same shape.
    """

    embedding: Callable[[torch.Tensor], torch.Tensor] | None = None
    head_output: Callable[[LayerAttention, torch.Tensor], torch.Tensor] | None = None
    mlp_output: Callable[[int, torch.Tensor], torch.Tensor] | None = None


#: A forward pass as it is.
NO_EDITS = Edits()


class AbstractAdapter(ABC):
    """A loaded model: tokenises cells, runs, and lets attention out through a tap.

    Subclasses are final: they override the abstract methods and nothing else.
    """

    #: Filled by the loader; identity and dimensions.
    card: ModelCard

    #: Whether every gene of the model's own list is a token of every cell, also with a count of zero.
    every_gene: bool = False

    #: Whether a cell has about as many tokens as the card allows, whatever it expresses; batches are sized by it.
    fixed_length: bool = False

    #: Whether every token of a cell is the only token of its gene or one of the card's special tokens. False where
    #: genes repeat or are spelled in pieces, or where other tokens vary in number; token counts are not checked then.
    one_token_per_gene: bool = True

    @abstractmethod
    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Vocabulary id of every gene, int64, shape ``(gene,)``; −1 where the model does not know the gene."""

    @abstractmethod
    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Tokens of the cells at `rows`, exactly as upstream makes them; random choices from per-cell streams.

        The result for a cell depends on that cell, the model and `seed` only, not on the other rows. The cells have
        their counts in memory (`Cells.load`); extraction hands over those of one batch.
        """

    @abstractmethod
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode without gradients.

        Parameters
        ----------
        tap
            Sees every layer's attention; the hidden states do not depend on it.
        edits
            Changes to make on the way; without any, the same bits as without the argument.

        Returns
        -------
        Hidden states after the embedding and after every layer, ``n_layers + 1`` tensors of shape
        ``(cell, position, width)``.
        """

    @abstractmethod
    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names in the model's own vocabulary (genes only) and their input embeddings, shape ``(gene, width)``."""

    def output_projection(self, layer: int) -> torch.Tensor | None:
        """Weight that writes what a layer's heads read into the residual, as ``torch.nn.Linear`` keeps it.

        Shape ``(width, head * head_width)``, heads in the order of `LayerAttention`; None, the default, where the
        model has no such weight or the adapter does not expose it.
        """
        return None

    def expected_tokens(self, genes: GeneVocabulary, detected: np.ndarray) -> np.ndarray:
        """About how many tokens a cell has in which so many genes known to the model were detected.

        Batches are filled, and memory is planned, by it; it changes no token.

        Parameters
        ----------
        genes
            Of the cells.
        detected
            Int64, shape ``(cell,)``.

        Returns
        -------
        Int64, same shape, at most ``card.max_length``; 0 where no known gene was detected. By default one token a gene,
        or ``card.max_length`` for a model that reads as many in every cell.
        """
        longest = self.card.max_length
        if self.every_gene or self.fixed_length:
            return np.where(detected > 0, longest, 0)
        return np.minimum(detected, longest)

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Query and key that a layer makes of the state that enters it, with its norm and its biases.

        Parameters
        ----------
        x
            Shape ``(cell, position, width)``, as `forward` returns it for the state before the layer.

        Returns
        -------
        Two tensors of shape ``(cell, head, position, head_width)``, those of `LayerAttention`. None, the default, where
        the adapter does not say, or where they depend on more than the state (rotary positions).
        """
        return None

    @property
    @abstractmethod
    def module(self) -> Any:
        """The underlying ``torch.nn.Module`` (parameters, training, state dict)."""
