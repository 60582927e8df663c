"""Matched negatives: within tolerance, never positives, without replacement, every candidate as likely."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import ParameterError
from regulens.nulls.expression_matched import match_pairs, similar_genes


def grid(seed=0, n_reg=12, n_genes=60):
    rng = np.random.default_rng(seed)
    mean = rng.gamma(2.0, 0.5, n_genes)
    detection = np.clip(mean / 3, 0.02, 0.98)
    own = np.arange(n_reg)
    candidate = np.ones((n_reg, n_genes), bool)
    candidate[np.arange(n_reg), own] = False
    positive = candidate & (rng.random(candidate.shape) < 0.08)
    return positive, candidate & ~positive, mean, detection, own


def naive_candidates(i, j, allowed, mean, det, own, tolerance):
    """The definition, pair by pair."""

    def ok(x, y):
        return (
            (1 - tolerance) * mean[x] <= mean[y] <= (1 + tolerance) * mean[x]
            and abs(det[y] - det[x]) <= tolerance * max(det[x], 0.05)
        )  # fmt: skip

    rows = [r for r in range(len(own)) if ok(own[i], own[r])]
    cols = [c for c in range(len(mean)) if ok(j, c)]
    return {(r, c) for r in rows for c in cols if allowed[r, c]}


def test_candidates_are_those_of_the_definition():
    positive, allowed, mean, det, own = grid()
    found = match_pairs(positive, allowed, mean=mean, detection=det, own=own, rng=np.random.default_rng(1))
    widened = 0
    lost = []
    seen = {(i, j): k for k, (i, j) in enumerate(zip(found.pos_regulator.tolist(), found.pos_target.tolist()))}
    for i, j in np.argwhere(positive):
        wanted = naive_candidates(i, j, allowed, mean, det, own, 0.2)
        wide = len(wanted) < 5
        if wide:
            wanted = naive_candidates(i, j, allowed, mean, det, own, 0.4)
        if not wanted:
            lost.append((i, j))
            continue
        widened += wide
        k = seen[i, j]
        part = slice(found.start[k], found.start[k + 1])
        drawn = list(zip(found.neg_regulator[part].tolist(), found.neg_target[part].tolist()))
        assert len(drawn) == len(set(drawn)) == min(50, len(wanted))
        assert set(drawn) <= wanted
        assert found.available[k] == len(wanted)
    assert found.n_widened == widened
    assert [tuple(r) for r in found.unmatched.tolist()] == lost


def test_every_candidate_is_as_likely():
    mean, det, own = np.ones(8), np.full(8, 0.5), np.array([0])
    positive = np.zeros((1, 8), bool)
    positive[0, 1] = True
    allowed = np.ones((1, 8), bool)
    allowed[0, :2] = False
    n = np.zeros(8)
    rng = np.random.default_rng(0)
    for _ in range(600):
        n[match_pairs(positive, allowed, mean=mean, detection=det, own=own, rng=rng, max_negatives=2).neg_target] += 1
    assert n[:2].sum() == 0
    assert np.abs(n[2:] - 200).max() < 4 * np.sqrt(600 * (1 / 3) * (2 / 3))


def test_positive_without_match_is_listed():
    mean = np.array([1.0, 100.0, 1.0, 1.0])
    positive = np.array([[False, True, False, False]])
    allowed = np.array([[False, False, True, True]])
    found = match_pairs(
        positive, allowed, mean=mean, detection=np.full(4, 0.5), own=np.array([0]), rng=np.random.default_rng(0)
    )
    assert found.n_pos == 0
    assert found.unmatched.tolist() == [[0, 1]]


def test_a_gene_matches_itself_and_tolerance_is_relative_to_the_row():
    m = similar_genes(np.array([1.0, 1.2, 0.8, 1.21]), np.full(4, 0.5), tolerance=0.2)
    assert m.diagonal().all()
    assert m[0].tolist() == [True, True, True, False]


def test_positives_among_the_allowed_are_refused():
    positive, allowed, mean, det, own = grid()
    with pytest.raises(ParameterError, match="Expected no positive among the pairs"):
        match_pairs(positive, allowed | positive, mean=mean, detection=det, own=own, rng=np.random.default_rng(0))
