"""Which column of ``obs`` names the perturbation, the guide, the replicate, the cell line? Conventions, said aloud.

scPerturb has ``perturbation``, ``nperts``, ``perturbation_type``, ``guide_id``, ``cell_line``, ``replicate``; Replogle
``gene``, ``sgID_AB``, ``gem_group``; GEARS ``condition`` (``STAT1+ctrl``); Seurat's ECCITE-seq ``gene``, ``guide_ID``,
``replicate``. A perturbation column is taken for what is in it, not for its name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.errors import InputError, SchemaError, examples
from regulens.io.gene_ids import GeneMap
from regulens.io.roles import labels_of
from regulens.io.screen_labels import (
    CONTROL,
    GENE,
    NO_LABEL,
    OTHER_CONTROL,
    SEVERAL,
    LabelReader,
    LabelReading,
    conflicting_controls,
    named_controls,
    plain,
)
from regulens.types.screens import Modality

#: Names of the perturbation column without punctuation, in lower case; the first that fits is taken.
PERTURBATION = (
    "perturbation", "perturbedgene", "targetgene", "genetarget", "target", "gene", "condition", "perturbedgenename",
    "genetargeted", "guidetarget", "sgrnatarget", "grnatarget", "targetgenename", "perturbationname",
    "geneticperturbation",
)  # fmt: skip
#: Looked at only where none of those fits: names of guides, from which genes are taken.
BY_GUIDE = ("guideidentity", "grnaassignment", "guidecall", "guide", "guideid", "sgrna", "grna", "featurecall")
#: Columns that mark a file of scPerturb, whose ``perturbation`` is then taken whatever else there is.
_SCPERTURB = ("nperts", "perturbation_type")
GUIDE = ("guideid", "guide", "sgrna", "grna", "sgidab", "guideidentity", "sgrnaid", "grnaid", "featurecall")
REPLICATE = (
    "replicate", "biorep", "bioreplicate", "biologicalreplicate", "rep", "donor", "donorid", "patient", "batch",
    "gemgroup", "library",
)  # fmt: skip
CELL_LINE = ("cellline", "celllinename")

#: Share of the labels, controls aside, that have to be genes in a column that is recognised.
GENE_SHARE = 0.5

#: Words of ``perturbation_type``, without punctuation, that say what was done to the gene.
_TYPES: dict[str, Modality] = {
    "crispri": "crispri", "crisprinterference": "crispri", "knockdown": "crispri", "dcas9krab": "crispri",
    "crispra": "crispra", "crispractivation": "crispra", "activation": "crispra",
    "crisprcas9": "knockout", "crisprko": "knockout", "knockout": "knockout", "ko": "knockout", "crisprn": "knockout",
}  # fmt: skip
#: Words that say that something was done to a gene, not what.
_GENETIC = ("crispr", "genetic", "grna", "sgrna")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundLabels:
    """The perturbation of every cell.

    Parameters
    ----------
    column
        Name of the column.
    labels
        As in the file, shape ``(cell,)``; ``""`` where missing.
    reading
        What each label means.
    """

    column: str
    labels: np.ndarray
    reading: LabelReading
    notes: tuple[str, ...] = ()

    def kinds(self) -> np.ndarray:
        """Kind of every cell's label, shape ``(cell,)``."""
        return pd.Series(self.labels).map(self.reading.kind).to_numpy(dtype=object)

    def genes(self) -> np.ndarray:
        """Approved symbol of every cell's perturbed gene, ``""`` where there is none, shape ``(cell,)``."""
        return pd.Series(self.labels).map(self.reading.gene).fillna("").to_numpy(dtype=object)


def find_perturbations(
    obs: pd.DataFrame,
    *,
    column: str | None,
    control: str | Sequence[str] | None,
    gene_map: GeneMap,
    measured: Sequence[str],
    label: str,
) -> FoundLabels:
    """The named column, or the one that is recognised.

    Raises
    ------
    SchemaError
        When the column does not exist, none is recognised, or several are and say different things.
    InputError
        When there is no control label, the named one does not exist, or two kinds of labels say control.
    """
    reader = LabelReader(gene_map, measured)
    if column is not None:
        labels, _ = labels_of(obs, column, role="perturbation")
        return _with_controls(_read(reader, column, labels, control), gene_map, label, named=control is not None)
    fitting = _fitting(obs, PERTURBATION, reader, control) or _fitting(obs, BY_GUIDE, reader, control)[:1]
    if not fitting and control is not None:
        for near in _fitting(obs, (*PERTURBATION, *BY_GUIDE), reader, None)[:1]:
            # There is a column of perturbed genes, so it is the control label that does not exist.
            named_controls(control, list(near.labels), column=near.column, gene_map=gene_map)
    if not fitting and control is None:
        for near in _fitting(obs, PERTURBATION, reader, None, controls=False)[:1]:
            _with_controls(near, gene_map, label, named=False)  # genes without controls: says so
    if not fitting:
        names = [str(c) for c in obs.columns]
        message = (
            f"Expected a column of perturbed genes with control cells in obs of {label} (perturbation, gene, target, "
            f"condition, ...), got {f'columns {examples(names, limit=12)}' if names else 'no columns'}, none of which "
            "holds two genes or more beside a control label. Name the column and the label (perturbation, control)."
        )
        raise SchemaError(message)
    first = fitting[0]
    note = f"obs['{first.column}'] was recognised as the perturbation"
    same = [f.column for f in fitting[1:] if not (_meaning(first) != _meaning(f)).any()]
    other = [f for f in fitting[1:] if f.column not in same]
    if first.column == "perturbation" and any(c in obs for c in _SCPERTURB):
        note += " by the conventions of scPerturb"
        note += f"; {examples([f.column for f in other])} say otherwise and were left aside" if other else ""
    elif other:
        differing = int((_meaning(first) != _meaning(other[0])).sum())
        message = (
            f"Expected one column of perturbed genes in obs of {label}, got '{first.column}' and "
            f"'{other[0].column}', which differ in {differing} of {len(obs)} cells. Name one (perturbation)."
        )
        raise SchemaError(message)
    if same:
        note += f" ({examples(same)} say the same)"
    found = FoundLabels(column=first.column, labels=first.labels, reading=first.reading, notes=(note,))
    return _with_controls(found, gene_map, label, named=control is not None)


def _fitting(
    obs: pd.DataFrame,
    names: tuple[str, ...],
    reader: LabelReader,
    control: str | Sequence[str] | None,
    *,
    controls: bool = True,
) -> list[FoundLabels]:
    found = (_candidate(obs, c, reader, control, controls=controls) for c in _named(obs, names))
    return [f for f in found if f is not None]


def _candidate(
    obs: pd.DataFrame, column: str, reader: LabelReader, control: str | Sequence[str] | None, *, controls: bool
) -> FoundLabels | None:
    """The column if it holds genes and, unless told otherwise, controls."""
    try:
        labels, _ = labels_of(obs, column, role="perturbation")
    except SchemaError:
        return None
    wanted = [control] if isinstance(control, str) else list(control or ())
    if wanted and not set(wanted) <= set(labels):
        return None
    found = _read(reader, column, labels, wanted or None)
    kinds = pd.Series([k for v, k in found.reading.kind.items() if v])
    n_genes = int(kinds.isin([GENE, SEVERAL]).sum())
    n_other = int((~kinds.isin([CONTROL, OTHER_CONTROL, NO_LABEL])).sum())
    # Two genes at least: a condition "IFNG" beside "control" is a treatment, not a screen.
    fits = (
        (found.reading.controls or not controls)
        and len(set(found.reading.gene.values())) > 1
        and n_genes >= GENE_SHARE * n_other
    )
    return found if fits else None


def _meaning(found: FoundLabels) -> np.ndarray:
    """Gene, or kind where there is none, of every cell."""
    genes = found.genes()
    return np.where(genes == "", found.kinds(), genes)


def _read(reader: LabelReader, column: str, labels: np.ndarray, control: str | Sequence[str] | None) -> FoundLabels:
    wanted = ()
    if control is not None:
        wanted = tuple(named_controls(control, list(labels), column=column, gene_map=reader.gene_map))
    return FoundLabels(column=column, labels=labels, reading=reader.read(list(pd.unique(labels)), control=wanted))


def _with_controls(found: FoundLabels, gene_map: GeneMap, label: str, *, named: bool) -> FoundLabels:
    """Check that there are controls of one kind, and say which and what else was done to labels."""
    reading, sizes = found.reading, pd.Series(found.labels).value_counts()
    if not reading.controls:
        message = (
            f"Expected control cells in obs['{found.column}'] of {label} (control, non-targeting, NT, ctrl, ...), got "
            f"labels {examples(sorted(set(found.labels) - {''}))}. Name the control label (control)."
        )
        raise InputError(message)
    clash = "" if named else conflicting_controls(reading, sizes, gene_map)
    if clash:
        message = (
            f"Expected one kind of control in obs['{found.column}'] of {label}, got {clash}: cells without a guide and "
            "cells with a non-targeting one are not the same. Name one (control)."
        )
        raise InputError(message)
    notes = list(found.notes)
    if not named:
        words = examples([f"'{c}' ({int(sizes[c])} cells)" for c in reading.controls], limit=4)
        notes.append(f"control labels recognised in obs['{found.column}']: {words}")
    if reading.rule:
        notes.append(
            f"{len(reading.guides)} labels of obs['{found.column}'] were read as guides ({reading.rule}), such as "
            f"'{reading.guides[0]}' as {reading.gene[reading.guides[0]]}"
        )
    if reading.renamed:
        notes.append(f"perturbed genes renamed ({len(reading.renamed)}): " + examples(
            [f"{old} to {new}" for old, new in sorted(reading.renamed.items())]
        ))  # fmt: skip
    return FoundLabels(column=found.column, labels=found.labels, reading=reading, notes=tuple(notes))


def find_role(
    obs: pd.DataFrame, column: str | None, *, role: str, names: tuple[str, ...], taken: str
) -> tuple[np.ndarray | None, str, str]:
    """Labels of a role, its column, and a note where it was recognised; None where there is none.

    Raises
    ------
    SchemaError
        When a column that was named does not exist or is no label.
    """
    if column is not None:
        return labels_of(obs, column, role=role)[0], column, ""
    for name in _named(obs, names):
        if name == taken:
            continue
        try:
            labels, _ = labels_of(obs, name, role=role)
        except SchemaError:
            continue
        return labels, name, f"obs['{name}'] was recognised as the {role.replace('_', ' ')}"
    return None, "", ""


def cells_by_nperts(obs: pd.DataFrame) -> np.ndarray | None:
    """scPerturb's number of perturbations per cell, float64; None without such a column."""
    if "nperts" not in obs:
        return None
    values = pd.to_numeric(pd.Series(obs["nperts"].to_numpy(dtype=object)), errors="coerce")
    return values.to_numpy(dtype=np.float64)


def modality_in(obs: pd.DataFrame, label: str) -> tuple[Modality | None, np.ndarray, str]:
    """What ``perturbation_type`` says: the modality, cells perturbed otherwise than by CRISPR, and a note.

    Raises
    ------
    InputError
        When no cell is perturbed genetically.
    """
    none = np.zeros(len(obs), dtype=bool)
    if "perturbation_type" not in obs:
        return None, none, ""
    if obs["perturbation_type"].isna().all():
        return None, none, ""
    labels, present = labels_of(obs, "perturbation_type", role="kind of perturbation")
    words = {v: plain(v) for v in set(labels[present])}
    known = {v: _TYPES[w] for v, w in words.items() if w in _TYPES}
    other = {v for v, w in words.items() if v not in known and not any(g in w for g in _GENETIC)}
    if len(other) == len(words):
        message = (
            f"Expected genes perturbed by CRISPR in {label}, got the kinds of perturbation {examples(sorted(other))} "
            "in obs['perturbation_type']. Choose a screen of genes; if this is one, drop or correct that column."
        )
        raise InputError(message)
    said = set(known.values())
    note = f"obs['perturbation_type'] says {examples(sorted(set(words)))}"
    if len(said) == 1 and len(known) + len(other) == len(words):
        return said.pop(), np.isin(labels.astype(str), sorted(other)), note
    return None, np.isin(labels.astype(str), sorted(other)), f"{note}, which leaves the modality open"


def _named(obs: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    by_plain: dict[str, list[str]] = {}
    for c in obs.columns:
        by_plain.setdefault(plain(str(c)), []).append(c)
    return [c for n in names for c in by_plain.get(n, ())]
