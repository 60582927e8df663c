"""How strong does a tool find each edge? Regulator, target, weight, sign; symbols mapped, every loss counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regulens.errors import InputError, NamespaceError, examples
from regulens.io.edge_completeness import Completeness, completeness
from regulens.io.edge_matrices import RawEdges, Rows
from regulens.io.edge_shapes import read_edges
from regulens.io.gene_ids import GeneMap, require_human
from regulens.io.references import COMPLEXES
from regulens.types.genes import GeneAlignment

if TYPE_CHECKING:
    from anndata import AnnData

_MISSING = frozenset({"", "NA", "nan", "NaN"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EdgeTable:
    """Weighted edges of a tool.

    Parameters
    ----------
    edges
        ``source``, ``target`` (approved symbols, unique pairs), ``weight`` (strength, ≥ 0) and ``sign`` (+1, −1, or 0
        where unknown), strongest first.
    counts
        ``rows``; rows lost because an end is ``missing``, one of the ``complexes`` or ``ambiguous``; ``self_pairs``,
        ``duplicates`` (weaker repeats of a pair), ``reversed`` (added for an undirected table), ``renamed`` and
        ``unknown_symbols`` (names), ``pairs``.
    signed
        Signs are known of some edges, from negative weights or from a column. Strength alone is what is ranked.
    completeness
        Whether the table is complete or the top of a ranking.
    alignment
        What became of every name of the table.
    words
        How the file was read.
    """

    name: str
    edges: pd.DataFrame
    completeness: Completeness
    alignment: GeneAlignment
    counts: dict[str, int] = field(default_factory=dict)
    signed: bool = False
    words: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names that are not in the gene table; they stand for themselves."""
        table = self.alignment.table
        return tuple(table.loc[table["status"] == "unknown", "input"])


def read_edge_table(
    source: Path | str | pd.DataFrame | AnnData, *, name: str, gene_map: GeneMap | None = None,
    column: str | None = None, key: str | None = None, rows: Rows = "auto",
) -> EdgeTable:  # fmt: skip
    """Read edges in any common shape, with or without weights.

    Long tables of decoupler, arboreto and pySCENIC (with and without header), BEELINE, TRRUST, DoRothEA, CollecTRI,
    OmniPath and STRING; SIF, GraphML, parquet; matrices with names on both axes; ``varp`` of an AnnData or ``.h5ad``;
    compressed with gzip, bzip2, xz or zip. Both ends go through the gene table, as those of cells and references do. Of
    a repeated pair the strongest counts. A list without weights gets the weight 1 everywhere.

    Parameters
    ----------
    gene_map
        By default the bundled human table.
    column
        Column of the weight, where it is not recognised or another one is wanted.
    key
        Name of the matrix in ``varp``; may be left out when there is only one.
    rows
        What the rows of a matrix are: ``regulators`` or ``targets``. ``auto`` takes regulators, and refuses a matrix
        with more rows than columns, where that would be a guess.

    Raises
    ------
    SchemaError
        When a column is not recognised, a weight is no number, or a column that is called a sign holds none.
    InputError
        When the file is missing, unreadable or has no usable row.
    NamespaceError
        When the genes are not human.
    """
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    label = Path(source).name if isinstance(source, (str, Path)) else name
    raw = read_edges(
        Path(source).expanduser() if isinstance(source, (str, Path)) else source,
        label=label, column=column, key=key, rows=rows,
    )  # fmt: skip
    alignment, symbol, lost_as = _map_names(raw, gene_map, label)
    names, ends = np.unique(np.concatenate([symbol[0], symbol[1]]), return_inverse=True)  # sorted, "" first
    code = ends[: len(symbol[0])][raw.row], ends[len(symbol[0]) :][raw.column]
    frame = pd.DataFrame(
        {
            "source": code[0],
            "target": code[1],
            "weight": np.abs(raw.weight),
            "sign": np.zeros(len(raw.weight), dtype=np.int64) if raw.sign is None else raw.sign,
        }
    )
    reason = np.where(lost_as[0][raw.row] != "", lost_as[0][raw.row], lost_as[1][raw.column])
    own = (reason == "") & (code[0] == code[1])
    counts = {"rows": len(frame)}
    counts |= {why: int((reason == why).sum()) for why in ("missing", "complexes", "ambiguous")}
    counts["self_pairs"] = int(own.sum())
    frame = frame[(reason == "") & ~own]
    ordered = bool((np.diff(frame["weight"].to_numpy()) <= 0).all())
    frame = frame.sort_values(["weight", "source", "target", "sign"], ascending=[False, True, True, False])
    edges = _strongest(frame)
    if edges.empty:
        lost = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in counts.items() if n and why != "rows")
        message = (
            f"Expected regulator-target pairs in {label}, got none of {counts['rows']} rows ({lost or 'no rows'})."
        )
        raise InputError(f"{message} Check the gene names.")
    counts |= {
        "duplicates": len(frame) - len(edges),
        "reversed": raw.reversed,
        "renamed": int((alignment.table["status"] == "renamed").sum()),
        "unknown_symbols": int((alignment.table["status"] == "unknown").sum()),
        "pairs": len(edges),
    }
    row, column_codes = pd.factorize(edges["source"])[0], pd.factorize(edges["target"])[0]
    found = completeness(
        row, column_codes, edges["weight"].to_numpy(), weighted=raw.weighted, ordered=ordered and len(edges) > 1,
        n_shared=len(set(edges["source"]) & set(edges["target"])),
    )  # fmt: skip
    words = names.astype(object)
    edges = edges.assign(source=words[edges["source"]], target=words[edges["target"]])
    return EdgeTable(
        name=name, edges=edges, counts=counts, signed=bool((edges["sign"] != 0).any()), completeness=found,
        alignment=alignment, words=raw.words,
    )  # fmt: skip


def _strongest(frame: pd.DataFrame) -> pd.DataFrame:
    """The first row of every pair of a sorted frame; the sign is unknown where equally strong rows contradict."""
    pair = ["source", "target"]
    edges = frame.drop_duplicates(pair, ignore_index=True)
    several = frame[frame.duplicated([*pair, "weight"], keep=False)]
    if len(several) and (several["sign"] != 0).any():
        sign = several.groupby([*pair, "weight"])["sign"].agg(["min", "max"])
        odd = sign.index[(sign["min"] < 0) & (sign["max"] > 0)]
        edges.loc[pd.MultiIndex.from_frame(edges[[*pair, "weight"]]).isin(odd), "sign"] = 0
    return edges


def _map_names(
    raw: RawEdges, gene_map: GeneMap, label: str
) -> tuple[GeneAlignment, tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """What became of every name; and for sources and targets the symbol and why it is lost ("" when it is not)."""
    every = list(dict.fromkeys([*map(str, raw.sources), *map(str, raw.targets)]))
    if gene_map.ensembl:
        try:
            require_human([n for n in every if n not in _MISSING], gene_map)
        except NamespaceError as error:
            error.add_note(f"in the edge table {label}")
            raise
    symbols, fate, rows = {}, {}, []
    for name in every:
        match = gene_map.resolve(name)
        status, why, reason = "kept", "", match.reason
        if name.strip() in _MISSING:
            status, why, reason = "unknown", "missing", "no name"
        elif name.upper() in COMPLEXES or name.upper().startswith("COMPLEX:"):
            status, why, reason = "ambiguous", "complexes", "a complex of several genes"
        elif match.how == "ambiguous":
            status, why = "ambiguous", "ambiguous"
        elif match.how in ("previous", "alias"):
            status = "renamed"
        elif match.how == "unknown" and gene_map.ensembl:
            status = "unknown"
        fate[name], symbols[name] = why, "" if why else match.symbol
        if why != "missing":
            rows.append((name, status, symbols[name], "" if why else match.ensembl, reason))
    table = pd.DataFrame(rows, columns=["input", "status", "symbol", "ensembl", "reason"])
    ends = [[str(n) for n in part] for part in (raw.sources, raw.targets)]
    symbol = tuple(np.array([symbols[n] for n in part], dtype=np.str_) for part in ends)
    lost = tuple(np.array([fate[n] for n in part], dtype=np.str_) for part in ends)
    return GeneAlignment(table=table), symbol, lost  # type: ignore[return-value]


def losses_in_words(table: EdgeTable) -> str:
    """What did not come through as it was, in one clause; empty when everything did."""
    c = table.counts
    parts = [
        (c["duplicates"], "repeated pairs, of which the strongest counts"),
        (c["self_pairs"], "self-pairs left out"),
        (c["missing"], "rows without a gene name left out"),
        (c["complexes"], "rows with a complex left out"),
        (c["ambiguous"], "rows with an ambiguous alias left out"),
        (c["reversed"], "pairs added in the other direction"),
    ]
    found = [f"{n:,} {words}" for n, words in parts if n]
    if table.unknown:
        found.append(
            f"{len(table.unknown):,} names that are not in the gene table, kept as they are "
            f"({examples(table.unknown, limit=3)})"
        )
    return "; ".join(found)
