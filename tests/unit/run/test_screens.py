"""The whole chain on a screen in miniature: control cells only, same bytes, two screens, nothing left of a refusal."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="extraction needs the extra 'models'")

import anndata as ad

from regulens.analyses import calibration
from regulens.errors import InputError, ParameterError, PlanError, ScaleError
from regulens.plan import Plan
from regulens.report.build import build_report
from regulens.run.audit import audit
from regulens.run.prepare import plan_analyses
from regulens.run.preview import preview
from regulens.testing.tiny_screen import TARGETS, write_screen_cells, write_tiny_screen
from regulens.testing.tiny_study import write_reference

VOLATILE = {"timing.json"}

FEW = ("perturbation_recovery", "perturbation_baselines")


def contents(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in VOLATILE]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    return folder, write_tiny_screen(folder, analyses=FEW)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    return audit(study[1], out=tmp_path_factory.mktemp("runs") / "one", jobs=1)


def test_attention_is_read_in_control_cells_only(study, finished):
    cells = ad.read_h5ad(study[0] / "screen.h5ad")
    n_controls = int((cells.obs["perturbation"] == "control").sum())
    assert finished.record["cells"]["n_cells"] == n_controls < cells.n_obs
    assert finished.record["models"][0]["attention"]["n_cells"] == n_controls
    (screen,) = finished.record["screens"]
    assert screen["n_controls"] == n_controls and screen["n_cells"] == cells.n_obs


def test_a_file_is_the_same_file_however_its_path_is_written(study, tmp_path, monkeypatch):
    """A relative and an absolute path of one file: perturbed cells must not slip in as unperturbed ones."""
    monkeypatch.chdir(study[0])
    plan = study[1]
    screen = plan.model_dump(mode="json")["screens"][0] | {"source": "screen.h5ad"}
    found = preview(
        plan.with_overrides({"screens": [screen], "cells.perturbation": None, "cells.control": None})
    ).to_dict()
    assert found["cells"]["n_cells"] == found["screens"][0]["n_controls"]


def test_pairs_are_perturbed_genes_and_responders(finished):
    (universe,) = finished.record["universes"]
    responders = pd.read_csv(finished.path / "tables" / "responders__tiny-screen.tsv", sep="\t")
    assert set(responders["perturbation"]) <= set(TARGETS)
    assert (responders["perturbation"] != responders["gene"]).all()
    assert universe["counts"]["evaluable"] == len(responders) > 0
    checks = pd.read_csv(finished.path / "tables" / "screen_checks__tiny-screen.tsv", sep="\t")
    assert set(checks["perturbation"]) == set(TARGETS)


def test_every_test_of_a_screen_is_of_its_endpoint_and_one_family(finished):
    tests = finished.tests
    assert set(tests["endpoint"]) == {"perturbation_response"} and tests["family"].nunique() == 1
    assert (tests["p_raw"].notna() | (tests["undefined"] != "")).all()
    (verdict,) = finished.record["verdicts"]
    assert verdict["claim"] == "predicts_response" and verdict["reference"] == "tiny-screen"
    assert any("at least 20 are needed" in r for r in verdict["reasons"])


def test_two_workers_give_the_same_bytes_and_a_second_run_nothing_new(study, finished, tmp_path):
    other = audit(study[1], out=tmp_path / "two", jobs=2)
    assert contents(other.path) == contents(finished.path)
    assert contents(audit(study[1], out=finished.path, jobs=1).path) == contents(other.path)


def test_networks_and_screens_in_one_study_stay_apart(study, finished, tmp_path):
    _, plan = study
    write_reference(tmp_path / "network.tsv", n_genes=60)
    both = plan.with_overrides(
        {"references": [str(tmp_path / "network.tsv")], "analyses": ["reference_recovery", *FEW]}
    )
    run = audit(both, out=tmp_path / "both", jobs=1)
    families = run.tests.groupby("endpoint")["family"].agg(set).to_dict()
    assert families["perturbation_response"] != families["reference_recovery"]
    claims = {v["reference"]: {w["claim"] for w in run.record["verdicts"] if w["reference"] == v["reference"]}
              for v in run.record["verdicts"]}  # fmt: skip
    assert claims["tiny-screen"] == {"predicts_response"} and "predicts_response" not in claims["network"]
    page = (build_report(run.path)["report.html"]).read_text()
    assert "Endpoint: perturbation response" in page and "Endpoint: reference recovery" in page
    assert "responses to" in page


def test_a_label_rule_that_leaves_nothing_is_refused_before_anything_is_written(study, tmp_path):
    _, plan = study
    data = plan.model_dump(mode="json")["screens"][0]
    with pytest.raises(InputError, match="got none of 8"):
        audit(plan.with_overrides({"screens": [data | {"min_effect": 40.0}]}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cells.control": "contrl"}, "Did you mean 'control'"),
        ({"cells.perturbation": None, "cells.control": "control", "screens": []}, "expected a reference or a screen"),
    ],
)
def test_control_cells_have_to_be_named_rightly(study, tmp_path, change, said):
    copy = tmp_path / "cells.h5ad"
    copy.write_bytes((study[0] / "screen.h5ad").read_bytes())
    plan = study[1]
    with pytest.raises((InputError, PlanError), match=said):
        audit(plan.with_overrides({"cells.source": str(copy)} | change), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_perturbed_cells_are_not_read_beside_a_screen_of_another_file(study, tmp_path):
    copy = tmp_path / "cells.h5ad"
    copy.write_bytes((study[0] / "screen.h5ad").read_bytes())
    with pytest.raises(PlanError, match=r"cells\.control"):
        preview(study[1].with_overrides({"cells.source": str(copy), "cells.control": None}))


def test_a_table_of_effects_stands_for_a_screen(study, finished, tmp_path):
    rng = np.random.default_rng(0)
    genes = ad.read_h5ad(study[0] / "screen.h5ad").var_names
    rows = [
        (t, g, round(float(e), 4), 1e-6 if abs(e) > 0.8 else 0.5)
        for t in TARGETS
        for g, e in zip(genes, rng.normal(0, 0.6, len(genes)))
        if g != t
    ]
    table = pd.DataFrame(rows, columns=["perturbation", "gene", "delta_log1p", "p"])
    table.to_csv(tmp_path / "effects.tsv", sep="\t", index=False)
    plan = study[1].with_overrides(
        {"screens": [{"source": str(tmp_path / "effects.tsv")}], "analyses": [*FEW, "design_sensitivity"]}
    )
    run = audit(plan, out=tmp_path / "out", jobs=1)
    (screen,) = run.record["screens"]
    assert screen["kind"] == "table of effects" and screen["name"] == "effects"
    assert screen["counts"]["perturbations_evaluable"] == len(TARGETS)
    with pytest.raises(ParameterError, match="table of effects"):
        preview(plan.with_overrides({"screens": [{"source": str(tmp_path / "effects.tsv"), "control": "NT"}]}))


def test_a_changed_effect_is_read_anew_in_the_same_folder(study, tmp_path):
    genes = list(ad.read_h5ad(study[0] / "screen.h5ad").var_names)
    rng = np.random.default_rng(1)

    def write(seed):
        effect = np.random.default_rng(seed).normal(0, 0.6, (len(TARGETS), len(genes)))
        rows = [
            (t, g, e, 1e-6 if abs(e) > 0.8 else 0.5)
            for t, line in zip(TARGETS, effect)
            for g, e in zip(genes, line)
            if g != t
        ]
        table = pd.DataFrame(rows, columns=["perturbation", "gene", "effect", "p"])
        table.to_csv(tmp_path / "effects.tsv", sep="\t", index=False)

    plan = study[1].with_overrides({"screens": [{"source": str(tmp_path / "effects.tsv")}], "analyses": [FEW[0]]})
    write(int(rng.integers(100)))
    audit(plan, out=tmp_path / "out", jobs=1)
    write(int(rng.integers(100, 200)))
    again, fresh = audit(plan, out=tmp_path / "out", jobs=1), audit(plan, out=tmp_path / "fresh", jobs=1)
    assert contents(again.path / "tables") == contents(fresh.path / "tables")


def test_a_study_of_a_screen_plans_its_battery_and_no_simulation_of_networks():
    planned = plan_analyses(Plan.from_options(references=[], screens=["screen.h5ad"]))
    names = {item.spec.name for item in planned}
    assert {"perturbation_recovery", "incremental_value", "conformal"} <= names
    assert all(item.spec.scope == "model_screen" for item in planned)
    both = {item.spec.name for item in plan_analyses(Plan.from_options(screens=["screen.h5ad"]))}
    assert names < both and "synthetic_cssi" in both


def test_a_second_screen_is_seen_by_the_first(study, tmp_path):
    _, plan = study
    one = plan.model_dump(mode="json")["screens"][0]
    two = one | {"name": "stricter", "min_effect": 0.8}
    both = plan.with_overrides({"screens": [one, two], "analyses": ["dataset_generalisation"]})
    run = audit(both, out=tmp_path / "out", jobs=1)
    assert {o["reference"] for o in run.record["outcomes"]} == {"tiny-screen", "stricter"}
    assert run.record["skipped"] == [] and run.tests["p_raw"].notna().any()
    alone = audit(plan.with_overrides({"analyses": ["dataset_generalisation"]}), out=tmp_path / "alone", jobs=1)
    (left,) = alone.record["skipped"]
    assert "needs a second screen" in left["reason"]
    assert alone.tests["p_raw"].isna().all() and (alone.tests["undefined"] == left["reason"]).all()


def test_networks_of_a_second_screen_are_those_of_its_own_perturbations(study, tmp_path, monkeypatch):
    """Otherwise nothing could be carried over to a screen that perturbs a gene which the first does not."""
    _, plan = study
    scores_of, seen = calibration.scores_of, []

    def watched(inp, methods):
        seen.append((inp.universe.regulators, inp.inferred["pearson"].regulators))
        return scores_of(inp, methods)

    monkeypatch.setattr(calibration, "scores_of", watched)
    one = plan.model_dump(mode="json")["screens"][0]
    both = [one | {"name": "stricter", "min_responders": 26}, one]
    asked = [{"name": "calibration", "parameters": {"methods": ["pearson"]}}]
    audit(plan.with_overrides({"screens": both, "analyses": asked}), out=tmp_path / "out", jobs=1)
    assert len(seen) == 3 and len({theirs for theirs, _ in seen}) == 2  # both screens, and one as the other's second
    for theirs, scored in seen:
        assert theirs == scored


def test_a_preview_says_what_a_screen_offers(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = preview(study[1]).to_dict()
    assert not list(tmp_path.iterdir())
    assert found["screens"][0]["counts"]["perturbations_evaluable"] > 0
    json.dumps(found, allow_nan=False)


@pytest.fixture(scope="module")
def lines(study, tmp_path_factory):
    """One file of two cell lines with counts, one with counts of the first line and logarithms of the second."""
    folder = tmp_path_factory.mktemp("lines")
    parts = []
    for line, seed in (("K562", 1), ("RPE1", 2)):
        data = ad.read_h5ad(write_screen_cells(folder / f"{line}.h5ad", n_cells=300, seed=seed))
        data.obs["cell_line"] = line
        data.obs_names = [f"{line}-{name}" for name in data.obs_names]
        parts.append(data)
    ad.concat(parts).write_h5ad(folder / "two.h5ad")
    x = parts[1].X.toarray()
    parts[1].X = np.log1p(x / x.sum(1, keepdims=True) * 1e4).astype(np.float32)
    parts[0].X = parts[0].X.toarray()
    ad.concat(parts).write_h5ad(folder / "mixed.h5ad")
    return folder


def of_lines(study, path, *names):
    """The study with one screen per line of a file, whose control cells the model reads."""
    cells = {"cells.source": str(path), "cells.perturbation": None, "cells.control": None}
    screens = [{"source": str(path), "only": name, "min_cells": 20} for name in names]
    return study[1].with_overrides(cells | {"screens": screens})


def test_screens_of_one_file_are_read_in_the_control_cells_of_all(study, lines):
    found = preview(of_lines(study, lines / "two.h5ad", "K562", "RPE1")).to_dict()
    controls = [s["n_controls"] for s in found["screens"]]
    assert found["cells"]["n_cells"] == sum(controls) > max(controls) > 0
    assert "control cells of two-K562, two-RPE1" in " ".join(found["universes"][0]["restrictions"])


def test_one_line_of_a_file_of_two_scales_can_be_studied(study, lines):
    mixed, sound = (preview(of_lines(study, lines / f, "K562")).to_dict() for f in ("mixed.h5ad", "two.h5ad"))
    assert mixed["cells"]["digest"] == sound["cells"]["digest"]
    assert mixed["cells"]["name"] == "mixed" and mixed["cells"]["source"].startswith("mixed.h5ad: counts")
    assert mixed["cells"]["n_cells"] == mixed["screens"][0]["n_controls"]
    whole = of_lines(study, lines / "mixed.h5ad", "K562").with_overrides({"screens": [str(lines / "mixed.h5ad")]})
    with pytest.raises(ScaleError, match="one scale"):
        preview(whole)


def test_a_file_has_one_library_size_for_cells_and_screen(study, tmp_path):
    """Named for the cells alone, library sizes would be those of the models' cells and not of the effects."""
    data = ad.read_h5ad(study[0] / "screen.h5ad")
    data.obs["total"] = np.asarray(data.X.sum(1)).ravel() * np.linspace(1, 5, data.n_obs)
    data.write_h5ad(tmp_path / "screen.h5ad")
    screen = study[1].model_dump(mode="json")["screens"][0] | {"source": str(tmp_path / "screen.h5ad")}
    plan = study[1].with_overrides({"cells.source": str(tmp_path / "screen.h5ad"), "screens": [screen]})
    named = preview(plan.with_overrides({"cells.total_counts": "total"})).to_dict()["screens"][0]
    both = preview(
        plan.with_overrides({"cells.total_counts": "total", "screens": [screen | {"total_counts": "total"}]})
    )
    assert named["digest"] == both.to_dict()["screens"][0]["digest"] != preview(plan).to_dict()["screens"][0]["digest"]
    assert "library sizes from obs['total']" in named["source"]
    apart = plan.with_overrides({"cells.source": str(study[0] / "screen.h5ad"), "cells.counts": "X"})
    assert "library sizes" not in preview(apart).to_dict()["screens"][0]["source"]


def test_a_copy_of_the_same_name_is_the_same_file(study, tmp_path):
    """Its digest is that of the original, so perturbed cells must not be read in it either."""
    copy = tmp_path / "screen.h5ad"
    copy.write_bytes((study[0] / "screen.h5ad").read_bytes())
    plan = study[1].with_overrides({"cells.perturbation": None, "cells.control": None})
    found, original = preview(plan.with_overrides({"cells.source": str(copy)})).to_dict(), preview(plan).to_dict()
    assert found["plan_digest"] == original["plan_digest"]
    assert found["cells"]["digest"] == original["cells"]["digest"]
    assert found["cells"]["n_cells"] == found["screens"][0]["n_controls"]


def test_a_misspelt_control_label_is_refused_beside_a_screen_of_the_same_file(study):
    with pytest.raises(InputError, match="Did you mean 'control'"):
        preview(study[1].with_overrides({"cells.control": "contrl"}))
