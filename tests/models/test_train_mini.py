"""The recipe of the demonstration models, on a tiny world; the bundled models and what their records claim."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import make_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.errors import ParameterError  # noqa: E402
from regulens.models.mini_tasks import Sequences, gene_means, make_batch  # noqa: E402
from regulens.models.train_mini import RECIPES, train_mini  # noqa: E402
from regulens.rng import stream  # noqa: E402

TINY = {"width": 8, "layers": 2, "heads": 2, "hidden": 8, "max_length": 64, "epochs": 2, "crop": 24}


def programme_cells(n_cells=60, n_genes=40):
    """Two programmes of genes that exclude each other."""
    rng = np.random.default_rng(0)
    which = rng.integers(0, 2, n_cells)[:, None]
    rate = np.where(np.arange(n_genes)[None, :] % 2 == which, 4.0, 0.5)
    return make_cells(rng.poisson(rate))


@pytest.mark.parametrize("family", ["scgpt", "geneformer"])
def test_same_seed_same_bytes_and_the_folder_loads(tmp_path, family):
    recipe = replace(RECIPES[family], **TINY)
    records = [train_mini(family, out=tmp_path / n, cells=[programme_cells()], recipe=recipe, seed=1) for n in "ab"]
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert records[0]["held_out"]["n"] > 0
    adapter = models.load(str(tmp_path / "a"))
    assert adapter.card.family == family and adapter.card.demonstration
    assert models.verify(adapter, programme_cells())["passed"].all()
    train_mini(family, out=tmp_path / "c", cells=[programme_cells()], recipe=recipe, seed=2)
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()


def test_thread_setting_is_put_back(tmp_path):
    before = torch.get_num_threads()
    train_mini("scgpt", out=tmp_path / "m", cells=[programme_cells()], recipe=replace(RECIPES["scgpt"], **TINY))
    assert torch.get_num_threads() == before


def test_unknown_family_and_occupied_folder_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="Did you mean 'scgpt'"):
        train_mini("scgtp", out=tmp_path / "m")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ParameterError, match="empty or absent folder"):
        train_mini("scgpt", out=tmp_path)


def test_cropped_tokens_keep_order_rank_and_the_first_token():
    cells = Sequences(
        tokens=[np.arange(100, 150), np.arange(200, 205)],
        values=[np.arange(50, dtype=np.float32), np.arange(5, dtype=np.float32)],
        origin=np.array([0, 0]),
    )
    batch = make_batch(cells, np.array([0, 1]), crop=20, fraction=0.4, first=1, rng=stream(0, "t"))
    assert batch.tokens.shape == (2, 20) and int(batch.mask[1].sum()) == 5
    assert (batch.tokens[0] - 100 == batch.ranks[0]).all() and (batch.ranks[0].diff() > 0).all()
    assert batch.tokens[0, 0] == 100 and not batch.hidden[:, 0].any()
    assert batch.hidden.sum(1).tolist() == [8, 2] and not (batch.hidden & ~batch.mask).any()


def test_gene_means_by_hand():
    means = gene_means([np.array([0, 1]), np.array([0])], [np.array([1.0, 4.0]), np.array([3.0])], 3)
    assert means.tolist() == [2.0, 4.0, 8 / 3]


@pytest.mark.parametrize("name", ["scgpt-mini", "geneformer-mini"])
def test_bundled_models_are_small_labelled_and_better_than_each_genes_mean(name):
    card = models.inspect(f"bundled:{name}")
    assert card.demonstration and "demonstration" in card.label()
    assert 200_000 <= card.n_parameters <= 500_000
    folder = Path(models.__file__).parents[1] / "data" / "models" / name
    assert (folder / "model.safetensors").stat().st_size <= 2_000_000
    record = json.loads((folder / "training.json").read_text())
    errors = record["held_out"]
    assert errors["model"] < errors["gene_mean"] and errors["n"] > 1000
    assert all(e["model"] < e["gene_mean"] for e in errors["by_data_set"].values())
    text = (folder / "training.json").read_text()
    assert "/" not in "".join(d["source"] for d in record["data"]) and "seconds" not in text


def test_demonstration_is_read_from_the_record_not_from_the_name(tmp_path):
    from regulens.testing.checkpoints import write_scgpt

    folder = write_scgpt(tmp_path / "scgpt-mini", vocab=["A", "B"])
    assert not models.inspect(str(folder)).demonstration
    (folder / "training.json").write_text('{"demonstration": true}')
    assert models.inspect(str(folder)).demonstration


def test_a_model_of_other_cells_says_which_and_bundled_words_stay_with_bundled_cells(tmp_path):
    cells = programme_cells()
    record = train_mini("scgpt", out=tmp_path / "m", cells=[cells], recipe=replace(RECIPES["scgpt"], **TINY))
    assert cells.name in record["note"] and f"{cells.n_cells:,} cells" in record["note"]
    assert "blood" not in (tmp_path / "m" / "README.md").read_text()


def test_the_command_trains_on_the_control_cells_of_a_screen(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from regulens.cli import models as command
    from regulens.testing.tiny_screen import write_screen_cells

    path = write_screen_cells(tmp_path / "screen.h5ad")
    seen = []
    monkeypatch.setattr("regulens.models.train_mini.train_mini", lambda family, **given: seen.append(given) or {})
    done = CliRunner().invoke(
        command.app, ["train-mini", "scgpt", "--out", str(tmp_path / "m"), "--screen", str(path), "--quiet"]
    )
    assert done.exit_code == 0, done.output
    (cells,) = seen[0]["cells"]
    assert 0 < cells.n_cells < 200  # 144 control cells of 400


def test_cells_and_a_screen_at_once_are_refused(tmp_path):
    from regulens.cli.models import train_mini as command
    from regulens.errors import ParameterError

    with pytest.raises(ParameterError, match="got both"):
        command("scgpt", folder=tmp_path / "m", cells=["a.h5ad"], screen="b.h5ad")
    with pytest.raises(ParameterError, match="--screen"):
        command("scgpt", folder=tmp_path / "m", control="NT")
