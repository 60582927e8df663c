"""The published simulation to the printed digit; the corrected one against libraries, slow twins and known truths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, average_precision_score, roc_auc_score

from regulens.analyses import synthetic_cssi, synthetic_cssi_published
from regulens.analyses.base import ANALYSES, SIMULATION, SimulationInput, StatisticsSettings, TestRequest
from regulens.analyses.synthetic_cssi import SETTINGS, metrics
from regulens.analyses.synthetic_cssi_world import (
    N_TARGETS,
    Dials,
    adjusted_rand,
    gene_ranks,
    k_means,
    noisy,
    simulate,
    stratum_scores,
)
from regulens.plan import Plan
from regulens.run.prepare import plan_analyses
from regulens.types.endpoints import Protocol

REQUEST = TestRequest(model=SIMULATION, reference=SIMULATION)
#: states, pooled F1 ± SD, maximum over true states ± SD, ratio, mean, k-means; AUROC pooled, maximum, k-means.
PRINTED = (
    (2, 14, ".850", ".053", ".957", ".050", "1.13", ".921", ".600", ".974", ".996", ".893"),
    (4, 14, ".657", ".100", ".921", ".071", "1.40", ".771", ".286", ".926", ".996", ".659"),
    (6, 14, ".486", ".100", ".900", ".069", "1.85", ".721", ".257", ".826", ".994", ".603"),
    (8, 18, ".550", ".089", ".967", ".029", "1.76", ".706", ".278", ".848", ".996", ".566"),
    (10, 22, ".514", ".083", ".932", ".049", "1.81", ".686", ".241", ".771", ".993", ".561"),
    (12, 26, ".527", ".041", ".942", ".027", "1.79", ".731", ".265", ".776", ".996", ".555"),
)
COLUMNS = (
    "states", "n_true", "f1_pooled", "f1_pooled_sd", "f1_max_oracle", "f1_max_oracle_sd", "ratio", "f1_mean_oracle",
    "f1_max_estimated", "auroc_pooled", "auroc_max_oracle", "auroc_max_estimated",
)  # fmt: skip
PRINTED_HALVES = (
    (2, ".640", ".667", ""), (4, ".460", ".667", "1.45"), (6, ".303", ".663", "2.19"), (8, ".320", ".667", "2.08"),
    (10, ".203", ".650", "3.20"), (12, ".227", ".667", "2.94"),
)  # fmt: skip


def printed(value: float, like: str) -> str:
    """`value` with as many decimals as `like`, without the zero in front."""
    return f"{value:.{len(like.split('.')[1])}f}".removeprefix("0")


@pytest.fixture(scope="module")
def published():
    request = replace(REQUEST, protocol=Protocol.PUBLISHED)
    return ANALYSES["synthetic_cssi"].run(SimulationInput(request=request))


@pytest.fixture(scope="module")
def corrected():
    return ANALYSES["synthetic_cssi"].run(SimulationInput(request=REQUEST, parameters={"worlds": 30}))


def test_the_published_table_comes_out_to_the_printed_digit(published):
    table = published.tables["synthetic_published"]
    assert len(table) == len(PRINTED)
    for row, wanted in zip(table.to_dict("records"), PRINTED):
        for name, value in zip(COLUMNS, wanted):
            assert row[name] == value if isinstance(value, int) else printed(row[name], value) == value, (name, row)


def test_the_published_tests_come_out(published):
    of = {r.id.rsplit("/published_", 1)[1]: r for r in published.records}
    assert (of["max_above_pooled"].statistic, of["max_above_pooled"].n_units) == (1653.0, 57)
    assert f"{of['max_above_pooled'].p_raw:.1e}" == "2.5e-11"
    assert printed(of["pooled_falls_with_states"].statistic, ".618") == "-0.618"
    assert of["pooled_falls_with_states"].p_raw < 1e-4
    assert printed(of["max_oracle_falls_with_states"].statistic, ".001") == "-0.001"
    assert printed(of["max_oracle_falls_with_states"].p_raw, ".99") == ".99"
    assert {r.id for r in published.records} == {t.id for t in ANALYSES["synthetic_cssi"].plan(
        replace(REQUEST, protocol=Protocol.PUBLISHED))}  # fmt: skip


def test_the_published_split_half_table_comes_out(published):
    for row, (states, pooled, strata, ratio) in zip(
        published.tables["synthetic_split_half"].to_dict("records"), PRINTED_HALVES
    ):
        assert row["states"] == states
        assert (printed(row["f1_pooled"], pooled), printed(row["f1_strata"], strata)) == (pooled, strata)
        assert not ratio or printed(row["ratio"], ratio) == ratio


def test_with_estimated_labels_the_published_strata_lose_in_every_row(published):
    table = published.tables["synthetic_published"]
    assert (table["f1_max_estimated"] < table["f1_pooled"]).all()


def test_the_published_numbers_depend_on_drawing_the_edges_before_the_cells(monkeypatch):
    wanted = synthetic_cssi_published.simulation(2, 100, 0)
    real = np.random.RandomState

    class Later(real):
        def shuffle(self, x):
            self.standard_normal(3)
            super().shuffle(x)

    monkeypatch.setattr(np.random, "RandomState", Later)
    assert synthetic_cssi_published.simulation(2, 100, 0) != wanted


def test_every_planned_test_is_recorded_and_descriptive(corrected):
    tests = ANALYSES["synthetic_cssi"].plan(REQUEST)
    assert sorted(t.id for t in tests) == sorted(r.id for r in corrected.records)
    assert not any(t.confirmatory for t in tests)
    assert set(corrected.tables["synthetic_cssi"]["setting"]) == set(SETTINGS)


def test_strata_gain_where_states_can_be_told_and_nowhere_else(corrected):
    of = {r.id.rsplit("/", 1)[1]: r for r in corrected.records}
    assert of["gain_with_estimated_labels"].low > 0
    assert of["gain_with_labels_of_noise"].high < 0
    assert of["gain_without_state_specific_edges"].high <= 0
    table = corrected.tables["synthetic_cssi"].query("variant == 'max'").set_index(["setting", "labels"])
    base = table.loc["base"]
    assert base["gain"].loc["true"] > base["gain"].loc["30 % shuffled"] > base["gain"].loc["50 % shuffled"]
    assert base["label_accuracy"].loc["true"] == 1.0
    # levels that differ between states mislead the pooled score even where no edge belongs to a state
    assert table.loc[("every edge in every state, levels differ", "true"), "gain_low"] > 0


def test_numbers_do_not_depend_on_which_settings_ran(corrected):
    rows, _ = synthetic_cssi._setting(
        SimulationInput(request=REQUEST), "few cells", Dials(cells=40), ["max", "mean", "deviation"], 30,
        ("true", "estimated"),
    )  # fmt: skip
    wanted = corrected.tables["synthetic_cssi"].query("setting == 'few cells'")
    assert [r[8] for r in rows] == wanted["gain"].tolist()


def test_metrics_equal_scikit_learn_under_ties():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (2, 5, 40)).astype(float)
    truth = np.zeros((5, 40), bool)
    truth[:, :7] = True
    truth = rng.permuted(truth, axis=1)
    found = metrics(scores, truth)
    for s in range(2):
        for w in range(5):
            assert found[0, s, w] == pytest.approx(roc_auc_score(truth[w], scores[s, w]), abs=1e-12)
            assert found[1, s, w] == pytest.approx(average_precision_score(truth[w], scores[s, w]), abs=1e-12)


def test_stratum_scores_are_spearman_within_strata_and_small_strata_are_left_out():
    rng = np.random.default_rng(1)
    worlds = simulate(Dials(states=3, cells=20, dropout=0.3), 2, rng)
    label = rng.integers(0, 3, (2, 60))
    label[0, label[0] == 2] = 1
    label[0, :4] = 2
    found, size = stratum_scores(gene_ranks(worlds.values), label, 3)
    assert size[0].tolist() == [int((label[0] == 0).sum()), int((label[0] == 1).sum()), 0]
    assert not found[0, 2].any()
    for w, k, i, j in ((0, 0, 0, 3), (0, 1, 4, 24), (1, 2, 2, 11), (1, 0, 1, 0)):
        here = worlds.values[w, label[w] == k]
        rho = abs(spearmanr(here[:, i], here[:, 5 + j]).statistic)
        assert found[w, k, i * N_TARGETS + j] == pytest.approx(rho, abs=1e-12)


def test_k_means_finds_what_scikit_learn_finds():
    worlds = simulate(Dials(separation=1.0), 6, np.random.default_rng(2))
    mine = k_means(worlds.values, 6, np.random.default_rng(3), starts=6)
    for values, label in zip(worlds.values, mine):
        theirs = KMeans(6, n_init=6, random_state=0).fit(values)
        centre = np.stack([values[label == k].mean(0) for k in range(6)])
        assert ((values - centre[label]) ** 2).sum() < 1.01 * theirs.inertia_
        assert adjusted_rand(worlds.state, label) == pytest.approx(adjusted_rand_score(worlds.state, label), abs=1e-12)


def test_simulated_edges_are_alive_where_they_should_be():
    dials = Dials(states=3, cells=4000, edges=4, shared=0.5, effect=1.0)
    worlds = simulate(dials, 1, np.random.default_rng(4))
    scores, _ = stratum_scores(gene_ranks(worlds.values), worlds.state[None], 3)
    alive = scores[0] > 0.3
    assert worlds.truth.sum() == dials.n_true == 8
    assert alive.sum(axis=1).tolist() == [4, 4, 4]
    assert alive.all(axis=0).sum() == 2
    assert (alive.any(axis=0) == worlds.truth[0]).all()


def test_label_noise_shuffles_as_many_labels_as_asked():
    state = np.repeat(np.arange(10), 50)
    label = noisy(state, 0.3, 20, np.random.default_rng(5))
    assert (np.sort(label, axis=1) == state).all()
    assert (label != state).mean() == pytest.approx(0.3 * 0.9, abs=0.02)


def test_the_gain_without_states_keeps_its_level():
    """Type-I error: every edge in every state and labels that are noise cannot give a gain."""
    inp = SimulationInput(request=replace(REQUEST, settings=StatisticsSettings(seed=7)))
    _, gains = synthetic_cssi._setting(inp, "null", Dials(shared=1.0, effect=0.2, separation=0.0), ["max"], 60,
                                       ("estimated",))  # fmt: skip
    assert gains["estimated", "max"].mean() < 0


def test_a_simulation_is_planned_once_per_study():
    plan = Plan.from_options(analyses=["reference_recovery", "synthetic_cssi"], references=["bundled:dorothea"])
    found = [(p.spec.name, p.request.model) for p in plan_analyses(plan)]
    assert found.count(("synthetic_cssi", SIMULATION)) == 1
    assert [name for name, _ in found].count("reference_recovery") == 2
    assert not any(t.confirmatory for p in plan_analyses(plan) if p.spec.scope == "simulation" for t in p.tests)
