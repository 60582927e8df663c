"""What does the command line say, and with which exit code does it end, when it cannot do as told?

Every refusal is one sentence on standard error that says what was expected, what was found and what to do, with exit
code 2; a defect of regulens has exit code 3; nothing is left behind.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from regulens import __version__
from regulens.cli import audit as audit_command
from regulens.cli.main import run
from regulens.errors import InputError, RegulensError, StatisticsError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, and on a wide page so that sentences stay on one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")


def said(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command line."""
    code = run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


REFUSED = {
    "unknown subcommand": (["audti"], ["audti", "Did you mean 'audit'"]),
    "unknown option": (["audit", "--modle", "x"], ["--modle", "--model", "regulens audit --help"]),
    "option without a value": (["audit", "--model"], ["--model"]),
    "seed that is no number": (["audit", "--seed", "x"], ["--seed", "integer"]),
    "jobs below one": (["audit", "--jobs", "0"], ["--jobs"]),
    "name left out": (["show"], ["Missing argument"]),
    "cells and demo": (["audit", "x.h5ad", "--demo", "immune"], ["Expected either", "got both", "Leave one out"]),
    "unknown demo": (["audit", "--demo", "imune"], ["Expected demo cells", "got 'imune'", "Did you mean 'immune'"]),
    "set without a value": (["audit", "--set", "seed"], ["Expected --set key.path=value", "got 'seed'", "Example"]),
    "unknown key": (["audit", "--set", "sed=7"], ["sed: unknown key", "Did you mean 'seed'"]),
    "unknown nested key": (
        ["plan", "--set", "statistics.bootstrp=7"],
        ["statistics.bootstrp: unknown key", "Did you mean 'bootstrap'"],
    ),
    "unknown section": (["plan", "--set", "statistic.alpha=0.1"], ["statistic", "Did you mean 'statistics'"]),
    "value out of range": (["plan", "--bootstrap", "3"], ["statistics.bootstrap", "greater than or equal to 100"]),
    "unknown direction": (["plan", "--direction", "sideways"], ["direction", "regulator_attends"]),
    "malformed primary": (["plan", "--primary", "layer3"], ["primary", "L03_mean", "got 'layer3'"]),
    "unknown analysis": (["plan", "--analysis", "refrence_recovery"], ["Did you mean 'reference_recovery'"]),
    "unknown protocol": (["plan", "--protocol", "publishd"], ["Expected a protocol", "got 'publishd'"]),
    "missing study": (["audit", "absent.yaml"], ["Expected a study file", "absent.yaml", "Check the path"]),
    "missing cells": (["audit", "absent.h5ad"], ["Expected", "absent.h5ad"]),
    "unknown bundled model": (["audit", "--model", "bundled:scgtp-mini"], ["Expected a bundled model", "scgtp-mini"]),
    "unknown family": (["models", "inspect", "scgtp:folder"], ["scgtp", "Did you mean 'scgpt'"]),
    "missing checkpoint": (["models", "inspect", "scgpt:absent"], ["Expected a folder", "absent", "Check the path"]),
    "missing reference": (["audit", "--reference", "absent.tsv"], ["Expected", "absent.tsv"]),
    "unknown kind": (["list", "analyzes"], ["Expected a kind", "got 'analyzes'", "Did you mean 'analyses'"]),
    "unknown name": (["show", "refrence_recovery"], ["got 'refrence_recovery'", "Did you mean 'reference_recovery'"]),
    "no run": (["report", "absent"], ["Expected a finished run", "absent"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_one_sentence_and_leave_nothing(case, capsys, tmp_path):
    arguments, wanted = REFUSED[case]
    code, out, err = said(capsys, *arguments)
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert code == 2, err
    assert out == ""
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    assert "Traceback" not in err
    for words in wanted:
        assert words in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_all_problems_of_a_study_come_in_one_message(capsys, tmp_path):
    (tmp_path / "study.yaml").write_text("cells: {sorce: x.h5ad}\nstatistics: {alpha: 2}\nunivers: {}\n")
    code, _, err = said(capsys, "plan", "study.yaml")
    assert code == 2
    assert "The plan has 3 problems" in err
    for words in ("cells.sorce: unknown key. Did you mean 'source'?", "statistics.alpha", "Did you mean 'universe'?"):
        assert words in err


def test_broken_yaml_is_placed(capsys, tmp_path):
    (tmp_path / "study.yaml").write_text("cells: {source: x\nseed: 3\n")
    code, _, err = said(capsys, "audit", "study.yaml")
    assert code == 2
    assert "line" in err and "column" in err


def failing(error: BaseException):
    def audit(*_args, **_options):
        raise error

    return audit


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("Expected counts, got logs. Use raw."), 2, "Error: Expected counts, got logs. Use raw."),
        (StatisticsError("Expected an open ledger, got a closed one."), 3, "Error: Expected an open ledger"),
        (ZeroDivisionError("division by zero"), 3, "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "resume with the same command"),
    ],
)
def test_exit_codes_of_a_run_that_fails(error, code, words, capsys, monkeypatch):
    monkeypatch.setattr("regulens.api.audit", failing(error))
    got, out, err = said(capsys, "audit", "--quiet")
    assert got == code
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_notes_of_an_error_are_printed(capsys, monkeypatch):
    error = InputError("Expected a table, got none. Give one.")
    error.add_note("while reading the third network")
    monkeypatch.setattr("regulens.api.audit", failing(error))
    _, _, err = said(capsys, "audit", "--quiet")
    assert err.splitlines()[-1].strip() == "while reading the third network"


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr("regulens.api.audit", failing(ZeroDivisionError("x")))
    with pytest.raises(ZeroDivisionError):
        run(["audit", "--quiet", "--debug"])
    monkeypatch.setattr("regulens.api.audit", failing(RegulensError("y")))
    with pytest.raises(RegulensError):
        run(["--debug", "audit", "--quiet"])


class _Run:
    """What the command needs of a finished run."""

    def __init__(self, path):
        self.path = path
        verdict = {
            "claim": "beyond_prominence", "title": "Beyond prominence", "model": "mini", "reference": "net",
            "state": "inconclusive", "reasons": ["Only 3 positives."], "rule": "a rule", "evidence": [],
        }  # fmt: skip
        self.record = {
            "name": "x", "plan_digest": "abc", "seed": 1, "versions": {}, "universes": [], "verdicts": [verdict],
            "skipped": [], "demonstration": True,
            "models": [{"name": "mini", "label": "mini (small demonstration model)"}],
        }  # fmt: skip


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Arguments that the audit was called with; the audit itself does nothing."""
    calls = []

    def audit(study, **options):
        calls.append((study, options))
        return _Run(tmp_path / "runs" / "x")

    monkeypatch.setattr("regulens.api.audit", audit)
    return calls


def test_the_path_of_the_report_is_the_last_line(seen, capsys, tmp_path):
    code, out, err = said(capsys, "audit")
    assert code == 0
    assert out.splitlines()[-1] == str(tmp_path / "runs" / "x" / "report.html")
    assert "inconclusive" in out
    assert "Only 3 positives." in out
    assert "mini (small demonstration model)" in out
    assert err == ""


def test_options_of_screens_reach_the_plan(seen, capsys, tmp_path):
    line = (
        "audit --perturbation s.h5ad --perturbation t.tsv --perturbation-column gene --control NT --modality crispri "
        "--replicate donor --out o --quiet"
    )
    assert said(capsys, *line.split())[0] == 0
    plan, _ = seen[0]
    assert plan.cells.source == str(tmp_path / "s.h5ad") and plan.references == ()  # its controls, and no network
    first, second = plan.screens
    assert (first.source, second.source) == (str(tmp_path / "s.h5ad"), str(tmp_path / "t.tsv"))
    assert (first.perturbation, first.control, first.modality, first.replicate) == ("gene", "NT", "crispri", "donor")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("audit --control NT", "Give --perturbation SCREEN"),
        ("audit --perturbation-column gene", "beside --perturbation-column"),
        ("audit --perturbation effects.tsv", "Give the cells that models read"),
    ],
)
def test_options_of_a_screen_need_a_screen(capsys, line, expected):
    code, _, err = said(capsys, *line.split())
    assert code == 2
    assert expected in " ".join(err.split())


def test_quiet_prints_the_path_only(seen, capsys, tmp_path):
    code, out, _ = said(capsys, "audit", "--quiet")
    assert code == 0
    assert out == f"{tmp_path / 'runs' / 'x' / 'report.html'}\n"


def test_json_is_one_object(seen, capsys):
    code, out, _ = said(capsys, "audit", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["verdicts"][0]["state"] == "inconclusive"
    assert found["report"].endswith("report.html")


def test_options_reach_the_plan(seen, capsys, tmp_path):
    line = (
        "audit cells.h5ad --model scgpt:a --model b --reference n.tsv --cell-state ct --donor d --batch b --counts raw "
        "--log1p-cp10k --total-counts n --gene-column g --duplicates sum --genes 300 --max-cells 200 --seed 5 "
        "--direction target_attends --primary L01_mean --analysis reference_recovery --bootstrap 200 "
        "--permutations 199 --set universe.min_cells_expressing=3 --out o --jobs 1 --overwrite --quiet"
    )
    assert said(capsys, *line.split())[0] == 0
    plan, options = seen[0]
    assert plan.cells.model_dump() == {
        "source": str(tmp_path / "cells.h5ad"), "name": None, "counts": "raw", "log1p_cp10k": True,
        "total_counts": "n", "gene_column": "g", "duplicates": "sum", "cell_state": "ct", "donor": "d", "batch": "b",
        "perturbation": None, "control": None, "backed": "auto",
    }  # fmt: skip
    assert [m.spec for m in plan.models] == [f"scgpt:{tmp_path / 'a'}", str(tmp_path / "b")]
    assert [r.source for r in plan.references] == [str(tmp_path / "n.tsv")]
    assert (plan.universe.genes, plan.universe.min_cells_expressing, plan.extraction.max_cells) == (300, 3, 200)
    assert (plan.seed, plan.direction, plan.primary) == (5, "target_attends", "L01_mean")
    assert [a.name for a in plan.analyses] == ["reference_recovery"]
    assert (plan.statistics.bootstrap, plan.statistics.permutations) == (200, 199)
    assert (str(options["out"]), options["jobs"], options["overwrite"]) == ("o", 1, True)


def test_a_study_is_overridden_by_options_and_keeps_the_rest(seen, capsys, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "study.yaml").write_text("cells: {source: c.h5ad, donor: d}\nmodels: [m]\nseed: 1\n")
    assert said(capsys, "audit", "elsewhere/study.yaml", "--seed", "2", "--reference", "r.tsv", "--quiet")[0] == 0
    plan, _ = seen[0]
    assert (plan.seed, plan.cells.donor) == (2, "d")
    assert plan.resolve(plan.cells.source) == str(folder.relative_to(tmp_path) / "c.h5ad")
    # A path of the command line is relative to where the command was typed, not to the study file.
    assert plan.resolve(plan.references[0].source) == str(tmp_path / "r.tsv")


def test_where_a_file_lies_does_not_change_the_plan(seen, capsys, tmp_path):
    said(capsys, "audit", "cells.h5ad", "--model", "scgpt:m", "--quiet")
    (tmp_path / "sub").mkdir()
    said(capsys, "audit", "sub/cells.h5ad", "--model", "scgpt:sub/m", "--quiet")
    assert seen[0][0].digest == seen[1][0].digest


def test_published_stands_beside_the_corrected_protocol(seen, capsys):
    assert said(capsys, "audit", "--protocol", "published", "--quiet")[0] == 0
    plan, _ = seen[0]
    found = [(a.name, str(a.protocol)) for a in plan.analyses]
    assert ("reference_recovery", "corrected") in found
    assert ("reference_recovery", "published") in found
    assert len(set(found)) == len(found)


def test_plan_as_yaml_is_a_study_that_gives_the_same_plan(capsys, tmp_path):
    from regulens.plan import Plan

    code, out, _ = said(capsys, "plan", "--yaml", "--seed", "9", "--set", "statistics.alpha=0.01")
    assert code == 0
    (tmp_path / "again.yaml").write_text(out)
    again = Plan.read(tmp_path / "again.yaml")
    assert (again.seed, again.statistics.alpha) == (9, 0.01)
    assert again.digest == Plan.from_options(seed=9, statistics={"alpha": 0.01}).digest


def test_list_names_everything_and_nothing_is_broken(capsys):
    code, out, _ = said(capsys, "list", "--json")
    assert code == 0
    found = json.loads(out)
    assert set(found) == {"analyses", "models", "scorers", "metrics", "nulls", "references", "demos"}
    for kind, rows in found.items():
        assert rows, f"nothing is listed under {kind}"
        for row in rows:
            assert row["summary"], f"{row['name']} does not say what it is"
            assert not row["summary"].startswith("broken")


def test_show_prints_question_and_planned_tests(capsys):
    code, out, _ = said(capsys, "show", "reference_recovery")
    assert code == 0
    assert "question" in out
    assert "pooled_above_chance" in out


def test_everything_listed_can_be_shown(capsys):
    from regulens.cli.listing import REGISTRIES, registry

    for kind in REGISTRIES:
        for name in registry(kind).names():
            assert said(capsys, "show", name, "--json")[0] == 0, name


def test_version(capsys):
    code, out, _ = said(capsys, "--version")
    assert (code, out) == (0, f"{__version__}\n")


def test_no_arguments_show_the_help(capsys):
    code, out, err = said(capsys)
    assert code == 2
    assert "Usage: regulens" in out + err
    assert "Error" not in err


def test_a_reader_that_leaves_is_no_error():
    code = "import sys\nfrom regulens.cli.main import main\nsys.argv[1:] = ['--version']\nsys.exit(main())"
    done = subprocess.run(
        f"{sys.executable} -c \"{code}\" | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


def test_progress_as_lines_tells_the_remaining_time(capsys, monkeypatch):
    from regulens.cli import console

    now = iter([0.0, 20.0, 40.0, 41.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    stage = console.PlainProgress(every=10.0).stage("attention of mini", 4)
    stage.advance()
    stage.advance(3)
    stage.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "attention of mini: started",
        "attention of mini: 1 of 4, about 1 min 0 s left",
        "attention of mini: done in 41 s",
    ]


def test_the_command_and_its_module_are_distinct():
    assert callable(audit_command.audit)


def test_brackets_in_a_table_are_text(capsys):
    from regulens.cli.console import out, table

    shown = table("what [red]is[/]", "name")
    shown.add_row("pip install 'regulens[models]'")
    out().print(shown)
    printed = capsys.readouterr().out
    assert "regulens[models]" in printed
    assert "what [red]is[/]" in printed


def test_doctor_finds_what_is_broken_and_goes_on(capsys, monkeypatch):
    from regulens.cli import doctor

    def broken():
        raise OSError("disk on fire")

    checks = (lambda: doctor._attempt("one", broken), lambda: doctor.Check(name="two", state="ok", found="fine"))
    monkeypatch.setattr(doctor, "_CHECKS", checks)
    code, out, _ = said(capsys, "doctor", "--json")
    found = json.loads(out)
    assert code == 2
    assert not found["ready"]
    assert [c["state"] for c in found["checks"]] == ["problem", "ok"]
    assert "disk on fire" in found["checks"][0]["found"]
