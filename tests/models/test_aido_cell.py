"""AIDO.Cell: the network against a loop written from the formulas; the whole gene list as tokens, worked by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells, poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.attention.extract import extract  # noqa: E402
from regulens.errors import ModelError  # noqa: E402
from regulens.models.base import Edits, TokenBatch  # noqa: E402
from regulens.models.checks import row_sum_error  # noqa: E402
from regulens.models.value_bins import embed_values  # noqa: E402
from regulens.testing.checkpoint_aido_cell import write_aido_cell  # noqa: E402

#: The list has more genes than the cells of the tests: ten tokens per cell have no gene.
LISTED = [f"G{i}" for i in range(50)]
VARIANTS = [("LayerNorm", True), ("RMSNorm", True), ("LayerNorm", False), ("RMSNorm", False)]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_formula(tensors, tokens, values, n_layers, n_heads, *, normalise_before_attention=True):
    """Maps [layer][cell, head, query, key] and hidden states, float64 numpy, one head and one cell at a time."""
    w = {k: v.double().numpy() for k, v in tensors.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def norm(x, name):
        if f"{name}.bias" not in w:
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"]
        mean = x.mean(-1, keepdims=True)
        return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[
            f"{name}.bias"
        ]

    a = linear(values.astype(np.float64)[..., None], "gene_embedding.linear1")
    a = np.where(a > 0, a, 0.1 * a)
    x = softmax(a + linear(a, "gene_embedding.linear2")) @ w["gene_embedding.lookup_table.weight"]
    x = x + w["position_embedding.weight"][tokens]
    n, s, d = x.shape
    size = d // n_heads
    maps, states = [], [x]
    for layer in range(n_layers):
        p = f"encoder.layer.{layer}"
        z = norm(x, f"{p}.attention.ln") if normalise_before_attention else x
        q, k, v = (linear(z, f"{p}.attention.self.{part}") for part in ("query", "key", "value"))
        out, attention = np.zeros_like(x), np.zeros((n, n_heads, s, s))
        for h in range(n_heads):
            own = slice(h * size, (h + 1) * size)
            for c in range(n):
                attention[c, h] = softmax(q[c, :, own] @ k[c, :, own].T / math.sqrt(size))
                out[c, :, own] = attention[c, h] @ v[c, :, own]
        x = x + linear(out, f"{p}.attention.output.dense")
        z = norm(x, f"{p}.ln")
        gate = linear(z, f"{p}.mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(z, f"{p}.mlp.up_proj"), f"{p}.mlp.down_proj")
        maps.append(attention)
        states.append(x)
    states[-1] = norm(x, "encoder.ln")
    return maps, states


@pytest.mark.parametrize(("norm", "bias"), VARIANTS)
def test_equals_the_formulas_over_twelve_layers(tmp_path, norm, bias):
    folder = write_aido_cell(tmp_path / "m", vocab=LISTED, n_layers=12, n_heads=4, norm=norm, bias=bias)
    adapter = models.load(f"aido_cell:{folder}")
    batch = adapter.tokenize(poisson_cells(3), np.arange(3), seed=0)
    maps, states = by_formula(adapter.module.state_dict(), batch.tokens, batch.values, 12, 4)
    seen = []
    ours, fused = adapter.forward(batch, tap=seen.append, kernel="plain"), adapter.forward(batch)
    assert [a.layer for a in seen] == list(range(12)) and all(a.key_mask is None for a in seen)
    for a, b in zip(seen, maps, strict=True):
        assert np.abs(a.probabilities.numpy() - b).max() <= 1e-5
        assert row_sum_error(a.probabilities, batch.mask) <= 1e-5
        assert row_sum_error(a.probabilities.transpose(-1, -2), batch.mask) > 1e-3  # a transposed capture fails
    for a, b, c in zip(ours, fused, states, strict=True):
        scale = max(1.0, np.abs(c).max())  # the residual stream is not normalised and grows
        assert np.abs(a.numpy() - c).max() <= 1e-4 * scale and np.abs(b.numpy() - c).max() <= 1e-4 * scale


def test_queries_and_keys_come_from_the_normalised_state(tmp_path):
    adapter = models.load(f"aido_cell:{write_aido_cell(tmp_path / 'm', vocab=LISTED)}")
    batch = adapter.tokenize(poisson_cells(2), np.arange(2), seed=0)
    maps, _ = by_formula(
        adapter.module.state_dict(), batch.tokens, batch.values, 1, 2, normalise_before_attention=False
    )
    seen = []
    adapter.forward(batch, tap=seen.append, kernel="plain")
    assert np.abs(seen[0].probabilities.numpy() - maps[0]).max() > 1e-2  # the known mistake gives another map


def test_genes_attend_to_genes_and_not_heads_to_heads(tmp_path):
    """Attention over the heads of one token, another known mistake, would leave all other tokens as they are."""
    adapter = models.load(f"aido_cell:{write_aido_cell(tmp_path / 'm', vocab=LISTED)}")
    batch = adapter.tokenize(poisson_cells(1), np.arange(1), seed=0)
    values = batch.values.copy()
    values[0, 5] += 3
    other = TokenBatch(tokens=batch.tokens, values=values, gene=batch.gene, mask=batch.mask, cell=batch.cell)
    change = (adapter.forward(batch)[1] - adapter.forward(other)[1]).abs().amax(-1)[0]
    assert float(change.min()) > 1e-6 and int(change.argmax()) == 5


def test_tokens_by_hand(tmp_path):
    # List A B C D; the cells have D, X (unknown), A. B and C were never measured.
    adapter = models.load(f"aido_cell:{write_aido_cell(tmp_path / 'm', vocab=['A', 'B', 'C', 'D'])}")
    cells = make_cells([[3, 90, 1], [0, 7, 2]], symbols=["D", "X", "A"])
    assert adapter.gene_tokens(cells.genes).tolist() == [3, -1, 0]
    batch = adapter.tokenize(cells, np.arange(2), seed=0)
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 4, 5]] * 2 and batch.mask.all()
    assert batch.gene.tolist() == [[2, -1, -1, 0, -1, -1]] * 2  # D of the second cell has no count and is a token
    first = [math.log1p(1 / 4 * 1e4), 0, 0, math.log1p(3 / 4 * 1e4), 5, 5]
    second = [math.log1p(1e4), 0, 0, 0, 5, 5]
    assert np.allclose(batch.values, [first, second], rtol=1e-6)


def test_depth_is_at_least_five(tmp_path):
    adapter = models.load(f"aido_cell:{write_aido_cell(tmp_path / 'm', vocab=['A', 'B'])}")
    cells = make_cells([[1e6, 0], [99, 1], [0, 0]], symbols=["A", "B"])
    values = adapter.tokenize(cells, np.arange(3), seed=0).values
    assert values[:, 2:].tolist() == [[6, 6], [5, 5], [5, 5]]
    assert values[2, :2].tolist() == [0, 0]  # an empty cell has no share to divide


def test_the_cell_decides_its_tokens_not_the_batch(tmp_path):
    adapter = models.load(f"aido_cell:{write_aido_cell(tmp_path / 'm', vocab=LISTED)}")
    cells = poisson_cells()
    together, alone = adapter.tokenize(cells, np.arange(5), seed=0), adapter.tokenize(cells, np.array([3]), seed=7)
    assert together.values[3].tolist() == alone.values[0].tolist()


def test_prefix_and_half_precision_give_the_same_model(tmp_path):
    cells, out = poisson_cells(2), []
    for i, prefix in enumerate(("", "bert.")):
        for weights in ("model.safetensors", "pytorch_model.bin"):
            folder = write_aido_cell(tmp_path / f"{i}{weights}", vocab=LISTED, prefix=prefix, weights=weights)
            adapter = models.load(str(folder))
            out.append(adapter.forward(adapter.tokenize(cells, np.arange(2), seed=0))[-1])
    assert all(torch.equal(out[0], o) for o in out[1:])


def test_card_says_what_the_licence_forbids(tmp_path):
    card = models.inspect(str(write_aido_cell(tmp_path / "m", vocab=LISTED, n_layers=3)))
    assert (card.family, card.n_layers, card.n_heads, card.vocabulary_size, card.max_length) == (
        "aido_cell", 3, 2, 52, 52,
    )  # fmt: skip
    assert "no commercial use" in card.licence and "attention maps" in card.licence
    assert any("attention maps as output" in n for n in card.notes)
    assert any("not checked on the published weights" in n for n in card.notes)
    assert any("bfloat16" in n for n in card.notes) and any("tensors not used: cls" in n for n in card.notes)


def test_marks_take_the_place_of_values():
    first, second, table = torch.nn.Linear(1, 3), torch.nn.Linear(3, 3), torch.randn(3, 4)
    row = torch.full((1, 4), 9.0)
    out = embed_values(torch.tensor([[0.5, -1.0]]), first, second, table, alpha=1.0, marks=((-1.0, row),))
    assert torch.equal(out[0, 1], row[0]) and not torch.equal(out[0, 0], row[0])


def edit(folder, *, config=None, drop=(), add=None):
    from safetensors.torch import load_file, save_file

    path = folder / "config.json"
    told = json.loads(path.read_text())
    for key, value in (config or {}).items():
        told.pop(key, None) if value is None else told.update({key: value})
    path.write_text(json.dumps(told))
    tensors = load_file(folder / "model.safetensors")
    tensors = {k: v for k, v in tensors.items() if k not in drop} | (add or {})
    save_file(tensors, folder / "model.safetensors")


LAYER = "encoder.layer.1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": [f"{LAYER}.attention.ln.weight"]}, r"1 missing \(encoder\.layer\.1\.attention\.ln\.weight\)"),
        ({"drop": ["encoder.layer.0.mlp.gate_proj.bias"]}, "1 missing"),
        ({"add": {"extra.weight": torch.zeros(2)}}, r"1 unexpected \(extra\.weight\)"),
        ({"add": {f"{LAYER}.ln.weight": torch.zeros(3)}}, "of the wrong shape"),
        ({"add": {f"{LAYER}.ln.weight": torch.full((16,), math.inf)}}, "NaN or infinity"),
        ({"drop": ["position_embedding.weight"]}, "This is another format"),
        ({"config": {"num_attention_heads": None}}, "number of attention heads as 'num_attention_heads'"),
        ({"config": {"num_attention_heads": 3}}, "divides the width 16"),
        ({"config": {"hidden_size": 640}}, "hidden_size = 640 but the weights have 16"),
        ({"config": {"num_hidden_layers": 18}}, "num_hidden_layers = 18 but the weights have 2"),
        ({"config": {"normalization_type": "RMSNorm"}}, "normalization_type = RMSNorm but the weights have LayerNorm"),
        ({"config": {"add_linear_bias": False}}, "add_linear_bias = False but the weights have True"),
        ({"config": {"max_position_embeddings": 19264}}, "max_position_embeddings = 19264 but the weights have 50"),
        ({"config": {"position_embedding_type": "rope"}}, "position_embedding_type = 'rope'"),
        ({"config": {"hidden_act": "gelu"}}, "hidden_act = 'gelu'"),
        ({"config": {"bin_alpha": "one"}}, "Expected a number as 'bin_alpha'"),
    ],
)
def test_bad_checkpoints_end_in_one_sentence(tmp_path, change, words):
    folder = write_aido_cell(tmp_path / "m", vocab=LISTED)
    edit(folder, **change)
    with pytest.raises(ModelError, match=words) as caught:
        models.load(str(folder))
    assert "\n" not in str(caught.value)


def test_truncated_and_missing_files(tmp_path):
    folder = write_aido_cell(tmp_path / "m", vocab=LISTED)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="truncated or damaged"):
        models.load(str(folder))
    path.unlink()
    with pytest.raises(ModelError, match="Expected weights in"):
        models.load(str(folder))
    path.write_bytes(whole)
    next(folder.glob("*.tsv")).unlink()
    with pytest.raises(ModelError, match=r"gene list \(OS_scRNA_gene_index\.19264\.tsv\).*put it beside the weights"):
        models.load(str(folder))


def test_a_hostile_pickle_is_not_executed(tmp_path):
    target = tmp_path / "owned"

    class Bomb:
        def __reduce__(self):
            return (open, (str(target), "w"))

    folder = write_aido_cell(tmp_path / "m", vocab=LISTED, weights="pytorch_model.bin")
    torch.save({"encoder.ln.weight": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="needs code to be run"):
        models.load(str(folder))
    assert not target.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert target.exists()  # the same file, trusted, does what it says


def test_another_family_named_for_this_folder(tmp_path):
    folder = write_aido_cell(tmp_path / "m", vocab=LISTED)
    assert models.detect(folder) == "aido_cell"
    with pytest.raises(ModelError, match=r"this looks like a AIDO\.Cell folder"):
        models.load(f"scgpt:{folder}")


def test_real_gene_list(shared_data, tmp_path):
    source = shared_data / "model_files/aido_scfoundation/OS_scRNA_gene_index.19264.tsv"
    names = [line.split("\t")[0] for line in source.read_text().splitlines()[1:]]
    folder = write_aido_cell(tmp_path / "m", vocab=names, width=4, n_layers=1)
    (folder / source.name).write_bytes(source.read_bytes())
    adapter = models.load(str(folder))
    assert adapter.card.max_length == 19_266 and not any("not the published one" in n for n in adapter.card.notes)
    cells = make_cells([[5, 2, 1]], symbols=["ZZZ3", "BMAL1", "NOTAGENE"])
    batch = adapter.tokenize(cells, np.array([0]), seed=0)
    assert batch.tokens.shape == (1, 19_266) and (batch.tokens[0] == np.arange(19_266)).all()
    place = {names.index("ZZZ3"): 0, names.index("ARNTL"): 1}
    assert {int(p): int(batch.gene[0, p]) for p in np.flatnonzero(batch.gene[0] >= 0)} == place
    found = batch.values[0, list(place)]
    assert np.allclose(found, np.log1p(np.array([5, 2]) / 7 * 1e4)) and np.count_nonzero(batch.values) == 4
    found, rows = adapter.gene_embeddings()
    assert found == tuple(names) and rows.shape == (19_264, 4)


def test_no_edits_leave_every_bit_and_edits_act_where_they_stand(tmp_path):
    adapter = models.load(str(write_aido_cell(tmp_path / "m", vocab=LISTED, n_layers=3)))
    batch = adapter.tokenize(poisson_cells(2), np.arange(2), seed=0)
    same = Edits(embedding=lambda x: x, head_output=lambda _, out: out, mlp_output=lambda _, x: x)
    plain = adapter.forward(batch)
    for a, b in zip(plain, adapter.forward(batch, edits=same), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(adapter.forward(batch, edits=Edits(embedding=lambda x: x + 1))[0], plain[0] + 1)
    silent = adapter.forward(batch, edits=Edits(mlp_output=lambda layer, x: 0 * x if layer == 2 else x))
    assert torch.equal(plain[2], silent[2]) and not torch.allclose(plain[3], silent[3])

    def drop(layer, out):
        return out * torch.tensor([1.0, 0.0])[:, None, None] if layer.layer == 1 else out

    edited = adapter.forward(batch, edits=Edits(head_output=drop))
    with torch.no_grad():
        adapter.module.encoder.layer[1].attention.output.dense.weight[:, 8:] = 0
    assert torch.equal(plain[1], edited[1])
    assert float((edited[-1] - adapter.forward(batch)[-1]).abs().max()) <= 1e-5


def test_verify_passes_and_catches_broken_twins(tmp_path):
    adapter, cells = models.load(str(write_aido_cell(tmp_path / "m", vocab=LISTED, n_heads=4))), poisson_cells()
    table = models.verify(adapter, cells)
    assert table["passed"].all(), table[~table["passed"]]
    forward, tokenize = type(adapter).forward, type(adapter).tokenize

    def transposed(self, batch, *, tap=None, **rest):
        def turn(a):
            turned = None if a.probabilities is None else a.probabilities.transpose(-1, -2)
            tap(replace(a, q=a.k, k=a.q, probabilities=turned))

        return forward(self, batch, tap=None if tap is None else turn, **rest)

    def without_depths(self, cells, rows, *, seed):
        b = tokenize(self, cells, rows, seed=seed)
        return TokenBatch(
            tokens=b.tokens[:, :-2], values=b.values[:, :-2], gene=b.gene[:, :-2], mask=b.mask[:, :-2], cell=b.cell
        )

    for changes, caught in (
        ({"forward": transposed}, "rows_sum_to_one/L00"),
        ({"tokenize": without_depths}, "special_tokens"),
    ):
        twin = models.load(adapter.card.spec)
        twin.__class__ = type("Twin", (type(adapter),), changes)
        assert not models.verify(twin, cells).set_index("name").loc[caught, "passed"]


def test_extraction_equals_the_maps_with_every_gene_present(tmp_path):
    adapter, cells = models.load(str(write_aido_cell(tmp_path / "m", vocab=LISTED))), poisson_cells()
    genes, regulators = tuple(f"G{i}" for i in range(20)), ("G3", "G7")
    found = extract(adapter, cells, genes=genes, regulators=regulators, batch_tokens=120)
    assert found.summary.facts["tokens_median"] == 52
    off = np.array([[g != r for g in genes] for r in regulators])
    # Zeros are tokens too: every pair was met in every cell.
    assert (found.summary.pair_counts() == 5 * off).all()
    batch, seen = adapter.tokenize(cells, np.arange(5), seed=0), []
    adapter.forward(batch, tap=seen.append, kernel="plain")
    for layer in seen:
        total = layer.probabilities.sum(0).numpy()[:, [3, 7], :20] * off
        assert np.abs(found.summary.sums[0, layer.layer, :, 0] - total).max() <= 1e-5
        total = layer.probabilities.sum(0).numpy()[:, :20, [3, 7]].swapaxes(1, 2) * off
        assert np.abs(found.summary.sums[0, layer.layer, :, 1] - total).max() <= 1e-5
    assert found.verify()["max_abs_difference"].max() <= 1e-5


def test_batches_are_cut_by_the_true_length(tmp_path):
    """A batch as large as the number of *detected* genes allows would hold many times the memory."""
    adapter, cells = models.load(str(write_aido_cell(tmp_path / "m", vocab=LISTED))), poisson_cells()
    sizes, tokenize = [], type(adapter).tokenize

    def counted(self, cells, rows, *, seed):
        sizes.append(len(rows))
        return tokenize(self, cells, rows, seed=seed)

    adapter.__class__ = type("Counted", (type(adapter),), {"tokenize": counted})
    extract(adapter, cells, genes=("G1", "G2"), regulators=("G1",), batch_tokens=120)
    assert sum(sizes) == 5 and max(sizes) == 2
    sizes.clear()
    extract(adapter, cells, genes=("G1", "G2"), regulators=("G1",), batch_tokens=10)  # longer than the budget: alone
    assert sizes == [1] * 5


def test_sequences_whose_map_would_not_fit_are_checked_by_rows(tmp_path, monkeypatch):
    from regulens.attention import verify as blocks
    from regulens.models import checks

    adapter, cells = models.load(str(write_aido_cell(tmp_path / "m", vocab=LISTED))), poisson_cells()
    kernels, forward = [], type(adapter).forward

    def watched(self, batch, *, tap=None, kernel="fused", **rest):
        def look(a):
            assert kernel == "plain" or a.probabilities is None
            tap(a)

        kernels.append(kernel)
        return forward(self, batch, tap=None if tap is None else look, kernel=kernel, **rest)

    adapter.__class__ = type("Watched", (type(adapter),), {"forward": watched})
    found = extract(adapter, cells, genes=tuple(LISTED[:20]), regulators=("G3", "G7"))
    whole = found.verify(n_cells=1)
    assert "plain" in kernels
    kernels.clear()
    monkeypatch.setattr(blocks, "MAP_LIMIT", 1000)
    monkeypatch.setattr(checks, "MAP_LIMIT", 1000)
    by_rows = found.verify(n_cells=4)
    assert (by_rows["n_cells"] == 1).all() and "plain" not in kernels and "chunked" in kernels
    assert by_rows["max_abs_difference"].max() <= 1e-5 and (by_rows["max_attention"] > 0).all()
    assert whole["n_values"].tolist() == by_rows["n_values"].tolist()
    table = models.verify(adapter, cells)
    assert table["passed"].all() and "plain" not in kernels

    for recipe in ("logit", "log_probability", "value_weighted"):
        other = extract(adapter, cells, genes=tuple(LISTED[:20]), regulators=("G3", "G7"), recipe=recipe)
        assert other.verify()["max_abs_difference"].max() <= 1e-4

    monkeypatch.setattr(blocks, "add_layer", lambda sums, layer, found, **_: None)  # a broken twin adds nothing
    assert found.verify()["max_abs_difference"].min() > 1e-3


def test_demonstration_cells_end_to_end(tmp_path):
    from regulens.io.demo import load_demo

    cells = load_demo("pbmc68k").subset(np.arange(4))
    adapter = models.load(str(write_aido_cell(tmp_path / "m", vocab=[*sorted(cells.genes.symbols), "LAST"])))
    genes = cells.genes.symbols[:30]
    found = extract(adapter, cells, genes=genes, regulators=genes[:4])
    assert found.summary.facts["n_cells"] == 4 and found.summary.pair_counts().max() == 4
