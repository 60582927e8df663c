import dataclasses

import numpy as np
import pandas as pd
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.types.attention import AttentionSummary, Direction, ModelCard, edges_from_map

CARD = ModelCard(
    name="toy", family="toy", spec="toy", n_layers=12, n_heads=2, width=4, vocabulary_size=3, max_length=3,
    n_parameters=1, sha256="0", namespace="symbol", tokenisation="t", normalisation="n", activation="relu",
)  # fmt: skip


def summary(n_partitions=2):
    rng = np.random.default_rng(0)
    return AttentionSummary(
        sums=rng.random((n_partitions, 12, 2, 2, 2, 3)), counts=rng.integers(0, 9, (n_partitions, 2, 3)),
        partitions=pd.DataFrame({"partition": range(n_partitions), "n_cells": 5}), genes=("A", "B", "C"),
        regulators=("A", "B"), card=CARD,
    )  # fmt: skip


def test_orientation_is_read_from_an_asymmetric_map():
    weights = np.array([[0.1, 0.9, 0.0], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]])
    r, t = np.array([0, 2]), np.array([1, 2])
    np.testing.assert_array_equal(
        edges_from_map(weights, Direction.REGULATOR_ATTENDS, r, t), [[0.9, 0.0], [0.25, 0.25]]
    )
    np.testing.assert_array_equal(edges_from_map(weights, Direction.TARGET_ATTENDS, r, t), [[0.3, 0.5], [0.4, 0.25]])
    # A transposed map gives the other direction: no shape check could see it, this fixture does.
    np.testing.assert_array_equal(
        edges_from_map(weights.T, Direction.REGULATOR_ATTENDS, r, t),
        edges_from_map(weights, Direction.TARGET_ATTENDS, r, t),
    )


def test_merging_partitions_adds_sums_and_counts():
    s = summary()
    both = s.layer_sums(11, Direction.TARGET_ATTENDS)
    parts = [s.layer_sums(11, Direction.TARGET_ATTENDS, [p]) for p in (0, 1)]
    np.testing.assert_allclose(both, sum(parts), rtol=1e-15)
    np.testing.assert_array_equal(s.pair_counts(), s.pair_counts([0]) + s.pair_counts([1]))


def test_layers_are_integers_from_zero():
    with pytest.raises(ParameterError, match=r"\[0, 11\]"):
        summary().layer_sums(12, Direction.REGULATOR_ATTENDS)


def test_a_store_of_another_shape_is_refused():
    s = summary()
    with pytest.raises(AlignmentError, match="partition, layer, head, direction, regulator, target"):
        dataclasses.replace(s, sums=np.swapaxes(s.sums, -1, -2))


def test_a_demonstration_model_says_so_in_its_label():
    assert "demonstration" in dataclasses.replace(CARD, demonstration=True).label()
    assert CARD.label() == "toy"
