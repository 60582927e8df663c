"""Cells: counts found in order and verified, nothing written into the input, losses counted."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from regulens.errors import InputError, ScaleError
from regulens.io.cells import read_cells
from regulens.io.demo import load_demo
from regulens.io.gene_ids import GeneMap
from regulens.io.genes_selection import _moments, most_variable, select_genes
from regulens.io.references import read_reference
from regulens.rng import stream
from regulens.types.edges import EdgeUniverse

GENES = ["TP53", "MYC", "SPI1", "GATA1", "ACTB", "SEPT9"]


def counts_of(n_cells=30, n_genes=6):
    counts = stream(1, "test/cells").poisson(1.5, (n_cells, n_genes)).astype(np.float64)
    counts[:, 0] += 1  # no empty cell; a count of 1 in nearly all
    return counts


def cells_of(x=None, **kwargs):
    x = counts_of() if x is None else x
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(["T", "B", "NK"] * (len(x) // 3)), "donor": np.arange(len(x)) % 2},
        index=[f"c{i}" for i in range(len(x))],
    )
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=GENES[: x.shape[1]]), **kwargs)


def test_counts_are_found_in_order_and_the_place_is_said():
    x = counts_of()
    data = cells_of(np.log1p(x), layers={"counts": sp.csr_matrix(x)})
    cells = read_cells(data, cell_state="cell_type")
    assert "layers['counts']" in cells.source
    assert np.array_equal(cells.counts.toarray(), x)
    data = cells_of(np.log1p(x))
    data.raw = cells_of(x)
    assert ": counts from raw" in read_cells(data).source
    assert ": counts from X" in read_cells(cells_of(x)).source


def test_a_named_place_is_the_only_one_looked_at():
    x = counts_of()
    data = cells_of(x, layers={"scaled": x - 1, "umi": x})
    assert "layers['umi']" in read_cells(data, counts="umi").source
    with pytest.raises(ScaleError, match="negative"):
        read_cells(data, counts="scaled")


def test_the_input_is_not_changed():
    data = cells_of(counts_of() + 1e-9)
    before, obs = data.X.copy(), data.obs.copy()
    cells = read_cells(data, cell_state="cell_type", donor="donor")
    assert np.array_equal(data.X, before)
    pd.testing.assert_frame_equal(data.obs, obs)
    assert "floating-point noise" in cells.source


def test_roles_become_strings_named_by_role():
    cells = read_cells(cells_of(), cell_state="cell_type", donor="donor")
    assert cells.roles == ("cell_state", "donor")
    assert set(cells.obs["donor"]) == {"0", "1"}
    assert set(cells.obs["cell_state"]) == {"T", "B", "NK"}
    data = cells_of()
    data.obs["flag"] = np.arange(30) % 2 == 0
    assert set(read_cells(data, batch="flag").obs["batch"]) == {"True", "False"}


def test_what_is_dropped_is_counted():
    x = counts_of()
    x[4] = 0
    data = cells_of(x)
    data.obs["cell_type"] = data.obs["cell_type"].astype(object)
    data.obs.loc[["c4", "c5", "c6"], "cell_type"] = None
    data.obs["batch"] = np.where(np.arange(30) == 7, np.nan, 3.0)
    cells = read_cells(data, cell_state="cell_type", batch="batch")
    assert cells.dropped == {"zero_counts": 1, "missing_cell_state": 2, "missing_batch": 1}
    assert cells.n_cells == 26
    assert set(cells.obs["batch"]) == {"3"}


def test_genes_are_mapped_and_silent_ones_leave_first():
    x = counts_of(30, 6)
    x[:, 4] = 0
    data = cells_of(x)
    data.var_names = ["TP53", "MYC", "SPI1", "GATA1", "SEPTIN9", "SEPT9"]
    cells = read_cells(data)
    # The approved symbol has no count, so the old one carries the gene.
    assert cells.genes.symbols[-1] == "SEPTIN9"
    assert cells.alignment.counts()["unexpressed"] == 1
    assert cells.alignment.counts()["renamed"] == 1
    assert np.array_equal(cells.counts[:, -1].toarray().ravel(), x[:, 5])
    assert np.array_equal(cells.total_counts, x.sum(axis=1))


def test_duplicates_are_summed_on_demand_only():
    x = counts_of()
    data = cells_of(x)
    data.var_names = ["TP53", "MYC", "SPI1", "GATA1", "SEPTIN9", "SEPT9"]
    assert read_cells(data).alignment.counts()["duplicate"] == 1
    summed = read_cells(data, duplicates="sum")
    assert np.array_equal(summed.counts[:, 4].toarray().ravel(), x[:, 4] + x[:, 5])
    assert np.array_equal(summed.total_counts, x.sum(axis=1))


def test_gene_column_and_total_counts():
    data = cells_of()
    data.var["symbol"], data.var_names = data.var_names.copy(), [f"gene{i}" for i in range(6)]
    data.obs["n"] = data.X.sum(axis=1) + 100
    cells = read_cells(data, gene_column="symbol", total_counts="n")
    assert "TP53" in cells.genes.symbols
    assert np.array_equal(cells.total_counts, data.obs["n"].to_numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("named", [True, False])
def test_counts_come_back_exactly_from_log1p_cp10k(dtype, named):
    x = counts_of()
    x[:, 0] = 1  # a count of 1 in every cell
    x[3, 1] = 200
    total = x.sum(axis=1) + (50 if named else 0)
    data = cells_of(np.log1p(x / total[:, None] * 1e4).astype(dtype))
    data.obs["n"] = total
    with pytest.raises(ScaleError, match=r"looks like log1p.*--log1p-cp10k"):
        read_cells(data)
    cells = read_cells(data, log1p_cp10k=True, total_counts="n" if named else None)
    assert np.array_equal(cells.counts.toarray(), x)
    assert np.allclose(cells.total_counts, total)
    assert "recovered" in cells.source


def test_values_that_are_no_multiples_are_not_recovered():
    x = counts_of()
    x[:, 0] = 1
    smooth = x * stream(2, "test/smooth").uniform(0.6, 1.4, x.shape)
    for bad in (np.log1p(smooth / smooth.sum(axis=1)[:, None] * 1e4), np.log(1e6 * x / x.sum() + 1)):
        with pytest.raises(ScaleError, match=r"Expected log1p of counts per 10,000 in X, got"):
            read_cells(cells_of(bad), log1p_cp10k=True)


def test_a_smallest_count_of_two_is_refused_rather_than_halved():
    x = counts_of()
    x[0] = [2, 3, 5, 0, 0, 0]
    data = cells_of(np.log1p(x / x.sum(axis=1)[:, None] * 1e4))
    with pytest.raises(ScaleError, match=r"largest deviation 0\.5"):
        read_cells(data, log1p_cp10k=True)


def test_digests_follow_the_content():
    assert read_cells(cells_of()).digest == read_cells(cells_of()).digest
    x = counts_of()
    x[0, 0] += 1
    assert read_cells(cells_of(x)).digest != read_cells(cells_of()).digest


def test_selection_keeps_detected_variable_genes_and_regulators():
    rng = stream(3, "test/selection")
    mean = rng.gamma(1.0, 1.0, 60)
    x = rng.poisson(mean, (120, 60)).astype(float)
    x[:, 7] = 0
    x[:5, 7] = 1
    symbols = read_reference("bundled:dorothea").edges["target"].drop_duplicates().iloc[:60].tolist()
    cells = read_cells(ad.AnnData(x, var=pd.DataFrame(index=symbols)))
    index, words = select_genes(cells, n_top=20, regulators=[symbols[7], symbols[8], "absent"], min_cells=20)
    kept = {cells.genes.symbols[i] for i in index}
    assert symbols[8] in kept
    assert symbols[7] not in kept
    assert 20 <= len(index) <= 21
    assert (np.diff(index) > 0).all()
    assert "20 most variable" in words
    again, _ = select_genes(cells, n_top=20, regulators=[symbols[8]], min_cells=20)
    assert np.array_equal(index, again)
    every, words = select_genes(cells, n_top=None, regulators=[], min_cells=1)
    assert len(every) == cells.n_genes and words.startswith("all ")
    with pytest.raises(InputError, match="got none of"):
        select_genes(cells, n_top=5, regulators=[], min_cells=121)


@pytest.mark.parametrize("demo", [None, "pbmc68k"])
def test_variable_genes_are_those_of_scanpy(demo):
    if demo is None:
        rng = stream(13, "test/variable")
        mean = rng.gamma(0.4, 2.0, 300)
        x = rng.poisson(mean * rng.gamma(2.0, 0.5, (200, 1)) * rng.gamma(3.0, 1 / 3, (200, 300)))
        symbols = list(GeneMap.bundled().ensembl)[:300]
        cells = read_cells(ad.AnnData(x.astype(float), var=pd.DataFrame(index=symbols)))
    else:
        cells = load_demo(demo)
    n_cells, mean, variance = _moments(cells)
    seen = n_cells >= 3
    table = sc.pp.highly_variable_genes(
        ad.AnnData(cells.log_normalised(np.flatnonzero(seen))), flavor="seurat", n_top_genes=50, inplace=False
    )
    best = most_variable(mean[seen], variance[seen], 50)
    assert set(best) == set(np.flatnonzero(table["highly_variable"]))
    score = table["dispersions_norm"].to_numpy()
    assert (np.diff(score[best]) <= 1e-9).all()
    # The broken twin: dispersions compared over all genes, without bins of similar mean.
    plain = np.argsort(-(variance[seen] / mean[seen]), kind="stable")[:50]
    assert set(plain) != set(best)


@pytest.mark.shared_data
def test_real_cells(shared_data):
    cells = read_cells(
        shared_data / "pbmc_3batches_symphony" / "pbmc_symphony_1200x1767_counts.h5ad",
        cell_state="cell_type", batch="batch_chemistry", total_counts="nUMI",
    )  # fmt: skip
    assert cells.n_cells == 1200
    assert len(cells.alignment.table) == 1767
    assert cells.n_genes == 1767 - sum(cells.alignment.counts()[s] for s in ("duplicate", "ambiguous", "unexpressed"))
    assert cells.obs["batch"].value_counts().to_dict() == {"3pv2": 480, "5p": 430, "3pv1": 290}
    assert (cells.total_counts >= np.asarray(cells.counts.sum(axis=1)).ravel()).all()


@pytest.mark.shared_data
def test_real_fpkm_is_refused(shared_data):
    with pytest.raises(ScaleError, match="looks like normalised values"):
        read_cells(shared_data / "hsmm_pseudotime" / "hsmm_271cells_fpkm.h5ad")


@pytest.mark.shared_data
@pytest.mark.parametrize("reference", ["collectri/collectri_human.tsv.gz", "trrust_v2/trrust_rawdata.human.tsv"])
def test_a_real_panel_without_any_edge(shared_data, reference):
    cells = read_cells(shared_data / "crc_3donors_scorpion" / "crc_epithelial_1954x300_counts.h5ad", donor="donor")
    network = read_reference(shared_data / reference)
    with pytest.raises(InputError, match=r"Expected at least one edge of .* inside the universe, got none"):
        EdgeUniverse.build(genes=cells.genes.symbols, reference=network)
