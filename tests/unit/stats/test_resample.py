"""Bootstraps against resampling pairs by hand; pairing across scores; the simultaneous test."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.cluster import auroc_inference, bootstrap_auroc, max_t, max_t_p, twoway_bootstrap_auroc
from regulens.stats.delong import delong
from regulens.stats.ranking import auroc, influence
from regulens.stats.resample import bootstrap_edges, regulator_wins, weighted_from_wins, weighted_two_way
from regulens.testing.calibration import PairWorld

WORLD = PairWorld(name="small", n_regulators=8, n_targets=30, prevalence=0.1, n_scores=3)


def data():
    scores, label, i, j = WORLD.draw(stream(0, "resample"))
    return np.round(scores, 1), label, i, j


def test_win_matrix_sums_to_the_auroc():
    scores, label, i, _ = data()
    wins, n_pos, n_neg = regulator_wins(scores, label, i)
    np.testing.assert_allclose(wins.sum((1, 2)) / (n_pos.sum() * n_neg.sum()), auroc(scores, label), atol=1e-14)
    r, s = 2, 5
    pos, neg = scores[0][label & (i == r)], scores[0][~label & (i == s)]
    by_hand = (pos[:, None] > neg).sum() + 0.5 * (pos[:, None] == neg).sum()
    assert wins[0, r, s] == by_hand  # rows are the positives' regulators; the transpose differs
    assert not np.allclose(wins[0], wins[0].T)


def test_weights_equal_repeated_regulators_and_a_diagonal_only_form_does_not():
    scores, label, i, _ = data()
    wins, n_pos, n_neg = regulator_wins(scores, label, i)
    weights = np.arange(8.0)[None]
    rows = np.repeat(np.arange(label.size), np.arange(8)[i])
    wanted = auroc(scores[:, rows], label[rows])
    np.testing.assert_allclose(weighted_from_wins(wins, n_pos, n_neg, weights)[:, 0], wanted, atol=1e-13)
    within = wins * np.eye(8)  # positives only against their own regulator's negatives
    assert not np.allclose(weighted_from_wins(within, n_pos, n_neg, weights)[:, 0], wanted)


def test_two_way_weights_equal_repeated_genes():
    scores, label, i, j = data()
    rng = stream(0, "w")
    wr, wt = rng.integers(0, 3, 8), rng.integers(0, 3, 30)
    rows = np.repeat(np.arange(label.size), wr[i] * wt[j])
    found = weighted_two_way(scores, label, i, j, wr[None].astype(float), wt[None].astype(float))[:, 0]
    np.testing.assert_allclose(found, auroc(scores[:, rows], label[rows]), atol=1e-13)


def test_draws_are_paired_and_reproducible():
    scores, label, i, j = data()
    one = bootstrap_auroc(scores, label, i, draws=50, rng=stream(1, "b"))
    alone = bootstrap_auroc(scores[1:2], label, i, draws=50, rng=stream(1, "b"))
    np.testing.assert_array_equal(one[1:2], alone)
    two = twoway_bootstrap_auroc(scores, label, i, j, draws=50, rng=stream(1, "b"))
    np.testing.assert_array_equal(
        two[2:], twoway_bootstrap_auroc(scores[2:], label, i, j, draws=50, rng=stream(1, "b"))
    )
    assert two.std(1, where=np.isfinite(two)).min() > 0


def test_a_resample_without_positives_is_nan():
    scores, label, i, _ = data()
    only = label & (i == i[label][0])
    found = bootstrap_auroc(scores, only, i, draws=200, rng=stream(1, "b"))
    share = np.isnan(found).mean()
    assert 0.2 < share < 0.5  # (1 - 1/8)^8 = 0.34 of resamples miss that regulator
    assert (np.isnan(found) == np.isnan(found[0])).all()


def test_max_t_is_between_raw_and_bonferroni():
    world = PairWorld(name="m", n_regulators=20, n_targets=60, prevalence=0.05, n_scores=6)
    found = auroc_inference(*world.draw(stream(3, "m")))
    p = max_t_p(found, 0.5, draws=4000, rng=stream(3, "d"))
    assert (p["p_adjusted"] >= p["p_raw"]).all()
    assert (p["p_adjusted"] <= np.minimum(1, 6 * p["p_raw"]) + 0.03).all()
    order = np.argsort(-p["t"])
    assert (np.diff(p["p_adjusted"][order]) >= -0.02).all()


def test_identical_scores_cost_nothing_in_max_t():
    world = PairWorld(name="m", n_regulators=20, n_targets=60, prevalence=0.05)
    scores, label, i, j = world.draw(stream(3, "m"))
    found = auroc_inference(np.repeat(scores, 5, axis=0), label, i, j)
    p = max_t_p(found, 0.5, draws=8000, rng=stream(3, "d"))
    np.testing.assert_allclose(p["p_adjusted"], p["p_raw"], atol=0.02)


def test_max_t_leaves_undefined_scores_out():
    scores, label, i, j = data()
    scores[1] = 0.0
    p = max_t_p(auroc_inference(scores, label, i, j), 0.5, draws=200, rng=stream(0, "d"))
    assert np.isnan(p["p_adjusted"][1]) and np.isfinite(p["p_adjusted"][[0, 2]]).all()
    with pytest.raises(ParameterError, match="at least one draw"):
        max_t_p(auroc_inference(scores, label, i, j), 0.5, draws=0, rng=stream(0, "d"))


def test_max_t_from_influence_is_close():
    world = PairWorld(name="m", n_regulators=30, n_targets=80, prevalence=0.05, n_scores=4)
    scores, label, i, j = world.draw(stream(4, "m"))
    area, psi = influence(scores, label)
    p = max_t(psi, area, 0.5, i, target=j, label=label, draws=4000, rng=stream(0, "d"))
    q = max_t_p(auroc_inference(scores, label, i, j), 0.5, draws=4000, rng=stream(0, "d"))
    np.testing.assert_allclose(p["p_adjusted"], q["p_adjusted"], atol=0.04)
    assert max_t(psi, area, 0.5, i, draws=100, rng=stream(0, "d"))["t"].shape == (4,)


def test_blocks_and_single_precision_give_the_same_bootstrap():
    scores, label, i, _ = data()
    whole = bootstrap_auroc(scores, label, i, draws=20, rng=stream(1, "b"))
    blocks = bootstrap_auroc(iter([scores[:1], scores[1:]]), label, i, draws=20, rng=stream(1, "b"))
    np.testing.assert_array_equal(whole, blocks)
    small = bootstrap_auroc(scores.astype(np.float32), label, i, draws=20, rng=stream(1, "b"))
    np.testing.assert_array_equal(whole, small)


def test_bootstrap_over_edges_has_the_delong_error():
    scores, label, _, _ = data()
    draws = bootstrap_edges(scores, label, draws=4000, rng=stream(2, "edges"))
    np.testing.assert_allclose(draws.std(1), delong(scores, label).se, rtol=0.08)
    np.testing.assert_allclose(draws.mean(1), auroc(scores, label), atol=0.003)
    assert np.isnan(bootstrap_edges(scores, np.zeros(label.size, bool), draws=3, rng=stream(2, "x"))).all()


def test_bootstrap_over_edges_is_drawing_pairs():
    scores, label, _, _ = data()
    rng = stream(3, "pairs")
    pos, neg = scores[0][label], scores[0][~label]
    by_hand = []
    for _ in range(3000):
        s = np.r_[rng.choice(pos, pos.size), rng.choice(neg, neg.size)]
        by_hand.append(auroc(s, np.arange(s.size) < pos.size)[0])
    found = bootstrap_edges(scores[:1], label, draws=3000, rng=stream(4, "edges"))[0]
    np.testing.assert_allclose(
        np.quantile(found, [0.05, 0.5, 0.95]), np.quantile(by_hand, [0.05, 0.5, 0.95]), atol=0.01
    )
