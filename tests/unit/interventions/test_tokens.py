"""Changes of the input, worked by hand: a value of 0, a rank that goes, two genes in each other's place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
from regulens.errors import ParameterError
from regulens.interventions import ablate_gene, ablate_heads, intervene, set_gene_value, swap_gene_value


def genes_of(batch, cell):
    return batch.gene[cell][batch.mask[cell]].tolist()


def test_ablation_follows_the_rule_of_the_family(adapter, batch, cells, family):
    edited = intervene(adapter, ablate_gene("G0", genes=cells.genes)).edit(batch)
    for cell in range(4):
        if family == "scgpt":
            assert genes_of(edited, cell) == genes_of(batch, cell)
            at = batch.gene[cell] == 0
            assert batch.values[cell, at] > 0 and edited.values[cell, at] == 0
            assert np.array_equal(edited.values[cell, ~at], batch.values[cell, ~at])
        else:
            assert genes_of(edited, cell) == [g for g in genes_of(batch, cell) if g != 0]
            assert edited.tokens[cell][edited.mask[cell]][-1] == adapter.vocabulary["<eos>"]
    assert edited.mask.any(0).all()


def test_removal_equals_tokens_of_cells_without_the_gene(adapter, batch, cells, family):
    """In scGPT bins are kept, so only tokens agree; in Geneformer the library size stays, so ranks agree as well."""
    from dataclasses import replace

    counts = cells.counts.copy().tolil()
    counts[:, 0] = 0
    counts = counts.tocsr()
    counts.eliminate_zeros()
    without = adapter.tokenize(replace(cells, counts=counts), np.arange(4), seed=0)
    edited = intervene(adapter, ablate_gene("G0", genes=cells.genes, how="remove")).edit(batch)
    assert np.array_equal(edited.mask, without.mask)
    assert np.array_equal(edited.gene, without.gene)
    assert np.array_equal(edited.tokens[edited.mask], without.tokens[without.mask])


def test_a_swap_exchanges_places_also_with_a_gene_that_is_not_expressed(adapter, batch, cells, family):
    edited = intervene(adapter, swap_gene_value("G0", "G1", genes=cells.genes)).edit(batch)
    exchange = {0: 1, 1: 0}
    for cell in range(4):
        assert genes_of(edited, cell) == [exchange.get(g, g) for g in genes_of(batch, cell)]
    assert 1 not in genes_of(batch, 2) and 1 in genes_of(edited, 2) and 0 not in genes_of(edited, 2)
    known = adapter.gene_tokens(cells.genes)
    own = edited.gene >= 0
    assert np.array_equal(edited.tokens[own], known[edited.gene[own]])
    if family == "scgpt":
        assert np.array_equal(edited.values, batch.values)
        value = {g: edited.values[1][edited.gene[1] == g] for g in (0, 1)}
        assert value[0] == batch.values[1][batch.gene[1] == 1] and value[1] == batch.values[1][batch.gene[1] == 0]


def test_two_swaps_give_the_tokens_back_in_the_order_given(adapter, batch, cells):
    swap = swap_gene_value("G0", "G1", genes=cells.genes)
    model = intervene(adapter, swap, swap)
    edited = model.edit(batch)
    assert np.array_equal(edited.tokens, batch.tokens) and np.array_equal(edited.gene, batch.gene)
    assert model.edit(edited) is edited
    both = intervene(adapter, swap, ablate_gene("G0", genes=cells.genes, how="remove")).edit(batch)
    assert 1 in genes_of(both, 0) and 0 not in genes_of(both, 0)


def test_a_value_is_set_where_the_gene_is(folders, cells):
    from regulens import models

    adapter = models.load(str(folders["scgpt"]))
    batch = adapter.tokenize(cells, np.arange(4), seed=0)
    edited = intervene(adapter, set_gene_value("G1", 37, genes=cells.genes)).edit(batch)
    there = batch.gene == 1
    assert (edited.values[there] == 37).all() and np.array_equal(edited.values[~there], batch.values[~there])


def test_nothing_is_written_into_the_batch_that_came_in(adapter, batch, cells):
    for array in (batch.tokens, batch.gene, batch.mask, *([] if batch.values is None else [batch.values])):
        array.flags.writeable = False
    for change in (ablate_gene("G0", genes=cells.genes), swap_gene_value("G0", "G1", genes=cells.genes)):
        intervene(adapter, change).edit(batch)


def test_an_intervened_model_tokenises_what_it_runs(adapter, batch, cells):
    model = intervene(adapter, ablate_gene("G0", genes=cells.genes))
    edited = model.tokenize(cells, np.arange(4), seed=0)
    assert np.array_equal(edited.tokens, model.edit(batch).tokens)
    assert model.forward(edited)[-1].shape[:2] == edited.tokens.shape
    with pytest.raises(ParameterError, match=r"changes of the input made \(ablate G0\), got others.*tokenize or edit"):
        model.forward(batch)
    with pytest.raises(ParameterError, match=r"got tokens changed by ablate G0"):
        intervene(adapter, ablate_gene("G1", genes=cells.genes)).edit(edited)


def test_an_intervened_model_passes_the_checks_of_any_model(adapter, cells):
    from regulens.models.checks import verify

    table = verify(intervene(adapter, ablate_heads([(3, 1)], how="uniform")), cells)
    assert table["passed"].all(), table[~table["passed"]]


def test_extraction_takes_an_intervened_model(adapter, cells):
    from regulens.attention.extract import extract

    names, tfs = cells.genes.symbols[:8], cells.genes.symbols[:3]
    model = intervene(adapter, ablate_gene("G0", genes=cells.genes, how="remove"))
    plain = extract(adapter, cells, genes=names, regulators=tfs, partition_by=(), seed=0)
    changed = extract(model, cells, genes=names, regulators=tfs, partition_by=(), seed=0)
    row = plain.summary.regulators.index("G0")
    assert np.asarray(plain.summary.counts)[:, row].any() and not np.asarray(changed.summary.counts)[:, row].any()
    assert plain.summary.digest != changed.summary.digest and "under interventions" in changed.summary.card.notes[-1]


def test_bad_changes_are_refused(adapter, batch, cells, family):
    with pytest.raises(ParameterError, match=r"a gene of the cells .* got 'G00'"):
        ablate_gene("G00", genes=cells.genes)
    with pytest.raises(ParameterError, match=r"got 'G29', which has no token of its own there"):
        intervene(adapter, ablate_gene("G29", genes=cells.genes)).edit(batch)
    with pytest.raises(ParameterError, match=r"two genes to swap, got 'G1' twice"):
        swap_gene_value("G1", "G1", genes=cells.genes)
    with pytest.raises(ParameterError, match=r"how to be 'value' or 'remove', got 'zero'"):
        ablate_gene("G1", genes=cells.genes, how="zero")
    with pytest.raises(ParameterError, match=r"finite value for G1, got nan"):
        set_gene_value("G1", float("nan"), genes=cells.genes)
    if family == "geneformer":
        with pytest.raises(ParameterError, match=r"a model that is given values, got .*swap_gene_value"):
            intervene(adapter, set_gene_value("G1", 3, genes=cells.genes)).edit(batch)


def test_a_family_without_a_customary_rule_asks_for_one(adapter, batch, cells):
    from dataclasses import replace

    adapter.card = replace(adapter.card, family="other")
    with pytest.raises(ParameterError, match=r"a rule for ablating a gene in the family other.*Say how="):
        intervene(adapter, ablate_gene("G0", genes=cells.genes)).edit(batch)


def test_a_cell_without_any_token_left_is_refused(adapter, batch, cells):
    from dataclasses import replace

    only = replace(
        batch, gene=np.where(batch.gene == 0, 0, -1), mask=batch.gene == 0, tokens=batch.tokens, values=batch.values
    )
    with pytest.raises(ParameterError, match=r"tokens besides G0, got 4 without"):
        intervene(adapter, ablate_gene("G0", genes=cells.genes, how="remove")).edit(only)


def test_a_gene_with_several_tokens_cannot_be_swapped(adapter, batch, cells):
    from dataclasses import replace

    gene = batch.gene.copy()
    gene[gene == 1] = 0
    with pytest.raises(ParameterError, match=r"one token per gene in every cell for a swap"):
        intervene(adapter, swap_gene_value("G0", "G1", genes=cells.genes)).edit(replace(batch, gene=gene))
