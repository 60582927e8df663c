"""Random weights: same architecture and tokens, another attention, in every family; exact, seeded, and marked."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import poisson_cells  # noqa: E402
from test_spec import WRITERS  # noqa: E402

from regulens import models  # noqa: E402
from regulens.errors import ModelError  # noqa: E402
from regulens.models.random_weights import with_random_weights  # noqa: E402

FAMILIES = [f for f in WRITERS if f != "scvi"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("random")
    for family, write in WRITERS.items():
        write(root / family)
    return root


def cells():
    return poisson_cells()


def hidden(adapter, given):
    batch = adapter.tokenize(given, np.arange(3), seed=0)
    return batch, adapter.forward(batch)[-1].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_its_tokens_and_loses_what_it_knew(folders, family):
    spec = f"{family}:{folders / family}"
    trained, drawn = models.load(spec), models.load(f"{spec}?weights=random")
    given = cells()
    (a, x), (b, y) = hidden(trained, given), hidden(drawn, given)
    for name in ("tokens", "ids", "genes"):
        if hasattr(a, name):
            np.testing.assert_array_equal(np.asarray(getattr(a, name)), np.asarray(getattr(b, name)))
    assert x.shape == y.shape
    assert np.isfinite(y).all()
    assert np.abs(x - y).max() > 1e-3
    assert drawn.card.sha256 != trained.card.sha256
    assert "drawn at random" in drawn.card.notes[-1]
    assert (drawn.card.n_layers, drawn.card.n_heads) == (trained.card.n_layers, trained.card.n_heads)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_of_random_weights_is_as_exact_as_that_of_the_model(folders, family):
    spec = f"{family}:{folders / family}"
    trained, drawn = (models.verify(f"{spec}{end}", cells(), n_cells=2) for end in ("", "?weights=random"))
    assert drawn["passed"].tolist() == trained["passed"].tolist()
    assert drawn["passed"].mean() > 0.7  # one family repeats a padding leak of its upstream by default


def test_draws_depend_on_the_seed_and_nothing_else(folders):
    place = f"scgpt:{folders / 'scgpt'}?weights=random"
    a, b, c = (models.load(place + more) for more in ("", "&weights_seed=0", "&weights_seed=1"))
    first = [dict(m.module.named_parameters()) for m in (a, b, c)]
    assert all(torch.equal(first[0][k], first[1][k]) for k in first[0])
    assert any(not torch.equal(first[0][k], first[2][k]) for k in first[0])


def test_size_of_weights_padding_and_the_model_given_are_left_alone(folders):
    trained = models.load(f"geneformer:{folders / 'geneformer'}")
    before = {k: v.clone() for k, v in trained.module.named_parameters()}
    drawn = dict(with_random_weights(trained, seed=3).module.named_parameters())
    for name, old in before.items():
        assert torch.equal(old, dict(trained.module.named_parameters())[name])
        new = drawn[name]
        if old.ndim < 2:
            np.testing.assert_allclose(np.sort(old.detach().numpy()), np.sort(new.detach().numpy()))
        elif old.numel() > 500 and float(old.detach().std()) > 0:
            assert float((new.std() / old.std()).detach()) == pytest.approx(1, rel=0.2)
        zero = ~old.detach().reshape(len(old), -1).bool().any(dim=1)
        if old.ndim >= 2 and bool(zero.any()):
            assert not bool(new[zero].any())


def test_a_model_without_attention_is_refused(folders):
    with pytest.raises(ModelError, match="Expected a model with attention"):
        models.load(f"scvi:{folders / 'scvi'}?weights=random")


def test_an_unknown_kind_of_weights_is_refused(folders):
    with pytest.raises(ModelError, match="Expected one of published, random"):
        models.load(f"scgpt:{folders / 'scgpt'}?weights=none")


def test_a_copy_of_the_model_runs_like_the_model(folders):
    """The draw works on a deep copy: that copy must not share state with what it came from."""
    trained = models.load(f"scgpt:{folders / 'scgpt'}")
    given = cells()
    np.testing.assert_array_equal(hidden(copy.deepcopy(trained), given)[1], hidden(trained, given)[1])
