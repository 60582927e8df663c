"""Figures and tables of single analyses, drawn from worlds: repeatable, in words, absent where nothing was found."""

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
from regulens.testing.worlds import make_world

NAMES = ("tf_resolution", "reference_sensitivity", "layer_hierarchy", "metric_dependence")
FAST = StatisticsSettings(bootstrap=200, permutations=99)


def view_of(name, inp) -> RunView:
    """A run that holds one analysis of one world."""
    found = ANALYSES[name].run(inp)
    tables = {(name, found.model, found.reference, k): t for k, t in found.tables.items()}
    return RunView(
        run={
            "models": [{"name": found.model, "label": "the world"}],
            "references": [{"name": found.reference}],
            "settings": {"alpha": 0.05},
        },
        tests=pd.DataFrame(), results=pd.DataFrame([r.to_row() for r in found.results]), tables=tables,
        files=dict.fromkeys(tables, "tables/x.tsv"), plan="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def given():
    inp = make_world("reference_dependent", seed=0, n_layers=7, n_heads=1).input(settings=FAST)
    return replace(inp, parameters={"draws": 20, "dropped": [0.3, 0.7]})


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
    assert f'id="{spec.name}-figure_1"' in texts[0]
    assert "the world" in texts[0]
    assert spec.caption(views[name]).endswith(".")
    assert "_" not in spec.caption(views[name]) + spec.alt


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_titles_and_heads_in_words(name, views):
    tables = analysis_tables(views[name], name)
    assert tables
    for table in tables:
        assert "_" not in table.title
        assert not [c.head for c in table.columns if "_" in c.head]
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("name", NAMES)
def test_no_figure_where_nothing_could_be_evaluated(name, given):
    nothing = replace(given, universe=replace(given.universe, positive=np.zeros_like(given.universe.positive)))
    (spec,) = [s for s in FIGURES if s.analysis == name]
    with style():
        assert spec.draw(view_of(name, nothing)) is None


@pytest.mark.parametrize("name", NAMES)
def test_many_regulators_and_undefined_values_are_drawn(name, views):
    view = views[name]
    holes = {k: t.copy() for k, t in view.tables.items()}
    for table in holes.values():
        for column in ("low", "high", "band_low", "excess", "shrunk", "p"):
            if column in table and len(table):
                table.loc[table.index[0], column] = np.nan
    (spec,) = [s for s in FIGURES if s.analysis == name]
    with style():
        assert spec.draw(replace(view, tables=holes)) is not None
