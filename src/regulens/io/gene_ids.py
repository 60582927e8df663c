"""Which gene does an identifier mean? Approved symbol first, then previous symbols, then aliases; all is counted."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import pandas as pd

from regulens.errors import NamespaceError, ParameterError, examples
from regulens.types.genes import GeneAlignment, GeneVocabulary

#: What to do when two identifiers mean one gene.
Duplicates = Literal["refuse", "sum"]

_ENSEMBL = re.compile(r"^(ENSG\d{11})(\.\d+)?(_PAR_Y)?$")
_OTHER_SPECIES = re.compile(r"^ENS[A-Z]{3}G\d{11}(\.\d+)?$")
_TITLE_CASE = re.compile(r"^[A-Z][a-z][a-z0-9]*[A-Za-z0-9-]*$")
_UPPER_ORF = re.compile(r"^C(\d+|X|Y)ORF(\d+)$")

#: "NA" was a symbol of XK and "NaN" is an alias, but in a file they stand for a gap far more often than for a gene.
_NOT_NAMES = frozenset({"", "NA", "NaN"})

#: Rank of a match: the lower one wins when two identifiers mean one gene.
_RANK = {"approved": 0, "ensembl": 0, "previous": 1, "alias": 2, "unknown": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneMatch:
    """What one identifier means.

    ``how`` is one of ``approved``, ``ensembl``, ``previous``, ``alias``, ``unknown``, ``ambiguous``. An unknown
    identifier stands for itself; an ambiguous one has no symbol.
    """

    symbol: str
    ensembl: str
    how: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneMap:
    """Table of approved human symbols with Ensembl ids, previous symbols and aliases.

    Parameters
    ----------
    ensembl
        Approved symbol to unversioned Ensembl id (``""`` where there is none).
    previous, alias
        Old symbol or alias to the approved symbols that carry it; more than one makes it ambiguous.
    name
        Words for messages and reports.

    Examples
    --------
    >>> genes = GeneMap.bundled()
    >>> genes.resolve("SEPT9").symbol, genes.resolve("ENSG00000141510.18").symbol
    ('SEPTIN9', 'TP53')
    >>> genes.resolve("RP11-34P13.7").how
    'unknown'
    """

    ensembl: Mapping[str, str]
    previous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alias: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = "gene table"
    by_ensembl: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_ensembl", {e: s for s, e in self.ensembl.items() if e})

    @classmethod
    def bundled(cls) -> GeneMap:
        """The table that comes with regulens (HGNC, approved entries); read once."""
        return _bundled()

    @classmethod
    def empty(cls) -> GeneMap:
        """A table that knows no gene: every identifier stands for itself."""
        return cls(ensembl={}, name="no gene table")

    @property
    def table(self) -> pd.DataFrame:
        """Approved symbols and Ensembl ids, columns ``symbol, ensembl``, in the order of the table."""
        return pd.DataFrame({"symbol": list(self.ensembl), "ensembl": list(self.ensembl.values())})

    def resolve(self, identifier: str) -> GeneMatch:
        """What `identifier` means; spaces at its ends are ignored."""
        name = str(identifier).strip()
        if found := _ENSEMBL.match(name):
            bare, version, par = found.groups()
            words = "version suffix removed" if version or par else ""
            symbol = self.by_ensembl.get(bare)
            if symbol is None:
                reason = "; ".join(w for w in ("Ensembl id not in the bundled table", words) if w)
                return GeneMatch(symbol=bare, ensembl=bare, how="unknown", reason=reason)
            return GeneMatch(symbol=symbol, ensembl=bare, how="ensembl", reason=words)
        if name in self.ensembl:
            return GeneMatch(symbol=name, ensembl=self.ensembl[name], how="approved", reason="")
        for how, table in (("previous", self.previous), ("alias", self.alias)):
            owners = table.get(name, ())
            if len(owners) == 1:
                words = "previous symbol" if how == "previous" else "alias"
                reason = f"{words} of {owners[0]}"
                return GeneMatch(symbol=owners[0], ensembl=self.ensembl[owners[0]], how=how, reason=reason)
            if len(owners) > 1:
                reason = f"{how} symbol of {examples(owners, limit=4)}"
                return GeneMatch(symbol="", ensembl="", how="ambiguous", reason=reason)
        # Tools that upper-case symbols turn C20orf24 into C20ORF24; nothing else in the table has lower case.
        if orf := _UPPER_ORF.match(name):
            spelled = self.resolve(f"C{orf[1]}orf{orf[2]}")
            if spelled.how not in ("unknown", "ambiguous"):
                how = "previous" if spelled.how == "approved" else spelled.how
                return GeneMatch(symbol=spelled.symbol, ensembl=spelled.ensembl, how=how, reason="letter case")
        return GeneMatch(symbol=name, ensembl="", how="unknown", reason="not in the bundled table")


@cache
def _bundled() -> GeneMap:
    path = resources.files("regulens") / "data" / "genes_human.tsv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()[1:]
    ensembl: dict[str, str] = {}
    previous: dict[str, list[str]] = defaultdict(list)
    alias: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        symbol, identifier, old, other = line.split("\t")
        ensembl[symbol] = identifier
        for names, table in ((old, previous), (other, alias)):
            for name in names.split("|"):
                if name not in _NOT_NAMES:
                    table[name].append(symbol)
    return GeneMap(
        ensembl=ensembl,
        previous={k: tuple(v) for k, v in previous.items()},
        alias={k: tuple(v) for k, v in alias.items()},
        name="bundled human gene table (HGNC)",
    )


def align_genes(
    ids: Sequence[str], gene_map: GeneMap | None = None, *, duplicates: Duplicates = "refuse"
) -> tuple[GeneVocabulary, np.ndarray, GeneAlignment]:
    """Map input identifiers to genes, one column each.

    Identifiers that the table does not know stay usable under their own name. When two different identifiers mean
    one gene, ``duplicates="refuse"`` keeps the better match (approved symbol or Ensembl id before previous symbol
    before alias, then the first of equals) and gives up the others, which are counted as ``duplicate``: an alias beside
    its approved symbol is often another gene's old name, so that adding it up unasked could mix two genes.
    ``"sum"`` adds them and counts them as ``merged``.

    Parameters
    ----------
    ids
        Symbols or Ensembl ids, with or without version, shape ``(input,)``.

    Returns
    -------
    genes
        Vocabulary in the order of first appearance.
    column
        Int64, shape ``(input,)``: gene of each input, −1 where it was given up.
    alignment
        One row per input.

    Raises
    ------
    NamespaceError
        On an identifier that occurs twice letter for letter (with ``"refuse"``), on empty identifiers, or when the
        genes are not human.

    Examples
    --------
    >>> genes, column, alignment = align_genes(["SEPT9", "TP53", "SEPTIN9"])
    >>> genes.symbols, column.tolist()
    (('TP53', 'SEPTIN9'), [-1, 0, 1])
    """
    if duplicates not in ("refuse", "sum"):
        message = f"Expected duplicates to be 'refuse' or 'sum', got '{duplicates}'."
        raise ParameterError(message)
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    names = [str(i).strip() for i in ids]
    check_ids(names, gene_map, duplicates=duplicates)
    matches = [gene_map.resolve(n) for n in names]
    best: dict[str, int] = {}
    for i, m in enumerate(matches):
        if m.symbol and (m.symbol not in best or _RANK[m.how] < _RANK[matches[best[m.symbol]].how]):
            best[m.symbol] = i
    order = [m.symbol for i, m in enumerate(matches) if m.symbol and best[m.symbol] == i]
    position = {s: p for p, s in enumerate(order)}
    shared: dict[str, int] = defaultdict(int)
    for m in matches:
        shared[m.symbol] += 1
    column = np.full(len(names), -1, dtype=np.int64)
    rows = []
    for i, (raw, m) in enumerate(zip(ids, matches)):
        keeper = m.symbol and best[m.symbol] == i
        status, reason, symbol = _status(m), m.reason, m.symbol
        if m.symbol and shared[m.symbol] > 1 and duplicates == "sum":
            status, reason = "merged", "; ".join(w for w in (m.reason, f"summed into {m.symbol}") if w)
        elif m.symbol and not keeper:
            other = names[best[m.symbol]]
            status, symbol = "duplicate", ""
            reason = "; ".join(w for w in (m.reason, f"{other} stands for {m.symbol} already") if w)
        if symbol:
            column[i] = position[symbol]
        rows.append((str(raw), status, symbol, m.ensembl if symbol else "", reason))
    table = pd.DataFrame(rows, columns=["input", "status", "symbol", "ensembl", "reason"])
    ensembl = [gene_map.ensembl.get(s) or matches[best[s]].ensembl for s in order]
    return GeneVocabulary(symbols=tuple(order), ensembl=tuple(ensembl)), column, GeneAlignment(table=table)


def _status(match: GeneMatch) -> str:
    if match.how == "ambiguous":
        return "ambiguous"
    # An Ensembl id that is known is kept: the gene is the same, only its printed name changes.
    return "renamed" if match.how in ("previous", "alias") else "kept"


def check_ids(ids: Sequence[str], gene_map: GeneMap, *, duplicates: Duplicates = "refuse") -> None:
    """Refuse empty names, names that occur twice (unless ``"sum"``), and genes of another species.

    Raises
    ------
    NamespaceError
        With the names concerned.
    """
    names = [str(i).strip() for i in ids]
    empty = [i for i, n in enumerate(names) if not n or n == "nan"]
    if empty:
        message = (
            f"Expected a name for every gene, got {len(empty)} empty ones (first at position {empty[0]}). Name "
            f"another column with gene_column, or remove those genes."
        )
        raise NamespaceError(message)
    if gene_map.ensembl:
        require_human(names, gene_map)
    if len(set(names)) == len(names) or duplicates == "sum":
        return
    seen: set[str] = set()
    repeated = sorted({n for n in names if n in seen or seen.add(n)})
    message = (
        f"Expected every gene once, got {len(names) - len(set(names))} duplicated gene names ({examples(repeated)}). "
        f"Ask for their counts to be added with duplicates: sum (--duplicates sum), or remove them first."
    )
    raise NamespaceError(message)


def require_human(names: Sequence[str], gene_map: GeneMap) -> None:
    """Refuse identifiers most of which belong to another species.

    Raises
    ------
    NamespaceError
        When more than half look like Ensembl ids of another species, or like title-case symbols (``Sox2``) that
        the table does not know.
    """
    foreign = [n for n in names if _OTHER_SPECIES.match(n)]
    title = [n for n in names if _TITLE_CASE.match(n) and n not in gene_map.ensembl]
    odd = foreign if len(foreign) >= len(title) else title
    if names and len(odd) > len(names) / 2:
        message = (
            f"Expected human genes, since the {gene_map.name} is human, got {len(odd)} of {len(names)} identifiers "
            f"that look like another species, probably mouse ({examples(odd)}). Map the genes to their human "
            f"orthologs first."
        )
        raise NamespaceError(message)


def require_overlap(
    have: Iterable[str], wanted: Iterable[str], *, have_name: str, wanted_name: str, minimum: int = 1
) -> list[str]:
    """Names in both, sorted; refuse when there are fewer than `minimum`.

    Examples
    --------
    >>> require_overlap(["TP53", "MYC"], ["MYC"], have_name="the cells", wanted_name="the model")
    ['MYC']
    """
    first, second = list(have), list(wanted)
    common = sorted(set(first) & set(second))
    if len(common) < minimum:
        got = "none" if not common else f"{len(common)} ({examples(common)})"
        message = (
            f"Expected at least {minimum} gene{'s' * (minimum > 1)} in common between {have_name} and {wanted_name}, "
            f"got {got}: {have_name} has {len(first)} such as {examples(first, limit=3)}; {wanted_name} has "
            f"{len(second)} such as {examples(second, limit=3)}. Check the kind of gene ids and the species."
        )
        raise NamespaceError(message)
    return common
