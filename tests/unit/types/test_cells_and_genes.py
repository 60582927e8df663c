import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from regulens.errors import AlignmentError, NamespaceError, ScaleError
from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment, GeneVocabulary


def vocabulary(*symbols):
    return GeneVocabulary(symbols=symbols, ensembl=tuple("" for _ in symbols))


def alignment(*symbols):
    return GeneAlignment(
        table=pd.DataFrame(
            [(s, "kept", s, "", "") for s in symbols], columns=["input", "status", "symbol", "ensembl", "reason"]
        )
    )


def cells(counts, **changes):
    counts = sp.csr_matrix(np.asarray(counts, dtype=np.float32))
    genes = tuple("ABCDEFG"[: counts.shape[1]])
    base = {
        "counts": counts, "genes": vocabulary(*genes), "source": "test",
        "obs": pd.DataFrame(index=[f"c{i}" for i in range(counts.shape[0])]),
        "total_counts": np.asarray(counts.sum(1), dtype=np.float64).ravel(), "alignment": alignment(*genes),
    }  # fmt: skip
    return Cells(**(base | changes))


def test_genes_are_unique_and_ordered():
    with pytest.raises(NamespaceError, match="1 repeats"):
        vocabulary("A", "B", "A")
    with pytest.raises(NamespaceError):
        vocabulary("A", "")
    assert vocabulary("A", "B").digest != vocabulary("B", "A").digest
    assert vocabulary("A", "B").index(("B", "Z", "A")).tolist() == [1, -1, 0]


def test_an_alignment_knows_its_statuses():
    assert alignment("A", "B").counts()["kept"] == 2
    frame = alignment("A").table.assign(status="lost somehow")
    with pytest.raises(AlignmentError, match="statuses"):
        GeneAlignment(table=frame)


@pytest.mark.parametrize("bad", [[[0.5, 1]], [[-1, 1]], [[np.nan, 1]]])
def test_cells_hold_counts_and_nothing_else(bad):
    with pytest.raises(ScaleError, match="non-negative integer"):
        cells(bad)


def test_cells_refuse_repeated_names_and_unequal_lengths():
    with pytest.raises(AlignmentError, match="unique cell names"):
        cells([[1, 2], [3, 4]], obs=pd.DataFrame(index=["c", "c"]))
    with pytest.raises(AlignmentError, match="to agree"):
        cells([[1, 2]], total_counts=np.array([3.0, 4.0]))


def test_normalisation_uses_the_library_size_not_the_row_sum():
    made = cells([[1, 3]], total_counts=np.array([100.0]))
    np.testing.assert_allclose(made.log_normalised().toarray(), [[np.log1p(100), np.log1p(300)]])
    empty = cells([[0, 0], [1, 1]])
    assert np.isfinite(empty.log_normalised().toarray()).all()


def test_a_subset_keeps_library_sizes_and_order():
    made = cells([[1, 2, 3], [4, 5, 6]])
    part = made.subset(np.array([1, 0]), np.array([2, 0]))
    assert part.counts.toarray().tolist() == [[6, 4], [3, 1]]
    assert part.total_counts.tolist() == [15, 6]
    assert part.genes.symbols == ("C", "A")


def test_the_digest_sees_counts_roles_and_library_sizes_but_not_the_source():
    made = cells([[1, 2]])
    assert made.digest == cells([[1, 2]], source="other").digest
    assert made.digest != cells([[1, 3]]).digest
    assert made.digest != cells([[1, 2]], total_counts=np.array([9.0])).digest
    assert made.digest != cells([[1, 2]], obs=pd.DataFrame({"cell_state": ["x"]}, index=["c0"])).digest
