"""What a study makes once and hands on: networks inferred from expression, and attention of other recipes."""

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="extraction needs the extra 'models'")

from regulens.errors import InputError, PlanError
from regulens.run.audit import audit
from regulens.run.preview import preview
from regulens.testing.tiny_study import tiny_genes, write_tiny_study

METHODS = ["pearson", "mutual_information", "grnboost2"]


def contents(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "timing.json"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def timing(folder: Path) -> dict[str, float | None]:
    return json.loads((folder / "timing.json").read_text())["networks"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_tiny_study(folder, n_cells=60)
    names = tiny_genes(60)["symbol"].tolist()
    rows = [f"{names[i]}\t{names[j]}\t{1 / (1 + i + j)}" for i in range(6) for j in range(20, 30)]
    (folder / "tool.tsv").write_text("\n".join(["TF\ttarget\timportance", *rows]))
    from regulens.plan import Plan

    return Plan.read(folder / "study.yaml").with_overrides(
        {
            "analyses": [
                {"name": "grn_method_baselines", "parameters": {"methods": METHODS, "tables": {"tool": "tool.tsv"}}},
                {"name": "recipe_sensitivity", "parameters": {"recipes": ["probability", "logit", "mean_cell"]}},
            ]
        }
    )


@pytest.fixture(scope="module")
def finished(plan, tmp_path_factory):
    return audit(plan, out=tmp_path_factory.mktemp("runs") / "one", jobs=1)


def test_networks_are_inferred_once_for_all_models(finished):
    kept = sorted(p.name for p in (finished.path / "state" / "inferred").iterdir())
    assert [k.rpartition("-")[0] for k in kept] == sorted(METHODS)
    assert all(seconds > 0 for seconds in timing(finished.path).values())
    assert len(timing(finished.path)) == len(METHODS)
    tables = [t for name, t in finished.tables.items() if name.endswith("__methods")]
    assert len(tables) == 2
    assert all(set(t["method"]) == {"pooled", *METHODS, "ensemble", "tool"} for t in tables)


def test_wall_times_are_told_in_one_file_only(finished):
    seconds = [str(v) for v in timing(finished.path).values()]
    text = "".join(p.read_text() for p in finished.path.rglob("*.tsv")) + (finished.path / "run.json").read_text()
    assert not any(f"\t{s}\t" in text or f" {s}," in text for s in seconds)


def test_other_recipes_have_stores_of_their_own(finished):
    stores = {p.name for p in (finished.path / "attention").iterdir()}
    models = ("scgpt-tiny", "geneformer-tiny")
    wanted = {f"{m}{r}.zarr" for m in models for r in ("", ".logit", ".mean_cell")}
    assert stores == wanted
    table = next(t for name, t in finished.tables.items() if name.endswith("__recipes"))
    transformed = {"row_centred", "double_centred", "apc", "rank"}
    assert set(table["recipe"]) == {"probability", "logit", "mean_cell"} | transformed


def test_two_workers_and_a_resumed_run_give_the_same_bytes(finished, plan, tmp_path):
    other = audit(plan, out=tmp_path / "two", jobs=2)
    assert contents(other.path) == contents(finished.path)
    (other.path / "run.json").unlink()
    for outcome in (other.path / "state").glob("*outcome.json"):
        outcome.unlink()
    again = audit(plan, out=other.path, jobs=1)
    assert contents(again.path) == contents(finished.path)
    assert set(timing(again.path).values()) == {None}  # found, not made again


def test_a_damaged_network_is_made_again(finished, plan, tmp_path):
    import shutil

    out = tmp_path / "damaged"
    shutil.copytree(finished.path, out)
    (out / "run.json").unlink()
    for outcome in (out / "state").glob("*outcome.json"):
        outcome.unlink()
    broken = next((out / "state" / "inferred").glob("pearson*"))
    broken.write_bytes(broken.read_bytes()[:100])
    assert contents(audit(plan, out=out, jobs=1).path) == contents(finished.path)
    assert sum(s is not None for s in timing(out).values()) == 1


def test_another_table_of_the_same_name_is_another_result(finished, plan, tmp_path):
    """A file that changed in place is noticed: the key of an outcome holds the contents of its tables."""
    tool = plan._base / "tool.tsv"
    before = tool.read_text()
    try:
        head, *rows = before.splitlines()
        tool.write_text("\n".join([head, *rows[::3]]))
        import shutil

        out = tmp_path / "changed"
        shutil.copytree(finished.path, out)
        found = audit(plan, out=out, jobs=1)
    finally:
        tool.write_text(before)
    mine, theirs = (
        next(t for n, t in run.tables.items() if n.endswith("__methods")).set_index("method")
        for run in (finished, found)
    )
    assert mine.loc["tool", "n_listed"] > theirs.loc["tool", "n_listed"]
    assert mine.loc["pearson", "auroc"] == theirs.loc["pearson", "auroc"]


@pytest.mark.parametrize(
    ("analysis", "error", "said"),
    [
        ({"name": "grn_method_baselines", "parameters": {"methods": ["genie"]}}, PlanError, "Did you mean 'genie3'"),
        ({"name": "grn_method_baselines", "parameters": {"tables": {"x": "absent.tsv"}}}, InputError, "absent.tsv"),
        ({"name": "grn_method_baselines", "parameters": {"tables": {"lasso": "tool.tsv"}}}, PlanError, "no method"),
        ({"name": "recipe_sensitivity", "parameters": {"recipes": ["logits"]}}, PlanError, "Did you mean 'logit'"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(plan, tmp_path, analysis, error, said):
    with pytest.raises(error, match=said):
        audit(plan.with_overrides({"analyses": [analysis]}), out=tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(error, match=said):
        preview(plan.with_overrides({"analyses": [analysis]}))


def test_a_preview_tells_what_networks_and_recipes_cost(plan):
    cost = preview(plan).to_dict()["cost"]
    assert set(cost["networks"]) == set(METHODS)
    assert {m["passes"] for m in cost["models"].values()} == {2}
    slow = plan.with_overrides({"analyses": [{"name": "grn_method_baselines", "parameters": {"methods": ["genie3"]}}]})
    assert preview(slow).to_dict()["cost"]["networks"]["genie3"] > 1
