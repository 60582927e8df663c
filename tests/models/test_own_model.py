"""The adapter printed in docs/own_model.md works as printed: suite, extraction, loading by name, command."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402
from small_cells import poisson_cells  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from regulens import models  # noqa: E402
from regulens.attention.extract import extract  # noqa: E402
from regulens.cli import models as command  # noqa: E402
from regulens.cli.own_model import build_adapter  # noqa: E402
from regulens.errors import ModelError, ParameterError  # noqa: E402
from regulens.registry import Registry  # noqa: E402
from regulens.testing.toy_model import toy_cells  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "own_model.md"
SYMBOLS = [f"G{i}" for i in range(40)]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The first two blocks of the page as the file ``my_model.py`` in the working folder."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)
    file = tmp_path / "my_model.py"
    file.write_text("\n".join(blocks[:2]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("my_model", None)


def test_the_printed_adapter_passes_the_suite(page):
    import my_model

    table = models.check_adapter(my_model.build(SYMBOLS, n_layers=12), poisson_cells(3))
    assert table["passed"].all(), table[~table["passed"].astype(bool)]


def test_the_printed_adapter_can_be_extracted(page):
    import my_model

    cells = toy_cells(n_cells=12, n_genes=20)
    adapter = my_model.build(cells.genes.symbols)
    found = extract(adapter, cells, genes=cells.genes.symbols, regulators=cells.genes.symbols[:4], seed=0)
    assert found.summary.card.n_layers == 3
    assert found.summary.pair_counts().max() > 0
    assert np.isfinite(np.asarray(found.summary.sums)).all()


def test_the_printed_family_loads_by_name_and_by_its_files(page, tmp_path, monkeypatch):
    import my_model

    made = my_model.build(SYMBOLS)
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file(made.net.state_dict(), folder / "my_model.safetensors")
    (folder / "my_model.json").write_text(json.dumps({"n_layers": 3, "n_heads": 2, "genes": SYMBOLS}))
    registry = Registry("model family", {}, group="regulens.test")
    for name in models.FAMILIES:
        registry.register(name, models.FAMILIES._targets[name])
    registry.register("my_model", "my_model:FAMILY")
    monkeypatch.setattr(models, "FAMILIES", registry)
    for spec in (f"my_model:{folder}", str(folder)):
        table = models.check_adapter(models.load(spec), poisson_cells(3))
        assert table["passed"].all()
    with pytest.raises(ModelError, match=r"option of my model .*it has none.*'mode'"):
        models.load(f"my_model:{folder}?mode=x")
    assert build_adapter("my_model.py:FAMILY", folder).card.sha256 == models.load(str(folder)).card.sha256


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(*words):
    return CliRunner().invoke(command.app, list(words))


@pytest.fixture
def cells_at_hand(monkeypatch):
    monkeypatch.setattr(command, "_cells", lambda source: poisson_cells(3))


@pytest.mark.parametrize("target", ["my_model.py:small", "my_model:small", "my_model:SMALL", "my_model:Small"])
def test_the_command_takes_files_modules_functions_classes_and_instances(page, cells_at_hand, target):
    made = "\n\ndef small():\n    return build([f'G{i}' for i in range(40)])\n\n\nSMALL = small()\n"
    made += "\n\nclass Small(MyAdapter):\n    def __init__(self):\n        self.__dict__ = small().__dict__\n"
    page.write_text(page.read_text() + made)
    result = run("check", target, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"]


def test_the_command_names_what_failed(page, cells_at_hand):
    broken = page.read_text().replace("            if edits.mlp_output is not None:", "            if False:")
    page.write_text(broken + "\n\ndef small():\n    return build([f'G{i}' for i in range(40)])\n")
    result = run("check", "my_model.py:small")
    assert result.exit_code == 2
    assert "mlp_edit_reaches_the_end/L00" in result.output


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("my_model:biuld", "Did you mean 'build'"),
        ("my_modle:build", "importable module 'my_modle'"),
        ("other.py:build", "Expected a Python file at other.py"),
        ("my_model:Net", "to make an adapter without arguments, got TypeError"),
        ("json:JSONDecoder", "to make a regulens.models.AbstractAdapter, got JSONDecoder"),
    ],
)
def test_a_target_that_is_no_adapter_is_one_sentence(page, target, said):
    with pytest.raises(ModelError, match=re.escape(said)):
        build_adapter(target)


def test_a_family_needs_a_folder(page):
    with pytest.raises(ParameterError, match="Add --folder"):
        build_adapter("my_model:FAMILY")
