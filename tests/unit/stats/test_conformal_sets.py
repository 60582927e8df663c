"""Coverage of conformal sets by simulation, for groups of unequal size, few groups, ties; what breaks it is caught."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from regulens.errors import ParameterError
from regulens.stats.conformal_sets import (
    NEVER_OUT,
    Calibrating,
    Threshold,
    fewest_groups,
    one_of_each,
    sets,
    smallest,
    undercoverage_p,
)


def world(rng, n_groups, *, ties=False, n_genes=40, spread=1.0):
    """Pairs of exchangeable groups that differ in size, base rate and in how well the score works."""
    size = rng.integers(n_genes // 4, n_genes, size=n_groups)
    group = np.repeat(np.arange(n_groups), size)
    base, slope = rng.normal(-1.5, spread, n_groups)[group], rng.normal(1, 0.7, n_groups)[group]
    x = rng.normal(size=len(group))
    y = rng.random(len(group)) < expit(base + slope * x)
    p = expit(-1.5 + x)
    return np.round(p, 1) if ties else p, y, group


def covered_shares(make, alpha, *, n_cal, draws, ties=False, seed=0):
    """Coverage of a random pair of one new group, and whether its own coverage is kept, over draws."""
    rng = np.random.default_rng(seed)
    one, kept, by_class = np.empty(draws), np.empty(draws), np.full((draws, 2), np.nan)
    for d in range(draws):
        p, y, group = world(rng, n_cal + 1, ties=ties)
        tie, new = rng.random(len(p)), group == n_cal
        score = np.where(y, 1 - p, p)
        no, yes = make(score[~new], tie[~new], group[~new], y[~new], alpha, rng)
        inside = sets(p[new], tie[new], no, yes)
        hit = np.where(y[new], inside[:, 1], inside[:, 0])
        one[d], kept[d] = hit.mean(), hit.mean() >= 1 - alpha
        for c in (0, 1):
            if (y[new] == c).any():
                by_class[d, c] = hit[y[new] == c].mean()
    return one.mean(), kept.mean(), np.nanmean(by_class, axis=0), one.std() / np.sqrt(draws)


def one_each(score, tie, group, y, alpha, rng):
    t = Calibrating.build(score, tie, group).one_per_group(alpha, rng)
    return t, t


def all_pairs(score, tie, group, y, alpha, rng):
    t = Calibrating.build(score, tie, group).hierarchical(alpha)
    return t, t


def each_class(score, tie, group, y, alpha, rng):
    given = Calibrating.build(score, tie, group)
    return given.part(~y).hierarchical(alpha), given.part(y).hierarchical(alpha)


def pooled(score, tie, group, y, alpha, rng):
    """The broken twin: pairs of all groups as if they were exchangeable."""
    t = smallest(score, tie, alpha)
    return t, t


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n_cal", "alpha"), [(9, 0.1), (24, 0.2), (10, 0.2), (40, 0.05)])
def test_one_pair_per_group_covers_within_its_bounds(n_cal, alpha, ties):
    mean, _, _, se = covered_shares(one_each, alpha, n_cal=n_cal, draws=1500, ties=ties, seed=n_cal)
    assert 1 - alpha - 3.5 * se <= mean <= 1 - alpha + 1 / (n_cal + 1) + 3.5 * se


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n_cal", "alpha"), [(9, 0.1), (24, 0.2), (30, 0.1)])
def test_all_pairs_cover_within_their_bounds(n_cal, alpha, ties):
    mean, _, _, se = covered_shares(all_pairs, alpha, n_cal=n_cal, draws=1000, ties=ties, seed=n_cal)
    assert 1 - alpha - 3.5 * se <= mean <= 1 - alpha + 2 / (n_cal + 1) + 3.5 * se


def test_each_class_is_covered_where_one_threshold_covers_the_frequent_one():
    alpha, n_cal = 0.2, 24
    _, _, own, _ = covered_shares(each_class, alpha, n_cal=n_cal, draws=800, seed=1)
    assert own.min() >= 1 - alpha - 0.03
    _, _, shared, _ = covered_shares(all_pairs, alpha, n_cal=n_cal, draws=300, seed=1)
    assert shared[1] < 0.5


def test_whole_groups_are_covered_as_often_as_said():
    alpha, delta, n_cal = 0.2, 0.1, 29

    def make(score, tie, group, y, a, rng):
        t = Calibrating.build(score, tie, group).whole_group(a, delta)
        return t, t

    _, kept, _, _ = covered_shares(make, alpha, n_cal=n_cal, draws=1500, seed=2)
    assert 1 - delta - 0.03 <= kept <= 1 - delta + 1 / (n_cal + 1) + 0.03
    _, marginal, _, _ = covered_shares(all_pairs, alpha, n_cal=n_cal, draws=600, seed=2)
    assert marginal < 0.8  # marginal coverage is not that of every group


def test_pairs_taken_for_exchangeable_cover_too_few():
    """Groups of one size: a pooled quantile of 5 x 500 pairs counts pairs, and 5 groups cannot say 90 %."""
    rng = np.random.default_rng(0)
    hit, safe = [], []
    for _ in range(800):
        group = np.repeat(np.arange(6), 500)
        shift = rng.normal(size=6)[group]
        p = expit(shift + 0.1 * rng.normal(size=len(group)))
        tie, y, new = rng.random(len(p)), np.zeros(len(p), dtype=bool), group == 5
        for out, make in ((hit, pooled), (safe, all_pairs)):
            no, yes = make(p[~new], tie[~new], group[~new], y[~new], 0.1, rng)
            out.append(sets(p[new], tie[new], no, yes)[:, 0].mean())
    assert np.mean(hit) < 0.88
    assert np.mean(safe) == 1.0  # 5 groups are fewer than 9: both labels, always


def test_too_few_groups_never_rule_anything_out():
    for alpha in (0.05, 0.1, 0.2):
        n = fewest_groups(alpha)
        assert smallest(np.arange(n - 1.0), np.zeros(n - 1), alpha) == NEVER_OUT
        assert smallest(np.arange(float(n)), np.zeros(n), alpha).score < np.inf
        enough = Calibrating.build(np.arange(float(n)), np.zeros(n), np.arange(n))
        assert enough.hierarchical(alpha).score < np.inf
        assert enough.part(np.arange(n) > 0).hierarchical(alpha) == NEVER_OUT
    empty = Calibrating.build(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int))
    assert empty.hierarchical(0.1) == NEVER_OUT
    assert empty.one_per_group(0.1, np.random.default_rng(0)) == NEVER_OUT
    assert empty.whole_group(0.1, 0.1) == NEVER_OUT


def test_the_weighted_quantile_is_that_of_a_loop():
    rng = np.random.default_rng(3)
    group = rng.integers(0, 12, size=200)
    score, tie = np.round(rng.random(200), 1), rng.random(200)
    size = np.bincount(group)
    for alpha in (0.1, 0.2, 0.37):
        total, wanted = 0.0, None
        for k in sorted(range(200), key=lambda i: (score[i], tie[i])):
            total += 1 / size[group[k]]
            if total >= 13 * (1 - alpha) - 1e-9:
                wanted = (score[k], tie[k])
                break
        found = Calibrating.build(score, tie, group).hierarchical(alpha)
        assert wanted is None or (found.score, found.tie) == wanted


def test_the_order_is_that_of_score_then_tie():
    rng = np.random.default_rng(6)
    for digits in (1, 2, 9):
        score, tie, group = np.round(rng.random(500), digits), rng.random(500), rng.integers(0, 7, size=500)
        np.testing.assert_array_equal(Calibrating.build(score, tie, group).order, np.lexsort((tie, score)))


def test_one_of_each_group_is_drawn_evenly():
    rng = np.random.default_rng(7)
    group = np.array([3, 0, 3, 3, 9, 0])
    drawn = np.array([one_of_each(group, rng) for _ in range(3000)])
    assert (group[drawn] == [0, 3, 9]).all()
    share = (drawn[:, 1][:, None] == [0, 2, 3]).mean(axis=0)
    np.testing.assert_allclose(share, 1 / 3, atol=0.04)
    assert not len(one_of_each(np.zeros(0, dtype=int), rng))


def test_a_part_is_what_would_be_built_of_it():
    rng = np.random.default_rng(4)
    group, score, tie = rng.integers(0, 9, size=80) * 3, rng.random(80), rng.random(80)
    mask = (rng.random(80) < 0.3) & (group != 6)
    part, built = (
        Calibrating.build(score, tie, group).part(mask),
        Calibrating.build(score[mask], tie[mask], group[mask]),
    )
    assert part.n_groups == built.n_groups
    np.testing.assert_array_equal(part.score, built.score)
    np.testing.assert_array_equal(part.group, built.group)


def test_ties_are_broken_by_their_numbers():
    t = Threshold(score=0.5, tie=0.3)
    np.testing.assert_array_equal(
        t.lets_in(np.array([0.4, 0.5, 0.5, 0.6]), np.array([0.9, 0.3, 0.31, 0.0])), [True, True, False, False]
    )


def test_too_little_coverage_is_beta_binomial():
    """Over draws of both sides p is uniform from above; the plain binomial rejects far too often."""
    from scipy.stats import binom

    rng = np.random.default_rng(5)
    n_cal, n_test, alpha, found, plain = 19, 60, 0.1, [], []
    for _ in range(4000):
        s = rng.random(n_cal + n_test)
        t = smallest(s[:n_cal], np.zeros(n_cal), alpha)
        covered = int((s[n_cal:] <= t.score).sum())
        found.append(undercoverage_p(covered, n_test, n_cal, alpha))
        plain.append(binom.cdf(covered, n_test, 1 - alpha))
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert np.mean(np.array(plain) <= 0.05) > 0.1


def test_shapes_must_agree():
    with pytest.raises(ParameterError, match="Expected one score, tie-breaker and group"):
        Calibrating.build(np.zeros(3), np.zeros(2), np.zeros(3))
