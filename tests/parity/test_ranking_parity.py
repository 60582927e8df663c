"""AUROC, average precision, correlation and adjustments against scikit-learn, scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from statsmodels.stats.multitest import multipletests

from regulens.rng import stream
from regulens.stats import multiplicity
from regulens.stats.correlation import spearman
from regulens.stats.ranking import auroc, average_precision, early_precision, influence

CASES = [(40, 0.3, 1), (3000, 0.02, 1), (3000, 0.95, 0), (500, 0.5, 6), (2000, 0.001, 2)]


def make(n: int, share: float, decimals: int, rows: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties (rounded) and at least one positive and one negative."""
    rng = stream(1, f"parity/{n}/{share}")
    scores = np.round(rng.normal(size=(rows, n)), decimals)
    label = rng.random(n) < share
    label[:2] = True, False
    return scores, label


def auroc_agrees(function) -> bool:
    """The checker: equal to scikit-learn within 1e-12 on tied and untied scores, and on a constant one."""
    for case in CASES:
        scores, label = make(*case)
        wanted = np.array([roc_auc_score(label, s) for s in scores])
        if not np.allclose(function(scores, label), wanted, rtol=0, atol=1e-12):
            return False
    return bool(function(np.zeros((1, 9)), np.arange(9) < 4)[0] == 0.5)


def test_auroc_equals_sklearn():
    assert auroc_agrees(auroc)


def test_parity_catches_wrong_ties_and_turned_scores():
    def no_midranks(scores, label):
        ranks = np.argsort(np.argsort(scores, axis=1), axis=1) + 1
        n, m = label.sum(), (~label).sum()
        return (ranks[:, label].sum(1) - n * (n + 1) / 2) / (n * m)

    assert not auroc_agrees(no_midranks)
    assert not auroc_agrees(lambda s, y: auroc(-s, y))
    assert not auroc_agrees(lambda s, y: auroc(np.sort(s, axis=1), y))


def test_constant_score_gives_exactly_one_half():
    label = np.arange(1001) % 7 == 0
    assert auroc(np.full((2, 1001), 3.3), label).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("case", CASES)
def test_average_precision_equals_sklearn(case):
    scores, label = make(*case)
    wanted = [average_precision_score(label, s) for s in scores]
    np.testing.assert_allclose(average_precision(scores, label), wanted, rtol=0, atol=1e-12)


def test_average_precision_is_not_the_trapezoid():
    scores, label = make(500, 0.5, 1)
    precision, recall, _ = precision_recall_curve(label, scores[0])
    assert abs(average_precision(scores[:1], label)[0] + np.trapezoid(precision, recall)) > 1e-4


def test_float32_is_compared_as_it_is():
    scores, label = make(3000, 0.1, 6)
    small = scores.astype(np.float32)
    np.testing.assert_allclose(auroc(small, label), [roc_auc_score(label, s) for s in small], rtol=0, atol=1e-12)


def test_infinite_scores_rank_first_and_last():
    label = np.array([True, False, True, False])
    scores = np.array([[np.inf, -np.inf, 0.0, 0.0], [-np.inf, np.inf, 0.0, 1.0]])
    assert auroc(scores, label).tolist() == [0.875, 0.0]


def test_influence_equals_placements_by_comparison():
    scores, label = make(60, 0.3, 1)
    area, psi = influence(scores, label)
    for s, a, row in zip(scores, area, psi):
        pos, neg = s[label], s[~label]
        wins = (pos[:, None] > neg[None, :]) + 0.5 * (pos[:, None] == neg[None, :])
        assert abs(wins.mean() - a) < 1e-14
        np.testing.assert_allclose(row[label], (wins.mean(1) - a) / pos.size, atol=1e-14)
        np.testing.assert_allclose(row[~label], (wins.mean(0) - a) / neg.size, atol=1e-14)
    assert np.abs(psi.sum(1)).max() < 1e-13


def test_early_precision_equals_the_mean_over_random_tie_breaks():
    scores, label = make(40, 0.3, 0, rows=1)
    rng = stream(3, "ties")
    found = []
    for _ in range(4000):
        order = rng.permutation(label.size)
        top = order[np.argsort(-scores[0][order], kind="stable")][:5]
        found.append(label[top].mean())
    assert np.std(found) > 0  # the cut falls inside a tie, or the test would say nothing
    assert abs(early_precision(scores, label, k=5)[0] - np.mean(found)) < 4 * np.std(found) / np.sqrt(4000)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("benjamini_hochberg", "fdr_bh"), ("benjamini_yekutieli", "fdr_by"), ("holm", "holm")]
)
def test_adjustment_equals_statsmodels(ours, theirs):
    rng = stream(5, theirs)
    for p in (
        rng.random(50),
        np.round(rng.random(30), 1),
        rng.random(1),
        np.array([0.0, 1.0, 0.05]),
        rng.random(40) ** 9,
    ):
        np.testing.assert_allclose(getattr(multiplicity, ours)(p), multipletests(p, method=theirs)[1], atol=1e-14)


def published_p() -> np.ndarray:
    """The 44 raw p-values of the published registry; a bound "<x" enters as x."""
    groups = [
        (0.002, 3), (0.001, 15), (1e-6, 2), (0.024, 1), (0.089, 2), (0.156, 1), (0.032, 1), (0.020, 1), (0.15, 1),
        (0.031, 1), (0.876, 1), (1e-300, 1), (0.068, 2), (0.37, 1), (0.012, 1), (0.99, 1), (1e-4, 1), (2.5e-11, 1),
        (0.03, 1), (2.4e-8, 1), (0.01, 1), (0.89, 1), (0.76, 1), (1e-50, 1), (0.3, 1),
    ]  # fmt: skip
    return np.concatenate([np.full(n, p) for p, n in groups])


def test_published_registry_has_32_significant():
    p = published_p()
    assert p.size == 44
    q = multiplicity.benjamini_hochberg(p)
    assert (q < 0.05).sum() == 32
    assert (multiplicity.benjamini_hochberg(np.concatenate([p, np.ones(3)]))[:44] < 0.05).sum() == 32
    by_p = dict(zip(p.tolist(), q.round(4).tolist()))
    assert (by_p[0.002], by_p[0.020], by_p[0.032], by_p[0.024], by_p[0.876]) == (0.0035, 0.0314, 0.0440, 0.0364, 0.9107)


@pytest.mark.parametrize("kind", ["dense", "sparse", "float32"])
def test_spearman_equals_scipy(kind):
    rng = stream(7, "spearman")
    a, b = rng.poisson(0.7, (80, 5)).astype(float), rng.poisson(2.0, (80, 300)) - 1.0
    wanted = np.array([[stats.spearmanr(x, y).statistic for y in b.T] for x in a.T])
    convert = {"dense": np.asarray, "sparse": sp.csc_matrix, "float32": lambda m: m.astype(np.float32)}[kind]
    np.testing.assert_allclose(spearman(convert(a), convert(b)), wanted, atol=1e-12)
