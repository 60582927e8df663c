"""In-silico effects: known ones come back, missing is not zero, and the read-outs are those of `interventions`."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="in-silico effects run a model, which needs the extra `models`")
from dataclasses import replace  # noqa: E402

import scipy.sparse as sp  # noqa: E402

from regulens import models  # noqa: E402
from regulens.analyses.in_silico import cannot_run, in_silico_effects  # noqa: E402
from regulens.errors import ParameterError  # noqa: E402
from regulens.interventions import ablate_gene, expression, hidden, intervene, swap_gene_value  # noqa: E402
from regulens.rng import stream  # noqa: E402
from regulens.testing.checkpoints import write_geneformer, write_scgpt  # noqa: E402
from regulens.testing.planted_head import PlantedHead  # noqa: E402
from regulens.testing.toy_model import ToyAdapter, toy_cells  # noqa: E402
from regulens.types.genes import GeneVocabulary  # noqa: E402


@pytest.fixture(scope="module")
def cells():
    made = toy_cells(n_cells=40, n_genes=20, seed=2)
    counts = made.counts.tolil()
    counts[:, 5] = 0
    counts[:2, 5] = 3  # G005: in two cells
    counts[:20, 6], counts[20:, 7] = 0, 0  # G006 and G007: never together
    counts[20:, 6], counts[:20, 7] = 2, 2
    counts[:, 0] = 4
    genes = GeneVocabulary(symbols=made.genes.symbols, ensembl=tuple(f"ENSG{i:011d}" for i in range(20)))
    return replace(made, counts=sp.csr_matrix(counts.tocsr()), genes=genes)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(4).normal(size=(20, 20))


def effects(adapter, cells, sources, *, rule="family", n=40, min_cells=3, targets=None, seed=0):
    return in_silico_effects(
        adapter, cells, sources=sources, targets=targets or cells.genes.symbols, rule=rule, cells_per_source=n,
        min_cells=min_cells, seed=0, rng=lambda use: stream(seed, use),
    )  # fmt: skip


def test_known_effects_come_back_and_not_those_of_the_transposed_weights(cells, weights):
    found = effects(PlantedHead(cells.genes.symbols, weights), cells, ("G000", "G006"))["ablate"]
    counts = cells.counts.toarray()
    for i, source in enumerate((0, 6)):
        for target in range(20):
            both = (counts[:, source] > 0) & (counts[:, target] > 0)
            assert found.n_cells[i, target] == (0 if source == target else both.sum())
            if source == target or both.sum() < 3:
                assert np.isnan(found.effect[i, target])
                continue
            want = -(np.log1p(counts[both, source]).mean() * weights[source, target])
            assert found.effect[i, target] == pytest.approx(want, rel=1e-5)
            assert found.effect[i, target] != pytest.approx(want / weights[source, target] * weights[target, source])
    assert found.signed and found.partner == () and found.cells_of.tolist() == [40, (counts[:, 6] > 0).sum()]


def test_missing_is_not_zero(cells, weights):
    found = effects(PlantedHead(cells.genes.symbols[:-1], weights[:-1, :-1]), cells, ("G005", "G006", "G019"))
    ablate = found["ablate"]
    assert ablate.lost == {
        "G005": "expressed in 2 of the cells that may be run; at least 3 are needed",
        "G019": "no token of the model",
    }
    assert np.isnan(ablate.effect[[0, 2]]).all()
    never = ablate.targets.index("G007")
    assert np.isnan(ablate.effect[1, never]) and ablate.n_cells[1, never] == 0
    assert np.isnan(ablate.effect[:, 19]).all()  # the model does not know the target


def test_a_model_that_does_not_listen_gives_exact_zeros(cells):
    silent = effects(PlantedHead(cells.genes.symbols, np.zeros((20, 20))), cells, ("G000",))["ablate"].effect
    assert (silent[np.isfinite(silent)] == 0).all() and np.isfinite(silent).sum() >= 15


def test_swap_by_hand(cells, weights):
    found = effects(PlantedHead(cells.genes.symbols, weights), cells, ("G000",))["swap"]
    (partner,) = found.partner
    p, counts = cells.genes.symbols.index(partner), cells.counts.toarray()
    assert np.isnan(found.effect[0, [0, p]]).all()
    target = next(t for t in range(1, 20) if t != p and np.isfinite(found.effect[0, t]))
    both = counts[:, target] > 0
    a, b = np.log1p(counts[both, 0]), np.log1p(counts[both, p])  # each gene gets the other's value, also a zero
    want = ((b - a) * weights[0, target] + (a - b) * weights[p, target]).mean()
    assert found.effect[0, target] == pytest.approx(want, rel=1e-4)


def test_without_a_head_effects_are_lengths(cells, weights):
    found = effects(PlantedHead(cells.genes.symbols, weights, head=False), cells, ("G000",))["ablate"]
    signed = effects(PlantedHead(cells.genes.symbols, weights), cells, ("G000",))["ablate"]
    assert not found.signed and "length" in found.readout
    assert np.nanmax(np.abs(found.effect - np.abs(signed.effect))) <= 1e-5


@pytest.mark.parametrize("family", ["scgpt", "geneformer"])
def test_effects_are_those_of_the_single_read_outs(tmp_path, cells, family):
    write = {"scgpt": write_scgpt, "geneformer": write_geneformer}[family]
    extra = {"version": "V2"} if family == "geneformer" else {}
    vocab = cells.genes.symbols if family == "scgpt" else cells.genes.ensembl
    write(tmp_path / family, vocab=vocab, n_layers=2, n_heads=2, width=16, hidden=16, **extra)
    model = models.load(f"{family}:{tmp_path / family}")
    assert cannot_run(model, "family") == ""
    both = effects(model, cells, ("G006",))
    rows = np.flatnonzero(cells.counts.toarray()[:, 6] > 0)
    batch = model.tokenize(cells, rows, seed=0)
    for change, made in (
        ("ablate", ablate_gene("G006", genes=cells.genes)),
        ("swap", swap_gene_value("G006", both["swap"].partner[0], genes=cells.genes)),
    ):
        found = both[change]
        for target in ("G000", "G003"):
            if target in found.partner:
                continue
            read = expression(target, genes=cells.genes)
            (plain,), (changed,) = intervene(model).read(batch, read), intervene(model, made).read(batch, read)
            want = changed - plain
            got = found.effect[0, found.targets.index(target)]
            assert found.signed and got == pytest.approx(np.nanmean(want), abs=2e-5)
            assert found.n_cells[0, found.targets.index(target)] == np.isfinite(want).sum()


def test_states_are_those_of_the_last_layer(tmp_path, cells):
    write_scgpt(tmp_path / "m", vocab=cells.genes.symbols, n_layers=2, n_heads=2, width=16, hidden=16)
    model = models.load(f"scgpt:{tmp_path / 'm'}")
    del model.module.decoder
    found = effects(model, cells, ("G006",))["ablate"]
    rows = np.flatnonzero(cells.counts.toarray()[:, 6] > 0)
    batch = model.tokenize(cells, rows, seed=0)
    (a,) = intervene(model).read(batch, hidden(1))
    (b,) = intervene(model, ablate_gene("G006", genes=cells.genes)).read(batch, hidden(1))
    at = batch.gene == 0
    want = np.linalg.norm((b - a)[at].astype(float), axis=1).mean()
    assert not found.signed and found.effect[0, 0] == pytest.approx(want, rel=1e-4)


def test_cells_and_partners_come_from_named_streams(cells, weights):
    adapter = PlantedHead(cells.genes.symbols, weights)
    one, two = (effects(adapter, cells, ("G000", "G003"), n=10) for _ in range(2))
    alone = effects(adapter, cells, ("G003",), n=10)
    other = effects(adapter, cells, ("G003",), n=10, seed=1)
    for change in ("ablate", "swap"):
        assert np.array_equal(one[change].effect, two[change].effect, equal_nan=True)
        assert np.array_equal(one[change].effect[1], alone[change].effect[0], equal_nan=True)
    assert not np.array_equal(alone["ablate"].effect, other["ablate"].effect, equal_nan=True)
    assert one["ablate"].cells_of.tolist() == [10, 10]


@pytest.mark.parametrize("rule", ["value", "remove"])
def test_a_rule_can_be_asked_for(cells, weights, rule):
    found = effects(PlantedHead(cells.genes.symbols, weights), cells, ("G000",), rule=rule)["ablate"]
    assert np.isfinite(found.effect[0]).sum() >= 15  # without its token or with a value of zero: the sum is the same
    usual = effects(PlantedHead(cells.genes.symbols, weights), cells, ("G000",))["ablate"]
    assert np.nanmax(np.abs(found.effect - usual.effect)) <= 1e-5


@pytest.mark.parametrize("family", ["aido_cell", "c2s", "scfoundation", "scprint", "uce"])
def test_every_family_answers_or_says_why_not(tmp_path, cells, family):
    """By the family's rule or, where there is none, with tokens removed; a gene in several pieces cannot be swapped."""
    adapter = models.load(f"{family}:{write_family(family, tmp_path / family, cells.genes)}")
    named, bare = ANSWERS[family]
    assert (cannot_run(adapter, "family") == "") == named
    found = effects(adapter, cells, ("G000", "G006"), rule="family" if named else "remove")
    ablate = found["ablate"]
    there = np.isfinite(ablate.effect)
    assert not ablate.signed and there.any() and (ablate.effect[there] >= 0).all()
    assert ("swap" in found) == bare
    assert np.nanmax(ablate.effect) > 0


#: Family → whether it has a rule of its own, and whether its genes are single tokens that can be swapped.
ANSWERS = {
    "aido_cell": (True, True), "scfoundation": (True, True), "scprint": (False, True), "uce": (False, False),
    "c2s": (False, False),
}  # fmt: skip


def test_no_family_is_forgotten_and_those_without_tokens_say_so(tmp_path, cells):
    from regulens.testing.checkpoint_scvi import write_scvi

    assert {*ANSWERS, "scgpt", "geneformer"} | {"scvi", "edges"} == set(models.FAMILIES.names())
    table = tmp_path / "edges.tsv"
    table.write_text("source\ttarget\tweight\nG000\tG001\t0.5\nG001\tG002\t0.2\n", encoding="utf-8")
    folder = write_scvi(tmp_path / "scvi", vocab=cells.genes.symbols)
    for spec in (f"scvi:{folder}", f"edges:{table}"):
        assert "no tokens of genes" in cannot_run(models.load(spec), "family")


def write_family(family, folder, genes):
    from importlib import import_module

    module = import_module(f"regulens.testing.checkpoint_{family}")
    size = {"n_layers": 2, "n_heads": 2, "width": 16}
    if family == "scprint":
        return module.write_scprint(folder, genes=list(genes.ensembl), **size)
    if family == "uce":
        return module.write_uce(folder, symbols=genes.symbols, **size)
    return getattr(module, f"write_{family}")(folder, vocab=genes.symbols, **size)


def test_models_that_cannot_be_asked_say_why(cells, weights):
    assert "scores were given as a table" in cannot_run(None, "family")
    assert "takes no edits" in cannot_run(ToyAdapter(("A", "B")), "family")
    assert "no tokens of genes" in cannot_run(object(), "family")
    odd = PlantedHead(cells.genes.symbols, weights)
    odd.card = replace(odd.card, family="other")
    assert "family other there is no rule" in cannot_run(odd, "family")
    assert cannot_run(odd, "value") == ""
    with pytest.raises(ParameterError, match="a rule for ablating a gene in the family other"):
        effects(odd, cells, ("G000",))
