"""What does a ready table say that perturbations did? Perturbation, gene, effect, and p where it has one.

Columns are recognised by the names that common tools give them (scanpy, Seurat, DESeq2, edgeR, sceptre). Rows that
cannot be used are counted in `PerturbationEffects.source`; of rows that contradict each other none is chosen.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from regulens.errors import InputError, SchemaError, examples, nearest
from regulens.io.gene_ids import GeneMap, align_genes
from regulens.io.network_formats import read_text, require_fields
from regulens.io.screen_labels import AMBIGUOUS, CONTROL, NO_LABEL, OTHER_CONTROL, SEVERAL, UNKNOWN, LabelReader
from regulens.types.screens import PerturbationEffects

#: Names of columns, lower case without ``. _ -`` and spaces, first match wins. No column serves two roles.
PERTURBATION = (
    "perturbation", "perturbedgene", "perturbationgene", "pert", "grnatarget", "sgrnatarget", "guidetarget",
    "knockdown", "knockout", "kogene", "regulator", "source", "tf", "condition", "group", "contrast", "cluster",
)  # fmt: skip
GENE = (
    "gene", "genesymbol", "symbol", "genename", "response", "responseid", "responsegene", "names", "feature",
    "measuredgene", "readoutgene", "targetgene", "target", "geneid", "ensemblid",
)  # fmt: skip
#: Effects, with the scale that the name states.
EFFECT = {
    "deltalog1p": "difference of mean log1p", "deltamean": "difference of means", "effect": "effect",
    "effectsize": "effect", "log2fc": "log2 fold change", "log2foldchange": "log2 fold change",
    "avglog2fc": "log2 fold change", "logfoldchanges": "log2 fold change", "lfc": "log fold change, base not said",
    "logfc": "log fold change, base not said", "avglogfc": "log fold change, natural", "logfoldchange":
    "log fold change, base not said", "beta": "coefficient", "coefficient": "coefficient", "coef": "coefficient",
    "estimate": "estimate", "delta": "difference", "difference": "difference",
}  # fmt: skip
P = ("p", "pvalue", "pval", "pvals", "prob", "rawp", "ppvalue", "nominalp", "welchp", "pwelch", "mannwhitneyp")
ADJUSTED = (
    "padj", "padjusted", "pvaladj", "pvalsadj", "pvalueadj", "adjpval", "adjpvalue", "adjp", "qvalue", "qval", "qvals",
    "q", "fdr", "bh", "pbh", "pfdr", "pbonf", "pbonferroni", "bonferroni",
)  # fmt: skip
SE = ("se", "stderr", "lfcse", "standarderror", "stderror")
N_CELLS = ("npert", "nperturbed", "ncells", "ncellspert", "ncellsperturbed", "npertcells", "ntreatment")
N_CONTROLS = ("nctrl", "ncontrol", "ncontrols", "ncellscontrol", "nctrlcells")

_GAPS = ("", "na", "nan", "n/a", "null", "none", ".")
#: What a gap among names becomes when a table is written; NA was a symbol, but not in this place.
_NAMELESS = ("nan", "NaN", "NA", "<NA>", "None")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Columns of a table by role; None where there is none."""

    perturbation: str
    gene: str
    effect: str
    scale: str
    p: str | None
    adjusted: bool
    se: str | None
    n_cells: str | None
    n_controls: str | None


def read_effects(
    source: Path | str | pd.DataFrame,
    *,
    name: str,
    perturbation: str | None = None,
    gene_column: str | None = None,
    gene_map: GeneMap | None = None,
) -> PerturbationEffects:
    """Read a table with one row per perturbation and gene.

    Parameters
    ----------
    source
        Delimited text, compressed or not, parquet, or a table.
    perturbation, gene_column
        Columns of the perturbed and of the measured gene; recognised by default.
    gene_map
        By default the bundled human table.

    Raises
    ------
    SchemaError
        When a column is not recognised or does not exist, a number is none, a p is outside [0, 1], or two rows of
        one pair contradict each other.
    InputError
        When the file is missing or unreadable, or no row can be used.

    Examples
    --------
    >>> table = pd.DataFrame({"perturbation": ["STAT1"] * 2, "gene": ["IRF1", "JAK2"], "log2fc": [-1.5, 0.1]})
    >>> effects = read_effects(table, name="mine")
    >>> effects.genes, effects.effect.tolist(), effects.p is None, effects.scale
    (('IRF1', 'JAK2'), [[-1.5, 0.1]], True, "log2 fold change ('log2fc')")
    """
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    table = source if isinstance(source, pd.DataFrame) else _read(Path(source).expanduser())
    label = name if isinstance(source, pd.DataFrame) else Path(source).name
    if not len(table):
        message = f"Expected a table of effects in {label}, got no rows. Check the path."
        raise InputError(message)
    columns = _recognise(table, label, perturbation=perturbation, gene_column=gene_column)
    frame = pd.DataFrame(
        {
            "perturbation": _names(table[columns.perturbation]),
            "gene": _names(table[columns.gene]),
            "effect": _numbers(table, columns.effect, label),
        }
    )
    for role in ("p", "se", "n_cells", "n_controls"):
        column = getattr(columns, role)
        if column is not None:
            frame[role] = _numbers(table, column, label)
    if columns.p is not None:
        _check_p(frame["p"].to_numpy(), columns.p, label)
    counts: dict[str, int] = {"rows": len(frame)}
    frame = _mapped(frame, gene_map, counts, label)
    frame = _collapsed(frame, counts, label)
    return _effects(frame, columns, counts, label)


def _effects(frame: pd.DataFrame, columns: _Columns, counts: dict[str, int], label: str) -> PerturbationEffects:
    perturbations = tuple(sorted(set(frame["perturbation"])))
    genes = tuple(dict.fromkeys(frame["gene"]))
    row = frame["perturbation"].map({p: i for i, p in enumerate(perturbations)}).to_numpy()
    column = frame["gene"].map({g: j for j, g in enumerate(genes)}).to_numpy()

    def grid(role: str) -> np.ndarray:
        out = np.full((len(perturbations), len(genes)), np.nan)
        out[row, column] = frame[role]
        return out

    n_cells = np.full(len(perturbations), -1, dtype=np.int64)
    if "n_cells" in frame:
        most = frame.groupby("perturbation")["n_cells"].max()
        n_cells = np.array([int(most[p]) if np.isfinite(most[p]) else -1 for p in perturbations], dtype=np.int64)
    n_controls = frame["n_controls"].max() if "n_controls" in frame else np.nan
    found = [f"effect from '{columns.effect}'"]
    found.append(f"{'adjusted ' * columns.adjusted}p from '{columns.p}'" if columns.p else "no p")
    lost = "; ".join(f"{n} {what}" for what, n in counts.items() if n)
    return PerturbationEffects(
        perturbations=perturbations, genes=genes, effect=grid("effect"), p=grid("p") if "p" in frame else None,
        se=grid("se") if "se" in frame else None, n_cells=n_cells,
        n_controls=int(n_controls) if np.isfinite(n_controls) else -1,
        test=f"p of the table, '{columns.p}'" if columns.p else "effects without p",
        scale=f"{columns.scale} ('{columns.effect}')", adjusted=columns.adjusted,
        source=f"{label}: '{columns.perturbation}' perturbs, '{columns.gene}' responds, {', '.join(found)}; {lost}",
    )  # fmt: skip


def _read(path: Path) -> pd.DataFrame:
    if ".parquet" in path.suffixes and path.is_file():
        try:
            return pd.read_parquet(path)
        except Exception as error:
            message = f"Expected readable parquet in {path.name}, got '{str(error).splitlines()[0]}'. Write it again."
            raise InputError(message) from error
    text = read_text(path)
    lines = text.split("\n")
    start = 0
    while start < len(lines) - 1 and (not lines[start].strip() or lines[start].startswith("#")):
        start += 1
    if not lines[start].strip():
        message = f"Expected a table of effects in {path.name}, got an empty file. Check the path."
        raise InputError(message)
    separator = max("\t,; ", key=lines[start].count)
    fields = [f.strip().strip('"') for f in lines[start].split(separator)]
    body = [line for line in lines[start + 1 :] if line.strip()]
    require_fields(body, fields, separator, path.name)
    try:
        return pd.read_csv(
            io.StringIO("\n".join(lines[start:])), sep=separator, dtype=str, keep_default_na=False,
            index_col=0 if _has_row_names(body, fields, separator) else False, skipinitialspace=True,
        )  # fmt: skip
    except Exception as error:
        message = f"Expected a table in {path.name}, got '{str(error).strip()}'. Check the separators."
        raise SchemaError(message) from error


def _has_row_names(body: list[str], fields: list[str], separator: str) -> bool:
    """Whether rows begin with a name that has no heading, as R writes them: otherwise every value would be read under
    the heading beside its own. A separator at the end of every row is none."""
    if not body or len(next(csv.reader([body[0]], delimiter=separator, skipinitialspace=True))) != len(fields) + 1:
        return False
    return not all(line.rstrip("\r").endswith(separator) for line in body)


def _plain(column: object) -> str:
    return str(column).lower().translate(str.maketrans("", "", "._- ()"))


def _recognise(table: pd.DataFrame, label: str, *, perturbation: str | None, gene_column: str | None) -> _Columns:
    there = [str(c) for c in table.columns]
    for given, what in ((perturbation, "the perturbed gene"), (gene_column, "the measured gene")):
        if given is not None and given not in there:
            message = (
                f"Expected a column '{given}' for {what} in {label}, got columns {examples(there, limit=12)}."
                f"{nearest(given, there)} Name a column that exists."
            )
            raise SchemaError(message)
    by_plain = {_plain(c): c for c in reversed(there)}
    used: set[str] = {c for c in (perturbation, gene_column) if c is not None}

    def first(names: tuple[str, ...]) -> str | None:
        return next((by_plain[n] for n in names if n in by_plain and by_plain[n] not in used), None)

    effect = first(tuple(EFFECT))
    if effect is not None:
        used.add(effect)
    source = perturbation or first(PERTURBATION)
    if source is not None:
        used.add(source)
    target = gene_column or first(GENE)
    if source is None and target is not None and "target" in by_plain and _plain(target) != "target":
        message = (
            f"Expected to know which gene is perturbed in {label}, got the columns '{by_plain['target']}' and "
            f"'{target}', either of which could be it. Name the perturbed one (perturbation=COLUMN)."
        )
        raise SchemaError(message)
    wanted = {
        "perturbed-gene": (source, "perturbation, regulator, grna_target"),
        "gene": (target, "gene, target, names"),
        "effect": (effect, "effect, logfc, log2fc, delta_log1p, avg_log2FC"),
    }
    for what, (found, names) in wanted.items():
        if found is None:
            article = "an" if what.startswith("e") else "a"
            message = (
                f"Expected {article} {what} column ({names}, ...) in {label}, got columns "
                f"{examples(there, limit=12)}. Rename the column."
            )
            raise SchemaError(message)
    assert source is not None and target is not None and effect is not None
    used.add(target)
    raw = first(P) or next((c for c in there if c not in used and c.lower().endswith(("_p", "_pvalue", "_pval"))), None)
    adjusted = first(ADJUSTED) if raw is None else None
    return _Columns(
        perturbation=source, gene=target, effect=effect, scale=EFFECT[_plain(effect)], p=raw or adjusted,
        adjusted=adjusted is not None, se=first(SE), n_cells=first(N_CELLS), n_controls=first(N_CONTROLS),
    )  # fmt: skip


def _names(series: pd.Series) -> np.ndarray:
    """Strings without spaces at their ends, ``""`` for gaps."""
    text = series.astype(object).where(series.notna(), "").astype(str).str.strip()
    return text.where(~text.isin(_NAMELESS), "").to_numpy(dtype=object)


def _numbers(table: pd.DataFrame, column: str, label: str) -> np.ndarray:
    """Float64, NaN for gaps; refuses words."""
    series = table[column]
    if series.dtype.kind in "fiu":
        return series.to_numpy(dtype=np.float64)
    text = series.astype(str).str.strip()
    gap = text.str.lower().isin(_GAPS) | series.isna()
    values = pd.to_numeric(text.where(~gap, "nan"), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(np.isnan(values) & ~gap.to_numpy())
    if bad.size:
        message = (
            f"Expected numbers in column '{column}' of {label}, got '{text.iloc[bad[0]]}' in row {bad[0] + 1}. Leave "
            "a gap where there is no value."
        )
        raise SchemaError(message)
    return values


def _check_p(p: np.ndarray, column: str, label: str) -> None:
    odd = p[(p < 0) | (p > 1)]
    if odd.size:
        message = (
            f"Expected p in [0, 1] in column '{column}' of {label}, got {odd.size} others (such as {odd[0]:.4g}). If "
            "they are logarithms, take them back first."
        )
        raise SchemaError(message)


def _mapped(frame: pd.DataFrame, gene_map: GeneMap, counts: dict[str, int], label: str) -> pd.DataFrame:
    """Both ends as approved symbols; rows that mean no single perturbation or gene leave and are counted."""
    measured = pd.unique(frame["gene"])
    _, _, alignment = align_genes([g for g in measured if g], gene_map)
    to_gene = dict(zip(alignment.table["input"], alignment.table["symbol"]))
    reading = LabelReader(gene_map, [s for s in to_gene.values() if s]).read(pd.unique(frame["perturbation"]))
    kind = frame["perturbation"].map(reading.kind)
    words = {
        CONTROL: "rows of a control label left out", OTHER_CONTROL: "rows of a control label left out",
        SEVERAL: "rows of several genes perturbed left out", UNKNOWN: "rows of an unknown perturbed gene left out",
        AMBIGUOUS: "rows of a perturbed alias of several genes left out",
        NO_LABEL: "rows without a perturbation left out",
    }  # fmt: skip
    for what, word in words.items():
        counts[word] = counts.get(word, 0) + int((kind == what).sum())
    became = dict(zip(alignment.table["input"], alignment.table["status"])) | {"": "nameless"}
    frame = frame.assign(
        perturbation=frame["perturbation"].map(reading.gene), gene=frame["gene"].map(to_gene),
        status=frame["gene"].map(became),
    )[lambda f: f["perturbation"].notna()]  # fmt: skip
    for what, word in (
        ("nameless", "rows without a gene left out"), ("ambiguous", "rows of an alias of several genes left out"),
        ("duplicate", "rows of an alias beside its approved symbol left out"),
    ):  # fmt: skip
        lost = frame["status"] == what
        counts[word] = int(lost.sum())
        frame = frame[~lost]
    frame = frame.drop(columns="status")
    endless = ~np.isfinite(frame["effect"].to_numpy())
    counts["rows without a finite effect left out"] = int(endless.sum())
    frame = frame[~endless]
    if reading.rule:
        counts[f"labels read as guides ({reading.rule})"] = len(reading.guides)
    if frame.empty:
        message = (
            f"Expected perturbed genes with effects in {label}, got no usable row ("
            f"{'; '.join(f'{n} {what}' for what, n in counts.items() if n)}). Check the columns and the gene names."
        )
        raise InputError(message)
    return frame


def _collapsed(frame: pd.DataFrame, counts: dict[str, int], label: str) -> pd.DataFrame:
    """One row per pair: identical rows count once, contradictory ones are refused."""
    values = [c for c in frame.columns if c not in ("perturbation", "gene")]
    unique = frame.drop_duplicates(["perturbation", "gene", *values])
    repeated = unique.duplicated(["perturbation", "gene"], keep=False)
    if repeated.any():
        first = unique[repeated].iloc[0]
        twins = unique[(unique["perturbation"] == first["perturbation"]) & (unique["gene"] == first["gene"])]
        n_pairs = len(unique[repeated].drop_duplicates(["perturbation", "gene"]))
        message = (
            f"Expected one effect per perturbation and gene in {label}, got {n_pairs} pairs with several (such as "
            f"{first['perturbation']} on {first['gene']}: {examples([f'{v:.4g}' for v in twins['effect']], limit=3)}). "
            "Combine guides or contrasts first, or keep one."
        )
        raise SchemaError(message)
    counts["identical rows collapsed"] = len(frame) - len(unique)
    return unique
