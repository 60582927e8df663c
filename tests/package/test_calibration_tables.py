"""The documented calibration covers every confirmatory test and claim, and its page shows the table that is kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from regulens.analyses.base import ANALYSES, TestRequest
from regulens.testing.worlds.expectations import CLAIM, EXPECTATIONS, SETTINGS
from regulens.testing.worlds.measure import COLUMNS
from regulens.testing.worlds.page import refreshed
from regulens.verdicts import RULES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(DOCS / "calibration_analyses.tsv", sep="\t", keep_default_na=False)


def lacking(table: pd.DataFrame) -> set[tuple[str, str]]:
    """Confirmatory tests and claims of the registry that the table has no row of."""
    request = TestRequest(model="m", reference="r")
    registered = {(CLAIM, rule.claim) for rule in RULES}
    for name in ANALYSES.names():
        spec = ANALYSES[name]
        if spec.scope == "simulation":  # brings worlds of its own, and its tests are their calibration
            continue
        registered |= {(name, t.id.rsplit("/", 1)[1]) for t in spec.plan(request) if t.confirmatory}
    return registered - set(zip(table["analysis"], table["test"]))


def test_every_confirmatory_test_and_claim_was_measured(table):
    assert tuple(table.columns) == COLUMNS
    assert lacking(table) == set()


def test_the_check_notices_a_test_that_was_not_measured(table):
    assert lacking(table[table["test"] != "above_degree"]) == {("degree_null", "above_degree")}


def test_what_was_measured_is_what_is_declared_now(table):
    declared = {
        (e.analysis, e.test, w, "answers" if w in e.answers else "silent")
        for e in EXPECTATIONS
        for w in (*e.answers, *e.silent)
    }
    assert set(zip(table["analysis"], table["test"], table["world"], table["expected"])) == declared
    assert set(table["world"]) <= set(SETTINGS)


def test_the_page_shows_this_table(table):
    page = (DOCS / "calibration.md").read_text()
    assert refreshed(page, table) == page
    assert refreshed(page, table.assign(share=0.123)) != page
