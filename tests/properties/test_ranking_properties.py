"""What must hold of AUROC, AP, bootstraps and adjustments whatever the numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regulens.rng import stream
from regulens.stats.cluster import auroc_inference, cluster_sums
from regulens.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
from regulens.stats.ranking import auroc, average_precision, early_precision, influence
from regulens.stats.resample import regulator_wins, weighted_from_wins, weighted_two_way

QUICK = settings(max_examples=60, deadline=None)


@st.composite
def pairs(draw):
    """Few distinct integer scores (many ties), labels of both kinds, a regulator and a target per pair."""
    n = draw(st.integers(4, 40))
    scores = draw(arrays(np.int64, (2, n), elements=st.integers(-4, 4))).astype(float)
    label = draw(arrays(np.bool_, n))
    label[0], label[1] = True, False
    regulator = draw(arrays(np.int64, n, elements=st.integers(0, 4)))
    target = draw(arrays(np.int64, n, elements=st.integers(0, 6)))
    return scores, label, regulator, target


@QUICK
@given(pairs())
def test_monotone_maps_change_nothing(data):
    scores, label, *_ = data
    for mapped in (scores * 3 - 7, np.exp(scores), scores**3):
        np.testing.assert_array_equal(auroc(mapped, label), auroc(scores, label))
        np.testing.assert_array_equal(average_precision(mapped, label), average_precision(scores, label))


@QUICK
@given(pairs())
def test_negated_scores_give_the_complement(data):
    scores, label, *_ = data
    np.testing.assert_allclose(auroc(-scores, label), 1 - auroc(scores, label), atol=1e-15)
    np.testing.assert_allclose(auroc(scores, ~label), 1 - auroc(scores, label), atol=1e-15)


@QUICK
@given(pairs(), st.integers(0, 10_000))
def test_order_of_edges_and_ties_changes_nothing(data, seed):
    scores, label, regulator, target = data
    o = stream(seed, "order").permutation(label.size)
    np.testing.assert_array_equal(auroc(scores[:, o], label[o]), auroc(scores, label))
    np.testing.assert_allclose(average_precision(scores[:, o], label[o]), average_precision(scores, label), atol=1e-15)
    for k in (1, label.size // 2, label.size):
        np.testing.assert_allclose(
            early_precision(scores[:, o], label[o], k=k), early_precision(scores, label, k=k), atol=1e-14
        )
    one = auroc_inference(scores, label, regulator, target)
    two = auroc_inference(scores[:, o], label[o], regulator[o], target[o])
    np.testing.assert_allclose(one.se, two.se, atol=1e-12, equal_nan=True)
    assert one.undefined == two.undefined


@QUICK
@given(pairs())
def test_influence_sums_to_zero_and_keeps_its_total_in_clusters(data):
    scores, label, regulator, _ = data
    area, psi = influence(scores, label)
    np.testing.assert_allclose(area, auroc(scores, label), atol=0)
    np.testing.assert_allclose(psi.sum(1), 0, atol=1e-13)
    np.testing.assert_allclose(cluster_sums(psi, regulator, 5).sum(1), 0, atol=1e-13)


@QUICK
@given(pairs())
def test_weights_of_one_return_the_plain_auroc(data):
    scores, label, regulator, target = data
    wins, n_pos, n_neg = regulator_wins(scores, label, regulator)
    plain = auroc(scores, label)
    np.testing.assert_allclose(
        weighted_from_wins(wins, n_pos, n_neg, np.ones((1, n_pos.size)))[:, 0], plain, atol=1e-14
    )
    rows, columns = np.ones((1, len(set(regulator)))), np.ones((1, len(set(target))))
    found = weighted_two_way(scores, label, regulator, target, rows, columns)
    np.testing.assert_allclose(found[:, 0], plain, atol=1e-14)


@QUICK
@given(pairs(), st.integers(0, 1000))
def test_whole_weights_equal_repeated_pairs(data, seed):
    scores, label, regulator, target = data
    names, number = np.unique(regulator, return_inverse=True)
    weights = stream(seed, "weights").integers(0, 3, names.size)
    rows = np.repeat(np.arange(label.size), weights[number])
    wins, n_pos, n_neg = regulator_wins(scores, label, regulator)
    found = weighted_from_wins(wins, n_pos, n_neg, weights[None].astype(float))[:, 0]
    np.testing.assert_allclose(found, auroc(scores[:, rows], label[rows]), atol=1e-13, equal_nan=True)
    columns = np.ones((1, len(set(target))))
    swept = weighted_two_way(scores, label, regulator, target, weights[None].astype(float), columns)[:, 0]
    np.testing.assert_allclose(swept, found, atol=1e-13, equal_nan=True)


probabilities = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1))


@QUICK
@given(probabilities)
def test_adjusted_values_are_monotone_and_never_below_the_raw_ones(p):
    for adjust in (benjamini_hochberg, benjamini_yekutieli, holm):
        q = adjust(p)
        assert (q >= p).all()
        assert (q <= 1).all()
        assert (np.diff(q[np.argsort(p, kind="stable")]) >= 0).all()


@QUICK
@given(probabilities, st.integers(0, 1000))
def test_adjustment_does_not_depend_on_order(p, seed):
    o = stream(seed, "order").permutation(p.size)
    np.testing.assert_array_equal(benjamini_hochberg(p[o]), benjamini_hochberg(p)[o])


@QUICK
@given(probabilities)
def test_holm_is_at_least_bh(p):
    assert (holm(p) >= benjamini_hochberg(p) - 1e-15).all()
