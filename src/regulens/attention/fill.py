"""How do units of work become finished partitions, in memory or in a store, whatever the number of workers?

Units are added in their fixed order, in float64. A partition that is complete is written to the store and marked done;
the running sums of an unfinished one are saved now and then, so that an interrupted run continues from there and ends
in the same bytes.
"""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from regulens.attention.accumulate import clear_own
from regulens.attention.layout import Layout, Unit
from regulens.attention.memory import Budget
from regulens.attention.targets import InMemory, OnDisk
from regulens.attention.unit import Gathered, Job, run_unit
from regulens.errors import DigestMismatchError
from regulens.io import store
from regulens.io.atomic import write_bytes
from regulens.parallel import run_ordered, workers

#: Seconds between two savings of the running sums of a partition.
CHECKPOINT_SECONDS = 20.0

Progress = Callable[[int, int], None]
#: What the record says of a finished store, from the tokens of every partition and the counts.
Facts = Callable[[list[np.ndarray], Any], dict[str, Any]]


def fill_store(
    out: Path,
    job: Job,
    layout: Layout,
    *,
    key: str,
    content: dict[str, Any],
    facts: Facts,
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
            filled = OnDisk(partial)
            fill(filled, job, layout, folder=Path(folder), fits=fits, jobs=jobs, progress=progress)
        known = facts(filled.all_tokens(len(layout.partitions)), filled.counts())
        store.add_content(partial / "store", {**content, "facts": known})
        store.complete(partial / "store", out)
        shutil.rmtree(partial)


def fill(
    target: InMemory | OnDisk,
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
    target: InMemory | OnDisk, job: Job, layout: Layout, *, folder: Path, jobs: int, progress: Progress
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
