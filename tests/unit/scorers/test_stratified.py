"""Every way of joining strata against its formula, one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import ParameterError
from regulens.scorers.stratified import VARIANTS, Strata, combine


def slow(w, n, pooled, se, variant):
    """The formulas of one pair, strata without cells left out."""
    k = [i for i in range(len(n)) if n[i] > 0]
    v, total = [w[i] for i in k], sum(n[i] for i in k)
    if variant.startswith("blend"):
        _, what, weight = variant.split("_")
        return int(weight) / 100 * pooled + (1 - int(weight) / 100) * slow(w, n, pooled, se, what)
    return {
        "max": max(v),
        "absmax": max(abs(x) for x in v),
        "mean": sum(n[i] * w[i] for i in k) / total,
        "mean_unweighted": sum(v) / len(v),
        "range": max(v) - min(v),
        "std": float(np.std(v)),
        "deviation": max(abs(x - pooled) for x in v),
        "wdeviation": sum(n[i] * abs(w[i] - pooled) for i in k) / total,
        "excess": max(x - pooled for x in v),
        "lower": max(w[i] - 1.96 * se[i] for i in k),
    }[variant]


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_variants_equal_their_formulas(variant):
    rng = np.random.default_rng(0)
    w, se = rng.normal(size=(4, 6)), rng.random((4, 6))
    n, pooled = np.array([30, 0, 5, 12]), rng.normal(size=6)
    w[1] = 99.0  # a stratum without cells must not be seen
    found = combine(Strata(scores=w, sizes=n, pooled=pooled, se=se), variant)
    wanted = [slow(w[:, e], n, pooled[e], se[:, e], variant) for e in range(6)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_leading_axes_are_kept():
    rng = np.random.default_rng(1)
    w, n, pooled = rng.normal(size=(3, 2, 4, 5)), rng.integers(1, 9, (3, 2, 4)), rng.normal(size=(3, 2, 5))
    whole = combine(Strata(scores=w, sizes=n, pooled=pooled), "wdeviation")
    part = combine(Strata(scores=w[1, 0], sizes=n[1, 0], pooled=pooled[1, 0]), "wdeviation")
    np.testing.assert_array_equal(whole[1, 0], part)


def test_the_order_of_strata_does_not_matter():
    rng = np.random.default_rng(2)
    w, n, pooled, order = rng.normal(size=(4, 6)), np.array([3, 9, 5, 12]), rng.normal(size=6), [2, 0, 3, 1]
    for variant in (v for v in VARIANTS if v != "lower"):
        a = combine(Strata(scores=w, sizes=n, pooled=pooled), variant)
        b = combine(Strata(scores=w[order], sizes=n[order], pooled=pooled), variant)
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_what_cannot_be_combined_is_refused():
    w = Strata(scores=np.ones((2, 3)), sizes=np.array([5, 5]), pooled=np.ones(3))
    with pytest.raises(ParameterError, match=r"Expected a variant among max.* got 'maxi'\. Did you mean 'max'"):
        combine(w, "maxi")
    with pytest.raises(ParameterError, match="Expected standard errors"):
        combine(w, "lower")
