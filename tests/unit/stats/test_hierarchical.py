"""Families first: the level inside is shrunk by selection, and the average false discovery proportion is held."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.rng import stream
from regulens.stats.hierarchical import hierarchical_fdr, simes
from regulens.stats.multiplicity import benjamini_hochberg


def test_by_hand():
    p = np.array([0.001, 0.02, 0.8, 0.9, 0.004, 0.012])
    found = hierarchical_fdr(p, ["a", "a", "b", "b", "c", "c"])
    assert found.families["p"].round(3).tolist() == [0.002, 0.9, 0.008]
    assert found.families["selected"].tolist() == [True, False, True]
    assert found.level_within == pytest.approx(0.05 * 2 / 3)
    assert found.selected.tolist() == [True, True, False, False, True, True]
    assert found.q_within.round(3).tolist() == [0.002, 0.02, 0.9, 0.9, 0.008, 0.012]


def test_one_family_is_benjamini_hochberg():
    p = stream(0, "p").random(30) ** 3
    found = hierarchical_fdr(p, np.zeros(30))
    np.testing.assert_array_equal(found.selected, benjamini_hochberg(p) <= 0.05)


def test_members_of_families_that_were_not_selected_are_no_discoveries():
    found = hierarchical_fdr(np.array([0.04, 0.5, 0.5, 0.5]), [1, 1, 2, 2])
    assert not found.families["selected"].any() and not found.selected.any() and found.level_within == 0.0


def test_simes():
    assert simes(np.array([0.01, 0.5])) == pytest.approx(0.02)
    assert simes(np.array([])) == 1.0
    p = stream(1, "simes").random((4000, 5))
    assert np.mean([simes(row) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.011)


def test_average_false_discovery_proportion_over_selected_families():
    rng = stream(2, "fdr")
    ours, full = [], []
    for _ in range(400):
        family = np.repeat(np.arange(20), 10)
        true = (family < 4) & (np.arange(200) % 10 < 2)  # a few signals in a few families: selection matters
        p = np.where(true, rng.random(200) * 1e-4, rng.random(200))
        found = hierarchical_fdr(p, family)
        for level, out in ((found.level_within, ours), (0.05, full)):
            chosen = found.families.set_index("family")["selected"]
            shares = []
            for f in range(20):
                if chosen[str(f)]:
                    hit = (family == f) & (found.q_within <= level)
                    shares.append((hit & ~true).sum() / max(hit.sum(), 1))
            out.append(np.mean(shares) if shares else 0.0)
    assert np.mean(ours) <= 0.05 + 3 * np.std(ours) / 20
    assert np.mean(full) > np.mean(ours)


def test_null_families_are_rarely_selected():
    rng = stream(3, "null")
    any_selected = [hierarchical_fdr(rng.random(60), np.arange(60) // 6).selected.any() for _ in range(500)]
    assert np.mean(any_selected) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_refusals():
    with pytest.raises(AlignmentError, match=r"^Expected one family per test.*got"):
        hierarchical_fdr(np.array([0.1, 0.2]), ["a"])
    with pytest.raises(ParameterError, match=r"^Expected a level.*got"):
        hierarchical_fdr(np.array([0.1]), ["a"], q=5)
