"""UCE: forward pass against torch's encoder and a loop from the formulas; sentences by hand; good and bad folders."""

from __future__ import annotations

import json
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
from regulens.models.uce import CLOSE, CLS, sample_sentence  # noqa: E402
from regulens.rng import stream  # noqa: E402
from regulens.testing.checkpoint_uce import write_uce  # noqa: E402

SYMBOLS = [f"G{i}" for i in range(40)]
PROTEINS = "protein_embeddings/Homo_sapiens.GRCh38.gene_symbol_to_embedding_ESM2.pt"
ERF = np.vectorize(math.erf)


def uneven_cells():
    """Cells whose genes lie on one, two or three chromosomes, so that sentences differ in length."""
    counts = poisson_cells(5, 40).counts.toarray()
    counts[0] = np.where(np.arange(40) % 3 == 0, counts[0] + 1, 0)
    counts[1] = np.where(np.arange(40) % 3 != 2, counts[1] + 1, 0)
    return make_cells(counts)


def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * weight + bias


def by_formula(tensors, tokens, mask, *, n_layers, n_heads, mode):
    """Maps [layer][cell, head, query, key] and hidden states, float64 numpy, one head and one cell at a time."""
    w = {k: v.double().numpy() for k, v in tensors.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    p = w["pe_embedding.weight"][tokens]
    p = p / np.maximum(np.sqrt((p**2).sum(-1, keepdims=True)), 1e-12)
    x = linear(p, "encoder.0")
    x = norm(x * 0.5 * (1 + ERF(x / math.sqrt(2))), "encoder.2")
    x = x * math.sqrt(x.shape[-1]) + w["pos_encoder.pe"][: tokens.shape[1], 0]
    n, s, d = x.shape
    size = d // n_heads
    maps, states = [], [x]
    for layer in range(n_layers):
        at = f"transformer_encoder.layers.{layer}"
        big, bias = w[f"{at}.self_attn.in_proj_weight"], w[f"{at}.self_attn.in_proj_bias"]
        out, attention = np.zeros_like(x), np.zeros((n, n_heads, s, s))
        for h in range(n_heads):
            own = slice(h * size, (h + 1) * size)
            q, k, v = (x @ big[i * d : (i + 1) * d][own].T + bias[i * d : (i + 1) * d][own] for i in range(3))
            for c in range(n):
                logits = q[c] @ k[c].T / math.sqrt(size)
                if mode == "upstream":
                    e = np.exp(logits + (1.0 - mask[c])[None, :] - logits.max())
                else:
                    e = np.where(mask[c][None, :], np.exp(logits - logits.max()), 0)
                attention[c, h] = e / e.sum(1, keepdims=True)
                out[c, :, own] = attention[c, h] @ v[c]
        x = norm(x + linear(out, f"{at}.self_attn.out_proj"), f"{at}.norm1")
        x = norm(x + linear(np.maximum(linear(x, f"{at}.linear1"), 0), f"{at}.linear2"), f"{at}.norm2")
        maps.append(attention)
        states.append(x)
    return maps, states


@pytest.mark.parametrize("mode", ["corrected", "upstream"])
def test_equals_the_formulas_over_twelve_layers(tmp_path, mode):
    folder = write_uce(tmp_path / "m", symbols=SYMBOLS, n_layers=12, n_heads=4)
    adapter = models.load(f"uce:{folder}?mode={mode}")
    batch = adapter.tokenize(uneven_cells(), np.arange(5), seed=0)
    assert not batch.mask.all()
    tensors = adapter.module.state_dict()
    maps, states = by_formula(tensors, batch.tokens, batch.mask, n_layers=12, n_heads=4, mode=mode)
    seen = []
    ours = adapter.forward(batch, tap=seen.append, kernel="plain")
    fused = adapter.forward(batch)
    assert [a.layer for a in seen] == list(range(12))
    for a, b in zip(seen, maps):
        assert np.abs(a.probabilities.numpy() - b)[np.broadcast_to(batch.mask[:, None, :, None], b.shape)].max() <= 1e-5
        assert row_sum_error(a.probabilities, batch.mask) <= 1e-5
        assert row_sum_error(a.probabilities.transpose(-1, -2), batch.mask) > 1e-3  # a transposed capture fails
        paid = masked_weight(a.probabilities, batch.mask)
        assert paid == 0.0 if mode == "corrected" else paid > 0.01  # upstream's padding draws attention
    for a, b, c in zip(ours, fused, states, strict=True):
        assert np.abs(a.numpy() - c)[batch.mask].max() <= 1e-4
        assert np.abs(b.numpy() - c)[batch.mask].max() <= 1e-4


@pytest.mark.parametrize("mode", ["corrected", "upstream"])
def test_equals_torchs_encoder_with_the_mask_as_upstream_gives_it(tmp_path, mode):
    """A mask of numbers, 1 at padding, is what upstream hands over; a mask of truth values is what it means."""
    adapter = models.load(f"uce:{write_uce(tmp_path / 'm', symbols=SYMBOLS)}?mode={mode}")
    layer = torch.nn.TransformerEncoderLayer(16, 2, 24, 0.05)
    theirs = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    theirs.load_state_dict(adapter.module.transformer_encoder.state_dict())
    batch = adapter.tokenize(uneven_cells(), np.arange(5), seed=0)
    first, *_, last = adapter.forward(batch)
    mask = torch.as_tensor(batch.mask)
    given = 1 - mask.float() if mode == "upstream" else ~mask
    with torch.no_grad():
        expected = theirs(first.transpose(0, 1), src_key_padding_mask=given).transpose(0, 1)
    assert float((last - expected)[mask].abs().max()) <= 1e-5


def test_modes_agree_on_a_cell_without_padding(tmp_path):
    folder = write_uce(tmp_path / "m", symbols=SYMBOLS)
    one, two = (models.load(f"uce:{folder}?mode={m}") for m in ("corrected", "upstream"))
    cells = uneven_cells()
    short, full = (m.tokenize(cells, np.array([4]), seed=0) for m in (one, two))
    assert full.mask.all() and torch.equal(one.forward(short)[-1], two.forward(full)[-1])
    short, wide = (m.tokenize(cells, np.array([0]), seed=0) for m in (one, two))
    n = short.tokens.shape[1]
    assert wide.tokens.shape[1] == 1 + 24 + 6 and not wide.mask[0, n:].any()
    assert float((one.forward(short)[-1] - two.forward(wide)[-1][:, :n]).abs().max()) > 0.01


def test_upstream_mode_does_not_depend_on_the_company(tmp_path):
    adapter = models.load(f"uce:{write_uce(tmp_path / 'm', symbols=SYMBOLS)}?mode=upstream")
    cells = uneven_cells()
    together, alone = (adapter.tokenize(cells, np.array(r), seed=0) for r in ([0, 1, 4], [0]))
    assert together.tokens[0].tolist() == alone.tokens[0].tolist()
    assert float((adapter.forward(together)[-1][0] - adapter.forward(alone)[-1][0]).abs().max()) <= 1e-6


def test_a_sentence_by_hand():
    # Genes 0 and 3 on chromosome 7 (3 starts earlier), 1 and 2 on chromosome 2 at the same place.
    counts, chromosome, start = np.array([3, 1, 1, 7]), np.array([7, 2, 2, 7]), np.array([900, 5, 5, 100])
    rng = stream(0, "test/sentence")
    gene, special = sample_sentence(counts, chromosome, start, size=12, rng=rng)
    again = stream(0, "test/sentence")
    p = np.log([4, 2, 2, 8])
    drawn = again.choice(4, size=12, p=p / p.sum())
    order = again.permutation([2, 7])
    blocks = {7: [3] * int((drawn == 3).sum()) + [0] * int((drawn == 0).sum()), 2: [g for g in drawn if g in (1, 2)]}
    expected, marks = [-1], [CLS]
    for c in order:
        expected += [-1, *blocks[c], -1]
        marks += [-2 - c, *[-1] * len(blocks[c]), CLOSE]
    assert gene.tolist() == expected and special.tolist() == marks
    assert len(gene) == 1 + 12 + 4


def test_draws_follow_the_logarithm_of_the_counts():
    counts = np.array([1, 3, 15, 255])
    gene, _ = sample_sentence(counts, np.zeros(4, int), np.arange(4), size=20_000, rng=stream(1, "test/draws"))
    share = np.bincount(gene[gene >= 0], minlength=4) / 20_000
    assert np.abs(share - np.array([1, 2, 4, 8]) / 15).max() < 0.015  # four standard errors
    order = [
        tuple(sample_sentence(counts, np.arange(4), np.zeros(4), size=200, rng=stream(i, "x"))[1]) for i in range(9)
    ]
    firsts = {next(s for s in o if s < -1) for o in order}
    assert len(firsts) > 1  # chromosomes are shuffled


def test_tokens_are_rows_of_the_table(tmp_path):
    symbols = ["A", "B", "C", "D"]
    folder = write_uce(tmp_path / "m", symbols=symbols, chromosomes=["X", "2", "2", "10"], starts=[1, 9, 3, 4])
    adapter = models.load(f"uce:{folder}")
    # Rows: 4 special, 3 frog genes, A B C D from 7, chromosomes from 11 by name: frog_9, human_10, human_2, human_X.
    cells = make_cells([[5, 0, 2, 1], [0, 0, 0, 9]], symbols=["b", "A", "C", "NOPE"])
    assert adapter.gene_tokens(cells.genes).tolist() == [8, 7, 9, -1]
    batch = adapter.tokenize(cells, np.array([0]), seed=0)
    tokens, gene = batch.tokens[0], batch.gene[0]
    assert tokens[:2].tolist() == [3, 11 + 2] and tokens[-1] == 2
    assert set(tokens[2:-1].tolist()) == {8, 9} and (np.diff(tokens[2:-1]) <= 0).all()  # C starts before B
    assert gene[2:-1].tolist() == [{8: 0, 9: 2}[t] for t in tokens[2:-1]] and gene[[0, 1, -1]].tolist() == [-1] * 3
    with pytest.raises(ParameterError, match="none in cell 'cell1'"):
        adapter.tokenize(cells, np.array([1]), seed=0)


def test_random_choices_belong_to_the_cell_the_seed_and_the_draw(tmp_path):
    adapter = models.load(str(write_uce(tmp_path / "m", symbols=SYMBOLS)))
    cells = uneven_cells()
    together, alone = adapter.tokenize(cells, np.arange(5), seed=0), adapter.tokenize(cells, np.array([3]), seed=0)
    n = int(alone.mask.sum())
    assert together.tokens[3, :n].tolist() == alone.tokens[0, :n].tolist()
    assert adapter.tokenize(cells, np.array([3]), seed=1).tokens.tolist() != alone.tokens.tolist()
    other = models.load(f"uce:{tmp_path / 'm'}?draw=1")
    assert other.tokenize(cells, np.array([3]), seed=0).tokens.tolist() != alone.tokens.tolist()
    assert any("draw 1" in n for n in other.card.notes)


def test_two_columns_of_one_gene_and_sentences_that_are_too_long(tmp_path):
    adapter = models.load(str(write_uce(tmp_path / "m", symbols=["A", "B"], length=20)))
    cells = make_cells([[5, 1]], symbols=["A", "a"])
    assert adapter.gene_tokens(cells.genes).tolist() == [7, -1]
    with pytest.raises(ModelError, match="at most 20 tokens, got 27"):
        adapter.tokenize(cells, np.array([0]), seed=0)


def test_no_edits_is_the_same_bits_and_edits_reach_the_end(tmp_path):
    adapter = models.load(str(write_uce(tmp_path / "m", symbols=SYMBOLS, n_layers=3)))
    batch = adapter.tokenize(uneven_cells(), np.arange(3), seed=0)
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


@pytest.mark.parametrize("mode", ["corrected", "upstream"])
def test_extraction_pools_repeats(tmp_path, mode):
    """Attention of a gene pair: sum over the copies of the key, mean over the copies of the query."""
    adapter = models.load(f"uce:{write_uce(tmp_path / 'm', symbols=SYMBOLS)}?mode={mode}")
    cells = uneven_cells()
    names = cells.genes.symbols
    attention = extract(adapter, cells, genes=names, regulators=names[:8], seed=0)
    assert float(attention.verify()["max_abs_difference"].max()) <= 1e-5
    checks = models.verify(adapter, cells)
    failed = {n.split("/")[0] for n in checks["name"][~checks["passed"].astype(bool)]}
    assert failed == (set() if mode == "corrected" else {"masked_keys_zero", "hidden_ignores_padding"})
    sums, counts = np.zeros((2, 2, 2, 8, 40)), np.zeros((8, 40))
    for row in range(5):
        batch, seen = adapter.tokenize(cells, np.array([row]), seed=0), []
        adapter.forward(batch, tap=seen.append, kernel="plain")
        at = {g: np.flatnonzero(batch.gene[0] == g) for g in np.unique(batch.gene[0]) if g >= 0}
        assert max(map(len, at.values())) > 1
        for r in range(8):
            for t in range(40):
                if r != t and r in at and t in at:
                    counts[r, t] += 1
                    for a in seen:
                        block = a.probabilities[0].numpy()
                        sums[a.layer, :, 0, r, t] += block[:, at[r]][:, :, at[t]].sum(2).mean(1)
                        sums[a.layer, :, 1, r, t] += block[:, at[t]][:, :, at[r]].sum(2).mean(1)
    found = np.asarray(attention.summary.sums).sum(0)
    assert np.array_equal(np.asarray(attention.summary.counts).sum(0), counts)
    assert np.abs(found - sums).max() <= 1e-5


def test_published_shapes_need_no_settings_file(tmp_path):
    """At the published widths the number of heads is what the published code fixes; elsewhere it must be said."""
    from regulens.models.uce import PUBLISHED, PUBLISHED_SHAPE

    assert PUBLISHED == {"nhead": 20, "sample_size": 1024, "chromosome_offset": 143_574}
    assert PUBLISHED_SHAPE == (5120, 1280)
    folder = write_uce(tmp_path / "m", symbols=SYMBOLS)
    (folder / "uce.json").unlink()
    with pytest.raises(ModelError, match=r"number of attention heads as 'nhead' in uce.json"):
        models.load(f"uce:{folder}")


def test_token_table_may_lie_beside_the_weights(tmp_path):
    one = models.load(str(write_uce(tmp_path / "a", symbols=SYMBOLS, tokens="weights")))
    two = models.load(str(write_uce(tmp_path / "b", symbols=SYMBOLS, tokens="file", heads_of_other_tasks="none")))
    assert torch.equal(one.module.pe_embedding.weight, two.module.pe_embedding.weight)
    names, rows = one.gene_embeddings()
    assert names == tuple(SYMBOLS) and rows.shape == (40, 16)
    assert (one.card.licence, one.card.max_length, one.card.vocabulary_size) == ("MIT", 96, 40)
    assert any("binary_decoder" in n for n in one.card.notes) and any("not checked" in n for n in one.card.notes)
    assert not any("not used" in n for n in two.card.notes)


def _change(folder, change):
    path = folder / "4layer_model.torch"
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("transformer_encoder.layers.1.norm1.bias"), "1 missing .transformer_encoder.layers.1.norm1"),
        (lambda t: t.update(stranger=torch.zeros(1)), "1 unexpected .stranger"),
        (lambda t: t.update({"encoder.2.bias": torch.zeros(3)}), r"encoder.2.bias is \(3,\) instead of \(16,\)"),
        (lambda t: t["encoder.2.bias"].fill_(math.nan), "NaN or infinity in encoder.2.bias"),
        (lambda t: t.pop("pe_embedding.weight"), "This is another family"),
        (lambda t: t["pe_embedding.weight"][7].zero_(), "row 7 of the token table to be the protein embedding of G0"),
        (lambda t: t.update({"pe_embedding.weight": t["pe_embedding.weight"][:48]}), "a token for every chromosome"),
    ],
)
def test_tensors_that_do_not_fit_are_one_sentence(tmp_path, change, words):
    folder = write_uce(tmp_path / "m", symbols=SYMBOLS)
    _change(folder, change)
    with pytest.raises(ModelError, match=words) as caught:
        models.load(f"uce:{folder}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nhead": None}, "number of attention heads"),
        ({"nhead": 3}, "divides the width 16"),
        ({"nlayers": 33}, "nlayers = 33 but the weights have 2"),
        ({"sample_size": None}, "'sample_size'"),
        ({"chromosome_offset": 10}, "Files of different releases"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(tmp_path, changes, words):
    folder = write_uce(tmp_path / "m", symbols=SYMBOLS, changes=changes)
    with pytest.raises(ModelError, match=words) as caught:
        models.load(f"uce:{folder}")
    assert "\n" not in str(caught.value)


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("file", ["4layer_model.torch", PROTEINS, "species_offsets.pkl"])
def test_hostile_pickle_is_never_executed(tmp_path, file):
    folder, trace = write_uce(tmp_path / "m", symbols=SYMBOLS), tmp_path / "executed"
    bad = {"human": _Hostile(trace)}
    if file.endswith("pkl"):
        (folder / file).write_bytes(pickle.dumps(bad))
    else:
        torch.save(bad, folder / file)
    with pytest.raises(ModelError, match=r"not executed|needs code to be run"):
        models.load(f"uce:{folder}")
    assert not trace.exists()


def test_other_files_that_do_not_fit(tmp_path):
    folder = write_uce(tmp_path / "m", symbols=SYMBOLS)
    good = {p: (folder / p).read_bytes() for p in ("4layer_model.torch", PROTEINS, "species_chrom.csv")}
    for path, content, words in (
        ("4layer_model.torch", good["4layer_model.torch"][:500], "truncated or damaged"),
        (PROTEINS, good[PROTEINS][:500], "truncated or damaged"),
        ("species_chrom.csv", b"a,b\n1,2\n", "columns species, gene_symbol, chromosome, start"),
        ("species_offsets.pkl", pickle.dumps({"frog": 4}), "got offset None"),
    ):
        kept = (folder / path).read_bytes()
        (folder / path).write_bytes(content)
        with pytest.raises(ModelError, match=words) as caught:
            models.load(f"uce:{folder}")
        assert "\n" not in str(caught.value)
        (folder / path).write_bytes(kept)
    (folder / PROTEINS).unlink()
    with pytest.raises(ModelError, match="protein embeddings of human"):
        models.load(f"uce:{folder}")
    with pytest.raises(ModelError, match=r"mouse.*Mus_musculus|Mus_musculus"):
        models.load(f"uce:{folder}?species=mouse")
    (folder / "other.torch").write_bytes(b"")
    with pytest.raises(ModelError, match=r"one UCE weights file .* got 4layer_model.torch"):
        models.load(f"uce:{folder}")


def test_genes_without_a_place_and_with_two(tmp_path):
    folder = write_uce(tmp_path / "m", symbols=["A", "B", "C"])
    path = folder / "species_chrom.csv"
    lines = path.read_text().splitlines()
    lines = [*[n for n in lines if ",B," not in n], "9,human,A,2,5,6"]
    path.write_text("\n".join(lines))
    adapter = models.load(str(folder))
    assert adapter.genes.names == ("A", "C") and adapter.genes.token.tolist() == [7, 9]
    assert any("1 of 3 genes without a chromosome" in n for n in adapter.card.notes)
    assert any("1 genes have several places" in n for n in adapter.card.notes)
    assert adapter.genes.start.tolist() == [3000, 1000]  # the first place listed
    assert json.loads((folder / "uce.json").read_text())["nhead"] == 2
