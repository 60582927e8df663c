"""Do sentences follow the states that rules gave, and nothing else?"""

from __future__ import annotations

import itertools
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from regulens.report import claims, read_run, sections, wording
from regulens.report.html import render_html
from regulens.testing.example_run import CLAIMS, write_example_run

MARK = "(small demonstration model)"


def test_every_verdict_stands_with_its_rule(page: str, built: Path) -> None:
    text = unescape(page)
    for verdict in read_run(built).run["verdicts"]:
        assert verdict["rule"] in text
        assert all(r in text for r in verdict["reasons"])
    assert page.count('<article class="card') == len(read_run(built).run["verdicts"])


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_sentences_differ_by_state(built: Path, claim: str) -> None:
    view = read_run(built)
    base = {"claim": claim, "title": "t", "model": "scgpt-mini", "reference": "dorothea"}
    said = {s: claims.verdict_sentence(view, base | {"state": s}) for s in wording.STATES}
    assert len(set(said.values())) == 3
    assert all(MARK in s and "dorothea" in s for s in said.values())
    for a, b in itertools.permutations(said.values(), 2):
        assert a not in b


def test_flipping_a_state_flips_the_words(built: Path, tmp_path: Path, edited: Any) -> None:
    other = tmp_path / "run"
    shutil.copytree(built, other)
    first = read_run(built).run["verdicts"][0]
    assert first["state"] == "not supported"
    edited(other, lambda r: r["verdicts"][0].update(state="supported"))
    before = claims.verdict_sentence(read_run(built), first)
    after = claims.verdict_sentence(read_run(other), first | {"state": "supported"})
    old = (built / "report.html").read_text(encoding="utf-8")
    new = render_html(read_run(other), {})
    assert before in old and before not in new
    assert after in new and after not in old
    counts = [len(re.findall(r'<article class="card supported"', p)) for p in (old, new)]
    assert counts[1] == counts[0] + 1
    assert claims.answers(read_run(built)) != claims.answers(read_run(other))


def test_an_unknown_claim_is_printed_with_its_state(built: Path) -> None:
    verdict = {"claim": "new", "title": "A new claim", "model": "scgpt-mini", "reference": "r", "state": "inconclusive"}
    sentence = claims.verdict_sentence(read_run(built), verdict)
    assert "A new claim" in sentence and "inconclusive" in sentence and MARK in sentence


def test_demonstration_models_are_marked_and_said_once(page: str, built: Path, tmp_path: Path) -> None:
    notice = "Nothing on this page generalises"
    assert page.count(notice) == 1
    for card in sections.cards(read_run(built)):
        assert MARK in card["sentence"] and MARK in card["model"]
    other = write_example_run(tmp_path / "run", demonstration=False, analyses=())
    html = render_html(read_run(other), {})
    assert notice not in html and MARK not in html


def test_a_label_without_its_mark_gets_it(built: Path, tmp_path: Path, edited: Any) -> None:
    other = tmp_path / "run"
    shutil.copytree(built, other)
    edited(other, lambda r: r["models"][0].update(label="scgpt-mini"))
    assert read_run(other).label("scgpt-mini").endswith(MARK)


def test_synthetic_runs_are_watermarked(page: str, built: Path, tmp_path: Path, edited: Any) -> None:
    assert page.count("Synthetic example: every number") == 1
    other = tmp_path / "run"
    shutil.copytree(built, other)
    edited(other, lambda r: r.pop("synthetic"))
    assert "Synthetic example" not in render_html(read_run(other), {})


def test_ledger_counts_are_those_of_the_table(built: Path) -> None:
    view = read_run(built)
    counts = wording.ledger_counts(view)
    assert counts["planned"] == len(view.tests) == len(sections.ledger(view).rows)
    assert counts["undefined"] == 2
    assert counts["recorded"] == counts["planned"]
    assert counts["families"] == 1
    assert str(counts["planned"]) in wording.ledger_sentence(view)


def test_published_protocol_never_enters_the_cascade(built: Path, tmp_path: Path) -> None:
    view = read_run(built)
    changed = view.results.assign(protocol="published")
    twin = type(view)(
        run=view.run, tests=view.tests, results=changed, tables=view.tables, files=view.files, plan=view.plan
    )
    assert view.step("scgpt-mini", "dorothea", "pooled") is not None
    assert twin.step("scgpt-mini", "dorothea", "pooled") is None


def test_card_numbers_are_those_of_the_results(built: Path) -> None:
    view = read_run(built)
    row = view.step("scgpt-mini", "dorothea", "pooled")
    assert row is not None
    card = sections.cards(view)[0]
    assert card["numbers"][0]["words"].startswith(f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    assert dict(card["facts"])["n⁺"] == f"{row['n_pos']:,}"


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (("supported",), "“T”: supported, for the one model and reference of this run."),
        (("inconclusive", "inconclusive"), "“T”: inconclusive for both pairs of model and reference."),
        (("inconclusive",) * 3, "“T”: inconclusive for all 3 pairs of model and reference."),
        (
            ("supported", "not supported", "inconclusive", "inconclusive"),
            "“T”: supported for 1, not supported for 1 and inconclusive for 2 of 4 pairs of model and reference.",
        ),
    ],
)
def test_answers_count_states(built: Path, states: tuple[str, ...], said: str) -> None:
    view = read_run(built)
    verdicts = [{"claim": "c", "title": "T", "model": "m", "reference": "r", "state": s} for s in states]
    twin = type(view)(
        run=view.run | {"verdicts": verdicts}, tests=view.tests, results=view.results, tables={}, files={}, plan=""
    )
    assert claims.answers(twin) == [said]


def test_every_claim_has_a_sentence_for_every_state():
    from regulens.types.results import VerdictState
    from regulens.verdicts import RULES

    lost = [(r.claim, str(s)) for r in RULES for s in VerdictState if (r.claim, str(s)) not in claims._SENTENCES]
    assert lost == []
