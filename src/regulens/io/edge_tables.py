"""How strong does another tool find each edge? Regulator, target and weight; symbols mapped, every loss counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from regulens.errors import InputError, SchemaError, examples
from regulens.io.gene_ids import GeneMap
from regulens.io.network_formats import NAMES, read_text

#: Names under which tools write how strong an edge is, lower case, first match wins.
WEIGHTS = ("importance", "weight", "edgeweight", "score", "strength", "corr", "correlation", "rho")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EdgeTable:
    """Weighted edges of another tool.

    Parameters
    ----------
    edges
        ``source``, ``target`` (approved symbols, unique pairs) and ``weight`` (strength, ≥ 0), strongest first.
    counts
        ``rows``, ``ambiguous`` (rows with an alias of several genes), ``self_pairs``, ``duplicates``, ``pairs``.
    signed
        The weights had negative values; their absolute values are kept, since strength is what is ranked.
    """

    name: str
    edges: pd.DataFrame
    counts: dict[str, int] = field(default_factory=dict)
    signed: bool = False


def read_edge_table(source: Path | str | pd.DataFrame, *, name: str, gene_map: GeneMap | None = None) -> EdgeTable:
    """Read edges with weights, as arboreto, pySCENIC, decoupler, BEELINE and most others write them.

    Both ends go through the gene table, as those of cells and references do. Of a repeated pair the strongest counts.

    Parameters
    ----------
    source
        Delimited text, compressed or not, parquet, or a table; with a regulator, a target and a weight column.
    gene_map
        By default the bundled human table.

    Raises
    ------
    SchemaError
        When a column is not recognised, or a weight is no number.
    InputError
        When the file is missing, unreadable or has no usable row.
    """
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    table = source if isinstance(source, pd.DataFrame) else _read(Path(source).expanduser())
    label = name if isinstance(source, pd.DataFrame) else Path(source).name
    lower = {str(c).lower(): c for c in reversed(list(table.columns))}
    wanted = {"source": NAMES["source"], "target": NAMES["target"], "weight": WEIGHTS}
    found = {role: next((lower[n] for n in names if n in lower), None) for role, names in wanted.items()}
    lost = [role for role, column in found.items() if column is None]
    if lost:
        message = (
            f"Expected a {lost[0]} column ({', '.join(wanted[lost[0]][:5])}, ...) in {label}, got columns "
            f"{examples(list(table.columns), limit=12)}. Rename the column."
        )
        raise SchemaError(message)
    weight = pd.to_numeric(table[found["weight"]], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(weight).all():
        bad = int(np.flatnonzero(~np.isfinite(weight))[0])
        message = (
            f"Expected numbers in column '{found['weight']}' of {label}, got "
            f"'{table[found['weight']].iloc[bad]}' in row {bad + 1}. Leave out edges without a weight."
        )
        raise SchemaError(message)
    ends = {
        role: table[found[role]].astype(str).str.strip().map(_mapping(table[found[role]], gene_map))
        for role in ("source", "target")
    }
    frame = pd.DataFrame({**ends, "weight": np.abs(weight)})
    counts = {"rows": len(frame)}
    usable = (frame["source"] != "") & (frame["target"] != "")
    counts["ambiguous"] = int((~usable).sum())
    own = usable & (frame["source"] == frame["target"])
    counts["self_pairs"] = int(own.sum())
    frame = frame[usable & ~own].sort_values(["weight", "source", "target"], ascending=[False, True, True])
    edges = frame.drop_duplicates(["source", "target"], ignore_index=True)
    counts["duplicates"] = len(frame) - len(edges)
    counts["pairs"] = len(edges)
    if edges.empty:
        message = f"Expected regulator-target pairs in {label}, got none of {counts['rows']} rows ({counts})."
        raise InputError(message)
    return EdgeTable(name=name, edges=edges, counts=counts, signed=bool((weight < 0).any()))


def _read(path: Path) -> pd.DataFrame:
    if ".parquet" in path.suffixes and path.is_file():
        try:
            return pd.read_parquet(path)
        except Exception as error:
            message = f"Expected readable parquet in {path.name}, got '{str(error).splitlines()[0]}'. Write it again."
            raise InputError(message) from error
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        message = f"Expected edges with weights in {path.name}, got an empty file. Check the path."
        raise InputError(message)
    separator = max("\t,; ", key=lines[0].count)
    rows = [[cell.strip().strip('"') for cell in line.split(separator)] for line in lines]
    # A file written with row names has one column without a name.
    ragged = [k for k, row in enumerate(rows) if len(row) != len(rows[0])]
    if ragged:
        message = (
            f"Expected {len(rows[0])} columns in every row of {path.name}, got {len(rows[ragged[0]])} in row "
            f"{ragged[0]}. Check the separators."
        )
        raise SchemaError(message)
    return pd.DataFrame(rows[1:], columns=rows[0], dtype=str)


def _mapping(symbols: pd.Series, gene_map: GeneMap) -> dict[str, str]:
    return {s: gene_map.resolve(s).symbol for s in pd.unique(symbols.astype(str).str.strip())}
