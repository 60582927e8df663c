"""The label shuffle preserves what it says, uses the observation's statistic, and is uniform."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import ParameterError
from regulens.nulls import NULLS
from regulens.nulls.label_shuffle import (
    SPEC,
    label_shuffle_within_regulator,
    null_distributions,
    shuffled_positions,
)
from regulens.rng import stream
from regulens.stats.ranking import auroc
from regulens.testing.calibration import PairWorld

WORLD = PairWorld(name="s", n_regulators=6, n_targets=30, prevalence=0.15, n_scores=2)


def data():
    scores, label, i, _ = WORLD.draw(stream(0, "shuffle"))
    return np.round(scores, 1), label, i


def positions(label, i, draws=40):
    return np.concatenate(list(shuffled_positions(label, i, draws=draws, rng=stream(1, "p"))))


def test_regulon_sizes_are_preserved():
    _, label, i = data()
    for row in positions(label, i):
        assert len(set(row.tolist())) == label.sum()
        np.testing.assert_array_equal(np.bincount(i[row], minlength=6), np.bincount(i[label], minlength=6))


def test_draws_are_the_aurocs_of_permuted_labels():
    scores, label, i = data()
    found = label_shuffle_within_regulator(scores, label, i, draws=40, rng=stream(1, "p"))
    for b, row in enumerate(positions(label, i)):
        permuted = np.zeros(label.size, bool)
        permuted[row] = True
        np.testing.assert_allclose(found[:, b], auroc(scores, permuted), atol=1e-13)


def test_every_pair_of_a_regulator_is_equally_likely():
    label = np.array([True, True] + [False] * 8 + [True] + [False] * 9)
    i = np.repeat([0, 1], 10)
    counts = np.bincount(positions(label, i, draws=20_000).ravel(), minlength=20) / 20_000
    np.testing.assert_allclose(counts[:10], 0.2, atol=0.015)
    np.testing.assert_allclose(counts[10:], 0.1, atol=0.012)


def test_order_of_pairs_does_not_need_to_be_by_regulator():
    scores, label, i = data()
    o = stream(2, "o").permutation(label.size)
    a = label_shuffle_within_regulator(scores, label, i, draws=3000, rng=stream(1, "p")).mean(1)
    b = label_shuffle_within_regulator(scores[:, o], label[o], i[o], draws=3000, rng=stream(3, "p")).mean(1)
    np.testing.assert_allclose(a, b, atol=0.01)


def test_null_distributions_carry_the_scheme():
    found = null_distributions(*data(), draws=99, rng=stream(1, "p"), stream="p")
    assert [n.scheme for n in found] == ["label_shuffle"] * 2
    assert found[0].preserves == SPEC.preserves
    assert 0 < found[0].p_value() <= 1
    np.testing.assert_array_equal([n.observed for n in found], auroc(*data()[:2]))


def test_undefined_and_refused():
    scores, label, i = data()
    assert np.isnan(label_shuffle_within_regulator(scores, label & False, i, draws=3, rng=stream(1, "p"))).all()
    with pytest.raises(ParameterError, match="without NaN"):
        label_shuffle_within_regulator(scores * np.nan, label, i, draws=3, rng=stream(1, "p"))
    with pytest.raises(ParameterError, match="at least one draw"):
        label_shuffle_within_regulator(scores, label, i, draws=0, rng=stream(1, "p"))


def test_table_of_nulls():
    assert NULLS.names()[:2] == ["label_shuffle", "expression_matched"]
    assert NULLS["label_shuffle"] is SPEC
