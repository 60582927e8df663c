"""Every family runs in half precision, close to float32 and not equal to it, and is itself again afterwards."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from every_family import CELLS, WRITE, load

from regulens.attention.extract import extract


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", WRITE)
def test_half_precision(family, precision, tmp_path):
    adapter = load(family, tmp_path / "m")
    genes = CELLS.genes.symbols
    options = {"genes": genes, "regulators": genes[::5], "partition_by": ()}
    before = extract(adapter, CELLS, **options)
    half = extract(adapter, CELLS, **options, precision=precision)
    after = extract(adapter, CELLS, **options)
    np.testing.assert_array_equal(after.summary.sums, before.summary.sums)
    gap = np.abs(half.summary.sums - before.summary.sums).max()
    # Weights of these small models are wide: float16 keeps 11 bits of a number, bfloat16 only 8.
    most, rank = {"bfloat16": (0.5, 0.97), "float16": (0.05, 0.995)}[precision]
    assert 0 < gap < most
    assert 0 < half.facts["precision_max_abs"] < most
    assert half.facts["precision_spearman_median"] > rank
