"""Permuted strata keep donors, block counts and sizes, move what can move, and hold their level."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.nulls import NULLS
from regulens.nulls.label_permuted_strata import SPEC, permuted_strata
from regulens.rng import stream


def blocks():
    """Three donors, three states, sizes of 20 to 30 and some small ones."""
    rng = stream(0, "blocks")
    donor = np.repeat(["d1", "d2", "d3"], [12, 9, 7])
    label = rng.choice(["B", "NK", "T"], donor.size, p=[0.3, 0.2, 0.5])
    size = rng.choice([4, 5, 20, 22, 24, 30], donor.size).astype(float)
    return label, donor, size


def test_blocks_per_state_and_donor_are_preserved():
    label, donor, size = blocks()
    found = permuted_strata(label, donor=donor, size=size, draws=200, rng=stream(1, "p"))
    for row in found.labels:
        drawn = found.strata[row]
        for d in np.unique(donor):
            assert sorted(drawn[donor == d]) == sorted(label[donor == d])
    assert (found.labels != found.labels[0]).any()


def test_sizes_stay_within_the_tolerance_and_exactly_with_tolerance_one():
    label, donor, size = blocks()
    states = np.unique(label)
    observed = np.array([size[label == s].sum() for s in states])
    for tolerance in (1.0, 1.25, 1.6):
        found = permuted_strata(label, donor=donor, size=size, draws=100, rng=stream(1, "p"), tolerance=tolerance)
        drawn = np.array([[size[row == k].sum() for k in range(len(states))] for row in found.labels])
        change = (np.abs(drawn - observed) / observed).max()
        assert change <= tolerance - 1 + 1e-12
        assert found.size_change == pytest.approx(change)


def test_arrangements_are_counted_and_equally_likely():
    label = np.array(["a", "a", "b", "c", "c"])
    found = permuted_strata(
        label, donor=np.array([0, 0, 0, 1, 1]), size=np.ones(5), draws=30_000, rng=stream(1, "p")
    )  # fmt: skip
    assert (found.n_arrangements, found.n_fixed, found.smallest_p) == (3.0, 2, 1 / 3)
    _, counts = np.unique(found.labels, axis=0, return_counts=True)
    np.testing.assert_allclose(counts / 30_000, 1 / 3, atol=0.01)
    assert found.n_identical / 30_000 == pytest.approx(1 / 3, abs=0.01)


def test_one_state_per_donor_leaves_nothing_to_permute():
    donor = np.array([0, 0, 1, 1])
    found = permuted_strata(donor, donor=donor, size=np.ones(4), draws=10, rng=stream(1, "p"))
    assert (found.n_arrangements, found.n_fixed, found.n_identical) == (1.0, 4, 10)


def test_many_arrangements_do_not_overflow():
    label = np.arange(4000) % 5
    found = permuted_strata(label, donor=label * 0, size=np.ones(4000), draws=2, rng=stream(1, "p"))
    assert found.n_arrangements == np.inf
    assert found.smallest_p == 0.0


def test_order_of_blocks_changes_only_the_order():
    label, donor, size = blocks()
    o = stream(3, "o").permutation(label.size)
    a = permuted_strata(label, donor=donor, size=size, draws=4000, rng=stream(1, "p"))
    b = permuted_strata(label[o], donor=donor[o], size=size[o], draws=4000, rng=stream(2, "p"))
    share = [np.stack([(f.labels == k).mean(axis=0) for k in range(3)]) for f in (a, b)]
    np.testing.assert_allclose(share[0][:, o], share[1], atol=0.04)
    assert a.n_arrangements == pytest.approx(b.n_arrangements)


def test_p_values_hold_their_level_where_blocks_are_exchangeable():
    """The statistic is the largest difference of state means; donors differ strongly, states not at all."""
    rng = stream(4, "level")
    donor = np.repeat(np.arange(3), 10)
    label = np.concatenate([(np.arange(10) // 6 + k) % 3 for k in range(3)])  # every donor has a state of its own
    label[9::10] = [2, 0, 1]

    def spread(x, lab):
        means = np.array([[x[row == k].mean() for k in range(3)] for row in np.atleast_2d(lab)])
        return np.ptp(means, axis=1)

    hits = naive = 0
    for _ in range(300):
        x = 3.0 * rng.normal(size=3)[donor] + rng.normal(size=30)
        observed = spread(x, label)[0]
        within = permuted_strata(label, donor=donor, size=np.ones(30), draws=59, rng=rng)
        across = permuted_strata(label, donor=donor * 0, size=np.ones(30), draws=59, rng=rng)
        hits += (1 + (spread(x, within.labels) >= observed).sum()) / 60 <= 0.05
        naive += (1 + (spread(x, across.labels) >= observed).sum()) / 60 <= 0.05
    assert hits <= 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)
    assert naive > 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)  # the twin that ignores donors is caught


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"draws": 0}, ParameterError),
        ({"tolerance": 0.9}, ParameterError),
        ({"size": np.zeros(3)}, ParameterError),
        ({"donor": np.zeros(2)}, AlignmentError),
    ],
)
def test_refusals_name_what_was_expected(kwargs, error):
    given = {"donor": np.zeros(3), "size": np.ones(3), "draws": 2} | kwargs
    with pytest.raises(error, match="Expected"):
        permuted_strata(np.array([0, 1, 1]), rng=stream(1, "p"), **given)


def test_table_of_nulls():
    assert NULLS["label_permuted_strata"] is SPEC
