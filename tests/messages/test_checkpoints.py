"""Bad checkpoints: each ends in one sentence that says what was expected, what was found and what to do."""

from __future__ import annotations

import json
import pickle

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from regulens import models  # noqa: E402
from regulens.errors import MissingExtraError, ModelError, RegistryError  # noqa: E402
from regulens.models.loading import count_layers  # noqa: E402
from regulens.testing.checkpoints import write_geneformer, write_scgpt  # noqa: E402

GENES = [f"G{i}" for i in range(12)]
ENSEMBL = [f"ENSG{i:011d}" for i in range(12)]
SC, GF = "model.safetensors", "model.safetensors"


@pytest.fixture
def scgpt(tmp_path):
    return write_scgpt(tmp_path / "sc", vocab=GENES, weights=SC)


@pytest.fixture
def geneformer(tmp_path):
    return write_geneformer(tmp_path / "gf", vocab=ENSEMBL)


def edit(path, change):
    """Rewrite a JSON file or a safetensors file through `change`."""
    if path.suffix == ".json":
        value = json.loads(path.read_text())
        path.write_text(json.dumps(change(value) or value))
    else:
        value = load_file(path)
        save_file(change(value) or value, path)


def refusal(spec, error=ModelError):
    with pytest.raises(error) as caught:
        models.load(str(spec))
    text = str(caught.value)
    assert text.startswith("Expected ")
    assert any(word in text for word in ("got", "found", "looks like"))
    assert caught.value.exit_code == 2 and text.rstrip().endswith((".", "'", "?"))
    return text


@pytest.mark.parametrize("weights", ["model.safetensors", "best_model.pt"])
@pytest.mark.parametrize("keep", [0, 40, 5000])
def test_truncated(tmp_path, weights, keep):
    folder = write_scgpt(tmp_path / "m", vocab=GENES, weights=weights)
    path = folder / weights
    path.write_bytes(path.read_bytes()[:keep])
    text = refusal(folder)
    assert weights in text and "truncated" in text


def test_git_lfs_pointer_instead_of_weights(geneformer):
    (geneformer / GF).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "download it again" in refusal(geneformer)


def test_missing_tensor(scgpt):
    name = "transformer_encoder.layers.1.self_attn.Wqkv.weight"
    edit(scgpt / SC, lambda t: t.pop(name) is None)
    text = refusal(scgpt)
    assert name in text and "1 missing" in text


def test_unexpected_tensor(geneformer):
    edit(geneformer / GF, lambda t: t.update({"bert.encoder.layer.0.adapter.weight": torch.ones(2)}))
    text = refusal(geneformer)
    assert "1 unexpected (bert.encoder.layer.0.adapter.weight)" in text


def test_wrong_shape(scgpt):
    edit(scgpt / SC, lambda t: t.update({"transformer_encoder.layers.0.norm1.weight": torch.ones(7)}))
    assert "norm1.weight is (7,) instead of (16,)" in refusal(scgpt)


def test_all_problems_in_one_message(geneformer):
    def change(t):
        t.pop("bert.embeddings.LayerNorm.bias")
        t["strange"] = torch.ones(1)
        t["bert.encoder.layer.1.output.dense.bias"] = torch.ones(3)

    edit(geneformer / GF, change)
    text = refusal(geneformer)
    assert "1 missing" in text and "1 unexpected" in text and "1 of the wrong shape" in text


def test_not_a_number(scgpt):
    edit(scgpt / SC, lambda t: t.update({"decoder.fc.0.bias": torch.full((16,), float("nan"))}))
    assert "NaN or infinity in decoder.fc.0.bias" in refusal(scgpt)


@pytest.mark.parametrize("heads", [None, 0, "4", True, 2.0])
def test_unknown_number_of_heads(scgpt, geneformer, heads):
    for folder, file, key in ((scgpt, "args.json", "nheads"), (geneformer, "config.json", "num_attention_heads")):

        def change(config, key=key):
            config.pop(key)
            if heads is not None:
                config[key] = heads

        edit(folder / file, change)
        text = refusal(folder)
        assert key in text and "cannot be inferred" in text


def test_heads_that_do_not_divide_the_width(scgpt):
    edit(scgpt / "args.json", lambda a: a.update(nheads=3))
    assert "divides the width 16, got nheads = 3" in refusal(scgpt)


@pytest.mark.parametrize(
    ("family", "key", "value", "words"),
    [
        ("scgpt", "embsize", 32, "embsize = 32 but the weights have 16"),
        ("scgpt", "nlayers", 12, "nlayers = 12 but the weights have 2"),
        ("scgpt", "input_emb_style", "category", "input_emb_style = 'category'"),
        ("scgpt", "pre_norm", True, "pre_norm = True"),
        ("geneformer", "num_hidden_layers", 6, "num_hidden_layers = 6 but the weights have 2"),
        ("geneformer", "vocab_size", 99, "vocab_size = 99 but the weights have 14"),
        ("geneformer", "hidden_act", "swiglu", "got 'swiglu'"),
        ("geneformer", "hidden_act", None, "got None"),
        ("geneformer", "position_embedding_type", "relative_key", "relative_key"),
    ],
)
def test_configuration_of_another_model(scgpt, geneformer, family, key, value, words):
    folder, file = {"scgpt": (scgpt, "args.json"), "geneformer": (geneformer, "config.json")}[family]
    edit(folder / file, lambda c: c.update({key: value}))
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("key", "words"),
    [("dsbn.bns.0.running_mean", "domain-specific"), ("batch_encoder.embedding.weight", "batch labels")],
)
def test_variants_with_another_forward_pass(scgpt, key, words):
    edit(scgpt / SC, lambda t: t.update({key: torch.ones(16)}))
    assert words in refusal(scgpt)


def test_wrong_family(scgpt, geneformer):
    assert "this looks like a Geneformer folder" in refusal(f"scgpt:{geneformer}")
    assert "this looks like a scGPT folder" in refusal(f"geneformer:{scgpt}")
    (scgpt / SC).write_bytes((geneformer / GF).read_bytes())
    assert "another family" in refusal(scgpt)


def test_vocabulary_of_another_model(scgpt):
    edit(scgpt / "vocab.json", lambda v: v.update(EXTRA=99))
    assert "vocab.json" in refusal(scgpt)


def test_repeated_ids(scgpt):
    edit(scgpt / "vocab.json", lambda v: v.update(G1=0))
    assert "distinct ids" in refusal(scgpt)


def test_dictionary_of_another_version(geneformer, tmp_path):
    other = write_geneformer(tmp_path / "other" / "m", vocab=ENSEMBL, version="V2")
    for path in geneformer.glob("*dictionary*"):
        path.unlink()
    for path in other.glob("*dictionary*"):
        path.rename(geneformer / path.name)
    text = refusal(geneformer)
    assert "14 entries" in text and "with 16" in text and "not interchangeable" in text


def test_no_median_dictionary(geneformer):
    next(geneformer.glob("gene_median*")).unlink()
    assert "gene_median_dictionary_gc30M" in refusal(geneformer)


class _Evil:
    def __init__(self, flag):
        self.flag = str(flag)

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path(self.flag),)


def test_evil_dictionary_is_refused_by_name_and_never_runs(tmp_path):
    folder = write_geneformer(tmp_path / "gf", vocab=ENSEMBL, dictionaries="pkl")
    flag = tmp_path / "it-ran"
    payload = pickle.dumps({"<pad>": _Evil(flag)})
    next(folder.glob("token_dictionary*")).write_bytes(payload)
    text = refusal(folder)
    assert "pathlib" in text and "not executed" in text
    assert not flag.exists()
    pickle.loads(payload)  # the same bytes do run in an ordinary unpickler
    assert flag.exists()


@pytest.mark.parametrize("name", ["getattr", "eval", "exec", "__import__", "print"])
def test_builtins_other_than_plain_data_are_refused(tmp_path, name):
    from regulens.models.dictionaries import read_dictionary

    path = tmp_path / "d.pkl"
    path.write_bytes(b"cbuiltins\n" + name.encode() + b"\n(tR.")
    with pytest.raises(ModelError, match=f"builtins.{name}"):
        read_dictionary(path, what="token dictionary")


def test_evil_weights_are_refused_and_never_run(tmp_path):
    folder = write_scgpt(tmp_path / "sc", vocab=GENES)
    flag = tmp_path / "it-ran"
    torch.save({"encoder.embedding.weight": _Evil(flag)}, folder / "best_model.pt")
    assert "plain tensors" in refusal(folder)
    assert not flag.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x80\x04", "cannot be read"), (pickle.dumps([1]), "got list"), (pickle.dumps({1: 2}), "int to int")],
)
def test_dictionaries_that_are_none(tmp_path, content, words):
    folder = write_geneformer(tmp_path / "gf", vocab=ENSEMBL, dictionaries="pkl")
    next(folder.glob("token_dictionary*")).write_bytes(content)
    assert words in refusal(folder)


def test_folders_that_are_none(tmp_path):
    assert "found none" in refusal(tmp_path / "absent")
    assert "an empty folder" in refusal(tmp_path)
    (tmp_path / "readme.txt").write_text("x")
    assert "readme.txt" in refusal(tmp_path)
    assert "found no such file" in refusal(f"scgpt:{tmp_path}")


def test_no_weights(scgpt):
    (scgpt / SC).unlink()
    assert "found none" in refusal(scgpt)


def test_damaged_settings(scgpt):
    (scgpt / "args.json").write_text("{")
    assert "args.json" in refusal(scgpt)


def test_names_get_the_nearest_known_one(tmp_path):
    assert "Did you mean 'geneformer'?" in refusal(f"genformer:{tmp_path}", RegistryError)
    assert "Expected a bundled model" in refusal("bundled:scgpt-min", RegistryError)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"regulens\[models\]"):
        models.load("bundled:scgpt-mini")


def test_layers_are_counted_by_number_and_gaps_refused():
    assert count_layers([f"l.{i}.w" for i in (0, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9)], "l.") == 12
    with pytest.raises(ModelError, match="without a gap"):
        count_layers(["l.0.w", "l.2.w"], "l.")
