"""How do units of work become finished partitions, in memory or in a store, whatever the number of workers?

Units are added in their fixed order, in float64, for every recipe on its own; a unit that several recipes still lack is
run once for all of them. A partition that is complete is written to the store and marked done; the running sums of an
unfinished one are saved now and then, so that an interrupted run continues from there and ends in the same bytes.
"""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regulens.attention.accumulate import PairAxes, clear_own
from regulens.attention.layout import Layout, Unit
from regulens.attention.memory import Budget
from regulens.attention.recipes import Recipe
from regulens.attention.targets import InMemory, OnDisk
from regulens.attention.unit import Gathered, Job, gathered, run_unit
from regulens.errors import DigestMismatchError
from regulens.io import store
from regulens.io.atomic import write_bytes
from regulens.parallel import run_ordered, workers

#: Seconds between two savings of the running sums of a partition.
CHECKPOINT_SECONDS = 20.0

Progress = Callable[[int, int], None]
#: What the record says of a finished store, from its recipe, its layout, the tokens of every partition and the counts.
Facts = Callable[[Recipe, Layout, list[np.ndarray], Any], dict[str, Any]]


class Stream:
    """One recipe on its way into its own partitions.

    Parameters
    ----------
    recipe
        What is summed.
    layout
        Partitions of this recipe. All streams of a pass have the same units in the same order; which partition a unit
        belongs to may differ.
    target
        Where finished partitions go.
    """

    def __init__(self, recipe: Recipe, layout: Layout, target: InMemory | OnDisk) -> None:
        self.recipe, self.layout, self.target = recipe, layout, target
        self._last = {u.partition: u.index for u in layout.units}
        self._layers = (0, 0)
        self._running: dict[int, Gathered] = {}
        self._moment = 0.0

    def begin(self, layers: tuple[int, int]) -> list[bool]:
        """Take up a pass over some layers, from where an earlier attempt stopped; says which units are still to do."""
        self._layers = layers
        saved = {p: self.target.resume(p, layers) for p in self._last if not self.target.done(p, layers)}
        self._running = {p: g for p, (_, g) in saved.items() if g is not None}
        self._moment = time.monotonic()
        return [u.partition in saved and u.index >= saved[u.partition][0] for u in self.layout.units]

    def add(self, position: int, found: Gathered, axes: PairAxes) -> None:
        """Add what the unit at a position adds up to, and put its partition away if it is the last of it."""
        unit = self.layout.units[position]
        before = self._running.pop(unit.partition, None)
        now = found if before is None else before.add(found)
        if unit.index == self._last[unit.partition]:
            clear_own(now.sums, now.counts, axes)
            self.target.put(unit.partition, self._layers, now)
            self._moment = time.monotonic()
            return
        self._running[unit.partition] = now
        if time.monotonic() - self._moment > CHECKPOINT_SECONDS:
            self.target.checkpoint(unit.partition, self._layers, unit.index + 1, now)
            self._moment = time.monotonic()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """One recipe of a call: its partitions, under which key the result is known, what it says of itself, where it goes.

    Parameters
    ----------
    content
        From `result.stored_content`.
    out
        Place of the store; None for a result in memory.
    """

    recipe: Recipe
    layout: Layout
    key: str
    content: dict[str, Any]
    out: Path | None

    @property
    def partial(self) -> Path:
        """Where the store lies while it is filled."""
        assert self.out is not None
        return self.out.with_name(f"{self.out.name}.partial")


def fill_stores(
    stores: Sequence[Wanted], job: Job, *, facts: Facts, fits: Budget, jobs: int, progress: Progress | None
) -> None:
    """Fill stores beside their places, from wherever an earlier attempt stopped, and move them into place."""
    _begin(stores, job, jobs=jobs)
    folder = stores[0].partial
    with store.disk(folder):
        with tempfile.TemporaryDirectory(prefix="units-", dir=folder) as units:
            streams = [Stream(s.recipe, s.layout, OnDisk(s.partial)) for s in stores]
            fill(streams, job, folder=Path(units), fits=fits, jobs=jobs, progress=progress)
        for place in stores:
            filled = OnDisk(place.partial)
            tokens = filled.all_tokens(len(place.layout.partitions))
            known = facts(place.recipe, place.layout, tokens, filled.counts())
            store.add_content(place.partial / "store", {**place.content, "facts": known})
            store.complete(place.partial / "store", place.out)
            shutil.rmtree(place.partial)


def _begin(stores: Sequence[Wanted], job: Job, *, jobs: int) -> None:
    """Make sure that unfinished stores are those of these inputs, and that there is room for those not yet begun."""
    fresh = []
    for place in stores:
        key_file = place.partial / "key"
        if not key_file.exists():
            fresh.append(place)
        elif (found := key_file.read_text(encoding="utf-8")) != place.key:
            message = (
                f"Expected an unfinished attention store of these inputs (key {place.key}) at {place.partial}, got one "
                f"of others (key {found}). Remove it, or choose another folder."
            )
            raise DigestMismatchError(message)
    whole = int(np.prod(job.whole))
    if fresh:
        # Sums of one partition pass through the disk in float64, once per worker, before the store takes them.
        passing = 8 * whole * (2 * workers(jobs) + 1) * len(fresh)
        n_partitions = sum(len(place.layout.partitions) for place in fresh)
        store.require_space(fresh[0].out.parent, 4 * whole * n_partitions + passing)
    for place in fresh:
        if place.partial.exists():
            shutil.rmtree(place.partial)
        with store.disk(place.partial):
            (place.partial / "done").mkdir(parents=True)
        shape = (len(place.layout.partitions), *job.whole)
        store.create(place.partial / "store", key=place.key, content=place.content, shape=shape)
        write_bytes(place.partial / "key", place.key.encode())


def fill(
    streams: Sequence[Stream], job: Job, *, folder: Path, fits: Budget, jobs: int, progress: Progress | None
) -> None:
    """Run all cells once per group of layers, for as many recipes at a time as fit."""
    lots = [streams[i : i + fits.recipes] for i in range(0, len(streams), fits.recipes)]
    passes = [(lot, layers) for lot in lots for layers in fits.layers]
    n = len(passes)
    for index, (lot, layers) in enumerate(passes):

        def report(done: int, total: int, index: int = index) -> None:
            if progress is not None:
                progress((index * total + done) // n, total)

        part = dataclasses.replace(job, layers=layers)
        _fill_layers(lot, part, folder=folder, jobs=jobs, progress=report)


def _fill_layers(streams: Sequence[Stream], job: Job, *, folder: Path, jobs: int, progress: Progress) -> None:
    """Run every unit that a stream still has to add, once, for the streams that have to."""
    wanting = list(zip(*(stream.begin(job.span) for stream in streams)))
    todo = [(i, [s for s, wants in zip(streams, each) if wants]) for i, each in enumerate(wanting) if any(each)]
    units = streams[0].layout.units
    total = streams[0].layout.n_cells
    done = total - sum(units[i].n_cells for i, _ in todo)
    if done:
        progress(done, total)
    tasks = [(units[i], tuple(s.recipe for s in some)) for i, some in todo]
    for (i, some), results in zip(todo, _results(job, tasks, folder=folder, jobs=jobs)):
        for stream in some:
            stream.add(i, results.pop(0), job.axes)
        done += units[i].n_cells
        progress(done, total)


def _results(
    job: Job, tasks: list[tuple[Unit, tuple[Recipe, ...]]], *, folder: Path, jobs: int
) -> Iterator[list[Gathered]]:
    """Yield what every unit adds up to by recipe, in order; through files when other processes do the work."""
    if min(workers(jobs), len(tasks)) <= 1:
        yield from run_ordered(lambda task: _run(job, *task), tasks, jobs=1)
        return
    described = folder.resolve() / f"job-{job.span[0]}.pickle"
    write_bytes(described, pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
    for written in run_ordered(_run_in_worker, [(str(described), *task) for task in tasks], jobs=jobs):
        found = store.read_arrays(Path(written))
        Path(written).unlink()
        counts, tokens = found.pop("counts"), found.pop("tokens")
        yield list(gathered([found.pop(name) for name in sorted(found)], counts, tokens))


def _run(job: Job, unit: Unit, recipes: tuple[Recipe, ...]) -> list[Gathered]:
    return list(run_unit(dataclasses.replace(job, recipes=recipes), unit))


#: The job that this worker process was last given, by the file that describes it: one model in memory, read once.
_held: dict[str, Job] = {}


def _run_in_worker(task: tuple[str, Unit, tuple[Recipe, ...]]) -> str:
    described, unit, recipes = task
    if described not in _held:
        _held.clear()
        _held[described] = pickle.loads(Path(described).read_bytes())
    found = _run(_held[described], unit, recipes)
    written = Path(described).with_name(f"{unit.partition}-{unit.index}.npz")
    sums = {f"sums-{i:03d}": each.sums for i, each in enumerate(found)}
    store.write_arrays(written, **sums, counts=found[0].counts, tokens=found[0].tokens)
    return str(written)
