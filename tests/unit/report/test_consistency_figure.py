"""In-silico against measured effects, drawn from a real outcome: the same twice, with words where there is no rho."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="in-silico effects run a model, which needs the extra `models`")
from regulens.analyses import rank_consistency as rc  # noqa: E402
from regulens.analyses.base import StatisticsSettings  # noqa: E402
from regulens.report.figure_style import style, to_svg  # noqa: E402
from regulens.report.figures import FIGURES  # noqa: E402
from regulens.report.model import RunView  # noqa: E402
from regulens.report.table import analysis_tables  # noqa: E402
from regulens.testing.planted_head import PlantedHead  # noqa: E402
from regulens.testing.worlds.screens import make_screen_world  # noqa: E402

(SPEC,) = [s for s in FIGURES if s.analysis == "rank_consistency"]


def view_of(*found) -> RunView:
    tables = {("rank_consistency", o.model, o.reference, k): t for o in found for k, t in o.tables.items()}
    return RunView(
        run={
            "models": [{"name": o.model, "label": o.model} for o in found], "references": [],
            "screens": [{"name": found[0].reference}], "settings": {"alpha": 0.05},
        },
        tests=pd.DataFrame(), results=pd.DataFrame(), tables=tables, files=dict.fromkeys(tables, "tables/x.tsv"),
        plan="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcomes():
    inp = make_screen_world("planted_network", n_perturbations=22, n_genes=90, n_controls=150).input(
        settings=StatisticsSettings(bootstrap=200, permutations=99)
    )
    genes, found = inp.universe.genes, {}
    weights = np.random.default_rng(0).normal(size=(90, 90))
    for name, head in (("with-head", True), ("without-head", False)):
        made = replace(inp, adapter=PlantedHead(genes, weights, head=head), request=replace(inp.request, model=name))
        found[name] = rc.run(replace(made, parameters={"cells": 20}))
    return found


def text(view) -> str:
    with style():
        return to_svg(SPEC.draw(view), SPEC.name)


def test_the_figure_is_the_same_twice_and_names_what_it_shows(outcomes):
    view = view_of(outcomes["with-head"])
    first = text(view)
    assert first == text(view)
    for words in ("gene taken away", "values swapped (control)", "co-expression, no model", "between", "sizes only"):
        assert words in first
    assert "not defined" not in first and "genes held fixed" in SPEC.caption(view) and "95 %" in SPEC.caption(view)


def test_a_model_without_direction_says_so(outcomes):
    view = view_of(outcomes["with-head"], outcomes["without-head"])
    assert text(view).count("not defined") == 2  # ablation and swap; co-expression has a direction without the model


def test_nothing_is_drawn_without_numbers(outcomes):
    refused = replace(outcomes["with-head"], tables={k: t.head(0) for k, t in outcomes["with-head"].tables.items()})
    assert SPEC.draw(view_of(refused)) is None


def test_tables_have_titles_and_headings_in_words(outcomes):
    tables = analysis_tables(view_of(outcomes["with-head"]), "rank_consistency")
    assert [t.title for t in tables] == [
        "In-silico against measured effects", "Every perturbation", "What could be seen", "Perturbations exchanged",
    ]  # fmt: skip
    heads = {c.head for t in tables for c in t.columns}
    assert {"held against it", "measure", "zero in silico", "detectable above the null"} <= heads
    assert not [h for h in heads if "_" in h], heads
    cells = {c.text for t in tables for row in t.rows for c in row}
    assert {"gene taken away", "ρ of sizes", "equal signs"} <= cells and not {"ablate", "signed_controlled"} & cells
