"""Which cells form a partition, and in which order and company are they run?

The order and the company of a cell decide the last bits of its attention, so both are fixed here, before any work is
handed out, from the cells, the settings and the seed alone. The number of workers is not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from regulens.errors import ParameterError, SchemaError, examples
from regulens.models.base import AbstractAdapter
from regulens.rng import stream
from regulens.types.cells import ROLES, Cells

#: Cells per random block, and blocks in all, that ``n_blocks="auto"`` aims at.
BLOCK_CELLS, MOST_BLOCKS = 25, 200

#: Cells per unit of work: what a worker does between two reports, and at most what a kill can cost it.
UNIT_CELLS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Cells that one worker runs in one go.

    Parameters
    ----------
    partition
        Row of the partition table.
    index
        Position among the units of the partition; they are summed in this order.
    batches
        Rows of the cells, one tuple per batch of the model.
    """

    partition: int
    index: int
    batches: tuple[tuple[int, ...], ...]

    @property
    def n_cells(self) -> int:
        """Cells of all batches."""
        return sum(len(b) for b in self.batches)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Partitions, their units of work in order, and the cells left out.

    Parameters
    ----------
    partitions
        Columns ``partition``, one per role, ``block``, ``n_cells``.
    units
        Sorted by partition, then index.
    empty
        Rows of cells without a single gene that the model knows.
    not_drawn
        Number of cells left out by `max_cells`.
    """

    partitions: pd.DataFrame
    units: tuple[Unit, ...]
    empty: np.ndarray
    not_drawn: int

    @property
    def n_cells(self) -> int:
        """Cells that are run."""
        return int(self.partitions["n_cells"].sum())

    def merged(self) -> Layout:
        """The same units in the same order as one partition, for what is added up over all cells together."""
        units = tuple(replace(unit, partition=0, index=i) for i, unit in enumerate(self.units))
        return replace(self, partitions=_table([(0, *("all" for _ in ROLES), 0, self.n_cells)]), units=units)

    def cell_partition(self, n_cells: int) -> np.ndarray:
        """Partition of each of `n_cells` cells, int64; -1 for a cell that is not run."""
        found = np.full(n_cells, -1, dtype=np.int64)
        for unit in self.units:
            for batch in unit.batches:
                found[list(batch)] = unit.partition
        return found


def blocks_of(group: int, n_cells: int, n_blocks: int | Literal["auto"]) -> int:
    """Number of random blocks that a group of `group` of the `n_cells` cells is cut into.

    >>> blocks_of(60, 100, "auto"), blocks_of(5, 100, "auto"), blocks_of(5000, 20_000, "auto"), blocks_of(3, 100, 4)
    (2, 1, 50, 3)
    """
    if n_blocks == "auto":
        return max(1, round(group / max(BLOCK_CELLS, -(-n_cells // MOST_BLOCKS))))
    return min(n_blocks, group)


def lay_out(
    cells: Cells,
    lengths: np.ndarray,
    *,
    partition_by: Sequence[str],
    n_blocks: int | Literal["auto"],
    max_cells: int | None,
    batch_tokens: int,
    seed: int,
    unit_cells: int = UNIT_CELLS,
) -> Layout:
    """Divide cells into partitions, units and batches.

    Parameters
    ----------
    lengths
        Shape ``(cell,)``: expected number of tokens. Cells of similar length share a batch, so that little is padded.
    partition_by
        Roles (see `regulens.types.cells.ROLES`). A role that is not named, or that the cells do not have, makes one
        group called ``all``.
    n_blocks
        Random blocks of nearly equal size inside each group (for resampling cells later); small groups have fewer.
        ``"auto"``: blocks of about 25 cells, larger where that would make more than some 200 of them.
    max_cells
        Run a uniform random sample of this many cells; None for all.
    batch_tokens
        At most this many tokens, padding included, in one batch; a longer cell runs alone.

    Raises
    ------
    ParameterError
        When a number is out of range, or no cell is left.
    SchemaError
        When `partition_by` names something else than a role of partitions.
    """
    odd = [r for r in partition_by if r not in ROLES]
    if odd:
        message = f"Expected partition_by among {examples(ROLES)}, got {examples(odd)}. Name the column's role first."
        raise SchemaError(message)
    for name, value in (
        ("n_blocks", 1 if n_blocks == "auto" else n_blocks),
        ("batch_tokens", batch_tokens),
        ("unit_cells", unit_cells),
    ):
        if value < 1:
            message = f"Expected {name} >= 1, got {value}."
            raise ParameterError(message)
    if max_cells is not None and max_cells < 1:
        message = f"Expected max_cells >= 1 or None for all, got {max_cells}."
        raise ParameterError(message)

    rows = np.flatnonzero(lengths > 0)
    empty = np.flatnonzero(lengths <= 0)
    if not len(rows):
        message = (
            f"Expected cells with genes that the model knows, got {len(lengths)} cells without any. "
            "Check that gene symbols or Ensembl ids match the model's vocabulary."
        )
        raise ParameterError(message)
    not_drawn = 0
    if max_cells is not None and max_cells < len(rows):
        not_drawn = len(rows) - max_cells
        rows = np.sort(stream(seed, "attention/cells").choice(rows, size=max_cells, replace=False))

    labels = {
        role: cells.obs[role].astype(str).to_numpy()
        if role in partition_by and role in cells.obs
        else np.full(cells.n_cells, "all")
        for role in ROLES
    }
    table, units = [], []
    groups = pd.DataFrame({role: values[rows] for role, values in labels.items()} | {"row": rows})
    for names, group in groups.groupby(list(ROLES), sort=True):
        own = group["row"].to_numpy()
        parts = blocks_of(len(own), len(rows), n_blocks)
        if parts > 1:
            own = stream(seed, "/".join(("attention/blocks", *names))).permutation(own)
        for block, members in enumerate(np.array_split(own, parts)):
            partition = len(table)
            table.append((partition, *names, block, len(members)))
            members = members[np.lexsort((members, lengths[members]))]
            for index, start in enumerate(range(0, len(members), unit_cells)):
                chosen = members[start : start + unit_cells]
                units.append(
                    Unit(partition=partition, index=index, batches=_batches(chosen, lengths[chosen], batch_tokens))
                )
    return Layout(partitions=_table(table), units=tuple(units), empty=empty, not_drawn=not_drawn)


def _table(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["partition", *ROLES, "block", "n_cells"])


def _batches(rows: np.ndarray, lengths: np.ndarray, budget: int) -> tuple[tuple[int, ...], ...]:
    """Cut rows, sorted by ascending length, into batches whose padded size stays within the budget."""
    batches: list[list[int]] = [[]]
    for row, length in zip(rows.tolist(), lengths.tolist()):
        if batches[-1] and (len(batches[-1]) + 1) * length > budget:
            batches.append([])
        batches[-1].append(row)
    return tuple(tuple(b) for b in batches)


def lengths_for(adapter: AbstractAdapter, cells: Cells) -> np.ndarray:
    """Expected number of tokens of each cell, int64, shape ``(cell,)``; 0 for a cell without a known gene."""
    (detected,) = cells.genes_detected(adapter.gene_tokens(cells.genes) >= 0)
    return adapter.expected_tokens(cells.genes, detected)


def expected_lengths(cells: Cells, known: np.ndarray, max_length: int, *, every_gene: bool = False) -> np.ndarray:
    """Detected genes of each cell that the model knows, at most `max_length`; int64, shape ``(cell,)``.

    Parameters
    ----------
    known
        Bool, shape ``(gene,)``.
    every_gene
        The model reads its whole gene list in every cell: `max_length` for a cell with a known gene, 0 for others.
    """
    (detected,) = cells.genes_detected(known)
    return np.where(detected > 0, max_length, 0) if every_gene else np.minimum(detected, max_length)
