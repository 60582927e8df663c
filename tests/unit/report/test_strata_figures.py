"""Figures of strata, simulations and numbers of cells, drawn from worlds: repeatable, in words, watermarked."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from regulens.analyses.base import ANALYSES, SIMULATION, SimulationInput, StatisticsSettings, TestRequest
from regulens.report.figure_style import style, to_svg
from regulens.report.figures import FIGURES, draw_all
from regulens.report.model import RunView
from regulens.report.table import analysis_tables
from regulens.testing.worlds import make_world

NAMES = ("cssi", "synthetic_cssi", "cell_count_scaling", "composition_control")


def view_of(found) -> RunView:
    """A run that holds one outcome."""
    name = found.analysis
    tables = {(name, found.model, found.reference, k): t for k, t in found.tables.items()}
    lists = [] if found.model == SIMULATION else [found.model]
    return RunView(
        run={
            "models": [{"name": m, "label": "the world"} for m in lists],
            "references": [{"name": found.reference} for _ in lists], "settings": {"alpha": 0.05},
        },
        tests=pd.DataFrame(), results=pd.DataFrame([r.to_row() for r in found.results]), tables=tables,
        files=dict.fromkeys(tables, "tables/x.tsv"), plan="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def views():
    inp = make_world("state_specific", seed=0, n_regulators=25, n_genes=100, n_edges=120, n_layers=2, n_heads=1).input(
        settings=StatisticsSettings(bootstrap=200)
    )
    few = {"draws": 30, "null_negatives": 800, "strata": ["annotation"], "primary_strata": "annotation",
           "variants": ["max", "mean"]}  # fmt: skip
    found = {
        "cssi": ANALYSES["cssi"].run(replace(inp, parameters=few)),
        "cell_count_scaling": ANALYSES["cell_count_scaling"].run(inp),
        "composition_control": ANALYSES["composition_control"].run(inp),
        "synthetic_cssi": ANALYSES["synthetic_cssi"].run(
            SimulationInput(request=TestRequest(model=SIMULATION, reference=SIMULATION), parameters={"worlds": 5})
        ),
    }
    return {name: view_of(o) for name, o in found.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_is_the_same_twice_and_has_a_caption(name, views):
    (spec,) = [s for s in FIGURES if s.analysis == name]
    texts = []
    for _ in range(2):
        with style():
            texts.append(to_svg(spec.draw(views[name]), spec.name))
    assert texts[0] == texts[1]
    assert f'id="{spec.name}-figure_1"' in texts[0]
    assert spec.caption(views[name]).endswith(".")
    assert "_" not in spec.caption(views[name]) + spec.alt


@pytest.mark.parametrize("name", NAMES)
def test_a_run_without_the_analysis_has_no_figure(name, views):
    (spec,) = [s for s in FIGURES if s.analysis == name]
    assert spec.draw(replace(views[name], tables={})) is None


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_headings_in_words(name, views):
    made = analysis_tables(views[name], name)
    assert made
    for table in made:
        assert not [c.head for c in table.columns if "_" in c.head], table.title


def test_simulations_are_watermarked(views):
    view = views["synthetic_cssi"]
    assert all(t.title.startswith("Simulated: ") for t in analysis_tables(view, "synthetic_cssi"))
    drawn = draw_all(view)["synthetic_cssi"]
    assert "SIMULATED" in drawn.svg
    assert drawn.caption.endswith("nothing of the study's cells, models or references was read.")
    other = [t.title for t in analysis_tables(views["cssi"], "cssi")]
    assert not any(t.startswith("Simulated") for t in other)
