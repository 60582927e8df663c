"""Figures and tables of increments and matched propensities: repeatable, in words, absent where nothing was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regulens.analyses.base import ANALYSES
from regulens.report.figure_style import style, to_svg
from regulens.report.figures import FIGURES
from regulens.report.model import RunView
from regulens.report.table import analysis_tables
from regulens.testing.worlds.screens import make_screen_input

NAMES = ("incremental_value", "propensity_matched")


def view_of(name, inp) -> RunView:
    """A run that holds one analysis of one world."""
    found = ANALYSES[name].run(inp)
    tables = {(name, found.model, found.reference, k): t for k, t in found.tables.items()}
    return RunView(
        run={
            "models": [{"name": found.model, "label": "the world"}], "references": [],
            "screens": [{"name": found.reference}], "settings": {"alpha": 0.05},
        },
        tests=pd.DataFrame(), results=pd.DataFrame([r.to_row() for r in found.results]), tables=tables,
        files=dict.fromkeys(tables, "tables/x.tsv"), plan="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def given():
    inp = make_screen_input("planted_network", seed=0, n_perturbations=12, n_genes=80, cells=False)
    return replace(inp, parameters={"draws": 12, "tree_draws": 10})


@pytest.fixture(scope="module")
def views(given):
    return {name: view_of(name, given) for name in NAMES}


def spec_of(name):
    (spec,) = [s for s in FIGURES if s.analysis == name]
    return spec


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_is_the_same_twice_and_says_what_it_is(name, views):
    spec, texts = spec_of(name), []
    for _ in range(2):
        with style():
            texts.append(to_svg(spec.draw(views[name]), spec.name))
    assert texts[0] == texts[1]
    assert "the world" in texts[0] and "perturbation response" in texts[0]
    assert spec.caption(views[name]).endswith(".") and "_" not in spec.caption(views[name]) + spec.alt


def test_the_band_is_that_of_the_analysis(views):
    with style():
        text = to_svg(spec_of("incremental_value").draw(views["incremental_value"]), "x")
    assert "equivalence: ±0.005 AUROC" in text


def test_a_match_without_balance_is_marked(views):
    view = views["propensity_matched"]
    tables = {k: t.assign(balanced=False) if k[3] == "matched_pert" else t for k, t in view.tables.items()}
    with style():
        assert "(not balanced)" in to_svg(spec_of("propensity_matched").draw(replace(view, tables=tables)), "x")
        assert "(not balanced)" not in to_svg(spec_of("propensity_matched").draw(view), "x")


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_heads_in_words(name, views):
    tables = analysis_tables(views[name], name)
    assert tables
    for table in tables:
        assert "_" not in table.title
        assert not [c.head for c in table.columns if "_" in c.head]


@pytest.mark.parametrize("name", NAMES)
def test_undefined_values_are_drawn_and_nothing_is_no_figure(name, views, given):
    holes = {k: t.copy() for k, t in views[name].tables.items()}
    for table in holes.values():
        for column in ("delta", "delta_low", "low", "high", "coexpression_low", "smd_after"):
            if column in table and len(table):
                table.loc[table.index[0], column] = np.nan
    with style():
        assert spec_of(name).draw(replace(views[name], tables=holes)) is not None
        nothing = replace(given, universe=replace(given.universe, positive=np.zeros_like(given.universe.positive)))
        assert spec_of(name).draw(view_of(name, nothing)) is None
