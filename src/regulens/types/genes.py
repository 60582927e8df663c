"""Genes as a fixed, ordered vocabulary, and the account of how input identifiers were mapped to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.errors import AlignmentError, NamespaceError, examples
from regulens.provenance import digest_strings


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneVocabulary:
    """Ordered unique genes: an approved symbol each, and an Ensembl id where one is known.

    Parameters
    ----------
    symbols
        Unique, non-empty; the identity of a gene inside regulens.
    ensembl
        Same length; unversioned id, or ``""`` where unknown. Unique where known.

    Raises
    ------
    NamespaceError
        On duplicates, empty symbols or unequal lengths.
    """

    symbols: tuple[str, ...]
    ensembl: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(str(s) for s in self.symbols))
        object.__setattr__(self, "ensembl", tuple(str(s) for s in self.ensembl))
        if len(self.symbols) != len(self.ensembl):
            message = f"Expected one Ensembl id per symbol, got {len(self.symbols)} and {len(self.ensembl)}."
            raise NamespaceError(message)
        for what, names in (("symbols", self.symbols), ("Ensembl ids", [e for e in self.ensembl if e])):
            if len(set(names)) != len(names) or (what == "symbols" and "" in names):
                seen: set[str] = set()
                repeated = sorted({n for n in names if n in seen or seen.add(n)})
                message = (
                    f"Expected unique, non-empty gene {what}, got {len(names) - len(set(names))} repeats "
                    f"({examples(repeated)}). Merge duplicated genes first."
                )
                raise NamespaceError(message)

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def digest(self) -> str:
        """Digest of symbols and ids, order included."""
        return digest_strings([*self.symbols, *self.ensembl])

    def index(self, symbols: list[str] | tuple[str, ...]) -> np.ndarray:
        """Positions of `symbols`, shape ``(n,)`` int64; −1 where unknown (the caller counts them)."""
        where = {s: i for i, s in enumerate(self.symbols)}
        return np.array([where.get(s, -1) for s in symbols], dtype=np.int64)

    def take(self, index: np.ndarray) -> GeneVocabulary:
        """Sub-vocabulary at `index`, in that order."""
        return GeneVocabulary(
            symbols=tuple(self.symbols[i] for i in index), ensembl=tuple(self.ensembl[i] for i in index)
        )


#: What can become of an input gene identifier.
GENE_STATUS = ("kept", "renamed", "merged", "unknown", "ambiguous", "duplicate", "unexpressed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneAlignment:
    """What became of every gene identifier that came in.

    Parameters
    ----------
    table
        One row per input identifier: ``input`` (as read), ``status`` (one of `GENE_STATUS`), ``symbol`` and
        ``ensembl`` (``""`` when lost), ``reason`` (words).
    """

    table: pd.DataFrame

    def __post_init__(self) -> None:
        wanted = ["input", "status", "symbol", "ensembl", "reason"]
        if list(self.table.columns) != wanted:
            message = f"Expected columns {wanted}, got {list(self.table.columns)}."
            raise AlignmentError(message)
        odd = sorted(set(self.table["status"]) - set(GENE_STATUS))
        if odd:
            message = f"Expected gene statuses among {GENE_STATUS}, got {odd}."
            raise AlignmentError(message)

    def counts(self) -> dict[str, int]:
        """Number of input identifiers per status, all statuses listed."""
        found = self.table["status"].value_counts()
        return {status: int(found.get(status, 0)) for status in GENE_STATUS}
