"""Several recipes read in one pass have, to the last byte, the stores that each has alone."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from regulens.attention import accumulate, unit
from regulens.attention.accumulate import PairAxes, add_layer, add_recipes, places
from regulens.attention.extract import extract, extract_recipes
from regulens.attention.memory import budget
from regulens.attention.recipes import RECIPES, Recipe
from regulens.errors import DigestMismatchError, ParameterError
from regulens.models.base import TokenBatch
from regulens.models.kernel import attend_layer
from regulens.testing.toy_model import ToyAdapter, toy_cells

OTHERS = ("logit", "log_probability", "value_weighted")


class Pieces(ToyAdapter):
    """Genes in pairs share a name, as word pieces do: most regulators and targets have several tokens."""

    def tokenize(self, cells, rows, *, seed):
        batch = super().tokenize(cells, rows, seed=seed)
        return dataclasses.replace(batch, gene=np.where(batch.gene >= 0, batch.gene // 2 * 2, -1))


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def bound(sums, tokens=90):
    """Just enough for so many tokens and sums of one layer under one recipe."""
    return sums * 2 * 8 * 2 * 2 * 11 * 35 + tokens * 4 * 32 * (12 + 1 + 16) + 4 * 11 * 512 + 100


@pytest.fixture(scope="module")
def few(cells):
    return cells.subset(np.arange(40))


@pytest.fixture(scope="module")
def options(axes):
    return {**axes, "seed": 3, "n_blocks": 2, "batch_tokens": 90}


@pytest.fixture(scope="module")
def adapters(few):
    names = few.genes.symbols[2:][::-1]
    return {"one token a gene": ToyAdapter(names), "several tokens": Pieces(names)}


@pytest.fixture(scope="module")
def alone(adapters, few, options, tmp_path_factory):
    """Stores of single recipes; of those added up over all cells, under ``NAME.merged``."""
    found = {}
    for which, adapter in adapters.items():
        folder = tmp_path_factory.mktemp("alone")
        for name in RECIPES:
            extract(adapter, few, **options, recipe=name, out=folder / name)
            merged = {"recipes": [name], "merged": [name], "out": {name: folder / f"{name}.merged"}}
            extract_recipes(adapter, few, **options, **merged)
        found[which] = folder
    return found


@pytest.mark.parametrize("memory", [None, bound(12), bound(3)], ids=["one pass", "all recipes", "some recipes"])
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("which", ["one token a gene", "several tokens"])
def test_the_stores_are_those_of_single_recipes(which, jobs, memory, adapters, few, options, alone, tmp_path):
    merged = OTHERS if jobs == 1 else ()
    out = {name: tmp_path / name for name in RECIPES}
    seen = []
    found = extract_recipes(
        adapters[which], few, **options, recipes=list(RECIPES), merged=merged, out=out, jobs=jobs, memory=memory,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert list(found) == list(RECIPES) and {name: a.summary.kind for name, a in found.items()} == {
        r: r for r in RECIPES
    }
    assert seen[-1] == (40, 40) and [d for d, _ in seen] == sorted(d for d, _ in seen)
    for name in RECIPES:
        assert files(out[name]) == files(alone[which] / (f"{name}.merged" if name in merged else name)), name
        assert (found[name].facts["cells_with_repeats"] > 0) == (which == "several tokens")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(RECIPES)


@pytest.mark.parametrize("which", ["one token a gene", "several tokens"])
def test_in_memory_they_are_the_same(which, adapters, few, options, alone):
    for memory in (None, bound(5)):
        found = extract_recipes(adapters[which], few, **options, recipes=list(RECIPES), merged=OTHERS, memory=memory)
        for name, attention in found.items():
            stored = alone[which] / (f"{name}.merged" if name in OTHERS else name)
            single = type(attention).open(stored)
            np.testing.assert_array_equal(attention.summary.sums, single.summary.sums[:])
            np.testing.assert_array_equal(attention.summary.counts, single.summary.counts[:])
            assert attention.facts == single.facts and attention.summary.digest == single.summary.digest


def test_half_precision_is_measured_for_every_recipe(adapters, few, options):
    toy = adapters["one token a gene"]
    found = extract_recipes(toy, few, **options, recipes=("probability", "logit"), precision="bfloat16")
    for name, attention in found.items():
        single = extract(toy, few, **options, recipe=name, precision="bfloat16")
        np.testing.assert_array_equal(attention.summary.sums, single.summary.sums)
        assert attention.facts == single.facts and attention.facts["precision_max_abs"] > 0


def test_a_step_in_the_wrong_order_shows(adapters, few, options, alone, monkeypatch):
    """The broken twin: recipes that do not follow from one another are taken for one another."""
    monkeypatch.setattr(Recipe, "steps", property(lambda self: list(RECIPES)[::-1].index(self.name)))
    found = extract_recipes(adapters["one token a gene"], few, **options, recipes=list(RECIPES))
    wrong = [
        name
        for name, attention in found.items()
        if not np.array_equal(
            attention.summary.sums, type(attention).open(alone["one token a gene"] / name).summary.sums[:]
        )
    ]
    assert len(wrong) == 3


@pytest.mark.parametrize("copy_below", [0.0, 2.0], ids=["whole rows", "targets copied out"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", [(), (2,)])
def test_a_layer_with_bias_and_mask(masked, biased, copy_below, monkeypatch):
    monkeypatch.setattr(accumulate, "_COPY_BELOW", copy_below)
    axes = PairAxes(regulator=np.array([0, 1, -1, -1, -1]), target=np.array([0, 1, 2, 3, -1]), own=np.array([0, 1]))
    gene = np.array([[2, 0, 3, -1, 0, 1]])
    random = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(1, 2, 6, 8, generator=random) for _ in range(3))
    by_head = torch.randn(2, 12, 8, generator=random)
    mask = torch.ones(1, 6, dtype=torch.bool)
    mask[0, list(masked)] = False
    kept = []
    attend_layer(
        0, q, k, v, key_mask=mask, key_bias=torch.linspace(-1, 1, 6)[None] if biased else None, tap=kept.append
    )
    batch = TokenBatch(
        tokens=gene, values=None, gene=gene, mask=np.ones((1, 6), bool), cell=np.zeros(1, dtype=np.int64)
    )
    found = places(batch, axes)
    chosen = [r for r in RECIPES.values() if not (masked and r.logarithmic)]
    together = [np.zeros((1, 2, 2, 2, 4)) for _ in chosen]
    add_recipes(together, kept[0], found, recipes=chosen, by_head=by_head)
    for recipe, got in zip(chosen, together):
        want = np.zeros_like(got)
        add_layer(want, kept[0], found, recipe=recipe, by_head=by_head)
        np.testing.assert_array_equal(got, want)


def test_cells_run_once_and_pairs_are_counted_once(adapters, few, options, monkeypatch):
    run, counted = [], []
    forward, count = ToyAdapter.forward, unit.add_counts
    monkeypatch.setattr(ToyAdapter, "forward", lambda s, b, **k: run.append(len(b.tokens)) or forward(s, b, **k))
    monkeypatch.setattr(unit, "add_counts", lambda c, f: counted.append(len(f)) or count(c, f))
    found = extract_recipes(adapters["one token a gene"], few, **options, recipes=list(RECIPES), merged=OTHERS)
    assert sum(run) == sum(counted) == 40
    whole = found["probability"].summary.pair_counts()
    for name in OTHERS:
        np.testing.assert_array_equal(found[name].summary.pair_counts(), whole)
        assert found[name].summary.partitions["n_cells"].tolist() == [40]


def test_one_partition_merged_is_itself(adapters, few, axes):
    options = {**axes, "partition_by": (), "batch_tokens": 90}
    toy = adapters["one token a gene"]
    plain = extract(toy, few, **options, recipe="logit").summary
    merged = extract_recipes(toy, few, **options, recipes=["logit"], merged=["logit"])["logit"].summary
    assert merged.digest == plain.digest and merged.partitions.equals(plain.partitions)
    np.testing.assert_array_equal(merged.sums, plain.sums)


def test_only_what_is_missing_is_filled(adapters, few, options, alone, tmp_path, monkeypatch):
    toy = adapters["one token a gene"]
    out = {name: tmp_path / name for name in RECIPES}
    extract(toy, few, **options, recipe="logit", out=out["logit"])
    asked = []
    add = unit.add_recipes
    monkeypatch.setattr(
        unit,
        "add_recipes",
        lambda *a, recipes, **k: asked.append([r.name for r in recipes]) or add(*a, recipes=recipes, **k),
    )
    extract_recipes(toy, few, **options, recipes=list(RECIPES), out=out)
    assert all(names == ["probability", "log_probability", "value_weighted"] for names in asked)
    for name in RECIPES:
        assert files(out[name]) == files(alone["one token a gene"] / name)
    monkeypatch.setattr(ToyAdapter, "forward", lambda *a, **k: pytest.fail("ran again"))
    seen = []
    extract_recipes(toy, few, **options, recipes=list(RECIPES), out=out, progress=lambda d, t: seen.append((d, t)))
    assert seen == [(40, 40)]


SCRIPT = """
    import sys
    from pathlib import Path
    import regulens.attention.fill as F
    from regulens.attention.extract import extract_recipes
    from regulens.testing.toy_model import ToyAdapter, toy_cells
    F.CHECKPOINT_SECONDS = 0.0
    cells = toy_cells(n_cells=150, n_genes=30, states=("a", "b"))
    toy = ToyAdapter(cells.genes.symbols)
    def progress(done, total):
        print(done, flush=True)
    recipes = ("probability", "logit", "value_weighted")
    extract_recipes(toy, cells, genes=cells.genes.symbols, regulators=cells.genes.symbols[:5], batch_tokens=200,
                    recipes=recipes, merged=recipes[1:], out={r: Path(sys.argv[1]) / r for r in recipes},
                    jobs=int(sys.argv[2]), progress=progress)
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_continues_and_ends_in_the_same_bytes(jobs, tmp_path):
    cells = toy_cells(n_cells=150, n_genes=30, states=("a", "b"))
    toy = ToyAdapter(cells.genes.symbols)
    recipes = ("probability", "logit", "value_weighted")
    options = {
        "genes": cells.genes.symbols, "regulators": cells.genes.symbols[:5], "batch_tokens": 200, "recipes": recipes,
        "merged": recipes[1:],
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "killed"), str(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    for line in process.stdout:
        if int(line) >= 60:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert all((tmp_path / "killed" / f"{r}.partial").exists() for r in recipes), "killed in the middle"
    assert any((tmp_path / "killed" / f"{r}.partial" / "running.npz").exists() for r in recipes)
    seen = []
    killed = {r: tmp_path / "killed" / r for r in recipes}
    extract_recipes(toy, cells, **options, out=killed, progress=lambda done, total: seen.append(done))
    assert seen[0] >= 32, "finished work is not done again"
    extract_recipes(toy, cells, **options, out={r: tmp_path / "whole" / r for r in recipes})
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_recipes_may_stand_at_different_places(adapters, few, options, alone, tmp_path, monkeypatch):
    """One store lacks everything, one the later partitions: a unit is run for those that lack it."""

    class StopError(Exception):
        pass

    def stop(done, total):
        if done >= 20:
            raise StopError

    toy = adapters["one token a gene"]
    out = {name: tmp_path / name for name in ("probability", "logit")}
    with pytest.raises(StopError):
        extract(toy, few, **options, out=out["probability"], progress=stop)
    run = []
    forward = ToyAdapter.forward
    monkeypatch.setattr(ToyAdapter, "forward", lambda s, b, **k: run.append(len(b.tokens)) or forward(s, b, **k))
    extract_recipes(toy, few, **options, recipes=list(out), out=out)
    assert sum(run) == 40
    for name in out:
        assert files(out[name]) == files(alone["one token a gene"] / name)


def test_the_budget_counts_every_recipe(toy):
    sizes = {"n_regulators": 11, "n_targets": 35, "longest": 90}
    one, four = budget(toy.card, **sizes), budget(toy.card, **sizes, n_recipes=4)
    per_layer = 2 * 8 * 2 * 2 * 11 * 35
    assert four.n_bytes - one.n_bytes == 3 * 12 * per_layer and (one.recipes, four.recipes) == (1, 4)
    seen = set()
    for sums in range(1, 60):
        for given in (None, 90):
            limits = {**sizes, "memory": bound(sums), "batch_tokens": given}
            single, found = budget(toy.card, **limits), budget(toy.card, **limits, n_recipes=4)
            assert found.batch_tokens == single.batch_tokens, "the key of a store does not depend on its company"
            assert found.n_bytes <= bound(sums)
            assert [i for first, stop in found.layers for i in range(first, stop)] == list(range(12))
            lots = -(-4 // found.recipes)
            run = lots * sum(stop for _, stop in found.layers)
            assert run <= 4 * sum(stop for _, stop in single.layers), "never more work than one by one"
            seen.add((found.recipes, len(found.layers)))
    assert {(1, 12), (4, 1)} <= seen and len(seen) > 4
    with pytest.raises(ParameterError, match="fewer regulators or genes"):
        budget(toy.card, **sizes, memory=10_000, n_recipes=4)


def test_refusals(adapters, few, options, tmp_path):
    toy = adapters["one token a gene"]
    for wrong, said in (
        ({"recipes": []}, "different recipes"),
        ({"recipes": ["logit", "logit"]}, "Name each once"),
        ({"recipes": ["logit"], "merged": ["probability"]}, "merged among logit"),
        ({"recipes": ["logit", "probability"], "out": {"logit": tmp_path / "a"}}, "a place for each"),
        ({"recipes": ["probability", "logits"]}, "Did you mean 'logit'"),
    ):
        with pytest.raises(ParameterError, match=said):
            extract_recipes(toy, few, **options, **wrong)
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "key").write_text("other")
    with pytest.raises(DigestMismatchError, match="unfinished"):
        extract_recipes(
            toy,
            few,
            **options,
            recipes=["logit", "probability"],
            out={"logit": tmp_path / "c", "probability": tmp_path / "b"},
        )
    assert not (tmp_path / "c.partial").exists(), "nothing has begun"
