"""Rank consistency: planted effects are found, transposed ones are not, and what cannot be said is not said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, spearmanr

torch = pytest.importorskip("torch", reason="in-silico effects run a model, which needs the extra `models`")
from sklearn.linear_model import LinearRegression  # noqa: E402

from regulens.analyses import rank_consistency as rc  # noqa: E402
from regulens.analyses.base import ANALYSES, StatisticsSettings  # noqa: E402
from regulens.analyses.consistency_agreement import agreement  # noqa: E402
from regulens.analyses.consistency_pairs import composition_shift, match  # noqa: E402
from regulens.analyses.consistency_published import controlled, sign_agreement, spearman  # noqa: E402
from regulens.analyses.consistency_tables import TABLES  # noqa: E402
from regulens.testing.planted_head import PlantedHead  # noqa: E402
from regulens.testing.toy_model import ToyAdapter  # noqa: E402
from regulens.testing.worlds.screens import make_screen_world  # noqa: E402
from regulens.types.endpoints import Endpoint, Protocol  # noqa: E402
from regulens.types.estimates import Undefined  # noqa: E402
from regulens.types.ledger import TestLedger  # noqa: E402
from regulens.types.screens import PerturbationEffects, ResponseLabels, Screen  # noqa: E402

SIGNED, SIZE = ("signed_rank_consistency", "absolute_rank_consistency")


@pytest.fixture(scope="module")
def world():
    return make_screen_world("planted_network", n_perturbations=10, n_genes=90, n_controls=200, effect=1.0)


@pytest.fixture(scope="module")
def inp(world):
    return world.input(settings=StatisticsSettings(bootstrap=300, permutations=199))


@pytest.fixture(scope="module")
def weights(world, inp):
    """A head that listens to the perturbed genes as the screen says, and to all others at random."""
    rng = np.random.default_rng(0)
    out = rng.normal(size=(90, 90))
    column = {g: j for j, g in enumerate(inp.universe.genes)}
    for i, name in enumerate(world.effects.perturbations):
        out[column[name]] = -world.change[i] + 0.3 * rng.normal(size=90)
    return out


def with_model(inp, weights, **options):
    return replace(inp, adapter=PlantedHead(inp.universe.genes, weights, **options))


def records(outcome) -> dict:
    return {r.id.rsplit("/", 1)[1]: r for r in outcome.records}


def row(outcome, change, measure):
    table = outcome.tables["rank_consistency"].set_index(["intervention", "measure"])
    return table.loc[(change, measure)]


def published(inp):
    return replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))


def check(outcome, inp):
    """Every planned test has one record, tables have their columns, facts are plain."""
    ledger = TestLedger(rc.plan(inp.request))
    for record in outcome.records:
        ledger.record(record)
    ledger.close()
    for name, columns in TABLES.items():
        if name in outcome.tables:
            assert outcome.tables[name].columns.tolist() == columns
    assert all(v == v for v in outcome.facts.values())
    assert {r.endpoint for r in outcome.results} == {Endpoint.PERTURBATION_RESPONSE}


def test_a_head_that_follows_the_screen_is_found(inp, weights):
    outcome = rc.run(with_model(inp, weights))
    check(outcome, inp)
    for name in (SIGNED, SIZE):
        record = records(outcome)[name]
        assert record.p_raw <= 0.01 and record.low > 0 and record.n_units == 10
    assert row(outcome, "ablate", "signed")["value"] > 0.25 > abs(row(outcome, "ablate", "signed")["null_mean"])
    assert row(outcome, "ablate", "sign_agreement")["value"] > 0.53
    assert row(outcome, "ablate", "signed_controlled")["p"] <= 0.01
    by = outcome.tables["rank_by_perturbation"]
    assert by["intervention"].value_counts().to_dict() == {"ablate": 10, "swap": 10, "coexpression": 10}
    assert (by["n_targets"] >= 70).all() and (by["share_zero_model"].fillna(0) == 0).all()
    assert abs(outcome.facts["likeness_model"]) < 0.3 and outcome.facts["share_zero_model"] == 0
    pairs = outcome.tables["rank_consistency"].set_index(["intervention", "measure"])["n_pairs"]
    assert pairs["coexpression", "signed"] <= pairs["ablate", "signed"]
    assert outcome.dropped["genes that are perturbed themselves, as targets"] == 10


def test_the_transposed_twin_is_caught(inp, weights):
    outcome = rc.run(with_model(inp, weights.T))
    for name in (SIGNED, SIZE):
        assert records(outcome)[name].p_raw > 0.05
    assert abs(row(outcome, "ablate", "signed")["value"]) < 0.1


def test_a_row_is_what_scipy_says_and_the_mean_is_fishers(inp, weights):
    given = with_model(inp, weights)
    outcome = rc.run(given)
    m = match(given, rc.SPEC.parameters, perturbed_targets=False)
    by = outcome.tables["rank_by_perturbation"].query("intervention == 'ablate'").reset_index(drop=True)
    z = []
    for i in range(10):
        there = np.isfinite(m.model["ablate"][i]) & np.isfinite(m.observed[i])
        a, b = m.model["ablate"][i, there], m.observed[i, there]
        assert by.loc[i, "signed"] == pytest.approx(spearmanr(a, b)[0], abs=1e-12)
        assert by.loc[i, "absolute"] == pytest.approx(spearmanr(abs(a), abs(b))[0], abs=1e-12)
        z.append(np.arctanh(spearmanr(a, b)[0]))
    found = row(outcome, "ablate", "signed")
    assert found["value"] == pytest.approx(np.tanh(np.mean(z)), abs=1e-12)
    both = np.isfinite(m.model["ablate"]) & np.isfinite(m.observed)
    assert found["pooled"] == pytest.approx(spearmanr(m.model["ablate"][both], m.observed[both])[0], abs=1e-12)
    assert found["n_pairs"] == both.sum() == outcome.facts["n_pairs"]


def test_controlled_ranks_are_residuals_of_least_squares(inp, weights):
    m = match(with_model(inp, weights), rc.SPEC.parameters, perturbed_targets=False)
    a, b = (np.abs(x) for x in (m.model["ablate"], m.observed))
    both = m.both
    columns = np.column_stack(
        [np.broadcast_to(m.baseline, both.shape)[both], np.broadcast_to(m.shift[:, None], both.shape)[both]]
    )
    left = [v[both] - LinearRegression().fit(columns, v[both]).predict(columns) for v in (a, b)]
    assert np.allclose(m.residuals(a)[both], left[0], atol=1e-9)
    assert np.allclose(m.residuals(b)[both], left[1], atol=1e-9)
    assert np.isnan(m.residuals(a)[~np.isfinite(a)]).all()
    assert controlled(m.model["ablate"][both], m.observed[both], columns) == pytest.approx(spearmanr(*left)[0])


def test_an_activation_screen_measures_the_opposite_of_a_loss(inp, weights):
    given = with_model(inp, weights)
    activated = replace(given, screen=replace(given.screen, modality="crispra"))
    loss, gain = rc.run(given), rc.run(activated)
    for measure in ("signed", "absolute"):
        sign = -1 if measure == "signed" else 1
        assert row(gain, "ablate", measure)["value"] == pytest.approx(sign * row(loss, "ablate", measure)["value"])
    assert records(gain)[SIGNED].p_raw > 0.9


def test_without_a_head_only_sizes_are_compared(inp, weights):
    outcome = rc.run(with_model(inp, weights, head=False))
    check(outcome, inp)
    assert "gives no direction" in records(outcome)[SIGNED].undefined
    assert records(outcome)[SIZE].p_raw <= 0.01
    assert set(outcome.tables["rank_consistency"].query("intervention == 'ablate'")["measure"]) == {
        "absolute", "absolute_controlled",
    }  # fmt: skip


def test_effects_that_are_mostly_zero_have_no_rank(inp, weights):
    deaf = weights.copy()
    deaf[:, ::2] = 0.0
    outcome = rc.run(with_model(inp, deaf))
    check(outcome, inp)
    assert "% of the in-silico effects are exactly zero; above 30 %" in records(outcome)[SIGNED].undefined
    assert all(isinstance(r.estimate, Undefined) for r in outcome.results)
    allowed = rc.run(replace(with_model(inp, deaf), parameters={"max_zero": 0.9}))
    assert allowed.facts["share_zero_model"] == pytest.approx(0.5, abs=0.05)


def test_sizes_without_directions_in_the_screen(inp, weights):
    effects = inp.screen.labels.effects
    sizes = PerturbationEffects(
        perturbations=effects.perturbations, genes=effects.genes, effect=np.abs(effects.effect), p=effects.p, se=None,
        n_cells=effects.n_cells, n_controls=effects.n_controls, test="table",
    )  # fmt: skip
    view = replace(inp.screen, labels=ResponseLabels.build(sizes, inp.screen.labels.rule), cells=None)
    outcome = rc.run(replace(with_model(inp, weights), screen=view))
    check(outcome, inp)
    assert "no measured effect is negative" in records(outcome)[SIGNED].undefined
    assert records(outcome)[SIZE].p_raw <= 0.01 and "no column" in outcome.facts["composition_of"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"adapter": None}, "there is no model that could be run again"),
        ({"cells": None}, "the cells that the model read are not at hand"),
        ({"adapter": ToyAdapter(("A", "B"))}, "takes no edits"),
        ({"parameters": {"min_targets": 1000}}, "0 perturbations have 1000 genes with an in-silico and a measured"),
        ({"adapter": PlantedHead(("A", "B"), np.zeros((2, 2)))}, "no token of the model"),
    ],
)
@pytest.mark.parametrize("protocol", list(Protocol))
def test_what_cannot_be_answered_is_undefined_with_its_reason(inp, weights, change, reason, protocol):
    given = replace(with_model(inp, weights), **change)
    if protocol is Protocol.PUBLISHED:
        given = published(given)
    outcome = rc.run(given)
    check(outcome, given)
    if protocol is Protocol.PUBLISHED and "min_targets" in change.get("parameters", {}):
        return  # the published procedure has no such number
    assert all(r.undefined for r in outcome.records)
    if protocol is Protocol.CORRECTED or "token" not in reason:
        assert reason in outcome.records[0].undefined
    assert all(isinstance(r.estimate, Undefined) for r in outcome.results)


def test_published_numbers_by_hand(inp, weights):
    given = published(with_model(inp, weights))
    outcome = rc.run(given)
    check(outcome, given)
    assert not any(t.confirmatory for t in rc.plan(given.request))
    assert [r.stream for r in outcome.records] == [r.stream for r in outcome.results][::-1] != ["", ""]
    m = match(given, rc.SPEC.parameters, perturbed_targets=True)
    both = np.isfinite(m.model["ablate"]) & np.isfinite(m.observed)
    x, y = m.model["ablate"][both], m.observed[both]
    table = outcome.tables["published"].set_index(["intervention", "measure"])
    assert table.loc[("ablate", "signed"), "value"] == pytest.approx(spearmanr(x, y)[0], abs=1e-12)
    assert table.loc[("ablate", "absolute"), "value"] == pytest.approx(spearmanr(abs(x), abs(y))[0], abs=1e-12)
    assert table.loc[("ablate", "sign_agreement"), "value"] == pytest.approx(np.mean(np.sign(x) == np.sign(y)))
    one = table.loc[("ablate", "signed")]
    assert one["n_pairs"] == both.sum() > outcome.results[0].n_regulators * 80  # perturbed genes are targets as well
    assert one["draws_used"] == 400 and one["p"] == pytest.approx(1 / 401)
    assert one["z"] == pytest.approx((one["value"] - one["null_mean"]) / one["null_sd"])
    assert one["low"] < one["value"] < one["high"] and one["high"] - one["low"] < 0.2
    assert table.loc[("swap", "absolute"), "n_pairs"] > 0


def test_published_measures_on_numbers_that_can_be_checked():
    x, y = np.array([0.0, 0.0, 2.0, -1.0, 3.0]), np.array([1.0, -1.0, 2.0, 1.0, 0.0])
    assert sign_agreement(x, y) == 0.5 and np.isnan(sign_agreement(x * 0, y))
    assert spearman(x, y) == pytest.approx(spearmanr(x, y)[0]) and np.isnan(spearman(x * 0, y))


def test_perturbations_need_no_responders(world, inp, weights):
    """Under a rule that nothing meets but for five perturbations, ranks are compared for all of them."""
    strict = replace(inp.screen.labels.rule, min_effect=1.2)
    few = ResponseLabels.build(inp.screen.labels.effects, strict)
    genes = inp.universe.genes
    universe = few.universe(genes=genes, name="few", screen="screen")
    assert 0 < len(universe.regulators) < 10
    given = replace(with_model(inp, weights), universe=universe, screen=replace(inp.screen, labels=few))
    assert row(rc.run(given), "ablate", "signed")["n_perturbations"] == 10
    bounded = rc.run(replace(given, parameters={"perturbations": 7}))
    assert row(bounded, "ablate", "signed")["n_perturbations"] == 7
    assert bounded.dropped["perturbations beyond the number that is asked about"] == 3
    assert set(universe.regulators) <= set(bounded.tables["rank_by_perturbation"]["perturbation"])


def test_composition_shift_by_hand(world):
    screen = world.screen
    obs = screen.obs.copy()
    first, second = world.effects.perturbations[:2]
    obs["replicate"] = np.where(np.arange(len(obs)) % 2 == 0, "a", "b")
    obs.loc[obs["perturbation"] == first, "replicate"] = "a"
    obs.loc[obs["perturbation"] == second, "replicate"] = "c"
    made = Screen(name="s", cells=screen.cells, obs=obs, modality="crispri")
    shift, column = composition_shift(made, (first, second, "absent"))
    share = (obs.loc[obs["control"], "replicate"] == "a").mean()
    assert column == "replicate" and shift[0] == pytest.approx(2 * (1 - share)) and shift[1] == 2.0 and shift[2] == 0.0
    assert composition_shift(None, (first,))[1] == ""
    plain = Screen(name="s", cells=screen.cells, obs=obs[["perturbation", "control"]], modality="crispri")
    assert composition_shift(plain, (first,))[1] == "" and np.isnan(composition_shift(plain, (first,))[0]).all()


def test_the_same_numbers_whatever_the_number_of_jobs(inp, weights):
    one, two = (rc.run(replace(with_model(inp, weights), jobs=jobs)) for jobs in (1, 2))
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, two.tables[name])
    assert one.records == two.records


def test_registered_for_screens():
    spec = ANALYSES["rank_consistency"]
    assert spec is rc.SPEC and spec.scope == "model_screen" and "model" in spec.needs


def test_the_interval_covers_the_mean_of_perturbations(inp):
    """Perturbations of different strength; the truth is the mean of Fisher's z over many of them."""

    def draw(rng, rows):
        a = rng.normal(size=(rows, 60))
        strength = np.clip(0.3 + 0.2 * rng.normal(size=(rows, 1)), -0.9, 0.9)
        return a, strength * a + np.sqrt(1 - strength**2) * rng.normal(size=a.shape)

    a, b = draw(np.random.default_rng(0), 4000)
    truth = np.mean([np.arctanh(spearmanr(x, y)[0]) for x, y in zip(a, b)])
    rng, n, covered = np.random.default_rng(1), 150, 0
    for _ in range(n):
        found = agreement("signed", *draw(rng, 8), min_targets=10, inp=inp, use="coverage")
        covered += found.low <= truth <= found.high
    assert binom.ppf(0.001, n, 0.95) <= covered <= binom.ppf(0.999, n, 0.95)


def heads_that_know_nothing(world, n: int) -> np.ndarray:
    """p of both tests for heads whose weights follow genes alone: prominence, and likeness of expression."""
    inp = world.input(settings=StatisticsSettings(bootstrap=100, permutations=99))
    mean = inp.features.mean
    out = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        like = np.exp(-np.abs(mean[:, None] - mean[None, :]) / mean.std())
        column = rng.normal(size=len(mean)) + 2 * (mean - mean.mean()) / mean.std()
        weights = like * (column + rng.normal(size=(len(mean), len(mean))))
        found = records(rc.run(replace(with_model(inp, weights), parameters={"cells": 20})))
        out.append([found[SIGNED].p_raw, found[SIZE].p_raw])
    return np.array(out)


def test_heads_that_know_genes_and_no_pairs_are_not_taken_for_knowledge():
    n = 20
    world = make_screen_world("expression_only", n_perturbations=8, n_genes=60, n_controls=120)
    assert ((heads_that_know_nothing(world, n) <= 0.05).sum(axis=0) <= binom.ppf(0.999, n, 0.05)).all()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["no_signal", "expression_only", "shared_responders", "replicate_confounded"])
def test_level_over_worlds(kind):
    found = [
        heads_that_know_nothing(make_screen_world(kind, seed=s, n_perturbations=15, n_genes=120, n_controls=200), 15)
        for s in range(10)
    ]
    p = np.concatenate(found)
    assert ((p <= 0.05).sum(axis=0) <= binom.ppf(0.999, len(p), 0.05)).all(), (p <= 0.05).mean(axis=0)
