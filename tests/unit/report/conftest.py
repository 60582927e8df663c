"""A run folder of synthetic numbers with its report, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regulens.report import build_report
from regulens.testing.example_run import write_example_run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_example_run(tmp_path_factory.mktemp("report") / "run", undefined=("layer_nested_above_chance",))
    build_report(folder)
    return folder


@pytest.fixture(scope="session")
def page(built: Path) -> str:
    return (built / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def edited() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        change(record)
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")

    return edit
