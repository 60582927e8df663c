"""scPRINT: the forward pass against a loop written from the formulas; tokens by hand; files good, bad, hostile."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells, poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.attention.extract import extract  # noqa: E402
from regulens.errors import ModelError, ParameterError  # noqa: E402
from regulens.models.base import Edits  # noqa: E402
from regulens.models.checks import masked_weight, row_sum_error  # noqa: E402
from regulens.testing.checkpoint_scprint import write_scprint  # noqa: E402

GENES = [f"ENSG{i:011d}" for i in range(40)]
ERF = np.vectorize(math.erf)


def layer_norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * weight + bias


def by_formula(tensors, batch, *, n_layers, n_heads, n_kv, prefix, normalisation):
    """Maps [layer][cell, head, query, key] and hidden states, float64 numpy, one head and one cell at a time."""
    w = {k: v.double().numpy() for k, v in tensors.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name, eps=1e-6):
        return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def number(x, name):
        x = norm(linear(np.minimum(x, 1e5)[..., None], f"{name}.encoder.0"), f"{name}.encoder.1", 1e-5)
        return linear(np.maximum(x, 0), f"{name}.encoder.4")

    tokens, counts = batch.tokens[:, prefix:], batch.values[:, prefix:].astype(np.float64)
    shown = counts / counts.sum(1, keepdims=True) if normalisation == "sum" else np.log2(1 + counts)
    x = w["gene_encoder.embeddings.weight"][tokens] + number(shown, "expr_encoder")
    x = x + w["pos_encoder.pe"].reshape(len(w["gene_encoder.embeddings.weight"]), -1)[tokens]
    rows = w["class_encoder.embedding.weight"]
    depth = number(np.log2(1 + batch.values[:, :1].astype(np.float64)), "depth_encoder")
    x = np.concatenate([depth, np.broadcast_to(rows, (len(x), *rows.shape)), x], axis=1)
    n, s, d = x.shape
    size = d // n_heads
    maps, states = [], [x]
    for layer in range(n_layers):
        p = f"transformer.blocks.{layer}"
        read = linear(norm(x, f"{p}.norm1"), f"{p}.mixer.Wqkv")
        out, attention = np.zeros_like(x), np.zeros((n, n_heads, s, s))
        for h in range(n_heads):
            own = h // (n_heads // n_kv)  # which key/value head serves this one
            q = read[..., h * size : (h + 1) * size]
            k = read[..., d + own * size : d + (own + 1) * size]
            v = read[..., d + (n_kv + own) * size : d + (n_kv + own + 1) * size]
            for c in range(n):
                logits = q[c] @ k[c].T / math.sqrt(size)
                e = np.where(batch.mask[c][None, :], np.exp(logits - logits.max()), 0)
                attention[c, h] = e / e.sum(1, keepdims=True)
                out[c, :, h * size : (h + 1) * size] = attention[c, h] @ v[c]
        x = x + linear(out, f"{p}.mixer.out_proj")
        y = linear(norm(x, f"{p}.norm2"), f"{p}.mlp.fc1")
        x = x + linear(y * 0.5 * (1 + ERF(y / math.sqrt(2))), f"{p}.mlp.fc2")
        maps.append(attention)
        states.append(x)
    states[-1] = norm(x, "transformer.norm")
    return maps, states


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"normalisation": "log", "positions": "2d", "names": "embedding", "settings": "dict"},
        {"n_kv_heads": 2},
    ],
)
def test_equals_the_formulas_over_twelve_layers(tmp_path, variant):
    folder = write_scprint(tmp_path / "m", genes=GENES, n_layers=12, n_heads=4, **variant)
    adapter = models.load(f"scprint:{folder}?genes=expressed")
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    assert not batch.mask.all()
    maps, states = by_formula(
        adapter.module.state_dict(), batch, n_layers=12, n_heads=4, n_kv=variant.get("n_kv_heads", 4), prefix=4,
        normalisation=variant.get("normalisation", "sum"),
    )  # fmt: skip
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


@torch.no_grad()
def test_keys_read_without_norm1_would_be_noticed(tmp_path):
    """Attention from the state in front of the norm, as another tool takes it, is another map."""
    adapter = models.load(str(write_scprint(tmp_path / "m", genes=GENES)))
    batch, seen = adapter.tokenize(poisson_cells(), np.arange(2), seed=0), []
    states = adapter.forward(batch, tap=seen.append, kernel="plain")
    q, k, _ = adapter.module.transformer.blocks[0].mixer.project(states[0])
    wrong = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
    assert float((wrong - seen[0].probabilities).abs().max()) > 0.01


def test_no_edits_is_the_same_bits_and_edits_reach_the_end(tmp_path):
    adapter = models.load(str(write_scprint(tmp_path / "m", genes=GENES, n_layers=3)))
    batch = adapter.tokenize(poisson_cells(), np.arange(3), seed=0)
    clean = adapter.forward(batch)
    same = Edits(embedding=lambda x: x, head_output=lambda _, o: o, mlp_output=lambda _, y: y)
    for a, b, c in zip(clean, adapter.forward(batch), adapter.forward(batch, edits=same), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    for edit in (
        Edits(embedding=torch.zeros_like),
        Edits(head_output=lambda layer, out: out * (layer.layer != 1)),
        Edits(mlp_output=lambda layer, y: y * (layer != 2)),
    ):
        assert not torch.equal(adapter.forward(batch, edits=edit)[-1], clean[-1])


def test_tokens_by_hand_filled_up_with_silent_genes(tmp_path):
    genes = ["ENSG00000000003", "ENSG00000000001", "ENSG00000000002", "ENSMUSG00000000001"]
    folder = write_scprint(tmp_path / "m", genes=genes, labels=["a"])
    cells = make_cells(
        [[5, 0, 7, 2]], symbols=["A", "B", "C", "D"], ensembl=[genes[1], genes[0], "ENSG00000000009", ""], totals=[20]
    )
    filled, expressed = (models.load(f"scprint:{folder}?genes={g}") for g in ("filled", "expressed"))
    assert filled.gene_tokens(cells.genes).tolist() == [1, 0, -1, -1]
    batch = filled.tokenize(cells, np.array([0]), seed=0)
    # depth, two cell tokens, then all human genes of the model: B is silent, ENSG…2 is not among the cells' genes.
    assert batch.tokens.tolist() == [[4, 5, 6, 0, 1, 2]]
    assert batch.gene.tolist() == [[-1, -1, -1, 1, 0, -1]]
    assert batch.values.tolist() == [[20, 0, 0, 0, 5, 0]]
    assert expressed.tokenize(cells, np.array([0]), seed=0).tokens.tolist() == [[4, 5, 6, 1]]
    fixed = filled.with_genes([genes[2], genes[1]])
    given = fixed.tokenize(cells, np.array([0]), seed=0)
    assert fixed.card.max_length == 5 and "2 given genes" in fixed.card.tokenisation
    assert given.tokens.tolist() == [[4, 5, 6, 1, 2]] and given.values.tolist() == [[20, 0, 0, 5, 0]]
    with pytest.raises(ParameterError, match=r"1 unknown \(X\)"):
        filled.with_genes(["X"])


def test_without_depth_and_with_metacell_tokens(tmp_path):
    one = models.load(str(write_scprint(tmp_path / "a", genes=GENES, depth=False, labels=["a"])))
    two = models.load(str(write_scprint(tmp_path / "b", genes=GENES, metacell=True, labels=["a"])))
    cells = poisson_cells()
    assert (one.module.prefix, two.module.prefix) == (2, 4)
    a, b = (m.forward(m.tokenize(cells, np.arange(2), seed=0))[0] for m in (one, two))
    assert torch.equal(a[0, :2], one.module.class_encoder.embedding.weight)
    assert torch.equal(b[0, 1], two.module.metacell_encoder.embedding.weight[0])  # single cells, not metacells
    assert not torch.equal(b[0, 0], b[1, 0])  # depth differs between cells


def test_long_cells_are_sampled_by_a_stream_of_their_own(tmp_path):
    folder = write_scprint(tmp_path / "m", genes=GENES)
    adapter = models.load(f"scprint:{folder}?max_genes=10")
    cells = poisson_cells()
    assert adapter.card.max_length == 14
    together, alone = adapter.tokenize(cells, np.arange(5), seed=0), adapter.tokenize(cells, np.array([3]), seed=0)
    assert together.mask.all() and together.tokens.shape == (5, 14)
    assert together.tokens[3].tolist() == alone.tokens[0].tolist()
    assert (np.diff(together.tokens[3, 4:]) > 0).all()  # each gene once
    assert adapter.tokenize(cells, np.array([3]), seed=1).tokens.tolist() != alone.tokens.tolist()
    expressed = cells.counts[3].toarray().ravel() > 0
    assert expressed.sum() > 10 and expressed[alone.gene[0, 4:]].all()


def test_card_says_what_the_settings_say(tmp_path):
    folder = write_scprint(tmp_path / "m", genes=GENES, n_heads=8, width=32)
    card = models.inspect(f"scprint:{folder}")
    assert (card.n_heads, card.n_layers, card.width, card.licence) == (8, 2, 32, "MIT")
    assert card.special_tokens == ("<depth>", "<cell 0>", "<cell 1>", "<cell 2>")
    assert any("cls_decoders" in n and "expr_decoder" in n for n in card.notes)
    assert any("not checked on published weights" in n for n in card.notes)


def test_extraction_end_to_end(tmp_path):
    adapter = models.load(str(write_scprint(tmp_path / "m", genes=GENES)))
    cells = poisson_cells()
    attention = extract(adapter, cells, genes=cells.genes.symbols[:30], regulators=cells.genes.symbols[25:35], seed=0)
    assert float(attention.verify()["max_abs_difference"].max()) <= 1e-5
    assert models.verify(adapter, cells)["passed"].all()
    names, rows = adapter.gene_embeddings()
    assert names == tuple(GENES) and rows.shape == (40, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nhead": None}, "number of attention heads as 'nhead'"),
        ({"nhead": 3}, "divides the width 16"),
        ({"d_model": 64}, "d_model = 64 but the weights have 16"),
        ({"nlayers": 9}, "nlayers = 9 but the weights have 2"),
        ({"genes": GENES[:-1]}, "39 genes and 40 rows"),
        ({"genes": {"human": GENES}}, "scPRINT-2 or a variant .genes listed per organism.*cannot be given exactly"),
        ({"attn_bias": "precomputed"}, "attn_bias = 'precomputed'"),
        ({"normalization": "both"}, "normalization = 'both'"),
        ({"transformer": "performer"}, "transformer = 'performer'"),
        ({"num_heads_kv": 1}, r"mixer.Wqkv.weight is \(48, 16\) instead of \(32, 16\)"),
        ({"depth_atinput": False}, "unexpected .depth_encoder"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(tmp_path, changes, words):
    folder = write_scprint(tmp_path / "m", genes=GENES, changes=changes)
    with pytest.raises(ModelError, match=words) as caught:
        models.load(f"scprint:{folder}")
    assert "\n" not in str(caught.value)


def _rewrite(folder, change):
    """Load the file with the reader under test, change its tensors, and save them with plain settings."""
    from regulens.models.safe_pickle import read_torch

    path = next(folder.glob("*.ckpt"))
    found = read_torch(path, what="checkpoint")
    tensors = dict(found["state_dict"])
    change(tensors)
    torch.save({"state_dict": tensors, "hyper_parameters": dict(found["hyper_parameters"])}, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("transformer.blocks.1.norm1.bias"), "1 missing .transformer.blocks.1.norm1.bias"),
        (lambda t: t.update(stranger=torch.zeros(1)), "1 unexpected .stranger"),
        (lambda t: t.update({"transformer.norm.bias": torch.zeros(3)}), r"transformer.norm.bias is \(3,\)"),
        (lambda t: t.pop("pos_encoder.pe"), "missing .pos_encoder.pe"),
        (lambda t: t["transformer.norm.bias"].fill_(math.nan), "NaN or infinity in transformer.norm.bias"),
        (lambda t: t.pop("gene_encoder.embeddings.weight"), "This is another family"),
        (lambda t: t.update({"cell_transformer.norm.bias": torch.zeros(16)}), "scPRINT-2"),
    ],
)
def test_tensors_that_do_not_fit_are_one_sentence(tmp_path, change, words):
    folder = write_scprint(tmp_path / "m", genes=GENES)
    _rewrite(folder, change)
    with pytest.raises(ModelError, match=words) as caught:
        models.load(f"scprint:{folder}")
    assert "\n" not in str(caught.value)


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", ["beside", "settings", "not a torch file"])
def test_hostile_pickle_is_never_executed(tmp_path, place):
    folder = write_scprint(tmp_path / "m", genes=GENES)
    path, trace = folder / "small-v1.ckpt", tmp_path / "executed"
    from regulens.models.safe_pickle import read_torch

    found = read_torch(path, what="checkpoint")
    found = {"state_dict": dict(found["state_dict"]), "hyper_parameters": dict(found["hyper_parameters"])}
    if place == "beside":
        found["callbacks"] = _Hostile(trace)
    else:
        found["hyper_parameters"]["genes"] = _Hostile(trace)
    if place == "not a torch file":
        path.write_bytes(pickle.dumps(found))
    else:
        torch.save(found, path)
    with pytest.raises(ModelError, match=r"io.open.*not executed|truncated or damaged"):
        models.load(f"scprint:{folder}")
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Hostile(trace))).close()
    assert trace.exists()  # the same pickle does act in an ordinary reader


def test_objects_of_training_libraries_become_nothing(tmp_path):
    """A path and an optimiser class beside the weights neither stop the load nor get built."""
    from pathlib import PurePosixPath

    from regulens.models.safe_pickle import Shell, read_torch, settings_of

    path = tmp_path / "x.ckpt"
    torch.save({"s": {"where": PurePosixPath("a"), "n": np.float64(2), "t": (1, "b")}, "o": torch.optim.SGD}, path)
    found = read_torch(path, what="checkpoint")
    assert isinstance(found["s"]["where"], Shell) and found["o"] is Shell
    assert settings_of(found, "s", source="x.ckpt") == {"n": 2.0, "t": [1, "b"]}


def test_cut_missing_or_several_files(tmp_path):
    folder = write_scprint(tmp_path / "m", genes=GENES)
    path = folder / "small-v1.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="truncated or damaged"):
        models.load(f"scprint:{folder}")
    path.write_bytes(whole)
    (folder / "other.ckpt").write_bytes(whole)
    with pytest.raises(ModelError, match=r"one scPRINT checkpoint .* found 2"):
        models.load(f"scprint:{folder}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="scPRINT"):
        models.load(f"scprint:{tmp_path / 'empty'}")
