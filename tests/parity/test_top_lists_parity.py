"""Partial AUROC and precision, recall, F1 at k against scikit-learn, and against random orders of ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score, roc_curve

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.ranking import auroc, early_precision
from regulens.stats.top_lists import partial_auroc, top_k

CASES = [(40, 0.3, 1), (3000, 0.02, 1), (3000, 0.95, 0), (500, 0.5, 6), (2000, 0.001, 2)]


def make(n: int, share: float, decimals: int, rows: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(1, f"top/{n}/{share}")
    scores = np.round(rng.normal(size=(rows, n)), decimals)
    label = rng.random(n) < share
    label[:2] = True, False
    return scores, label


def agrees(function, max_fpr: float) -> bool:
    for case in CASES:
        scores, label = make(*case)
        wanted = [roc_auc_score(label, s, max_fpr=max_fpr) for s in scores]
        if not np.allclose(function(scores, label), wanted, rtol=0, atol=1e-12):
            return False
    return True


@pytest.mark.parametrize("max_fpr", [0.001, 0.05, 0.1, 0.5, 1.0])
def test_standardised_partial_auroc_equals_sklearn(max_fpr):
    assert agrees(lambda s, y: partial_auroc(s, y, max_fpr=max_fpr), max_fpr)


def test_parity_catches_a_curve_that_is_cut_at_a_step():
    def blunt(scores, label, f=0.1):
        out = []
        for s in scores:
            fpr, tpr, _ = roc_curve(label, s)
            kept = fpr <= f
            area = np.trapezoid(tpr[kept], fpr[kept])
            out.append(0.5 * (1 + (area - f * f / 2) / (f - f * f / 2)))
        return np.array(out)

    assert not agrees(blunt, 0.1)
    assert not agrees(lambda s, y: partial_auroc(s, y, max_fpr=0.1, standardised=False), 0.1)


def test_raw_partial_auroc_is_the_area_itself():
    scores, label = make(500, 0.3, 1)
    np.testing.assert_allclose(
        partial_auroc(scores, label, max_fpr=1.0, standardised=False), auroc(scores, label), atol=1e-13
    )
    least = 0.2**2 / 2
    wanted = [least + (2 * roc_auc_score(label, s, max_fpr=0.2) - 1) * (0.2 - least) for s in scores]
    np.testing.assert_allclose(partial_auroc(scores, label, max_fpr=0.2, standardised=False), wanted, atol=1e-13)
    chance = np.zeros((1, 500))
    assert partial_auroc(chance, label, max_fpr=0.2, standardised=False)[0] == pytest.approx(0.02)
    assert partial_auroc(chance, label, max_fpr=0.2)[0] == pytest.approx(0.5)


def test_top_k_equals_sklearn_where_no_tie_straddles_the_cut():
    scores, label = make(500, 0.3, 8)
    ks = [1, 10, 137, 500]
    found = top_k(scores, label, ks)
    for s in range(len(scores)):
        order = np.argsort(-scores[s])
        for c, k in enumerate(ks):
            called = np.zeros(500, bool)
            called[order[:k]] = True
            p, r, f, _ = precision_recall_fscore_support(label, called, average="binary")
            np.testing.assert_allclose(
                [found.precision[s, c], found.recall[s, c], found.f1[s, c]], [p, r, f], atol=1e-12
            )


def test_top_k_equals_the_mean_over_random_orders_of_ties():
    scores, label = make(40, 0.3, 0, rows=1)
    rng = stream(3, "ties")
    found = []
    for _ in range(4000):
        order = rng.permutation(40)
        top = order[np.argsort(-scores[0][order], kind="stable")]
        found.append([label[top[:k]].sum() for k in (3, 9, 25)])
    wanted, error = np.mean(found, 0), np.std(found, 0) / np.sqrt(4000)
    assert (error > 0).any()
    assert (np.abs(top_k(scores, label, [3, 9, 25]).true_positives[0] - wanted) <= 4 * error + 1e-12).all()


def test_top_k_equals_early_precision():
    scores, label = make(3000, 0.02, 1)
    found = top_k(scores, label, [1, 60, 3000]).precision
    for c, k in enumerate((1, 60, 3000)):
        np.testing.assert_allclose(found[:, c], early_precision(scores, label, k=k), atol=1e-14)


def test_without_positives():
    found = top_k(np.arange(9.0), np.zeros(9, bool), [3])
    assert found.precision.tolist() == [[0.0]] and np.isnan(found.recall).all() and np.isnan(found.f1).all()
    assert np.isnan(partial_auroc(np.arange(9.0), np.zeros(9, bool))).all()
    assert np.isnan(partial_auroc(np.arange(9.0), np.ones(9, bool))).all()


@pytest.mark.parametrize("k", [[0], [10], [1.5], []])
def test_refusals(k):
    with pytest.raises(ParameterError, match=r"^Expected whole k.*got"):
        top_k(np.arange(9.0), np.arange(9) > 3, k)
    with pytest.raises(ParameterError, match=r"^Expected max_fpr.*got"):
        partial_auroc(np.arange(9.0), np.arange(9) > 3, max_fpr=0.0)
