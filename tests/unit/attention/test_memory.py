"""A bound on memory changes how often the cells are run, and no byte of the store."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regulens.attention import fill as F
from regulens.attention.extract import extract
from regulens.attention.memory import BATCH_TOKENS, budget
from regulens.errors import ParameterError
from regulens.testing.toy_model import ToyAdapter


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


#: Sums of one layer of the toy over the axes of the tests, twice.
PER_LAYER = 2 * 8 * 2 * 2 * 11 * 35
PER_TOKEN = 4 * 32 * (12 + 1 + 16)


def bound(layers, tokens=90):
    """Just enough for so many layers and tokens."""
    return layers * PER_LAYER + tokens * PER_TOKEN + 4 * 11 * 512 + 100


@pytest.fixture(scope="module")
def few(cells):
    return cells.subset(np.arange(30))


def test_passes_over_layers_give_the_same_bytes(toy, few, axes, tmp_path, monkeypatch):
    passes, seen = [], []
    true = F._fill_layers
    monkeypatch.setattr(
        F, "_fill_layers", lambda streams, job, *a, **k: passes.append(job.span) or true(streams, job, *a, **k)
    )
    options = {**axes, "seed": 3, "batch_tokens": 90}
    extract(toy, few, **options, out=tmp_path / "whole.zarr")
    assert passes == [(0, 12)]
    for layers, jobs, expected in ((5, 1, [(0, 4), (4, 8), (8, 12)]), (1, 2, [(i, i + 1) for i in range(12)])):
        passes.clear()
        seen.clear()
        out = tmp_path / f"{layers}.zarr"
        extract(
            toy, few, **options, jobs=jobs, memory=bound(layers), out=out, progress=lambda d, t: seen.append((d, t))
        )
        assert passes == expected
        assert files(out) == files(tmp_path / "whole.zarr")
        assert seen[-1] == (30, 30) and [d for d, _ in seen] == sorted(d for d, _ in seen)
    held = extract(toy, few, **options, memory=bound(3)).summary
    np.testing.assert_array_equal(held.sums, extract(toy, few, **options, out=tmp_path / "1.zarr").summary.sums[:])


def test_a_pass_ends_after_its_last_layer(toy, few, axes, monkeypatch):
    run = []
    true = ToyAdapter.forward

    def forward(self, batch, *, tap=None, **options):
        def seen(layer):
            run.append(layer.layer)
            tap(layer)

        return true(self, batch, tap=seen, **options)

    monkeypatch.setattr(ToyAdapter, "forward", forward)
    one = few.subset(np.array([3]))
    extract(toy, one, **axes, batch_tokens=90, memory=bound(6))
    assert run == [*range(6), *range(12)]


def test_an_interrupted_run_goes_on_with_another_bound(toy, few, axes, tmp_path):
    """Layers 0 to 3 are finished under one bound; the rest under none: only what is missing is run, same bytes."""
    options = {**axes, "batch_tokens": 90, "partition_by": ()}

    class StopError(Exception):
        pass

    def stop(done, total):
        if done >= total // 3:
            raise StopError

    out = tmp_path / "a.zarr"
    with pytest.raises(StopError):
        extract(toy, few, **options, memory=bound(5), out=out, progress=stop)
    done = [p.name for p in (tmp_path / "a.zarr.partial" / "done").iterdir()]
    assert done == ["000000.0-4.json"]
    seen = []
    extract(toy, few, **options, memory=bound(5), out=out, progress=lambda d, t: seen.append(d))
    assert seen[0] >= 10, "finished layers are not run again"
    extract(toy, few, **options, out=tmp_path / "b.zarr")
    assert files(out) == files(tmp_path / "b.zarr")
    with pytest.raises(StopError):
        extract(toy, few, **options, memory=bound(5), out=tmp_path / "c.zarr", progress=stop)
    extract(toy, few, **options, out=tmp_path / "c.zarr")
    assert files(tmp_path / "c.zarr") == files(tmp_path / "b.zarr")


def test_the_budget(toy):
    sizes = {"n_regulators": 11, "n_targets": 35, "longest": 512}
    free = budget(toy.card, **sizes)
    assert free.batch_tokens == BATCH_TOKENS and free.layers == ((0, 12),)
    assert budget(toy.card, **sizes, batch_tokens=90).batch_tokens == 90
    assert budget(toy.card, **sizes, memory=10**12) == free
    previous = 0
    for memory in (2_300_000, 3_000_000, 8_000_000, 20_000_000, 50_000_000):
        found = budget(toy.card, **sizes, memory=memory)
        assert found.n_bytes <= memory and previous <= found.batch_tokens <= BATCH_TOKENS
        assert found.batch_tokens >= 512, "the longest cell fits"
        assert [i for first, stop in found.layers for i in range(first, stop)] == list(range(12))
        previous = found.batch_tokens
    with pytest.raises(ParameterError, match="fewer regulators or genes"):
        budget(toy.card, **sizes, memory=1_000_000)
    with pytest.raises(ParameterError, match="batch_tokens >= 1"):
        budget(toy.card, **sizes, batch_tokens=0)


SHORTAGES = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("problem", SHORTAGES, ids=["python", "cuda", "cpu"])
def test_out_of_memory_says_what_to_lower(problem, toy, few, axes, tmp_path, monkeypatch):
    def forward(self, batch, *, tap=None):
        raise problem

    monkeypatch.setattr(ToyAdapter, "forward", forward)
    for out in (None, tmp_path / "a.zarr"):
        with pytest.raises(ParameterError, match="Lower memory, batch_tokens or jobs, or choose fewer regulators"):
            extract(toy, few, **axes, out=out)
    monkeypatch.undo()
    assert extract(toy, few, **axes, out=tmp_path / "a.zarr").facts["n_cells"] == 30


def test_other_errors_keep_their_name(toy, few, axes, monkeypatch):
    def forward(self, batch, *, tap=None):
        message = "mat1 and mat2 shapes cannot be multiplied"
        raise RuntimeError(message)

    monkeypatch.setattr(ToyAdapter, "forward", forward)
    with pytest.raises(RuntimeError, match="mat1"):
        extract(toy, few, **axes)


def test_a_killed_worker_is_a_shortage_of_memory(toy, few, axes, monkeypatch):
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    def killed(*args, **kwargs):
        raise TerminatedWorkerError

    monkeypatch.setattr(F, "_fill_layers", killed)
    with pytest.raises(ParameterError, match="in each of 2 processes"):
        extract(toy, few, **axes, jobs=2)


def test_devices(toy, few, axes, monkeypatch):
    with pytest.raises(ParameterError, match="'cpu' or 'cuda'"):
        extract(toy, few, **axes, device="mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="got none"):
        extract(toy, few, **axes, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ParameterError, match="jobs=1"):
        extract(toy, few, **axes, device="cuda", jobs=2)
    moves = []
    monkeypatch.setattr(toy.module, "to", moves.append, raising=False)
    moved = extract(toy, few, **axes, device="cuda")
    assert moves == ["cuda", "cpu"] and moved.facts["device"] == "cuda"
    plain = extract(toy, few, **axes)
    assert plain.facts["device"] == "cpu" and plain.summary.digest != moved.summary.digest


class Narrow(ToyAdapter):
    """A device on which a pass of more than so many tokens, padding included, does not fit."""

    def __init__(self, *args, most, problem, **kwargs):
        super().__init__(*args, **kwargs)
        self.most, self.problem, self.passes = most, problem, []

    def forward(self, batch, *, tap=None, kernel="fused"):
        self.passes.append(batch.tokens.shape)

        def watched(layer):
            # Memory runs out late, when earlier layers have been added to the sums already.
            if layer.layer == 3 and batch.tokens.size > self.most:
                raise self.problem
            tap(layer)

        return super().forward(batch, tap=watched, kernel=kernel)


@pytest.mark.parametrize("problem", SHORTAGES, ids=["python", "cuda", "cpu"])
def test_a_batch_that_does_not_fit_is_cut(problem, toy, few, axes, tmp_path):
    narrow = Narrow(few.genes.symbols[2:][::-1], most=100, problem=problem)
    exact = extract(toy, few, **axes, seed=3)
    found = extract(narrow, few, **axes, seed=3)
    assert max(a * b for a, b in narrow.passes) > 100 and 0 < found.facts["cells_in_cut_batches"] <= 30
    assert exact.facts["cells_in_cut_batches"] == 0
    np.testing.assert_array_equal(found.summary.counts, exact.summary.counts)
    np.testing.assert_allclose(found.summary.sums, exact.summary.sums, atol=2e-6)
    assert found.summary.digest == exact.summary.digest, "the key is that of the plan"
    stored = extract(narrow, few, **axes, seed=3, out=tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored.summary.sums[:], found.summary.sums)
    assert stored.facts == found.facts


def test_a_single_cell_that_does_not_fit_ends_the_run(few, axes):
    narrow = Narrow(few.genes.symbols[2:][::-1], most=3, problem=MemoryError())
    with pytest.raises(ParameterError, match="Lower memory"):
        extract(narrow, few, **axes)
    assert min(a for a, _ in narrow.passes) == 1
