"""Tables of effects: columns of common tools, scale named from the column, losses counted, contradictions refused."""

import csv
import gzip

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats

from regulens.errors import InputError, NamespaceError, ParameterError, RegulensError, SchemaError
from regulens.io.cells import read_cells
from regulens.io.gene_ids import GeneMap
from regulens.io.screens import read_screen
from regulens.rng import stream
from regulens.stats.differential import group_moments, welch
from regulens.types.screens import LabelRule, ResponseLabels

PERTURBED, MEASURED = ("STAT1", "JAK2", "MYC"), ("IRF1", "STAT1", "ACTB", "SPI1", "TP53")


def table(perturbation="perturbation", gene="gene", effect="log2fc", **extra):
    """Every pair once; effects and p are made from the pair's position."""
    rows = [(p, g) for p in PERTURBED for g in MEASURED]
    at = np.arange(len(rows))
    frame = pd.DataFrame(rows, columns=[perturbation, gene])
    frame[effect] = np.round(np.sin(at) * 2, 6)
    for name, make in extra.items():
        frame[name] = make(at)
    return frame


def p_of(at):
    return (at + 1) / 20.0


@pytest.mark.parametrize(
    ("columns", "p", "scale", "adjusted"),
    [
        ({"effect": "log2fc"}, "pvalue", "log2 fold change ('log2fc')", False),
        (
            {"perturbation": "group", "gene": "names", "effect": "logfoldchanges"},
            "pvals_adj",
            "log2 fold",
            True,
        ),  # scanpy
        (
            {"effect": "avg_log2FC", "perturbation": "cluster"},
            "p_val",
            "log2 fold change ('avg_log2FC')",
            False,
        ),  # Seurat
        ({"effect": "log2FoldChange"}, "padj", "log2 fold change", True),  # DESeq2
        ({"effect": "logFC"}, "PValue", "base not said ('logFC')", False),  # edgeR
        (
            {"gene": "response_id", "perturbation": "grna_target", "effect": "log_2_fold_change"},
            "p_value",
            "log2",
            False,
        ),
        ({"gene": "target", "effect": "delta_log1p"}, "welch_p", "difference of mean log1p ('delta_log1p')", False),
        ({"gene": "target", "perturbation": "regulator", "effect": "effect"}, "FDR", "effect ('effect')", True),
        ({"effect": "lfc"}, "q-value", "log fold change, base not said", True),
    ],
)
def test_columns_of_common_tools_are_recognised(columns, p, scale, adjusted):
    frame = table(**columns, **{p: p_of})
    found = read_screen(frame, name="mine")
    assert found.perturbations == tuple(sorted(PERTURBED)) and found.genes == MEASURED
    assert scale in found.scale and found.adjusted is adjusted
    assert f"'{p}'" in found.test and p in found.source and found.n_controls == -1
    i, j = found.perturbations.index("MYC"), found.genes.index("ACTB")
    assert found.effect[i, j] == np.round(np.sin(12) * 2, 6) and found.p[i, j] == 13 / 20


def test_a_raw_p_comes_before_an_adjusted_one_and_cells_come_along():
    frame = table(
        padj=lambda at: np.ones(len(at)), p=p_of, n_pert=lambda at: at // 5 * 10 + 30, n_ctrl=lambda at: 500 + 0 * at
    )
    found = read_screen(frame, name="mine")
    assert not found.adjusted and found.p[0, 0] == 6 / 20
    assert dict(zip(found.perturbations, found.n_cells.tolist())) == {"JAK2": 40, "MYC": 50, "STAT1": 30}
    assert found.n_controls == 500


def test_effects_without_p_are_allowed_and_said():
    found = read_screen(table(), name="mine")
    assert found.p is None and found.test == "effects without p" and "no p" in found.source
    labels = ResponseLabels.build(found, LabelRule(min_effect=0.5))
    assert labels.positive.any() and labels.q is None and "no p in the table" in labels.rule.words(found)


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".tsv.gz", ".csv.bz2", ".parquet", ".txt.xz"])
def test_every_format_gives_the_same(ending, tmp_path):
    frame, path = table(p=p_of), tmp_path / f"effects{ending}"
    if ending == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="," if "csv" in ending else "\t", index=False)
    found, expected = read_screen(path, name="mine"), read_screen(frame, name="mine")
    assert found.digest == expected.digest and found.source.startswith(path.name)


def test_comments_and_row_names_do_no_harm(tmp_path):
    path = tmp_path / "effects.tsv.gz"
    text = "# made by somebody\n\n" + table(p=p_of).to_csv(sep="\t")
    path.write_bytes(gzip.compress(text.encode()))
    assert read_screen(path, name="mine").digest == read_screen(table(p=p_of), name="mine").digest


@pytest.mark.parametrize("separator", ["\t", ",", " "])
def test_row_names_without_a_heading_shift_nothing(separator, tmp_path):
    """R's write.table gives row names no heading: Seurat's table then has one value more than headings."""
    frame = table(p=p_of).rename(columns={"perturbation": "cluster", "effect": "avg_log2FC", "p": "p_val"})
    lines = frame.to_csv(sep=separator, index=False, quoting=csv.QUOTE_NONNUMERIC).splitlines()
    named = [lines[0], *(f'"row {k}"{separator}{line}' for k, line in enumerate(lines[1:]))]
    plain, with_names = tmp_path / "plain.txt", tmp_path / "named.txt"
    plain.write_text("\n".join(lines) + "\n")
    with_names.write_text("\n".join(named) + "\n")
    assert read_screen(with_names, name="mine").digest == read_screen(plain, name="mine").digest


def test_rows_that_are_cut_or_too_long_are_refused(tmp_path):
    path = tmp_path / "effects.tsv"
    good = table(p=p_of).to_csv(sep="\t", index=False)
    for bad in (good[: good.rstrip().rindex("\t")], good.replace("\n", "\textra\textra\n").replace("\textra", "", 2)):
        path.write_text(bad)
        with pytest.raises(SchemaError, match=r"columns in every row of effects\.tsv"):
            read_screen(path, name="mine")
    path.write_text(good.replace("\n", "\t\n").replace("\t\n", "\n", 1))  # a separator ends every row
    assert read_screen(path, name="mine").digest == read_screen(table(p=p_of), name="mine").digest


def test_every_row_that_is_not_used_is_counted():
    frame = pd.concat(
        [
            table(p=p_of),
            table(p=p_of).iloc[:4],  # identical
            pd.DataFrame(
                [
                    ("STAT1+JAK2", "IRF1", 1.0, 0.1), ("blob", "IRF1", 1.0, 0.1), ("control", "IRF1", 0.0, 1.0),
                    ("", "IRF1", 1.0, 0.1), ("STAT1", None, 1.0, 0.1), ("STAT1", "NA", 1.0, 0.1),
                    ("STAT1", "MYC", np.nan, 0.1), ("STAT1", "JUN", np.inf, 0.0), ("STAT1", "A1", 1.0, 0.1),
                    ("STAT1", "STAT91", 1.0, 0.1), ("MYC", "SEPT9", 0.5, np.nan),
                ],
                columns=["perturbation", "gene", "log2fc", "p"],
            ),
        ]
    )  # fmt: skip
    found = read_screen(frame, name="mine")
    for words in (
        "30 rows", "4 identical rows collapsed", "1 rows of several genes perturbed left out",
        "1 rows of an unknown perturbed gene left out", "1 rows of a control label left out",
        "1 rows without a perturbation left out", "2 rows without a gene left out",
        "2 rows without a finite effect left out", "1 rows of an alias of several genes left out",
        "1 rows of an alias beside its approved symbol left out",
    ):  # fmt: skip
        assert words in found.source, (words, found.source)
    assert "SEPTIN9" in found.genes and "MYC" not in found.genes
    assert np.isnan(found.p[found.perturbations.index("MYC"), found.genes.index("SEPTIN9")])
    assert int(found.tested.sum()) == len(table()) + 1


def test_rows_that_contradict_each_other_are_refused():
    frame = table(p=p_of)
    twice = pd.concat([frame, frame.iloc[:2].assign(log2fc=9.0)])
    with pytest.raises(SchemaError, match=r"got 2 pairs with several \(such as STAT1 on IRF1: 0, 9\)\. Combine guides"):
        read_screen(twice, name="mine")
    other_p = pd.concat([frame, frame.iloc[:1].assign(p=0.5)])
    with pytest.raises(SchemaError, match="got 1 pairs with several"):
        read_screen(other_p, name="mine")
    # old and new name of one gene are one gene
    renamed = pd.concat([frame, frame.iloc[5:10].assign(perturbation="JTK10", log2fc=0.0)])
    with pytest.raises(SchemaError, match="got 5 pairs with several"):
        read_screen(renamed, name="mine")


def test_names_of_guides_are_stripped_where_they_are_the_rule():
    frame = table(p=p_of)
    frame["perturbation"] += "_g1"
    found = read_screen(frame, name="mine")
    assert found.perturbations == tuple(sorted(PERTURBED)) and "3 labels read as guides" in found.source


def missing(*columns):
    return table(p=p_of).drop(columns=list(columns))


BAD = [
    (lambda: missing("perturbation"), {}, SchemaError, "Expected a perturbed-gene column .* got columns gene, log2"),
    (lambda: missing("gene"), {}, SchemaError, "Expected a gene column"),
    (lambda: missing("log2fc"), {}, SchemaError, "Expected an effect column"),
    (lambda: table(perturbation="target"), {}, SchemaError, "either of which could be it. Name the perturbed one"),
    (lambda: table(), {"perturbation": "perturbatoin"}, SchemaError, r"Did you mean 'perturbation'\?"),
    (lambda: table(), {"gene_column": "genes"}, SchemaError, r"Did you mean 'gene'\?"),
    (lambda: table(p=lambda at: -np.log10(p_of(at)) * 9), {}, SchemaError, r"p in \[0, 1\] .* got .* logarithms"),
    (lambda: table(p=lambda at: np.where(at == 3, "low", "0.1")), {}, SchemaError, "got 'low' in row 4. Leave a gap"),
    (lambda: table().iloc[:0], {}, InputError, "got no rows. Check"),
    (lambda: table().assign(perturbation="blob"), {}, InputError, "Expected perturbed genes with effects .* unknown"),
    (lambda: table().assign(gene=["Stat1", "Irf1", "Actb", "Spi1", "Trp53"] * 3), {}, NamespaceError, "human"),
    (lambda: table(), {"control": "NT", "only": "K562"}, ParameterError, "got control, only: it is a table of effects"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "options", "error", "words"), BAD)
def test_what_is_wrong_is_said_in_one_sentence_of_three_parts(make, options, error, words):
    with pytest.raises(error, match=words) as caught:
        read_screen(make(), name="mine", **options)
    message = str(caught.value)
    assert message.startswith("Expected") and ", got" in message and "\n" not in message
    assert isinstance(caught.value, RegulensError)


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(InputError, match="empty file"):
        read_screen(tmp_path / "empty.tsv", name="mine")
    (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress(b"perturbation\tgene\teffect\n" * 99)[:-9])
    with pytest.raises(InputError, match="damaged or of another format"):
        read_screen(tmp_path / "cut.tsv.gz", name="mine")
    (tmp_path / "no.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="readable parquet"):
        read_screen(tmp_path / "no.parquet", name="mine")
    (tmp_path / "effects.tsv").write_text("perturbation\tgene\teffect\n")
    with pytest.raises(InputError, match="got no rows"):
        read_screen(tmp_path / "effects.tsv", name="mine")
    with pytest.raises(InputError, match=r"Did|no such file"):
        read_screen(tmp_path / "effect.tsv", name="mine")


def test_the_table_of_papalexi_has_its_fixed_points_and_our_test_makes_it_again(shared_data):
    folder = shared_data / "papalexi_thp1_perturbseq"
    found = read_screen(folder / "derived_effects.tsv.gz", name="papalexi")
    assert found.tested.sum() == 7475 and found.scale == "difference of mean log1p ('delta_log1p')"
    assert "'target' responds" in found.source and "'perturbation' perturbs" in found.source
    assert found.n_controls == 2386 and found.n_cells.min() == 48 and found.n_cells.max() == 1341
    assert ((found.p * 7475) < 0.05).sum() == 281
    own = [
        (found.effect[i, found.genes.index(p)], found.p[i, found.genes.index(p)])
        for i, p in enumerate(found.perturbations)
        if p in found.genes
    ]
    assert len(own) == 9 and all(effect < 0 and p < 0.05 / 7475 for effect, p in own)

    # The table was made on log1p of counts per 1,000; the same test on that scale makes every number of it again.
    cells = read_cells(folder / "papalexi_thp1_lowmoi_counts.h5ad")
    screen = read_screen(folder / "papalexi_thp1_lowmoi_counts.h5ad", name="papalexi")
    scaled = sp.csr_matrix(sp.diags(1e3 / cells.total_counts) @ cells.counts.astype(np.float64)).log1p()
    number = {p: i for i, p in enumerate(found.perturbations)}
    group = np.array([number.get(p, len(number)) for p in screen.obs["perturbation"]])
    moments = group_moments(lambda: [(0, scaled)], group, n_groups=len(number) + 1, n_genes=cells.n_genes)
    ours = welch(moments, control=len(number))
    order = [cells.genes.symbols.index(g) for g in found.genes]
    # It was computed in float32 (the same in float32 agrees to the five digits printed), which is good to some 1e-5.
    np.testing.assert_allclose(ours.effect[:, order], found.effect, rtol=5e-5, atol=1e-5)
    shown = found.p > 0
    np.testing.assert_allclose(np.log(ours.p[:, order][shown]), np.log(found.p[shown]), rtol=2e-4, atol=2e-3)
    assert (ours.p[:, order][~shown] < np.finfo(np.float32).tiny).all()
    x = scaled[group == 3].toarray()[:, order[7]], scaled[group == len(number)].toarray()[:, order[7]]
    assert stats.ttest_ind(*x, equal_var=False).pvalue == pytest.approx(ours.p[3, order[7]], rel=1e-9)


def test_a_large_table_is_read_in_seconds():
    rng = stream(9, "test/large")
    n_perturbations, n_genes = 280, 500
    names = sorted(GeneMap.bundled().ensembl)[1000 : 1000 + n_genes]
    frame = pd.DataFrame(
        {
            "perturbation": np.repeat(names[:n_perturbations], n_genes),
            "gene": np.tile(names, n_perturbations),
            "effect": rng.normal(size=n_perturbations * n_genes),
            "p": rng.random(n_perturbations * n_genes),
        }
    )
    found = read_screen(frame, name="large")
    assert found.effect.shape == (n_perturbations, n_genes) and np.isfinite(found.p).all()
