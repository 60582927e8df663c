"""Saved scvi-tools models: read without the library or its pickles; loadings and latent profiles by plain formulas."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.errors import AlignmentError, ModelError, ParameterError  # noqa: E402
from regulens.models import scvi  # noqa: E402
from regulens.models.safe_pickle import read_torch  # noqa: E402
from regulens.models.score_model import AbstractScoreModel, as_directions, verify_scores  # noqa: E402
from regulens.rng import stream  # noqa: E402
from regulens.testing.checkpoint_scvi import write_scvi  # noqa: E402
from regulens.types.attention import Direction  # noqa: E402
from regulens.types.genes import GeneVocabulary  # noqa: E402

GENES = [f"G{i}" for i in range(15)]
KINDS = ("SCVI", "LinearSCVI", "TOTALVI", "CondSCVI")


def vocabulary(symbols, ensembl=None):
    return GeneVocabulary(symbols=tuple(symbols), ensembl=tuple(ensembl or [""] * len(symbols)))


def load(folder):
    return models.load(f"scvi:{folder}")


def tensors(folder):
    state = read_torch(folder / "model.pt", what="model")["model_state_dict"]
    return {k: v.double().numpy() for k, v in state.items() if isinstance(v, torch.Tensor)}


def resave(folder, change):
    saved = read_torch(folder / "model.pt", what="model")
    saved["attr_dict"].pop("history_", None)  # tables, which were not rebuilt
    change(saved)
    torch.save(saved, folder / "model.pt")


def by_hand(t, kind, z, n_layers, n_batch, simplex=False):
    """Logits at one latent position, layer by layer, from the formulas alone."""
    if simplex:
        z = np.exp(z) / np.exp(z).sum()
    covariate = np.full(n_batch, 1 / n_batch) if n_batch > 1 else np.zeros(0)

    def normed(x, place):
        mean, variance = t[f"{place}.1.running_mean"], t[f"{place}.1.running_var"]
        return (x - mean) / np.sqrt(variance + 0.001) * t[f"{place}.1.weight"] + t[f"{place}.1.bias"]

    if kind == "LinearSCVI":
        place = "decoder.factor_regressor.fc_layers.Layer 0"
        return normed(t[f"{place}.0.weight"] @ np.concatenate([z, covariate]), place)
    h = z
    for i in range(n_layers):
        place = ("decoder.fc_layers" if kind == "CondSCVI" else "decoder.px_decoder.fc_layers") + f".Layer {i}"
        h = t[f"{place}.0.weight"] @ np.concatenate([h, covariate]) + t[f"{place}.0.bias"]
        h = (h - h.mean()) / np.sqrt(h.var() + 1e-5) if kind == "CondSCVI" else normed(h, place)
        h = np.maximum(h, 0)
    if kind == "TOTALVI":
        output, h = "decoder.px_scale_decoder.fc_layers.Layer 0.0", np.concatenate([h, z, covariate])
    else:
        output = "px_decoder" if kind == "CondSCVI" else "decoder.px_scale_decoder.0"
    return t[f"{output}.weight"] @ h + t[f"{output}.bias"]


@pytest.mark.parametrize(("n_layers", "n_batch"), [(1, 1), (1, 2), (3, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_decoder_and_latent_profiles_by_plain_formulas(tmp_path, kind, n_layers, n_batch):
    folder = write_scvi(tmp_path / "m", vocab=GENES, kind=kind, n_layers=n_layers, n_batch=n_batch)
    model, t = load(folder), tensors(folder)
    draws = stream(scvi.SEED, "scvi/latent").standard_normal((scvi.DRAWS, 4))
    slope = np.zeros((15, 4))
    for z in draws:
        for k in range(4):
            step = np.eye(4)[k] * 1e-6
            up, down = (by_hand(t, kind, z + s, n_layers, n_batch) for s in (step, -step))
            slope[:, k] += (up - down) / 2e-6
    for z in draws[:5]:
        got = model.module.logits(torch.from_numpy(z)).numpy()
        assert np.allclose(got, by_hand(t, kind, z, n_layers, n_batch), atol=1e-10)
    assert np.allclose(model.latent_profiles(), slope / len(draws), atol=1e-5)


def test_a_latent_space_of_shares(tmp_path):
    folder = write_scvi(tmp_path / "m", vocab=GENES, settings={"latent_distribution": "ln"})
    z = np.array([0.3, -1.0, 2.0, 0.0])
    got = load(folder).module.logits(torch.from_numpy(z)).numpy()
    assert np.allclose(got, by_hand(tensors(folder), "SCVI", z, 1, 2, simplex=True), atol=1e-10)


def test_loadings_of_the_linear_decoder_are_the_published_ones(tmp_path):
    folder = write_scvi(tmp_path / "m", vocab=GENES, kind="LinearSCVI")
    t, place = tensors(folder), "decoder.factor_regressor.fc_layers.Layer 0"
    factor = t[f"{place}.1.weight"] / np.sqrt(t[f"{place}.1.running_var"] + 0.001)
    model = load(folder)
    assert np.allclose(model.gene_embeddings()[1], factor[:, None] * t[f"{place}.0.weight"][:, :4], atol=1e-6)
    assert np.allclose(model.latent_profiles(), model.module.loadings.numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_pair_by_pair(tmp_path, kind):
    model = load(write_scvi(tmp_path / "m", vocab=GENES, kind=kind))
    order = [*reversed(GENES[:12]), "UNKNOWN"]
    scores = model.edge_scores(vocabulary(order), ["G3", "G9", "UNKNOWN"])
    assert scores.names == scvi.SCORES and scores.direction == "none" and model.primary == scores.names[0]
    loading, profile = model.module.loadings.numpy(), model.latent_profiles()
    for i, regulator in enumerate(scores.regulators):
        for j, target in enumerate(scores.genes):
            if "UNKNOWN" in (regulator, target) or regulator == target:
                assert not scores.observed[i, j] and not scores.values[:, i, j].any()
                continue
            a, b = GENES.index(regulator), GENES.index(target)
            cosine = [x[a] @ x[b] / np.linalg.norm(x[a]) / np.linalg.norm(x[b]) for x in (loading, profile)]
            want = [cosine[0], np.corrcoef(loading[a], loading[b])[0, 1], cosine[1]]
            want.append(-np.linalg.norm(profile[a] - profile[b]))
            assert scores.observed[i, j] and np.allclose(scores.values[:, i, j], want, atol=1e-9)


def test_covariates_are_no_part_of_a_loading(tmp_path):
    """A twin that keeps the columns of batches would give other scores; these do not move with them."""
    folder = write_scvi(tmp_path / "m", vocab=GENES, kind="TOTALVI")
    before = load(folder)
    output = "decoder.px_scale_decoder.fc_layers.Layer 0.0.weight"
    resave(folder, lambda s: s["model_state_dict"][output][:, -2:].add_(5.0))
    after = load(folder)
    scores = [m.edge_scores(vocabulary(GENES), GENES[:3]).values for m in (before, after)]
    assert np.array_equal(*scores)
    assert before.module.loadings.shape == (15, 16) and before.card.width == 16
    twin = after.module.output[:3] @ after.module.output.T
    assert not np.allclose(twin, after.module.loadings[:3] @ after.module.loadings.T)


def test_rows_without_anything_to_compare_are_unobserved(tmp_path):
    folder = write_scvi(tmp_path / "m", vocab=GENES)

    def change(saved):
        weight = saved["model_state_dict"]["decoder.px_scale_decoder.0.weight"]
        weight[2] = 0.0
        weight[5] = 1.0  # constant: no correlation

    resave(folder, change)
    scores = load(folder).edge_scores(vocabulary(GENES), ["G0", "G2"])
    assert not scores.observed[1].any()
    assert np.flatnonzero(~scores.observed[0]).tolist() == [0, 2, 5] and np.isfinite(scores.values).all()


def test_genes_by_symbol_ensembl_and_version(tmp_path):
    model = load(write_scvi(tmp_path / "m", vocab=["ENSG00000000001.7", "ENSG00000000002", "CD3E"]))
    genes = vocabulary(["A", "B", "CD3E", "D"], ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", ""])
    assert model.gene_tokens(genes).tolist() == [0, 1, 2, -1]
    assert model.card.namespace == "Ensembl gene id"


def test_a_regulator_outside_the_genes(tmp_path):
    model = load(write_scvi(tmp_path / "m", vocab=GENES))
    with pytest.raises(AlignmentError, match="missing G9"):
        model.edge_scores(vocabulary(GENES[:3]), ["G9"])


def test_both_directions_carry_the_primary_score_as_pooled(tmp_path):
    model = load(write_scvi(tmp_path / "m", vocab=GENES))
    scores = model.edge_scores(vocabulary(GENES), GENES[:4])
    both = as_directions(scores, primary=model.primary, floor=model.floor)
    assert set(both) == {str(d) for d in Direction}
    for name, found in both.items():
        assert found.names == ("pooled", *scvi.SCORES) and found.direction == name and set(found.layers) == {-1}
        assert np.array_equal(found.values[0], np.where(scores.observed, scores.values[0] + 1, 0))
        assert np.array_equal(found.values[1:], scores.values)
    with pytest.raises(ParameterError, match="at least 0"):
        as_directions(scores, primary=model.primary)
    with pytest.raises(ParameterError):
        as_directions(scores, primary="nothing")
    with pytest.raises(ParameterError):
        as_directions(both["regulator_attends"], primary="decoder_cosine")


def test_card_says_that_there_is_no_attention(tmp_path):
    model = load(write_scvi(tmp_path / "m", vocab=GENES))
    assert isinstance(model, AbstractScoreModel)
    assert (model.card.n_layers, model.card.n_heads, model.card.vocabulary_size) == (0, 0, 15)
    assert any("no attention" in n for n in model.card.notes) and len(model.card.sha256) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_the_older_layout_and_a_prefix_give_the_same_model(tmp_path, kind):
    new = load(write_scvi(tmp_path / "new", vocab=GENES, kind=kind, n_batch=1, prefix="my_"))
    old = load(write_scvi(tmp_path / "old", vocab=GENES, kind=kind, n_batch=1, layout="old"))
    assert torch.equal(new.module.loadings, old.module.loadings) and new.names == old.names
    if kind != "CondSCVI":  # without its class the normalisation of hidden layers cannot be seen, which the card says
        assert np.array_equal(new.latent_profiles(), old.latent_profiles())
    assert any("would not be noticed" in n for n in old.card.notes)
    assert models.FAMILIES["scvi"].detect(tmp_path / "old") and models.FAMILIES["scvi"].detect(tmp_path / "new")


def test_the_users_own_checks_pass_and_can_fail(tmp_path, monkeypatch):
    model = load(write_scvi(tmp_path / "m", vocab=GENES, kind="TOTALVI"))
    found = make_cells(np.ones((2, 20)))
    table = verify_scores(model, found)
    assert table["passed"].all() and table.set_index("name")["value"]["genes_known"] == 15
    right = scvi.ScVIModel.edge_scores

    def twin(self, genes, regulators):
        scores = right(self, genes, regulators)
        return dataclasses.replace(scores, values=scores.values + np.arange(len(genes)) * scores.observed)

    monkeypatch.setattr(scvi.ScVIModel, "edge_scores", twin)
    table = verify_scores(model, found)
    assert table.loc[~table["passed"], "name"].tolist() == ["scores_ignore_gene_order"]


def test_analyses_run_on_a_model_without_layers(tmp_path):
    """What needs layers or heads is undefined, with the reason; everything else has an answer."""
    from regulens.analyses.base import ANALYSES, StatisticsSettings, TestRequest
    from regulens.analyses.build import assemble
    from regulens.testing.worlds import make_world

    world = make_world("planted_pairs", seed=1, n_regulators=20, n_genes=80, n_cells=60, n_layers=1, n_edges=150)
    universe, genes = world.universe, world.cells.genes
    model = load(write_scvi(tmp_path / "m", vocab=genes.symbols[:75]))
    column = genes.index(universe.genes)
    scores = model.edge_scores(genes.take(column), universe.regulators)
    request = TestRequest(
        model="m", reference=world.reference.name, direction="target_attends",
        settings=StatisticsSettings(bootstrap=20, permutations=20),
    )  # fmt: skip
    both = as_directions(scores, primary=model.primary, floor=model.floor)
    inp = assemble(
        attention={k: v.on(universe) for k, v in both.items()},
        expression=world.cells.log_normalised(column),
        universe=universe,
        request=request,
        card=model.card,
    )
    undefined = {}
    for name in ("reference_recovery", "coexpression_dominance"):
        outcome = ANALYSES[name].run(dataclasses.replace(inp, parameters=ANALYSES[name].parameters))
        undefined |= {r.id.split("/")[-1]: r.undefined for r in outcome.records if r.undefined}
    assert undefined == {
        "layer_nested_above_chance": "there is no layer to choose from",
        "some_head_above_chance": "no head has a standard error",
    }


REAL = {
    "external/mrvi/mrvi_model": "",
    "model/exp_activation_totalvi_re": "TOTALVI",
    "model/pre_logits_fix_scanvi": "SCANVI",
    "model/saved_model": "TOTALVI",
    "model/test_condscvi": "CondSCVI",
    "test_data/condscvi_pre_batch": "CondSCVI",
    "test_data/exp_activation_totalvi": "TOTALVI",
    "test_data/pre_logits_fix_scanvi": "SCANVI",
}


@pytest.mark.parametrize(("place", "kind"), REAL.items())
def test_real_models_of_the_library(shared_data, place, kind):
    folder = shared_data / "model_files" / "scvi_test_models" / "tests" / place
    with pytest.raises(pickle.UnpicklingError):
        torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    assert models.FAMILIES["scvi"].detect(folder)
    if not kind:
        with pytest.raises(ModelError, match="TorchMRVI"):
            load(folder)
        return
    model, t = load(folder), tensors(folder)
    assert len(model.names) == 100 and kind in model.card.notes[0]
    output = next(k for o in scvi.OUTPUTS if (k := f"{o}.weight") in t)
    loading = t[output][:, : model.card.width]
    scores = model.edge_scores(vocabulary(model.names), model.names[:10])
    assert np.allclose(scores.values[1][scores.observed], np.corrcoef(loading)[:10][scores.observed], atol=1e-9)
    assert scores.observed.sum() == 10 * 99 and np.isfinite(scores.values).all()
    if kind in ("SCANVI", "CondSCVI"):
        layers, n = (1, 1) if kind == "SCANVI" else (2, model.module.blocks[0])
        t |= {k.replace("px_decoder.0.", "px_decoder."): v for k, v in t.items() if k.startswith("px_decoder.0.")}
        if place != "test_data/condscvi_pre_batch":  # which also reads an embedding of the batch
            z = np.linspace(-1, 1, model.module.n_latent)
            want = by_hand(t, "CondSCVI" if kind == "CondSCVI" else "SCVI", z, layers, n)
            assert np.allclose(model.module.logits(torch.from_numpy(z)).numpy(), want, atol=1e-9)


def modalities(saved):
    saved["var_names"] = {"rna": saved["var_names"], "protein": np.array(GENES)}


def test_the_modality_that_holds_the_genes(tmp_path):
    folder = write_scvi(tmp_path / "m", vocab=GENES)
    resave(folder, modalities)
    with pytest.raises(ModelError, match="which modality"):
        load(folder)

    def named(saved):
        saved["attr_dict"]["registry_"]["field_registries"]["X"]["data_registry"]["mod_key"] = "rna"

    resave(folder, named)
    assert load(folder).names == tuple(GENES)


def state(change):
    return lambda folder: resave(folder, lambda s: change(s["model_state_dict"]))


OUT, HIDDEN = "decoder.px_scale_decoder.0.weight", "decoder.px_decoder.fc_layers.Layer 0"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (state(lambda t: t.pop(OUT)), "without it"),
        (state(lambda t: t.pop(f"{HIDDEN}.0.weight")), f"1 missing ({HIDDEN}.0.weight)"),
        (state(lambda t: t.pop(f"{HIDDEN}.1.running_var")), f"1 missing ({HIDDEN}.1.running_var)"),
        (state(lambda t: t.update({OUT: torch.ones(15, 3)})), "1 of the wrong shape"),
        (state(lambda t: t.update({f"{HIDDEN}.1.bias": torch.ones(3)})), "1 of the wrong shape"),
        (state(lambda t: t.update({OUT: t[OUT] * float("nan")})), "NaN"),
        (state(lambda t: t.update(other="text")), "something else under other"),
        (lambda f: resave(f, lambda s: s.update(var_names=np.array(GENES[:4]))), "got 4"),
        (lambda f: resave(f, lambda s: s.update(var_names=np.array(["A"] * 15))), "1 different"),
        (lambda f: resave(f, lambda s: s.pop("var_names")), "var_names"),
        (lambda f: (f / "model.pt").write_bytes((f / "model.pt").read_bytes()[:700]), "truncated"),
        (lambda f: (f / "my_model.pt").write_bytes(b""), "one saved scvi-tools model"),
        (lambda f: (f / "model.pt").unlink(), "got none"),
        (lambda f: (f / "model.pt").rename(f / "model_params.pt"), "list of genes"),
    ],
)
def test_bad_folders_end_in_one_sentence(tmp_path, damage, words):
    folder = write_scvi(tmp_path / "m", vocab=GENES)
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load(folder)
    text = str(caught.value)
    assert text.startswith("Expected ") and words in text and text.endswith(".") and caught.value.exit_code == 2


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("where", ["attr_dict", "var_names", "model_state_dict", "whole", "attr.pkl"])
def test_a_hostile_pickle_is_not_run(tmp_path, where):
    ran = tmp_path / "ran"
    folder = write_scvi(tmp_path / "m", vocab=GENES, layout="old" if where == "attr.pkl" else "new")
    if where == "attr.pkl":
        (folder / "attr.pkl").write_bytes(pickle.dumps(Hostile(str(ran))))
        load(folder)  # the file is not opened at all
    elif where == "whole":
        (folder / "model.pt").write_bytes(pickle.dumps(Hostile(str(ran))))
    else:
        saved = read_torch(folder / "model.pt", what="model")
        saved["attr_dict"].pop("history_")
        saved[where] = {"x": Hostile(str(ran))}
        torch.save(saved, folder / "model.pt")
    if where != "attr.pkl":
        with pytest.raises(ModelError):
            load(folder)
    assert not ran.exists()
    pickle.loads(pickle.dumps(Hostile(str(ran)))).close()
    assert ran.exists()  # the check can fail


def test_another_family_under_this_name(tmp_path):
    from regulens.testing.checkpoints import write_scgpt

    folder = write_scgpt(tmp_path / "m", vocab=GENES)
    assert not models.FAMILIES["scvi"].detect(folder)
    with pytest.raises(ModelError, match="looks like a scGPT"):
        load(folder)
    assert models.detect(write_scvi(tmp_path / "v", vocab=GENES)) == "scvi"
