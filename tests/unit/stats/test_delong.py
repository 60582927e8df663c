"""DeLong against placements written out pair by pair, and its coverage where pairs are independent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from regulens.errors import AlignmentError, ParameterError
from regulens.rng import stream
from regulens.stats.delong import delong, delong_covariance, delong_difference
from regulens.types.estimates import Estimate, Undefined


def by_definition(scores: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs and covariance from the matrix of comparisons of every positive with every negative."""
    v10, v01 = [], []
    for s in scores:
        pos, neg = s[label], s[~label]
        wins = (pos[:, None] > neg[None, :]) + 0.5 * (pos[:, None] == neg[None, :])
        v10.append(wins.mean(1))
        v01.append(wins.mean(0))
    v10, v01 = np.array(v10), np.array(v01)
    return v10.mean(1), np.cov(v10) / label.sum() + np.cov(v01) / (~label).sum()


def data(n: int = 200, rows: int = 4, decimals: int = 1, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    rng = stream(0, f"delong/{n}/{decimals}/{name}")
    label = rng.random(n) < 0.2
    shared = rng.normal(size=n)
    return np.round(0.7 * label + 0.6 * shared + rng.normal(size=(rows, n)), decimals), label


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_equals_the_definition(decimals):
    scores, label = data(decimals=decimals)
    area, cov = by_definition(scores, label)
    found = delong(scores, label)
    np.testing.assert_allclose(found.estimate, area, atol=1e-13)
    np.testing.assert_allclose(found.se, np.sqrt(np.diag(cov)), rtol=1e-11)
    gap = delong_difference(scores[:3], scores[3], label)
    np.testing.assert_allclose(gap.estimate, area[:3] - area[3], atol=1e-13)
    wanted = np.sqrt(np.diag(cov)[:3] + cov[3, 3] - 2 * cov[:3, 3])
    np.testing.assert_allclose(gap.se, wanted, rtol=1e-10)
    each = delong_difference(scores[:2], scores[2:], label)
    np.testing.assert_allclose(each.se[1], np.sqrt(cov[1, 1] + cov[3, 3] - 2 * cov[1, 3]), rtol=1e-10)
    all_area, all_cov = delong_covariance(scores, label)
    np.testing.assert_allclose(all_area, area, atol=1e-13)
    np.testing.assert_allclose(all_cov, cov, rtol=1e-9, atol=1e-15)


def test_float32_and_order_of_pairs_change_nothing():
    scores, label = data()
    o = stream(1, "order").permutation(label.size)
    small = scores.astype(np.float32)
    np.testing.assert_allclose(delong(small[:, o], label[o]).se, delong(small, label).se, rtol=1e-12)


def test_p_equals_brunner_and_munzel_in_scipy():
    scores, label = data(rows=1)
    found = delong(scores, label)
    wanted = stats.brunnermunzel(scores[0][~label], scores[0][label])
    np.testing.assert_allclose(found.p_two_sided(), wanted.pvalue, rtol=1e-9)
    one_sided = stats.brunnermunzel(scores[0][~label], scores[0][label], alternative="less")
    np.testing.assert_allclose(found.p_greater(), one_sided.pvalue, rtol=1e-9)
    np.testing.assert_allclose((found.estimate - 0.5) / found.se, wanted.statistic, rtol=1e-9)
    t = abs(found.estimate - 0.6) / found.se
    np.testing.assert_allclose(found.p_two_sided(0.6), 2 * stats.t.sf(t, found.df))
    low, high = found.interval(0.9, scale="plain")
    np.testing.assert_allclose((high - low) / 2, stats.t.ppf(0.95, found.df) * found.se)


def test_logit_interval_stays_inside_and_holds_the_estimate():
    label = np.arange(40) < 4
    scores = np.arange(40.0)[::-1].copy()
    scores[3], scores[4] = scores[4], scores[3]
    found = delong(scores, label)
    low, high = found.interval()
    assert 0 < low[0] < found.estimate[0] < high[0] < 1
    assert found.interval(scale="plain")[1][0] > 1
    (estimate,) = found.estimates(unit="target")
    assert isinstance(estimate, Estimate) and estimate.unit == "target" and "logit" in estimate.method


@pytest.mark.parametrize(
    ("scores", "label", "words"),
    [
        (np.arange(9.0), np.arange(9) > 3, "completely"), (np.zeros(9), np.arange(9) > 3, "do not vary"),
        (np.arange(9.0), np.arange(9) > 7, "1 positives"), (np.arange(9.0), np.zeros(9, bool), "0 positives"),
    ],
)  # fmt: skip
def test_no_standard_error_has_a_reason(scores, label, words):
    (found,) = delong(scores, label).estimates()
    assert isinstance(found, Undefined) and words in found.reason
    assert np.isnan(delong(scores, label).p_greater()[0])


def test_a_score_against_itself_is_undefined():
    scores, label = data()
    (found,) = delong_difference(scores[0], scores[0], label).estimates()
    assert isinstance(found, Undefined) and "do not differ" in found.reason


def test_refusals():
    scores, label = data()
    with pytest.raises(AlignmentError, match=r"Expected one baseline.*got 3"):
        delong_difference(scores[:2], scores[:3], label)
    with pytest.raises(ParameterError, match=r"Expected two or more.*got 1"):
        delong_covariance(scores, np.arange(200) == 3)
    with pytest.raises(ParameterError, match=r"Expected a level"):
        delong(scores, label).interval(scale="probit")


@pytest.mark.parametrize("n_pos", [5, 25])
def test_coverage_of_the_logit_interval_and_the_paired_test_where_pairs_are_independent(n_pos):
    rng = stream(2, f"delong/coverage/{n_pos}")
    truth = stats.norm.cdf(1.0 / np.sqrt(2 * 1.64))
    label = np.arange(120) < n_pos
    hits, p, normal = [], [], []
    for _ in range(500):
        scores = rng.normal(size=(2, 120)) + label + 0.8 * rng.normal(size=120)
        found = delong(scores[0], label)
        if found.undefined[0]:
            continue
        low, high = found.interval()
        hits.append(low[0] <= truth <= high[0])
        normal.append(abs(found.estimate[0] - truth) <= 1.96 * found.se[0])
        p.append(delong_difference(scores[0], scores[1], label).p_two_sided()[0])
    error = 3 * np.sqrt(0.05 * 0.95 / 500)
    assert np.mean(hits) >= 0.95 - error
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + error
    if n_pos == 5:  # the usual form, normal and plain, is the broken twin
        assert np.mean(normal) < 0.95 - error


def test_pairing_sharpens_the_error_of_a_difference():
    scores, label = data(n=2000, decimals=8)
    alone = np.sqrt(np.square(delong(scores[:2], label).se).sum())
    assert delong_difference(scores[0], scores[1], label).se[0] < 0.95 * alone
