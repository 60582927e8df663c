"""Residuals on both genes' expression: oracle, leakage, guard, planted pairs stay, expression alone goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.analyses.common import edges_of
from regulens.analyses.cross_fitted_residual import SPEC, TABLES, features_of, retained
from regulens.analyses.inference import Effect
from regulens.analyses.residual_fit import (
    SUB_MODELS,
    TREES,
    PairFeatures,
    assert_no_shared_gene,
    boosted_trees,
    least_squares,
    normal_ranks,
    pair_features,
    predicted,
)
from regulens.errors import StatisticsError
from regulens.rng import stream
from regulens.stats.ranking import auroc
from regulens.stats.splits import gene_folds, two_way_blocks
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Protocol

FAST = StatisticsSettings(bootstrap=200, permutations=99)
SMALL = {"seeds": 2, "tree_seeds": 1, "tree_pairs": 3000}


def world_input(kind, seed=1):
    return replace(make_world(kind, seed=seed).input(settings=FAST), parameters=SMALL)


@pytest.fixture(scope="module")
def planted():
    inp = world_input("planted_pairs")
    return inp, SPEC.run(inp)


def pairs(n_regulators=12, n_genes=60, seed=0):
    rng = stream(seed, "pairs")
    own = rng.choice(n_genes, n_regulators, replace=False)
    i, j = np.nonzero(own[:, None] != np.arange(n_genes)[None, :])
    return pair_features(rng.lognormal(size=(n_genes, 3)), own[i], j), rng


def p_of(outcome):
    return {r.id.split("/")[-1]: r.p_raw for r in outcome.records}


def test_least_squares_is_scikit_learns_on_pairs_without_the_genes_of_the_test_pairs():
    features, rng = pairs()
    response = rng.normal(size=(2, len(features.source))) + features.plain()[:, 0]
    fold = gene_folds(60, 4, rng)
    found, r2 = least_squares(features, response, fold, 4)
    scores = []
    for train, test in two_way_blocks(features.source, features.target, fold, 4):
        model = LinearRegression(fit_intercept=False).fit(features.design(train), response[:, train].T)
        np.testing.assert_allclose(found[:, test], model.predict(features.design(test)).T, atol=1e-8)
        seen = set(features.source[train]) | set(features.target[train])
        assert not seen & (set(features.source[test]) | set(features.target[test]))
        scores.append([LinearRegression().fit(features.design(train), y).score(features.design(train), y)
                       for y in response[:, train]])  # fmt: skip
    np.testing.assert_allclose(r2, np.mean(scores, axis=0), atol=1e-8)


def test_sub_models_are_columns_of_the_design():
    features, _ = pairs()
    width = features.design(slice(0, 3)).shape[1]
    assert width == 22
    assert all(max(c) < width and c[0] == 0 for c in SUB_MODELS.values())


def test_a_fit_that_is_not_least_squares_is_refused(monkeypatch):
    """A twin that solves the full system badly, as single precision did, explains less than its sub-models."""
    from regulens.analyses import residual_fit

    solve = residual_fit._solve
    monkeypatch.setattr(
        residual_fit, "_solve", lambda g, m, c: solve(g, m, c) * (0.5 if len(c) == len(m) else 1.0)
    )  # fmt: skip
    features, rng = pairs()
    response = features.plain()[:, :1].T + 0.1 * rng.normal(size=(1, len(features.source)))
    with pytest.raises(StatisticsError, match="Expected the full model to explain no less"):
        least_squares(features, response, gene_folds(60, 4, rng), 4)


def test_trees_are_read_as_scikit_learn_predicts():
    rng = stream(0, "trees by leaf")
    i, j = (a.ravel() for a in np.indices((12, 60)))
    pairs = pair_features(rng.exponential(size=(60, 3)), source=i, target=j)
    y = pairs.gene[i, 0] * pairs.gene[j, 1] + np.sin(3 * pairs.gene[j, 2]) + 0.1 * rng.normal(size=len(i))
    model = HistGradientBoostingRegressor(**TREES, random_state=0).fit(pairs.plain(), y)
    rows = np.flatnonzero((i % 3 == 0) ^ (j % 2 == 0))
    wanted = model.predict(pairs.plain(rows))
    assert model.score(pairs.plain(), y) > 0.5
    np.testing.assert_allclose(predicted(model, pairs, rows), wanted, rtol=0, atol=1e-12)
    turned = PairFeatures(gene=pairs.gene, source=pairs.target, target=pairs.source)
    assert np.abs(predicted(model, turned, rows) - wanted).max() > 0.1  # genes in each other's place are noticed
    few = rows[:: len(rows) // 5]
    np.testing.assert_array_equal(predicted(model, pairs, few), model.predict(pairs.plain(few)))
    model._predictors = [[object()] for _ in model._predictors]
    model.predict = lambda x: np.full(len(x), 7.0)
    assert set(predicted(model, pairs, rows)) == {7.0}  # trees of another form are scikit-learn's to read


def test_a_shared_gene_is_refused():
    present = np.array([[True, False, True], [False, True, False], [False, True, True]])
    train, test = np.array([True, False, False]), np.array([False, True, False])
    assert_no_shared_gene(present, train, test)
    with pytest.raises(StatisticsError, match="Expected no gene on both sides"):
        assert_no_shared_gene(present, train, np.array([False, False, True]))


def test_a_score_made_of_expression_leaves_nothing():
    features, rng = pairs(30, 200)
    a, b = features.gene[features.source], features.gene[features.target]
    score = np.exp(a[:, 0] + 0.5 * b[:, 1] + 0.3 * a[:, 0] * b[:, 0] + 0.5 * rng.normal(size=len(a)))
    label = rng.random(len(a)) < 1 / (1 + np.exp(4 - 1.5 * a[:, 0] - b[:, 1]))
    response = normal_ranks(score[None])
    fold = gene_folds(200, 4, rng)
    raw = auroc(score[None], label)[0]
    for (found, _), allowed in (
        (least_squares(features, response, fold, 4), 0.15),
        (boosted_trees(features, response, fold, 4, rng=rng, most_pairs=4000), 0.5),  # few genes to learn shapes on
    ):
        left = auroc(response - found, label)[0]
        assert raw > 0.7
        assert abs(left - 0.5) < allowed * (raw - 0.5)


def test_planted_pairs_stay_and_every_test_is_recorded(planted):
    inp, outcome = planted
    assert p_of(outcome)["residual_above_chance"] < 0.01
    assert {r.id for r in outcome.records} == {t.id for t in SPEC.plan(inp.request)}
    assert list(outcome.tables["residual"].columns) == TABLES["residual"]
    assert outcome.tables["residual"].iloc[0]["retention"] > 0.8
    assert ANALYSES["cross_fitted_residual"] is SPEC


def test_expression_alone_is_not_called_knowledge():
    found = [p_of(SPEC.run(world_input("expression_level", seed=s))) for s in range(20, 23)]
    assert sum(p["residual_above_chance"] <= 0.05 for p in found) <= 1


def test_transposed_attention_loses_its_residual():
    world = make_world("planted_pairs", seed=1).transposed()
    outcome = SPEC.run(replace(world.input(settings=FAST), parameters=SMALL))
    assert p_of(outcome)["residual_above_chance"] > 0.05


def test_retention_needs_a_raw_value_off_chance():
    def effect(value, se=0.01):
        return Effect(value=value, se=se, df=50.0, method="", n_units=9, unit="x")

    assert retained(effect(0.2), 0.6, 0.95) == (pytest.approx(0.5), "")
    value, note = retained(effect(0.0002), 0.5195, 0.95)  # a residual of 2 % over a raw value of nothing
    assert value is None
    assert "holds 0.5" in note
    assert retained(replace(effect(0.2), undefined="one regulator"), 0.6, 0.95) == (None, "one regulator")


def test_monotone_change_and_repetition_change_nothing(planted):
    inp, outcome = planted
    made = {
        d: EdgeScores(
            values=np.log(np.maximum(s.values, 1e-300)), observed=s.observed, names=s.names, genes=s.genes,
            regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in inp.attention.items()
    }  # fmt: skip
    again = SPEC.run(replace(inp, attention=made))
    assert p_of(again) == p_of(outcome)


def constant(inp):
    made = {
        d: EdgeScores(
            values=np.ones(s.values.shape), observed=s.observed, names=s.names, genes=s.genes,
            regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in inp.attention.items()
    }  # fmt: skip
    return replace(inp, attention=made)


def test_degenerate_input_is_undefined(planted):
    inp, _ = planted
    found = SPEC.run(constant(inp))
    assert next(r for r in found.records if r.id.endswith("/residual_above_chance")).undefined
    for positive in (np.zeros_like(inp.universe.positive), inp.universe.candidate):
        outcome = SPEC.run(replace(inp, universe=replace(inp.universe, positive=positive)))
        assert all(r.undefined for r in outcome.records)


def test_features_are_those_of_the_right_genes(planted):
    inp, _ = planted
    edges = edges_of(inp, inp.primary)
    features = features_of(inp, edges)
    names = np.array(inp.universe.genes, dtype=object)
    assert (names[features.source[:50]] == np.array(inp.universe.regulators, dtype=object)[edges.regulator[:50]]).all()
    assert (features.target == edges.target).all()
    order = np.argsort(features.gene[:, 0])
    assert (np.diff(inp.features.mean[order]) >= 0).all()


def test_published_procedure_is_a_reproduction():
    inp = world_input("planted_pairs")
    inp = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    outcome = SPEC.run(inp)
    assert [t.confirmatory for t in SPEC.plan(inp.request)] == [False]
    assert {r.id for r in outcome.records} == {t.id for t in SPEC.plan(inp.request)}
    assert outcome.tables["published"]["n_seeds"].tolist() == [10, 1, 10, 1]
