"""What does the command line say of a bad screen? One sentence: expected, got, next step; exit code 2, nothing left."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from regulens.cli.main import run
from regulens.testing.tiny_screen import write_screen_cells


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A sound screen."""
    return write_screen_cells(tmp_path_factory.mktemp("screen") / "screen.h5ad")


def without_controls(data):
    return data[data.obs["perturbation"] != "control"].copy()


def only_controls(data):
    return data[data.obs["perturbation"] == "control"].copy()


def logarithms_of_one_replicate(data):
    x = np.asarray(data.X.todense(), dtype=np.float64)
    log = (data.obs["replicate"] == "rep1").to_numpy()
    x[log] = np.log1p(x[log] / x[log].sum(1, keepdims=True) * 1e4)
    data.X = x
    return data


def outside_of_the_panel(data):
    """The perturbed genes are not measured: nothing can be ranked for them."""
    return data[:, ~data.var_names.isin(data.obs["perturbation"].unique())].copy()


def table_of(data, **columns):
    genes = list(data.var_names[:20])
    rows = [(p, g) for p in ("MYC", "JUN") for g in genes]
    return pd.DataFrame(rows, columns=["perturbation", "gene"]).assign(**columns)


CASES = {
    "no control cells": (
        without_controls, [],
        ["Expected control cells in obs['perturbation']", "got labels ATF4", "Name the control label"],
    ),
    "controls only": (only_controls, [], ["Expected a column of perturbed genes", "Name the column"]),
    "unknown control label": (
        lambda d: d, ["--control", "contrl"], ["Expected the control label 'contrl'", "Did you mean 'control'?"],
    ),
    "unknown column": (
        lambda d: d, ["--perturbation-column", "pertubation"], ["'pertubation'", "Did you mean 'perturbation'?"],
    ),
    "unknown replicate": (lambda d: d, ["--replicate", "rep"], ["'rep'", "role replicate", "Name a column"]),
    "wrong modality": (
        lambda d: d, ["--modality", "crispra"],
        ["Expected perturbed genes to go up", "8 went down", "Correct the modality"],
    ),
    "one scale here, another there": (
        logarithms_of_one_replicate, [],
        ["Expected one scale in X", "counts for 'rep2'", "'rep1'", "Write one file each"],
    ),
    "perturbed genes outside of the panel": (
        outside_of_the_panel, [],
        ["Expected at least one perturbation of 'bad'", "8 because the perturbed gene is outside the universe"],
    ),
    "contradictory effects": (
        lambda d: pd.concat([table_of(d, effect=1.0), table_of(d, effect=2.0)]), [],
        ["Expected one effect per perturbation and gene", "got 40 pairs with several", "Combine guides"],
    ),
    "p as logarithms": (
        lambda d: table_of(d, effect=1.0, p=7.0), [], ["Expected p in [0, 1]", "got 40 others", "take them back"],
    ),
    "options about cells of a table": (
        lambda d: table_of(d, effect=1.0), ["--control", "NT"], ["Expected no options about cells", "got control"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_bad_screen_is_refused_in_one_sentence(case, good, tmp_path, monkeypatch, capsys):
    make, options, wanted = CASES[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "600")
    made, path = make(ad.read_h5ad(good)), tmp_path / "bad.h5ad"
    if isinstance(made, pd.DataFrame):
        path = tmp_path / "bad.tsv"
        made.to_csv(path, sep="\t", index=False)
        options = [str(good), *options]
    else:
        made.write_h5ad(path)
    code = run(["audit", *options, "--model", "bundled:scgpt-mini", "--perturbation", str(path), "--out", "run"])
    captured = capsys.readouterr()
    sentences = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert code == 2 and len(sentences) == 1, captured.err
    for words in wanted:
        assert words in sentences[0], sentences[0]
    assert "Traceback" not in captured.err and not (tmp_path / "run").exists()


def test_the_screen_without_a_fault_is_read(good):
    from regulens.analyses.screen_checks import check_screen
    from regulens.io.screens import read_screen
    from regulens.stats.screen_effects import effects_of

    screen = read_screen(good, name="good", modality="crispri")
    _, used, problem, _ = check_screen(effects_of(screen), screen, modality=None)
    assert used == "crispri" and problem == "" and screen.dropped == {}
