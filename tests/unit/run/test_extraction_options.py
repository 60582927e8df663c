"""How attention is read, from the command line to the record: recipe, memory, precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="extraction needs the extra 'models'")

from regulens.cli.main import app
from regulens.cli.options import plan_from
from regulens.run.audit import audit
from regulens.testing.tiny_study import write_tiny_study


def test_flags_are_keys_of_the_plan():
    plan = plan_from(recipe="log_probability", memory="2GB", device="cpu", set_=["extraction.precision=bfloat16"])
    found = plan.extraction
    assert (found.recipe, found.memory, found.device, found.precision) == (
        "log_probability", 2_000_000_000, "cpu", "bfloat16",
    )  # fmt: skip


@pytest.mark.parametrize("command", ["audit", "plan"])
def test_a_wrong_size_or_device_is_one_sentence(command):
    for flags, said in (
        (["--memory", "2XB"], "2GB, 500MB"),
        (["--device", "tpu"], "extraction.device"),
        (["--recipe", "odds"], "extraction.recipe"),
    ):
        result = CliRunner().invoke(app, [command, *flags])
        assert result.exit_code != 0
        assert said in result.output + str(result.exception)


def test_logits_and_half_precision_run_and_are_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = write_tiny_study(Path("study")).with_overrides(
        {"extraction.recipe": "log_probability", "extraction.precision": "bfloat16", "extraction.memory": "1GB"}
    )
    run = audit(plan, out="out", jobs=1)
    for model in run.record["models"]:
        found = model["attention"]
        assert found["kind"] == "log_probability" and found["precision"] == "bfloat16"
        assert 0 < found["precision_median_abs"] <= found["precision_max_abs"]
        assert found["precision_spearman_min"] <= 1
        assert model["spec"].split(":")[0] in ("scgpt", "geneformer")
    margins = run.results[run.results["score"] == "marginal_product"]
    assert len(margins) and np.isfinite(margins["value"].astype(float)).all()
