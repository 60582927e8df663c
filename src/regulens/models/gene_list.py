"""Which genes do scFoundation and AIDO.Cell know, in which order, and what is a cell's expression of them?

Both models read ``OS_scRNA_gene_index.19264.tsv`` (columns ``gene_name``, ``index``): row g of the position embedding
is gene g of that list. The list is published with the code of either model and is not part of regulens, so it has to
lie beside the weights. Some of its names are retired symbols (ARNTL, now BMAL1); a gene of the cells is looked up by
its own symbol first and then under the symbol that it had before.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regulens.errors import ModelError, examples
from regulens.io.gene_ids import GeneMap
from regulens.models.manifest import published
from regulens.models.spec import Option
from regulens.provenance import sha256_file
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

#: How the list is called; the number in its name is its length.
PATTERN = "OS_scRNA_gene_index.*.tsv"
PUBLISHED = "OS_scRNA_gene_index.19264.tsv"
WHERE = (
    "It is part of the published code of scFoundation (model/ of biomap-research/scFoundation) and of "
    "ModelGenerator; put it beside the weights, or name the file: ?genes=FILE."
)
#: Option of both families.
GENES_OPTION = Option("", "file of the gene list, when it does not lie beside the weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneList:
    """The model's genes in the order of its embedding.

    Parameters
    ----------
    names
        Unique symbols.
    renamed
        Approved symbol of a gene that stands in the list under a retired one, to its row.
    published
        Whether the file is, byte for byte, the published list.
    """

    names: tuple[str, ...]
    renamed: dict[str, int]
    published: bool

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, genes: GeneVocabulary) -> np.ndarray:
        """Row of the list for every gene, int64, shape ``(gene,)``; −1 where the model does not know it.

        A row belongs to one gene at most: to the one that has the list's own symbol, else to the one that had it.
        """
        where = {name: i for i, name in enumerate(self.names)}
        own = np.array([where.get(s, -1) for s in genes.symbols], dtype=np.int64)
        taken = set(own.tolist())
        second = [self.renamed.get(s, -1) for s in genes.symbols]
        return np.array([o if o >= 0 or r in taken else r for o, r in zip(own.tolist(), second)], dtype=np.int64)


def read_gene_list(folder: Path, *, file: str, n_genes: int) -> GeneList:
    """Read the list that lies in `folder`, or `file`.

    Parameters
    ----------
    file
        Path of the list; empty for the one in `folder`.
    n_genes
        Genes for which the weights have a row.

    Raises
    ------
    ModelError
        When there is none or more than one, when it is malformed, or of another length.
    """
    found = [Path(file).expanduser()] if file else sorted(folder.glob(PATTERN))
    if file and not found[0].is_file():
        raise ModelError(f"Expected the model's gene list at {file}, found no such file. Check ?genes=.")
    if len(found) != 1:
        got = examples([p.name for p in found]) if found else "none"
        raise ModelError(f"Expected the model's gene list ({PUBLISHED}) in {folder}, found {got}. {WHERE}")
    path = found[0]
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            table = list(csv.DictReader(handle, delimiter="\t"))
        names = [row["gene_name"].strip() for row in table]
        ordered = [int(row["index"]) for row in table] == list(range(len(table)))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError, AttributeError):
        message = f"Expected the columns gene_name and index in {path.name}, got another table. {WHERE}"
        raise ModelError(message) from None
    if not ordered or len(set(names)) != len(names) or "" in names:
        message = f"Expected unique gene names numbered 0, 1, … in {path.name}, got repeats, gaps or another order."
        raise ModelError(f"{message} Use the published file.")
    if len(names) != n_genes:
        message = f"Expected {n_genes:,} genes in {path.name}, as the embedding has rows, got {len(names):,}."
        raise ModelError(f"{message} The list and the weights do not belong together.")
    return GeneList(names=tuple(names), renamed=_renamed(names), published=bool(published(sha256_file(path))))


def _renamed(names: list[str]) -> dict[str, int]:
    """Approved symbols of the list's retired ones, where that is one to one and the list lacks the approved one."""
    table, listed = GeneMap.bundled(), set(names)
    matches = [(table.resolve(name), row) for row, name in enumerate(names)]
    found = [(m.symbol, row) for m, row in matches if m.how == "previous" and m.symbol not in listed]
    symbols = [s for s, _ in found]
    return {s: row for s, row in found if symbols.count(s) == 1}


def expression(cells: Cells, row: int, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """What one cell expresses of the model's genes.

    Both models scale by the total over their own genes. Counts that are no longer in the cells (`Cells.total_counts`
    beyond the sum of the row, in files reduced to some genes) are taken to be of the model's genes.

    Parameters
    ----------
    known
        Int64, shape ``(gene,)``: row of the gene list for every column of the cells, −1 for none.

    Returns
    -------
    columns
        Columns of the cells with a count above zero, in the order of the gene list, int64.
    values
        ``log1p(count / total · 10⁴)``, float64, same shape.
    total
        Total count over the model's genes; 0 for an empty cell.
    """
    span = slice(cells.counts.indptr[row], cells.counts.indptr[row + 1])
    columns, counts = cells.counts.indices[span].astype(np.int64), cells.counts.data[span].astype(np.float64)
    elsewhere = max(float(cells.total_counts[row]) - float(counts.sum()), 0.0)
    use = (counts > 0) & (known[columns] >= 0)
    columns, counts = columns[use], counts[use]
    order = np.argsort(known[columns], kind="stable")
    columns, counts = columns[order], counts[order]
    total = float(counts.sum()) + elsewhere
    return columns, np.log1p(counts / total * 1e4) if len(counts) else counts, total
