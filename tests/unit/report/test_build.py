"""Does a run folder give one complete, self-contained, repeatable report, whatever is missing from it?"""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from regulens.errors import StoreError, VersionError
from regulens.report import build_report
from regulens.testing.example_run import ANALYSES, write_example_run

LONG = "geneformer-v2-316m-clcancer-in-a-folder-with-a-very-long-name-2024-11-30"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Visible text, attributes that load something, unbalanced tags, ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.text: list[str] = []
        self.loads: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.headings_without_scope = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"] or "")
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            value = found.get(name) or ""
            if value and not value.startswith(("#", "data:")):
                self.loads.append(f"{tag} {name}={value}")
        if tag == "th" and "scope" not in found:
            self.headings_without_scope += 1
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.stack):
            self.text.append(data)


def external(html: str) -> list[str]:
    """Everything in a page that a browser would fetch."""
    found = Page(html).loads
    found += re.findall(r"url\(\s*['\"]?(?!#|data:)[^)]*\)", html)
    return found + re.findall(r"@import[^;]*;", html) + re.findall(r"fetch\(|XMLHttpRequest", html)


def holes(html: str) -> list[str]:
    """Words that betray a missing value."""
    return re.findall(r"\b(?:NaN|nan|None|NaT|inf|undefined)\b|<NA>|Undefined\(", "\n".join(Page(html).text))


def test_all_files_are_written(built: Path) -> None:
    names = {p.name for p in (built / "figures").iterdir()}
    stems = ("cascade", "layer_head", "baselines", "matched", "dominance")
    assert names == {f"{s}.{e}" for s in stems for e in ("svg", "png")}
    assert (built / "report.md").is_file()


def test_same_folder_same_bytes(built: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "run"
    shutil.copytree(built, other)
    for path in build_report(other).values():
        assert path.read_bytes() == (built / path.relative_to(other)).read_bytes(), path.name


def test_nothing_is_loaded(page: str) -> None:
    assert external(page) == []


@pytest.mark.parametrize(
    "twin",
    ['<script src="https://x.org/a.js"></script>', '<img src="figures/a.png">', "<style>@import 'a.css';</style>"],
)
def test_a_loading_twin_is_caught(page: str, twin: str) -> None:
    assert external(page.replace("</body>", twin + "</body>"))


def test_no_missing_value_is_printed(page: str, built: Path) -> None:
    assert holes(page) == []
    text = (built / "report.md").read_text(encoding="utf-8")
    assert not re.findall(r"\b(?:NaN|nan|None|inf)\b|<NA>", text)
    assert holes(page.replace("</main>", "<p>nan</p></main>")) == ["nan"]  # the check can fail


def test_page_is_well_formed_and_labelled(page: str) -> None:
    found = Page(page)
    assert not found.problems and not found.stack
    assert found.headings_without_scope == 0
    assert len(found.ids) == len(set(found.ids))
    assert page.count('role="img" aria-label="') == page.count("<svg") == page.count("<figcaption>")


def test_no_machine_path_in_the_report(page: str, built: Path) -> None:
    for text in (page, (built / "report.md").read_text(encoding="utf-8")):
        assert str(built) not in text and "/tmp" not in text


def test_undefined_test_says_why(page: str) -> None:
    assert "not defined: too few positives (3 of 5)" in page


@pytest.mark.parametrize(
    "options",
    [
        {"models": ("scgpt-mini",), "analyses": ("reference_recovery",)},
        {"models": ("scgpt-mini",), "analyses": ("expression_matched", "coexpression_dominance")},
        {"analyses": ()},
        {
            "models": (LONG,),
            "references": ("a", "b", "c"),
            "n_layers": 18,
            "n_heads": 18,
            "demonstration": False,
            "analyses": ("reference_recovery", "gene_level_baselines"),
        },
        {"models": ("a", "b", "c"), "references": ("x",), "n_layers": 1, "n_heads": 1},
    ],
    ids=["one analysis", "no recovery", "nothing ran", "18 x 18, three references", "three models, one head"],
)
def test_whatever_is_missing_the_report_stands(tmp_path: Path, options: dict[str, object]) -> None:
    folder = write_example_run(tmp_path / "run", **options)  # type: ignore[arg-type]
    written = build_report(folder)
    html = written["report.html"].read_text(encoding="utf-8")
    assert holes(html) == [] and external(html) == [] and not Page(html).problems
    for name in set(ANALYSES) - set(options.get("analyses", ANALYSES)):  # type: ignore[call-overload]
        assert name.replace("_", " ") in html
        assert "not asked for in the plan" in html


def test_long_tables_are_cut_and_name_the_complete_file(tmp_path: Path) -> None:
    folder = write_example_run(
        tmp_path / "run", models=("m",), n_layers=18, n_heads=18, analyses=("reference_recovery",)
    )
    html = build_report(folder)["report.html"].read_text(encoding="utf-8")
    assert "50 of 686 rows" in html
    assert "tables/reference_recovery__m__dorothea__recovery.tsv" in html
    assert (folder / "tables" / "reference_recovery__m__dorothea__recovery.tsv").is_file()


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = write_example_run(
        tmp_path / "run",
        models=("<script>alert(1)</script>",),
        references=("a&b<i>",),
        analyses=("expression_matched",),
    )
    html = build_report(folder)["report.html"].read_text(encoding="utf-8")
    assert "<script>alert" not in html and "<i>," not in html
    assert "&lt;script&gt;alert(1)" in html and not Page(html).problems


def test_refuses_what_is_no_finished_run(tmp_path: Path, built: Path) -> None:
    with pytest.raises(StoreError, match="finished run"):
        build_report(tmp_path)
    other = tmp_path / "run"
    shutil.copytree(built, other)
    record = json.loads((other / "run.json").read_text(encoding="utf-8"))
    (other / "run.json").write_text(json.dumps(record | {"schema_version": 99}), encoding="utf-8")
    with pytest.raises(VersionError, match="99"):
        build_report(other)


def test_a_listed_table_that_is_gone_is_refused(tmp_path: Path, built: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(built, other)
    next((other / "tables").glob("*__matched.parquet")).unlink()
    before = (other / "report.html").read_bytes()
    with pytest.raises(StoreError, match="matched"):
        build_report(other)
    assert (other / "report.html").read_bytes() == before


def test_words_under_a_number_heading_are_printed_as_words() -> None:
    from regulens.report.columns import COLUMNS
    from regulens.report.table import cell

    assert cell("L00_mean", COLUMNS["layer"][1]).text == "0"
    assert cell("twelve", COLUMNS["n_pos"][1]).text == "twelve"
    assert cell(None, COLUMNS["auroc"][1]).text == "–"
