"""A whole run on the tiny study against numbers frozen in ``tiny_run.json``.

Regenerate with ``REGULENS_REGENERATE=1 python -m pytest tests/golden`` and say in the commit why the numbers moved.
Counts, names and verdicts are compared exactly; numbers to 1e-4, since the last digits of float32 matrix products
differ between processors.
"""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="extraction needs the extra 'models'")

from regulens.run.audit import audit
from regulens.testing.tiny_study import write_tiny_study

GOLDEN = Path(__file__).parent / "tiny_run.json"
EXACT = ["analysis", "model", "reference", "score", "step", "metric", "n_pos", "n_neg", "n_regulators", "n_missing"]
CLOSE = ["value", "low", "high", "se0", "mde"]


def frozen(run) -> dict:
    results = run.results[EXACT + CLOSE].astype(object).where(run.results[EXACT + CLOSE].notna(), None)
    tests = (
        run.tests[["id", "p_raw", "q_value"]].astype(object).where(run.tests[["id", "p_raw", "q_value"]].notna(), None)
    )
    return {
        "plan_digest": run.record["plan_digest"],
        "universe": run.record["universes"][0]["digest"],
        "cells": run.record["cells"]["digest"],
        "results": json.loads(results.to_json(orient="records", double_precision=10)),
        "tests": json.loads(tests.to_json(orient="records", double_precision=10)),
        "verdicts": [[v["model"], v["claim"], v["state"]] for v in run.record["verdicts"]],
    }


def test_the_tiny_study_gives_the_frozen_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = audit(write_tiny_study(Path("study")), out="out", jobs=1)
    found = frozen(run)
    if os.environ.get("REGULENS_REGENERATE"):
        GOLDEN.write_text(json.dumps(found, indent=0) + "\n")
    expected = json.loads(GOLDEN.read_text())
    for key in ("plan_digest", "universe", "cells", "verdicts"):
        assert found[key] == expected[key], key
    assert len(found["results"]) == len(expected["results"])
    for mine, golden in zip(found["results"], expected["results"]):
        for name in EXACT:
            assert mine[name] == golden[name], (name, golden)
        for name in CLOSE:
            assert mine[name] == (None if golden[name] is None else pytest.approx(golden[name], abs=1e-4)), (
                name,
                golden,
            )
    for mine, golden in zip(found["tests"], expected["tests"]):
        assert mine["id"] == golden["id"]
        assert mine["p_raw"] == (None if golden["p_raw"] is None else pytest.approx(golden["p_raw"], abs=2e-3)), golden


def test_the_comparison_can_fail(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = write_tiny_study(Path("study"), seed=1)
    run = audit(other, out="out", jobs=1)
    assert frozen(run)["cells"] != json.loads(GOLDEN.read_text())["cells"]
