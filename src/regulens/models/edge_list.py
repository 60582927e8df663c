"""How does an edge table of any tool enter an audit? As a model whose scores are its weights: ``edges:FILE``.

::

    edges:FILE                     absent pairs tie last (default)
    edges:FILE?absent=exclude      only listed pairs are looked at: a choice by the table's own selection
    edges:FILE?column=NAME         the weight is in this column
    edges:FILE.h5ad?key=NAME       this matrix of ``varp``
    edges:FILE?rows=targets        rows of the matrix are targets

What is ranked is the strength |weight|. Most tables list the top of a ranking only; a pair that is not listed was
either ranked below the cut or never looked at, which no table tells. ``last`` takes the first for granted: such pairs
get one common place below every listed pair. ``exclude`` takes nothing for granted and leaves them out, at the price
that an AUROC over listed pairs says nothing about the pairs that the table chose not to list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regulens.errors import AlignmentError, examples
from regulens.io.edge_tables import EdgeTable, losses_in_words, read_edge_table
from regulens.models.family import Family
from regulens.models.score_model import AbstractScoreModel
from regulens.models.spec import Option, Value
from regulens.provenance import sha256_file
from regulens.types.attention import ModelCard
from regulens.types.edges import EdgeScores
from regulens.types.genes import GeneVocabulary

#: The score that an audit judges; whether a pair is listed at all; the weight with its sign, absent pairs at 0.
STRENGTH, LISTED, SIGNED = "edge_weight", "listed", "signed_weight"

#: What is done with pairs that a table does not list, in words.
ABSENT = {
    "last": "pairs that the table does not list tie last",
    "exclude": "only pairs that the table lists are looked at: its own selection, which no number here can judge",
}

OPTIONS = {
    "absent": Option("last", "what becomes of pairs that the table does not list", ("last", "exclude")),
    "column": Option("", "column of the weight; by default recognised by its name"),
    "key": Option("", "matrix of varp; by default the only one"),
    "rows": Option("auto", "what the rows of a matrix are", ("auto", "regulators", "targets")),
}


class EdgeListModel(AbstractScoreModel):
    """An edge table, read for what it says about gene pairs.

    Parameters
    ----------
    table, card
        As built by `load`.
    absent
        ``last`` or ``exclude``.
    """

    def __init__(self, table: EdgeTable, card: ModelCard, *, absent: str = "last") -> None:
        self.table, self.card, self.absent = table, card, absent
        weight = table.edges["weight"].to_numpy()
        # A listed weight of 0 still stands above what is not listed: by one smallest step.
        step = float(weight[weight > 0].min()) if (weight > 0).any() else 1.0
        self.floor = 0.0 if weight.min() > 0 or absent == "exclude" else -step

    @property
    def primary(self) -> str:
        """Strength of the edge."""
        return STRENGTH

    @property
    def module(self) -> EdgeTable:
        """The table."""
        return self.table

    @property
    def regulators(self) -> frozenset[str]:
        """Genes that the table lists as regulators."""
        return frozenset(self.table.edges["source"])

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes that the table lists at either end, sorted."""
        return tuple(sorted(self.regulators | set(self.table.edges["target"])))

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Position among the table's genes; −1 for a gene that it does not list."""
        where = {g: i for i, g in enumerate(self.genes)}
        return np.array([where.get(s, -1) for s in genes.symbols], dtype=np.int64)

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Genes of the table; it stores nothing about a gene alone, so the width is 0."""
        return self.genes, np.zeros((len(self.genes), 0), dtype=np.float32)

    def places(self, genes: Sequence[str], regulators: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row of the table, row and column of the grid, of every listed pair that falls on the grid."""
        row = self.table.edges["source"].map({g: i for i, g in enumerate(regulators)})
        column = self.table.edges["target"].map({g: j for j, g in enumerate(genes)})
        inside = np.flatnonzero((row.notna() & column.notna()).to_numpy())
        return inside, row.to_numpy()[inside].astype(np.int64), column.to_numpy()[inside].astype(np.int64)

    def listed(self, genes: Sequence[str], regulators: Sequence[str]) -> np.ndarray:
        """Which pairs of a grid the table lists, bool, shape ``(regulator, gene)``."""
        found = np.zeros((len(regulators), len(genes)), dtype=bool)
        _, i, j = self.places(genes, regulators)
        found[i, j] = True
        return found

    def edge_scores(self, genes: GeneVocabulary, regulators: Sequence[str]) -> EdgeScores:
        """Strengths on a grid, whether pairs are listed, and signed weights.

        Returns
        -------
        ``edge_weight``: |weight|, and one common place below all listed pairs for the others. ``listed``: 1 or 0, left
        out where it says nothing. ``signed_weight``: weight with its sign, 0 where the table lists no pair; left out
        where the table has no signs. Observed are all pairs, or the listed ones (``absent=exclude``), never self-pairs.

        Raises
        ------
        AlignmentError
            When a regulator is not among the genes.
        """
        own = genes.index(regulators)
        if (own < 0).any():
            lost = [r for r, i in zip(regulators, own) if i < 0]
            message = f"Expected every regulator among the genes, missing {examples(lost)}. Add them to the genes."
            raise AlignmentError(message)
        inside, i, j = self.places(genes.symbols, regulators)
        listed = np.zeros((len(regulators), len(genes)), dtype=bool)
        listed[i, j] = True
        weight = self.table.edges["weight"].to_numpy()[inside]
        strength = np.full(listed.shape, self.floor)
        strength[i, j] = weight
        values, names = [strength], [STRENGTH]
        if self.absent == "last" and not self.table.completeness.complete:
            values.append(listed.astype(np.float64))
            names.append(LISTED)
        if self.table.signed:
            signed = np.zeros(listed.shape)
            signed[i, j] = weight * self.table.edges["sign"].to_numpy()[inside]
            values.append(signed)
            names.append(SIGNED)
        observed = listed.copy() if self.absent == "exclude" else np.ones_like(listed)
        observed[np.arange(len(own)), own] = False
        return EdgeScores(
            values=np.where(observed, np.stack(values), 0.0), observed=observed, names=tuple(names),
            genes=tuple(genes.symbols), regulators=tuple(regulators), scorer="edges",
            provenance={"model": self.card.name, "absent": self.absent},
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What the record says of the table."""
        return {
            "absent": self.absent,
            "absent_in_words": ABSENT[self.absent],
            "list": self.table.completeness.sentence,
            **self.table.completeness.facts(),
            "read_as": "; ".join(self.table.words),
            "signed": self.table.signed,
            "losses": [words] if (words := losses_in_words(self.table)) else [],
            "rows": dict(self.table.counts),
        }


def load(place: Path, *, name: str, spec: str, options: Mapping[str, Value]) -> EdgeListModel:
    """Read an edge table as a model.

    Raises
    ------
    InputError, SchemaError, NamespaceError
        As `regulens.io.edge_tables.read_edge_table`.
    """
    asked = {k: str(options[k]) or None for k in ("column", "key")}
    table = read_edge_table(place, name=name, rows=str(options["rows"]), **asked)  # type: ignore[arg-type]
    absent = str(options["absent"])
    notes = [f"edge table: {'; '.join(table.words)}", table.completeness.sentence]
    if not table.completeness.complete:
        notes.append(ABSENT[absent])
    if table.signed:
        negative = int((table.edges["sign"] < 0).sum())
        notes.append(f"signed: {negative:,} of {len(table.edges):,} pairs are negative; what is ranked is |weight|")
    if lost := losses_in_words(table):
        notes.append(lost)
    n_genes = len(set(table.edges["source"]) | set(table.edges["target"]))
    card = ModelCard(
        name=name, family="edges", spec=spec, n_layers=0, n_heads=0, width=0, vocabulary_size=n_genes,
        max_length=n_genes, n_parameters=0, sha256=sha256_file(place), namespace="gene symbol",
        tokenisation="none: an edge table has no tokens", normalisation="none: no cells enter the scores",
        activation="none", licence="not stated: that of the table's authors", notes=tuple(notes),
    )  # fmt: skip
    return EdgeListModel(table, card, absent=absent)


def detect(folder: Path) -> bool:
    """Never: a table of edges is named as one, since references have the same shape."""
    return False


FAMILY = Family(
    name="edges",
    title="edge table",
    files="one file of edges: long table, matrix, SIF, GraphML, parquet or varp of an .h5ad",
    detect=detect,
    load=load,
    options=OPTIONS,
    of_file=True,
)
