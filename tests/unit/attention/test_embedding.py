"""Cell embeddings: the mean state of gene tokens, the same in any batches, kept and reused for the same inputs only."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="models need the extra 'models'")

from regulens.attention import embedding
from regulens.attention.embedding import cell_embeddings
from regulens.interventions.readout import Run, cell_embedding
from regulens.io.demo import load_demo
from regulens.models import load


@pytest.fixture(scope="module")
def small():
    return load("bundled:scgpt-mini"), load_demo("immune").subset(np.arange(0, 559, 60))


def test_it_is_the_mean_over_gene_tokens_of_the_final_state(small):
    model, cells = small
    found = cell_embeddings(model, cells, seed=3)
    rows = np.array([4])
    batch = model.tokenize(cells, rows, seed=3)
    wanted = cell_embedding("mean").function(Run(adapter=model, batch=batch, states=model.forward(batch)))
    assert found.shape == (cells.n_cells, model.card.width)
    np.testing.assert_allclose(found[rows], wanted, rtol=1e-4, atol=1e-5)
    assert np.isfinite(found).all()


def test_cells_keep_their_rows_in_any_batches(small, monkeypatch):
    model, cells = small
    whole = cell_embeddings(model, cells)
    monkeypatch.setattr(embedding, "BATCH_TOKENS", 700)
    np.testing.assert_allclose(cell_embeddings(model, cells), whole, rtol=1e-4, atol=1e-5)
    assert not np.allclose(whole[0], whole[1], atol=1e-3)


def test_it_is_kept_for_the_same_inputs_only(small, tmp_path, monkeypatch):
    model, cells = small
    path = tmp_path / "sub" / "embedding.npz"
    first = cell_embeddings(model, cells, out=path)
    monkeypatch.setattr(type(model), "forward", None)  # nothing is run again
    np.testing.assert_array_equal(cell_embeddings(model, cells, out=path), first)
    with pytest.raises(TypeError):
        cell_embeddings(model, cells, out=path, seed=1)
    path.write_bytes(b"cut off")
    with pytest.raises(TypeError):
        cell_embeddings(model, cells, out=path)
