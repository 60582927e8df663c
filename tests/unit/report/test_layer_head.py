"""The map shows layers where they are; the pooled score is no layer."""

import dataclasses

import pandas as pd

from regulens.report.figure_layer_head import layer_head
from regulens.report.model import read_run
from regulens.testing.example_run import write_example_run


def shown(figure):
    return [[t.get_text() for t in ax.texts] for ax in figure.axes]


def test_the_pooled_score_does_not_stand_in_for_the_last_layer(tmp_path):
    view = read_run(write_example_run(tmp_path / "run", n_layers=3, n_heads=2))
    before = shown(layer_head(view))
    tables = {k: v.copy() for k, v in view.tables.items()}
    for name, table in tables.items():
        if name[-1] == "recovery":
            pooled = table["score"] == "pooled"
            table["layer"] = table["layer"].fillna(-1).astype(int)
            table.loc[pooled, "auroc"] = 0.123
    after = shown(layer_head(dataclasses.replace(view, tables=tables)))
    assert after == before
    assert not any(".12" in text for panel in after for text in panel)


def test_a_model_without_layers_has_no_map(tmp_path):
    view = read_run(write_example_run(tmp_path / "run", n_layers=3, n_heads=2))
    tables = {
        k: v.assign(layer=-1, head=-1) if k[-1] == "recovery" else v for k, v in view.tables.items()
    }  # fmt: skip
    assert layer_head(dataclasses.replace(view, tables=tables)) is None
    assert isinstance(tables, dict) and all(isinstance(t, pd.DataFrame) for t in tables.values())
