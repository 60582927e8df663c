"""Are the figures complete, repeatable, and free of global state?"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from regulens.report import read_run
from regulens.report.figure_style import COLOURS, MARKS, offsets, style, to_svg
from regulens.report.figures import FIGURES as SPECS
from regulens.report.figures import draw_all
from regulens.report.html import strip
from regulens.testing.example_run import ANALYSES as EXAMPLE_ANALYSES

FIGURES = {spec.name: spec.draw for spec in SPECS}
#: Figures that the example run has tables for; the others are drawn from worlds.
OF_THE_EXAMPLE = [spec.name for spec in SPECS if spec.analysis in ("", *EXAMPLE_ANALYSES)]


@pytest.mark.parametrize("name", OF_THE_EXAMPLE)
def test_each_figure_draws_the_same_svg_twice(built: Path, name: str) -> None:
    texts = []
    for _ in range(2):
        with style():
            fig = FIGURES[name](read_run(built))
            assert fig is not None
            texts.append(to_svg(fig, name))
    assert texts[0] == texts[1]
    assert "<metadata>" not in texts[0] and "2026" not in texts[0]
    assert f'id="{name}-figure_1"' in texts[0]


def test_settings_are_left_alone(built: Path) -> None:
    before = dict(mpl.rcParams)
    draw_all(read_run(built))
    assert dict(mpl.rcParams) == before
    code = "import regulens.report.figures, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cascade_draws_an_interval_for_every_estimate(built: Path) -> None:
    view = read_run(built)
    with style():
        fig = FIGURES["cascade"](view)
    assert fig is not None
    spans = {tuple(np.round(line.get_xdata(), 9)) for line in fig.axes[0].lines if len(line.get_xdata()) == 2}
    for row in view.results[view.results["step"] != ""].itertuples():
        assert (round(row.low, 9), round(row.high, 9)) in spans


def test_undefined_rungs_are_said_not_drawn(built: Path) -> None:
    view = read_run(built)
    results = view.results.copy()
    results.loc[results["step"] == "matched", ["value", "low", "high"]] = np.nan
    twin = type(view)(
        run=view.run, tests=view.tests, results=results, tables=view.tables, files=view.files, plan=view.plan
    )
    with style():
        fig = FIGURES["cascade"](twin)
        assert fig is not None
        assert sum(t.get_text() == "not defined" for t in fig.axes[0].texts) == 2


def test_marks_and_colours_are_distinct() -> None:
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKS))
    assert offsets(1) == [0.0]
    assert offsets(3) == pytest.approx([-0.19, 0.0, 0.19])


def test_card_intervals_stay_inside_their_axis() -> None:
    rows = [
        {"row": {"value": 0.9, "low": 0.8, "high": 0.99}, "label": "a", "words": ""},
        {"row": {"value": None, "low": None, "high": None}, "label": "b", "words": "not defined: x"},
    ]
    first, second = strip(rows)
    assert first["defined"] and 0 <= first["from"] <= first["at"] <= first["from"] + first["width"] <= 100
    assert not second["defined"]
