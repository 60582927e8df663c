"""One version everywhere, a pin for every dependency, and no path of anybody's machine in the files."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import regulens

ROOT = Path(__file__).parents[2]
TEXT = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".json", ".html", ".j2", ".css", ".js", ""}
#: Folders that exist on one machine only. Put together here, so that this file does not hold one.
MACHINE = re.compile("(?<![\\w./])/(?:" + "|".join(("work", "root", "home/\\w+", "Users/\\w+", "tmp")) + ")/")


def machine_paths(text: str) -> list[str]:
    """Paths in `text` that exist on one machine only."""
    return MACHINE.findall(text)


def test_versions_agree():
    version = regulens.__version__
    assert metadata.version("regulens") == version
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == version
    changes = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert changes[0] == version


def test_citation_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["cff-version"]) == "1.2.0"
    assert citation["message"] and citation["title"] and citation["authors"]
    for author in citation["authors"]:
        assert "name" in author or "family-names" in author
    assert citation["license"] == "BSD-3-Clause"


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    wanted += project["build-system"]["requires"]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[;~! ]", w)[0]).lower() for w in wanted}
    assert names - pinned == set()
    assert pins["torch"] == "2.13.0"
    assert "regulens" not in pinned


def files() -> list[Path]:
    folders = [ROOT / name for name in ("src", "tests", "docs", "benchmarks", "scripts", ".ci")]
    found = [p for folder in folders for p in folder.rglob("*") if p.is_file() and p.suffix in TEXT]
    found += [ROOT / name for name in ("README.md", "CHANGELOG.md", "CITATION.cff", "Makefile", "pyproject.toml")]
    return [p for p in found if "__pycache__" not in p.parts]


def test_no_machine_paths():
    lost = {str(p.relative_to(ROOT)): machine_paths(p.read_text(encoding="utf-8", errors="ignore")) for p in files()}
    assert {name: found for name, found in lost.items() if found} == {}


@pytest.mark.parametrize("folder", ["root", "tmp", "home/someone", "work"])
def test_the_search_for_machine_paths_can_fail(folder):
    assert machine_paths(f'open("/{folder}/cells.h5ad")')


def test_the_search_lets_web_addresses_pass():
    assert machine_paths("https://example.org/home/someone/x and docs/tmp/y") == []
