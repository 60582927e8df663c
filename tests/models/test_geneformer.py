"""Geneformer: the forward pass against transformers' BERT in eager mode; tokens against hand-worked examples."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells, poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.models.checks import masked_weight, row_sum_error  # noqa: E402
from regulens.testing.checkpoints import write_geneformer  # noqa: E402

ENSEMBL = [f"ENSG{i:011d}" for i in range(40)]


def taps(adapter, batch, kernel="plain"):
    seen = []
    states = adapter.forward(batch, tap=seen.append, kernel=kernel)
    return seen, states


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("act", ["relu", "gelu", "gelu_new", "silu"])
def test_equals_berts_eager_maps_and_states(tmp_path, version, act):
    transformers = pytest.importorskip("transformers")
    folder = write_geneformer(tmp_path / "m", vocab=ENSEMBL, n_layers=12, n_heads=4, version=version, act=act)
    adapter = models.load(str(folder))
    bert = transformers.BertForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    assert not batch.mask.all()
    mask = torch.as_tensor(batch.mask)
    with torch.no_grad():
        theirs = bert(
            torch.as_tensor(batch.tokens), attention_mask=mask.long(), output_attentions=True, output_hidden_states=True
        )
    seen, states = taps(adapter, batch)
    assert len(seen) == len(theirs.attentions) == 12
    for a, b in zip(seen, theirs.attentions):
        assert float((a.probabilities - b).abs().transpose(1, 2)[mask].max()) <= 1e-5
        rebuilt = torch.exp(a.q @ a.k.transpose(-1, -2) * a.scale - a.lse[..., None])
        pair = mask[:, None, :, None] & mask[:, None, None, :]
        assert float(torch.where(pair, (rebuilt - b).abs(), 0).max()) <= 1e-5
    for a, b in zip(states, theirs.hidden_states, strict=True):
        assert float((a - b)[mask].abs().max()) <= 1e-4
    with torch.no_grad():
        logits = adapter.module.predict(states[-1])
    assert float((logits - theirs.logits)[mask].abs().max()) <= 1e-3


def test_fused_forward_equals_plain_and_training_pass(tmp_path):
    adapter = models.load(str(write_geneformer(tmp_path / "m", vocab=ENSEMBL, n_layers=12)))
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    mask = torch.as_tensor(batch.mask)
    fused, plain = adapter.forward(batch)[-1], adapter.forward(batch, kernel="plain")[-1]
    with torch.no_grad():
        training = adapter.module(torch.as_tensor(batch.tokens), mask)
    assert float((fused - plain)[mask].abs().max()) <= 1e-4
    assert float((training - plain)[mask].abs().max()) <= 1e-4


def test_rows_sum_to_one_over_keys_and_a_transposed_capture_fails(tmp_path):
    adapter = models.load(str(write_geneformer(tmp_path / "m", vocab=ENSEMBL, n_layers=12)))
    batch = adapter.tokenize(poisson_cells(), np.arange(5), seed=0)
    for a in taps(adapter, batch)[0]:
        assert row_sum_error(a.probabilities, batch.mask) <= 1e-5
        assert masked_weight(a.probabilities, batch.mask) == 0.0
        assert row_sum_error(a.probabilities.transpose(-1, -2), batch.mask) > 1e-3


def test_ranks_by_hand_with_ties_zeros_and_truncation(tmp_path):
    # Counts / median: G0 4/4 = 1, G1 2/1 = 2, G2 0, G3 3/3 = 1 (ties with G0), G4 6/1 = 6, G5 unknown to the model.
    folder = write_geneformer(tmp_path / "v1", vocab=ENSEMBL[:5], medians=[4, 1, 1, 3, 1], max_length=3)
    cells = make_cells([[4, 2, 0, 3, 6, 9]], totals=[100])
    adapter = models.load(str(folder))
    assert adapter.gene_tokens(cells.genes).tolist() == [2, 3, 4, 5, 6, -1]
    batch = adapter.tokenize(cells, np.array([0]), seed=0)
    assert batch.gene.tolist() == [[4, 1, 0]]  # G4, G1, then G0 before G3 by column; G3 is cut off
    assert batch.tokens.tolist() == [[6, 3, 2]]

    folder = write_geneformer(tmp_path / "v2", vocab=ENSEMBL[:5], medians=[4, 1, 1, 3, 1], max_length=5, version="V2")
    batch = models.load(str(folder)).tokenize(cells, np.array([0]), seed=0)
    assert batch.tokens.tolist() == [[2, 8, 5, 4, 3]]  # <cls>, three genes, <eos>
    assert batch.gene.tolist() == [[-1, 4, 1, 0, -1]]


def test_columns_with_one_identifier_are_summed_into_its_own_column(tmp_path):
    mapping = {e: e for e in ENSEMBL[:2]} | {"ENSG99999999999": ENSEMBL[0]}
    folder = write_geneformer(tmp_path / "m", vocab=ENSEMBL[:2], version="V2", mapping=mapping)
    cells = make_cells([[1, 2, 2]], ensembl=["ENSG99999999999", ENSEMBL[1], ENSEMBL[0]])
    adapter = models.load(str(folder))
    assert adapter.gene_tokens(cells.genes).tolist() == [-1, 5, 4]
    assert adapter.tokenize(cells, np.array([0]), seed=0).gene.tolist() == [[-1, 2, 1, -1]]  # 1 + 2 = 3 before 2


def test_tokens_of_a_cell_do_not_depend_on_the_other_rows(tmp_path):
    adapter = models.load(str(write_geneformer(tmp_path / "m", vocab=ENSEMBL, version="V2")))
    cells = poisson_cells()
    together, alone = adapter.tokenize(cells, np.arange(5), seed=0), adapter.tokenize(cells, np.array([3]), seed=0)
    n = int(alone.mask.sum())
    assert together.tokens[3, :n].tolist() == alone.tokens[0, :n].tolist()


def test_pickled_dictionaries_one_folder_up(tmp_path):
    folder = write_geneformer(tmp_path / "repo" / "model", vocab=ENSEMBL, dictionaries="pkl", version="V2")
    for path in folder.glob("*.pkl"):
        path.rename(folder.parent / path.name)
    adapter = models.load(f"geneformer:{folder}")
    assert adapter.card.special_tokens == ("<cls>", "<eos>")
    names, rows = adapter.gene_embeddings()
    assert names == tuple(ENSEMBL) and rows.shape == (40, 16)


@pytest.mark.parametrize("wrapper", ["pooler", "no_head", "torch_bin"])
def test_published_variants_of_the_file_load(tmp_path, wrapper):
    from safetensors.torch import load_file, save_file

    folder = write_geneformer(tmp_path / "m", vocab=ENSEMBL)
    cells = poisson_cells()
    before = models.load(str(folder))
    batch = before.tokenize(cells, np.arange(5), seed=0)
    tensors = load_file(folder / "model.safetensors")
    if wrapper == "pooler":
        tensors |= {"bert.pooler.dense.weight": torch.ones(16, 16), "bert.embeddings.position_ids": torch.arange(64)}
        words = tensors["bert.embeddings.word_embeddings.weight"].clone()
        tensors |= {
            "cls.predictions.decoder.weight": words,
            "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
        }
    if wrapper == "no_head":
        tensors = {k.removeprefix("bert."): v for k, v in tensors.items() if k.startswith("bert.")}
    (folder / "model.safetensors").unlink()
    if wrapper == "torch_bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors")
    after = models.load(str(folder))
    assert torch.equal(before.forward(batch)[-1], after.forward(batch)[-1])
    assert hasattr(after.module, "cls") == (wrapper != "no_head")


@pytest.mark.parametrize(("version", "sub"), [("V1", "geneformer_v1"), ("V2", "geneformer_v2")])
def test_real_dictionaries_are_read(shared_data, version, sub):
    from regulens.models.dictionaries import read_dictionary

    place = shared_data / "model_files" / sub
    tokens = read_dictionary(next(place.glob("token_dictionary*.pkl")), what="token dictionary")
    medians = read_dictionary(next(place.glob("gene_median_dictionary*.pkl")), what="median dictionary")
    assert len(tokens) == {"V1": 25_426, "V2": 20_275}[version]
    assert {type(v) for v in tokens.values()} == {int} and {type(v) for v in medians.values()} <= {float, int}
    assert all(k in medians for k in tokens if k.startswith("ENSG"))
    assert ("<cls>" in tokens) == (version == "V2")


def test_real_dictionaries_drive_a_model_of_their_size(shared_data, tmp_path):
    """Random weights of the real vocabulary size beside the real V2 dictionaries."""
    from regulens.models.dictionaries import read_dictionary

    place = shared_data / "model_files" / "geneformer_v2"
    tokens = read_dictionary(place / "token_dictionary_gc95M.pkl", what="token dictionary")
    genes = [k for k in tokens if not k.startswith("<")]
    folder = write_geneformer(tmp_path / "m", vocab=genes, width=4, n_heads=2, version="V2")
    for path in folder.glob("*_gc104M.json"):
        path.unlink()
    for path in place.glob("*.pkl"):
        (folder / path.name).symlink_to(path)
    adapter = models.load(str(folder))
    cells = make_cells([[3, 1, 0]], symbols=["GATA1", "TAL1", "NOTAGENE"], ensembl=["ENSG00000102145", "", ""])
    assert (adapter.gene_tokens(cells.genes) >= 0).tolist() == [True, True, False]  # TAL1 by symbol through the mapping
    assert int(adapter.tokenize(cells, np.array([0]), seed=0).mask.sum()) == 4


def test_heads_come_from_the_configuration(tmp_path):
    folder = write_geneformer(tmp_path / "m", vocab=ENSEMBL, n_heads=4)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert models.load(str(folder)).card.n_heads == config["num_attention_heads"] == 4
