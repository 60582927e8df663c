"""Every family honours interventions at all of its layers, and none is forgotten here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from regulens import models
from regulens.errors import ParameterError
from regulens.interventions import (
    ablate_gene,
    ablate_heads,
    expression,
    hidden,
    intervene,
    later_attention,
    verify_interventions,
)

#: Without attention there is nothing to intervene on.
WITHOUT = {"scvi", "edges"}


def write(family: str, folder: Path, symbols: tuple[str, ...]) -> Path:
    """A checkpoint of 12 layers in the family's published layout."""
    from regulens.testing import (
        checkpoint_aido_cell,
        checkpoint_c2s,
        checkpoint_scfoundation,
        checkpoint_scprint,
        checkpoint_uce,
    )

    size = {"n_layers": 12, "n_heads": 2, "width": 16}
    if family == "scprint":
        return checkpoint_scprint.write_scprint(folder, genes=[f"ENSG{i:011d}" for i in range(len(symbols))], **size)
    if family == "uce":
        return checkpoint_uce.write_uce(folder, symbols=symbols, **size)
    module = {"aido_cell": checkpoint_aido_cell, "c2s": checkpoint_c2s, "scfoundation": checkpoint_scfoundation}[family]
    return getattr(module, f"write_{family}")(folder, vocab=symbols, **size)


OTHERS = ["aido_cell", "c2s", "scfoundation", "scprint", "uce"]


@pytest.fixture(scope="module", params=OTHERS)
def other(request, tmp_path_factory, cells):
    folder = write(request.param, tmp_path_factory.mktemp(request.param) / "m", cells.genes.symbols)
    adapter = models.load(f"{request.param}:{folder}")
    return adapter, adapter.tokenize(cells, np.array([1, 3]), seed=0)


def test_no_family_is_forgotten():
    assert {*OTHERS, "scgpt", "geneformer"} | WITHOUT == set(models.FAMILIES.names())


def test_interventions_hold(other):
    table = verify_interventions(*other)
    assert table["passed"].all(), table[~table["passed"]].to_string()


def test_readouts_answer_or_say_why_not(other, cells):
    adapter, batch = other
    model = intervene(adapter, ablate_heads([(4, 1)], how="uniform"))
    attention = later_attention(7, 0, "G0", "G1", genes=cells.genes, direction="target_attends")
    state, weight = model.read(batch, hidden(11), attention)
    assert state.shape[:2] == batch.tokens.shape and ((weight >= 0) & (weight <= 1))[~np.isnan(weight)].all()
    with pytest.raises(ParameterError, match=r"a family whose output head regulens reads"):
        model.read(batch, expression("G0", genes=cells.genes))


def test_a_gene_is_ablated_as_the_family_shows_absence_or_by_name(other, cells):
    adapter, batch = other
    change, there = ablate_gene("G0", genes=cells.genes), batch.gene == 0
    assert there.any()  # UCE samples its sentences, so that a cell may lack it
    if adapter.card.family == "aido_cell":
        edited = intervene(adapter, change).edit(batch)
        assert (edited.values[there] == 0).all() and np.array_equal(edited.gene, batch.gene)
        return
    if adapter.card.family != "scfoundation":
        with pytest.raises(ParameterError, match=r"Say how='value' or how='remove'"):
            intervene(adapter, change).edit(batch)
        change = ablate_gene("G0", genes=cells.genes, how="remove")
    model = intervene(adapter, change)
    edited = model.edit(batch)
    assert not (edited.gene == 0).any() and edited.mask.sum() == batch.mask.sum() - there.sum()
    (state,) = model.read(batch, hidden(11))
    assert np.isfinite(state[edited.mask]).all()
