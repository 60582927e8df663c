"""Constant genes, blocks and refusals of the fast Spearman."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from regulens.errors import AlignmentError, ParameterError
from regulens.rng import stream
from regulens.stats.correlation import spearman


def test_constant_columns_are_undefined_not_zero():
    x = stream(0, "x").normal(size=(20, 3))
    x[:, 1] = 4.0
    found = spearman(x, x)
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    assert found[0, 0] == pytest.approx(1.0) and np.isfinite(found[0, 2])


def test_columns_beyond_one_block_stay_in_place():
    x = stream(0, "x").normal(size=(15, 600))
    np.testing.assert_allclose(spearman(x[:, 500:501], x)[0, 500], 1.0)
    assert spearman(x[:, :0], x).shape == (0, 600)


def test_explicit_zeros_and_empty_columns_of_sparse_input():
    dense = stream(0, "x").poisson(0.5, (30, 6)).astype(float)
    dense[:, 2] = 0
    sparse = sp.csr_matrix(dense)
    sparse.data[:3] = 0.0
    np.testing.assert_allclose(spearman(sparse, sparse), spearman(sparse.toarray(), sparse.toarray()), atol=1e-14)


def test_refusals():
    with pytest.raises(AlignmentError, match="same 2 or more cells"):
        spearman(np.zeros((3, 1)), np.zeros((4, 1)))
    with pytest.raises(ParameterError, match="without NaN"):
        spearman(np.array([[np.nan], [1.0]]), np.zeros((2, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_one_matrix_with_itself_equals_two_matrices(dtype):
    rng = stream(1, "same")
    x = rng.poisson(1.0, (40, 300)) if dtype is np.int64 else rng.normal(size=(40, 300)).round(1)
    x = x.astype(dtype)
    found = spearman(x, x)
    np.testing.assert_allclose(found, spearman(x, x.copy()), atol=1e-14)
    np.testing.assert_array_equal(found, found.T)


def test_double_precision_that_single_would_tie_keeps_its_order():
    x = 1.0 + np.arange(10)[:, None] * 1e-12
    assert spearman(x, np.arange(10.0)[:, None])[0, 0] == pytest.approx(1.0)
