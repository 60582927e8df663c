"""Weights balance what they are given, stay positive, and repair the lopsidedness of a tolerance window."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.analyses.conditional import conditional_inference, wins
from regulens.errors import AlignmentError
from regulens.nulls.entropy_balance import balance_weights
from regulens.nulls.expression_matched import match_pairs


def test_weights_balance_and_sum_to_one():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(40), 12)
    d = rng.gamma(2.0, 1.0, (480, 3)) - 2.3
    w = balance_weights(d, owner, ridge=1e-8)
    assert (w > 0).all()
    np.testing.assert_allclose(np.bincount(owner, weights=w), 1.0, rtol=1e-12)
    np.testing.assert_allclose((w @ d) / 40, 0.0, atol=1e-6)
    assert np.abs(np.full(480, 1 / 12) @ d / 40).max() > 0.1  # equal weights do not


def test_what_cannot_be_balanced_stays_finite():
    owner = np.repeat(np.arange(5), 4)
    w = balance_weights(np.ones((20, 1)) + np.arange(20)[:, None] / 20, owner)
    assert np.isfinite(w).all()
    np.testing.assert_allclose(np.bincount(owner, weights=w), 1.0)
    np.testing.assert_allclose(balance_weights(np.zeros((20, 2)), owner), 0.25)


def test_rows_must_agree():
    with pytest.raises(AlignmentError, match="one row of differences per negative"):
        balance_weights(np.ones((3, 1)), np.array([0, 0]))


def test_weights_repair_the_lopsided_window():
    rng = np.random.default_rng(1)
    n_reg, n_genes = 30, 400
    mean = rng.pareto(1.5, n_genes) + 0.05  # many weak genes, few strong ones
    own = np.arange(n_reg)
    candidate = np.ones((n_reg, n_genes), bool)
    candidate[own, own] = False
    positive = candidate & (rng.random(candidate.shape) < 0.05)
    pairs = match_pairs(positive, candidate & ~positive, mean=mean, detection=np.full(n_genes, 0.5), own=own, rng=rng)
    h = wins(pairs, (mean[own][:, None] * mean[None, :])[None])
    d = np.column_stack(
        [
            mean[pairs.neg_regulator] / mean[pairs.pos_regulator][pairs.owner] - 1,
            mean[pairs.neg_target] / mean[pairs.pos_target][pairs.owner] - 1,
        ]
    )
    weighted = conditional_inference(pairs, h, weight=balance_weights(np.hstack([d, np.sign(d)]), pairs.owner))
    equal = conditional_inference(pairs, h)  # the broken twin
    assert equal.estimate[0] > 0.54
    assert abs(weighted.estimate[0] - 0.5) < 0.02
