"""Read-outs: what they measure, checked by hand, and that none is given that could not see the change."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from regulens.errors import ParameterError  # noqa: E402
from regulens.interventions import (  # noqa: E402
    EMBEDDING,
    Place,
    Readout,
    Stage,
    ablate_gene,
    ablate_heads,
    ablate_mlp,
    cell_embedding,
    expression,
    hidden,
    intervene,
    later_attention,
    patch,
    record,
)


def attention(layer, cells, *, head=1, direction="regulator_attends"):
    return later_attention(layer, head, "G0", "G1", genes=cells.genes, direction=direction)


def test_hidden_states_are_counted_like_layers(adapter, batch):
    states = adapter.forward(batch)
    first, last = intervene(adapter).read(batch, hidden(0), hidden(11))
    assert np.array_equal(first, states[1].numpy()) and np.array_equal(last, states[12].numpy())


def test_cell_embeddings_by_hand(adapter, batch):
    state = adapter.forward(batch)[-1].double().numpy()
    auto, cls, mean = intervene(adapter).read(batch, cell_embedding(), cell_embedding("cls"), cell_embedding("mean"))
    assert np.array_equal(auto, state[:, 0]) and np.array_equal(auto, cls)
    want = np.stack([s[g >= 0].mean(0) for s, g in zip(state, batch.gene)])
    assert np.abs(mean - want).max() <= 1e-12


@pytest.mark.parametrize("direction", ["regulator_attends", "target_attends"])
def test_later_attention_is_the_entry_of_the_explicit_map(adapter, batch, cells, direction):
    seen = []
    adapter.forward(batch, tap=seen.append, kernel="plain")
    (got,) = intervene(adapter).read(batch, attention(8, cells, direction=direction))
    for cell in range(4):
        r, t = (np.flatnonzero(batch.gene[cell] == g) for g in (0, 1))
        if len(r) == 0 or len(t) == 0:
            assert np.isnan(got[cell]) and cell == 2
            continue
        A = seen[8].probabilities[cell, 1].numpy()
        want = A[r[0], t[0]] if direction == "regulator_attends" else A[t[0], r[0]]
        assert abs(got[cell] - want) <= 1e-5
    # Not symmetric: the other direction is another number, so that a transposed read-out would fail above.
    other = "target_attends" if direction == "regulator_attends" else "regulator_attends"
    assert np.nanmin(np.abs(got - intervene(adapter).read(batch, attention(8, cells, direction=other))[0])) > 1e-6


def test_several_tokens_of_a_gene_are_summed_as_keys_and_averaged_as_queries(adapter, batch, cells):
    from dataclasses import replace

    gene = np.where(batch.gene == 5, 0, np.where(batch.gene == 6, 1, batch.gene))
    pieces = replace(batch, gene=gene)
    seen = []
    adapter.forward(batch, tap=seen.append, kernel="plain")
    (got,) = intervene(adapter).read(pieces, attention(8, cells))
    for cell in range(4):
        A = seen[8].probabilities[cell, 1].numpy()[gene[cell] == 0][:, gene[cell] == 1]
        assert abs(got[cell] - A.sum(1).mean()) <= 1e-5
    assert max((gene == 0).sum(1)) == 2


def test_expression_is_what_the_output_head_says(adapter, batch, cells, family):
    (got,) = intervene(adapter).read(batch, expression("G1", genes=cells.genes))
    with torch.no_grad():
        said = adapter.module.predict(adapter.forward(batch)[-1]).numpy()
    for cell in range(4):
        at = batch.gene[cell] == 1
        if not at.any():
            assert np.isnan(got[cell]) and cell == 2
            continue
        want = said[cell, at][0] if family == "scgpt" else said[cell, at][0, adapter.vocabulary[cells.genes.ensembl[1]]]
        assert abs(got[cell] - want) <= 1e-4 * max(1, abs(want))


def test_expression_needs_a_checkpoint_with_its_head(family, folders, cells, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    from regulens import models

    shutil.copytree(folders[family], tmp_path / "m")
    if family == "scgpt":
        path = tmp_path / "m" / "best_model.pt"
        torch.save({k: v for k, v in torch.load(path).items() if not k.startswith("decoder.")}, path)
    else:
        path = tmp_path / "m" / "model.safetensors"
        save_file({k: v for k, v in load_file(path).items() if not k.startswith("cls.")}, path)
    adapter = models.load(f"{family}:{tmp_path / 'm'}")
    batch = adapter.tokenize(cells, np.arange(2), seed=0)
    name = "decoder.fc" if family == "scgpt" else "cls.predictions"
    with pytest.raises(
        ParameterError, match=rf"output head {name} in the checkpoint .* without it.*Use cell_embedding"
    ):
        intervene(adapter).read(batch, expression("G1", genes=cells.genes))
    assert intervene(adapter).read(batch, cell_embedding())[0].shape == (2, 18)


def upstream_of(cells, source):
    return [
        ablate_heads([(5, 0)]),
        ablate_heads([(1, 0), (5, 0)], how="uniform"),
        patch([EMBEDDING, *(c for c in source.values if c.kind == "head" and c.layer == 5)], source),
    ]


def test_readouts_that_cannot_see_the_change_are_refused(adapter, batch, cells):
    for change in upstream_of(cells, record(adapter, batch)):
        model = intervene(adapter, change)
        for layer in (0, 4, 5):
            words = rf"behind the heads of layer 5, which .* got attention\(L0{layer}_H01.* computed later"
            with pytest.raises(ParameterError, match=words):
                model.read(batch, attention(layer, cells))
        with pytest.raises(ParameterError, match=r"got hidden\(L04\) at the state of layer 4"):
            model.read(batch, cell_embedding(), hidden(4))
        read = model.read(batch, hidden(5), attention(6, cells), cell_embedding(), expression("G1", genes=cells.genes))
        plain = intervene(adapter).read(
            batch, hidden(5), attention(6, cells), cell_embedding(), expression("G1", genes=cells.genes)
        )
        same = isinstance(change.name, str) and change.name.startswith("patch")
        for a, b in zip(read, plain):
            assert np.array_equal(a, b, equal_nan=True) == same


def test_a_refused_readout_would_indeed_have_seen_nothing(adapter, batch):
    """What the rule protects from: attention of the ablated layer is the same to the last bit."""
    plain, edited = [], []
    adapter.forward(batch, tap=plain.append)
    intervene(adapter, ablate_heads([(5, h) for h in range(3)])).forward(batch, tap=edited.append)
    for layer in range(6):
        assert torch.equal(plain[layer].lse, edited[layer].lse)
    assert not torch.equal(plain[6].lse, edited[6].lse)


def test_the_latest_of_several_changes_decides(adapter, batch, cells):
    model = intervene(adapter, ablate_mlp(9), ablate_heads([(2, 0)]))
    assert str(model.last_place) == "the MLP of layer 9" and model.name == "zero L09_mlp; zero L02_H00"
    with pytest.raises(ParameterError, match=r"behind the MLP of layer 9, which 'zero L09_mlp' changes"):
        model.read(batch, attention(9, cells))
    model.read(batch, attention(10, cells), hidden(9))
    last = intervene(adapter, ablate_mlp(11))
    last.read(batch, hidden(11), cell_embedding(), expression("G1", genes=cells.genes))


def test_changes_of_the_input_are_seen_everywhere(adapter, batch, cells):
    model = intervene(adapter, ablate_gene("G3", genes=cells.genes))
    plain, edited = (m.read(batch, attention(0, cells)) for m in (intervene(adapter), model))
    assert str(model.last_place) == "the input tokens"
    both = ~np.isnan(plain[0])
    assert (plain[0][both] != edited[0][both]).any()


def test_readouts_the_model_cannot_answer_are_refused_before_running(adapter, batch, cells):
    from dataclasses import replace

    model = intervene(adapter)
    for readout, words in [
        (hidden(12), r"Expected a layer in 0 … 11"),
        (attention(12, cells), r"Expected a layer in 0 … 11"),
        (attention(3, cells, head=3), r"Expected a head in 0 … 2"),
        (expression("G29", genes=cells.genes), r"no token of its own"),
    ]:
        with pytest.raises(ParameterError, match=words):
            model.read(batch, readout)
    with pytest.raises(ParameterError, match=r"how to be 'auto', 'cls' or 'mean'"):
        cell_embedding("median")
    adapter.card = replace(adapter.card, family="other", special_tokens=())
    with pytest.raises(ParameterError, match=r"output head regulens reads \(scgpt, geneformer\).* got other"):
        intervene(adapter).read(batch, expression("G1", genes=cells.genes))
    with pytest.raises(ParameterError, match=r"a model with <cls>.*cell_embedding\('mean'\)"):
        intervene(adapter).read(batch, cell_embedding("cls"))


def test_a_readout_of_the_very_thing_that_is_changed_is_refused(adapter, batch):
    own = Readout(
        name="what is read by heads of layer 5",
        place=lambda _: Place(5, Stage.HEADS),
        function=lambda run: run.states[0].numpy(),
        check=lambda _: None,
    )
    with pytest.raises(ParameterError, match=r"behind the heads of layer 5, .* at the heads of layer 5"):
        intervene(adapter, ablate_heads([(5, 0)])).read(batch, own)
    assert intervene(adapter, ablate_heads([(4, 0)])).read(batch, own)[0].shape[0] == 4
