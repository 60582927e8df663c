"""Figures of designs and of choices in another screen, from worlds: every number is drawn, the rest is counted."""

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

NAMES = ("design_sensitivity", "dataset_generalisation")
FEW = {"controls": [100, 400], "genes": [60, 120]}


@pytest.fixture(scope="module")
def view():
    inp = make_screen_input(
        "planted_network", seed=2, n_perturbations=20, n_genes=120, second="same",
        settings=StatisticsSettings(bootstrap=100, permutations=99),
    )  # fmt: skip
    tables, results = {}, []
    for name in NAMES:
        found = ANALYSES[name].run(replace(inp, parameters=FEW if name == "design_sensitivity" else {}))
        tables |= {(name, found.model, found.reference, k): t for k, t in found.tables.items()}
        results += [r.to_row() for r in found.results]
    run = {"models": [{"name": found.model, "label": "the world"}], "references": [],
           "screens": [{"name": found.reference}], "settings": {"alpha": 0.05}}  # fmt: skip
    return RunView(
        run=run, tests=pd.DataFrame(), results=pd.DataFrame(results), tables=tables,
        files=dict.fromkeys(tables, "tables/x.tsv"), plan="",
    )  # fmt: skip


def spec_of(name):
    (spec,) = [s for s in FIGURES if s.analysis == name]
    return spec


def drawn(view, name):
    with style():
        return spec_of(name).draw(view)


def without(view, name):
    return replace(view, tables={k: t for k, t in view.tables.items() if k[0] != name})


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_is_the_same_twice_has_a_caption_and_is_none_without_numbers(name, view):
    texts = []
    for _ in range(2):
        with style():
            texts.append(to_svg(spec_of(name).draw(view), spec_of(name).name))
    assert texts[0] == texts[1]
    assert "intervals" in spec_of(name).caption(view)
    assert drawn(without(view, name), name) is None


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_printed_under_headings_of_their_own(name, view):
    shown = analysis_tables(view, name)
    assert len(shown) == len([k for k in view.tables if k[0] == name and len(view.tables[k])])
    for table in shown:
        assert not [c.head for c in table.columns if c.head.endswith((" low", " high"))]


def test_every_design_is_a_point_of_both_curves(view):
    grid = next(t for k, t in view.tables.items() if k[3] == "design_grid")
    fig = drawn(view, "design_sensitivity")
    with_number = grid[grid["auroc"].notna()]
    sizes = [line.get_ydata() for line in fig.axes[0].lines if line.get_marker() in ("o", "s")]
    curves = [y for y in sizes if len(y) == len(with_number)]
    for column in ("lead_coexpression", "lead_gene_level"):
        assert any(np.allclose(np.sort(y), np.sort(with_number[column])) for y in curves), column


def test_designs_without_a_number_are_counted_on_the_axis(view):
    key = next(k for k in view.tables if k[3] == "design_grid")
    grid = view.tables[key]
    cells = grid["part"] == "grid"
    n = int(cells.sum())
    for lost in (grid["auroc"].isna(), cells & (np.arange(len(grid)) % 2 == 0)):
        twin = grid.assign(auroc=grid["auroc"].mask(lost))
        fig = drawn(replace(view, tables=view.tables | {key: twin}), "design_sensitivity")
        left = int(twin.loc[cells, "auroc"].notna().sum())
        assert left < n
        assert f"{left} of {n} designs have a number" in fig.axes[1].get_xlabel()
    whole = grid[grid["auroc"].notna()]
    fig = drawn(replace(view, tables=view.tables | {key: whole}), "design_sensitivity")
    assert f"{len(whole) - 1} designs," in fig.axes[1].get_xlabel()


def test_own_and_shared_pairs_stand_beside_each_other(view):
    fig = drawn(view, "dataset_generalisation")
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in fig.axes]
    assert [t.split(":")[0] for t in titles] == ["each screen's own pairs", "pairs that the screens share"]
    labels = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert len(labels) == 6
    assert any("best head or layer" in t for t in labels)
