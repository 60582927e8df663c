"""What would this plan do? Ids matched and lost, universes, tests, what will not run and why, and what it costs.

Inputs are read and checked exactly as in an audit; nothing is written.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regulens.attention.layout import blocks_of
from regulens.plan import Plan
from regulens.progress import SILENT, Progress
from regulens.run.listed import edge_lists, listed_facts
from regulens.run.networks import InferredNetworks
from regulens.run.prepare import Prepared, prepare, unmet_needs
from regulens.run.recipes import MEAN_CELL, recipes_asked
from regulens.run.record import cells_record


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """A plan held against its inputs.

    Parameters
    ----------
    summary
        Plain values: ``cells``, ``models``, ``references``, ``universes``, ``analyses``, ``cost``, ``out``.
    """

    summary: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The preview as JSON-able values."""
        return self.summary


def _flops_per_cell(prepared: Prepared, model: str, tokens: float) -> float:
    """Floating-point operations of one forward pass and of both blocks; feed-forward taken as 4 × width at most."""
    card = prepared.adapters[model].card
    linear = tokens * (4 + 4) * card.width**2 * 2
    attention = 4 * tokens**2 * card.width
    blocks = 4 * min(len(prepared.regulators), tokens) * tokens * card.width
    return float(card.n_layers * (linear + attention + blocks))


def _machine_flops(seconds: float = 0.2) -> float:
    """Measured float32 matrix-product rate of this machine, per second."""
    a = np.ones((384, 384), dtype=np.float32)
    a @ a
    n, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        a @ a
        n += 1
    return n * 2 * 384**3 / elapsed


def estimate_cost(prepared: Prepared) -> dict[str, Any]:
    """Rough cost per model: tokens a cell, seconds of extraction, bytes of store and memory.

    The seconds assume a third of this machine's measured matrix-product rate, which small models do not reach
    and large ones do; read them as an order of magnitude.
    """
    rate = _machine_flops() / 3
    cells = prepared.cells
    roles = [r for r in prepared.plan.extraction.partition_by if r in cells.obs]
    sizes = cells.obs.groupby(roles, observed=True).size().to_numpy() if roles else np.array([cells.n_cells])
    n_partitions = sum(blocks_of(int(n), cells.n_cells, prepared.n_blocks) for n in sizes)
    grid = len(prepared.regulators) * len(prepared.genes)
    found = {}
    for model, adapter in prepared.adapters.items():
        card = adapter.card
        if model in prepared.without_attention:
            continue  # nothing is read in cells
        known = prepared.vocabulary[model]
        (expressed,) = cells.genes_detected(known)
        tokens = np.minimum(expressed, card.max_length)
        others = recipes_asked(prepared, model)
        passes = 1 + (MEAN_CELL in others)  # all other recipes are read in the first
        accumulator = card.n_layers * card.n_heads * 2 * grid * 8
        found[model] = {
            "tokens_median": int(np.median(tokens)),
            "tokens_max": int(tokens.max(initial=0)),
            "cells_truncated": int((expressed > card.max_length).sum()),
            "passes": passes,
            "extraction_seconds": round(
                passes * sum(_flops_per_cell(prepared, model, float(t)) for t in tokens) / rate, 1
            ),
            "partitions": n_partitions,
            "store_bytes_at_most": int((n_partitions + len(others)) * accumulator // 2),  # float32, before compression
            "memory_bytes": int(
                (1 + len(set(others) - {MEAN_CELL})) * accumulator + card.n_parameters * 4 + cells.nbytes
            ),
        }
    networks = InferredNetworks(prepared, folder=Path(), jobs=1, progress=SILENT).rough_seconds()
    return {"models": found, "networks": networks, "processors": os.cpu_count()}


def preview(plan: Plan, *, out: Path | str | None = None, progress: Progress = SILENT) -> Preview:
    """Check a plan against its inputs without writing anything.

    Raises
    ------
    RegulensError
        As `regulens.run.audit` would, in the same words.
    """
    prepared = prepare(plan, progress=progress)
    tables, universes = edge_lists(prepared.adapters), prepared.universes | prepared.screen_universes
    analyses = []
    for item in prepared.analyses:
        reason = unmet_needs(item, prepared)
        analyses.append(
            {
                "analysis": item.spec.name,
                "protocol": str(item.request.protocol),
                "model": item.request.model,
                "reference": item.request.reference,
                "runs": not reason,
                "reason": reason,
                "tests": [t.id for t in item.tests],
            }
        )
    summary = {
        "name": plan.run_name(),
        "out": str(Path("runs") / plan.run_name() if out is None else out),
        "plan_digest": plan.digest,
        "cells": cells_record(prepared),
        "models": [
            {
                "name": name,
                "label": a.card.label(),
                "family": a.card.family,
                "layers": a.card.n_layers,
                "heads": a.card.n_heads,
                "vocabulary": a.card.vocabulary_size,
                "genes_known": int(prepared.vocabulary[name].sum()),
                "genes_unknown": int((~prepared.vocabulary[name]).sum()),
                "universe_genes_known": int(prepared.vocabulary[name][prepared.gene_index].sum()),
                **(listed_facts(tables[name], universes) if name in tables else {}),
            }
            for name, a in prepared.adapters.items()
        ],
        "references": [{"name": r.name, "counts": dict(r.counts)} for r in prepared.references.values()],
        "universes": [
            {"name": u.name, "digest": u.digest, "counts": dict(u.counts), "restrictions": list(u.restrictions)}
            for u in (*prepared.universes.values(), *prepared.screen_universes.values())
        ],
        "screens": [s.record(prepared.screen_universes[n]) for n, s in prepared.screens.items()],
        "analyses": analyses,
        "cost": estimate_cost(prepared),
    }
    return Preview(summary=summary)
