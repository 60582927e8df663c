"""The degree null: self-tests, exact pieces, planted pairs, one regulator alone, and its level with families."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses import degree_null
from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.analyses.common import edges_of
from regulens.analyses.degree_excess import auroc_without_regulator, degree_excess, without_margins
from regulens.analyses.degree_null import SPEC, TABLES, self_tests
from regulens.nulls.degree_preserving import degree_preserving_draws
from regulens.nulls.rank_sums import auroc_at, mid_ranks
from regulens.rng import stream
from regulens.stats.ranking import auroc
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Protocol

FAST = StatisticsSettings(bootstrap=200, permutations=199)


@pytest.fixture(scope="module")
def planted():
    inp = make_world("planted_pairs", seed=1).input(settings=FAST)
    return inp, SPEC.run(inp)


def with_scores(inp, values):
    """The same input with other values for every score of attention."""
    made = {
        d: EdgeScores(
            values=np.broadcast_to(values, s.values.shape), observed=s.observed, names=s.names, genes=s.genes,
            regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in inp.attention.items()
    }  # fmt: skip
    return replace(inp, attention=made)


def with_positives(inp, positive):
    return replace(inp, universe=replace(inp.universe, positive=positive))


def p_of(outcome):
    return {r.id.split("/")[-1]: r.p_raw for r in outcome.records}


def family_labels(rng, *, n_regulators=30, n_genes=200, n_pos=300, families=5):
    """Labels and scores without a link, both alike within families of regulators."""
    family = rng.integers(families, size=n_regulators)
    degree = rng.normal(size=(n_regulators, 1)) + rng.normal(size=(1, n_genes))
    odds = 0.8 * degree + 2 * rng.normal(size=(families, n_genes))[family]
    scores = 0.5 * rng.normal(size=odds.shape) + 1.5 * rng.normal(size=(families, n_genes))[family]
    scores += 0.7 * rng.normal(size=(n_regulators, 1)) + 0.7 * rng.normal(size=(1, n_genes))
    allowed = np.ones(odds.shape, dtype=bool)
    allowed[np.arange(n_regulators), np.arange(n_regulators)] = False
    keys = np.where(allowed, odds + rng.gumbel(size=odds.shape), -np.inf)
    positive = np.zeros(odds.size, dtype=bool)
    positive[np.argpartition(-keys.ravel(), n_pos)[:n_pos]] = True
    return scores, positive.reshape(odds.shape), allowed


def inference(scores, positive, allowed, rng, draws=99):
    i, j = np.nonzero(allowed)
    found = degree_preserving_draws(positive, allowed, draws=draws, rng=rng)
    ranks = mid_ranks(scores[i, j][None])
    null = auroc_at(ranks, found.positions)[0]
    observed = float(auroc_at(ranks, found.observed[None])[0, 0])
    share = np.bincount(found.positions.ravel(), minlength=len(i)) / draws
    excess = degree_excess(ranks, positive[i, j], share, i, j)
    return observed, null, excess


def test_planted_pairs_pass_with_and_without_any_regulator(planted):
    _, outcome = planted
    p = p_of(outcome)
    assert max(p["above_degree"], p["above_degree_without_any_regulator"], p["observed_among_draws"]) < 0.01
    assert outcome.facts["self_tests_failed"] == []
    assert {k: list(v.columns) for k, v in outcome.tables.items()} == TABLES


def test_every_planned_test_is_recorded(planted):
    inp, outcome = planted
    assert {r.id for r in outcome.records} == {t.id for t in SPEC.plan(inp.request)}
    assert ANALYSES["degree_null"] is SPEC


def test_decomposition_adds_up_and_matches_the_plain_auroc(planted):
    inp, outcome = planted
    table = outcome.tables["degree_null"]
    np.testing.assert_allclose(0.5 + table["share_margin"] + table["share_pair"], table["auroc"], atol=1e-12)
    edges = edges_of(inp, inp.primary)
    assert table["auroc"][0] == pytest.approx(auroc(edges.scores, edges.label)[0], abs=1e-12)
    excess = next(r for r in outcome.results if r.step == "degree_excess").estimate
    assert excess.value == pytest.approx(table["share_pair"][0], abs=1e-12)


def test_a_score_of_one_gene_neither_varies_nor_exceeds(planted):
    row = planted[1].tables["degree_null"].set_index("score").loc["target_variance"]
    assert (row["z"], row["null_sd"]) == (0.0, 0.0)
    assert row["share_pair"] == pytest.approx(0, abs=1e-12)


def test_transposed_attention_loses_the_excess():
    world = make_world("planted_pairs", seed=1)
    right, wrong = (SPEC.run(w.input(settings=FAST)) for w in (world, world.transposed()))
    assert p_of(right)["above_degree"] < 0.01 < p_of(wrong)["above_degree"]


def test_one_regulator_fools_the_draws_and_not_the_tests_that_count():
    found = [p_of(SPEC.run(make_world("one_regulator", seed=s).input(settings=FAST))) for s in range(2)]
    assert max(p["observed_among_draws"] for p in found) < 0.05
    assert min(p["above_degree_without_any_regulator"] for p in found) > 0.05


@pytest.mark.parametrize("kind", ["hubs_only", "degree", "no_signal"])
def test_worlds_of_degrees_stay_silent_mostly(kind):
    found = [p_of(SPEC.run(make_world(kind, seed=s).input(settings=FAST))) for s in range(100, 103)]
    assert sum(p["above_degree"] <= 0.05 for p in found) <= 2
    assert sum(p["above_degree_without_any_regulator"] <= 0.05 for p in found) <= 1


def test_families_of_regulators_break_the_rank_among_draws_and_not_the_jackknife():
    rank, jackknife = [], []
    for k in range(60):
        rng = np.random.default_rng([k, 11])
        observed, null, excess = inference(*family_labels(rng), rng)
        rank.append((1 + (null >= observed).sum()) / (1 + len(null)))
        jackknife.append(excess.found.p_greater(0.0)[0])
    assert np.mean(np.array(jackknife) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert np.mean(np.array(rank) <= 0.05) > np.mean(np.array(jackknife) <= 0.05)


@pytest.mark.long
def test_level_with_families():
    rejected = []
    for k in range(400):
        rng = np.random.default_rng([k, 12])
        _, _, excess = inference(*family_labels(rng), rng)
        rejected.append([excess.found.p_greater(0.0)[0] <= 0.05, np.nanmax(excess.without.p_greater(0.0)) <= 0.05])
    assert (np.mean(rejected, axis=0) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)).all()


def test_excess_is_the_observed_minus_the_mean_of_the_draws():
    rng = stream(3, "excess")
    scores, positive, allowed = family_labels(rng)
    observed, null, excess = inference(np.round(scores, 1), positive, allowed, rng)
    assert excess.found.estimate[0] == pytest.approx(observed - null.mean(), abs=1e-12)


def test_excess_without_a_regulator_is_near_that_of_a_null_drawn_without_it():
    rng = stream(4, "without")
    scores, positive, allowed = family_labels(rng)
    scores = scores + positive
    _, _, excess = inference(scores, positive, allowed, rng, draws=400)
    for k in (0, 5):
        keep = np.arange(30) != excess.regulators[k]
        observed, null, _ = inference(scores[keep], positive[keep], allowed[keep], rng, draws=400)
        assert excess.without.estimate[k] == pytest.approx(observed - null.mean(), abs=0.01)


def test_residual_of_ranks_is_that_of_weighted_least_squares():
    rng = stream(5, "wls")
    i, j = (x.ravel() for x in np.indices((6, 9)))
    x, w = rng.normal(size=54), rng.random(54)
    w[rng.random(54) < 0.2] = 0.0
    design = np.concatenate([np.eye(6)[i], np.eye(9)[j]], axis=1)
    beta = np.linalg.lstsq(design * np.sqrt(w)[:, None], x * np.sqrt(w), rcond=None)[0]
    found = without_margins(x, w, i, j)
    np.testing.assert_allclose(found[w > 0], (x - design @ beta)[w > 0], atol=1e-7)


def test_auroc_without_a_regulator_is_that_of_the_other_pairs():
    rng = stream(6, "loo")
    scores, positive, allowed = family_labels(rng, n_regulators=8, n_genes=40, n_pos=60)
    i, j = np.nonzero(allowed)
    x = np.round(scores[i, j], 1)
    found = degree_preserving_draws(positive, allowed, draws=5, rng=rng)
    null, seen = auroc_without_regulator(mid_ranks(x[None])[0], i, np.arange(8), found.positions, found.observed)
    for r in range(8):
        keep = i != r
        assert seen[r] == pytest.approx(auroc(x[None, keep], positive[i, j][keep])[0], abs=1e-12)
        for d in range(5):
            label = np.zeros(len(i), dtype=bool)
            label[found.positions[d]] = True
            assert null[r, d] == pytest.approx(auroc(x[None, keep], label[keep])[0], abs=1e-12)


def test_self_tests_catch_broken_nulls(planted):
    inp, _ = planted
    edges = edges_of(inp, inp.primary, inp.baselines.select(["target_variance"]))
    allowed = np.zeros(inp.universe.positive.shape, dtype=bool)
    allowed[edges.regulator, edges.target] = True
    good = degree_preserving_draws(inp.universe.positive & allowed, allowed, draws=30, rng=stream(1, "s"))
    rng = stream(2, "s")
    shuffled = np.stack([np.sort(rng.choice(len(edges.label), edges.n_pos, replace=False)) for _ in range(30)])
    idle = np.tile(good.observed, (30, 1))
    twins = {
        "good": good,
        "labels shuffled": replace(good, positions=shuffled.astype(np.int32)),
        "nothing moved": replace(good, positions=idle, jaccard=np.ones(30), trades=good.trades * 0),
        "a pair twice": replace(
            good, positions=np.concatenate([good.positions[:, 1:], good.positions[:, 1:2]], axis=1)
        ),
        "badly mixed": replace(good, jaccard=np.full(30, 0.6)),
    }
    failed = {}
    for name, draws in twins.items():
        null = auroc_at(mid_ranks(edges.scores), draws.positions)
        found = self_tests(
            edges, draws, null, margin=1, n_regulators=len(inp.universe.regulators), n_genes=len(inp.universe.genes)
        )  # fmt: skip
        failed[name] = [c.check for c in found if not c.passed]
    assert failed.pop("good") == []
    assert all(failed.values()), failed
    assert any("degree differs" in c for c in failed["labels shuffled"])
    assert any("identical" in c for c in failed["nothing moved"])
    assert any("Jaccard" in c for c in failed["badly mixed"])


def test_a_network_that_cannot_change_is_undefined_with_the_failed_checks(planted):
    inp, _ = planted
    positive = np.zeros_like(inp.universe.positive)
    shared = np.flatnonzero((inp.universe.candidate & edges_grid(inp)).all(axis=0))[:3]
    positive[:, shared] = True
    outcome = SPEC.run(with_positives(inp, positive))
    assert outcome.facts["self_tests_failed"]
    assert all("self-test" in r.undefined for r in outcome.records)
    assert not outcome.tables["degree_checks"]["passed"].all()


def edges_grid(inp):
    edges = edges_of(inp, inp.primary)
    grid = np.zeros(inp.universe.positive.shape, dtype=bool)
    grid[edges.regulator, edges.target] = True
    return grid


@pytest.mark.parametrize("case", ["no positives", "all positives", "one regulator", "four positives"])
def test_too_little_data_is_undefined_with_its_reason(planted, case):
    inp, _ = planted
    positive = np.zeros_like(inp.universe.positive)
    if case == "all positives":
        positive = inp.universe.candidate.copy()
    elif case == "one regulator":
        positive[0] = inp.universe.positive[0]
        positive[0, np.flatnonzero(inp.universe.candidate[0])[:20]] = True
    elif case == "four positives":
        i, j = np.argwhere(inp.universe.positive)[:4].T
        positive[i, j] = True
    outcome = SPEC.run(with_positives(inp, positive))
    assert all(r.undefined for r in outcome.records)
    assert outcome.facts["refused"]


def test_a_constant_score_is_undefined(planted):
    outcome = SPEC.run(with_scores(planted[0], 1.0))
    found = {r.id.split("/")[-1]: r.undefined for r in outcome.records}
    assert found["above_degree"]
    assert found["observed_among_draws"] == "the null does not vary"
    row = outcome.tables["degree_null"].iloc[0]
    assert (row["auroc"], row["z"]) == (0.5, 0.0)


def test_monotone_change_of_the_score_changes_nothing(planted):
    inp, outcome = planted
    values = np.exp(inp.primary.values * 3)
    other = SPEC.run(with_scores(inp, values))
    assert p_of(other) == p_of(outcome)


def test_published_procedure_has_its_own_rows_and_is_not_confirmatory():
    inp = make_world("planted_pairs", seed=1).input(settings=FAST)
    inp = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    planned = SPEC.plan(inp.request)
    outcome = SPEC.run(inp)
    assert [t.confirmatory for t in planned] == [False]
    assert {r.id for r in outcome.records} == {t.id for t in planned}
    table = outcome.tables["published"].set_index("null")
    assert (table["p"] == [1 / 201, 1 / 1001]).all()
    assert table.loc["label shuffle", "null_mean"] == pytest.approx(0.5, abs=0.01)
    assert table["n_pos"].eq(inp.universe.positive.sum()).all()


def test_margin_score_is_of_the_target_alone():
    assert degree_null.MARGIN.startswith("target_")
