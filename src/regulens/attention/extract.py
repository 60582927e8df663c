"""How does the attention of many cells become sums and counts per partition, resumably, whatever the number of workers?

Cells are divided into partitions and units of work (`layout`). A worker runs the cells of a unit and adds their blocks
(`accumulate`); the calling process adds the units of a partition in their fixed order, in float64. A partition that is
complete is written to the store and marked done; the running sums of an unfinished one are saved now and then. A run
that was interrupted continues from there and ends in the same bytes. Where the sums of all layers would not fit into
memory, all this happens once per group of layers (`memory`), and again the bytes are the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regulens.attention.accumulate import PairAxes, add_counts, add_layer, clear_own, places
from regulens.attention.layout import Layout, Unit, expected_lengths, lay_out
from regulens.attention.memory import Budget, budget, explained
from regulens.attention.recipes import NOT_POOLED, PROBABILITY, Recipe, projection, recipe_for
from regulens.attention.result import Attention
from regulens.errors import DigestMismatchError, ParameterError, StoreError
from regulens.io import store
from regulens.io.atomic import write_bytes
from regulens.models.base import AbstractAdapter, LayerAttention
from regulens.models.spec import options_of
from regulens.parallel import run_ordered, workers
from regulens.provenance import digest_frame, digest_of, digest_strings
from regulens.types.attention import AttentionSummary, ModelCard
from regulens.types.cells import Cells

#: Raised whenever the numbers of a store would change with the same inputs.
ALGORITHM = 1
#: Seconds between two savings of the running sums of a partition.
CHECKPOINT_SECONDS = 20.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What some cells of one partition add up to.

    Parameters
    ----------
    sums
        Float64, shape ``(layer, head, direction, regulator, target)``.
    counts
        Int32, shape ``(regulator, target)``.
    tokens
        Int64, shape ``(2, cell)``: real tokens of each cell, in the order in which they were run; and 1 where a
        regulator or target had several of them, otherwise 0.
    """

    sums: np.ndarray
    counts: np.ndarray
    tokens: np.ndarray

    def add(self, other: Gathered) -> Gathered:
        """Add another to this one, in place of this one's arrays."""
        np.add(self.sums, other.sums, out=self.sums)
        np.add(self.counts, other.counts, out=self.counts)
        return Gathered(self.sums, self.counts, np.concatenate([self.tokens, other.tokens], axis=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What a worker has to know, the same for all units of a pass.

    Parameters
    ----------
    layers
        Layers ``(first, stop)`` that this pass adds up; all by default.
    """

    adapter: AbstractAdapter
    cells: Cells
    axes: PairAxes
    seed: int
    recipe: Recipe = PROBABILITY
    layers: tuple[int, int] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """First layer of the pass, and the one after its last."""
        return (0, self.adapter.card.n_layers) if self.layers is None else self.layers

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of a unit's sums."""
        first, stop = self.span
        return (stop - first, self.adapter.card.n_heads, 2, len(self.axes.own), int(self.axes.target.max()) + 1)

    @property
    def whole(self) -> tuple[int, int, int, int, int]:
        """Shape of the sums of all layers."""
        return (self.adapter.card.n_layers, *self.shape[1:])


def extract(
    adapter: AbstractAdapter,
    cells: Cells,
    *,
    genes: Sequence[str],
    regulators: Sequence[str],
    partition_by: Sequence[str] = ("cell_state", "donor"),
    n_blocks: int = 1,
    max_cells: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    out: Path | str | None = None,
    recipe: str = "probability",
    memory: int | None = None,
    batch_tokens: int | None = None,
    device: str = "cpu",
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
        Bytes that one process may hold above weights and cells, by the estimate of `memory.budget`; None for no bound.
        Decides how many layers are added up at a time, which changes no number, and, unless it is given, the number
        of tokens per forward pass, which changes the last bits and is part of the store's key. Without `out` the
        finished sums come on top.
    batch_tokens
        Tokens per forward pass, padding included; 8,192 or what `memory` allows by default.
    device
        ``"cpu"`` or ``"cuda"``, float32 on either. The model is moved back afterwards.
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
    chosen_recipe = recipe_for(recipe, adapter)
    known = adapter.gene_tokens(cells.genes) >= 0
    same_length = adapter.every_gene or adapter.fixed_length
    lengths = expected_lengths(cells, known, adapter.card.max_length, every_gene=same_length)
    fits = budget(
        adapter.card,
        n_regulators=len(regulators),
        n_targets=len(genes),
        longest=int(lengths.max(initial=0)),
        memory=memory,
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
    key = _key(adapter.card, cells, genes, regulators, layout, seed, recipe, device)
    job = Job(adapter=adapter, cells=cells, axes=axes, seed=seed, recipe=chosen_recipe)
    source = {"adapter": adapter, "cells": cells, "seed": seed}
    fill = {"fits": fits, "jobs": jobs, "progress": progress}
    if out is None:
        with (
            tempfile.TemporaryDirectory(prefix="regulens-") as folder,
            _on_device(adapter, device),
            explained(fits, jobs=workers(jobs)),
        ):
            held = _Memory(job, layout)
            _fill(held, job, layout, folder=Path(folder), **fill)
        facts = _facts(layout, held.tokens, held.counts, chosen_recipe, device)
        summary = AttentionSummary(
            sums=held.sums,
            counts=held.counts,
            partitions=layout.partitions,
            genes=genes,
            regulators=regulators,
            card=adapter.card,
            kind=recipe,
            digest=key,
            facts=facts,
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
        with _on_device(adapter, device), explained(fits, jobs=workers(jobs)):
            _fill_store(out, job, layout, key=key, content=content, device=device, **fill)
    else:
        # A kill between the move into place and the clean-up leaves the scaffold behind.
        shutil.rmtree(out.with_name(f"{out.name}.partial"), ignore_errors=True)
        if progress is not None:
            progress(layout.n_cells, layout.n_cells)
    return Attention.open(out, key=key, card=adapter.card, **source)


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


def _fill_store(
    out: Path,
    job: Job,
    layout: Layout,
    *,
    key: str,
    content: dict[str, Any],
    device: str,
    fits: Budget,
    jobs: int,
    progress: Progress | None,
) -> None:
    """Fill a store beside `out`, from wherever an earlier attempt stopped, and move it into place."""
    partial = out.with_name(f"{out.name}.partial")
    shape = (len(layout.partitions), *job.whole)
    key_file = partial / "key"
    if key_file.exists():
        found = key_file.read_text(encoding="utf-8")
        if found != key:
            message = (
                f"Expected an unfinished attention store of these inputs (key {key}) at {partial}, got one of others "
                f"(key {found}). Remove it, or choose another folder."
            )
            raise DigestMismatchError(message)
    else:
        # Sums of one partition pass through the disk in float64, once per worker, before the store takes them.
        passing = 8 * int(np.prod(job.whole)) * (2 * workers(jobs) + 1)
        store.require_space(out.parent, 4 * int(np.prod(shape)) + passing)
        if partial.exists():
            shutil.rmtree(partial)
        with store.disk(partial):
            (partial / "done").mkdir(parents=True)
        store.create(partial / "store", key=key, content=content, shape=shape)
        write_bytes(key_file, key.encode())
    with store.disk(partial):
        with tempfile.TemporaryDirectory(prefix="units-", dir=partial) as folder:
            filled = _Disk(partial)
            _fill(filled, job, layout, folder=Path(folder), fits=fits, jobs=jobs, progress=progress)
        facts = _facts(layout, filled.all_tokens(len(layout.partitions)), filled.counts(), job.recipe, device)
        store.add_content(partial / "store", {**content, "facts": facts})
        store.complete(partial / "store", out)
        shutil.rmtree(partial)


class _Memory:
    """Finished partitions in memory."""

    def __init__(self, job: Job, layout: Layout) -> None:
        n = len(layout.partitions)
        self.sums = np.zeros((n, *job.whole), dtype=np.float32)
        self.counts = np.zeros((n, *job.shape[-2:]), dtype=np.int32)
        self.tokens = [np.zeros((2, 0), dtype=np.int64)] * n

    def done(self, partition: int, layers: tuple[int, int]) -> bool:
        return False

    def put(self, partition: int, layers: tuple[int, int], found: Gathered) -> None:
        self.sums[partition, slice(*layers)], self.counts[partition] = found.sums, found.counts
        self.tokens[partition] = found.tokens

    def checkpoint(self, partition: int, layers: tuple[int, int], n_units: int, found: Gathered) -> None:
        pass

    def resume(self, partition: int, layers: tuple[int, int]) -> tuple[int, Gathered | None]:
        return 0, None


class _Disk:
    """Finished partitions in an unfinished store, and the running sums of the one that is being added up."""

    def __init__(self, partial: Path) -> None:
        self._partial = partial
        self._running = partial / "running.npz"

    def done(self, partition: int, layers: tuple[int, int]) -> bool:
        finished: set[int] = set()
        for marker in self._markers(partition):
            first, _, stop = marker.name.split(".")[1].partition("-")
            finished.update(range(int(first), int(stop)))
        return finished.issuperset(range(*layers))

    def put(self, partition: int, layers: tuple[int, int], found: Gathered) -> None:
        store.write_partition(self._partial / "store", partition, found.sums, found.counts, first=layers[0])
        marker = self._partial / "done" / f"{partition:06d}.{layers[0]}-{layers[1]}.json"
        write_bytes(marker, json.dumps(found.tokens.tolist()).encode())
        self._running.unlink(missing_ok=True)

    def checkpoint(self, partition: int, layers: tuple[int, int], n_units: int, found: Gathered) -> None:
        arrays = {"sums": found.sums, "counts": found.counts, "tokens": found.tokens}
        store.write_arrays(self._running, at=np.array([partition, *layers, n_units]), **arrays)

    def resume(self, partition: int, layers: tuple[int, int]) -> tuple[int, Gathered | None]:
        if not self._running.exists():
            return 0, None
        try:
            found = store.read_arrays(self._running)
        except (ValueError, OSError, EOFError) as problem:
            message = f"Expected saved sums at {self._running}, got something unreadable ({problem}). Remove the file."
            raise StoreError(message) from problem
        if found["at"][:3].tolist() != [partition, *layers]:
            return 0, None
        return int(found["at"][3]), Gathered(found["sums"], found["counts"], found["tokens"])

    def all_tokens(self, n_partitions: int) -> list[np.ndarray]:
        return [np.array(json.loads(self._markers(p)[0].read_text()), dtype=np.int64) for p in range(n_partitions)]

    def counts(self) -> Any:
        return store.open_arrays(self._partial / "store")[1]

    def _markers(self, partition: int) -> list[Path]:
        return sorted((self._partial / "done").glob(f"{partition:06d}.*.json"))


def _fill(
    target: _Memory | _Disk,
    job: Job,
    layout: Layout,
    *,
    folder: Path,
    fits: Budget,
    jobs: int,
    progress: Progress | None,
) -> None:
    """Run all cells once per group of layers."""
    n = len(fits.layers)
    for index, layers in enumerate(fits.layers):

        def report(done: int, total: int, index: int = index) -> None:
            if progress is not None:
                progress((index * total + done) // n, total)

        part = dataclasses.replace(job, layers=layers)
        _fill_layers(target, part, layout, folder=folder, jobs=jobs, progress=report)


def _fill_layers(
    target: _Memory | _Disk, job: Job, layout: Layout, *, folder: Path, jobs: int, progress: Progress
) -> None:
    """Run the units that are still to do and put every partition away as soon as its last unit is added."""
    layers = job.span
    last = {u.partition: u.index for u in layout.units}
    saved = {p: target.resume(p, layers) for p in last if not target.done(p, layers)}
    todo = [u for u in layout.units if u.partition in saved and u.index >= saved[u.partition][0]]
    total = layout.n_cells
    done = total - sum(u.n_cells for u in todo)
    if done:
        progress(done, total)
    running: dict[int, Gathered] = {p: g for p, (_, g) in saved.items() if g is not None}
    del saved
    moment = time.monotonic()
    for unit, found in zip(todo, _results(job, todo, folder=folder, jobs=jobs)):
        before = running.pop(unit.partition, None)
        now = found if before is None else before.add(found)
        if unit.index == last[unit.partition]:
            clear_own(now.sums, now.counts, job.axes)
            target.put(unit.partition, layers, now)
            moment = time.monotonic()
        else:
            running[unit.partition] = now
            if time.monotonic() - moment > CHECKPOINT_SECONDS:
                target.checkpoint(unit.partition, layers, unit.index + 1, now)
                moment = time.monotonic()
        del found, now, before
        done += unit.n_cells
        progress(done, total)


def _results(job: Job, units: list[Unit], *, folder: Path, jobs: int) -> Iterator[Gathered]:
    """Yield what every unit adds up to, in order; through files when other processes do the work."""
    if min(workers(jobs), len(units)) <= 1:
        yield from run_ordered(lambda unit: run_unit(job, unit), units, jobs=1)
        return
    described = folder / f"job-{job.span[0]}.pickle"
    write_bytes(described, pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
    for written in run_ordered(_run_in_worker, [(str(described), unit) for unit in units], jobs=jobs):
        found = store.read_arrays(Path(written))
        Path(written).unlink()
        yield Gathered(found["sums"], found["counts"], found["tokens"])


class _Enough(Exception):
    """Raised by the tap after the last layer that a pass needs."""


def run_unit(job: Job, unit: Unit) -> Gathered:
    """Run the cells of a unit and add up their attention, batch by batch, in order."""
    sums = np.zeros(job.shape, dtype=np.float64)
    counts = np.zeros(job.shape[-2:], dtype=np.int32)
    tokens = []
    first, stop = job.span
    for rows in unit.batches:
        batch = job.adapter.tokenize(job.cells, np.array(rows, dtype=np.int64), seed=job.seed)
        found = places(batch, job.axes)

        def tap(layer: LayerAttention, found: list = found) -> None:
            if layer.layer >= first:
                by_head = projection(job.adapter, layer.layer) if job.recipe.weighted else None
                add_layer(sums, layer, found, recipe=job.recipe, by_head=by_head, first=first)
            if layer.layer + 1 == stop < job.adapter.card.n_layers:
                raise _Enough

        with contextlib.suppress(_Enough):
            job.adapter.forward(batch, tap=tap)
        add_counts(counts, found)
        tokens.append([batch.mask.sum(axis=1), [place.repeats for place in found]])
    return Gathered(sums, counts, np.concatenate(tokens, axis=1).astype(np.int64))


#: The job that this worker process was last given, by the file that describes it: one model in memory, read once.
_held: dict[str, Job] = {}


def _run_in_worker(task: tuple[str, Unit]) -> str:
    described, unit = task
    if described not in _held:
        _held.clear()
        _held[described] = pickle.loads(Path(described).read_bytes())
    found = run_unit(_held[described], unit)
    written = Path(described).with_name(f"{unit.partition}-{unit.index}.npz")
    store.write_arrays(written, sums=found.sums, counts=found.counts, tokens=found.tokens)
    return str(written)


def _key(
    card: ModelCard,
    cells: Cells,
    genes: tuple[str, ...],
    regulators: tuple[str, ...],
    layout: Layout,
    seed: int,
    recipe: str,
    device: str,
) -> str:
    """Digest of everything that decides the numbers of a store."""
    model = (card.sha256, card.family, card.n_layers, card.n_heads, card.max_length, card.tokenisation)
    order = [(u.partition, u.index, u.batches) for u in layout.units]
    partitions = digest_frame(layout.partitions)
    axes = (digest_strings(genes), digest_strings(regulators))
    # What is not at its default is added, so that stores made without it keep their key.
    defaults = ((recipe, "probability"), (device, "cpu"), (options_of(card.spec), []))
    extras = [x for x, default in defaults if x != default]
    return digest_of(ALGORITHM, model, cells.digest, axes, partitions, order, seed, *extras)


def _portable(card: ModelCard) -> dict[str, Any]:
    """Card without the folder that the model happened to lie in."""
    family, _, place = card.spec.rpartition(":")
    return {**dataclasses.asdict(card), "spec": f"{family}:{Path(place).name}" if family else Path(place).name}


def _facts(layout: Layout, tokens: list[np.ndarray], counts: Any, recipe: Recipe, device: str) -> dict[str, Any]:
    met = np.zeros(counts.shape[1:], dtype=bool)
    for partition in range(counts.shape[0]):
        met |= np.asarray(counts[partition]) > 0
    lengths, repeats = np.concatenate(tokens, axis=1)
    return {
        "n_cells": layout.n_cells,
        "n_partitions": len(layout.partitions),
        "cells_without_known_genes": len(layout.empty),
        "cells_not_drawn": layout.not_drawn,
        "tokens_median": float(np.median(lengths)),
        "cells_with_repeats": int(repeats.sum()),
        "pooling": recipe.pooling if repeats.any() else NOT_POOLED,
        "device": device,
        "n_pairs_met": int(met.sum()),
    }
