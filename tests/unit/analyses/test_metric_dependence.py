"""Dependence on the metric: values as in the libraries, ceilings that a perfect score reaches, disputes flagged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from regulens.analyses.base import StatisticsSettings
from regulens.analyses.common import edges_of
from regulens.analyses.concordance import kendall_w, tau_matrix
from regulens.analyses.metric_dependence import SPEC, depths, orderings
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores

FAST = StatisticsSettings(bootstrap=200, permutations=50)


@pytest.fixture(scope="module")
def given():
    return make_world("planted_pairs", seed=1).input(settings=FAST)


@pytest.fixture(scope="module")
def grid(given):
    return SPEC.run(given).tables["metric_grid"]


def with_scores(inp, values):
    made = {
        d: EdgeScores(
            values=np.broadcast_to(values, s.values.shape), observed=s.observed, names=s.names, genes=s.genes,
            regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in inp.attention.items()
    }  # fmt: skip
    return replace(inp, attention=made)


def one(grid, metric, k=None, score="pooled"):
    rows = grid[(grid["score"] == score) & (grid["metric"] == metric)]
    rows = rows if k is None else rows[rows["k"] == k]
    (row,) = rows.to_dict("records")
    return row


def test_values_are_those_of_the_libraries(given, grid):
    edges = edges_of(given, given.primary)
    y, x = edges.label, edges.scores[0]
    assert one(grid, "auroc")["value"] == pytest.approx(roc_auc_score(y, x), abs=1e-12)
    assert one(grid, "partial_auroc")["value"] == pytest.approx(roc_auc_score(y, x, max_fpr=0.1), abs=1e-12)
    wanted = average_precision_score(y, x) / y.mean()
    assert one(grid, "auprc_ratio")["value"] == pytest.approx(wanted, rel=1e-12)
    called = np.zeros(len(y), dtype=bool)
    called[np.argsort(-x)[:100]] = True
    assert one(grid, "f1_at_k", 100)["value"] == pytest.approx(f1_score(y, called), abs=1e-12)
    assert one(grid, "precision_at_k", 100)["value"] == pytest.approx(y[called].mean(), abs=1e-12)


def test_a_perfect_score_reaches_every_ceiling(given):
    found = SPEC.run(with_scores(given, given.universe.positive.astype(float))).tables["metric_grid"]
    own = found[found["score"] == "pooled"]
    np.testing.assert_allclose(own["value"], own["ceiling"], rtol=1e-12)


def test_a_constant_score_is_at_chance_everywhere(given):
    found = SPEC.run(with_scores(given, np.full(given.universe.candidate.shape, 0.5))).tables["metric_grid"]
    own = found[found["score"] == "pooled"]
    np.testing.assert_allclose(own["value"], own["chance"], rtol=1e-9)


def test_nothing_exceeds_its_ceiling(grid):
    assert (grid["value"] <= grid["ceiling"] + 1e-12).all()
    n_pos = grid.loc[grid["metric"] == "epr", "k"].iloc[0]
    assert one(grid, "f1_at_k", 2 * n_pos)["ceiling"] == pytest.approx(2 / 3)


def test_depths_that_do_not_fit_are_left_out():
    assert depths(3, 10, [2, 20], [0.1, 1, 5]) == {2: 2 / 3, 3: 1.0}


def test_a_dispute_of_metrics_is_flagged(given):
    """Attention that has a few positives on top and the rest at the bottom: precision praises it, AUROC does not."""
    rng = np.random.default_rng(0)
    values = rng.random(given.universe.candidate.shape)
    i, j = np.nonzero(given.universe.positive & given.primary.observed)
    values[i, j] -= 2.0
    values[i[:20], j[:20]] += 4.0
    found = SPEC.run(with_scores(given, values))
    row = found.tables["metric_signs"].set_index("rival").loc["coexpression_abs"]
    assert row["disagree"]
    assert "precision_at_k 20" in row["ahead_by"]
    assert row["behind_by"].startswith("auroc")
    assert row["n_ahead"] + row["n_behind"] + row["n_equal"] == row["n_metrics"]
    assert "coexpression_abs" in found.facts["disputed"]
    perfect = SPEC.run(with_scores(given, given.universe.positive.astype(float)))
    assert not perfect.tables["metric_signs"]["disagree"].any()


def test_orders_leave_out_what_only_repeats_precision(grid):
    wide = orderings(grid)
    assert not any(c.startswith(("f1", "epr")) for c in wide.columns)
    assert wide.index[0] == "pooled"
    k = grid.loc[grid["metric"] == "f1_at_k", "k"].iloc[0]
    f1 = grid[(grid["metric"] == "f1_at_k") & (grid["k"] == k)]["place"].to_numpy()
    precision = grid[(grid["metric"] == "precision_at_k") & (grid["k"] == k)]["place"].to_numpy()
    assert np.array_equal(f1, precision)


def test_kendall_w_follows_from_the_mean_spearman_without_ties():
    values = np.random.default_rng(0).normal(size=(5, 12))
    rho = spearmanr(values.T).statistic
    mean = rho[np.triu_indices(5, k=1)].mean()
    assert kendall_w(values) == pytest.approx((1 + 4 * mean) / 5, abs=1e-12)


def test_kendall_w_with_ties_and_without_judges():
    # hand-worked: ranks (1.5, 1.5, 3), (1, 2, 3); rank sums 2.5, 3.5, 6; S = 6.5; W = 78 / (4 * 24 - 2 * 6)
    assert kendall_w(np.array([[1.0, 1.0, 2.0], [1.0, 2.0, 3.0]])) == pytest.approx(78 / 84)
    assert np.isnan(kendall_w(np.ones((3, 4))))
    assert np.isnan(kendall_w(np.array([[1.0, 2.0]])))
    tau = tau_matrix(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    assert np.isnan(tau[0, 1])
    assert tau[0, 0] == 1.0


def test_there_is_no_test_and_no_record(given):
    assert SPEC.plan(given.request) == ()
    assert SPEC.run(given).records == ()


def test_numbers_are_the_same_again_and_inputs_are_not_written_to(given, grid):
    before = given.primary.values.copy()
    pd.testing.assert_frame_equal(SPEC.run(given).tables["metric_grid"], grid)
    assert np.array_equal(before, given.primary.values)


def test_transposed_attention_falls_in_place():
    world = make_world("planted_pairs", seed=1)
    a, b = (one(SPEC.run(w.input(settings=FAST)).tables["metric_grid"], "auroc") for w in (world, world.transposed()))
    assert a["place"] < b["place"]


@pytest.mark.parametrize("case", ["no positives", "all positives", "one regulator", "ten pairs"])
def test_too_little_data_is_refused(case, given):
    u = given.universe
    candidate, positive = u.candidate, np.zeros_like(u.positive)
    if case == "all positives":
        positive = candidate
    if case == "one regulator":
        positive[0, 5:30] = candidate[0, 5:30]
    if case == "ten pairs":
        candidate = candidate & (np.cumsum(candidate).reshape(candidate.shape) <= 10)
        positive = candidate & u.positive
    found = SPEC.run(replace(given, universe=replace(u, candidate=candidate, positive=positive)))
    assert "needed" in found.facts["refused"]
    assert all(t.empty for t in found.tables.values())
