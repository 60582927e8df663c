"""What is an intervention, and in which order do several of them act?

An `Intervention` says what it changes and hands over the changes once it sees the batch. Several act in the order in
which they are given, each on what the one before it left; changes of tokens come first in any case, since the tokens
come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from regulens.errors import ParameterError
from regulens.interventions.places import TOKENS, Component, Place
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, TokenBatch
from regulens.provenance import digest_of

if TYPE_CHECKING:
    from regulens.types.attention import ModelCard

#: Makes the tokens of a changed input out of the tokens of the input.
TokenEdit = Callable[[AbstractAdapter, TokenBatch], TokenBatch]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Intervention:
    """A change to a model or to its input, as a value: it does nothing until `intervene` applies it.

    Parameters
    ----------
    name
        Short words for tables and messages.
    components
        Parts of the model that are changed; empty for changes of tokens and for the null intervention.
    bind
        Changes for one batch; None when no part of the model is changed.
    tokens
        Change of the input; None when the input stays.
    model
        sha256 of the checkpoint that recorded values come from, or an empty string when none are used.
    values
        Digest of the values that are put in, where the name does not say them; computed when asked.
    """

    name: str
    components: tuple[Component, ...] = ()
    bind: Callable[[TokenBatch], Edits] | None = None
    tokens: TokenEdit | None = None
    model: str = ""
    values: Callable[[], str] | None = None

    @property
    def digest(self) -> str:
        """Digest of what decides the numbers: name, components, values."""
        found = "" if self.values is None else self.values()
        return digest_of(self.name, [str(c) for c in self.components], self.model, found)

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything that is changed, in the order of computation."""
        found = {c.place for c in self.components} | ({TOKENS} if self.tokens is not None else set())
        return tuple(sorted(found))

    def check(self, card: ModelCard) -> None:
        """Refuse layers and heads that the model lacks, and values recorded from another checkpoint."""
        for component in self.components:
            component.check(card)
        if self.model and self.model != card.sha256:
            message = (
                f"Expected values recorded from {card.name} (sha256 {card.sha256[:12]}…) for '{self.name}', got values "
                f"of another checkpoint ({self.model[:12]}…). Record them with this model."
            )
            raise ParameterError(message)


def _then(first: Callable | None, second: Callable | None, value: int) -> Callable | None:
    """Call one, then the other on what it returned; `value` is the position of that argument."""
    if first is None or second is None:
        return second if first is None else first

    def both(*given: Any) -> Any:
        changed = first(*given)
        return second(*given[:value], changed)

    return both


def chain(edits: Iterable[Edits]) -> Edits:
    """Several changes as one, in the order given; none gives `NO_EDITS` itself.

    Examples
    --------
    >>> both = chain([Edits(embedding=lambda x: x + 1), Edits(embedding=lambda x: x * 10)])
    >>> both.embedding(1), both.mlp_output is None
    (20, True)
    >>> chain([]) is NO_EDITS
    True
    """

    def join(a: Edits, b: Edits) -> Edits:
        return Edits(
            embedding=_then(a.embedding, b.embedding, 0),
            head_output=_then(a.head_output, b.head_output, 1),
            mlp_output=_then(a.mlp_output, b.mlp_output, 1),
        )

    edits = [e for e in edits if e is not NO_EDITS]
    return reduce(join, edits) if edits else NO_EDITS


#: The intervention that changes nothing.
NULL = Intervention(name="null")
