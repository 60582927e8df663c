"""Ceilings against a perfect ranker whose labels were thinned at random."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import ParameterError
from regulens.metrics.ceilings import ceilings, complete_auroc
from regulens.metrics.thresholded import f1_ceiling
from regulens.rng import stream
from regulens.stats.ranking import auroc, average_precision
from regulens.stats.top_lists import top_k


def perfect_ranker(n_true: int, n_pairs: int, completeness: float, k: int, draws: int = 400):
    """Mean metrics of a score that ranks `n_true` edges first, in random order, judged by a random part of them."""
    rng = stream(0, f"ceiling/{n_true}/{completeness}")
    n_pos = round(completeness * n_true)
    found = []
    for _ in range(draws):
        true = np.arange(n_pairs) < n_true
        label = np.zeros(n_pairs, bool)
        label[rng.permutation(n_true)[:n_pos]] = True
        score = true + 0.5 * rng.random(n_pairs)
        top = top_k(score, label, [k])
        found.append([
            auroc(score, label)[0], average_precision(score, label)[0], top.precision[0, 0], top.recall[0, 0],
            top.f1[0, 0],
        ])  # fmt: skip
    return n_pos, np.mean(found, 0), np.std(found, 0) / np.sqrt(draws)


@pytest.mark.parametrize(("completeness", "k"), [(1.0, 30), (0.5, 20), (0.5, 100), (0.2, 60), (0.1, 200)])
def test_ceilings_equal_what_a_perfect_ranker_gets(completeness, k):
    n_pos, mean, error = perfect_ranker(60, 600, completeness, k)
    c = ceilings(n_pos, 600, completeness=completeness, k=k)
    wanted = np.array([c.auroc, c.average_precision, c.precision, c.recall, c.f1])
    assert (np.abs(mean - wanted) <= 4 * error + 1e-12).all(), (mean, wanted)


def test_complete_labels_give_the_plain_ceilings():
    c = ceilings(30, 500, k=60)
    assert (c.auroc, c.average_precision, c.recall) == (1.0, 1.0, 1.0)
    assert c.f1 == pytest.approx(f1_ceiling(30, k=60)) == pytest.approx(2 / 3)
    assert ceilings(30, 500).precision is None


def test_auroc_is_corrected_back():
    rng = stream(1, "back")
    true = np.arange(4000) < 400
    score = 0.8 * true + rng.normal(size=4000)
    found, raw = [], []
    for _ in range(200):
        label = true & (rng.random(4000) < 0.4)
        raw.append(auroc(score, label)[0])
        found.append(complete_auroc(auroc(score, label)[0], int(label.sum()), 4000, completeness=label.sum() / 400))
    assert abs(np.mean(found) - auroc(score, true)[0]) < 4 * np.std(found) / np.sqrt(200)
    assert np.mean(raw) < auroc(score, true)[0] - 4 * np.std(raw) / np.sqrt(200)  # uncorrected it is too small


@pytest.mark.parametrize(
    "call",
    [
        lambda: ceilings(0, 10), lambda: ceilings(10, 10), lambda: ceilings(5, 10, completeness=0.4),
        lambda: ceilings(5, 10, completeness=1.2), lambda: ceilings(5, 10, k=11),
    ],
)  # fmt: skip
def test_refusals(call):
    with pytest.raises(ParameterError, match=r"^Expected .*got"):
        call()
