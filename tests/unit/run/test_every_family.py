"""Every family in one study, on generated checkpoints in their published layouts, with the same cells and reference."""

import pandas as pd
import pytest

pytest.importorskip("torch", reason="extraction needs the extra 'models'")
pytest.importorskip("tokenizers", reason="C2S reads its tokenizer with the library of that name")

from regulens.models import FAMILIES, verify
from regulens.plan import Plan
from regulens.report.build import build_report
from regulens.run.audit import audit
from regulens.testing.checkpoint_aido_cell import write_aido_cell
from regulens.testing.checkpoint_c2s import write_c2s
from regulens.testing.checkpoint_scfoundation import write_scfoundation
from regulens.testing.checkpoint_scprint import write_scprint
from regulens.testing.checkpoint_scvi import write_scvi
from regulens.testing.checkpoint_uce import write_uce
from regulens.testing.checkpoints import write_geneformer, write_scgpt
from regulens.testing.tiny_study import tiny_genes, write_cells, write_reference
from regulens.types.endpoints import Endpoint
from regulens.verdicts import RULES

N_GENES = 40


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    genes = tiny_genes(N_GENES)
    symbols, ensembl = genes["symbol"].tolist(), genes["ensembl"].tolist()
    write_cells(folder / "cells.h5ad", n_cells=40, n_genes=N_GENES)
    write_reference(folder / "reference.tsv", n_genes=N_GENES)
    write_scgpt(folder / "scgpt", vocab=symbols)
    write_geneformer(folder / "geneformer", vocab=ensembl)
    write_scfoundation(folder / "scfoundation", vocab=symbols)
    write_aido_cell(folder / "aido_cell", vocab=symbols)
    write_scprint(folder / "scprint", genes=ensembl)
    write_c2s(folder / "c2s", vocab=symbols)
    write_uce(folder / "uce", symbols=symbols)
    write_scvi(folder / "scvi", vocab=symbols)
    pairs = [(a, b, 1 / (1 + i + j)) for i, a in enumerate(symbols[:8]) for j, b in enumerate(symbols) if (i + j) % 3]
    pd.DataFrame(pairs, columns=["source", "target", "weight"]).to_csv(folder / "edges.tsv", sep="\t", index=False)
    return folder


def test_every_registered_family_is_in_this_study(study):
    assert {*(p.name for p in study.iterdir() if p.is_dir()), "edges"} == set(FAMILIES)


def test_one_study_audits_all_of_them(study, tmp_path):
    plan = Plan.from_options(
        cells={"source": str(study / "cells.h5ad"), "cell_state": "type"},
        models=[f"{family}:{study / ('edges.tsv' if family == 'edges' else family)}" for family in FAMILIES],
        references=[str(study / "reference.tsv")],
        universe={"genes": N_GENES, "min_cells_expressing": 3},
        statistics={"bootstrap": 100, "permutations": 99, "min_cells": 3},
    )
    run = audit(plan, out=tmp_path / "run", jobs=1)
    assert set(run.verdicts["model"]) == set(FAMILIES)
    about_networks = [r for r in RULES if r.endpoint is Endpoint.REFERENCE_RECOVERY]
    assert len(run.verdicts) == len(about_networks) * len(list(FAMILIES))
    for model in run.record["models"]:
        found = model["verification"]
        assert found.get("max_abs_difference", 0.0) < 1e-4, model["name"]
        assert model["attention"]["n_pairs_observed"] > 0, model["name"]
    undefined = run.tests[(run.tests["model"] == "scvi") & (run.tests["undefined"] != "")]
    assert {i.rsplit("/", 1)[-1] for i in undefined["id"]} >= {"layer_nested_above_chance", "some_head_above_chance"}
    written = build_report(run.path)
    page = written["report.html"].read_text() if "report.html" in written else (run.path / "report.html").read_text()
    assert all(family in page for family in FAMILIES)


@pytest.mark.parametrize("family", ["scvi", "scgpt"])
def test_models_are_verified_with_and_without_attention(study, family):
    from regulens.io.cells import read_cells

    table = verify(f"{family}:{study / family}", read_cells(study / "cells.h5ad"))
    assert table["passed"].all(), table[~table["passed"]]
