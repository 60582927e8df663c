"""Edge tables as models: strengths, what is listed, absent pairs, options, refusals; loaded without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from regulens import models
from regulens.errors import AlignmentError, InputError, ModelError, SchemaError
from regulens.models.score_model import as_directions, verify_scores
from regulens.models.spec import parse, portable
from regulens.types.genes import GeneVocabulary

GENES = ("GATA1", "STAT1", "TAL1", "IRF1")
ROWS = [("GATA1", "TAL1", -0.5), ("GATA1", "IRF1", 0.2), ("STAT1", "IRF1", 2.0), ("STAT1", "MYC", 1.0)]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "grn.tsv.gz"
    pd.DataFrame(ROWS, columns=["TF", "target", "importance"]).to_csv(path, sep="\t", index=False)
    return path


def vocabulary(symbols=GENES):
    return GeneVocabulary(symbols=symbols, ensembl=("",) * len(symbols))


def score(model, name, symbols=GENES, regulators=("STAT1", "GATA1")):
    found = model.edge_scores(vocabulary(symbols), regulators)
    return found.values[found.names.index(name)], found


def test_absent_pairs_tie_last_below_every_listed_pair(table):
    model = models.load(f"edges:{table}")
    values, found = score(model, "edge_weight")
    assert found.names == ("edge_weight", "listed", "signed_weight")
    assert values.tolist() == [[0, 0, 0, 2.0], [0, 0, 0.5, 0.2]]
    assert found.values[1].tolist() == [[0, 0, 0, 1], [0, 0, 1, 1]]
    assert found.values[2].tolist() == [[0, 0, 0, 2.0], [0, 0, -0.5, 0.2]]
    assert found.observed.tolist() == [[True, False, True, True], [False, True, True, True]]
    assert model.card.n_layers == 0 and model.card.name == "grn"
    assert any("tie last" in note for note in model.card.notes)


def test_excluded_pairs_are_unobserved(table):
    model = models.load(f"edges:{table}?absent=exclude")
    values, found = score(model, "edge_weight")
    assert found.names == ("edge_weight", "signed_weight")
    assert found.observed.tolist() == [[False, False, False, True], [False, False, True, True]]
    assert values[found.observed].tolist() == [2.0, 0.5, 0.2]
    assert model.card.name == "grn-exclude"
    assert any("own selection" in note for note in model.card.notes)


def test_a_listed_weight_of_zero_stands_above_what_is_not_listed(tmp_path):
    path = tmp_path / "z.csv"
    pd.DataFrame([("GATA1", "TAL1", 0.0), ("GATA1", "IRF1", 0.25)], columns=["source", "target", "weight"]).to_csv(
        path, index=False
    )
    model = models.load(f"edges:{path}")
    values, found = score(model, "edge_weight", regulators=("GATA1",))
    assert values[0].tolist() == [0.0, -0.25, 0.0, 0.25]
    pooled = as_directions(found, primary=model.primary, floor=model.floor)["regulator_attends"].values[0]
    assert pooled[0].tolist() == [0.0, 0.0, 0.25, 0.5]


def test_order_of_genes_and_of_rows_changes_nothing(table, tmp_path):
    model = models.load(f"edges:{table}")
    values, _ = score(model, "edge_weight")
    turned, _ = score(model, "edge_weight", symbols=GENES[::-1], regulators=("GATA1", "STAT1"))
    assert np.array_equal(values, turned[::-1, ::-1])
    shuffled = tmp_path / "b.tsv"
    pd.DataFrame(ROWS[::-1], columns=["TF", "target", "importance"]).to_csv(shuffled, sep="\t", index=False)
    assert np.array_equal(values, score(models.load(f"edges:{shuffled}"), "edge_weight")[0])
    checks = verify_scores(model, type("Cells", (), {"genes": vocabulary()})())
    assert checks["passed"].all(), checks


def test_every_pair_listed_says_nothing_by_being_listed(tmp_path):
    path = tmp_path / "all.csv"
    pairs = [(a, b, 1.0 + i + 2 * j) for i, a in enumerate(GENES) for j, b in enumerate(GENES) if a != b]
    pd.DataFrame(pairs, columns=["source", "target", "weight"]).to_csv(path, index=False)
    model = models.load(f"edges:{path}")
    assert score(model, "edge_weight")[1].names == ("edge_weight",)
    assert not any("tie last" in note for note in model.card.notes)


def test_options_select_column_and_axis(tmp_path):
    path = tmp_path / "e.tsv"
    pd.DataFrame([("GATA1", "TAL1", 1.0, 9.0)], columns=["source", "target", "weight", "other"]).to_csv(
        path, sep="\t", index=False
    )
    assert models.load(f"edges:{path}?column=other").table.edges["weight"].tolist() == [9.0]
    matrix = pd.DataFrame([[1.0], [2.0], [3.0]], index=["TAL1", "IRF1", "MYC"], columns=["GATA1"])
    matrix.assign(STAT1=0.5).to_csv(tmp_path / "m.csv")
    with pytest.raises(SchemaError, match="--rows regulators or --rows targets"):
        models.load(f"edges:{tmp_path / 'm.csv'}")
    assert models.load(f"edges:{tmp_path / 'm.csv'}?rows=targets").regulators == {"GATA1", "STAT1"}


def test_wrong_options_and_places_are_refused(table, tmp_path):
    with pytest.raises(ModelError, match=r"one of last, exclude.*Did you mean"):
        models.load(f"edges:{table}?absent=exlude")
    with pytest.raises(ModelError, match="option of edge table"):
        models.load(f"edges:{table}?weights_of=x")
    with pytest.raises(ModelError, match="no weights to draw"):
        models.load(f"edges:{table}?weights=random")
    with pytest.raises(InputError, match=r"grn\.tsv"):
        models.load(f"edges:{tmp_path / 'grn.tsv'}")
    with pytest.raises(ModelError, match="one published layout"):
        models.detect(tmp_path)  # a folder of tables is no checkpoint
    with pytest.raises(AlignmentError, match="MYC"):
        models.load(f"edges:{table}").edge_scores(vocabulary(), ("MYC",))


def test_the_digest_is_that_of_the_content_and_the_record_knows_no_folder(table):
    first = models.load(f"edges:{table}").card.sha256
    assert first == models.load(f"edges:{table}?absent=exclude").card.sha256
    table.write_bytes(table.read_bytes() + b"")
    pd.DataFrame(ROWS[1:], columns=["TF", "target", "importance"]).to_csv(table, sep="\t", index=False)
    assert models.load(f"edges:{table}").card.sha256 != first
    assert portable(f"edges:{table}?absent=exclude") == "edges:grn.tsv.gz?absent=exclude"
    assert parse(f"edges:{table}").name == "grn"


def test_torch_is_not_needed(table):
    code = f"import sys, regulens.models as m; m.load('edges:{table}'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    broken = f"import sys, torch, regulens.models as m; m.load('edges:{table}'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", broken], check=False).returncode == 1  # the check can fail
