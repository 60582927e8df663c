"""Which regulator → target pairs does a curated source list? `ReferenceNetwork`, collapsed to unique pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from regulens.errors import SchemaError
from regulens.provenance import digest_frame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceNetwork:
    """A curated regulator → target network, collapsed to unique pairs.

    Parameters
    ----------
    edges
        Columns ``source, target`` (symbols), ``sign`` (+1, −1, or 0 for unknown or contradictory) and
        ``evidence`` (a level or source, ``""`` when there is none). Unique pairs, no self-pairs, sorted.
    counts
        ``rows`` read, ``duplicates`` collapsed, ``contradictory_signs``, ``self_pairs`` removed, ``unmapped`` ids.
    """

    name: str
    edges: pd.DataFrame
    counts: dict[str, int] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        wanted = ["source", "target", "sign", "evidence"]
        if list(self.edges.columns) != wanted:
            message = f"Expected reference columns {wanted}, got {list(self.edges.columns)}."
            raise SchemaError(message)
        if self.edges.duplicated(["source", "target"]).any() or (self.edges["source"] == self.edges["target"]).any():
            message = "Expected unique pairs without self-pairs in a reference, got others. Use regulens.io.references."
            raise SchemaError(message)

    @property
    def digest(self) -> str:
        """Digest of the edges."""
        return digest_frame(self.edges)
