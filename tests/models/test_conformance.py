"""The public suite passes on sound adapters and names the right check on each broken twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells, poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.errors import ParameterError  # noqa: E402
from regulens.models.base import NO_EDITS, Edits  # noqa: E402
from regulens.models.geneformer import GeneformerAdapter  # noqa: E402
from regulens.models.scgpt import ScGPTAdapter  # noqa: E402
from regulens.testing.checkpoints import write_geneformer, write_scgpt  # noqa: E402

SYMBOLS = [f"G{i}" for i in range(40)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return models.load(str(write_scgpt(tmp_path_factory.mktemp("m") / "m", vocab=SYMBOLS, n_layers=3, n_heads=4)))


def test_a_sound_adapter_passes_all(sound):
    assert failed(sound) == set()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny matrices: more threads only wait for each other
    yield
    torch.set_num_threads(before)


def failed(adapter, cells=None):
    table = models.check_adapter(adapter, cells or poisson_cells(3))
    return set(table.loc[~table["passed"].astype(bool), "name"])


class Twin(ScGPTAdapter):
    """A sound adapter in which one thing is wrong."""

    fault = ""

    def tokenize(self, cells, rows, *, seed):
        if self.fault == "tokens of neighbours":
            seed = seed + len(rows)
        return super().tokenize(cells, rows, seed=seed)

    def gene_embeddings(self):
        names, rows = super().gene_embeddings()
        return (names[:-1], rows) if self.fault == "embeddings" else (names, rows)

    def forward(self, batch, *, tap=None, kernel="fused", edits=NO_EDITS):
        if self.fault == "edits ignored":
            edits = NO_EDITS
        if self.fault == "mlp edits ignored":
            edits = replace(edits, mlp_output=None)
        if self.fault == "edits not free":
            given = edits.embedding
            edits = replace(edits, embedding=None if given is None else lambda x: given(x) * (1 + 1e-6))
        if self.fault == "edit one layer late" and edits.head_output is not None:
            given = edits.head_output
            late = Edits(
                embedding=edits.embedding,
                mlp_output=edits.mlp_output,
                head_output=lambda a, out: given(replace(a, layer=(a.layer + 1) % 3), out),
            )
            return super().forward(batch, tap=tap, kernel=kernel, edits=late)
        if self.fault == "another map" and tap is not None:
            seen = tap

            def tap(a):
                q = a.q.roll(1, 1)  # heads mixed up: still a proper softmax
                logits = q @ a.k.transpose(-1, -2) * a.scale
                if a.key_mask is not None:
                    logits = logits.masked_fill(~a.key_mask[:, None, None], -torch.inf)
                maps = None if a.probabilities is None else logits.softmax(-1)
                seen(replace(a, q=q, lse=logits.logsumexp(-1), probabilities=maps))

        states = super().forward(batch, tap=tap, kernel=kernel, edits=edits)
        if self.fault == "tap not free" and tap is not None:
            states[-1] = states[-1] + 1e-6
        if self.fault == "over heads":  # each token mixes its own heads only, so genes never reach each other
            x = self.network.embed(torch.as_tensor(batch.tokens), torch.as_tensor(batch.values))
            x = edits.embedding(x.detach()) if edits.embedding else x.detach()
            states = [x] * len(states)
        if self.fault == "neighbours":
            states[-1] = states[-1] + states[-1].mean(0, keepdim=True) * (len(batch.cell) > 1)
        if self.fault == "training":
            self.network.train()
        if self.fault == "gradients":
            states[0] = states[0].clone().requires_grad_()
        return states


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ("tokens of neighbours", "tokens_ignore_the_batch"),
        ("embeddings", "gene_embeddings_fit"),
        ("edits ignored", "head_edit_reaches_the_end/L00"),
        ("edits ignored", "head_edits_in_order_of_layers"),
        ("mlp edits ignored", "mlp_edit_reaches_the_end/L02"),
        ("edits not free", "identity_edits_change_nothing"),
        ("edit one layer late", "head_edit_leaves_earlier_layers/L01"),
        ("another map", "heads_read_the_captured_map/L00"),
        ("tap not free", "tap_changes_nothing"),
        ("over heads", "genes_reach_each_other"),
        ("neighbours", "hidden_ignores_the_batch"),
        ("training", "evaluation_mode"),
        ("gradients", "no_gradients"),
    ],
)
def test_each_fault_is_caught_by_its_check(sound, fault, caught):
    twin = Twin.__new__(Twin)
    twin.__dict__.update(sound.__dict__)
    twin.fault = fault
    cells = poisson_cells(3)
    if fault == "tokens of neighbours":  # many ties, so that bins are drawn
        cells = make_cells(np.tile(np.arange(40) % 3, (3, 1)))
    try:
        assert caught in failed(twin, cells)
    finally:
        sound.network.eval()


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        ({"n_parameters": 7}, "card_parameters"),
        ({"max_length": 3}, "card_max_length"),
        ({"width": 8}, "card_width"),
        ({"vocabulary_size": 3}, "card_vocabulary"),
        ({"sha256": ""}, "card_is_filled_in"),
    ],
)
def test_a_wrong_card_is_caught(sound, change, caught):
    twin = Twin.__new__(Twin)
    twin.__dict__.update(sound.__dict__)
    cells = poisson_cells(3)
    batch = sound.tokenize(cells, np.arange(3), seed=0)
    twin.card = replace(sound.card, **change)
    if caught == "card_max_length":  # the twin goes on making tokens as the sound one does
        twin.tokenize = lambda cells, rows, *, seed: sound.tokenize(cells, rows, seed=seed)
    assert batch.mask.sum(1).max() > 3
    assert caught in failed(twin, cells)


def test_layers_of_another_order_are_caught(tmp_path):
    class AsStrings(GeneformerAdapter):
        def forward(self, batch, *, tap=None, kernel="fused", edits=NO_EDITS):
            order = sorted(range(self.card.n_layers), key=str)
            named = (lambda a: tap(replace(a, layer=order[a.layer]))) if tap else None
            return super().forward(batch, tap=named, kernel=kernel, edits=edits)

    vocab = [f"ENSG{i:011d}" for i in range(40)]
    adapter = models.load(str(write_geneformer(tmp_path / "m", vocab=vocab, n_layers=12)))
    adapter.__class__ = AsStrings
    assert "layers_and_heads" in failed(adapter)


def test_what_is_no_adapter_is_refused():
    with pytest.raises(ParameterError, match="Expected an adapter"):
        models.check_adapter("scgpt", poisson_cells())


def test_one_cell_is_refused(sound):
    with pytest.raises(ParameterError, match="at least two cells"):
        models.check_adapter(sound, poisson_cells(), n_cells=1)


def test_genes_that_the_model_does_not_know_fail_one_check_and_end_there(sound):
    cells = make_cells(np.ones((2, 3)), symbols=["X", "Y", "Z"])
    assert "genes_known" in failed(sound, cells)
