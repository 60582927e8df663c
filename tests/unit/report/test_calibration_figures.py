"""Figures and tables of calibration and of conformal sets: repeatable, in words, absent where nothing was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.report.figure_style import style, to_svg
from regulens.report.figures import FIGURES
from regulens.report.model import RunView
from regulens.report.table import analysis_tables
from regulens.testing.worlds.screens import make_screen_input

NAMES = ("calibration", "conformal")


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
    inp = make_screen_input(
        "planted_network", seed=1, n_perturbations=14, n_genes=100, second="same",
        settings=StatisticsSettings(bootstrap=100, permutations=99),
    )  # fmt: skip
    return replace(inp, parameters={"methods": ["pearson"], "repeats": 4})


@pytest.fixture(scope="module")
def views(given):
    return {name: view_of(name, given) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_is_the_same_twice_and_has_a_caption(name, views):
    (spec,) = [s for s in FIGURES if s.analysis == name]
    texts = []
    for _ in range(2):
        with style():
            texts.append(to_svg(spec.draw(views[name]), spec.name))
    assert texts[0] == texts[1]
    assert "the world" in texts[0]
    assert spec.caption(views[name]).endswith(".")
    assert "rank" not in spec.caption(views[name])  # scores may be mapped otherwise (`map`)
    assert "_" not in spec.caption(views[name]) + spec.alt


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_titles_heads_and_words(name, views):
    tables = analysis_tables(views[name], name)
    assert tables
    for table in tables:
        assert "_" not in table.title
        assert not [c.head for c in table.columns if "_" in c.head]
        assert not [cell.text for row in table.rows for cell in row if "_" in cell.text.replace("second_screen", "")]
    assert "bin" not in {c.head for t in tables for c in t.columns}  # curves are drawn, not printed


@pytest.mark.parametrize("name", NAMES)
def test_no_figure_where_nothing_could_be_evaluated(name, given):
    nothing = replace(given, universe=replace(given.universe, positive=np.zeros_like(given.universe.positive)))
    (spec,) = [s for s in FIGURES if s.analysis == name]
    with style():
        assert spec.draw(view_of(name, nothing)) is None


@pytest.mark.parametrize("name", NAMES)
def test_undefined_values_are_drawn(name, views):
    holes = {k: t.copy() for k, t in views[name].tables.items()}
    for table in holes.values():
        for column in ("coverage_yes", "empty", "called_right"):
            if column in table and len(table):
                table.loc[table.index[0], column] = np.nan
    (spec,) = [s for s in FIGURES if s.analysis == name]
    with style():
        assert spec.draw(replace(views[name], tables=holes)) is not None
