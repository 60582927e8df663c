"""The whole chain on a tiny study: same bytes whatever the workers, after a kill, and no trace of a refused plan."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="extraction needs the extra 'models'")

from regulens.errors import DigestMismatchError, InputError, NamespaceError, PlanError, SchemaError, StoreError
from regulens.plan import Plan
from regulens.run.audit import audit
from regulens.run.preview import preview
from regulens.testing.tiny_study import write_reference, write_tiny_study

VOLATILE = {"timing.json"}


def contents(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in VOLATILE]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, write_tiny_study(folder)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    _, plan = study
    out = tmp_path_factory.mktemp("runs") / "one"
    return audit(plan, out=out, jobs=1)


def test_every_planned_test_is_recorded_and_every_claim_decided(finished):
    record = finished.record
    assert len(finished.tests) == len(set(finished.tests["id"])) > 0
    assert (finished.tests["p_raw"].notna() | (finished.tests["undefined"] != "")).all()
    assert {(v["model"], v["claim"]) for v in record["verdicts"]} == {
        (m, c) for m in ("scgpt-tiny", "geneformer-tiny") for c in ("beyond_prominence", "beyond_coexpression")
    }
    assert all(m["verification"]["max_abs_difference"] < 1e-5 for m in record["models"])
    assert all(m["attention"]["n_cells"] == 90 for m in record["models"])
    planned = (finished.path / "state" / "planned_tests.tsv").read_text()
    assert all(i in planned for i in finished.tests["id"])


def test_the_record_has_no_paths_of_folders_times_or_workers(finished, study):
    text = json.dumps({k: v for k, v in finished.record.items() if k != "plan"})
    assert str(study[0]) not in text
    assert not {"jobs", "seconds", "time", "date"} & set(finished.record)


def test_two_workers_give_the_same_bytes_as_one(finished, study, tmp_path):
    other = audit(study[1], out=tmp_path / "two", jobs=2)
    assert contents(other.path) == contents(finished.path)


def test_a_second_run_changes_nothing_and_says_so(finished, study):
    said = []

    class Notes:
        def stage(self, name, total=None):
            raise AssertionError(f"nothing is to be done, but '{name}' was started")

        def note(self, text):
            said.append(text)

    before = contents(finished.path)
    again = audit(study[1], out=finished.path, progress=Notes())
    assert contents(again.path) == before
    assert "nothing to do" in said[0]


def test_a_killed_run_resumes_to_the_same_bytes(finished, study, tmp_path):
    folder, _ = study
    out = tmp_path / "killed"
    code = (
        "from regulens.plan import Plan; from regulens.run.audit import audit; import sys; from pathlib import Path;"
        "audit(Plan.read(sys.argv[1]), out=Path(sys.argv[2]), jobs=1)"
    )
    for wanted in ("attention", "tables"):
        process = subprocess.Popen([sys.executable, "-c", code, str(folder / "study.yaml"), str(out)])
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if (out / wanted).is_dir() and len(list((out / wanted).iterdir())) > 1 + (wanted == "tables"):
                process.send_signal(signal.SIGKILL)
            time.sleep(0.01)
        process.wait()
        assert process.returncode == -signal.SIGKILL, f"the run ended before it was killed at '{wanted}'"
    resumed = audit(study[1], out=out, jobs=1)
    assert contents(resumed.path) == contents(finished.path)


def test_a_folder_of_another_plan_is_refused_untouched(finished, study):
    before = contents(finished.path)
    other = study[1].with_overrides({"seed": 7})
    with pytest.raises(DigestMismatchError, match=r"--out, or replace the old run with --overwrite"):
        audit(other, out=finished.path)
    assert contents(finished.path) == before


def test_a_folder_with_other_files_is_refused_untouched(study, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="other files"):
        audit(study[1], out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StoreError, match="got a file"):
        audit(study[1], out=tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"cells.source": "absent.h5ad"}, InputError, "absent.h5ad"),
        ({"cells.cell_state": "typ"}, SchemaError, "type"),
        ({"references": ["absent.tsv"]}, InputError, "absent.tsv"),
        ({"models": ["scgpt:absent"]}, Exception, "absent"),
        ({"primary": "L09_mean"}, PlanError, "layers 0-1"),
        ({"cells.source": "demo:imune"}, PlanError, "Did you mean 'immune'"),
    ],
)
def test_a_refused_input_leaves_nothing_behind(study, tmp_path, change, error, said):
    out = tmp_path / "out"
    with pytest.raises(error, match=said):
        audit(study[1].with_overrides(change), out=out)
    assert not out.exists()


def test_no_gene_in_common_and_no_positive_say_what_was_lost(study, tmp_path):
    from regulens.testing.checkpoints import write_scgpt

    _, plan = study
    write_scgpt(tmp_path / "foreign", vocab=["XX1", "XX2"])
    with pytest.raises(NamespaceError, match="none of 60 in common"):
        audit(plan.with_overrides({"models": [f"scgpt:{tmp_path / 'foreign'}"]}), out=tmp_path / "out")
    (tmp_path / "none.tsv").write_text("source\ttarget\tweight\nGATA1\tTAL1\t1\n")
    with pytest.raises(InputError, match="Expected at least one edge"):
        audit(plan.with_overrides({"references": [str(tmp_path / "none.tsv")]}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_added_analysis_or_reference_moves_no_other_number(finished, study, tmp_path):
    folder, plan = study
    write_reference(tmp_path / "second.tsv", seed=9)
    more = plan.with_overrides({"references": [str(tmp_path / "second.tsv"), str(folder / "reference.tsv")]})
    other = audit(more, out=tmp_path / "out", jobs=1)
    key = ["analysis", "model", "reference", "score", "metric", "step"]
    mine = finished.results.set_index(key)["value"].sort_index()
    theirs = other.results.set_index(key)["value"].sort_index()
    common = theirs[theirs.index.get_level_values("reference") == "reference"]
    assert common.equals(mine)


def test_a_reference_that_changed_only_in_its_signs_is_read_anew(tmp_path):
    """Same file name, plan, pairs and so universe: an analysis that reads signs must not reuse its old answer."""
    write_tiny_study(tmp_path)
    text = (tmp_path / "reference.tsv").read_text().splitlines()
    listed = Plan.read(tmp_path / "study.yaml").with_overrides(
        {"analyses": ["tf_resolution", "reference_sensitivity"], "models": [f"scgpt:{tmp_path / 'scgpt-tiny'}"]}
    )
    out = tmp_path / "out"
    old = audit(listed, out=out, jobs=1)
    before = contents(out / "tables")
    rows = [line.split("\t") for line in text[1:]]
    same = [[s, t, "1"] for s, t, _ in rows]
    (tmp_path / "reference.tsv").write_text("\n".join(["\t".join(r) for r in [text[0].split("\t"), *same]]) + "\n")
    again, fresh = audit(listed, out=out, jobs=1), audit(listed, out=tmp_path / "fresh", jobs=1)
    assert contents(again.path) == contents(fresh.path)
    assert old.record["universes"] == again.record["universes"]
    assert contents(out / "tables") != before  # some table depends on the signs, or this test would show nothing


def test_a_preview_writes_nothing_and_tells_what_will_run(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = preview(study[1]).to_dict()
    assert not list(tmp_path.iterdir())
    assert all(a["runs"] and a["tests"] for a in found["analyses"])
    assert found["universes"][0]["counts"]["evaluable"] > 0
    assert set(found["cost"]["models"]) == {"scgpt-tiny", "geneformer-tiny"}
    json.dumps(found, allow_nan=False)


def test_a_full_disk_is_one_sentence_and_a_resumed_run_is_whole(study, finished, tmp_path, monkeypatch):
    """The disk fills up while tables are written: exit with a sentence, then finish where it stopped."""
    import errno

    written = []
    replace = Path.replace

    def full(self, target):
        written.append(target)
        if len(written) == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match=r"full disk.*finished work is reused"):
            audit(study[1], out=tmp_path / "out", jobs=1)
    assert not list((tmp_path / "out").rglob(".*.part*"))
    assert not (tmp_path / "out" / "run.json").exists()
    resumed = audit(study[1], out=tmp_path / "out", jobs=1)
    assert contents(resumed.path) == contents(finished.path)
