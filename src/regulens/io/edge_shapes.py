"""In which shape does an edge table come? Long, matrix, graph or ``varp``: all become pairs with a weight and a sign.

Nothing is mapped or dropped here; `regulens.io.edge_tables` does that and counts it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regulens.errors import InputError, SchemaError, examples, nearest
from regulens.io.edge_matrices import RawEdges, Rows, as_matrix, from_matrix, from_varp, is_numeric
from regulens.io.network_formats import (
    INHIBITION,
    MODES,
    NAMES,
    NEGATIVE,
    POSITIVE,
    STIMULATION,
    columns_of,
    is_comment,
    read_network,
    read_text,
    refuse_proteins,
    require_fields,
    signs_of,
)

if TYPE_CHECKING:
    from anndata import AnnData

#: Names under which tools write how strong an edge is, lower case, first match wins.
WEIGHTS = (
    "importance", "weight", "edgeweight", "edge_weight", "edge_score", "combined_score", "score", "strength", "corr",
    "correlation", "rho", "coef", "coefficient", "coef_mean", "beta", "attention", "probability",
)  # fmt: skip

#: Columns that say whether a regulator raises or lowers its target.
SIGNS = ("sign", "mode", "mor", "regulation")
#: Of these, columns that some tools fill with a signed weight.
SIGNED_WEIGHTS = ("mor",)
_NO_SIGN = {"", "0", "0.0", "?", "na", "nan", "none", "unknown", "unspecified", "unclear", "undefined", "both"}

_UNDIRECTED = ("node1", "preferredname_a", "protein1")


def read_edges(
    source: Path | pd.DataFrame | AnnData, *, label: str, column: str | None = None, key: str | None = None,
    rows: Rows = "auto",
) -> RawEdges:  # fmt: skip
    """Recognise the shape of an edge table and read it.

    Parameters
    ----------
    column
        Column of the weight, where it is not recognised or not the one that is wanted.
    key
        Name of the matrix in ``varp``; may be left out when there is only one.
    rows
        What the rows of a matrix or of a ``varp`` entry are.

    Raises
    ------
    SchemaError
        When columns, axes or matrices are not recognised, or a weight or sign is none.
    InputError
        When the file is missing, empty or unreadable.
    """
    if isinstance(source, pd.DataFrame):
        named = source.index.name is not None or not isinstance(source.index, pd.RangeIndex)
        table = source.reset_index() if named else source
        return _from_table(table.set_axis([str(c) for c in table.columns], axis=1), label, column, rows)
    if hasattr(source, "varp"):
        return from_varp(source, label, key, rows)
    kinds = {s.lower() for s in source.suffixes}
    if ".h5ad" in kinds:
        from regulens.io.cell_files import read_h5ad

        return from_varp(read_h5ad(source), label, key, rows)
    if ".parquet" in kinds and source.is_file():
        try:
            return read_edges(pd.read_parquet(source), label=label, column=column, rows=rows)
        except (SchemaError, InputError):
            raise
        except Exception as error:
            message = f"Expected readable parquet in {label}, got '{str(error).splitlines()[0]}'. Write it again."
            raise InputError(message) from error
    text = read_text(source)
    if not text.strip():
        message = f"Expected edges in {label}, got an empty file. Check the path."
        raise InputError(message)
    if kinds & {".graphml", ".xml"}:
        return _graphml(text, label, column)
    if ".sif" in kinds:
        found = read_network(source, columns=None, label=label).edges
        return _pairs(found, np.ones(len(found)), found["sign"].to_numpy(), ("SIF", "no weights"), weighted=False)
    return _from_table(_delimited(text, label), label, column, rows)


def _delimited(text: str, label: str) -> pd.DataFrame:
    """A table of texts. Row names without a heading get the heading ''; known layouts without a header get names."""
    lines = text.splitlines()
    start = 0
    while start < len(lines) - 1 and (not lines[start].strip() or is_comment(lines[start])):
        start += 1
    first = lines[start].lstrip("#")
    separator = max("\t,; ", key=first.count)
    fields = [f.strip().strip('"') for f in first.split(separator)]
    names = None
    if len(fields) == 3 and _is_number(fields[2]) and not (_is_number(fields[0]) or _is_number(fields[1])):
        names = ["source", "target", "weight"]  # as arboreto writes it
    elif len(fields) >= 3 and fields[2].lower() in MODES:
        names = ["source", "target", "mode", *[f"extra{i}" for i in range(len(fields) - 3)]]  # as TRRUST writes it
    body = [line for line in lines[start + 1 :] if line.strip()]
    require_fields([first, *body] if names else body, names or fields, separator, label)
    try:
        table = pd.read_csv(
            io.StringIO("\n".join([first, *body])), sep=separator, dtype=str, keep_default_na=False,
            names=names, header=None if names else 0, skipinitialspace=True,
        )  # fmt: skip
    except Exception as error:
        message = f"Expected a table in {label}, got '{str(error).strip()}'. Check the separators and line lengths."
        raise SchemaError(message) from error
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index(names="")
    table = table.rename(columns={c: "" for c in table.columns if str(c).startswith("Unnamed: ")})
    return table.apply(lambda c: c.str.strip()).set_axis([str(c).strip() for c in table.columns], axis=1)


def _from_table(table: pd.DataFrame, label: str, column: str | None, rows: Rows) -> RawEdges:
    lower = {c.lower() for c in table.columns}
    roles = [lower & set(NAMES[r]) for r in ("source", "target")]
    if not all(roles) and column is None and (found := as_matrix(table, label)) is not None:
        return from_matrix(*found, label=label, rows=rows, words=())
    if table.empty:
        message = f"Expected edges in {label}, got a header without rows. Check the file."
        raise InputError(message)
    _require_ends(table, label)
    ends = columns_of(table, {}, label)
    name = _weight_column(table, label, column, {ends["source"], ends["target"]})
    pairs = pd.DataFrame({r: table[ends[r]].astype(str).str.strip() for r in ("source", "target")})
    refuse_proteins(pairs["source"], label)
    sign = _signs(table, label, weight=name)
    if name is None:
        words = ["long table", "no weight column"]
        weight = np.ones(len(table))
    else:
        words = ["long table", f"weights from column '{name}'"]
        weight = _numbers(table[name], name, label)
    if sign is not None:
        words.append("signs from the table")
    found = _pairs(pairs, weight, sign, tuple(words), weighted=name is not None)
    return _both_ways(found) if ends["source"].lower() in _UNDIRECTED else found


def _require_ends(table: pd.DataFrame, label: str) -> None:
    lower = {c.lower() for c in table.columns}
    for role in ("source", "target"):
        if not lower & set(NAMES[role]):
            known = [n for r in ("source", "target") for n in NAMES[r]]
            close = [n for c in table.columns if (n := nearest(c.lower(), known)) and c.lower() not in known]
            message = (
                f"Expected a {role} column ({', '.join(NAMES[role][:5])}, ...) in {label}, got columns "
                f"{examples(list(table.columns), limit=12)}.{close[0] if close else ''} Rename the column, or give a "
                "matrix of numbers with names in its first row and column."
            )
            raise SchemaError(message)


def _weight_column(table: pd.DataFrame, label: str, column: str | None, ends: set[str]) -> str | None:
    """Column of the weight; None for a list of pairs without weights."""
    there = list(table.columns)
    if column is not None:
        if column not in there:
            message = f"Expected a column '{column}' in {label}, got columns {examples(there, limit=12)}."
            raise SchemaError(f"{message}{nearest(column, there)}")
        return column
    lower = {c.lower(): c for c in reversed(there)}
    if known := [lower[n] for n in WEIGHTS if n in lower and lower[n] not in ends]:
        return known[0]
    signed = [lower[n] for n in SIGNED_WEIGHTS if n in lower]
    if signed and is_numeric(table[signed[0]]) and not _is_sign(table[signed[0]]):
        return signed[0]
    if any(n in lower for n in (*SIGNS, *STIMULATION)):
        return None  # a curated list: signs, sources and numbers of papers, but no weight
    left = [c for c in there if c not in ends and c and is_numeric(table[c])]
    if left:
        message = (
            f"Expected to know which column of {label} is the weight ({', '.join(WEIGHTS[:6])}, ...), got columns of "
            f"numbers {examples(left)}. Name one with --column, or as ?column={left[0]}."
        )
        raise SchemaError(message)
    return None


def _numbers(values: pd.Series, name: str, label: str) -> np.ndarray:
    weight = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(weight).all():
        bad = int(np.flatnonzero(~np.isfinite(weight))[0])
        message = (
            f"Expected numbers in column '{name}' of {label}, got '{values.iloc[bad]}' in row {bad + 1}. Leave out "
            "edges without a weight."
        )
        raise SchemaError(message)
    return weight


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _is_sign(values: pd.Series) -> bool:
    words = pd.unique(values.astype(str).str.strip().str.lower())
    return all(w in POSITIVE or w in NEGATIVE or w in _NO_SIGN for w in words)


def _signs(table: pd.DataFrame, label: str, *, weight: str | None) -> np.ndarray | None:
    """Signs that the table gives in a column of their own; None where it has no such column.

    Raises
    ------
    SchemaError
        When a column that is called a sign holds something else.
    """
    lower = {c.lower(): c for c in reversed(list(table.columns))}
    if any(n in lower for n in STIMULATION) and any(n in lower for n in INHIBITION):
        return signs_of(table, None, "")
    name = next((lower[n] for n in SIGNS if n in lower and lower[n] != weight), None)
    if name is None:
        return None
    if not _is_sign(table[name]):
        known = POSITIVE | NEGATIVE | _NO_SIGN
        odd = [v for v in pd.unique(table[name].astype(str).str.strip()) if v.lower() not in known]
        message = (
            f"Expected signs in column '{name}' of {label} (1, -1, 0, +, -, activation, repression, unknown), got "
            f"{examples(odd)}. Rename the column if it is no sign, or name it with --column if it is the weight."
        )
        raise SchemaError(message)
    words = table[name].astype(str).str.strip().str.lower()
    return words.isin(POSITIVE).to_numpy().astype(np.int64) - words.isin(NEGATIVE).to_numpy().astype(np.int64)


def _pairs(
    pairs: pd.DataFrame, weight: np.ndarray, sign: np.ndarray | None, words: tuple[str, ...], *, weighted: bool
) -> RawEdges:
    if sign is None and (weight < 0).any():
        sign, words = np.sign(weight).astype(np.int64), (*words, "signs from negative weights")
    row, sources = pd.factorize(pairs["source"])
    column, targets = pd.factorize(pairs["target"])
    return RawEdges(
        sources=np.asarray(sources, dtype=object), targets=np.asarray(targets, dtype=object), row=row, column=column,
        weight=np.asarray(weight, dtype=np.float64), sign=sign, words=words, weighted=weighted,
    )  # fmt: skip


def _both_ways(edges: RawEdges) -> RawEdges:
    """Both directions of edges without one; a pair that is listed in both keeps what each says."""
    frame = pd.DataFrame({"source": edges.sources[edges.row], "target": edges.targets[edges.column]})
    there = pd.MultiIndex.from_frame(frame)
    back = frame.rename(columns={"source": "target", "target": "source"})[["source", "target"]]
    new = ~pd.MultiIndex.from_frame(back).isin(there)
    sign = None if edges.sign is None else np.concatenate([edges.sign, edges.sign[new]])
    both = _pairs(
        pd.concat([frame, back[new]], ignore_index=True), np.concatenate([edges.weight, edges.weight[new]]), sign,
        (*edges.words, f"undirected: {int(new.sum())} edges added in the other direction"), weighted=edges.weighted,
    )  # fmt: skip
    return RawEdges(
        sources=both.sources, targets=both.targets, row=both.row, column=both.column, weight=both.weight,
        sign=both.sign, words=both.words, weighted=both.weighted, reversed=int(new.sum()),
    )  # fmt: skip


def _graphml(text: str, label: str, column: str | None) -> RawEdges:
    import networkx as nx

    try:
        graph = nx.parse_graphml(text)
    except Exception as error:
        message = f"Expected GraphML in {label}, got '{str(error).splitlines()[0]}'. Export the network again."
        raise InputError(message) from error
    if not graph.number_of_edges():
        message = f"Expected edges in {label}, got a graph without any. Export the network again."
        raise InputError(message)
    keys = ("name", "label", "symbol", "gene")
    names = {n: str(next((d[k] for k in keys if d.get(k)), n)) for n, d in graph.nodes(data=True)}
    taken = {"source", "target"}
    rows = [
        {"source": names[a], "target": names[b], **{k: v for k, v in d.items() if k.lower() not in taken}}
        for a, b, d in graph.edges(data=True)
    ]
    found = _from_table(pd.DataFrame(rows), label, column, "auto")
    return found if graph.is_directed() else _both_ways(found)
