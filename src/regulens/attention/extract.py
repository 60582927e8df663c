"""How does the attention of many cells become sums and counts per partition, resumably, whatever the number of workers?

Cells are divided into partitions and units of work (`layout`). A worker runs the cells of a unit (`unit`) and adds
their blocks (`accumulate`); the calling process adds the units of a partition in their fixed order, in float64
(`fill`). Here it is decided what is run, and under which key the result is known. Where the sums of all layers would
not fit into memory, the cells are run once per group of layers (`memory`), and the bytes are the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from regulens.attention.accumulate import PairAxes
from regulens.attention.fill import Facts, Progress, fill, fill_store
from regulens.attention.layout import Layout, lay_out, lengths_for
from regulens.attention.memory import Budget, budget, explained
from regulens.attention.precision import cast_weights, cells_to_compare, check_precision, measured
from regulens.attention.recipes import NOT_POOLED, Recipe, recipe_for
from regulens.attention.result import Attention
from regulens.attention.targets import InMemory
from regulens.attention.unit import PRECISIONS, Job
from regulens.errors import ParameterError
from regulens.models.base import AbstractAdapter
from regulens.models.spec import options_of, portable
from regulens.parallel import workers
from regulens.provenance import digest_frame, digest_of, digest_strings
from regulens.types.attention import AttentionSummary, ModelCard
from regulens.types.cells import Cells
from regulens.types.size import read_size

#: Raised whenever the numbers of a store would change with the same inputs.
ALGORITHM = 1


def extract(
    adapter: AbstractAdapter,
    cells: Cells,
    *,
    genes: Sequence[str],
    regulators: Sequence[str],
    partition_by: Sequence[str] = ("cell_state", "donor"),
    n_blocks: int | Literal["auto"] = 1,
    max_cells: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    out: Path | str | None = None,
    recipe: str = "probability",
    memory: int | str | None = None,
    batch_tokens: int | None = None,
    device: str = "cpu",
    precision: str = "float32",
    progress: Progress | None = None,
) -> Attention:
    """Run cells through a model and add up its exact attention between regulators and targets.

    Every cell enters with all tokens that the model makes of it: attention is a share of what the token attends to,
    and is not renormalised to the genes chosen here. Special tokens are never a regulator or a target.

    Parameters
    ----------
    genes, regulators
        Symbols of the target and regulator axes, all of them genes of the cells. Genes that the model does not know
        stay on the axis and are never observed.
    partition_by, n_blocks, max_cells
        See `layout.lay_out`.
    seed
        Root of the random choices (blocks, sampled cells, and what the model's own tokenisation draws).
    jobs
        Worker processes; changes no number.
    out
        Where the store goes; None keeps float32 sums in memory. A finished store of the same inputs is reused, an
        unfinished one is continued.
    recipe
        What is summed: ``probability``, ``logit``, ``log_probability`` or ``value_weighted``; see `recipes`.
    memory
        Bytes that one process may hold above weights and cells, or a text such as ``"2GB"``, by the estimate of
        `memory.budget`; None for no bound.
        Decides how many layers are added up at a time, which changes no number, and, unless it is given, the number
        of tokens per forward pass, which changes the last bits and is part of the store's key. Without `out` the
        finished sums come on top.
    batch_tokens
        Tokens per forward pass, padding included; 8,192 or what `memory` allows by default. Where memory runs out all
        the same, batches of that unit of work are cut in two, which ``facts["cells_in_cut_batches"]`` counts.
    device
        ``"cpu"`` or ``"cuda"``. The model is moved back afterwards.
    precision
        ``"float32"``, or ``"bfloat16"`` or ``"float16"`` for the model's matrices and their products; what that
        changes is measured on some of the cells and recorded in the facts, see `precision`.
    progress
        Called with (cells done, cells in all) after every unit, and once at the start of a resumed run.

    Returns
    -------
    The attention, read lazily from disk when `out` is given.

    Raises
    ------
    AlignmentError
        When an axis names a gene that the cells do not have.
    DigestMismatchError
        When the store at `out`, finished or not, belongs to other inputs.
    StoreError
        When it is damaged, or the disk is full.
    ParameterError
        When an argument is outside its range, the model lacks what the recipe needs, or memory runs out.
    """
    genes, regulators = tuple(genes), tuple(regulators)
    axes = PairAxes.build(cells.genes, genes, regulators)
    _check_device(device, jobs)
    check_precision(precision, device)
    chosen_recipe = recipe_for(recipe, adapter)
    lengths = lengths_for(adapter, cells)
    fits = budget(
        adapter.card,
        n_regulators=len(regulators),
        n_targets=len(genes),
        longest=int(lengths.max(initial=0)),
        memory=None if memory is None else read_size(memory),
        batch_tokens=batch_tokens,
    )
    layout = lay_out(
        cells,
        lengths,
        partition_by=partition_by,
        n_blocks=n_blocks,
        max_cells=max_cells,
        batch_tokens=fits.batch_tokens,
        seed=seed,
    )
    key = _key(adapter.card, cells, genes, regulators, layout, seed, recipe, device, precision)
    job = Job(
        adapter=adapter, cells=cells, axes=axes, seed=seed, recipe=chosen_recipe, precision=precision, device=device
    )
    source = {"adapter": adapter, "cells": cells, "seed": seed}
    how = {"fits": fits, "jobs": jobs, "progress": progress}
    prepared = functools.partial(_prepared, job, layout, lengths, fits=fits, jobs=jobs)
    if out is None:
        with tempfile.TemporaryDirectory(prefix="regulens-") as folder, prepared() as facts:
            held = InMemory(job, layout)
            fill(held, job, layout, folder=Path(folder), **how)
        summary = AttentionSummary(
            sums=held.sums,
            counts=held.counts,
            partitions=layout.partitions,
            genes=genes,
            regulators=regulators,
            card=adapter.card,
            kind=recipe,
            digest=key,
            facts=facts(held.tokens, held.counts),
        )
        return Attention(summary, **source)

    out = Path(out)
    if not out.exists():
        content = {
            "genes": list(genes),
            "regulators": list(regulators),
            "partitions": json.loads(layout.partitions.to_json(orient="split", index=False)),
            "card": _portable(adapter.card),
            "seed": seed,
            "kind": recipe,
        }
        with prepared() as facts:
            fill_store(out, job, layout, key=key, content=content, facts=facts, **how)
    else:
        # A kill between the move into place and the clean-up leaves the scaffold behind.
        shutil.rmtree(out.with_name(f"{out.name}.partial"), ignore_errors=True)
        if progress is not None:
            progress(layout.n_cells, layout.n_cells)
    opened = Attention.open(out, key=key, card=adapter.card, **source)
    summary = dataclasses.replace(opened.summary, cell_partition=layout.cell_partition(cells.n_cells))
    return Attention(summary, **source)


def _check_device(device: str, jobs: int) -> None:
    """Refuse a device that is not there, or that several processes would share."""
    several = workers(jobs) > 1
    if device not in ("cpu", "cuda"):
        message = f"Expected device 'cpu' or 'cuda', got {device!r}."
        raise ParameterError(message)
    if device == "cuda" and not torch.cuda.is_available():
        message = "Expected a CUDA device that torch can use, got none. Use device 'cpu', or install torch for CUDA."
        raise ParameterError(message)
    if device == "cuda" and several:
        message = f"Expected jobs=1 on device 'cuda', got {jobs}: one process fills the device. Set jobs to 1."
        raise ParameterError(message)


@contextlib.contextmanager
def _prepared(job: Job, layout: Layout, lengths: np.ndarray, *, fits: Budget, jobs: int) -> Iterator[Facts]:
    """Have the model ready to run, after its precision has been measured; yields what makes the facts of the store."""
    known: dict[str, Any] = {"device": job.device, "precision": job.precision, "batch_tokens": fits.batch_tokens}
    with _on_device(job.adapter, job.device), explained(fits, jobs=workers(jobs)):
        if PRECISIONS[job.precision] is not None:
            drawn = np.array([row for unit in layout.units for rows in unit.batches for row in rows])
            known |= measured(job, cells_to_compare(lengths, drawn), job.precision, layers=fits.layers).facts()
        with cast_weights(job.adapter, job.precision):
            yield functools.partial(_facts, layout, recipe=job.recipe, known=known)


@contextlib.contextmanager
def _on_device(adapter: AbstractAdapter, device: str) -> Iterator[None]:
    """Have the model on a device for a while."""
    if device == "cpu":
        yield
        return
    adapter.module.to(device)
    try:
        yield
    finally:
        adapter.module.to("cpu")


def _key(
    card: ModelCard,
    cells: Cells,
    genes: tuple[str, ...],
    regulators: tuple[str, ...],
    layout: Layout,
    seed: int,
    recipe: str,
    device: str,
    precision: str,
) -> str:
    """Digest of everything that decides the numbers of a store."""
    model = (card.sha256, card.family, card.n_layers, card.n_heads, card.max_length, card.tokenisation)
    order = [(u.partition, u.index, u.batches) for u in layout.units]
    partitions = digest_frame(layout.partitions)
    axes = (digest_strings(genes), digest_strings(regulators))
    # What is not at its default is added, so that stores made without it keep their key.
    given = ((recipe, "probability"), (device, "cpu"), (precision, "float32"), (options_of(card.spec), []))
    extras = [x for x, default in given if x != default]
    return digest_of(ALGORITHM, model, cells.digest, axes, partitions, order, seed, *extras)


def _portable(card: ModelCard) -> dict[str, Any]:
    """Card without the folder that the model happened to lie in."""
    return {**dataclasses.asdict(card), "spec": portable(card.spec)}


def _facts(
    layout: Layout, tokens: list[np.ndarray], counts: Any, *, recipe: Recipe, known: dict[str, Any]
) -> dict[str, Any]:
    met = np.zeros(counts.shape[1:], dtype=bool)
    for partition in range(counts.shape[0]):
        met |= np.asarray(counts[partition]) > 0
    lengths, repeats, cut = np.concatenate(tokens, axis=1)
    return {
        "n_cells": layout.n_cells,
        "n_partitions": len(layout.partitions),
        "cells_without_known_genes": len(layout.empty),
        "cells_not_drawn": layout.not_drawn,
        "tokens_median": float(np.median(lengths)),
        "cells_with_repeats": int(repeats.sum()),
        "cells_in_cut_batches": int(cut.sum()),
        "pooling": recipe.pooling if repeats.any() else NOT_POOLED,
        "n_pairs_met": int(met.sum()),
        **known,
    }
