"""What must hold of lists, curves' ends, rank tests and families whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regulens.metrics.ceilings import ceilings
from regulens.rng import stream
from regulens.stats.delong import delong, delong_difference
from regulens.stats.hierarchical import hierarchical_fdr
from regulens.stats.permuted_labels import permuted_auroc, twice_ranks
from regulens.stats.rank_tests import RankTest, mann_whitney, sign_test, wilcoxon
from regulens.stats.ranking import auroc
from regulens.stats.top_lists import partial_auroc, top_k

QUICK = settings(max_examples=60, deadline=None)
whole = st.integers(-4, 4)


@st.composite
def pairs(draw):
    n = draw(st.integers(4, 40))
    label = draw(arrays(np.bool_, n))
    label[0], label[1] = True, False
    return draw(arrays(np.int64, (2, n), elements=whole)).astype(float), label


@QUICK
@given(pairs(), st.floats(0.01, 1.0), st.integers(0, 999))
def test_partial_auroc_ignores_order_and_monotone_maps_and_grows_with_its_range(data, f, seed):
    scores, label = data
    o = stream(seed, "order").permutation(label.size)
    plain = partial_auroc(scores, label, max_fpr=f)
    np.testing.assert_allclose(partial_auroc(np.exp(scores)[:, o], label[o], max_fpr=f), plain, atol=1e-13)
    raw = [partial_auroc(scores, label, max_fpr=x, standardised=False) for x in (f / 2, f)]
    assert (raw[0] <= raw[1] + 1e-12).all() and (raw[1] <= f + 1e-12).all()


@QUICK
@given(pairs())
def test_hits_grow_with_the_list_and_stay_under_their_ceilings(data):
    scores, label = data
    k = np.arange(1, label.size + 1)
    found = top_k(scores, label, k)
    steps = np.diff(found.true_positives, axis=1)
    assert (steps >= -1e-12).all() and (steps <= 1 + 1e-12).all()
    np.testing.assert_allclose(found.true_positives[:, -1], label.sum())
    for c in (0, label.size // 2, label.size - 1):
        best = ceilings(int(label.sum()), label.size, k=int(k[c]))
        assert (found.precision[:, c] <= best.precision + 1e-12).all()
        assert (found.recall[:, c] <= best.recall + 1e-12).all()
        assert (found.f1[:, c] <= best.f1 + 1e-12).all()


@QUICK
@given(st.integers(1, 50), st.integers(60, 400), st.floats(0.9, 1.0))
def test_ceilings_fall_with_incompleteness(n_pos, n_pairs, c):
    full, part = (ceilings(n_pos, n_pairs, completeness=x, k=20) for x in (1.0, c))
    for name in ("auroc", "average_precision", "precision", "f1"):
        assert 0 < getattr(part, name) <= getattr(full, name) + 1e-12 <= 1 + 2e-12


@QUICK
@given(pairs())
def test_delong_is_symmetric(data):
    scores, label = data
    one, turned = delong(scores, label), delong(-scores, label)
    np.testing.assert_allclose(one.estimate, 1 - turned.estimate, atol=1e-13)
    np.testing.assert_allclose(one.se, turned.se, atol=1e-12, equal_nan=True)
    swapped = delong(scores, ~label)
    np.testing.assert_allclose(one.se, swapped.se, atol=1e-12, equal_nan=True)
    forth, back = delong_difference(scores[0], scores[1], label), delong_difference(scores[1], scores[0], label)
    np.testing.assert_allclose(forth.estimate, -back.estimate, atol=1e-14)
    np.testing.assert_allclose(forth.p_two_sided(), back.p_two_sided(), atol=1e-12, equal_nan=True)


@QUICK
@given(pairs(), st.integers(0, 99))
def test_permuted_aurocs_are_aurocs(data, seed):
    scores, label = data
    found = permuted_auroc(scores, label, draws=8, rng=stream(seed, "p"))
    assert ((found >= 0) & (found <= 1)).all()
    turned = permuted_auroc(-scores, label, draws=8, rng=stream(seed, "p"))
    np.testing.assert_allclose(found, 1 - turned, atol=1e-13)
    np.testing.assert_array_equal(twice_ranks(scores[0]).sum(), label.size * (label.size + 1))


@QUICK
@given(arrays(np.int64, st.integers(1, 30), elements=whole))
def test_turned_differences_give_the_other_side(d):
    for test in (wilcoxon, sign_test):
        up, down = test(d.astype(float), side="greater"), test(-d.astype(float), side="less")
        if isinstance(up, RankTest):
            assert up.p == pytest.approx(down.p, rel=1e-9)
            assert up.rank_biserial == pytest.approx(-down.rank_biserial)
            assert test(d.astype(float)).p <= min(1.0, 2 * up.p) + 1e-12


@QUICK
@given(arrays(np.int64, st.integers(1, 12), elements=whole), arrays(np.int64, st.integers(1, 12), elements=whole))
def test_exchanged_groups_give_the_other_side(a, b):
    a, b = a.astype(float), b.astype(float)
    up, down = mann_whitney(a, b, side="greater"), mann_whitney(b, a, side="less")
    if isinstance(up, RankTest):
        assert up.p == pytest.approx(down.p, rel=1e-9)
        both = np.concatenate([a, b])
        area = auroc(both, np.arange(both.size) < a.size)[0]
        assert up.statistic == pytest.approx(area * a.size * b.size)


@QUICK
@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)), st.integers(0, 99))
def test_hierarchical_discoveries_lie_in_selected_families(p, seed):
    family = stream(seed, "family").integers(0, 4, p.size)
    found = hierarchical_fdr(p, family)
    chosen = found.families.set_index("family")["selected"]
    assert all(chosen[str(f)] for f in family[found.selected])
    # a selected family has a member: its smallest q equals its Simes p, which BH let through at a level no larger
    assert found.families["selected"].sum() == len(set(family[found.selected]))
