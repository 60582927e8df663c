"""How are interventions applied and their effects read? `intervene` gives a model that can stand in for the original.

Nothing is attached to the original model: an `Intervened` adapter hands its changes to every forward pass of it. It
tokenises, runs and lets attention out like any other adapter, so that whatever takes a model takes an intervened one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from regulens.errors import ParameterError
from regulens.interventions.intervention import Intervention, chain
from regulens.interventions.places import Place
from regulens.interventions.readout import Readout, Run
from regulens.interventions.tokens import EditedBatch
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, LayerAttention, Tap, TokenBatch
from regulens.provenance import digest_of
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

if TYPE_CHECKING:
    import torch


class Intervened(AbstractAdapter):
    """A model under interventions; made by `intervene`, closed at the end of a ``with`` block.

    Parameters
    ----------
    adapter
        The model; it stays as it is.
    interventions
        In the order in which they act.
    """

    def __init__(self, adapter: AbstractAdapter, interventions: tuple[Intervention, ...]) -> None:
        self.adapter, self.interventions = adapter, interventions
        self.every_gene, self.fixed_length = adapter.every_gene, adapter.fixed_length
        self.one_token_per_gene = adapter.one_token_per_gene
        self._token_edits = tuple(i for i in interventions if i.tokens is not None)
        self._open = True

    def __enter__(self) -> Intervened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False

    def __reduce__(self) -> Any:
        message = (
            f"Expected a model that can be sent to other processes, got one under interventions ({self.name}). "
            "Work in this process (jobs=1)."
        )
        raise ParameterError(message)

    @cached_property
    def card(self) -> ModelCard:
        """The model's card; under interventions with another name and digest, since it gives other numbers."""
        card = self.adapter.card
        if not self.interventions:
            return card
        return replace(
            card,
            name=f"{card.name} ({self.name})",
            sha256=digest_of(card.sha256, [i.digest for i in self.interventions]),
            notes=(*card.notes, f"under interventions: {self.name}; checkpoint {card.sha256}"),
        )

    @property
    def name(self) -> str:
        """Words for tables: all interventions, in order."""
        return "; ".join(i.name for i in self.interventions) or "none"

    @property
    def last_place(self) -> Place | None:
        """Last place that is changed: read-outs must lie behind it. None when nothing is changed."""
        return max((p for i in self.interventions for p in i.places), default=None)

    @property
    def module(self) -> Any:
        """The network of the model, without the changes."""
        return self.adapter.module

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """As the model has them."""
        return self.adapter.gene_tokens(genes)

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """As the model has them."""
        return self.adapter.gene_embeddings()

    def output_projection(self, layer: int) -> torch.Tensor | None:
        """As the model has it."""
        return self.adapter.output_projection(layer)

    def expected_tokens(self, genes: GeneVocabulary, detected: np.ndarray) -> np.ndarray:
        """As the model expects them."""
        return self.adapter.expected_tokens(genes, detected)

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """As the model makes them: interventions change states and outputs of heads, not queries and keys."""
        return self.adapter.query_key(layer, x)

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Tokens of the model, with the changes of the input made."""
        return self.edit(self.adapter.tokenize(cells, rows, seed=seed))

    def edit(self, batch: TokenBatch) -> TokenBatch:
        """Make the changes of the input, unless the batch already has them."""
        if self._has_edits(batch):
            return batch
        if isinstance(batch, EditedBatch):
            message = (
                f"Expected tokens of the unchanged cells, got tokens changed by {'; '.join(i.name for i in batch.by)}. "
                "Tokenise the cells again, or give all interventions to one call of intervene."
            )
            raise ParameterError(message)
        for intervention in self._token_edits:
            batch = intervention.tokens(self.adapter, batch)
        return EditedBatch(
            tokens=batch.tokens, values=batch.values, gene=batch.gene, mask=batch.mask, cell=batch.cell,
            by=self._token_edits,
        )  # fmt: skip

    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run with the changes; `edits` of the caller act after them.

        Raises
        ------
        ParameterError
            When the ``with`` block is over, or changes of the input have not been made in `batch`: they may move
            tokens, so the caller has to have the changed batch in hand (`tokenize`, `edit`).
        """
        if not self._open:
            message = f"Expected an open intervention, got '{self.name}' after its with block. Call intervene again."
            raise ParameterError(message)
        if not self._has_edits(batch):
            message = (
                f"Expected tokens with the changes of the input made ({self.name}), got others. Make them with "
                "tokenize or edit of the intervened model."
            )
            raise ParameterError(message)
        own = [i.bind(batch) for i in self.interventions if i.bind is not None]
        return self.adapter.forward(batch, tap=tap, kernel=kernel, edits=chain([*own, edits]))

    def read(self, batch: TokenBatch, *readouts: Readout, kernel: Kernel = "fused") -> tuple[np.ndarray, ...]:
        """Run once and measure.

        Parameters
        ----------
        batch
            Tokens as the unchanged model makes them, or as `tokenize` and `edit` do.
        readouts
            What to measure; see `regulens.interventions.readout`.

        Returns
        -------
        One array per read-out, in the order asked.

        Raises
        ------
        ParameterError
            When a read-out does not lie strictly behind everything that is changed, or the model cannot answer it.
            Nothing is run in that case.
        """
        last = self.last_place
        for readout in readouts:
            readout.check(self.adapter)
            place = readout.place(self.adapter.card)
            if last is not None and not place > last:
                raise ParameterError(self._too_early(readout, place, last))
        batch = self.edit(batch)
        wanted = {r.layer for r in readouts if r.layer >= 0}
        kept: dict[int, LayerAttention] = {}

        def tap(layer: LayerAttention) -> None:
            if layer.layer in wanted:
                kept[layer.layer] = layer

        states = self.forward(batch, tap=tap if wanted else None, kernel=kernel)
        run = Run(adapter=self.adapter, batch=batch, states=states, attention=kept)
        return tuple(readout.function(run) for readout in readouts)

    def _too_early(self, readout: Readout, place: Place, last: Place) -> str:
        guilty = next(i for i in self.interventions if last in i.places)
        return (
            f"Expected a read-out behind {last}, which '{guilty.name}' changes, got {readout.name} at {place}: it "
            "cannot see the change. Read something that is computed later: the state of that layer, or attention and "
            "states of later ones."
        )

    def _has_edits(self, batch: TokenBatch) -> bool:
        """Whether the batch can be run as it is; without changes of the input, any batch can."""
        return not self._token_edits or (isinstance(batch, EditedBatch) and batch.by == self._token_edits)


def intervene(adapter: AbstractAdapter, *interventions: Intervention) -> Intervened:
    """Put a model under interventions.

    Parameters
    ----------
    adapter
        A model, or an intervened one, whose interventions then act first.
    interventions
        In the order in which they act; none is the null intervention and changes no bit.

    Returns
    -------
    An adapter. Used in a ``with`` block it refuses to run after the block; used as a value it stays open.

    Raises
    ------
    ParameterError
        When the model lacks a layer or head, or recorded values come from another checkpoint.

    Examples
    --------
    >>> from regulens import models
    >>> from regulens.interventions import ablate_heads, cell_embedding
    >>> from regulens.models.base import TokenBatch
    >>> model = models.load("bundled:scgpt-mini")
    >>> batch = TokenBatch(tokens=np.array([[5, 6, 7]]), values=np.float32([[1, 2, 3]]), gene=np.array([[0, 1, 2]]),
    ...                    mask=np.ones((1, 3), dtype=bool), cell=np.array([0]))
    >>> (plain,) = intervene(model).read(batch, cell_embedding("mean"))
    >>> with intervene(model, ablate_heads([(0, 1)])) as changed:
    ...     (ablated,) = changed.read(batch, cell_embedding("mean"))
    >>> plain.shape == ablated.shape, bool((plain == ablated).any())
    (True, False)
    """
    before: tuple[Intervention, ...] = ()
    if isinstance(adapter, Intervened):
        adapter, before = adapter.adapter, adapter.interventions
    for intervention in interventions:
        intervention.check(adapter.card)
    return Intervened(adapter, (*before, *interventions))
