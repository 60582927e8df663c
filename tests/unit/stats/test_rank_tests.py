"""Rank and sign tests against scipy and against all patterns written out; effects, zeros, ties, refusals."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.rank_tests import mann_whitney, sign_test, wilcoxon
from regulens.types.estimates import Estimate, Undefined

SIDES = ("greater", "less", "two-sided")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("n", [5, 20, 50])
def test_exact_wilcoxon_equals_scipy_without_ties(side, n):
    d = stream(0, f"wilcoxon/{n}").normal(0.2, 1, n)
    wanted = stats.wilcoxon(d, alternative=side, method="exact")
    found = wilcoxon(d, side=side)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-10)
    assert "exact" in found.method and found.n_tied == 0


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("zeros", "scipys"), [("drop", "wilcox"), ("pratt", "pratt")])
def test_approximate_wilcoxon_equals_scipy_with_ties_and_zeros(side, zeros, scipys):
    d = np.round(stream(1, "wilcoxon").normal(0.2, 1, 90), 1)
    wanted = stats.wilcoxon(d, zero_method=scipys, alternative=side, method="approx", correction=False)
    found = wilcoxon(d, side=side, zeros=zeros)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-12)
    assert "normal approximation" in found.method and f"{(d == 0).sum()} zeros" in found.method
    assert found.n_used + found.n_zero == 90 and found.n_tied > 0


@pytest.mark.parametrize("zeros", ["drop", "pratt"])
def test_exact_wilcoxon_with_ties_equals_all_sign_patterns(zeros):
    d = np.array([0.0, 1.0, 1.0, -2.0, 2.0, 3.0, -1.0, 0.0, 4.0])
    kept = d[d != 0]
    ranks = stats.rankdata(np.abs(d))[d != 0] if zeros == "pratt" else stats.rankdata(np.abs(kept))
    sums = np.array([ranks[np.array(s, bool)].sum() for s in product([0, 1], repeat=kept.size)])
    w = ranks[kept > 0].sum()
    assert wilcoxon(d, side="greater", zeros=zeros).p == pytest.approx((sums >= w - 1e-9).mean())
    assert wilcoxon(d, side="less", zeros=zeros).p == pytest.approx((sums <= w + 1e-9).mean())


def test_published_wilcoxon_golden():
    # 57 differences, all positive: W = 57 * 58 / 2
    d = np.concatenate([np.round(stream(2, "w").uniform(0.05, 0.6, 57), 6), np.zeros(3)])
    found = wilcoxon(d, side="greater")
    assert found.statistic == 1653.0 and found.n_zero == 3
    assert wilcoxon(d).p == pytest.approx(5.1e-11, rel=0.02) and found.p == pytest.approx(2.5e-11, rel=0.03)


def test_published_sign_test_golden():
    assert sign_test(-np.arange(1.0, 10.0), side="less").p == pytest.approx(0.5**9)


@pytest.mark.parametrize("side", SIDES)
def test_sign_test_equals_scipy(side):
    d = np.array([1, 2, -1, 3, 0, 4, 5, -2, 6, 0.0])
    found = sign_test(d, side=side)
    assert found.p == pytest.approx(stats.binomtest(6, 8, 0.5, alternative=side).pvalue)
    ends = stats.binomtest(6, 8, 0.5).proportion_ci(0.95, method="exact")
    assert (found.effect.low, found.effect.high) == (ends.low, ends.high)
    assert found.effect.value == 0.75 and found.rank_biserial == 0.5 and found.n_zero == 2


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("sizes", [(4, 9), (9, 4), (20, 25)])
def test_exact_mann_whitney_equals_scipy_without_ties(side, sizes):
    rng = stream(3, f"mw/{sizes}")
    a, b = rng.normal(0.4, 1, sizes[0]), rng.normal(size=sizes[1])
    wanted = stats.mannwhitneyu(a, b, alternative=side, method="exact")
    found = mann_whitney(a, b, side=side)
    assert found.statistic == wanted.statistic
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert found.effect.value == pytest.approx(wanted.statistic / (sizes[0] * sizes[1]))


@pytest.mark.parametrize("sizes", [(3, 5), (5, 3)])
def test_exact_mann_whitney_with_ties_equals_all_ways_to_deal(sizes):
    values = np.array([0, 1, 1, 2, 2, 2, 3, 1.0])
    ranks = stats.rankdata(values)
    sums = np.array([ranks[list(c)].sum() for c in combinations(range(8), sizes[0])])
    own = ranks[: sizes[0]].sum()
    for side, wanted in (("greater", (sums >= own - 1e-9).mean()), ("less", (sums <= own + 1e-9).mean())):
        assert mann_whitney(values[: sizes[0]], values[sizes[0] :], side=side).p == pytest.approx(wanted)


@pytest.mark.parametrize("side", SIDES)
def test_approximate_mann_whitney_equals_scipy(side):
    rng = stream(4, "mw")
    a, b = np.round(rng.normal(0.3, 1, 80), 1), np.round(rng.normal(size=90), 1)
    found = mann_whitney(a, b, side=side)
    assert found.p == pytest.approx(stats.mannwhitneyu(a, b, alternative=side, method="asymptotic").pvalue)
    assert "normal approximation" in found.method
    assert found.rank_biserial == pytest.approx(2 * found.effect.value - 1)


def test_exact_and_approximate_agree_where_both_apply():
    rng = stream(5, "both")
    d, a, b = rng.normal(0.3, 1, 45), rng.normal(0.5, 1, 40), rng.normal(size=45)
    assert wilcoxon(d).p == pytest.approx(wilcoxon(d, p_form="approximate").p, abs=0.01)
    assert mann_whitney(a, b).p == pytest.approx(mann_whitney(a, b, p_form="approximate").p, abs=0.01)


def test_pseudo_median_equals_the_inverted_test():
    d = stream(6, "hl").normal(0.5, 1, 12)
    effect = wilcoxon(d).effect
    i, j = np.triu_indices(12)
    assert effect.value == pytest.approx(np.median((d[i] + d[j]) / 2))
    inside, outside = 1e-9, -1e-9
    for end, sign in ((effect.low, 1), (effect.high, -1)):
        assert stats.wilcoxon(d - end - sign * inside).pvalue > 0.05
        assert stats.wilcoxon(d - end - sign * outside).pvalue <= 0.05


@pytest.mark.parametrize("n", [12, 60])
def test_interval_of_the_pseudo_median_covers(n):
    rng = stream(7, f"cover/{n}")
    hits = []
    for _ in range(300):
        effect = wilcoxon(rng.normal(0.3, 1, n)).effect
        hits.append(effect.low <= 0.3 <= effect.high)
    assert np.mean(hits) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("test", ["wilcoxon", "sign", "mann-whitney"])
def test_level_with_ties(test):
    rng = stream(8, f"level/{test}")
    p = []
    for _ in range(600):
        d = np.round(rng.normal(size=24), 0 if test != "sign" else 2)
        found = {
            "wilcoxon": lambda d=d: wilcoxon(d), "sign": lambda d=d: sign_test(d),
            "mann-whitney": lambda d=d: mann_whitney(d[:10], d[10:]),
        }[test]()  # fmt: skip
        p.append(found.p)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_undefined_has_reasons():
    assert "all 4 differences are 0" in wilcoxon(np.zeros(4)).reason
    assert "all 4 differences are 0" in sign_test(np.zeros(4)).reason
    assert "no differences" in wilcoxon(np.zeros(0)).reason and "no differences" in sign_test(np.zeros(0)).reason
    assert "equal" in mann_whitney(np.ones(3), np.ones(4)).reason
    assert "both groups" in mann_whitney(np.ones(0), np.ones(4)).reason
    assert isinstance(wilcoxon(np.arange(1.0, 5.0)).effect, Undefined)
    assert isinstance(wilcoxon(np.arange(1.0, 8.0)).effect, Estimate)
    assert isinstance(mann_whitney(np.arange(3.0) + 9, np.arange(3.0)).effect, Undefined)


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilcoxon(np.array([np.nan])), lambda: wilcoxon(np.ones(3), side="up"),
        lambda: wilcoxon(np.ones(3), zeros="split"), lambda: sign_test(np.ones((2, 2))),
        lambda: mann_whitney(np.ones(2), np.ones(2), p_form="permutation"),
    ],
)  # fmt: skip
def test_refusals(call):
    with pytest.raises(ParameterError, match=r"^Expected .*got"):
        call()
