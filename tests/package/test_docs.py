"""What the documentation promises is there: commands, options, make targets, study-file keys, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from regulens.plan import Plan

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def commands(text: str) -> list[str]:
    """Command lines of regulens and make in bash blocks and in code spans."""
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    lines += re.findall(r"`((?:regulens|make) [^`\n]+)`", text)
    lines = [re.split(r"\s+#|\s+>|\s+&&", line)[0].strip() for line in lines]
    return [line for line in lines if line.startswith(("regulens ", "make "))]


def problem(command: str) -> str:
    """Why a documented command would be refused, or an empty string."""
    import typer

    from regulens.cli.main import app

    words = shlex.split(command.replace("…", ""))
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
        return "" if words[1] in targets else f"no target {words[1]}"
    node = typer.main.get_command(app)
    rest = words[1:]
    while rest and hasattr(node, "commands"):
        if rest[0].startswith("-"):
            break
        if rest[0] not in node.commands:
            return f"no subcommand {rest[0]}"
        node, rest = node.commands[rest[0]], rest[1:]
    known = {option for parameter in node.params for option in parameter.opts} | {"--help"}
    lost = [w for w in rest if w.startswith("--") and w.split("=")[0] not in known]
    return f"no option {lost[0]}" if lost else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_documented_commands_exist(page):
    found = {command: problem(command) for command in commands(page.read_text())}
    assert {c: why for c, why in found.items() if why} == {}


def test_the_readme_has_its_commands():
    found = commands((ROOT / "README.md").read_text())
    assert "make audit" in found
    assert "make test" in found
    assert any(c.startswith("regulens audit cells.h5ad") for c in found)


@pytest.mark.parametrize("command", ["make nonsense", "regulens adit", "regulens audit --cellstate x"])
def test_the_check_of_commands_can_fail(command):
    assert problem(command)


def links(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    return [t for t in targets if "://" not in t and not (page.parent / t).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert links(page) == []


def test_the_check_of_links_can_fail(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](nowhere.md) [b](https://example.org) [c](page.md#part)")
    assert links(page) == ["nowhere.md"]


def documented_keys(text: str) -> dict[str, set[str]]:
    """Section to the keys that its table describes."""
    found: dict[str, set[str]] = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        name = part.split("\n", 1)[0].strip().strip("`")
        found["" if name == "Top level" else name] = set(re.findall(r"^\| `(\w+)` \|", part, flags=re.M))
    return found


def actual_keys() -> dict[str, set[str]]:
    """The same of the plan itself."""
    complete = Plan.from_options(screens=["screen.h5ad"]).model_dump(mode="json")
    found: dict[str, set[str]] = {"": set()}
    for key, value in complete.items():
        inner = value[0] if isinstance(value, list) else value
        if isinstance(inner, dict):
            found[key] = set(inner)
        else:
            found[""].add(key)
    return found


def test_every_key_of_a_study_file_is_described():
    assert documented_keys((ROOT / "docs" / "study_file.md").read_text()) == actual_keys()


def test_documented_defaults_are_the_defaults():
    text = (ROOT / "docs" / "study_file.md").read_text()
    complete = Plan.from_options(screens=["screen.h5ad"]).model_dump(mode="json")
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        name = part.split("\n", 1)[0].strip().strip("`")
        section = complete if name == "Top level" else complete[name]
        section = section[0] if isinstance(section, list) else section
        for key, shown in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", part, flags=re.M):
            assert yaml.safe_load(shown) == section[key], f"{name}.{key}"


def test_the_example_study_of_the_readme_is_a_valid_plan(tmp_path):
    (block,) = blocks((ROOT / "README.md").read_text(), "yaml")
    (tmp_path / "study.yaml").write_text(block)
    plan = Plan.read(tmp_path / "study.yaml")
    assert [m.name for m in plan.models] == ["geneformer", "scgpt"]
    assert plan.references[1].levels == ("A", "B")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_examples_use_public_names(page):
    import regulens

    for block in blocks(page.read_text(), "python"):
        compile(block, str(page), "exec")
        used = set(re.findall(r"\brl\.(\w+)", block))
        assert used <= set(regulens.__all__)


def test_the_test_command_of_the_readme_is_what_continuous_integration_runs():
    script = (ROOT / ".ci" / "run").read_text()
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script
    assert script.rstrip().endswith("make test")


def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="the example loads a model, which needs the extra `models`")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks((ROOT / "README.md").read_text(), "python")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "max_abs_difference" in printed
    assert "auroc" in printed
    assert list(tmp_path.iterdir()) == []
