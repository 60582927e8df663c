"""Parts of the analyses against slow, independent re-computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from regulens.analyses.base import GeneFeatures
from regulens.analyses.conditional import conditional_inference, wins
from regulens.analyses.dependence import jackknifed_correlations, partial, within_regulators
from regulens.analyses.edge_regression import edge_regression
from regulens.analyses.gene_model import gene_only_scores, normal_scores, ridge_logistic
from regulens.analyses.nested import balanced_halves, nested_choice
from regulens.analyses.top_of_list import top_of_list
from regulens.nulls.expression_matched import match_pairs
from regulens.stats.ranking import auroc, average_precision, early_precision
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges

RNG = np.random.default_rng(5)


def grid_edges(n_reg=14, n_genes=40, n_scores=3, prevalence=0.12, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    candidate = np.ones((n_reg, n_genes), bool)
    candidate[np.arange(n_reg), np.arange(n_reg)] = False
    i, j = np.nonzero(candidate)
    label = rng.random(len(i)) < prevalence
    scores = rng.normal(size=(n_scores, len(i))) + shift * label
    return LabelledEdges(
        scores=scores, names=tuple(f"s{k}" for k in range(n_scores)), label=label, regulator=i, target=j,
        universe_digest="d", endpoint=Endpoint.REFERENCE_RECOVERY,
    )  # fmt: skip


def test_top_of_list_equals_the_single_functions_with_ties():
    scores = RNG.integers(0, 6, (3, 200)).astype(float)
    label = RNG.random(200) < 0.2
    ap, early = top_of_list(scores, label, (1, 7, 50, 200))
    np.testing.assert_allclose(ap, average_precision(scores, label), rtol=1e-12)
    for c, k in enumerate((1, 7, 50, 200)):
        np.testing.assert_allclose(early[:, c], early_precision(scores, label, k=k), rtol=1e-12)


def matched(seed=0):
    rng = np.random.default_rng(seed)
    shape = (10, 40)
    mean = rng.uniform(0.9, 1.1, shape[1])
    candidate = np.ones(shape, bool)
    candidate[np.arange(10), np.arange(10)] = False
    positive = candidate & (rng.random(shape) < 0.1)
    pairs = match_pairs(
        positive, candidate & ~positive, mean=mean, detection=np.full(40, 0.5), own=np.arange(10), rng=rng,
        max_negatives=6,
    )  # fmt: skip
    return pairs, rng.integers(0, 8, (2, *shape)).astype(float)


def naive_conditional(pairs, values, *, without_regulator=None, without_target=None):
    shares = []
    for k in range(pairs.n_pos):
        r, t = pairs.pos_regulator[k], pairs.pos_target[k]
        if r == without_regulator or t == without_target:
            continue
        part = slice(pairs.start[k], pairs.start[k + 1])
        h = [
            0.5 * (float(values[r, t] > values[a, b]) + float(values[r, t] >= values[a, b]))
            for a, b in zip(pairs.neg_regulator[part], pairs.neg_target[part])
            if a != without_regulator and b != without_target
        ]
        if h:
            shares.append(np.mean(h))
    return np.mean(shares)


def test_conditional_auroc_and_its_deviations_equal_the_definition():
    pairs, values = matched()
    found = conditional_inference(pairs, wins(pairs, values))
    assert found.estimate[0] == pytest.approx(naive_conditional(pairs, values[0]), abs=1e-12)
    for c, r in enumerate(np.unique(np.concatenate([pairs.pos_regulator, pairs.neg_regulator]))):
        left = naive_conditional(pairs, values[1], without_regulator=r)
        assert found.regulator[1, c] + found.estimate[1] == pytest.approx(left, abs=1e-12)
    for c, t in enumerate(np.unique(np.concatenate([pairs.pos_target, pairs.neg_target]))):
        left = naive_conditional(pairs, values[0], without_target=t)
        assert found.target[0, c] + found.estimate[0] == pytest.approx(left, abs=1e-12)


def test_constant_scores_tie_at_one_half_and_have_no_error():
    pairs, values = matched()
    found = conditional_inference(pairs, wins(pairs, np.ones_like(values)))
    assert found.estimate.tolist() == [0.5, 0.5]
    assert all(found.undefined)


def test_balanced_halves_balance():
    weight = np.array([50, 40, 30, 20, 10, 0, 0, 0])
    for seed in range(5):
        half = balanced_halves(weight, np.random.default_rng(seed))
        assert abs(weight[half == 0].sum() - weight[half == 1].sum()) <= 10
        assert set(half) == {0, 1}


def test_nested_choice_finds_the_layer_and_does_not_flatter_noise():
    edges = grid_edges(n_reg=20, n_genes=80, n_scores=6, seed=1)
    scores = edges.scores.copy()
    scores[4] += 1.5 * edges.label
    planted = LabelledEdges(
        scores=scores, names=edges.names, label=edges.label, regulator=edges.regulator, target=edges.target,
        universe_digest="d", endpoint=edges.endpoint,
    )  # fmt: skip
    found = nested_choice(planted, planted.names, np.random.default_rng(0))
    assert set(found.chosen) == {"s4"}
    assert found.effect.value + 0.5 == pytest.approx(auroc(scores[[4]], edges.label)[0], abs=0.03)
    values, best = [], []
    for seed in range(40):
        noise = grid_edges(n_reg=20, n_genes=80, n_scores=6, seed=seed)
        values.append(nested_choice(noise, noise.names, np.random.default_rng(seed)).effect.value)
        best.append(auroc(noise.scores, noise.label).max() - 0.5)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40) + 1e-9
    assert np.mean(best) > 5 * np.std(best) / np.sqrt(40)  # the broken twin: best of six on the same pairs


def test_nested_choice_says_why_it_cannot():
    edges = grid_edges(n_reg=5, n_genes=12, prevalence=0.05, seed=2)
    found = nested_choice(edges, edges.names, np.random.default_rng(0))
    assert found.effect is None
    assert "at least 2 needed" in found.reason


def test_ridge_logistic_equals_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    X = np.column_stack([np.ones(300), RNG.normal(size=(300, 3))])
    y = RNG.random(300) < 1 / (1 + np.exp(-(X @ [-1.0, 1.0, -0.5, 0.0])))
    beta, _ = ridge_logistic(X, y, penalty=2.0)
    other = linear_model.LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(X[:, 1:], y)
    np.testing.assert_allclose(beta, [other.intercept_[0], *other.coef_[0]], atol=1e-5)


def test_gene_only_model_learns_from_features_and_sees_neither_gene():
    rng = np.random.default_rng(3)
    n_genes, n_reg = 120, 30
    x = rng.normal(size=n_genes)
    own = np.arange(n_reg)
    candidate = np.ones((n_reg, n_genes), bool)
    candidate[own, own] = False
    i, j = np.nonzero(candidate)
    features = GeneFeatures(
        genes=tuple(f"g{k}" for k in range(n_genes)), mean=np.exp(x), variance=rng.random(n_genes),
        detection=rng.random(n_genes),
    )  # fmt: skip

    def scored(label):
        edges = LabelledEdges(
            scores=np.zeros((1, len(i))), names=("s",), label=label, regulator=i, target=j, universe_digest="d",
            endpoint=Endpoint.REFERENCE_RECOVERY,
        )  # fmt: skip
        return gene_only_scores(edges, features, own, rng=np.random.default_rng(0))[0]

    label = rng.random(len(i)) < 1 / (1 + np.exp(2.5 - x[i] - x[j]))
    assert auroc(scored(label)[None], label)[0] > 0.75
    # memorised genes would help here, features cannot: labels depend on genes at random
    tag = rng.normal(size=n_genes)
    hubs = rng.random(len(i)) < 1 / (1 + np.exp(2.5 - tag[i] - tag[j]))
    assert auroc(scored(hubs)[None], hubs)[0] < 0.62


def test_normal_scores_of_a_constant_are_zero():
    assert normal_scores(np.ones(5)).tolist() == [0.0] * 5


def test_correlations_and_their_gene_jackknife():
    edges = grid_edges(seed=4)
    a, b = edges.scores[:2]
    b = b + 0.5 * a
    from scipy.stats import rankdata

    own = np.arange(14)
    ranks = np.stack([rankdata(a), rankdata(b), edges.label])
    found = jackknifed_correlations(
        ranks, {"r": lambda r: r[:, 0, 1], "p": lambda r: partial(r[:, 0, 1], r[:, 0, 2], r[:, 1, 2])}, own=own,
        regulator=edges.regulator, target=edges.target, n_genes=40, level=0.95,
    )  # fmt: skip
    assert found["r"].value == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    left = []
    for g in range(40):
        keep = (edges.target != g) & (edges.regulator != g)
        left.append(np.corrcoef(ranks[0][keep], ranks[1][keep])[0, 1])
    se = np.sqrt(39 / 40 * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert found["r"].se == pytest.approx(se, rel=1e-9)
    rows = within_regulators(
        a, b, regulator=edges.regulator, target=edges.target, n_regulators=14, n_genes=40, level=0.95
    )
    wanted = [spearmanr(a[edges.regulator == r], b[edges.regulator == r]).statistic for r in range(14)]
    assert rows.value == pytest.approx(np.mean(wanted), abs=1e-12)


def test_edge_regression_one_step_deviations_are_close_to_refits():
    edges = grid_edges(n_reg=20, n_genes=60, seed=6, shift=0.5)
    X = edges.scores.T.copy()
    found = edge_regression(X, edges.label, edges.regulator, edges.target)
    full = np.column_stack([np.ones(len(X)), X])
    left = []
    for r in range(20):
        keep = edges.regulator != r
        left.append(ridge_logistic(full[keep], edges.label[keep], penalty=1e-3)[0][1] - found.estimate[0])
    np.testing.assert_allclose(found.regulator[0], left, atol=0.15 * np.std(left))
