"""The map of the mean cell against loops written from the formulas, for models with a norm behind and before."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from every_family import CELLS, load  # noqa: E402

import regulens  # noqa: E402
from regulens.attention.extract import extract  # noqa: E402
from regulens.attention.mean_cell import mean_cell_attention  # noqa: E402
from regulens.errors import CaptureError, DigestMismatchError, ParameterError  # noqa: E402
from regulens.scorers.attention import attention_scores  # noqa: E402

GENES = CELLS.genes.symbols
REGULATORS = GENES[3::6]


def layer_norm(x, weight, bias, eps):
    mean = x.mean()
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean() + eps) * weight + bias


def geneformer(w, i):
    """Post-norm BERT: queries and keys of the state as it is, biases included."""
    own = f"bert.encoder.layer.{i}.attention.self."
    return (None, *(w[own + n] for n in ("query.weight", "query.bias", "key.weight", "key.bias")))


def fused(weight, bias, width):
    return weight[:width], bias[:width], weight[width : 2 * width], bias[width : 2 * width]


def scgpt(w, i):
    """Post-norm: the same, with one matrix for queries, keys and values."""
    own = f"transformer_encoder.layers.{i}.self_attn."
    names = [k for k in w if k.startswith(own) and "out_proj" not in k]
    weight, bias = (w[next(n for n in names if n.endswith(e))] for e in ("weight", "bias"))
    return (None, *fused(weight, bias, weight.shape[1]))


def aido_cell(w, i):
    """Pre-norm: a LayerNorm stands before the queries and keys."""
    own = f"encoder.layer.{i}.attention."
    norm = (w[own + "ln.weight"], w[own + "ln.bias"], 1e-5)
    return (norm, *(w[own + "self." + n] for n in ("query.weight", "query.bias", "key.weight", "key.bias")))


def scprint(w, i):
    own = f"transformer.blocks.{i}."
    norm = (w[own + "norm1.weight"], w[own + "norm1.bias"], 1e-6)
    weight, bias = w[own + "mixer.Wqkv.weight"], w[own + "mixer.Wqkv.bias"]
    return (norm, *fused(weight, bias, weight.shape[1]))


FORMULAS = {"geneformer": geneformer, "scgpt": scgpt, "aido_cell": aido_cell, "scprint": scprint}


def by_loops(adapter, formula, rows, recipe):
    """Mean state of every token over the cells, then queries, keys and the softmax, one number at a time."""
    card, w = adapter.card, {k: v.double().numpy() for k, v in adapter.module.state_dict().items()}
    total, n, met = {}, {}, np.zeros((len(REGULATORS), len(GENES)), dtype=int)
    for row in rows:
        batch = adapter.tokenize(CELLS, np.array([row]), seed=0)
        states = [s[0].double().numpy() for s in adapter.forward(batch)]
        there = set()
        for at in range(batch.tokens.shape[1]):
            gene = int(batch.gene[0, at])
            name = ("gene", gene) if gene >= 0 else ("token", int(batch.tokens[0, at]))
            there.add(gene)
            n[name] = n.get(name, 0) + 1
            for layer in range(card.n_layers):
                total[layer, name] = total.get((layer, name), 0) + states[layer][at]
        for i, r in enumerate(REGULATORS):
            for j, t in enumerate(GENES):
                met[i, j] += r != t and {GENES.index(r), GENES.index(t)} <= there
    out = np.zeros((card.n_layers, card.n_heads, 2, len(REGULATORS), len(GENES)))
    names, size = list(n), card.width // card.n_heads
    for layer in range(card.n_layers):
        norm, wq, bq, wk, bk = formula(w, layer)
        q, k = {}, {}
        for name in names:
            x = total[layer, name] / n[name]
            x = x if norm is None else layer_norm(x, *norm)
            q[name], k[name] = wq @ x + bq, wk @ x + bk
        for head in range(card.n_heads):
            own = slice(head * size, (head + 1) * size)
            logits = {a: {b: q[a][own] @ k[b][own] / np.sqrt(size) for b in names} for a in names}
            for i, r in enumerate(REGULATORS):
                for j, t in enumerate(GENES):
                    a, b = ("gene", GENES.index(r)), ("gene", GENES.index(t))
                    if r == t or not met[i, j]:
                        continue
                    for direction, (query, key) in enumerate(((a, b), (b, a))):
                        value = logits[query][key]
                        if recipe != "logit":
                            value -= np.log(sum(np.exp(v) for v in logits[query].values()))
                        out[layer, head, direction, i, j] = np.exp(value) if recipe == "probability" else value
    return out, met


@pytest.mark.parametrize("recipe", ["probability", "logit", "log_probability"])
@pytest.mark.parametrize("family", FORMULAS)
def test_against_loops(family, recipe, tmp_path):
    adapter = load(family, tmp_path / "m")
    found = mean_cell_attention(
        adapter, CELLS, genes=GENES, regulators=REGULATORS, partition_by=(), recipe=recipe, batch_tokens=70
    )
    want, met = by_loops(adapter, FORMULAS[family], range(CELLS.n_cells), recipe)
    s = found.summary
    assert s.kind == ("mean_cell" if recipe == "probability" else f"mean_cell_{recipe}")
    np.testing.assert_array_equal(s.counts[0], met)
    got = np.divide(s.sums[0], met, out=np.zeros_like(want), where=met > 0)
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("family", [*FORMULAS, "scfoundation", "uce"])
def test_the_mean_of_one_cell_is_that_cell(family, tmp_path):
    adapter, one = load(family, tmp_path / "m"), CELLS.subset(np.array([4]))
    options = {"genes": GENES, "regulators": REGULATORS, "partition_by": ()}
    mean, plain = mean_cell_attention(adapter, one, **options), extract(adapter, one, **options)
    np.testing.assert_array_equal(mean.summary.counts, plain.summary.counts)
    if plain.facts["cells_with_repeats"] == 0:
        np.testing.assert_allclose(mean.summary.sums, plain.summary.sums, atol=1e-5)


def test_it_is_not_the_mean_of_the_maps(tmp_path):
    adapter = load("scgpt", tmp_path / "m")
    options = {"genes": GENES, "regulators": REGULATORS}
    mean = regulens.mean_cell_attention(adapter, CELLS, **options, seed=0)
    maps = regulens.extract(adapter, CELLS, **options, seed=0)
    a, b = (attention_scores(x.summary, min_cells=1) for x in (mean, maps))
    assert np.array_equal(a.observed, b.observed) and a.names == b.names
    assert np.abs(a.values - b.values).max() > 1e-3
    assert mean.summary.digest != maps.summary.digest
    assert mean.scores().provenance["kind"] == "mean_cell" and len(mean.edges(layer=1))


def test_groups_are_partitions(tmp_path):
    import dataclasses

    adapter = load("geneformer", tmp_path / "m")
    obs = CELLS.obs.assign(cell_state=["a", "b", "a", "b", "b"])
    options = {"genes": GENES, "regulators": REGULATORS, "seed": 0}
    both = mean_cell_attention(adapter, dataclasses.replace(CELLS, obs=obs), partition_by=("cell_state",), **options)
    for partition, rows in enumerate(([0, 2], [1, 3, 4])):
        alone = mean_cell_attention(adapter, CELLS.subset(np.array(rows)), partition_by=(), **options)
        np.testing.assert_allclose(both.summary.sums[partition], alone.summary.sums[0], atol=1e-6)
        np.testing.assert_array_equal(both.summary.counts[partition], alone.summary.counts[0])


def test_a_store_is_reused_and_a_foreign_one_refused(tmp_path, monkeypatch):
    adapter = load("scgpt", tmp_path / "m")
    options = {"genes": GENES, "regulators": REGULATORS, "seed": 0}
    held = mean_cell_attention(adapter, CELLS, **options)
    (tmp_path / "a.zarr.partial").mkdir()  # left by a kill
    stored = mean_cell_attention(adapter, CELLS, **options, out=tmp_path / "a.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "m"]
    monkeypatch.setattr(type(adapter), "forward", lambda *a, **k: pytest.fail("ran again"))
    for again in (stored, mean_cell_attention(adapter, CELLS, **options, out=tmp_path / "a.zarr")):
        np.testing.assert_array_equal(again.summary.sums[:], held.summary.sums)
        np.testing.assert_array_equal(again.summary.counts[:], held.summary.counts)
        assert again.facts == held.facts and again.summary.digest == held.summary.digest
        assert again.summary.partitions.equals(held.summary.partitions) and again.summary.card == held.summary.card
    for other in ({"seed": 1}, {"recipe": "logit"}):
        with pytest.raises(DigestMismatchError):
            mean_cell_attention(adapter, CELLS, **{**options, **other}, out=tmp_path / "a.zarr")


def test_refusals(tmp_path, monkeypatch):
    options = {"genes": GENES, "regulators": REGULATORS, "partition_by": ()}
    with pytest.raises(ParameterError, match="causal"):
        mean_cell_attention(load("c2s", tmp_path / "c"), CELLS, **options)
    adapter = load("aido_cell", tmp_path / "m")
    with pytest.raises(ParameterError, match="value_weighted"):
        mean_cell_attention(adapter, CELLS, **options, recipe="value_weighted")

    def without_norm(self, layer, x):
        own = self.network.encoder.layer[layer].attention.self
        shape = (*x.shape[:2], self.card.n_heads, -1)
        return tuple(p(x).view(shape).transpose(1, 2) for p in (own.query, own.key))

    monkeypatch.setattr(type(adapter), "query_key", without_norm)
    with pytest.raises(CaptureError, match="Apply the norm before them"):
        mean_cell_attention(adapter, CELLS, **options)
    monkeypatch.setattr(type(adapter), "query_key", lambda self, layer, x: None)
    with pytest.raises(ParameterError, match="the method query_key"):
        mean_cell_attention(adapter, CELLS, **options)
