"""What bad input gets: one sentence each with what was expected, what was found and what to do; exit code 2."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from regulens.errors import InputError, NamespaceError, RegulensError, ScaleError, SchemaError
from regulens.io.cells import read_cells
from regulens.io.references import read_reference
from regulens.types.edges import EdgeUniverse

GENES = ["TP53", "MYC", "SPI1", "GATA1"]


def data_of(x=None, genes=GENES, **obs):
    x = np.arange(1.0, 61.0).reshape(15, 4) % 7 + 1 if x is None else np.asarray(x, dtype=float)
    columns = {"cell_type": ["T", "B", "NK"] * (len(x) // 3), **obs}
    frame = pd.DataFrame(columns, index=[f"c{i}" for i in range(len(x))])
    return ad.AnnData(x, obs=frame, var=pd.DataFrame(index=list(genes)))


def base():
    return data_of().X.copy()


def with_value(value):
    x = base()
    x[2, 1] = value
    return data_of(x)


def repeated_cells():
    data = data_of()
    data.obs_names = ["c0", "c0", *[f"c{i}" for i in range(2, 15)]]
    return data


def text_layer():
    data = data_of()
    data.layers["words"] = np.full(data.shape, "a", dtype=object)
    return data


CASES = {
    "log data": (
        lambda: data_of(np.log1p(base() / base().sum(axis=1)[:, None] * 1e4)), {},
        ScaleError, "Expected raw counts in X, got 100.0% non-integers", "looks like log1p of counts per 10,000",
        "--counts LAYER",
    ),
    "log data of another total": (
        lambda: data_of(np.log1p(base() / base().sum(axis=1)[:, None] * 500)), {},
        ScaleError, "Expected raw counts", "log1p of counts per 500", "--log1p-cp10k",
    ),
    "cpm": (
        lambda: data_of(base() * 1000.5 / 3), {},
        ScaleError, "Expected raw counts", "normalised values", "--counts LAYER",
    ),
    "negative": (
        lambda: with_value(-1.5), {}, ScaleError, "Expected raw counts in X", "1 negative values (smallest -1.5)",
        "--counts LAYER",
    ),
    "nan": (
        lambda: with_value(np.nan), {}, ScaleError, "Expected raw counts in X", "1 missing values (NaN)",
        "repair or remove",
    ),
    "infinite": (lambda: with_value(np.inf), {}, ScaleError, "Expected raw counts", "1 infinite", "--counts LAYER"),
    "huge": (
        lambda: with_value(2.0**30), {}, ScaleError, "Expected counts of at most", "1,073,741,824",
        "check the layer",
    ),
    "words": (
        text_layer, {"counts": "words"}, ScaleError, "Expected a numeric matrix", "no numbers",
        "Check the layer",
    ),
    "absent layer": (
        data_of, {"counts": "cuonts"}, SchemaError, "Expected counts in 'cuonts'", "got only X", "Name one",
    ),
    "absent column": (
        data_of, {"cell_state": "celltype"}, SchemaError, "Expected a column 'celltype' in obs for the role cell_state",
        "got columns cell_type", "Did you mean 'cell_type'?",
    ),
    "no columns": (
        lambda: ad.AnnData(base(), var=pd.DataFrame(index=GENES)), {"cell_state": "x"}, SchemaError,
        "Expected a column 'x' in obs", "no columns at all", "Name a column",
    ),
    "a measurement as label": (
        lambda: ad.AnnData(
            np.ones((60, 4)), obs=pd.DataFrame({"size": np.linspace(0, 1, 60)}, index=[str(i) for i in range(60)]),
            var=pd.DataFrame(index=GENES),
        ),
        {"cell_state": "size"}, SchemaError, "Expected labels in obs['size']", "60 distinct numbers",
        "column of labels",
    ),
    "labels all missing": (
        lambda: data_of(person=[None] * 15), {"donor": "person"}, SchemaError, "Expected labels in obs['person']",
        "missing values only", "Name another",
    ),
    "repeated cells": (
        repeated_cells, {}, SchemaError, "Expected unique cell names", "1 repeats",
        "obs_names_make_unique",
    ),
    "repeated genes": (
        lambda: data_of(genes=["TP53", "TP53", "SPI1", "MYC"]), {}, NamespaceError, "Expected every gene once",
        "1 duplicated gene names (TP53)", "duplicates: sum",
    ),
    "mouse": (
        lambda: data_of(genes=["Trp53", "Myc", "Spi1", "Gata1"]), {}, NamespaceError, "Expected human genes",
        "4 of 4 identifiers that look like another species", "orthologs first",
    ),
    "absent gene column": (
        data_of, {"gene_column": "symbol"}, SchemaError, "Expected a column 'symbol' in var for gene ids", "no columns",
        "Name a column",
    ),
    "library sizes missing": (
        lambda: data_of(n=[np.nan] + [100.0] * 14), {"total_counts": "n"}, SchemaError,
        "Expected library sizes in obs['n']",
        "1 of 15", "row sums",
    ),
    "library sizes too small": (
        lambda: data_of(n=[1.0] * 15), {"total_counts": "n"}, ScaleError, "Expected library sizes at least as large",
        "15 cells", "leave total_counts out",
    ),
    "no count at all": (
        lambda: data_of(np.zeros((15, 4))), {}, InputError, "Expected cells with counts", "none of 15",
        "Check the columns",
    ),
    "not log data": (
        data_of, {"log1p_cp10k": True, "total_counts": None}, ScaleError, "Expected log1p of counts per 10,000 in X",
        "got", "--counts LAYER",
    ),
    "no AnnData": (lambda: [[1, 2]], {}, InputError, "Expected a path or an AnnData", "got list", "AnnData"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_cells(case):
    make, options, error, expected, got, advice = CASES[case]
    with pytest.raises(error) as caught:
        read_cells(make(), **options)
    text = str(caught.value)
    for part in (expected, got, advice):
        assert part in text, f"{part!r} not in {text!r}"
    assert "\n" not in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("case", [c for c in CASES if c != "no AnnData"])
def test_the_same_cells_without_the_fault_are_accepted(case):
    """Each case fails for its fault and not for something else."""
    assert read_cells(data_of(), cell_state="cell_type").n_cells == 15


def test_all_places_are_named_when_none_holds_counts():
    data = data_of(np.log1p(base()))
    data.layers["counts"] = base() - 5
    with pytest.raises(ScaleError) as caught:
        read_cells(data)
    assert "layers['counts']" in str(caught.value) and "counts in X" in str(caught.value)


@pytest.mark.parametrize("kind", ["absent", "text", "cut", "folder", "h5 of something else"])
def test_a_file_that_is_no_h5ad(tmp_path, kind):
    path = tmp_path / "cells.h5ad"
    if kind == "text":
        path.write_text("hello")
    elif kind == "cut":
        data_of().write_h5ad(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "folder":
        path.mkdir()
    elif kind == "h5 of something else":
        import h5py

        with h5py.File(path, "w") as handle:
            handle["a"] = 1
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InputError, match=r"Expected a(n| readable) \.h5ad file") as caught:
        read_cells(path)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_mistyped_path_offers_the_nearest(tmp_path):
    data_of().write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match=r"got no such file\. Did you mean 'cells\.h5ad'\? Check the path"):
        read_cells(tmp_path / "cell.h5ad")
    assert read_cells(str(tmp_path / "cells.h5ad")).name == "cells"


def test_sparse_input_is_refused_for_the_same_reasons():
    data = with_value(np.nan)
    data.X = sp.csc_matrix(data.X)
    with pytest.raises(ScaleError, match="missing values"):
        read_cells(data)


def test_no_positive_edge_says_what_was_lost_where(tmp_path):
    (tmp_path / "r.csv").write_text("source,target\nSTAT1,IRF1\nMYC,TERT\n")
    cells = read_cells(data_of())
    with pytest.raises(InputError) as caught:
        EdgeUniverse.build(genes=cells.genes.symbols, reference=read_reference(tmp_path / "r.csv"))
    for part in ("Expected at least one edge of 'r'", "of 2 edges 0 have both ends in the input", "1 of 2 regulators"):
        assert part in str(caught.value)


def test_reference_without_columns_lists_them(tmp_path):
    (tmp_path / "r.csv").write_text("alpha,beta\nSTAT1,IRF1\n")
    with pytest.raises(RegulensError, match=r"Expected a regulator column .* in r\.csv, got columns alpha, beta"):
        read_reference(tmp_path / "r.csv")
