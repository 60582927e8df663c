"""Which cells of this file carry which perturbation? Columns found, labels read, counts verified; the rest counted.

A screen is an AnnData with a perturbation a cell, which becomes a `Screen`, or a ready table of effects, which becomes
`PerturbationEffects`. What was recognised by convention is said in ``Screen.notes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from regulens.errors import InputError, ParameterError, ScaleError, SchemaError, examples, nearest
from regulens.io.cell_files import BACKED_ABOVE, matrix_bytes, open_cells, read_h5ad, require_cells
from regulens.io.cells import Backed, read_cells
from regulens.io.effect_tables import read_effects
from regulens.io.gene_ids import Duplicates, GeneMap
from regulens.io.roles import column_of
from regulens.io.screen_columns import (
    CELL_LINE,
    GUIDE,
    REPLICATE,
    FoundLabels,
    cells_by_nperts,
    find_perturbations,
    find_role,
    modality_in,
)
from regulens.io.screen_labels import CONTROL, GENE, SEVERAL, is_joined
from regulens.io.screen_scale import mixed_scale
from regulens.types.cells import Cells
from regulens.types.screens import Modality, PerturbationEffects, Screen

if TYPE_CHECKING:
    from anndata import AnnData

MODALITIES = ("crispri", "crispra", "knockout")
#: Why cells of other lines are left out.
OTHER_LINE = "another cell line"
_CELL_FILES = (".h5ad", ".zarr", ".h5")


def read_screen(
    source: str | Path | AnnData | pd.DataFrame,
    *,
    name: str,
    perturbation: str | None = None,
    control: str | Sequence[str] | None = None,
    guide: str | None = None,
    replicate: str | None = None,
    cell_line: str | None = None,
    only: str | None = None,
    modality: Modality | None = None,
    counts: str = "auto",
    log1p_cp10k: bool = False,
    total_counts: str | None = None,
    gene_column: str | None = None,
    duplicates: Duplicates = "refuse",
    backed: Backed = "auto",
    gene_map: GeneMap | None = None,
) -> Screen | PerturbationEffects:
    """Read a screen of perturbations: cells (``.h5ad``, AnnData zarr, an AnnData), or a ready table of effects.

    Parameters
    ----------
    perturbation
        Column of ``obs`` with the perturbed gene; recognised by default. Of a table of effects, the column of the
        perturbed gene.
    control
        Label or labels of control cells; recognised by default (control, non-targeting, NT, ctrl, ...).
    guide, replicate, cell_line
        Columns of ``obs``; recognised by default where there are any.
    only
        Keep the cells of this cell line. Where the file is read into memory, the counts of other lines are not
        looked at, so that they may be on another scale.
    modality
        What a perturbation does to its gene; by default what ``obs['perturbation_type']`` says, if it says so.
    counts, log1p_cp10k, total_counts, duplicates, backed
        As in `regulens.io.cells.read_cells`.
    gene_column
        Column of ``var`` with gene ids; of a table of effects, the column of the measured gene.
    gene_map
        By default the bundled human table.

    Returns
    -------
    A `Screen` of cells with one perturbed gene each and control cells; or `PerturbationEffects`.

    Raises
    ------
    SchemaError
        When a column does not exist, or none or several could be the perturbation.
    InputError
        When there are no control cells, no such control label, or no perturbed gene.
    ScaleError
        When there are no raw counts; where only some cells have them, the message says which.
    """
    if modality is not None and modality not in MODALITIES:
        message = (
            f"Expected modality to be one of {', '.join(MODALITIES)}, got '{modality}'."
            f"{nearest(str(modality).lower(), MODALITIES)} Name what a perturbation does to its gene."
        )
        raise ParameterError(message)
    gene_map = GeneMap.bundled() if gene_map is None else gene_map
    if _is_table(source):
        about = {
            "control": control, "guide": guide, "replicate": replicate, "cell_line": cell_line,
            "only": only, "total_counts": total_counts, "log1p_cp10k": log1p_cp10k or None,
        }  # fmt: skip
        given = [k for k, v in about.items() if v is not None]
        if given:
            message = (
                f"Expected no options about cells for '{name}', got {', '.join(given)}: it is a table of effects. "
                "Leave them out, or give the cells."
            )
            raise ParameterError(message)
        return read_effects(
            source, name=name, perturbation=perturbation, gene_column=gene_column, gene_map=gene_map
        )  # fmt: skip

    obs, var = _annotation(source)
    label = Path(source).name if isinstance(source, str | Path) else name
    ids = var.index if gene_column is None else column_of(var, gene_column, purpose="gene ids", table="var")
    measured = {gene_map.resolve(str(i)).symbol for i in ids}
    found = find_perturbations(
        obs, column=perturbation, control=control, gene_map=gene_map, measured=sorted(measured), label=label
    )
    said, otherwise, note = modality_in(obs, label)
    notes = [*found.notes, *([note] if note else [])]
    if modality is not None and said not in (None, modality):
        notes.append(f"the modality was declared as {modality}, although the file says {said}")
    roles: dict[str, np.ndarray] = {}
    columns: list[str] = []
    for role, column, names in (
        ("cell_line", cell_line, CELL_LINE), ("replicate", replicate, REPLICATE), ("guide", guide, GUIDE),
    ):  # fmt: skip
        labels, taken, note = find_role(obs, column, role=role, names=names, taken=found.column)
        if labels is not None:
            roles[role] = labels
            columns.append(taken)
            notes += [note] if note else []
    if found.reading.rule and "guide" not in roles:
        roles["guide"] = found.labels

    of_line = _line(roles, only, label)
    some = source if only is None else some_cells(source, obs.index[of_line], backed)
    try:
        cells = read_cells(
            some, counts=counts, log1p_cp10k=log1p_cp10k, gene_column=gene_column, duplicates=duplicates,
            total_counts=total_counts, name=name, gene_map=gene_map, backed=backed if some is source else "auto",
        )  # fmt: skip
    except ScaleError as error:
        mixed = mixed_scale(source, counts=counts, obs=obs, columns=tuple(columns), label=label)
        if mixed and some is source:
            raise ScaleError(mixed) from error
        raise
    if some is not source and isinstance(source, str | Path):
        cells = replace(cells, source=cells.source.replace("AnnData", label, 1))
    at = pd.Index(obs.index.astype(str)).get_indexer(cells.obs.index)
    keep, dropped = _usable(obs, found, otherwise, of_line)
    rows = np.flatnonzero(keep[at])
    frame = _frame(found, roles, at[rows])
    _require_both(frame, found, dropped, label)
    kept = cells if len(rows) == cells.n_cells else cells.subset(rows)
    frame.index = kept.obs.index
    notes += [*_about_labels(found), *_about_sizes(obs, total_counts, cells, at)]
    notes += _about_treatments(obs)
    counted = {k.replace("_", " "): n for k, n in cells.dropped.items()} | {
        why: int(lost[at].sum()) for why, lost in dropped.items()
    }
    if some is not source:
        counted[OTHER_LINE] = int((~of_line).sum())
    return Screen(
        name=name, cells=kept, obs=frame, modality=modality or said,
        dropped={k: n for k, n in counted.items() if n}, notes=tuple(notes),
    )  # fmt: skip


def _line(roles: dict[str, np.ndarray], only: str | None, label: str) -> np.ndarray:
    """Bool per cell: of the line to keep."""
    if only is None:
        return np.ones(1, dtype=bool)
    if "cell_line" not in roles:
        message = f"Expected a column of cell lines to keep '{only}' of {label}, got none. Name it (cell_line)."
        raise SchemaError(message)
    of_line = roles["cell_line"] == only
    if not of_line.any():
        there = sorted(set(roles["cell_line"]) - {""})
        message = (
            f"Expected cells of the line '{only}' in {label}, got the lines {examples(there)}.{nearest(only, there)} "
            "Name one of them."
        )
        raise SchemaError(message)
    return of_line


def some_cells(source: Any, names: Iterable[str], backed: Backed) -> Any:
    """The cells of these names, where they are read into memory; a file that stays where it is, as it is."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if backed is True or (backed == "auto" and (matrix_bytes(path) or 0) > BACKED_ABOVE):
            return source
        source = read_h5ad(path)
    elif getattr(source, "isbacked", False):
        return source
    return source[source.obs_names.isin([str(n) for n in names])]


def _is_table(source: Any) -> bool:
    if isinstance(source, pd.DataFrame):
        return True
    if not isinstance(source, str | Path):
        return False
    path = Path(source).expanduser()
    return not path.is_dir() and path.suffix.lower() not in _CELL_FILES


def _annotation(source: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``obs`` and ``var``, without the matrices where the file allows."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        require_cells(path)
        stored = read_h5ad(path) if matrix_bytes(path) is None else open_cells(path)
        return _unique(stored.obs), stored.var
    if not all(hasattr(source, a) for a in ("obs", "var", "X", "layers")):
        message = (
            f"Expected a path, an AnnData or a table of effects, got {type(source).__name__}. Wrap the matrix in an "
            "AnnData first."
        )
        raise InputError(message)
    return _unique(source.obs), source.var


def _unique(obs: pd.DataFrame) -> pd.DataFrame:
    if not obs.columns.is_unique:
        repeated = sorted({str(c) for c in obs.columns[obs.columns.duplicated()]})
        message = f"Expected columns of obs to have names of their own, got {examples(repeated)} twice. Rename one."
        raise SchemaError(message)
    return obs


def _usable(
    obs: pd.DataFrame, found: FoundLabels, otherwise: np.ndarray, of_line: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cells with a control label or one perturbed gene, and the others by reason, one reason a cell."""
    kinds = found.kinds()
    reason = np.where(np.isin(kinds, [CONTROL, GENE]), "", kinds).astype(object)
    number = cells_by_nperts(obs)
    if number is not None:
        open_ = reason == ""
        # A label such as CBL_NegCtrl0 names one gene, whatever was counted.
        single = ~pd.Series(found.labels).map({v: is_joined(v) for v in found.reading.kind}).to_numpy(dtype=bool)
        reason[open_ & single & (number > 1) & (kinds == GENE)] = SEVERAL
        reason[open_ & (number == 0) & (kinds == GENE)] = "a gene named, but nperts is 0"
    reason[np.broadcast_to(~of_line, reason.shape)] = OTHER_LINE
    reason[(reason == "") & otherwise & (kinds == GENE)] = "perturbed otherwise than by CRISPR"
    return reason == "", {r: reason == r for r in sorted(set(reason) - {""})}


def _frame(found: FoundLabels, roles: dict[str, np.ndarray], rows: np.ndarray) -> pd.DataFrame:
    control = found.kinds()[rows] == CONTROL
    frame = pd.DataFrame({"perturbation": np.where(control, "", found.genes()[rows]), "control": control})
    for role in ("guide", "replicate", "cell_line"):
        if role in roles:
            frame[role] = roles[role][rows].astype(str)
    return frame


def _require_both(frame: pd.DataFrame, found: FoundLabels, dropped: dict[str, np.ndarray], label: str) -> None:
    lost = "; ".join(f"{int(cells.sum())} cells: {why}" for why, cells in dropped.items()) or "none left out"
    if not frame["control"].any():
        message = (
            f"Expected control cells in obs['{found.column}'] of {label}, got labels "
            f"{examples(found.reading.controls)} without a usable cell ({lost}). Check the label and the counts."
        )
        raise InputError(message)
    if frame["control"].all():
        names = [v for v, k in found.reading.kind.items() if k not in (CONTROL, GENE) and v]
        message = (
            f"Expected perturbed genes in obs['{found.column}'] of {label}, got none ({lost}"
            f"{f'; such as {examples(names)}' if names else ''}). Name the column of perturbed genes (perturbation)."
        )
        raise InputError(message)


def _about_labels(found: FoundLabels) -> list[str]:
    """Labels that were left out, by reason."""
    by_kind: dict[str, list[str]] = {}
    for label, kind in sorted(found.reading.kind.items()):
        if kind not in (CONTROL, GENE) and label:
            by_kind.setdefault(kind, []).append(label)
    return [f"{len(v)} labels left out ({kind}): {examples(v)}" for kind, v in sorted(by_kind.items())]


def _about_sizes(obs: pd.DataFrame, total_counts: str | None, cells: Cells, at: np.ndarray) -> list[str]:
    """scPerturb's ``ncounts`` beside row sums: a file with part of the genes has smaller sums."""
    if total_counts is not None or "ncounts" not in obs:
        return []
    said = pd.to_numeric(pd.Series(obs["ncounts"].to_numpy(dtype=object)[at]), errors="coerce").to_numpy()
    ratio = float(np.nanmedian(said / cells.total_counts)) if np.isfinite(said).any() else 1.0
    if not ratio > 1.05:
        return []
    words = (
        f"obs['ncounts'] is {ratio:.3g} times the sum of a cell's counts (median): the file holds part of the genes; "
        "library sizes are the sums unless total_counts names that column"
    )
    return [words]


def _about_treatments(obs: pd.DataFrame) -> list[str]:
    """scPerturb's second perturbation of a cell, mostly a treatment."""
    if "perturbation_2" not in obs or obs["perturbation_2"].nunique() < 2:
        return []
    values = [str(v) for v in obs["perturbation_2"].dropna().unique()]
    return [f"obs['perturbation_2'] has {len(values)} values ({examples(values)}), over which effects are pooled"]
