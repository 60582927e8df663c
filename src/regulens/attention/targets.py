"""Where do finished partitions go, and the running sums of the one in hand? Into memory, or an unfinished store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from regulens.attention.layout import Layout
from regulens.attention.unit import Gathered, Job
from regulens.errors import StoreError
from regulens.io import store
from regulens.io.atomic import write_bytes


class InMemory:
    """Finished partitions in memory."""

    def __init__(self, job: Job, layout: Layout) -> None:
        n = len(layout.partitions)
        self.sums = np.zeros((n, *job.whole), dtype=np.float32)
        self.counts = np.zeros((n, *job.shape[-2:]), dtype=np.int32)
        self.tokens = [np.zeros((3, 0), dtype=np.int64)] * n

    def done(self, partition: int, layers: tuple[int, int]) -> bool:
        """Whether these layers of a partition need not be run again."""
        return False

    def put(self, partition: int, layers: tuple[int, int], found: Gathered) -> None:
        """Keep the finished sums of some layers of a partition."""
        self.sums[partition, slice(*layers)], self.counts[partition] = found.sums, found.counts
        # A batch that was cut in any pass over the layers counts as cut.
        self.tokens[partition] = np.maximum(self.tokens[partition], found.tokens) if layers[0] else found.tokens

    def checkpoint(self, partition: int, layers: tuple[int, int], n_units: int, found: Gathered) -> None:
        """Nothing: what is in memory ends with the process."""

    def resume(self, partition: int, layers: tuple[int, int]) -> tuple[int, Gathered | None]:
        """Units already added up, and their sums; 0 and None where there are none."""
        return 0, None


class OnDisk:
    """Finished partitions in an unfinished store, and the running sums of the one that is being added up."""

    def __init__(self, partial: Path) -> None:
        self.partial = partial
        self._running = partial / "running.npz"

    def done(self, partition: int, layers: tuple[int, int]) -> bool:
        """Whether these layers of a partition need not be run again."""
        finished: set[int] = set()
        for marker in self._markers(partition):
            first, _, stop = marker.name.split(".")[1].partition("-")
            finished.update(range(int(first), int(stop)))
        return finished.issuperset(range(*layers))

    def put(self, partition: int, layers: tuple[int, int], found: Gathered) -> None:
        """Keep the finished sums of some layers of a partition."""
        store.write_partition(self.partial / "store", partition, found.sums, found.counts, first=layers[0])
        marker = self.partial / "done" / f"{partition:06d}.{layers[0]}-{layers[1]}.json"
        write_bytes(marker, json.dumps(found.tokens.tolist()).encode())
        self._running.unlink(missing_ok=True)

    def checkpoint(self, partition: int, layers: tuple[int, int], n_units: int, found: Gathered) -> None:
        """Keep the running sums after so many units of a partition."""
        arrays = {"sums": found.sums, "counts": found.counts, "tokens": found.tokens}
        store.write_arrays(self._running, at=np.array([partition, *layers, n_units]), **arrays)

    def resume(self, partition: int, layers: tuple[int, int]) -> tuple[int, Gathered | None]:
        """Units already added up, and their sums; 0 and None where there are none."""
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
        """`Gathered.tokens` of every partition."""
        every = ([json.loads(m.read_text()) for m in self._markers(p)] for p in range(n_partitions))
        # A batch that was cut in any pass over the layers counts as cut.
        return [np.array(passes, dtype=np.int64).max(axis=0) for passes in every]

    def counts(self) -> Any:
        """Counts of all partitions, read as needed."""
        return store.open_arrays(self.partial / "store")[1]

    def _markers(self, partition: int) -> list[Path]:
        return sorted((self.partial / "done").glob(f"{partition:06d}.*.json"))
