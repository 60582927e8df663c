"""How does the attention of many cells become sums and counts per partition, resumably, whatever the number of workers?

Cells are divided into partitions and units of work (`layout`). A worker runs the cells of a unit (`unit`) and adds
their blocks (`accumulate`); the calling process adds the units of a partition in their fixed order, in float64
(`fill`). Here it is decided what is run, and under which key the result is known. Where the sums of all layers would
not fit into memory, the cells are run once per group of layers (`memory`), and the bytes are the same. Several recipes
are read in one pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from regulens.attention.accumulate import PairAxes
from regulens.attention.fill import Facts, Progress, Stream, Wanted, fill, fill_stores
from regulens.attention.layout import Layout, lay_out, lengths_for
from regulens.attention.memory import Budget, budget, explained
from regulens.attention.precision import cast_weights, cells_to_compare, check_precision, measured
from regulens.attention.recipes import NOT_POOLED, Recipe, recipe_for
from regulens.attention.result import Attention, stored_content
from regulens.attention.targets import InMemory
from regulens.attention.unit import PRECISIONS, Job
from regulens.errors import ParameterError
from regulens.models.base import AbstractAdapter
from regulens.models.spec import options_of
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
    found = extract_recipes(
        adapter, cells, genes=genes, regulators=regulators, recipes=(recipe,), partition_by=partition_by,
        n_blocks=n_blocks, max_cells=max_cells, seed=seed, jobs=jobs, out=None if out is None else {recipe: out},
        memory=memory, batch_tokens=batch_tokens, device=device, precision=precision, progress=progress,
    )  # fmt: skip
    return found[recipe]


def extract_recipes(
    adapter: AbstractAdapter,
    cells: Cells,
    *,
    genes: Sequence[str],
    regulators: Sequence[str],
    recipes: Sequence[str],
    merged: Collection[str] = (),
    partition_by: Sequence[str] = ("cell_state", "donor"),
    n_blocks: int | Literal["auto"] = 1,
    max_cells: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    out: Mapping[str, Path | str] | None = None,
    memory: int | str | None = None,
    batch_tokens: int | None = None,
    device: str = "cpu",
    precision: str = "float32",
    progress: Progress | None = None,
) -> dict[str, Attention]:
    """Run cells through a model once and add up its attention under several recipes; else as `extract`.

    Every recipe has sums and a store of its own, to the last byte those of the recipe extracted alone. Stores that are
    finished are reused; a unit of work that several of the others still lack is run once.

    Parameters
    ----------
    recipes
        What is summed: any of ``probability``, ``logit``, ``log_probability`` and ``value_weighted``.
    merged
        Those of them that are added up over all cells together, in one partition. Their cells are run in the order and
        company of the partitions all the same.
    out
        Where the store of every recipe goes; None keeps float32 sums in memory.

    Returns
    -------
    Recipe → its attention, in the order of `recipes`.

    Raises
    ------
    ParameterError
        As `extract`; also when a recipe is named twice, or `merged` or `out` names others.
    """
    genes, regulators, names = tuple(genes), tuple(regulators), tuple(recipes)
    axes = PairAxes.build(cells.genes, genes, regulators)
    _check_device(device, jobs)
    check_precision(precision, device)
    _check_names(names, merged, out)
    chosen = {name: recipe_for(name, adapter) for name in names}
    lengths = lengths_for(adapter, cells)
    fits = budget(
        adapter.card,
        n_regulators=len(regulators),
        n_targets=len(genes),
        longest=int(lengths.max(initial=0)),
        memory=None if memory is None else read_size(memory),
        batch_tokens=batch_tokens,
        n_recipes=len(names),
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
    layouts = {name: layout.merged() if name in merged else layout for name in names}
    wanted = [
        Wanted(
            recipe=chosen[name],
            layout=layouts[name],
            key=_key(adapter.card, cells, genes, regulators, layouts[name], seed, name, device, precision),
            content=stored_content(
                genes=genes,
                regulators=regulators,
                partitions=layouts[name].partitions,
                card=adapter.card,
                seed=seed,
                kind=name,
            ),
            out=None if out is None else Path(out[name]),
        )
        for name in names
    ]
    job = Job(adapter=adapter, cells=cells, axes=axes, seed=seed, precision=precision, device=device)
    read = _in_memory if out is None else _on_disk
    found = read(wanted, job, lengths, fits=fits, jobs=jobs, progress=progress)
    return {name: Attention(found[name], adapter=adapter, cells=cells, seed=seed) for name in names}


def _in_memory(
    wanted: list[Wanted], job: Job, lengths: np.ndarray, *, fits: Budget, jobs: int, progress: Progress | None
) -> dict[str, AttentionSummary]:
    """Recipe → its sums in memory."""
    streams = [Stream(w.recipe, w.layout, InMemory(job, w.layout)) for w in wanted]
    with (
        tempfile.TemporaryDirectory(prefix="regulens-") as folder,
        _prepared(job, wanted, lengths, fits=fits, jobs=jobs) as facts,
    ):
        fill(streams, job, folder=Path(folder), fits=fits, jobs=jobs, progress=progress)
    return {
        w.recipe.name: AttentionSummary(
            sums=stream.target.sums,
            counts=stream.target.counts,
            partitions=w.layout.partitions,
            genes=tuple(w.content["genes"]),
            regulators=tuple(w.content["regulators"]),
            card=job.adapter.card,
            kind=w.recipe.name,
            digest=w.key,
            facts=facts(w.recipe, w.layout, stream.target.tokens, stream.target.counts),
        )
        for w, stream in zip(wanted, streams)
    }


def _on_disk(
    wanted: list[Wanted], job: Job, lengths: np.ndarray, *, fits: Budget, jobs: int, progress: Progress | None
) -> dict[str, AttentionSummary]:
    """Recipe → its store, opened; those that are not there yet are filled first."""

    def opened(w: Wanted) -> AttentionSummary:
        found = Attention.open(w.out, key=w.key, card=job.adapter.card).summary
        return dataclasses.replace(found, cell_partition=w.layout.cell_partition(job.cells.n_cells))

    there = [w for w in wanted if w.out.exists()]
    missing = [w for w in wanted if w not in there]
    found = {}
    for w in there:
        found[w.recipe.name] = opened(w)
        # A kill between the move into place and the clean-up leaves the scaffold behind.
        shutil.rmtree(w.partial, ignore_errors=True)
    if missing:
        with _prepared(job, missing, lengths, fits=fits, jobs=jobs) as facts:
            fill_stores(missing, job, facts=facts, fits=fits, jobs=jobs, progress=progress)
    elif progress is not None:
        progress(wanted[0].layout.n_cells, wanted[0].layout.n_cells)
    return found | {w.recipe.name: opened(w) for w in missing}


def _check_names(names: tuple[str, ...], merged: Collection[str], out: Mapping[str, Path | str] | None) -> None:
    """Refuse recipes named twice, and merged recipes or places that do not go with them."""
    if not names or len(set(names)) != len(names):
        message = f"Expected different recipes, got {', '.join(names) or 'none'}. Name each once."
        raise ParameterError(message)
    if odd := sorted(set(merged) - set(names)):
        message = f"Expected merged among {', '.join(names)}, got {odd[0]!r}. Name it in recipes, too."
        raise ParameterError(message)
    if out is not None and set(out) != set(names):
        message = f"Expected a place for each of {', '.join(names)}, got {', '.join(out) or 'none'}. Give out one each."
        raise ParameterError(message)


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
def _prepared(job: Job, wanted: list[Wanted], lengths: np.ndarray, *, fits: Budget, jobs: int) -> Iterator[Facts]:
    """Have the model ready to run, after its precision has been measured; yields what makes the facts of a store."""
    known: dict[str, Any] = {"device": job.device, "precision": job.precision, "batch_tokens": fits.batch_tokens}
    with _on_device(job.adapter, job.device), explained(fits, jobs=workers(jobs)):
        of_recipe = {w.recipe.name: known for w in wanted}
        if PRECISIONS[job.precision] is not None:
            drawn = np.array([row for unit in wanted[0].layout.units for rows in unit.batches for row in rows])
            some = cells_to_compare(lengths, drawn)
            for w in wanted:
                one = dataclasses.replace(job, recipes=(w.recipe,))
                of_recipe[w.recipe.name] = known | measured(one, some, job.precision, layers=fits.layers).facts()
        with cast_weights(job.adapter, job.precision):
            yield functools.partial(_facts, of_recipe)


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


def _facts(
    known: dict[str, dict[str, Any]], recipe: Recipe, layout: Layout, tokens: list[np.ndarray], counts: Any
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
        **known[recipe.name],
    }
