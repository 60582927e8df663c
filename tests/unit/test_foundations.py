"""Random streams, digests, registries: small, but every number depends on them."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from regulens import provenance
from regulens.errors import RegistryError
from regulens.registry import Registry
from regulens.rng import stream


def test_streams_depend_on_seed_and_name_only():
    first = stream(1, "a").random(3)
    stream(1, "b").random(100)
    np.testing.assert_array_equal(first, stream(1, "a").random(3))
    assert not np.array_equal(first, stream(2, "a").random(3))
    assert not np.array_equal(first, stream(1, "aa").random(3))


def test_digests_see_content_shape_and_type():
    a = np.arange(6)
    assert provenance.digest_array(a) == provenance.digest_array(a.copy())
    assert provenance.digest_array(a) != provenance.digest_array(a.reshape(2, 3))
    assert provenance.digest_array(a) != provenance.digest_array(a.astype(float))
    assert provenance.digest_array(np.asfortranarray(a.reshape(2, 3))) == provenance.digest_array(a.reshape(2, 3))
    assert provenance.digest_strings(["a", "b"]) != provenance.digest_strings(["ab", ""])
    assert provenance.digest_frame(pd.DataFrame({"x": [1]})) != provenance.digest_frame(pd.DataFrame({"y": [1]}))


def test_a_sparse_digest_ignores_how_the_same_matrix_is_stored():
    m = sp.csr_matrix(np.array([[0, 2.0], [3.0, 0]]))
    doubled = sp.csr_matrix((np.array([1.0, 1, 3]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    assert provenance.digest_sparse(m) == provenance.digest_sparse(doubled)


def test_a_registry_refuses_a_second_entry_and_names_both_origins():
    registry = Registry("thing", {"x": "os:sep"}, group="regulens.test")
    with pytest.raises(RegistryError, match=r"from regulens .* from user"):
        registry.register("x", "os:linesep")
    registry.register("y", "os:linesep")
    assert registry.names() == ["x", "y"]
    assert registry.origin("y") == "user"
    with pytest.raises(RegistryError, match="got 'z'"):
        registry["z"]
