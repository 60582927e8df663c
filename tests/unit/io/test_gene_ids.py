"""Gene ids: approved before previous before alias; every input accounted for."""

import numpy as np
import pytest

from regulens.errors import NamespaceError, ParameterError
from regulens.io.gene_ids import GeneMap, align_genes, require_overlap

MAP = GeneMap(
    ensembl={"AAA": "ENSG00000000001", "BBB": "ENSG00000000002", "CCC": "", "DDD": "ENSG00000000004"},
    previous={"OLD": ("AAA",), "SPLIT": ("AAA", "BBB"), "BBB": ("CCC",), "BOTH": ("DDD",)},
    alias={"NICK": ("CCC",), "SHARED": ("AAA", "CCC"), "BOTH": ("AAA",)},
    name="test table",
)


@pytest.mark.parametrize(
    ("identifier", "symbol", "how"),
    [
        ("AAA", "AAA", "approved"),
        ("BBB", "BBB", "approved"),  # also a previous symbol of CCC
        ("OLD", "AAA", "previous"),
        ("BOTH", "DDD", "previous"),  # also an alias of AAA
        ("NICK", "CCC", "alias"),
        ("SPLIT", "", "ambiguous"),
        ("SHARED", "", "ambiguous"),
        ("ENSG00000000002", "BBB", "ensembl"),
        ("ENSG00000000002.7", "BBB", "ensembl"),
        ("ENSG00000000002.7_PAR_Y", "BBB", "ensembl"),
        ("ENSG00000099999.1", "ENSG00000099999", "unknown"),
        ("RP11-1.5", "RP11-1.5", "unknown"),
    ],
)
def test_order_of_resolution(identifier, symbol, how):
    match = MAP.resolve(identifier)
    assert (match.symbol, match.how) == (symbol, how)


def test_every_input_has_one_row_and_one_column():
    ids = ["NICK", "OLD", "AAA", "SPLIT", "XYZ", "ENSG00000000002.3"]
    genes, column, alignment = align_genes(ids, MAP)
    assert genes.symbols == ("CCC", "AAA", "XYZ", "BBB")
    assert column.tolist() == [0, -1, 1, -1, 2, 3]
    assert alignment.table["input"].tolist() == ids
    assert alignment.table["status"].tolist() == ["renamed", "duplicate", "kept", "ambiguous", "kept", "kept"]
    assert alignment.table["reason"].iloc[1] == "previous symbol of AAA; AAA stands for AAA already"
    assert genes.ensembl == ("", "ENSG00000000001", "", "ENSG00000000002")
    assert sum(alignment.counts().values()) == len(ids)


def test_sum_merges_what_refuse_gives_up():
    genes, column, alignment = align_genes(["OLD", "AAA", "DDD", "DDD"], MAP, duplicates="sum")
    assert genes.symbols == ("AAA", "DDD")
    assert column.tolist() == [0, 0, 1, 1]
    assert alignment.counts()["merged"] == 4


def test_a_kept_gene_has_exactly_one_column():
    ids = [*MAP.ensembl, *MAP.previous, *MAP.alias]
    ids = list(dict.fromkeys(ids))
    genes, column, _ = align_genes(ids, MAP)
    used = column[column >= 0]
    assert sorted(used.tolist()) == list(range(len(genes)))
    assert np.unique(used).size == used.size


def test_refusals():
    with pytest.raises(NamespaceError, match=r"Expected every gene once, got 1 duplicated gene names \(AAA\)\. Ask"):
        align_genes(["AAA", "AAA"], MAP)
    with pytest.raises(NamespaceError, match=r"got 2 empty ones \(first at position 1\)"):
        align_genes(["AAA", "", "nan"], MAP)
    with pytest.raises(ParameterError, match="'refuse' or 'sum'"):
        align_genes(["AAA"], MAP, duplicates="max")


@pytest.mark.parametrize("ids", [["Sox2", "Actb", "Gapdh", "TP53"], ["ENSMUSG00000000001", "ENSMUSG00000000003.2"]])
def test_mouse_genes_are_refused_in_one_sentence(ids):
    with pytest.raises(NamespaceError, match=r"Expected human genes.*probably mouse.*human orthologs first"):
        align_genes(ids)


def test_human_genes_with_lower_case_are_human():
    genes, _, _ = align_genes(["C1orf43", "C20ORF24", "TP53"])
    assert "C1orf43" in genes.symbols
    assert not any("ORF" in s for s in genes.symbols)


def test_the_bundled_table():
    table = GeneMap.bundled()
    assert len(table.ensembl) == 43_837
    assert len(table.by_ensembl) == sum(1 for e in table.ensembl.values() if e)
    assert table is GeneMap.bundled()
    assert list(table.table.columns) == ["symbol", "ensembl"]
    for old, new in {"SEPT9": "SEPTIN9", "MARCH1": "MARCHF1", "AES": "TLE5", "TP53": "TP53"}.items():
        assert table.resolve(old).symbol == new
    assert table.resolve("NA").how == "unknown"


def test_no_gene_in_common():
    assert require_overlap(["A", "B"], ["B"], have_name="the cells", wanted_name="the model") == ["B"]
    with pytest.raises(NamespaceError, match=r"at least 1 gene in common between the cells and the model, got none.*"):
        require_overlap(["A"], ["ENSG1"], have_name="the cells", wanted_name="the model")
