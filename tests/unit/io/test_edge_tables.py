"""Edge tables of any tool: shapes recognised, symbols mapped, losses counted, truncation named, bad input refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from regulens.errors import InputError, NamespaceError, SchemaError
from regulens.io.edge_tables import losses_in_words, read_edge_table

ROWS = [("GATA1", "TAL1", "0.5"), ("STAT1", "IRF1", "2"), ("GATA1", "IRF1", "1.5")]
STRONGEST_FIRST = [("STAT1", "IRF1", 2.0), ("GATA1", "IRF1", 1.5), ("GATA1", "TAL1", 0.5)]


def write(path, header, rows=ROWS, separator="\t"):
    lines = [separator.join(r) for r in rows]
    path.write_text("\n".join([header, *lines] if header else lines) + "\n")
    return path


def read(source, **options):
    return read_edge_table(source, name="tool", **options)


def pairs(table):
    return list(table.edges[["source", "target", "weight"]].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    "header",
    [
        "TF\ttarget\timportance", "source,target,weight", "Gene1\tGene2\tEdgeWeight", "regulator;target_gene;score",
        "source target edge_score", "", "# made by a tool\nsource\ttarget\tcoef",
    ],
)  # fmt: skip
def test_long_tables_with_weights(tmp_path, header):
    separator = next((s for s in "\t,; " if s in header.splitlines()[-1]), "\t") if header else "\t"
    found = read(write(tmp_path / "edges.txt", header, separator=separator))
    assert pairs(found) == STRONGEST_FIRST
    assert found.counts["pairs"] == 3 and not found.signed


def test_row_names_of_r_are_no_gene(tmp_path):
    rows = [(str(k), *r) for k, r in enumerate(ROWS, 1)]
    assert pairs(read(write(tmp_path / "r.tsv", "TF\ttarget\timportance", rows))) == STRONGEST_FIRST
    assert pairs(read(write(tmp_path / "p.csv", ",TF,target,importance", rows, ","))) == STRONGEST_FIRST


@pytest.mark.parametrize(
    ("header", "rows", "negative"),
    [
        ("", [("GATA1", "TAL1", "Activation", "1"), ("STAT1", "IRF1", "Repression", "2;3")], 1),
        ("tf\tconfidence\ttarget\tmor", [("GATA1", "A", "TAL1", "1"), ("STAT1", "B", "IRF1", "-1.0")], 1),
        ("source\ttarget\tsign", [("GATA1", "TAL1", "+"), ("STAT1", "IRF1", "?")], 0),
        (
            "source\ttarget\tsource_genesymbol\ttarget_genesymbol\tis_stimulation\tis_inhibition\tn_references",
            [("P1", "P2", "GATA1", "TAL1", "True", "False", "7"), ("P3", "P4", "STAT1", "IRF1", "0", "1", "9")],
            1,
        ),
        ("source\ttarget", [("GATA1", "TAL1"), ("STAT1", "IRF1")], 0),
    ],
    ids=["trrust", "dorothea", "signs", "omnipath", "pairs"],
)
def test_lists_without_weights_tie(tmp_path, header, rows, negative):
    found = read(write(tmp_path / "net.tsv", header, rows))
    assert set(zip(found.edges["source"], found.edges["target"])) == {("GATA1", "TAL1"), ("STAT1", "IRF1")}
    assert found.edges["weight"].tolist() == [1.0, 1.0]
    assert int((found.edges["sign"] < 0).sum()) == negative
    assert "no weights: all listed pairs tie" in found.completeness.sentence


def test_signed_weights_are_ranked_by_strength_and_keep_their_sign(tmp_path):
    rows = [("GATA1", "TAL1", "-0.9"), ("STAT1", "IRF1", "0.2"), ("GATA1", "IRF1", "0.5")]
    for header in ("source\ttarget\tweight", "source\ttarget\tmor"):
        found = read(write(tmp_path / "net.tsv", header, rows))
        assert found.signed
        assert found.edges["sign"].tolist() == [-1, 1, 1]
        assert found.edges["weight"].tolist() == [0.9, 0.5, 0.2]
    rows = [("GATA1", "TAL1", "0.9", "repression"), ("STAT1", "IRF1", "0.2", "activation")]
    found = read(write(tmp_path / "net.tsv", "source\ttarget\tweight\tmode", rows))
    assert found.edges["sign"].tolist() == [-1, 1]


def test_string_is_read_both_ways(tmp_path):
    rows = [("GATA1", "TAL1", "0.9"), ("TAL1", "GATA1", "0.4"), ("STAT1", "IRF1", "0.3")]
    found = read(write(tmp_path / "string.tsv", "#node1\tnode2\tcombined_score", rows))
    assert found.counts["reversed"] == 1 and found.counts["pairs"] == 4
    weight = found.edges.set_index(["source", "target"])["weight"]
    assert weight["GATA1", "TAL1"] == 0.9 and weight["TAL1", "GATA1"] == 0.4  # what each direction says is kept
    assert weight["IRF1", "STAT1"] == weight["STAT1", "IRF1"] == 0.3
    assert "undirected" in " ".join(found.words)


def test_sif_and_graphml(tmp_path):
    import networkx as nx

    (tmp_path / "net.sif").write_text("GATA1 activates TAL1 IRF1\nSTAT1 inhibits IRF1\n")
    found = read(tmp_path / "net.sif")
    assert found.counts["pairs"] == 3 and (found.edges["sign"] < 0).sum() == 1
    graph = nx.DiGraph()
    for a, b, w in ROWS:
        graph.add_edge(a, b, weight=float(w))
    nx.write_graphml(graph, tmp_path / "net.graphml")
    assert pairs(read(tmp_path / "net.graphml")) == STRONGEST_FIRST
    nx.write_graphml(graph.to_undirected(), tmp_path / "both.graphml")
    assert read(tmp_path / "both.graphml").counts["pairs"] == 6


def test_compressed_files_and_parquet_read_the_same(tmp_path):
    table = pd.DataFrame(ROWS, columns=["source", "target", "weight"])
    text = table.to_csv(sep="\t", index=False).encode()
    for ending, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        (tmp_path / f"a.tsv.{ending}").write_bytes(pack(text))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inside/a.tsv", text)
    table.astype({"weight": float}).to_parquet(tmp_path / "a.parquet")
    for file in ("a.tsv.gz", "a.tsv.bz2", "a.tsv.xz", "a.zip", "a.parquet"):
        assert pairs(read(tmp_path / file)) == STRONGEST_FIRST, file
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.tsv", text)
        archive.writestr("b.tsv", text)
    with pytest.raises(InputError, match=r"one file in the archive two\.zip, got 2 \(a\.tsv, b\.tsv\)"):
        read(tmp_path / "two.zip")


MATRIX = pd.DataFrame(
    [[np.nan, 0.5, -0.2], [1.0, np.nan, 0.0]], index=["GATA1", "STAT1"], columns=["GATA1", "STAT1", "TAL1"]
)
IN_MATRIX = {("STAT1", "GATA1"): 1.0, ("GATA1", "STAT1"): 0.5, ("GATA1", "TAL1"): 0.2, ("STAT1", "TAL1"): 0.0}


@pytest.mark.parametrize("how", ["csv", "tsv", "parquet", "frame", "r"])
def test_matrices_have_regulators_in_rows(tmp_path, how):
    path = tmp_path / f"m.{how}"
    if how == "parquet":
        MATRIX.to_parquet(path)
    elif how == "r":
        lines = MATRIX.to_csv(sep="\t", na_rep="NA").splitlines()
        path.write_text("\n".join([lines[0].removeprefix("\t"), *lines[1:]]) + "\n")
    elif how != "frame":
        MATRIX.to_csv(path, sep="," if how == "csv" else "\t")
    found = read(MATRIX if how == "frame" else path)
    assert dict(zip(zip(found.edges["source"], found.edges["target"]), found.edges["weight"])) == IN_MATRIX
    assert found.signed and "[regulator, target]" in found.words[0]


def test_the_axis_of_regulators_is_asked_for_and_never_guessed(tmp_path):
    MATRIX.T.to_csv(tmp_path / "turned.csv")
    with pytest.raises(SchemaError, match=r"regulators in the rows of turned\.csv, got a 3 x 2 matrix.*--rows targets"):
        read(tmp_path / "turned.csv")
    found = read(tmp_path / "turned.csv", rows="targets")
    assert dict(zip(zip(found.edges["source"], found.edges["target"]), found.edges["weight"])) == IN_MATRIX
    genes = ["GATA1", "STAT1", "TAL1"]
    square = pd.DataFrame([[0, 1, 2], [3, 0, 4], [5, 6, 0]], index=genes, columns=genes, dtype=float)
    square.to_csv(tmp_path / "square.csv")
    one, other = read(tmp_path / "square.csv"), read(tmp_path / "square.csv", rows="targets")
    assert one.edges.iloc[0][["source", "target"]].tolist() == ["TAL1", "STAT1"]
    assert other.edges.iloc[0][["source", "target"]].tolist() == ["STAT1", "TAL1"]
    assert "by default" in one.words[0] and "[target, regulator]" in other.words[0]
    assert one.completeness.complete and one.counts["self_pairs"] == 3


def test_varp_of_an_h5ad(tmp_path):
    data = ad.AnnData(np.zeros((2, 3), dtype=np.float32))
    data.var_names = ["GATA1", "STAT1", "TAL1"]
    matrix = np.array([[0, 0.5, 0.2], [1.0, 0, 0], [0, 0, 0]])
    data.varp["net"] = sp.csr_matrix(matrix)
    data.write_h5ad(tmp_path / "one.h5ad")
    found = read(tmp_path / "one.h5ad")
    assert found.counts["pairs"] == 3  # stored entries only
    assert pairs(found)[0] == ("STAT1", "GATA1", 1.0)
    assert "varp['net']" in found.words[1]
    data.varp["dense"] = matrix
    assert read(data, key="dense").counts["pairs"] == 6
    with pytest.raises(SchemaError, match=r"which matrix in varp is meant of tool, got net, dense.*--key"):
        read(data)
    with pytest.raises(SchemaError, match=r"a matrix 'nett' in varp .* Did you mean 'net'\?"):
        read(data, key="nett")


def test_symbols_are_mapped_and_every_loss_is_counted():
    table = pd.DataFrame(
        {
            "TF": ["MLL", "GATA1", "GATA1", "GATA1", "STAT1", "AP1", "GATA1", "", "NOTAGENE9"],
            "target": ["TAL1", "TAL1", "TAL1", "GATA1", "IRF1", "IRF1", "ASP", "IRF1", "IRF1"],
            "importance": [1.0, 2.0, -3.0, 9.0, 0.0, 1.0, 1.0, 1.0, 0.5],
        }
    )
    found = read(table)
    assert found.signed
    assert {k: v for k, v in found.counts.items() if v} == {
        "rows": 9, "missing": 1, "complexes": 1, "ambiguous": 1, "self_pairs": 1, "duplicates": 1, "renamed": 1,
        "unknown_symbols": 1, "pairs": 4,
    }  # fmt: skip
    counted = sum(found.counts[k] for k in ("missing", "complexes", "ambiguous", "self_pairs", "duplicates", "pairs"))
    assert counted == found.counts["rows"]  # nothing lost unsaid
    edges = found.edges.set_index(["source", "target"])
    assert edges.loc[("GATA1", "TAL1"), "weight"] == 3.0  # the strongest of a repeated pair
    assert edges.loc[("GATA1", "TAL1"), "sign"] == -1
    assert ("KMT2A", "TAL1") in edges.index  # MLL is an earlier symbol
    assert "NOTAGENE9" in found.unknown and ("NOTAGENE9", "IRF1") in edges.index
    assert "1 repeated pairs" in losses_in_words(found) and "NOTAGENE9" in losses_in_words(found)
    assert set(found.alignment.table["input"]) >= {"MLL", "NOTAGENE9", "AP1"}


def test_equally_strong_rows_of_opposite_sign_leave_the_sign_unknown(tmp_path):
    rows = [("GATA1", "TAL1", "activation"), ("GATA1", "TAL1", "repression"), ("STAT1", "IRF1", "repression")]
    found = read(write(tmp_path / "net.tsv", "source\ttarget\tmode", rows))
    sign = found.edges.set_index("source")["sign"]
    assert sign["GATA1"] == 0 and sign["STAT1"] == -1


def test_what_kind_of_list_it_is():
    genes = [f"GENE{i}X" for i in range(40)]
    every = [
        (a, b, 0.01 * (1 + (7 * i + 11 * j) % 40))
        for i, a in enumerate(genes[:5])
        for j, b in enumerate(genes)
        if a != b
    ]
    table = pd.DataFrame(every, columns=["source", "target", "weight"])
    assert read(table).completeness.complete
    assert read(table).completeness.sentence.startswith("complete: 195 of 195 pairs of its 5 regulators and 40 targets")
    cut = read(table[table["weight"] > 0.2]).completeness
    assert not cut.complete and cut.thresholded and "cut off by weight" in cut.sentence
    top = table.sort_values("weight", ascending=False).groupby("source").head(10)
    found = read(top.sort_values("weight", ascending=False)).completeness
    assert found.same_k and "5 regulators have exactly 10 targets, none more: top k a regulator" in found.sentence
    assert found.ordered and "rows from strong to weak" in found.sentence
    assert not read(top.sort_values("source")).completeness.ordered
    tied = read(table.assign(weight=1.0)[::2])
    assert "every weight is 1: all listed pairs tie" in tied.completeness.sentence


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", InputError, "empty file"),
        ("source\ttarget\tweight\n", InputError, "a header without rows"),
        ("TF\ttarget\tn\tz\nGATA1\tTAL1\t1\t2\n", SchemaError, r"which column of edges\.tsv is the weight.*n, z"),
        ("a\ttarget\tweight\nA\tB\t1\n", SchemaError, r"Expected a source column .* got columns a, target, weight"),
        ("TF\ttarget\tweight\nGATA1\tTAL1\thigh\n", SchemaError, "got 'high' in row 1. Leave out"),
        ("TF\ttarget\tweight\nGATA1\tTAL1\t\n", SchemaError, "got '' in row 1. Leave out"),
        ("TF\ttarget\tweight\nGATA1\tTAL1\n", SchemaError, "got 2 in row 1"),
        ("TF\ttarget\tweight\nGATA1\tTAL1\t1\nA\tB\t1\t2\t3\n", SchemaError, "Check the separators"),
        ("TF\ttarget\tweight\nGATA1\tGATA1\t1\n", InputError, r"got none of 1 rows \(1 self pairs\)"),
        ("TF\ttarget\tsign\tweight\nGATA1\tTAL1\tstrong\t1\n", SchemaError, "signs in column 'sign'.*strong"),
        ("TF\ttarget\tmode\nGATA1\tTAL1\t0.7\n", SchemaError, "Expected signs in column 'mode'.*0.7"),
        ("\tA\tB\tC\tD\nE\t1\t2\t3\tx\nF\t3\t4\t5\t6\nG\t1\t2\t3\t4\n", SchemaError, "got 'x' in row E, column D"),
        ("g\tA\tB\tA\nGATA1\t1\t2\t1\nTAL1\t3\t4\t5\n", SchemaError, "column name"),
        ("TF\ttarget\tweight\nGata1\tTal1\t1\nStat1\tIrf1\t2\n", NamespaceError, "Expected human genes"),
    ],
)  # fmt: skip
def test_refusals_are_sentences(tmp_path, text, error, said):
    path = tmp_path / "edges.tsv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        read(path)


def test_a_named_column_and_its_refusal(tmp_path):
    path = write(tmp_path / "e.tsv", "TF\ttarget\tspearman\tn", [(*r, "9") for r in ROWS])
    assert pairs(read(path, column="spearman")) == STRONGEST_FIRST
    with pytest.raises(SchemaError, match=r"Expected a column 'speerman' .* Did you mean 'spearman'\?"):
        read(path, column="speerman")


def test_missing_damaged_and_binary_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.tsv"):
        read(tmp_path / "absent.tsv")
    (tmp_path / "bad.tsv.gz").write_bytes(gzip.compress(b"source\ttarget\n" * 99)[:-12])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "bad.graphml").write_text("<graphml>")
    for file in ("bad.tsv.gz", "bad.parquet", "bad.graphml"):
        with pytest.raises(InputError, match=file):
            read(tmp_path / file)


def test_real_tables_are_read(shared_data):
    first = read(shared_data / "scgpt_attention_heads" / "scgpt_brain_inferred_edges.tsv.gz")
    evidence = read(shared_data / "scgpt_attention_heads" / "scgpt_brain_head_layer_evidence.tsv.gz")
    assert first.edges[["source", "target"]].equals(evidence.edges[["source", "target"]])
    assert "1,587 of 7,924 pairs of its 18 regulators and 441 targets (20.0 %)" in first.completeness.sentence
    assert "13 regulators have exactly 100 targets" in first.completeness.sentence
    consensus = read(shared_data / "consensus_grn_tcells" / "consensus_grn_CD4T.tsv.gz")
    assert consensus.counts["pairs"] == 48_038 and consensus.signed
    assert consensus.completeness.n_regulators == 396 and consensus.completeness.thresholded
