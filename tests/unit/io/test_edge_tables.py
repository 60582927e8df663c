"""Edge tables of other tools: columns recognised, symbols mapped, losses counted, refusals in one sentence."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from regulens.errors import InputError, SchemaError
from regulens.io.edge_tables import read_edge_table


@pytest.mark.parametrize(
    "header",
    ["TF\ttarget\timportance", "source,target,weight", "Gene1\tGene2\tEdgeWeight", "regulator;target_gene;score"],
)
def test_common_shapes_are_recognised(tmp_path, header):
    separator = next(s for s in "\t,;" if s in header)
    rows = [("GATA1", "TAL1", "0.5"), ("STAT1", "IRF1", "2"), ("GATA1", "IRF1", "1.5")]
    path = tmp_path / "edges.txt"
    path.write_text("\n".join([header, *(separator.join(r) for r in rows)]) + "\n")
    found = read_edge_table(path, name="tool")
    assert found.edges["weight"].tolist() == [2.0, 1.5, 0.5]
    assert found.edges.iloc[0][["source", "target"]].tolist() == ["STAT1", "IRF1"]
    assert found.counts["pairs"] == 3


def test_symbols_are_mapped_and_every_loss_is_counted():
    table = pd.DataFrame(
        {
            "TF": ["MLL", "GATA1", "GATA1", "GATA1", "STAT1"],
            "target": ["TAL1", "TAL1", "TAL1", "GATA1", "IRF1"],
            "importance": [1.0, 2.0, -3.0, 9.0, 0.0],
        }
    )
    found = read_edge_table(table, name="tool")
    assert found.signed
    assert found.counts == {"rows": 5, "ambiguous": 0, "self_pairs": 1, "duplicates": 1, "pairs": 3}
    edges = found.edges.set_index(["source", "target"])["weight"]
    assert edges["GATA1", "TAL1"] == 3.0  # the strongest of a repeated pair
    assert ("KMT2A", "TAL1") in edges.index  # MLL is an earlier symbol


def test_compressed_text_and_parquet_read_the_same(tmp_path):
    table = pd.DataFrame({"source": ["GATA1"], "target": ["TAL1"], "weight": [0.25]})
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(table.to_csv(sep="\t", index=False).encode()))
    table.to_parquet(tmp_path / "a.parquet")
    one, two = (read_edge_table(tmp_path / f, name="a").edges for f in ("a.tsv.gz", "a.parquet"))
    assert one.equals(two)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", InputError, "empty file"),
        ("TF\ttarget\nA\tB\n", SchemaError, r"Expected a weight column .* got columns TF, target\. Rename"),
        ("a\ttarget\tweight\nA\tB\t1\n", SchemaError, "Expected a source column"),
        ("TF\ttarget\tweight\nGATA1\tTAL1\thigh\n", SchemaError, "got 'high' in row 1"),
        ("TF\ttarget\tweight\nGATA1\tTAL1\n", SchemaError, "got 2 in row 1"),
        ("TF\ttarget\tweight\nGATA1\tGATA1\t1\n", InputError, "got none of 1 rows"),
    ],
)
def test_refusals_are_sentences(tmp_path, text, error, said):
    path = tmp_path / "edges.tsv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        read_edge_table(path, name="tool")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.tsv"):
        read_edge_table(tmp_path / "absent.tsv", name="tool")
