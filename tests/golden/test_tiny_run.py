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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The whole battery on the tiny study, with one worker."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # names of files enter the digest, folders do not
        return audit(write_tiny_study(Path("study"), battery=True), out=folder / "out", jobs=1)


def test_the_tiny_study_gives_the_frozen_numbers(run):
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


def test_two_workers_give_the_same_bytes(run, tmp_path):
    plan = write_tiny_study(tmp_path / "study", battery=True)
    two = audit(plan, out=tmp_path / "out", jobs=2)
    mine, other = (
        {p.relative_to(r.path): p.read_bytes() for p in sorted(r.path.rglob("*.tsv"))} for r in (run, two)
    )  # fmt: skip
    assert len(mine) > 40
    assert [str(k) for k in mine if other.get(k) != mine[k]] == []
    assert set(mine) == set(other)


def test_the_comparison_can_fail(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = audit(write_tiny_study(Path("study"), seed=1), out="out", jobs=1)
    assert frozen(other)["cells"] != json.loads(GOLDEN.read_text())["cells"]
