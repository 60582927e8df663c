"""`regulens score`: edge tables against networks, with and without expression; truncation is visible everywhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import regulens as rl
from regulens.analyses.base import ANALYSES
from regulens.cli.main import run as command
from regulens.errors import InputError, ParameterError, PlanError
from regulens.rng import stream
from regulens.run.audit import audit
from regulens.run.prepare import prepare
from regulens.run.score import SCORE_ANALYSES, plan_of_edges
from regulens.testing.tiny_study import tiny_genes, write_cells, write_reference

N = 60
FAST = {"statistics.bootstrap": 100, "statistics.permutations": 99, "universe.min_cells_expressing": 3}
NO_CELLS = {"statistics.bootstrap": 100, "statistics.permutations": 99}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Cells, a reference, and three tables: every pair, the top of the same, and another top with signs."""
    folder = tmp_path_factory.mktemp("score")
    symbols = tiny_genes(N)["symbol"].tolist()
    write_cells(folder / "cells.h5ad", n_genes=N)
    reference = pd.read_csv(write_reference(folder / "ref.tsv", n_genes=N), sep="\t")
    write_reference(folder / "other.tsv", n_genes=N, seed=1)
    known = set(zip(reference["source"], reference["target"]))
    rng = stream(0, "test/score")
    rows = [(a, b, float(rng.gamma(2.0)) + ((a, b) in known)) for a in symbols[:12] for b in symbols if a != b]
    every = pd.DataFrame(rows, columns=["TF", "target", "importance"]).sort_values("importance", ascending=False)
    every.to_csv(folder / "every.tsv", sep="\t", index=False)
    every.head(200).to_csv(folder / "top.tsv.gz", sep="\t", index=False)
    signed = every.iloc[::3].assign(importance=lambda t: t["importance"] * rng.choice([-1, 1], len(t)))
    signed.to_csv(folder / "signed.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def bare(study, tmp_path_factory):
    """Two truncated tables and two references, without cells, report included."""
    return rl.score(
        [study / "top.tsv.gz", study / "signed.csv"], [study / "ref.tsv", study / "other.tsv"],
        out=tmp_path_factory.mktemp("runs") / "bare", jobs=1, overrides=NO_CELLS,
    )  # fmt: skip


def pairs_of(study, table, reference="ref.tsv"):
    """Every pair that is looked at with its label and weight, by hand: 0 where the table lists nothing."""
    edges = pd.read_csv(study / table, sep="," if table.endswith("csv") else "\t")
    weight = {(a, b): abs(w) for a, b, w in edges.itertuples(index=False)}
    both = [pd.read_csv(study / f, sep="," if f.endswith("csv") else "\t") for f in ("top.tsv.gz", "signed.csv")]
    regulators = set(pd.concat(both)["TF"])
    genes = regulators | set(pd.concat(both)["target"])
    ref = pd.read_csv(study / reference, sep="\t")
    known = set(zip(ref["source"], ref["target"]))
    rows = [
        ((a, b) in known, weight.get((a, b), 0.0))
        for a in regulators & set(ref["source"])
        for b in genes
        if a != b
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["label", "weight"])


@pytest.mark.parametrize("table", ["top.tsv.gz", "signed.csv"])
def test_absent_pairs_tie_last_and_numbers_are_those_of_scikit_learn(study, bare, table):
    name = table.split(".")[0]
    by_hand = pairs_of(study, table)
    parts = bare.tables[f"list_truncation__{name}__ref__list_parts"].set_index("pairs")
    assert parts.loc["all pairs", "auroc"] == pytest.approx(roc_auc_score(by_hand["label"], by_hand["weight"]))
    assert parts.loc["all pairs", ["n_pos", "n_neg"]].tolist() == [by_hand["label"].sum(), (~by_hand["label"]).sum()]
    listed = by_hand["weight"] > 0
    assert parts.loc["listed or not", "auroc"] == pytest.approx(roc_auc_score(by_hand["label"], listed))
    only = by_hand[listed]
    assert parts.loc["listed pairs only", "auroc"] == pytest.approx(roc_auc_score(only["label"], only["weight"]))
    pooled = bare.results.query("model == @name and reference == 'ref' and step == 'pooled' and metric == 'auroc'")
    assert pooled["value"].item() == pytest.approx(parts.loc["all pairs", "auroc"])


def test_the_parts_of_a_truncated_auroc_add_up(bare):
    for outcome in bare.record["outcomes"]:
        if outcome["analysis"] == "list_truncation":
            f = outcome["facts"]
            order = f["positives_listed"] * f["negatives_listed"] * (f["auroc_listed_only"] - 0.5)
            assert f["auroc"] == pytest.approx(f["auroc_of_listing"] + order)
            assert f["added_by_order"] == pytest.approx(order)


def test_what_needs_no_cells_runs_and_the_rest_says_why(bare):
    skipped = {s["analysis"]: s["reason"] for s in bare.record["skipped"]}
    needing = {n for n in SCORE_ANALYSES if "expression" in ANALYSES[n].needs}
    assert set(skipped) == needing == {
        "gene_level_baselines", "expression_matched", "coexpression_dominance", "cross_fitted_residual",
        "grn_method_baselines",
    }  # fmt: skip
    assert all("--expression CELLS" in reason for reason in skipped.values())
    ran = {o["analysis"] for o in bare.record["outcomes"] if o["tables"] and not o["facts"].get("refused")}
    assert ran == set(SCORE_ANALYSES) - needing
    tests = bare.tests
    assert (tests["p_raw"].notna() | (tests["undefined"] != "")).all()
    own = tests[tests["analysis"].isin(ran)].set_index("id")
    assert own.loc["degree_null/top/ref/coexpression_above_degree", "undefined"].startswith("there are no cells")
    assert own.loc["tf_resolution/top/ref/goes_with_expression", "undefined"].startswith("there are no cells")
    assert own.loc["reference_sensitivity/top/other/lead_depends_on_reference", "undefined"].startswith("there are no")
    assert np.isfinite(own.loc["degree_null/top/ref/above_degree", "p_raw"])
    assert not bare.tables["reference_sensitivity__top__ref__reference_grid"]["auroc"].isna().all()
    grid = bare.tables["metric_dependence__top__ref__metric_grid"]
    assert set(grid["score"]) == {"pooled", "marginal_product", "random"}
    reasons = " ".join(" ".join(v["reasons"]) for v in bare.record["verdicts"])
    assert "The analysis gene_level_baselines needs expression, and the study has no cells" in reasons


def test_several_tables_share_one_universe(study, bare):
    universe = next(u for u in bare.record["universes"] if u["reference"] == "ref")
    counts = universe["counts"]
    assert counts["listed_by_all"] < counts["listed_by_any"] < counts["candidates"]
    pooled = bare.results.query("step == 'pooled' and reference == 'ref' and metric == 'auroc'")
    assert pooled[["n_pos", "n_neg"]].drop_duplicates().shape[0] == 1
    assert any("any of the tables lists" in r for r in universe["restrictions"])


def test_a_list_too_short_for_its_positives_decides_nothing(study, tmp_path):
    pd.read_csv(study / "every.tsv", sep="\t").head(4).to_csv(tmp_path / "few.tsv", sep="\t", index=False)
    plan = plan_of_edges([study / "every.tsv", tmp_path / "few.tsv"], study / "ref.tsv", overrides=NO_CELLS)
    plan = plan.with_overrides({"analyses": ["reference_recovery", "degree_null", "list_truncation"]})
    run = audit(plan, out=tmp_path / "run", jobs=1)
    found = run.verdicts.set_index(["claim", "model"])
    short = found.loc[("beyond_degree", "few")]
    assert short["state"] == "inconclusive" and "The table lists 4 of" in short["reasons"]
    assert "cannot exceed" not in found.loc[("beyond_degree", "every"), "reasons"]


def test_excluding_leaves_pairs_that_all_tables_list(study):
    plan = plan_of_edges([study / "top.tsv.gz", study / "signed.csv"], study / "ref.tsv", absent="exclude")
    universe = prepare(plan).universes["ref"]
    tables = [pd.read_csv(study / f, sep=s) for f, s in (("top.tsv.gz", "\t"), ("signed.csv", ","))]
    both = set.intersection(*({(a, b) for a, b in zip(t["TF"], t["target"])} for t in tables))
    sources = set(pd.read_csv(study / "ref.tsv", sep="\t")["source"])
    i, j = np.nonzero(universe.candidate)
    found = {(universe.regulators[a], universe.genes[b]) for a, b in zip(i, j)}
    assert found == {p for p in both if p[0] in sources}
    assert universe.counts["listed_by_all"] == universe.counts["candidates"] == len(found)
    whole = prepare(plan_of_edges([study / "top.tsv.gz", study / "signed.csv"], study / "ref.tsv")).universes["ref"]
    left = {k: universe.counts[f"unlisted_{k}"] for k in ("left_out", "positives_left_out")}
    assert left == {
        "left_out": int(whole.candidate.sum()) - len(found),
        "positives_left_out": int(whole.positive.sum() - universe.positive.sum()),
    }
    assert any("biased by their selection" in r for r in universe.restrictions)


def test_a_complete_table_is_said_to_be_complete_and_needs_no_warning(study, tmp_path):
    run = rl.score(
        study / "every.tsv", study / "ref.tsv", out=tmp_path / "run", jobs=1,
        overrides=NO_CELLS | {"analyses": ["reference_recovery", "list_truncation"]},
    )  # fmt: skip
    assert run.record["models"][0]["attention"]["table"]["complete"]
    assert "truncated" not in (run.path / "report.html").read_text()
    parts = run.tables["list_truncation__every__ref__list_parts"]
    assert parts["pairs"].tolist() == ["all pairs"]


def test_the_report_shows_the_truncation_and_speaks_of_edges(bare):
    page = (bare.path / "report.html").read_text()
    text = (bare.path / "report.md").read_text()
    for found in (page, text):
        assert "top is a truncated list (200 of" in found.replace("\\", "")
        assert "tie last" in found
    assert page.index("truncated list") < page.index('id="answer"')  # before any number
    assert "pairs listed" in page and "positives listed" in page  # beside the numbers
    assert "Edge strength knows pairs beyond the degrees of their genes" in page
    shown = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert not re.search(r"\battention\b", shown, flags=re.IGNORECASE)
    assert "Layers and heads" not in page
    signs = bare.tables["list_truncation__signed__ref__list_signs"]
    assert signs["n_pairs"].item() > 0 and 0 <= signs["agreement"].item() <= 1
    assert set(pd.read_parquet(bare.path / "tables" / "edge_genes__top.parquet")["status"]) == {"kept"}


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory):
    """One table with expression, everything that such a study runs."""
    return rl.score(
        {"mine": study / "top.tsv.gz"}, study / "ref.tsv", study / "cells.h5ad",
        out=tmp_path_factory.mktemp("runs") / "whole", jobs=1, overrides=FAST,
    )  # fmt: skip


def test_with_expression_everything_runs_beside_the_methods(whole):
    assert whole.record["skipped"] == []
    assert {o["analysis"] for o in whole.record["outcomes"]} == set(SCORE_ANALYSES)
    methods = whole.tables["grn_method_baselines__mine__ref__methods"]
    assert {"pooled", "spearman", "lasso"} <= set(methods["method"])
    assert whole.record["cells"]["n_cells"] == 90
    assert {v["model"] for v in whole.record["verdicts"]} == {"mine"}
    assert all(v["title"].startswith("Edge strength") for v in whole.record["verdicts"])


def test_a_second_call_finds_the_run_and_the_place_of_a_file_does_not_matter(study, whole, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(study / "top.tsv.gz", moved)
    plan = plan_of_edges(
        {"mine": moved / "top.tsv.gz"}, study / "ref.tsv", expression=study / "cells.h5ad", overrides=FAST
    )
    assert plan.digest == whole.record["plan_digest"]
    notes = []
    progress = type("P", (), {"note": lambda self, text: notes.append(text)})()
    assert audit(plan, out=whole.path, jobs=1, progress=progress).record == whole.record
    assert "nothing to do" in notes[0]
    other = plan_of_edges(
        {"mine": moved / "top.tsv.gz"}, study / "ref.tsv", expression=study / "cells.h5ad", overrides=FAST,
        absent="exclude",
    )  # fmt: skip
    assert other.digest != plan.digest


def test_the_command_prints_lists_numbers_and_verdicts(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copy(study / "top.tsv.gz", tmp_path)
    words = ["score", "mine=top.tsv.gz", "--reference", str(study / "ref.tsv"), "--analysis", "list_truncation",
             "--analysis", "reference_recovery", "--bootstrap", "100", "--permutations", "99"]  # fmt: skip
    assert command([*words, "--dry-run"]) == 0
    assert "truncated: 200 of" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert command(words) == 0
    shown = capsys.readouterr().out
    assert "mine: truncated: 200 of" in shown
    assert "pairs that the table does not list tie last" in shown
    assert re.search(r"mine\s+ref\s+\d+\s+0\.\d{3}\s+0\.\d{3}\s+0\.\d{3} \(biased, \d+ positives\)", shown)
    assert shown.strip().endswith("report.html")
    assert command([*words, "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tables"]["mine"]["absent"] == "last" and found["recovery"][0]["table"] == "mine"
    assert command(["list", "models"]) == 0 and "edge table" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.tsv"], r"Expected a file at .*absent\.tsv, got no such file"),
        (["top.tsv.gz", "--absent", "never"], "one of last, exclude"),
        (["top.tsv.gz", "sub/top.tsv.gz"], "top more than once. Write NAME=FILE"),
        (["mouse.tsv"], "Expected human genes"),
        (["swapped.tsv"], "Expected regulators that the edge tables and 'ref' share, got none"),
        (["top.tsv.gz", "--set", "universe.genes=50"], "universe.genes: expected 'listed' in a study without cells"),
        (["top.tsv.gz", "--set", "models=[bundled:scgpt-mini]"], "expected an edge table|expected cells for"),
        (["top.tsv.gz", "--primary", "L01_mean"], "--primary"),
        (["top.tsv.gz", "--control", "ctrl"], "Expected a screen beside --control, got none"),
        ([], "Missing argument 'EDGES...'"),
    ],
)
def test_refusals_are_sentences_and_leave_nothing(study, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "sub").mkdir()
    for place in ("top.tsv.gz", "sub/top.tsv.gz"):
        shutil.copy(study / "top.tsv.gz", tmp_path / place)
    (tmp_path / "mouse.tsv").write_text("source\ttarget\tweight\nGata1\tTal1\t1\nStat1\tIrf1\t2\n")
    (tmp_path / "swapped.tsv").write_text("source\ttarget\tweight\nNOBODY1\tNOBODY2\t1\n")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    code = command(["score", *words, "--reference", str(study / "ref.tsv")])
    error = capsys.readouterr().err
    assert code == 2 and re.search(said, error), error
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_python_refuses_what_is_no_path(study):
    with pytest.raises(ParameterError, match="Expected paths of edge tables, got DataFrame"):
        rl.score(pd.DataFrame({"source": ["a"]}), study / "ref.tsv")
    with pytest.raises(ParameterError, match="Expected an edge table, got none"):
        plan_of_edges([], study / "ref.tsv")


def test_excluded_pairs_without_a_positive_are_refused(study, tmp_path):
    ref = pd.read_csv(study / "ref.tsv", sep="\t")
    known = set(zip(ref["source"], ref["target"]))
    table = pd.read_csv(study / "every.tsv", sep="\t")
    table[[p not in known for p in zip(table["TF"], table["target"])]].to_csv(
        tmp_path / "no.tsv", sep="\t", index=False
    )
    with pytest.raises(InputError, match=r"among the .* pairs that all tables list, got none\. Take absent pairs last"):
        prepare(plan_of_edges(tmp_path / "no.tsv", study / "ref.tsv", absent="exclude"))


def test_a_screen_is_predicted_on_the_perturbed_genes_that_a_table_lists(study, tmp_path):
    symbols = tiny_genes(N)["symbol"].tolist()
    rng = stream(1, "test/score")
    rows = [(p, g, rng.normal() + 3 * (j % 5 == i % 5), 0.5 if j % 5 != i % 5 else 1e-6)
            for i, p in enumerate(symbols[:16]) for j, g in enumerate(symbols) if g != p]  # fmt: skip
    table = pd.DataFrame(rows, columns=["perturbation", "gene", "effect", "p"])
    table.to_csv(tmp_path / "effects.tsv", sep="\t", index=False)
    plan = plan_of_edges(
        study / "every.tsv", expression=study / "cells.h5ad", screens=[{"source": str(tmp_path / "effects.tsv")}],
        overrides=FAST | {"analyses": ["perturbation_recovery"]},
    )  # fmt: skip
    universe = prepare(plan).screen_universes["effects"]
    assert universe.regulators == tuple(r for r in universe.regulators if r in set(symbols[:12]))
    assert universe.counts["perturbations_evaluable"] == len(universe.regulators) == 12
    assert any("4 of 16 perturbed genes left out" in r for r in universe.restrictions)
    run = audit(plan, out=tmp_path / "run", jobs=1)
    assert set(run.results["endpoint"]) == {"perturbation_response"}
    assert run.results["value"].notna().any()
    table["perturbation"] = table["perturbation"].map(dict(zip(symbols[:16], symbols[20:36])))
    table[table["perturbation"] != table["gene"]].to_csv(tmp_path / "effects.tsv", sep="\t", index=False)
    with pytest.raises(
        InputError, match="perturbed genes of 'effects' that an edge table lists as regulators, got none"
    ):
        prepare(plan)


WITHOUT_TORCH = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "transformers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from regulens.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def test_everything_that_a_table_needs_runs_without_torch(study, tmp_path):
    words = ["score", str(study / "top.tsv.gz"), "--reference", str(study / "ref.tsv"), "--expression",
             str(study / "cells.h5ad"), "--bootstrap", "100", "--permutations", "99", "--jobs", "1", "--quiet",
             "--set", "universe.min_cells_expressing=3", "--out", str(tmp_path / "run")]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    words = ["audit", str(study / "cells.h5ad"), "--model", "bundled:scgpt-mini", "--out", str(tmp_path / "no")]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "torch" in done.stderr  # torch is really out of reach


def test_listed_genes_need_a_table():
    plan = rl.Plan.from_options(universe={"genes": "listed"})
    with pytest.raises(PlanError, match=r"universe\.genes: expected an edge table"):
        prepare(plan)
