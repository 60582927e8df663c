"""Row-wise ranking metrics against scikit-learn and brute force; delete-one deviations against recomputation."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from regulens.errors import AlignmentError, ParameterError
from regulens.stats.by_row import Rows, mean_auroc_deviations, mean_deviations_over_rows, row_metrics


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    i, j = np.nonzero(rng.random((7, 30)) < 0.8)
    y = rng.random(i.size) < 0.2
    for r in range(7):  # every row has both classes
        y[np.flatnonzero(i == r)[:2]] = True
        y[np.flatnonzero(i == r)[2:4]] = False
    scores = np.stack([np.round(rng.normal(size=i.size) + y, 1), rng.normal(size=i.size), np.zeros(i.size)])
    return scores, y, i, j


def test_metrics_equal_scikit_learn_row_by_row(pairs):
    scores, y, i, j = pairs
    found = row_metrics(scores, Rows.build(y, i, j), k=(5, 500))
    for s in range(len(scores)):
        for r in range(7):
            m = i == r
            assert found.auroc[s, r] == pytest.approx(roc_auc_score(y[m], scores[s, m]), abs=1e-12)
            assert found.average_precision[s, r] == pytest.approx(average_precision_score(y[m], scores[s, m]))
    assert (found.auroc[2] == 0.5).all()  # a constant score is exactly one half
    assert found.recall[2, :, 0] == pytest.approx(found.recall_by_chance[:, 0])  # ties in expectation
    assert (found.recall[:, :, 1] == 1).all() and (found.recall_by_chance[:, 1] == 1).all()
    m = i == 3
    top = np.argsort(-scores[1, m])[:5]
    assert found.recall[1, 3, 0] == pytest.approx(y[m][top].sum() / y[m].sum())


def test_rows_without_positives_are_nan():
    found = row_metrics(np.array([[1.0, 2, 3, 4]]), Rows.build(np.array([0, 0, 1, 1]) > 0, np.array([0, 0, 1, 1]),
                                                             np.array([0, 1, 0, 1])), k=(1,))  # fmt: skip
    assert np.isnan(found.auroc).all() and np.isnan(found.recall[0, 0, 0]) and np.isnan(found.average_precision[0, 0])


@pytest.mark.parametrize("against", [False, True])
def test_deviations_equal_leaving_out_and_recomputing(pairs, against):
    scores, y, i, j = pairs
    y = y.copy()
    y[(i == 0)] = False
    y[np.flatnonzero(i == 0)[0]] = True  # a row with one positive: it leaves with its target
    rows = Rows.build(y, i, j)
    base = scores[1] if against else None
    found = mean_auroc_deviations(scores[:1], rows, baseline=base)

    def mean(keep):
        values = []
        for r in np.unique(i[keep]):
            m = keep & (i == r)
            if 0 < y[m].sum() < m.sum():
                values.append(roc_auc_score(y[m], scores[0, m]) - (roc_auc_score(y[m], base[m]) if against else 0))
        return np.mean(values)

    everything = np.ones(i.size, dtype=bool)
    assert found.estimate[0] == pytest.approx(mean(everything), abs=1e-12)
    for r in range(7):
        assert found.regulator[0, r] == pytest.approx(mean(i != r) - mean(everything), abs=1e-12)
    for c, t in enumerate(np.unique(j)):
        assert found.target[0, c] == pytest.approx(mean(j != t) - mean(everything), abs=1e-12)


def test_clusters_of_rows_are_left_out_together():
    values = np.array([[1.0, 2, 3, 7]])
    mean, moved, _ = mean_deviations_over_rows(values, cluster=np.array([0, 0, 1, 1]))
    assert mean.tolist() == [3.25]
    assert moved.tolist() == [[5 - 3.25, 1.5 - 3.25]]
    assert np.isnan(mean_deviations_over_rows(values, cluster=np.zeros(4))[1]).all()


def test_bad_input_is_one_sentence(pairs):
    scores, y, i, j = pairs
    with pytest.raises(AlignmentError, match="Sort the pairs"):
        Rows.build(y, i[::-1], j)
    with pytest.raises(ParameterError, match="finite score"):
        row_metrics(np.where(y, np.nan, scores), Rows.build(y, i, j))
    with pytest.raises(ParameterError, match="k >= 1"):
        row_metrics(scores, Rows.build(y, i, j), k=(0,))
