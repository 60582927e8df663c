"""Figures of screens: drawn from tables of worlds, the same twice, and nothing where there is nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regulens.analyses import perturbation_baselines, perturbation_recovery
from regulens.report import figure_perturbation_baselines, figure_perturbation_recovery
from regulens.report.figure_style import style, to_svg
from regulens.report.model import RunView
from regulens.report.table import TITLES
from regulens.report.wording import responders_label
from regulens.testing.worlds.screens import make_screen_input

ANALYSES = (perturbation_recovery, perturbation_baselines)
FIGURES = (figure_perturbation_recovery.SPEC, figure_perturbation_baselines.SPEC)


def view_of(tables):
    run = {
        "models": [{"name": "a", "n_layers": 3}, {"name": "b", "n_layers": 3}], "screens": [{"name": "screen"}],
        "references": [], "settings": {"alpha": 0.05},
    }  # fmt: skip
    return RunView(run=run, tests=pd.DataFrame(), results=pd.DataFrame(), tables=tables, files={}, plan="")


def tables_of(inp, model):
    return {
        (a.NAME, model, "screen", name): table for a in ANALYSES for name, table in a.run(inp).tables.items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def view():
    worlds = {"a": ("planted_network", {}), "b": ("no_signal", {"cells": False})}
    tables = {}
    for model, (kind, options) in worlds.items():
        tables |= tables_of(make_screen_input(kind, n_perturbations=12, n_genes=100, **options), model)
    return view_of(tables)


@pytest.mark.parametrize("spec", FIGURES, ids=lambda s: s.name)
def test_each_figure_draws_the_same_twice_and_says_its_endpoint(view, spec):
    texts = []
    for _ in range(2):
        with style():
            texts.append(to_svg(spec.draw(view), spec.name))
    assert texts[0] == texts[1] and "perturbation response" in texts[0]
    assert "reference recovery" not in texts[0]
    assert spec.caption(view).endswith(".")


@pytest.mark.parametrize("spec", FIGURES, ids=lambda s: s.name)
def test_nothing_is_drawn_of_nothing(spec):
    assert spec.draw(view_of({})) is None


def test_few_perturbations_and_undefined_numbers_are_drawn_without_a_crash(view):
    few = make_screen_input("planted_network", n_perturbations=4, n_genes=60)
    tables = tables_of(few, "a")
    with style():
        assert figure_perturbation_recovery.SPEC.draw(view_of(tables)) is not None
        assert figure_perturbation_baselines.SPEC.draw(view_of(tables)) is None
    holes = dict(view.tables)
    for key, table in holes.items():
        if key[3] in ("pert_baselines", "pert_summary", "pert_layers", "de_power"):
            number = {c: np.nan for c in ("low", "high", "delta", "delta_low", "delta_high") if c in table}
            holes[key] = table.assign(**number)
    with style():
        for spec in FIGURES:
            assert spec.draw(replace(view, tables=holes)) is not None


def test_the_points_are_the_perturbations(view):
    with style():
        fig = figure_perturbation_recovery.SPEC.draw(view)
    table = view.tables[("perturbation_recovery", "a", "screen", "pert_auroc")]
    wanted = table[table["score"] == "pooled"]["auroc"].to_numpy()
    drawn = [line.get_ydata() for line in fig.axes[0].lines if len(line.get_ydata()) == len(wanted)]
    assert any(np.array_equal(y, wanted) for y in drawn)


def test_every_table_has_a_title_and_every_kind_of_responders_a_name(view):
    for analysis, _, _, name in view.tables:
        assert name in TITLES[analysis]
    kinds = set(view.tables[("perturbation_baselines", "a", "screen", "de_power")]["responders"])
    assert len(kinds) == 6 and all(responders_label(k) != k.replace("_", " ") for k in kinds)
