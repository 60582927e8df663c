"""C2S-Pythia: the forward pass against transformers' GPT-NeoX in eager mode; word pieces against genes by hand."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
from safetensors.torch import load_file, save_file  # noqa: E402
from small_cells import make_cells, poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.errors import MissingExtraError, ModelError  # noqa: E402
from regulens.models import c2s  # noqa: E402
from regulens.models.base import NO_EDITS  # noqa: E402
from regulens.models.checks import masked_weight, row_sum_error  # noqa: E402
from regulens.models.kernel import key_columns, query_rows  # noqa: E402
from regulens.testing.checkpoint_c2s import write_c2s  # noqa: E402

SYMBOLS = [f"GENE{i}" for i in range(40)]
WEIGHTS = "model.safetensors"


def load(folder):
    return models.load(f"c2s:{folder}")


def cells():
    found = poisson_cells()
    names = dataclasses.replace(found.genes, symbols=tuple(SYMBOLS))
    return dataclasses.replace(found, genes=names)


def run(adapter, batch, kernel="plain"):
    seen = []
    return seen, adapter.forward(batch, tap=seen.append, kernel=kernel)


def texts(adapter, batch):
    return [adapter.tokenizer.decode(t[m].tolist()) for t, m in zip(batch.tokens, batch.mask)]


@pytest.mark.parametrize(
    ("act", "parallel", "style"), [("gelu", True, "old"), ("gelu_new", True, "new"), ("gelu", False, "new")]
)
def test_equals_gpt_neox_eager_maps_and_states(tmp_path, act, parallel, style):
    transformers = pytest.importorskip("transformers")
    folder = write_c2s(
        tmp_path / "m", vocab=SYMBOLS, n_layers=12, n_heads=2, width=32, act=act, parallel=parallel, config_style=style
    )
    adapter = models.load(f"c2s:{folder}")
    theirs = transformers.GPTNeoXForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    batch = adapter.tokenize(cells(), np.arange(5), seed=0)
    assert not batch.mask.all()
    mask = torch.as_tensor(batch.mask)
    with torch.no_grad():
        want = theirs(
            torch.as_tensor(batch.tokens), attention_mask=mask.long(), output_attentions=True, output_hidden_states=True
        )
    seen, states = run(adapter, batch)
    assert len(seen) == len(want.attentions) == 12 and all(a.causal for a in seen)
    for a, b in zip(seen, want.attentions):
        assert float((a.probabilities - b).abs().transpose(1, 2)[mask].max()) <= 1e-5
        positions = torch.arange(batch.mask.shape[1])
        pair = mask[:, None, :, None] & mask[:, None, None, :]
        assert float(torch.where(pair, (query_rows(a, positions) - b).abs(), 0).max()) <= 1e-5
        columns = key_columns(a, positions).transpose(-1, -2)
        assert float(torch.where(pair, (columns - b).abs(), 0).max()) <= 1e-5
    for a, b in zip(states[:-1], want.hidden_states[:-1], strict=True):
        assert float((a - b)[mask].abs().max()) <= 1e-4
    with torch.no_grad():
        normed = adapter.module.gpt_neox.final_layer_norm(states[-1])
        logits = adapter.module.predict(states[-1])
    assert float((normed - want.hidden_states[-1])[mask].abs().max()) <= 1e-4
    assert float((logits - want.logits)[mask].abs().max()) <= 1e-3


def test_a_head_major_reading_of_the_fused_projection_is_caught(tmp_path, monkeypatch):
    """``(three, head, width)`` instead of ``(head, three, width)`` loads without an error; only parity shows it."""
    folder = write_c2s(tmp_path / "m", vocab=SYMBOLS, n_layers=12)
    adapter = load(folder)
    batch = adapter.tokenize(cells(), np.arange(2), seed=0)
    right = run(adapter, batch)[1]

    def twin(self, x, turn):
        b, s, d = x.shape
        q, k, v = self.query_key_value(x).view(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return c2s.rotate(q, turn), c2s.rotate(k, turn), v

    monkeypatch.setattr(c2s._Attention, "project", twin)
    assert float((run(adapter, batch)[1][-1] - right[-1]).abs().max()) > 1e-2


def test_rotation_by_hand():
    cos, sin = c2s.rotation(3, 4, 100.0)
    want = np.array([[0, 0, 0, 0], [1, 0.1, 1, 0.1], [2, 0.2, 2, 0.2]])
    assert np.allclose(cos, np.cos(want)) and np.allclose(sin, np.sin(want))
    x = torch.arange(18, dtype=torch.float32).view(1, 1, 3, 6)
    y = c2s.rotate(x, (cos, sin))
    assert torch.equal(y[..., 4:], x[..., 4:]) and torch.equal(y[:, :, 0], x[:, :, 0])
    a, b = x[0, 0, 2, 1].item(), x[0, 0, 2, 3].item()
    assert y[0, 0, 2, 1].item() == pytest.approx(a * np.cos(0.2) - b * np.sin(0.2), rel=1e-5)
    assert y[0, 0, 2, 3].item() == pytest.approx(b * np.cos(0.2) + a * np.sin(0.2), rel=1e-5)


def test_causal_rows_sum_to_one_and_a_transposed_capture_fails(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, n_layers=12))
    batch = adapter.tokenize(cells(), np.arange(5), seed=0)
    n = batch.mask.shape[1]
    ahead = np.triu(np.ones((n, n), dtype=bool), 1)
    for a in run(adapter, batch)[0]:
        assert row_sum_error(a.probabilities, batch.mask) <= 1e-5
        assert masked_weight(a.probabilities, batch.mask) == 0.0
        assert float(a.probabilities[:, :, ahead].abs().max()) == 0.0
        assert row_sum_error(a.probabilities.transpose(-1, -2), batch.mask) > 1e-3
        assert float(a.probabilities.transpose(-1, -2)[:, :, ahead].max()) > 0


def test_fused_forward_equals_plain_training_pass_and_no_edits(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, n_layers=12))
    batch = adapter.tokenize(cells(), np.arange(5), seed=0)
    mask = torch.as_tensor(batch.mask)
    fused, plain = adapter.forward(batch), adapter.forward(batch, kernel="plain")
    assert len(fused) == 13
    with torch.no_grad():
        training = adapter.module(torch.as_tensor(batch.tokens))
    assert float((fused[-1] - plain[-1])[mask].abs().max()) <= 1e-4
    assert float((training - plain[-1])[mask].abs().max()) <= 1e-4
    for a, b in zip(fused, adapter.forward(batch, edits=NO_EDITS), strict=True):
        assert torch.equal(a, b)


def test_the_users_own_checks_pass(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, n_layers=12))
    table = models.verify(adapter, cells())
    assert table["passed"].all(), table[~table["passed"]]


def test_the_output_projection_writes_what_the_heads_read(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS))
    batch = adapter.tokenize(cells(), np.arange(2), seed=0)
    weight, read = adapter.output_projection(0), []

    def zero(layer, out):
        if layer.layer == 0:
            read.append(out)
            out = out.clone()
            out[:, 1] = 0
        return out

    clean = adapter.forward(batch)
    cut = adapter.forward(batch, edits=dataclasses.replace(NO_EDITS, head_output=zero))
    written = read[0][:, 1] @ weight[:, 8:].T
    assert torch.allclose(clean[1] - cut[1], written, atol=1e-5)


def test_edits_reach_each_place(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, n_layers=3))
    batch = adapter.tokenize(cells(), np.arange(2), seed=0)
    clean = adapter.forward(batch)
    zero = adapter.forward(batch, edits=dataclasses.replace(NO_EDITS, embedding=torch.zeros_like))
    assert float(zero[0].abs().max()) == 0.0
    seen = []
    edit = dataclasses.replace(NO_EDITS, mlp_output=lambda layer, y: seen.append(layer) or torch.zeros_like(y))
    without = adapter.forward(batch, edits=edit)
    assert seen == [0, 1, 2] and torch.equal(without[0], clean[0]) and not torch.equal(without[1], clean[1])
    layer = adapter.module.layers[0]
    edit = dataclasses.replace(
        NO_EDITS,
        head_output=lambda a, out: torch.zeros_like(out) if a.layer == 0 else out,
        mlp_output=lambda i, y: torch.zeros_like(y) if i == 0 else y,
    )
    assert torch.allclose(adapter.forward(batch, edits=edit)[1], clean[0] + layer.attention.dense.bias)


def test_sentence_by_hand_with_zeros_unknowns_case_and_top(tmp_path):
    settings = {"before": "Top {n}:", "after": " end"}
    folder = write_c2s(tmp_path / "m", vocab=["CD3E", "LYZ", "C1ORF112"], sentence=settings)
    adapter = models.load(f"c2s:{folder}?top_genes=3")
    found = make_cells([[4, 0, 9, 1, 2, 7]], symbols=["LYZ", "ACTB", "C1orf112", "MS4A1", "CD3E", "G H"])
    assert (adapter.gene_tokens(found.genes) >= 0).tolist() == [True] * 5 + [False]
    batch = adapter.tokenize(found, np.array([0]), seed=0)
    assert texts(adapter, batch) == ["Top 3: C1ORF112 LYZ CD3E end"]
    for column, word in ((2, "C1ORF112"), (0, "LYZ"), (4, "CD3E")):
        own = batch.tokens[0][batch.gene[0] == column]
        assert adapter.tokenizer.decode(own.tolist()).strip() == word
        assert own[0] == adapter.gene_tokens(found.genes)[column]
    assert adapter.tokenizer.decode(batch.tokens[0][batch.gene[0] == -1].tolist()) == "Top 3: end"
    assert repr(settings["before"]) in adapter.card.tokenisation


def test_pieces_of_a_gene_repeat_its_column(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, merges=5))
    batch = adapter.tokenize(cells(), np.array([4]), seed=0)
    found, times = np.unique(batch.gene[batch.gene >= 0], return_counts=True)
    expressed = np.flatnonzero(cells().counts[4].toarray()[0])
    assert found.tolist() == expressed.tolist() and times.min() >= 2


def test_ties_are_shuffled_per_cell_by_the_seed(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS))
    counts = np.ones((2, 40))
    counts[:, 7] = 5
    found = make_cells(counts, symbols=SYMBOLS)
    one = adapter.tokenize(found, np.array([0, 1]), seed=0)
    orders = [list(dict.fromkeys(g[g >= 0].tolist())) for g in one.gene]
    assert orders[0][0] == orders[1][0] == 7 and orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(40))
    again, other = adapter.tokenize(found, np.array([1]), seed=0), adapter.tokenize(found, np.array([1]), seed=1)
    n = int(again.mask.sum())
    assert one.tokens[1, :n].tolist() == again.tokens[0].tolist() != other.tokens[0].tolist()


def test_genes_that_do_not_fit_are_left_out_whole(tmp_path):
    long = load(write_c2s(tmp_path / "a", vocab=SYMBOLS, merges=10, max_length=512))
    found = make_cells(np.arange(40, 0, -1)[None], symbols=SYMBOLS)
    whole = long.tokenize(found, np.array([0]), seed=0)
    for limit in range(170, 200, 3):
        short = load(write_c2s(tmp_path / f"b{limit}", vocab=SYMBOLS, merges=10, max_length=limit))
        batch = short.tokenize(found, np.array([0]), seed=0)
        assert batch.tokens.shape[1] <= limit < whole.tokens.shape[1]
        kept = np.unique(batch.gene[0][batch.gene[0] >= 0])
        assert kept.tolist() == list(range(len(kept))) and len(kept) > 0
        for column in kept:
            assert (batch.gene[0] == column).sum() == (whole.gene[0] == column).sum()
        assert texts(short, batch)[0].endswith(c2s.SENTENCE["after"])


def test_a_prompt_longer_than_the_longest_sequence(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, max_length=20))
    with pytest.raises(ModelError, match="prompt of at most 20 word pieces"):
        adapter.tokenize(cells(), np.array([0]), seed=0)


def test_a_piece_across_two_words_is_refused():
    with pytest.raises(ModelError, match="across two words"):
        c2s.piece_owners("A B", [(0, 1), (2, 3)], [(0, 3)])
    with pytest.raises(ModelError, match="across two words"):
        c2s.piece_owners("A.", [(0, 1)], [(0, 2)])


@pytest.mark.parametrize("variant", ["old", "bare", "bin", "tied"])
def test_published_variants_of_the_file_load(tmp_path, variant):
    before = load(write_c2s(tmp_path / "a", vocab=SYMBOLS))
    names = variant if variant in ("old", "bare") else "published"
    weights = "pytorch_model.bin" if variant == "bin" else WEIGHTS
    folder = write_c2s(tmp_path / "b", vocab=SYMBOLS, names=names, weights=weights)
    if variant == "tied":
        tensors = load_file(folder / WEIGHTS)
        tensors.pop("lm_head.weight")
        save_file(tensors, folder / WEIGHTS)
        change(folder / "config.json", tie_word_embeddings=True)
    after = load(folder)
    batch = before.tokenize(cells(), np.arange(3), seed=0)
    assert torch.equal(before.forward(batch)[-1], after.forward(batch)[-1])
    assert after.module.head == {"bare": "none", "tied": "tied"}.get(variant, "own")
    if variant == "bare":
        with pytest.raises(ModelError, match="output matrix"):
            after.module.predict(torch.zeros(1, 16))


def change(path, **values):
    value = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


def retensor(folder, edit):
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


QKV = "gpt_neox.layers.1.attention.query_key_value.weight"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: retensor(f, lambda t: t.pop(QKV)), QKV),
        (lambda f: retensor(f, lambda t: t.update(surprise=torch.ones(2))), "1 unexpected (surprise)"),
        (lambda f: retensor(f, lambda t: t.update({QKV: torch.ones(16, 48)})), "1 of the wrong shape"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:900]), "truncated"),
        (lambda f: change(f / "config.json", num_attention_heads=None), "number of attention heads"),
        (lambda f: change(f / "config.json", num_attention_heads=3), "divides the width"),
        (lambda f: change(f / "config.json", hidden_size=32), "weights have 16"),
        (lambda f: change(f / "config.json", num_hidden_layers=7), "weights have 2"),
        (lambda f: change(f / "config.json", max_position_embeddings=None), "longest sequence"),
        (lambda f: change(f / "config.json", hidden_act="mish"), "'mish'"),
        (lambda f: change(f / "config.json", rope_scaling={"type": "linear", "factor": 2}), "scaled"),
        (lambda f: change(f / "config.json", rotary_pct=0.4), "even number"),
        (lambda f: (f / "tokenizer.json").write_text('{"version": "1.0"'), "tokenizer.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
        (
            lambda f: write_c2s(f.parent / "n", vocab=["QWX", "ZYX"], merges=200) and swap(f),
            "word pieces with ids below",
        ),
        (lambda f: (f / "cell_sentence.json").write_text('{"top": 3}'), "top = 3"),
        (lambda f: (f / "cell_sentence.json").write_text('{"after": 1}'), "after = 1"),
    ],
)
def test_bad_folders_end_in_one_sentence(tmp_path, damage, words):
    folder = write_c2s(tmp_path / "m", vocab=SYMBOLS, merges=10)
    damage(folder)
    with pytest.raises(ModelError) as caught:
        models.load(f"c2s:{folder}")
    text = str(caught.value)
    assert text.startswith("Expected ") and words in text and text.endswith(".") and caught.value.exit_code == 2


def test_options_are_checked(tmp_path):
    folder = write_c2s(tmp_path / "m", vocab=SYMBOLS)
    assert "at most 7 expressed genes" in models.load(f"c2s:{folder}?top_genes=7").card.tokenisation
    for option in ("top_genes=1", "top_genes=many", "genes=7"):
        with pytest.raises(ModelError, match=option.partition("=")[0]):
            models.load(f"c2s:{folder}?{option}")


def swap(folder):
    change(folder / "tokenizer.json", **json.loads((folder.parent / "n" / "tokenizer.json").read_text()))


def test_a_hostile_pickle_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = write_c2s(tmp_path / "m", vocab=SYMBOLS, weights="pytorch_model.bin")
    for write in (
        lambda: torch.save({"x": Hostile()}, folder / "pytorch_model.bin"),
        lambda: (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile())),
    ):
        write()
        with pytest.raises(ModelError):
            load(folder)
        assert not (tmp_path / "ran").exists()


def test_another_family_under_this_name(tmp_path):
    from regulens.testing.checkpoints import write_scgpt

    with pytest.raises(ModelError, match="looks like a scGPT"):
        models.load(f"c2s:{write_scgpt(tmp_path / 'm', vocab=SYMBOLS)}")
    assert models.detect(write_c2s(tmp_path / "c", vocab=SYMBOLS)) == "c2s"


def test_without_the_library_the_message_says_what_to_install(tmp_path, monkeypatch):
    folder = write_c2s(tmp_path / "m", vocab=SYMBOLS)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match="pip install tokenizers"):
        load(folder)


@pytest.mark.parametrize(
    ("licence", "says"),
    [
        ("cc0-1.0", "cc0-1.0"),
        ("cc-by-nc-nd-4.0", "cc-by-nc-nd-4.0; forbids commercial use and sharing changed copies"),
        ("", ""),
    ],
)
def test_the_licence_comes_from_the_folder(tmp_path, licence, says):
    card = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, licence=licence)).card
    assert card.licence == says and card.causal
    assert any("one order" in n for n in card.notes)
    assert any("no licence" in n for n in card.notes) == (not licence)


def test_embeddings_of_symbols_are_means_of_their_pieces(tmp_path):
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS))
    names, rows = adapter.gene_embeddings()
    i = names.index("CD3E")
    ids = adapter.tokenizer.encode(" CD3E", add_special_tokens=False).ids
    weight = adapter.module.gpt_neox.embed_in.weight.detach().numpy()
    assert rows.shape == (len(names), 16) and np.allclose(rows[i], weight[ids].mean(0), atol=1e-6)


def test_extraction_pools_word_pieces(tmp_path):
    """Sum over the pieces of the key, mean over those of the query, against the maps of the plain softmax."""
    from regulens.attention.extract import extract

    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, merges=10))
    found = cells()
    genes, regulators = SYMBOLS[:12], SYMBOLS[3:6]
    got = extract(adapter, found, genes=genes, regulators=regulators, partition_by=())
    want = np.zeros((2, 2, 2, 3, 12))
    for row in range(found.n_cells):
        batch = adapter.tokenize(found, np.array([row]), seed=0)
        for a in run(adapter, batch)[0]:
            weights = a.probabilities[0].numpy().astype(float)
            for i in range(3):
                for j in range(12):
                    r, t = (np.flatnonzero(batch.gene[0] == c) for c in (i + 3, j))
                    if len(r) and len(t) and i + 3 != j:
                        want[a.layer, :, 0, i, j] += weights[:, r][:, :, t].sum(2).mean(1)
                        want[a.layer, :, 1, i, j] += weights[:, t][:, :, r].sum(2).mean(1)
    assert np.allclose(np.asarray(got.summary.sums).sum(0), want, atol=1e-5)
    verified = got.verify(n_cells=3)
    assert verified["max_abs_difference"].max() <= 1e-5


def test_batches_are_filled_by_word_pieces(tmp_path):
    """What is expected of a cell is near what it has, not the number of its genes."""
    from regulens.attention.layout import lengths_for

    found = cells()
    adapter = load(write_c2s(tmp_path / "m", vocab=SYMBOLS, merges=0))
    real = adapter.tokenize(found, np.arange(found.n_cells), seed=0).mask.sum(axis=1)
    expected = lengths_for(adapter, found)
    genes = (found.counts > 0).sum(axis=1).A1
    assert (real > 1.5 * genes).all(), "names are spelled in several pieces, and there is a prompt"
    assert np.abs(expected / real - 1).max() < 0.25
    short = load(write_c2s(tmp_path / "s", vocab=SYMBOLS, merges=0, max_length=int(real.min())))
    assert (lengths_for(short, found) <= short.card.max_length).all()
