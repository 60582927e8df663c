"""Which columns of a network file are the regulator, the target, the sign and the evidence?"""

from __future__ import annotations

import bz2
import difflib
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.errors import InputError, NamespaceError, SchemaError, examples, nearest

if TYPE_CHECKING:
    from anndata import AnnData

#: Names under which tools write each column, lower case, first match wins. A name never serves two columns.
NAMES: dict[str, tuple[str, ...]] = {
    "source": (
        "source", "source_genesymbol", "tf", "regulator", "gene1", "node1", "preferredname_a", "protein1", "from",
    ),
    "target": (
        "target", "target_genesymbol", "gene2", "node2", "preferredname_b", "protein2", "target_gene", "targetgene",
        "to", "gene",
    ),
    "sign": ("mor", "mode", "sign", "regulation", "effect", "interaction", "type", "weight", "edgeweight"),
    "evidence": ("confidence", "level", "evidence", "sources", "resources"),
}  # fmt: skip

STIMULATION = ("consensus_stimulation", "is_stimulation", "stimulation")
INHIBITION = ("consensus_inhibition", "is_inhibition", "inhibition")
POSITIVE = {"activation", "activates", "activating", "stimulation", "positive", "up", "+", "1", "1.0", "+1", "->"}
NEGATIVE = {"repression", "represses", "inhibition", "inhibits", "negative", "down", "-", "-1", "-1.0", "-|"}
_TRUE = {"true", "1", "1.0", "yes", "t"}
MODES = {"activation", "repression", "unknown"}
_STRING_PROTEIN = re.compile(r"^(\d+\.)?ENS[A-Z]*P\d{11}$")

_EXPECTED = (
    "a regulator column (source, TF, regulator, Gene1, source_genesymbol, node1) and a target column (target, Gene2, "
    "target_genesymbol, node2)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawNetwork:
    """A network as read, before symbols are mapped and pairs collapsed.

    Parameters
    ----------
    edges
        ``source``, ``target``, ``evidence`` (strings) and ``sign`` (int).
    has_levels
        The evidence is an ordered level (A before B), not a list of sources.
    reversed
        Rows at the end that were added to give both directions of an undirected network.
    """

    edges: pd.DataFrame
    has_levels: bool = False
    reversed: int = 0


def read_network(source: Path | pd.DataFrame, *, columns: Mapping[str, str] | None, label: str) -> RawNetwork:
    """Recognise the shape of a network and read it.

    Raises
    ------
    SchemaError
        When the columns are not recognised, or a named one does not exist.
    InputError
        When the file is missing, empty or unreadable.
    NamespaceError
        When a STRING file has protein ids instead of gene names.
    """
    if isinstance(source, pd.DataFrame):
        return _from_table(source.astype(object).where(source.notna(), "").astype(str), columns, label)
    kinds = {s.lower() for s in source.suffixes}
    if ".parquet" in kinds:
        table = _parquet(source)
        return _from_table(table, columns, label)
    text = read_text(source)
    if not text.strip():
        message = f"Expected a network in {label}, got an empty file. Check the path."
        raise InputError(message)
    if kinds & {".graphml", ".xml"}:
        return _graphml(text, label)
    if ".sif" in kinds:
        return _sif(text, label)
    return _from_table(_delimited(text, label, columns), columns, label)


def read_text(path: Path) -> str:
    """Text of a file that may be compressed with gzip, bzip2, xz or zip (told by its first bytes, not its name).

    Raises
    ------
    InputError
        When the file is missing, damaged or no text.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        what = "a folder" if path.is_dir() else "no such file"
        message = f"Expected a file at {path}, got {what}.{near} Check the path."
        raise InputError(message)
    content = path.read_bytes()
    openers = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
    try:
        for magic, decompress in openers.items():
            if content.startswith(magic):
                content = decompress(content)
        if content.startswith(b"PK\x03\x04"):
            content = _only_member(content, path.name)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
        message = f"Expected readable text in {path.name}, got '{error}'. The file is damaged or of another format."
        raise InputError(message) from error


def _only_member(content: bytes, label: str) -> bytes:
    """The one file of a zip archive; folders and the finder's hidden copies are no files."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        inside = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX")]
        if len(inside) != 1:
            message = f"Expected one file in the archive {label}, got {len(inside)} ({examples(inside) or 'none'})."
            raise InputError(f"{message} Unpack it and name the file.")
        return archive.read(inside[0])


def _parquet(path: Path) -> pd.DataFrame:
    if not path.is_file():
        read_text(path)  # raises with the sentence for a missing file
    try:
        table = pd.read_parquet(path)
    except Exception as error:
        message = f"Expected readable parquet in {path.name}, got '{str(error).splitlines()[0]}'. Write it again."
        raise InputError(message) from error
    return table.astype(object).where(table.notna(), "").astype(str)


def _delimited(text: str, label: str, columns: Mapping[str, str] | None) -> pd.DataFrame:
    lines = text.splitlines()
    # STRING's export starts its header with '#'; other lines with '#' before the header are comments.
    start = 0
    while start < len(lines) - 1 and (not lines[start].strip() or is_comment(lines[start])):
        start += 1
    first = lines[start].lstrip("#")
    separator = max("\t,; ", key=first.count)
    if not first.count(separator):
        separator = "\t"
    fields = [f.strip().strip('"') for f in first.split(separator)]
    known = {n for names in NAMES.values() for n in names} | {*STIMULATION, *INHIBITION}
    has_header = columns is not None or any(f.lower() in known for f in fields)
    body = "\n".join([first, *lines[start + 1 :]])
    names = None
    if not has_header:
        if len(fields) >= 3 and fields[2].lower() in MODES:
            names = ["source", "target", "mode", "references", *[f"extra{i}" for i in range(len(fields) - 4)]]
            names = names[: len(fields)]
        else:
            raise _unrecognised(fields, label)
    try:
        return pd.read_csv(
            io.StringIO(body), sep=separator, dtype=str, keep_default_na=False, names=names, index_col=False,
            header=None if names else 0, skipinitialspace=True,
        )  # fmt: skip
    except Exception as error:
        message = f"Expected a table in {label}, got '{str(error).strip()}'. Check the separators and line lengths."
        raise SchemaError(message) from error


def is_comment(line: str) -> bool:
    """Whether a line before the header is a comment; STRING's header starts with the same sign."""
    return line.startswith("#") and not line.lower().startswith("#node1")


def require_fields(body: list[str], fields: list[str], separator: str, label: str) -> None:
    """Refuse rows of unequal length, and two columns of one name. Row names may stand before the named columns.

    Parameters
    ----------
    body
        Lines below the header `fields`.

    Raises
    ------
    SchemaError
        With the first row that does not fit.
    """
    repeated = sorted({f for f in fields if fields.count(f) > 1}) if len(set(fields)) < len(fields) else []
    if repeated:
        message = f"Expected every column name of {label} once, got {examples(repeated)} more than once. Rename them."
        raise SchemaError(message)
    if separator == " ":
        return  # one or more spaces
    plain = [(k, line.count(separator) + 1) for k, line in enumerate(body, 1) if '"' not in line]
    if not plain:
        return
    wanted = len(fields) + (plain[0][1] == len(fields) + 1)
    if odd := next((p for p in plain if p[1] != wanted), None):
        message = f"Expected {wanted} columns in every row of {label}, got {odd[1]} in row {odd[0]}."
        raise SchemaError(f"{message} Check the separators.")


def _unrecognised(fields: list[str], label: str) -> SchemaError:
    known = [*NAMES["source"], *NAMES["target"]]
    close = [(f, c[0]) for f in fields if f and (c := difflib.get_close_matches(f.lower(), known, n=1, cutoff=0.8))]
    near = f" '{close[0][0]}' is close to '{close[0][1]}'." if close else ""
    return SchemaError(
        f"Expected {_EXPECTED} in {label}, got columns {examples(fields, limit=12)}.{near} Rename the columns, or name "
        f"them with columns (source, target)."
    )


def _from_table(table: pd.DataFrame, columns: Mapping[str, str] | None, label: str) -> RawNetwork:
    found = columns_of(table, dict(columns or {}), label)
    text = {role: table[name].astype(str).str.strip() for role, name in found.items()}
    source, target = text["source"], text["target"]
    refuse_proteins(source, label)
    empty = pd.Series("", index=table.index)
    sign = signs_of(table, text.get("sign"), found.get("sign", ""))
    evidence = text.get("evidence", empty)
    edges = pd.DataFrame({"source": source, "target": target, "sign": sign, "evidence": evidence})
    has_levels = found.get("evidence", "").lower() in ("confidence", "level")
    # A STRING export lists each undirected pair once.
    undirected = found["source"].lower() in ("node1", "preferredname_a", "protein1")
    return _both_ways(edges, has_levels=has_levels) if undirected else RawNetwork(edges=edges, has_levels=has_levels)


def _both_ways(edges: pd.DataFrame, *, has_levels: bool = False) -> RawNetwork:
    back = edges.rename(columns={"source": "target", "target": "source"})[edges.columns]
    there = pd.MultiIndex.from_frame(edges[["source", "target"]])
    back = back[~pd.MultiIndex.from_frame(back[["source", "target"]]).isin(there)]
    both = pd.concat([edges, back], ignore_index=True)
    return RawNetwork(edges=both, has_levels=has_levels, reversed=len(back))


def columns_of(table: pd.DataFrame, named: dict[str, str], label: str) -> dict[str, str]:
    """Which column has which role (a key of `NAMES`); `named` goes before what is recognised."""
    there = [str(c) for c in table.columns]
    odd = sorted(set(named) - set(NAMES))
    if odd:
        message = f"Expected columns to name {', '.join(NAMES)}, got {examples(odd)}.{nearest(odd[0], list(NAMES))}"
        raise SchemaError(message)
    for role, name in named.items():
        if name not in there:
            message = (
                f"Expected a column '{name}' ({role}) in {label}, got columns {examples(there, limit=12)}."
                f"{nearest(name, there)}"
            )
            raise SchemaError(message)
    lower = {c.lower(): c for c in reversed(there)}
    # OmniPath tables carry both accessions (source, target) and gene symbols; the symbols are meant.
    if {"source_genesymbol", "target_genesymbol"} <= lower.keys():
        named = {"source": lower["source_genesymbol"], "target": lower["target_genesymbol"], **named}
    found = dict(named)
    for role, names in NAMES.items():
        if role not in found:
            free = [n for n in names if n in lower and lower[n] not in found.values()]
            if free:
                found[role] = lower[free[0]]
    if "source" not in found or "target" not in found:
        raise _unrecognised(there, label)
    return found


def refuse_proteins(source: pd.Series, label: str) -> None:
    """Refuse regulators most of which are STRING's protein ids."""
    proteins = source[source.str.match(_STRING_PROTEIN)]
    if len(proteins) > len(source) / 2:
        message = (
            f"Expected gene symbols or Ensembl gene ids in {label}, got protein ids "
            f"({examples(list(proteins.unique()[:3]))}). Use STRING's export with preferred names, or map them first."
        )
        raise NamespaceError(message)


def signs_of(table: pd.DataFrame, text: pd.Series | None, name: str) -> np.ndarray:
    """+1, −1 or 0. Numbers give a sign only where some are negative, except in columns made for signs."""
    lower = {str(c).lower(): c for c in table.columns}
    up = next((lower[c] for c in STIMULATION if c in lower), None)
    down = next((lower[c] for c in INHIBITION if c in lower), None)
    if up is not None and down is not None:
        yes = [table[c].astype(str).str.strip().str.lower().isin(_TRUE).to_numpy() for c in (up, down)]
        return yes[0].astype(np.int64) - yes[1].astype(np.int64)
    if text is None:
        return np.zeros(len(table), dtype=np.int64)
    number = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    if np.isfinite(number).any():
        # A weight that is never negative is a strength or a constant and says nothing of the direction of the effect.
        if name.lower() in ("weight", "edgeweight") and not (number < 0).any():
            return np.zeros(len(table), dtype=np.int64)
        return np.sign(np.nan_to_num(number)).astype(np.int64)
    words = text.str.lower()
    return words.isin(POSITIVE).to_numpy().astype(np.int64) - words.isin(NEGATIVE).to_numpy().astype(np.int64)


def _sif(text: str, label: str) -> RawNetwork:
    """Simple interaction format: ``regulator relation target [target ...]``, tab- or space-separated."""
    rows = []
    for line in filter(str.strip, text.splitlines()):
        fields = [f.strip() for f in (line.split("\t") if "\t" in line else line.split())]
        if len(fields) == 1:
            continue  # a node without edges
        if len(fields) == 2:
            message = (
                f"Expected lines 'regulator relation target' in {label}, got '{line.strip()}'. If these are two "
                f"columns of genes, add a header 'source<TAB>target' and name the file .tsv."
            )
            raise SchemaError(message)
        rows += [(fields[0], t, fields[1]) for t in fields[2:] if t]
    if not rows:
        message = f"Expected lines 'regulator relation target' in {label}, got no edge."
        raise InputError(message)
    edges = pd.DataFrame(rows, columns=["source", "target", "relation"])
    words = edges["relation"].str.lower()
    edges["sign"] = words.isin(POSITIVE).astype(np.int64) - words.isin(NEGATIVE).astype(np.int64)
    return RawNetwork(edges=edges[["source", "target", "sign"]].assign(evidence=edges["relation"]))


def _graphml(text: str, label: str) -> RawNetwork:
    import networkx as nx

    try:
        graph = nx.parse_graphml(text)
    except Exception as error:
        message = f"Expected GraphML in {label}, got '{str(error).splitlines()[0]}'. Export the network again."
        raise InputError(message) from error
    if not graph.number_of_edges():
        message = f"Expected edges in {label}, got a graph without any."
        raise InputError(message)
    keys = ("name", "label", "symbol", "gene")
    names = {n: str(next((d[k] for k in keys if d.get(k)), n)) for n, d in graph.nodes(data=True)}
    rows = [{**d, "source": names[a], "target": names[b]} for a, b, d in graph.edges(data=True)]
    table = pd.DataFrame(rows)
    raw = _from_table(table.astype(object).where(table.notna(), "").astype(str), None, label)
    return raw if graph.is_directed() else _both_ways(raw.edges, has_levels=raw.has_levels)


def from_varp(data: AnnData, *, key: str | None, label: str) -> RawNetwork:
    """Non-zero entries of a gene × gene matrix in ``varp``: rows are regulators, columns are targets.

    Parameters
    ----------
    key
        Name of the matrix; may be left out when there is only one.

    Raises
    ------
    SchemaError
        When there is no such matrix, or several and none is named.
    """
    there = list(data.varp)
    if key is None and len(there) == 1:
        key = there[0]
    if key is None or key not in there:
        wanted = f"a network '{key}' in varp" if key else "one network in varp"
        got = examples(there) if there else "none"
        message = f"Expected {wanted} of {label}, got {got}.{nearest(key or '', there)} Name one with columns (varp)."
        raise SchemaError(message)
    matrix = sp.coo_matrix(data.varp[key])
    matrix.eliminate_zeros()
    names = data.var_names.astype(str).to_numpy(dtype=object)
    sign = np.sign(matrix.data).astype(np.int64) if (matrix.data < 0).any() else np.zeros(matrix.nnz, dtype=np.int64)
    edges = pd.DataFrame({"source": names[matrix.row], "target": names[matrix.col], "sign": sign, "evidence": ""})
    return RawNetwork(edges=edges)
