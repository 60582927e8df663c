"""What do edge tables ask of a study? Genes and pairs that they list, one universe for all, and cells where none are.

Several tables are compared on one universe. Where absent pairs tie last, it holds every gene and regulator that any
table lists; where they are excluded, only pairs that all such tables list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.errors import InputError, PlanError, examples
from regulens.models.edge_list import EdgeListModel
from regulens.plan import LISTED, NO_CELLS, Plan
from regulens.types.cells import Cells
from regulens.types.edges import EdgeUniverse
from regulens.types.genes import GeneAlignment, GeneVocabulary
from regulens.types.networks import ReferenceNetwork
from regulens.types.screens import LabelRule


def edge_lists(adapters: Mapping[str, Any]) -> dict[str, EdgeListModel]:
    """The edge tables among the models of a study."""
    return {name: a for name, a in adapters.items() if isinstance(a, EdgeListModel)}


def check_listed(plan: Plan, adapters: Mapping[str, Any]) -> None:
    """Refuse a study that asks for what tables list without having one, or has models but no cells for them.

    Raises
    ------
    PlanError
        In one sentence.
    """
    tables = edge_lists(adapters)
    if plan.universe.genes == LISTED and not tables:
        message = (
            "The plan has 1 problem: universe.genes: expected an edge table (edges:FILE) to take the listed genes of, "
            "got none; give a number of genes"
        )
        raise PlanError(message)
    if plan.cells.source != NO_CELLS:
        return
    others = [n for n in adapters if n not in tables]
    if others:
        message = f"The plan has 1 problem: cells.source: expected cells for {examples(others)}, got none; name them"
        raise PlanError(message)
    if plan.universe.genes != LISTED:
        message = (
            f"The plan has 1 problem: universe.genes: expected '{LISTED}' in a study without cells, got "
            f"{plan.universe.genes}; the most variable genes are known from cells only"
        )
        raise PlanError(message)


def no_cells(adapters: Mapping[str, Any]) -> Cells:
    """No cells, with the genes that the tables list: what needs no expression runs on them."""
    tables = edge_lists(adapters)
    rows = pd.concat([t.table.alignment.table for t in tables.values()], ignore_index=True)
    rows = rows.drop_duplicates(["input", "symbol"], ignore_index=True)
    listed = {g for t in tables.values() for g in t.genes}
    ensembl = {s: e for s, e in zip(rows["symbol"], rows["ensembl"]) if s in listed}
    genes = sorted(listed)
    return Cells(
        counts=sp.csr_matrix((0, len(genes)), dtype=np.float32),
        genes=GeneVocabulary(symbols=tuple(genes), ensembl=tuple(ensembl.get(g, "") for g in genes)),
        obs=pd.DataFrame(index=pd.Index([], dtype=str)),
        total_counts=np.zeros(0),
        alignment=GeneAlignment(table=rows),
        source="none; genes are those that the edge tables list",
        name="edge tables",
    )


def listed_genes(cells: Cells, adapters: Mapping[str, Any], *, min_cells: int) -> tuple[np.ndarray, str]:
    """Positions of the genes that some table lists and enough cells express, and the words for it.

    Parameters
    ----------
    min_cells
        Cells in which a gene must have a count; without cells every listed gene is kept.
    """
    tables = edge_lists(adapters)
    listed = {g for t in tables.values() for g in t.genes}
    there = np.array([s in listed for s in cells.genes.symbols], dtype=bool)
    words = f"{len(listed)} genes that {'the table lists' if len(tables) == 1 else 'any of the tables lists'}"
    if not cells.n_cells:
        return np.flatnonzero(there), words
    detected = np.zeros(cells.n_genes, dtype=np.int64)
    for _, block in cells.blocks():
        detected += np.bincount(block.indices[block.data > 0], minlength=cells.n_genes)
    kept = there & (detected >= min_cells)
    words += (
        f"; {len(listed) - int(there.sum())} of them are not among the cells' genes, and "
        f"{int((there & ~kept).sum())} were detected in fewer than {min_cells} cells"
    )
    return np.flatnonzero(kept), words


def listed_regulators(adapters: Mapping[str, Any], reference: ReferenceNetwork) -> tuple[str, ...]:
    """Regulators of a reference that some table lists as regulators.

    Raises
    ------
    InputError
        When there is none.
    """
    tables = edge_lists(adapters)
    listed = {r for t in tables.values() for r in t.regulators}
    sources = set(reference.edges["source"])
    if both := listed & sources:
        return tuple(sorted(both))
    message = (
        f"Expected regulators that the edge tables and '{reference.name}' share, got none: the tables list "
        f"{examples(sorted(listed), limit=3)}, the reference {examples(sorted(sources), limit=3)}. Check which column "
        "is the regulator, the gene ids and the species."
    )
    raise InputError(message)


def listed_perturbations(universe: EdgeUniverse, adapters: Mapping[str, Any]) -> tuple[EdgeUniverse, dict[str, str]]:
    """The universe of a screen without the perturbed genes that no table lists as regulators: all their pairs tie.

    Returns
    -------
    The universe, and why each perturbation that left it did.

    Raises
    ------
    InputError
        When none is left.
    """
    tables = edge_lists(adapters)
    listed = {r for t in tables.values() for r in t.regulators}
    rows = np.array([r in listed for r in universe.regulators], dtype=bool)
    if not rows.any():
        message = (
            f"Expected perturbed genes of '{universe.reference}' that an edge table lists as regulators, got none of "
            f"{len(rows)} ({examples(universe.regulators, limit=3)}). Check the gene ids, or take all genes "
            "(--genes N)."
        )
        raise InputError(message)
    words = f"{int((~rows).sum())} of {len(rows)} perturbed genes left out that no table lists as a regulator"
    lost = dict.fromkeys(_names(universe, ~rows), "no edge table lists it as a regulator")
    return _of_perturbations(universe, rows, words), lost


def enough_listed(
    universe: EdgeUniverse, adapters: Mapping[str, Any], rule: LabelRule
) -> tuple[EdgeUniverse, dict[str, str]]:
    """The universe of a screen without perturbations of which, where absent pairs are excluded, too few are listed.

    The smallest numbers of responders and of others are those of the rule that made the labels.

    Returns
    -------
    As `listed_perturbations`.

    Raises
    ------
    InputError
        When none is left.
    """
    kept = _left(universe, edge_lists(adapters))
    n_pos = (universe.positive & kept).sum(axis=1)
    n_neg = (universe.candidate & kept).sum(axis=1) - n_pos
    if kept.all():
        return universe, {}
    rows = (n_pos >= rule.min_positives) & (n_neg >= rule.min_negatives)
    if not rows.any():
        message = (
            f"Expected a perturbation of '{universe.reference}' with {rule.min_positives} responders and "
            f"{rule.min_negatives} others among the pairs that tables list, got none of {len(rows)}. Take absent pairs "
            "last (--absent last)."
        )
        raise InputError(message)
    few = f"fewer than {rule.min_positives} responders or {rule.min_negatives} others among the pairs that tables list"
    words = f"{int((~rows).sum())} of {len(rows)} perturbations left out with {few}"
    return _of_perturbations(universe, rows, words), dict.fromkeys(_names(universe, ~rows), few)


def _left(universe: EdgeUniverse, tables: Mapping[str, EdgeListModel]) -> np.ndarray:
    """Pairs that all tables list that exclude others; every pair where none excludes any."""
    kept = np.ones(universe.candidate.shape, dtype=bool)
    for table in tables.values():
        if table.absent == "exclude":
            kept &= table.listed(universe.genes, universe.regulators)
    return kept


def _names(universe: EdgeUniverse, rows: np.ndarray) -> list[str]:
    return [r for r, chosen in zip(universe.regulators, rows) if chosen]


def _of_perturbations(universe: EdgeUniverse, rows: np.ndarray, words: str) -> EdgeUniverse:
    """The universe of these perturbations, the others counted as lost."""
    if rows.all():
        return universe
    candidate, positive = universe.candidate[rows], universe.positive[rows]
    counts = universe.counts | {
        "candidates": int(candidate.sum()),
        "evaluable": int(positive.sum()),
        "perturbations_evaluable": int(rows.sum()),
        "perturbations_lost": universe.counts.get("perturbations_lost", 0) + int((~rows).sum()),
    }
    return replace(
        universe, regulators=tuple(_names(universe, rows)), candidate=candidate, positive=positive, counts=counts,
        restrictions=(*universe.restrictions, words),
    )  # fmt: skip


def with_listed(universe: EdgeUniverse, adapters: Mapping[str, Any], *, sources: int = 0) -> EdgeUniverse:
    """The universe with what tables list of it counted, and restricted where absent pairs are excluded.

    Parameters
    ----------
    sources
        Regulators of the reference, where those that no table lists were left out; else 0.

    Raises
    ------
    InputError
        When no positive pair is left.
    """
    tables = edge_lists(adapters)
    if not tables:
        return universe
    masks = {n: t.listed(universe.genes, universe.regulators) & universe.candidate for n, t in tables.items()}
    words = list(universe.restrictions)
    if sources:
        words.append(f"{sources - len(universe.regulators)} of {sources} regulators left out that no table lists")
    candidate = universe.candidate
    if excluding := [n for n, t in tables.items() if t.absent == "exclude"]:
        candidate = candidate & _left(universe, tables)
        which = "the table lists" if len(excluding) == 1 else f"all {len(excluding)} tables list"
        words.append(f"only pairs that {which}: biased by their selection")
    positive = universe.positive & candidate
    if not positive.any():
        message = (
            f"Expected an edge of '{universe.reference}' among the {int(candidate.sum())} pairs that all tables list, "
            "got none. Take absent pairs last (--absent last), or another reference."
        )
        raise InputError(message)
    counts = universe.counts | {
        "evaluable": int(positive.sum()),
        "regulators_with_positives": int(positive.any(axis=1).sum()),
        "candidates": int(candidate.sum()),
        "listed_by_any": int((np.logical_or.reduce(list(masks.values())) & candidate).sum()),
        "listed_by_all": int((np.logical_and.reduce(list(masks.values())) & candidate).sum()),
        "positives_listed_by_any": int((np.logical_or.reduce(list(masks.values())) & positive).sum()),
    }
    if excluding:
        counts |= {
            "unlisted_left_out": int((universe.candidate & ~candidate).sum()),
            "unlisted_positives_left_out": int((universe.positive & ~candidate).sum()),
        }
    return replace(universe, candidate=candidate, positive=positive, counts=counts, restrictions=tuple(words))


def listed_facts(table: EdgeListModel, universes: Mapping[str, EdgeUniverse]) -> dict[str, Any]:
    """What the record says of a table: what kind of list it is, and how much of each universe it lists."""
    within = {}
    for name, universe in universes.items():
        mask = table.listed(universe.genes, universe.regulators) & universe.candidate
        n, n_pos = int(universe.candidate.sum()), int(universe.positive.sum())
        within[name] = {
            "pairs": n, "listed": int(mask.sum()), "share": float(mask.sum() / n) if n else 0.0, "positives": n_pos,
            "positives_listed": int((mask & universe.positive).sum()),
        }  # fmt: skip
    return {"table": table.facts() | {"within": within}}
