"""What does a curated network say? Read in any common shape, symbols mapped, pairs collapsed, every loss counted."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regulens.errors import InputError, ParameterError, SchemaError, examples, nearest
from regulens.io.gene_ids import GeneMap
from regulens.io.network_formats import RawNetwork, from_varp, read_network
from regulens.types.networks import ReferenceNetwork

if TYPE_CHECKING:
    from anndata import AnnData

#: Pseudo-genes that curated networks use for dimers; no gene of a cell carries these names.
COMPLEXES = frozenset({"AP1", "AP-1", "NFKB", "NF-KB", "NFKAPPAB"})
#: How tables write that an end is missing. No approved symbol is spelled like this ("NULL" and "NONE" may be names).
_MISSING = frozenset({"", "NA", "nan", "NaN"})
_COMPLEX = re.compile(r"^COMPLEX:", re.IGNORECASE)
#: UniProt accession numbers (UniProt manual, "Accession numbers").
_ACCESSION = re.compile(r"^([OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d([A-Z][A-Z0-9]{2}\d){1,2})$")

BUNDLED = ("dorothea",)
_SOURCES = {"dorothea": ("dorothea_human.tsv.gz", "DoRothEA A to C, human (bundled; from regstatusnet 1.0.2)")}


def read_reference(
    source: str | Path | pd.DataFrame | AnnData,
    *,
    gene_map: GeneMap | None = None,
    name: str | None = None,
    levels: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> ReferenceNetwork:
    """Read a regulator → target network.

    Known shapes, compressed or not: decoupler and CollecTRI (``source, target, weight``), DoRothEA
    (``tf, target, mor, confidence``), OmniPath, arboreto and pySCENIC (``TF, target, importance``), BEELINE
    (``Gene1, Gene2``), TRRUST with and without header, STRING with gene names, SIF, GraphML, parquet, and ``varp``
    of an AnnData or ``.h5ad`` (rows are regulators).

    Both ends go through the gene table, as the genes of cells do, so that both use approved symbols. Symbols that
    the table does not know stay as they are (``unknown_symbols``). Rows are removed, and counted, when an end is
    missing, a complex, an accession number or an ambiguous alias, and when both ends are one gene. Rows with equal
    ends are collapsed: the sign is kept where those that have one agree and is 0 otherwise; the best level, or all
    sources, are kept as evidence.

    Parameters
    ----------
    source
        Path, table, AnnData, or ``"bundled:dorothea"``, with levels as in ``"bundled:dorothea:A,B"``.
    gene_map
        By default the bundled human table; `GeneMap.empty` maps nothing.
    name
        By default the file's stem, or the bundled name with its levels.
    levels
        Keep rows with these confidence levels only.
    columns
        Names of the columns ``source``, ``target`` and optionally ``sign``, ``evidence``, where they are not
        recognised; for AnnData ``varp``, the name of the matrix, where there are several.

    Returns
    -------
    Unique pairs, sorted. ``counts`` holds ``rows``, ``below_level``, ``missing``, ``complexes``, ``accessions``,
    ``ambiguous``, ``unmapped`` (rows lost for one of these four reasons), ``renamed`` and ``unknown_symbols``
    (symbols, not rows), ``self_pairs``, ``duplicates`` (rows beyond the first of their pair),
    ``contradictory_signs``, ``reversed`` (rows added since the network is undirected), ``pairs``.

    Raises
    ------
    SchemaError
        When the columns are not recognised; the message lists what was found and expected.
    InputError
        When the file is missing, unreadable or has no usable row.
    ParameterError
        On unknown levels or an unknown bundled network.
    """
    raw, label, words, levels = _load(source, levels, columns)
    frame = raw.edges
    counts = {"rows": len(frame) - raw.reversed, "reversed": raw.reversed}
    frame, counts["below_level"] = _levels(frame, levels, label)
    frame, lost = _map_ends(frame, GeneMap.bundled() if gene_map is None else gene_map)
    counts |= lost
    own = frame["source"] == frame["target"]
    counts["self_pairs"] = int(own.sum())
    frame = frame[~own]
    if frame.empty:
        message = f"Expected regulator-target pairs in '{label}', got none of {counts['rows']} rows ({counts})."
        raise InputError(message)
    edges, counts["contradictory_signs"] = _collapse(frame, by_level=raw.has_levels)
    counts["duplicates"] = len(frame) - len(edges)
    counts["pairs"] = len(edges)
    return ReferenceNetwork(name=name or label, edges=edges, counts=counts, source=words)


def read_regulators(source: str | Path, *, gene_map: GeneMap | None = None) -> tuple[str, ...]:
    """Read a list of regulators: one symbol a line, or a table with a column of symbols; ``"bundled:tfs"``.

    Returns
    -------
    Approved symbols where the table knows them, unique and sorted; ambiguous aliases are left out.

    Raises
    ------
    InputError
        When the file is missing or empty.
    SchemaError
        When a table has no column of symbols.
    """
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    if str(source).startswith("bundled:"):
        wanted = str(source).removeprefix("bundled:")
        if wanted != "tfs":
            message = f"Expected the bundled list 'bundled:tfs', got '{source}'.{nearest(wanted, ['tfs'])}"
            raise ParameterError(message)
        lines = bundled_text("transcription_factors_human.tsv.gz").splitlines()
    else:
        from regulens.io.network_formats import read_text

        lines = read_text(Path(source)).splitlines()
    lines = [x for x in lines if x.strip() and not x.startswith("#")]
    if not lines:
        message = f"Expected regulators in {source}, got an empty file. Give one symbol a line."
        raise InputError(message)
    symbols = _symbol_column(lines, str(source))
    found = {gene_map.resolve(s).symbol for s in symbols if s}
    return tuple(sorted(found - {""}))


def _symbol_column(lines: list[str], source: str) -> list[str]:
    separator = "\t" if "\t" in lines[0] else ","
    header = [h.strip().strip('"') for h in lines[0].split(separator)]
    known = ("symbol", "gene", "genes", "tf", "tfs", "regulator", "regulators", "source", "gene_symbol", "name")
    named = [i for i, h in enumerate(header) if h.lower() in known]
    if named:
        table = pd.read_csv(io.StringIO("\n".join(lines)), sep=separator, dtype=str, keep_default_na=False)
        return [str(v).strip() for v in table.iloc[:, named[0]]]
    if len(header) > 1:
        message = (
            f"Expected a column of symbols in {source} (symbol, gene, tf or regulator), got columns "
            f"{examples(header, limit=12)}. Give one symbol a line, or name the column 'symbol'."
        )
        raise SchemaError(message)
    return [x.strip().strip('"') for x in lines]


def bundled_text(file: str) -> str:
    """The text of a compressed table that comes with regulens."""
    return gzip.decompress((resources.files("regulens") / "data" / file).read_bytes()).decode()


def _load(
    source: str | Path | pd.DataFrame | AnnData, levels: Sequence[str] | None, columns: Mapping[str, str] | None
) -> tuple[RawNetwork, str, str, Sequence[str] | None]:
    if isinstance(source, str) and source.startswith("bundled:"):
        key, _, listed = source.removeprefix("bundled:").partition(":")
        if key not in _SOURCES:
            message = (
                f"Expected a bundled network ({', '.join(f'bundled:{b}' for b in BUNDLED)}), got '{source}'."
                f"{nearest(key, BUNDLED)}"
            )
            raise ParameterError(message)
        if listed:
            levels = [x.strip() for x in listed.split(",") if x.strip()]
        file, words = _SOURCES[key]
        table = pd.read_csv(io.StringIO(bundled_text(file)), sep="\t", dtype=str, keep_default_na=False)
        label = key + (f"_{''.join(sorted(levels))}" if levels else "")
        return read_network(table, columns=None, label=label), label, words, levels
    if isinstance(source, pd.DataFrame):
        return read_network(source, columns=columns, label="table"), "table", "table", levels
    if hasattr(source, "varp"):
        return from_varp(source, key=(columns or {}).get("varp"), label="AnnData"), "varp", "AnnData", levels
    path = Path(source).expanduser()
    label = path.name.split(".")[0]
    if path.suffix == ".h5ad":
        from regulens.io.cells import read_h5ad

        raw = from_varp(read_h5ad(path), key=(columns or {}).get("varp"), label=path.name)
        return raw, label, path.name, levels
    return read_network(path, columns=columns, label=path.name), label, path.name, levels


def _levels(frame: pd.DataFrame, levels: Sequence[str] | None, label: str) -> tuple[pd.DataFrame, int]:
    if not levels:
        return frame, 0
    wanted = {str(v) for v in levels}
    known = sorted(set(frame["evidence"]) - {""})
    odd = sorted(wanted - set(known))
    if odd:
        there = f"levels {examples(known, limit=8)}" if known else "no column of levels (confidence, level)"
        message = f"Expected confidence levels of '{label}', got {examples(odd)}; there are {there}."
        raise ParameterError(message)
    keep = frame["evidence"].isin(wanted)
    return frame[keep], int((~keep).sum())


def _map_ends(frame: pd.DataFrame, gene_map: GeneMap) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows whose two ends have a symbol, in approved symbols, and what became of the others."""
    mapped: dict[str, str] = {}
    fate: dict[str, str] = {}
    for name in pd.unique(pd.concat([frame["source"], frame["target"]])):
        match = gene_map.resolve(name)
        fate[name] = match.how
        if name in _MISSING:
            fate[name] = "missing"
        elif name.upper() in COMPLEXES or _COMPLEX.match(name):
            fate[name] = "complexes"
        elif match.how == "unknown" and gene_map.ensembl and _ACCESSION.match(name):
            fate[name] = "accessions"
        mapped[name] = match.symbol if fate[name] not in ("missing", "complexes", "accessions") else ""
    lost_as = ("missing", "complexes", "accessions", "ambiguous")
    ends = {end: frame[end].map(fate) for end in ("source", "target")}
    # A row is counted once, under the reason of its source if that is lost, else of its target.
    reason = ends["source"].where(ends["source"].isin(lost_as), ends["target"])
    counts = {r: int((reason == r).sum()) for r in lost_as}
    counts["unmapped"] = sum(counts.values())
    counts["renamed"] = sum(1 for n, how in fate.items() if how in ("previous", "alias"))
    counts["unknown_symbols"] = sum(1 for how in fate.values() if how == "unknown") if gene_map.ensembl else 0
    kept = frame[~reason.isin(lost_as)]
    return kept.assign(source=kept["source"].map(mapped), target=kept["target"].map(mapped)), counts


def _collapse(frame: pd.DataFrame, *, by_level: bool) -> tuple[pd.DataFrame, int]:
    """One row a pair: agreed sign, best level or all sources; and how many pairs had contradictory signs."""
    frame = frame.sort_values(["source", "target", "evidence"], kind="stable", ignore_index=True)
    groups = frame.groupby(["source", "target"], sort=True)
    low, high = groups["sign"].min().to_numpy(), groups["sign"].max().to_numpy()
    contradictory = (low < 0) & (high > 0)
    sign = np.where(contradictory, 0, np.where(high > 0, 1, np.where(low < 0, -1, 0)))
    first = groups["evidence"].first()
    if not by_level and first.ne("").any():
        several = frame[frame.duplicated(["source", "target"], keep=False)]
        joined = several.groupby(["source", "target"])["evidence"].agg(lambda v: ";".join(sorted({x for x in v if x})))
        first.loc[joined.index] = joined
    edges = first.reset_index().assign(sign=sign.astype(np.int64))[["source", "target", "sign", "evidence"]]
    return edges, int(contradictory.sum())
