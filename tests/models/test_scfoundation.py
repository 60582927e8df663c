"""scFoundation: the encoder against a loop written from the formulas and against torch; tokens worked by hand."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells, poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.attention.extract import extract  # noqa: E402
from regulens.errors import ModelError  # noqa: E402
from regulens.models.base import Edits  # noqa: E402
from regulens.models.checks import masked_weight, row_sum_error  # noqa: E402
from regulens.testing.checkpoint_scfoundation import write_gene_list, write_scfoundation  # noqa: E402

SYMBOLS = [f"G{i}" for i in range(40)]


def load(folder, options=""):
    return models.load(f"scfoundation:{folder}{options}")


def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * weight + bias


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_formula(tensors, tokens, values, mask, n_layers, n_heads, alpha=1.0):
    """Maps [layer][cell, head, query, key] and hidden states, float64 numpy, one head and one cell at a time."""
    w = {k: v.double().numpy() for k, v in tensors.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    a = linear(values.astype(np.float64)[..., None], "token_emb.mlp")
    a = np.where(a > 0, a, 0.1 * a)
    x = softmax(alpha * a + linear(a, "token_emb.mlp2")) @ w["token_emb.emb.weight"]
    x[values == 103] = w["token_emb.emb_pad.weight"][0]
    x = x + w["pos_emb.weight"][tokens]
    n, s, d = x.shape
    size = d // n_heads
    maps, states = [], [x]
    for layer in range(n_layers):
        p = f"encoder.transformer_encoder.{layer}"
        big, bias = w[f"{p}.self_attn.in_proj_weight"], w[f"{p}.self_attn.in_proj_bias"]
        out, attention = np.zeros_like(x), np.zeros((n, n_heads, s, s))
        for h in range(n_heads):
            own = slice(h * size, (h + 1) * size)
            q, k, v = (x @ big[i * d : (i + 1) * d][own].T + bias[i * d : (i + 1) * d][own] for i in range(3))
            for c in range(n):
                logits = np.where(mask[c][None, :], q[c] @ k[c].T / math.sqrt(size), -np.inf)
                attention[c, h] = softmax(logits)
                out[c, :, own] = attention[c, h] @ v[c]
        x = norm(x + linear(out, f"{p}.self_attn.out_proj"), f"{p}.norm1")
        x = norm(x + linear(np.maximum(linear(x, f"{p}.linear1"), 0), f"{p}.linear2"), f"{p}.norm2")
        maps.append(attention)
        states.append(x)
    states[-1] = norm(x, "encoder.norm")
    return maps, states


def test_equals_the_formulas_over_twelve_layers(tmp_path):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=SYMBOLS, n_layers=12, n_heads=4))
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    assert not batch.mask.all()
    maps, states = by_formula(adapter.module.state_dict(), batch.tokens, batch.values, batch.mask, 12, 4)
    seen = []
    ours, fused = adapter.forward(batch, tap=seen.append, kernel="plain"), adapter.forward(batch)
    assert [a.layer for a in seen] == list(range(12))
    for a, b in zip(seen, maps, strict=True):
        real = np.broadcast_to(batch.mask[:, None, :, None], b.shape)
        assert np.abs(a.probabilities.numpy() - b)[real].max() <= 1e-5
        assert masked_weight(a.probabilities, batch.mask) == 0.0
        assert row_sum_error(a.probabilities, batch.mask) <= 1e-5
        assert row_sum_error(a.probabilities.transpose(-1, -2), batch.mask) > 1e-3  # a transposed capture fails
    for a, b, c in zip(ours, fused, states, strict=True):
        assert np.abs(a.numpy() - c)[batch.mask].max() <= 1e-4
        assert np.abs(b.numpy() - c)[batch.mask].max() <= 1e-4


def test_a_wrong_split_of_the_fused_projection_is_seen(tmp_path):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=SYMBOLS, n_heads=4))
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    tensors = adapter.module.state_dict()
    name = "encoder.transformer_encoder.0.self_attn.in_proj_weight"
    # The other convention, query, key and value per head, has the same shape and loads without an error.
    per_head = tensors[name].view(3, 4, 4, 16).transpose(0, 1).reshape(48, 16)
    maps, _ = by_formula({**tensors, name: per_head}, batch.tokens, batch.values, batch.mask, 1, 4)
    seen = []
    adapter.forward(batch, tap=seen.append, kernel="plain")
    assert np.abs(seen[0].probabilities.numpy() - maps[0])[:, :, 0].max() > 1e-2


def test_equals_torchs_own_encoder_layer(tmp_path):
    """The published encoder is a list of torch's layers; its weights are the same tensors under the same names."""
    adapter = load(write_scfoundation(tmp_path / "m", vocab=SYMBOLS, n_layers=1))
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    theirs = torch.nn.TransformerEncoderLayer(16, 2, 64, batch_first=True)
    theirs.load_state_dict(adapter.module.encoder.transformer_encoder[0].state_dict())
    theirs.eval()
    before, after = adapter.forward(batch)
    mask = torch.as_tensor(batch.mask)
    expected = adapter.module.encoder.norm(theirs(before, src_key_padding_mask=~mask))  # gradients: no fast path
    assert float((after - expected)[mask].detach().abs().max()) <= 1e-5


def test_tokens_by_hand(tmp_path):
    # List A B C D; the cells have D, X (unknown), A, C in this order.
    adapter = load(write_scfoundation(tmp_path / "m", vocab=["A", "B", "C", "D"]))
    cells = make_cells([[3, 90, 1, 0], [0, 0, 2, 8]], symbols=["D", "X", "A", "C"])
    assert adapter.gene_tokens(cells.genes).tolist() == [3, -1, 0, 2]
    batch = adapter.tokenize(cells, np.arange(2), seed=0)
    assert batch.tokens.tolist() == [[0, 3, 4, 5], [0, 2, 4, 5]]  # list order, then T = 4 and S = 5
    assert batch.gene.tolist() == [[2, 0, -1, -1], [2, 3, -1, -1]]
    # Totals are over the model's genes: 4 and 10, not 94 and 10.
    first = [math.log1p(1 / 4 * 1e4), math.log1p(3 / 4 * 1e4), 4.0, math.log10(4)]
    second = [math.log1p(2 / 10 * 1e4), math.log1p(8 / 10 * 1e4), 4.0, 1.0]
    assert np.allclose(batch.values, [first, second], rtol=1e-6)


def test_padding_has_the_ids_of_upstream(tmp_path):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=["A", "B", "C"]))
    batch = adapter.tokenize(make_cells([[1, 2, 3], [9, 0, 0]], symbols=["A", "B", "C"]), np.arange(2), seed=0)
    assert batch.tokens[1].tolist() == [0, 3, 4, 5, 5] and batch.mask[1].tolist() == [True] * 3 + [False] * 2
    assert batch.values[1, 3:].tolist() == [103.0, 103.0] and batch.gene[1].tolist() == [0, -1, -1, -1, -1]


@pytest.mark.parametrize(("option", "expected"), [("t4", 4.0), ("f2", math.log10(20)), ("a5", 6.0)])
def test_target_depth(tmp_path, option, expected):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=["A"]), f"?tgthighres={option}")
    batch = adapter.tokenize(make_cells([[10]], symbols=["A"]), np.array([0]), seed=0)
    assert np.allclose(batch.values[0, 1:], [expected, 1.0]) and f"({option})" in adapter.card.tokenisation


def test_a_depth_of_zero_is_no_token(tmp_path):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=["A"]))
    batch = adapter.tokenize(make_cells([[1]], symbols=["A"]), np.array([0]), seed=0)
    assert batch.tokens.tolist() == [[0, 1]]  # S = log10(1) = 0 is not above zero


def test_counts_that_are_no_longer_in_the_cells_count_towards_the_depth(tmp_path):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=["A", "B"]))
    cells = make_cells([[10, 5]], symbols=["A", "X"], totals=[1005])
    batch = adapter.tokenize(cells, np.array([0]), seed=0)
    assert np.allclose(batch.values[0], [math.log1p(10 / 1000 * 1e4), 4.0, 3.0])


@pytest.mark.parametrize("option", ["x4", "t", "f0", "tnan", "103"])
def test_odd_target_depths_are_refused(tmp_path, option):
    with pytest.raises(ModelError, match=r"Expected tgthighres .* got .* published default"):
        load(write_scfoundation(tmp_path / "m", vocab=["A"]), f"?tgthighres={option}")


def test_a_depth_that_would_be_read_as_padding_is_refused(tmp_path):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=["A"]), "?tgthighres=t103")
    with pytest.raises(ModelError, match="Expected depths below 20, got T = 103"):
        adapter.tokenize(make_cells([[10]], symbols=["A"]), np.array([0]), seed=0)


def test_the_cell_decides_its_tokens_not_the_batch(tmp_path):
    adapter, cells = load(write_scfoundation(tmp_path / "m", vocab=SYMBOLS)), poisson_cells()
    together, alone = adapter.tokenize(cells, np.arange(5), seed=0), adapter.tokenize(cells, np.array([3]), seed=7)
    n = int(alone.mask.sum())
    assert together.values[3, :n].tolist() == alone.values[0].tolist()
    assert together.gene[3, :n].tolist() == alone.gene[0].tolist()


def test_the_model_in_the_file_is_chosen_by_an_option(tmp_path):
    folder, batch = write_scfoundation(tmp_path / "m", vocab=SYMBOLS), None
    out, names = [], []
    for options in ("", "?key=gene", "?key=cell"):
        adapter = load(folder, options)
        batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
        out.append(adapter.forward(batch)[-1])
        names.append(adapter.card.name)
    assert torch.equal(out[0], out[1]) and not torch.allclose(out[0], out[2])
    assert names == ["m", "m-gene", "m-cell"]
    with pytest.raises(ModelError, match="one of gene, cell, rde"):
        load(folder, "?key=protein")


def test_old_containers_are_read(tmp_path):
    a = load(write_scfoundation(tmp_path / "a", vocab=SYMBOLS))
    b = load(write_scfoundation(tmp_path / "b", vocab=SYMBOLS, container="legacy"))
    batch = a.tokenize(poisson_cells(), np.arange(5), seed=0)
    assert torch.equal(a.forward(batch)[-1], b.forward(batch)[-1])


def test_card(tmp_path):
    card = models.inspect(f"scfoundation:{write_scfoundation(tmp_path / 'm', vocab=SYMBOLS, n_layers=3)}")
    assert (card.n_layers, card.n_heads, card.width, card.vocabulary_size, card.max_length) == (3, 2, 16, 43, 42)
    assert "no commercial use" in card.licence and len(card.sha256) == 64
    assert any("decoder" in n and "Performer" in n for n in card.notes)
    assert any("not checked on the published weights" in n for n in card.notes)


def test_detected_by_its_file(tmp_path):
    assert models.detect(write_scfoundation(tmp_path / "m", vocab=SYMBOLS)) == "scfoundation"


def edit(folder, change):
    path = folder / "models.ckpt"
    found = torch.load(path, weights_only=True)
    change(found)
    torch.save(found, path)


LAYER = "model.encoder.transformer_encoder.1"
CONFIG = ("config", "model_config", "mae_autobin")


def at(found, *names):
    for name in names:
        found = found[name]
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["gene"]["state_dict"].pop(f"{LAYER}.norm2.bias"), r"1 missing \(encoder\S+1\.norm2\.bias\)"),
        (
            lambda f: f["gene"]["state_dict"].update({"model.extra.weight": torch.zeros(2)}),
            r"unexpected \(extra\.weight",
        ),
        (lambda f: f["gene"]["state_dict"].update({f"{LAYER}.linear2.bias": torch.zeros(3)}), "of the wrong shape"),
        (lambda f: f["gene"]["state_dict"].update({f"{LAYER}.linear2.bias": torch.full((16,), math.nan)}), "NaN"),
        (lambda f: f["gene"]["state_dict"].pop("model.pos_emb.weight"), "another family or another format"),
        (lambda f: f.pop("gene"), r"Expected the model 'gene' in models\.ckpt, got cell, rde"),
        (lambda f: f["gene"].pop("config"), "Expected settings under 'config'"),
        (lambda f: at(f, "gene", *CONFIG, "encoder").pop("heads"), "number of attention heads as 'heads'"),
        (lambda f: at(f, "gene", *CONFIG, "encoder").update(heads=3), "divides the width 16"),
        (lambda f: at(f, "gene", *CONFIG, "encoder").update(depth=12), "depth = 12 but the weights have 2"),
        (lambda f: at(f, "gene", *CONFIG, "encoder").update(norm_first=True), "norm_first = true"),
        (lambda f: at(f, "gene", *CONFIG, "encoder").update(module_type="performer"), "module_type = 'performer'"),
        (lambda f: at(f, "gene", *CONFIG).pop("bin_alpha"), "Expected a number as 'bin_alpha'"),
        (lambda f: at(f, "gene", *CONFIG).update(seq_len=19266), "seq_len = 19266 but the weights have 42"),
        (lambda f: at(f, "gene", "config").pop("dataset_config"), "Expected model_config, dataset_config"),
    ],
)
def test_bad_checkpoints_end_in_one_sentence(tmp_path, change, words):
    folder = write_scfoundation(tmp_path / "m", vocab=SYMBOLS)
    edit(folder, change)
    with pytest.raises(ModelError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_truncated_files_are_refused(tmp_path):
    folder = write_scfoundation(tmp_path / "m", vocab=SYMBOLS)
    path = folder / "models.ckpt"
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="truncated or damaged"):
            load(folder)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("how", ["torch", "plain"])
def test_a_hostile_pickle_is_not_executed(tmp_path, how):
    folder, target = write_scfoundation(tmp_path / "m", vocab=SYMBOLS), tmp_path / "owned"
    if how == "torch":
        edit(folder, lambda f: f["gene"].update(config=Bomb(target)))
    else:
        (folder / "models.ckpt").write_bytes(pickle.dumps({"gene": Bomb(target)}, protocol=2))
    with pytest.raises(ModelError):
        load(folder)
    assert not target.exists()
    torch.load(folder / "models.ckpt", weights_only=False) if how == "torch" else pickle.loads(
        (folder / "models.ckpt").read_bytes()
    )
    assert target.exists()  # the same file, trusted, does what it says


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"Expected the model's gene list \(OS_scRNA_gene_index\.19264\.tsv\).*found none.*beside the weights"),
        ("gene_name\tindex\nA\t0\n", r"Expected 40 genes in .*, got 1\."),
        ("gene_name\tindex\nA\t0\nA\t1\n", "unique gene names"),
        ("gene_name\tindex\nA\t1\nB\t0\n", "another order"),
        ("name\nA\n", "Expected the columns gene_name and index"),
        ("gene_name\tindex\nA\n", "Expected the columns gene_name and index"),
    ],
)
def test_bad_gene_lists(tmp_path, text, words):
    folder = write_scfoundation(tmp_path / "m", vocab=SYMBOLS)
    path = next(folder.glob("*.tsv"))
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelError, match=words):
        load(folder)


def test_a_gene_list_elsewhere_is_named(tmp_path):
    folder = write_scfoundation(tmp_path / "m", vocab=SYMBOLS)
    moved = next(folder.glob("*.tsv")).rename(tmp_path / "genes.tsv")
    assert load(folder, f"?genes={moved}").genes.names == tuple(SYMBOLS)
    with pytest.raises(ModelError, match="Expected the model's gene list at nowhere, found no such file"):
        load(folder, "?genes=nowhere")


def test_two_gene_lists_are_refused(tmp_path):
    folder = write_scfoundation(tmp_path / "m", vocab=SYMBOLS)
    write_gene_list(folder, SYMBOLS[:3])
    with pytest.raises(ModelError, match=r"gene_index\.3\.tsv.*gene_index\.40\.tsv|gene_index\.40.*gene_index\.3"):
        load(folder)


def test_another_family_named_for_this_folder(tmp_path):
    folder = write_scfoundation(tmp_path / "m", vocab=SYMBOLS)
    with pytest.raises(ModelError, match="this looks like a scFoundation folder"):
        models.load(f"aido_cell:{folder}")


def test_genes_keep_their_retired_symbol_in_the_list(tmp_path):
    # ARNTL is now BMAL1. With both in the list, each is its own gene.
    adapter = load(write_scfoundation(tmp_path / "m", vocab=["ARNTL", "TP53"]))
    genes = make_cells([[1, 1]], symbols=["TP53", "BMAL1"]).genes
    assert adapter.gene_tokens(genes).tolist() == [1, 0]
    both = make_cells([[1, 1]], symbols=["ARNTL", "BMAL1"]).genes
    assert adapter.gene_tokens(both).tolist() == [0, -1]


def test_real_gene_list(shared_data, tmp_path):
    source = shared_data / "model_files/aido_scfoundation/OS_scRNA_gene_index.19264.tsv"
    names = [line.split("\t")[0] for line in source.read_text().splitlines()[1:]]
    folder = write_scfoundation(tmp_path / "m", vocab=names, width=4, n_layers=1, keys=["gene"])
    (folder / source.name).write_bytes(source.read_bytes())
    adapter = load(folder)
    assert adapter.card.vocabulary_size == 19_267 and not any("not the published one" in n for n in adapter.card.notes)
    symbols = ["ZZZ3", "A1BG", "BMAL1", "NOTAGENE", "GATA1"]
    cells = make_cells([[5, 2, 1, 8, 0]], symbols=symbols)
    tokens = adapter.gene_tokens(cells.genes)
    assert tokens.tolist() == [names.index("ZZZ3"), 0, names.index("ARNTL"), -1, names.index("GATA1")]
    batch = adapter.tokenize(cells, np.array([0]), seed=0)
    assert batch.tokens.tolist() == [[0, names.index("ARNTL"), names.index("ZZZ3"), 19_264, 19_265]]
    found, rows = adapter.gene_embeddings()
    assert found == tuple(names) and rows.shape == (19_264, 4)


def test_no_edits_leave_every_bit_and_edits_act_where_they_stand(tmp_path):
    adapter = load(write_scfoundation(tmp_path / "m", vocab=SYMBOLS, n_layers=3))
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
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
        adapter.module.encoder.transformer_encoder[1].self_attn.out_proj.weight[:, 8:] = 0
    mask = torch.as_tensor(batch.mask)
    assert torch.equal(plain[1], edited[1])
    assert float((edited[-1] - adapter.forward(batch)[-1])[mask].abs().max()) <= 1e-5


def test_verify_passes_and_catches_a_transposed_twin(tmp_path):
    adapter, cells = load(write_scfoundation(tmp_path / "m", vocab=SYMBOLS, n_heads=4)), poisson_cells()
    table = models.verify(adapter, cells)
    assert table["passed"].all(), table[~table["passed"]]
    sound = type(adapter).forward

    def transposed(self, batch, *, tap=None, **rest):
        def turn(a):
            turned = None if a.probabilities is None else a.probabilities.transpose(-1, -2)
            tap(replace(a, q=a.k, k=a.q, probabilities=turned))

        return sound(self, batch, tap=None if tap is None else turn, **rest)

    adapter.__class__ = type("Twin", (type(adapter),), {"forward": transposed})
    assert not models.verify(adapter, cells).set_index("name").loc["rows_sum_to_one/L00", "passed"]


def test_extraction_equals_the_maps(tmp_path):
    adapter, cells = load(write_scfoundation(tmp_path / "m", vocab=SYMBOLS)), poisson_cells()
    genes, regulators = tuple(SYMBOLS[:20]), ("G3", "G7")
    found = extract(adapter, cells, genes=genes, regulators=regulators)
    sums, counts = np.zeros((2, 2, 2, 20)), np.zeros((2, 20))
    for row in range(5):  # one cell at a time, full maps, pair by pair
        batch, seen = adapter.tokenize(cells, np.array([row]), seed=0), []
        adapter.forward(batch, tap=seen.append, kernel="plain")
        place = {SYMBOLS[g]: i for i, g in enumerate(batch.gene[0].tolist()) if g >= 0}
        for r, regulator in enumerate(regulators):
            for t, target in enumerate(genes):
                if regulator in place and target in place and regulator != target:
                    counts[r, t] += 1
                    for layer in seen:
                        sums[layer.layer, :, r, t] += layer.probabilities[0, :, place[regulator], place[target]].numpy()
    assert found.summary.pair_counts().tolist() == counts.tolist()
    assert np.abs(found.summary.sums[0, :, :, 0] - sums).max() <= 1e-5
    assert found.verify()["max_abs_difference"].max() <= 1e-5
    json.dumps(found.summary.facts)
    weighted = extract(adapter, cells, genes=genes, regulators=regulators, recipe="value_weighted")
    assert weighted.verify()["max_abs_difference"].max() <= 1e-4


def test_demonstration_cells_end_to_end(tmp_path):
    from regulens.io.demo import load_demo

    cells = load_demo("pbmc68k").subset(np.arange(6))
    adapter = load(write_scfoundation(tmp_path / "m", vocab=sorted(cells.genes.symbols)))
    genes = cells.genes.symbols[:30]
    found = extract(adapter, cells, genes=genes, regulators=genes[:4])
    assert found.summary.facts["n_cells"] == 6 and found.summary.pair_counts().max() > 0
