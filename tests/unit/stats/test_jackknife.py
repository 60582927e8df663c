"""Delete-one deviations against leaving clusters out by hand; degrees of freedom; the default inference."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.rng import stream
from regulens.stats.cluster import auroc_difference, auroc_inference, default_se, mean_inference
from regulens.stats.cluster_robust import cluster_contributions, cluster_df, cluster_se, cluster_sums
from regulens.stats.jackknife import (
    auroc_deviations,
    auroc_difference_deviations,
    compact,
    effective_df,
    mean_deviations,
)
from regulens.stats.ranking import auroc, influence
from regulens.testing.calibration import PairWorld
from regulens.types.estimates import Estimate, Undefined

WORLD = PairWorld(name="small", n_regulators=9, n_targets=40, prevalence=0.1, n_scores=3)


def data(world: PairWorld = WORLD, name: str = "a"):
    scores, label, i, j = world.draw(stream(0, name))
    return np.round(scores, 1), label, i, j


def deletion_agrees(deviations) -> bool:
    scores, label, i, j = data()
    whole = auroc(scores, label)
    by_regulator = np.stack([auroc(scores[:, i != r], label[i != r]) - whole for r in range(9)], axis=1)
    by_target = np.stack([auroc(scores[:, j != t], label[j != t]) - whole for t in range(40)], axis=1)
    d = deviations(scores, label, i, j)
    return np.allclose(d.regulator, by_regulator, atol=1e-13) and np.allclose(d.target, by_target, atol=1e-13)


def test_deviations_equal_leaving_out_by_hand():
    assert deletion_agrees(auroc_deviations)


def test_a_transposed_cluster_is_noticed():
    with pytest.raises(AlignmentError, match="one integer regulator per pair"):
        auroc_deviations(*data()[:2], data()[2].reshape(9, 40), data()[3])
    assert not deletion_agrees(lambda s, y, i, j: auroc_deviations(s[:, ::-1], y, i, j))


def test_difference_is_the_difference_of_deviations():
    scores, label, i, j = data()
    d = auroc_difference_deviations(scores[:2], scores[2], label, i, j)
    a = auroc_deviations(scores, label, i, j)
    np.testing.assert_allclose(d.regulator, a.regulator[:2] - a.regulator[2], atol=1e-14)
    psi = influence(scores, label)[1]
    np.testing.assert_allclose(d.edge_variance, np.square(psi[:2] - psi[2]).sum(1), atol=1e-14)
    one_each = auroc_difference_deviations(scores[:2], scores[1:], label, i, j)
    np.testing.assert_allclose(one_each.estimate, a.estimate[:2] - a.estimate[1:])
    with pytest.raises(AlignmentError, match="one baseline or one per score"):
        auroc_difference_deviations(scores, scores[:2], label, i, j)


def test_a_score_against_itself_is_undefined():
    scores, label, i, j = data()
    found = auroc_difference(scores[:1], scores[0], label, i, j)
    assert "standard error is 0" in found.undefined[0]
    assert np.isnan(found.p_greater(0.0)).all()


def test_mean_deviations_equal_leaving_out_by_hand():
    rng = stream(0, "mean")
    values, i, j, w = rng.normal(size=(2, 30)), rng.integers(0, 5, 30), rng.integers(0, 7, 30), rng.random(30)
    d = mean_deviations(values, i, j, w)
    for r in range(5):
        keep = i != r
        left = values[:, keep] @ w[keep] / w[keep].sum()
        np.testing.assert_allclose(d.estimate + d.regulator[:, r], left, atol=1e-13)
    assert mean_inference(values, i, j, weight=w).unit == "regulator"
    with pytest.raises(AlignmentError):
        mean_deviations(values, i, j, -w)


def test_compact_ignores_gaps_and_refuses_floats():
    number, n = compact(np.array([7, 3, 7]), 3, "regulator")
    assert number.tolist() == [1, 0, 1] and n == 2
    number, n = compact(np.array([-7, 10**12, -7]), 3, "regulator")
    assert number.tolist() == [0, 1, 0] and n == 2
    with pytest.raises(AlignmentError):
        compact(np.array([1.0, 2.0]), 2, "regulator")


def test_effective_df():
    even = effective_df(np.ones((2, 12)))
    assert even.tolist() == [11.0, 11.0]
    assert effective_df(np.array([1e-160, 1e-165, 0.0])).item() == pytest.approx(1.0)
    assert effective_df(np.zeros(5)).item() == 1.0
    gaussian = effective_df(stream(0, "df").normal(size=(4000, 60)))
    assert 45 < np.median(gaussian) <= 59  # recovers about C - 1 from noisy equal clusters


def test_default_is_two_way_and_says_so():
    found = auroc_inference(*data())
    assert found.unit == "regulator and target"
    assert "9 regulators and 40 targets" in found.method
    assert found.n_units == 9
    assert all(isinstance(e, Estimate) for e in found.estimates())
    low, high = found.interval()
    assert ((low < found.estimate) & (found.estimate < high)).all()
    one = auroc_inference(*data(), clustering="regulator")
    assert one.unit == "regulator" and one.target.shape == (3, 0)
    assert (found.se >= one.se - 1e-15).all()


def test_fewer_than_ten_targets_cluster_by_regulator():
    assert auroc_inference(*data(PairWorld(name="t", n_regulators=30, n_targets=8, prevalence=0.2))).unit == "regulator"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s, y, i, j: (s, y & False, i, j), "no positives"),
        (lambda s, y, i, j: (s, y, i % 2, j), "2 regulators"),
        (lambda s, y, i, j: (s, y & (i == 0), i, j), "belong to one regulator"),
        (lambda s, y, i, j: (s, y & (j == j[y][0]), i, j), "belong to one target"),
        (lambda s, y, i, j: (s * 0, y, i, j), "standard error is 0"),
    ],
)
def test_undefined_has_a_reason(change, words):
    found = auroc_inference(*change(*data()))
    assert all(words in u for u in found.undefined)
    assert np.isnan(found.se).all() and np.isnan(found.p_two_sided(0.5)).all()
    assert all(isinstance(e, Undefined) for e in found.estimates())


def test_blocks_give_the_same_numbers():
    scores, label, i, j = data()
    whole = auroc_inference(scores, label, i, j)
    parts = auroc_inference((scores[k : k + 1].astype(np.float32) for k in range(3)), label, i, j)
    np.testing.assert_allclose(parts.se, whole.se, atol=1e-14)
    with pytest.raises(ParameterError, match="at least one block"):
        auroc_inference(iter([]), label, i, j)
    with pytest.raises(ParameterError, match="clustering"):
        default_se(auroc_deviations(scores, label, i, j), clustering="pairs")


def test_influence_form_is_close_to_the_exact_one():
    scores, label, i, j = data(PairWorld(name="big", n_regulators=30, n_targets=80, prevalence=0.05, n_scores=3))
    exact = auroc_inference(scores, label, i, j)
    psi = influence(scores, label)[1]
    np.testing.assert_allclose(cluster_se(psi, i, j, label=label), exact.se, rtol=0.03)
    np.testing.assert_allclose(cluster_df(psi, i, j, label=label), exact.df, rtol=0.2)
    assert (cluster_se(psi, i, label=label) > cluster_se(psi, i)).all()


def test_two_way_formula_by_hand():
    scores, label, i, j = data()
    psi = influence(scores, label)[1]
    r, t = cluster_sums(psi, i, 9), cluster_sums(psi, j, 40)
    v_r, v_t, v_e = 9 / 8 * (r**2).sum(1), 40 / 39 * (t**2).sum(1), (psi**2).sum(1)
    wanted = np.maximum(np.maximum(v_r, v_t), v_r + v_t - v_e)
    np.testing.assert_allclose(cluster_se(psi, i, j) ** 2, wanted)
    np.testing.assert_allclose(cluster_se(psi, i) ** 2, v_r)
    assert np.isnan(cluster_se(psi, i * 0)).all()
    assert cluster_contributions(psi, i).shape == (3, 9)
