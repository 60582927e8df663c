"""Edits of a running forward pass: none leaves every bit, each place changes what it should and nothing before it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.models.base import Edits  # noqa: E402
from regulens.testing.checkpoints import write_geneformer, write_scgpt  # noqa: E402


@pytest.fixture(params=["scgpt", "geneformer"])
def model(request, tmp_path):
    if request.param == "scgpt":
        folder = write_scgpt(tmp_path / "m", vocab=[f"G{i}" for i in range(40)], n_layers=3)
    else:
        folder = write_geneformer(tmp_path / "m", vocab=[f"ENSG{i:011d}" for i in range(40)], n_layers=3)
    adapter = models.load(str(folder))
    return adapter, adapter.tokenize(poisson_cells(), np.arange(5), seed=0)


def test_identity_edits_leave_every_bit(model):
    adapter, batch = model
    same = Edits(embedding=lambda x: x, head_output=lambda _, out: out, mlp_output=lambda _, x: x)
    for a, b in zip(adapter.forward(batch), adapter.forward(batch, edits=same), strict=True):
        assert torch.equal(a, b)


def test_zeroed_head_equals_zeroed_columns_of_the_output_projection(model):
    adapter, batch = model
    if adapter.card.family == "scgpt":
        weight = adapter.module.transformer_encoder.layers[1].self_attn.out_proj.weight
    else:
        weight = adapter.module.layers[1].attention.output.dense.weight

    def drop(layer, out):
        return out * torch.tensor([1.0, 0.0])[:, None, None] if layer.layer == 1 else out

    plain, edited = adapter.forward(batch), adapter.forward(batch, edits=Edits(head_output=drop))
    with torch.no_grad():
        weight[:, 8:] = 0
    by_weights = adapter.forward(batch)
    mask = torch.as_tensor(batch.mask)
    assert torch.equal(plain[1], edited[1]) and not torch.allclose(plain[2][mask], edited[2][mask])
    assert float((edited[-1] - by_weights[-1])[mask].abs().max()) <= 1e-5


def test_edits_of_embedding_and_feed_forward_start_where_they_stand(model):
    adapter, batch = model
    plain = adapter.forward(batch)
    shifted = adapter.forward(batch, edits=Edits(embedding=lambda x: x + 1))
    assert torch.equal(shifted[0], plain[0] + 1)
    silent = adapter.forward(batch, edits=Edits(mlp_output=lambda layer, x: 0 * x if layer == 2 else x))
    assert torch.equal(plain[2], silent[2]) and not torch.allclose(plain[3], silent[3])
