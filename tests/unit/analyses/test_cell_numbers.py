"""Numbers of cells and mixtures of states: draws, slopes and errors against loops and planted worlds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from regulens.analyses import cell_count_scaling, composition_control
from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.analyses.cell_count_scaling import slopes
from regulens.analyses.common import edges_of
from regulens.analyses.composition_control import arm_weights, entropy, mixtures, two_way_weights
from regulens.analyses.nested_draws import (
    areas,
    grid_of_sizes,
    groups_of_blocks,
    load_blocks,
    met_in_all,
    nested_orders,
    prefixes,
)
from regulens.stats.jackknife import auroc_difference_deviations
from regulens.testing.worlds import make_world
from regulens.types.endpoints import Protocol
from regulens.types.estimates import Estimate, Undefined

NAMES = ("cell_count_scaling", "composition_control")
SMALL = {"n_regulators": 25, "n_genes": 100, "n_edges": 120, "n_layers": 1, "n_heads": 1}
FAST = StatisticsSettings(bootstrap=300)


def world(kind, seed=1, **changed):
    return make_world(kind, seed=seed, **SMALL | changed).input(settings=FAST)


@pytest.fixture(scope="module")
def helps():
    return world("more_cells_help")


@pytest.fixture(scope="module")
def outcomes(helps):
    return {n: ANALYSES[n].run(helps) for n in NAMES}


def records(outcome):
    return {r.id.rsplit("/", 1)[1]: r for r in outcome.records}


def test_draws_are_nested_and_keep_the_composition():
    group = np.repeat([0, 1, 2], [12, 8, 4])
    orders = nested_orders(group, 5, np.random.default_rng(0))
    sizes = grid_of_sizes(24, 6)
    weight = prefixes(orders, sizes).reshape(5, len(sizes), 24)
    assert (np.diff(weight, axis=1) >= 0).all()
    assert (weight.sum(axis=2) == sizes).all()
    for r in range(5):
        for s, size in enumerate(sizes):
            share = np.bincount(group, weights=weight[r, s], minlength=3)
            assert np.abs(share - size * np.array([12, 8, 4]) / 24).max() <= 1.0 + 1e-9
    assert not np.array_equal(orders[0], orders[1])


def test_slopes_are_those_of_least_squares_within_replicates():
    rng = np.random.default_rng(1)
    x, y = np.log(rng.integers(10, 900, (4, 6))), rng.normal(size=(4, 6))
    wanted = np.mean([np.polyfit(a, b, 1)[0] for a, b in zip(x, y)])
    assert slopes(x) @ y.ravel() == pytest.approx(wanted)


def test_areas_of_unions_and_their_sums(helps):
    edges = edges_of(helps, helps.primary)
    scores = load_blocks(helps, edges)
    weight = np.eye(len(scores.cells))[:2] + np.eye(len(scores.cells))[2:4]
    keep = met_in_all(scores, weight)
    part, own = scores.at(pairs=keep), edges.restrict(keep)
    for e in (0, 17):
        assert all(scores.counts[w > 0][:, keep][:, e].sum() > 0 for w in weight)
    value = part.means(weight)[0]
    found = areas(value, own)
    for u in range(2):
        assert found.deviations.estimate[u] == pytest.approx(roc_auc_score(own.label, value[u]), abs=1e-12)
    gap = found.combined(np.array([[1.0, -1.0]]))
    wanted = auroc_difference_deviations(value[:1], value[1], own.label, own.regulator, own.target)
    for name in ("estimate", "regulator", "target", "edge_variance"):
        np.testing.assert_allclose(getattr(gap, name), getattr(wanted, name), atol=1e-12)


def test_more_cells_help_where_noise_is_of_cells(outcomes):
    found = records(outcomes["cell_count_scaling"])
    assert found["slope_of_log_cells"].low > 0
    assert found["best_size_above_all_cells"].p_raw > 0.5
    table = outcomes["cell_count_scaling"].tables["scaling_mean"]
    assert (np.diff(table["auroc"]) > 0).all()
    fits = outcomes["cell_count_scaling"].tables["scaling_fits"].set_index("family")
    assert fits.loc["constant", "akaike_weight"] < 0.01
    assert fits["replicates_best"].sum() == 12
    assert fits["akaike_weight"].sum() == pytest.approx(1)


def test_positives_are_the_same_at_every_size(outcomes):
    table = outcomes["cell_count_scaling"].tables["scaling"]
    assert table["prevalence"].nunique() == 1
    last = table.groupby("replicate").tail(1)
    assert last["auroc"].nunique() == 1  # all cells are all cells in every draw


def test_flat_worlds_show_no_change():
    flat = ANALYSES["cell_count_scaling"].run(world("cells_flat"))
    table = flat.tables["scaling_mean"]
    assert np.ptp(table["auroc"]) < 1e-3
    assert all(r.p_raw is None or r.p_raw > 0.05 for r in flat.records)


def test_missing_as_zero_makes_a_rise_where_there_is_none():
    """The published procedure is the broken twin: in a flat world it finds that more cells help."""
    inp = make_world("cells_flat", seed=1).input(settings=FAST)
    published = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    table = cell_count_scaling.run(published).tables["scaling_published"].sort_values("n_cells")
    assert table["auroc"].iloc[-2:].mean() > table["auroc"].iloc[:2].mean() + 0.01
    assert ANALYSES["cell_count_scaling"].plan(published.request) == ()


@pytest.mark.parametrize("kind", ["no_signal", "hubs_only"])
def test_levels_in_worlds_without_an_effect_of_cells(kind):
    found = [
        records(ANALYSES["cell_count_scaling"].run(world(kind, seed=s, n_cells=240, n_genes=80))) for s in range(8)
    ]
    rejected = sum(r["slope_of_log_cells"].p_raw is not None and r["slope_of_log_cells"].p_raw < 0.05 for r in found)
    assert rejected <= 2  # 8 worlds at 5 %: more than 2 in 1 of 170 suites
    assert sum((r["best_size_above_all_cells"].p_raw or 1.0) < 0.05 for r in found) <= 2


def test_entropy_and_two_way_weights():
    states, cells = np.array([0, 1, 1]), np.array([10.0, 5.0, 5.0])
    found = entropy(states, cells, np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))
    np.testing.assert_allclose(found, [np.log(2), -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)), 0.0], atol=1e-12)
    rng = np.random.default_rng(2)
    n, h = rng.integers(50, 600, 40).astype(float), rng.random(40)
    x, z = np.log(n) - np.log(n).mean(), h - h.mean()
    y = 3 + 0.5 * x - 2 * z + 0.7 * x * z
    np.testing.assert_allclose(two_way_weights(n, h) @ y, [0.5, -2, 0.7], rtol=1e-9)
    assert two_way_weights(np.full(40, 100.0), h) is None


def test_effects_within_arms():
    rng = np.random.default_rng(3)
    arm, replicate = np.repeat([0, 1, 2], 12), np.tile(np.repeat([0, 1, 2], 4), 3)
    n = np.where(arm == 0, np.tile([50.0, 100, 200, 400], 9), np.where(arm == 1, 100.0, 200.0))
    h = np.where(arm == 0, 1.0, rng.random(36))
    y = 0.1 * np.log(n) + (0.3 + 0.2 * np.log(n / 100)) * h
    weights = arm_weights(arm, replicate, n, h)
    assert weights[0] @ y == pytest.approx(0.1 + 0.2)  # composition of entropy 1: the line of ln n there
    assert weights[2] @ y == pytest.approx(0.2)
    assert 0.3 < weights[1] @ y < 0.3 + 0.2 * np.log(2)
    assert arm_weights(arm, replicate, n, np.ones(36)) is None


def test_mixtures_have_their_size_and_states():
    states, donors = np.repeat([0, 1, 2], [6, 4, 2]), np.tile([0, 1], 6)
    weight, replicate = mixtures(states, donors, 4, 3, np.random.default_rng(4))
    assert (weight.sum(axis=1) == 4).all()
    n_states = (weight @ (states[:, None] == np.arange(3)) > 0).sum(axis=1)
    assert n_states.tolist() == [1] * 3 + [2] * 3
    assert replicate.tolist() == [0, 1, 2] * 2
    assert not weight[:, states == 2].any()  # the state of two blocks cannot fill a draw alone
    assert ((weight[:3] @ (donors[:, None] == np.arange(2))) == 2).all()
    assert ((weight[3:] @ (states[:, None] == np.arange(2))) == 2).all()


def test_number_and_mixture_are_told_apart(outcomes):
    found = records(outcomes["composition_control"])
    assert found["effect_of_cell_number"].low > 0
    assert found["effect_of_composition"].low < 0 < found["effect_of_composition"].high
    other = composition_control.run(world("state_specific"))
    found = records(other)
    assert found["effect_of_cell_number"].low < 0 < found["effect_of_cell_number"].high
    draws = other.tables["composition"].query("n_states == 1")
    # one state has the edges: draws of a single state differ by which it is, and the error says so
    assert draws["auroc"].max() > draws["auroc"].min() + 0.1
    terms = other.tables["composition_model"].query("model == 'within arms'").set_index("term")
    assert terms.loc["entropy", "se_draws"] > terms.loc["entropy", "se_genes"]


@pytest.mark.parametrize("name", NAMES)
def test_every_test_is_recorded_and_numbers_repeat(name, helps, outcomes):
    planned = [t.id for t in ANALYSES[name].plan(helps.request)]
    assert sorted(planned) == sorted(r.id for r in outcomes[name].records)
    module = {"cell_count_scaling": cell_count_scaling, "composition_control": composition_control}[name]
    again = ANALYSES[name].run(helps)
    for table, columns in module.TABLES.items():
        assert list(outcomes[name].tables[table].columns) == columns
        pd.testing.assert_frame_equal(again.tables[table], outcomes[name].tables[table])
    assert all(isinstance(r.estimate, Estimate) for r in outcomes[name].results)


def test_composition_is_descriptive(helps):
    assert not any(t.confirmatory for t in ANALYSES["composition_control"].plan(helps.request))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["no attention", "no positives", "few blocks", "one state", "constant"])
def test_too_little_is_undefined_with_its_reason(name, case, helps):
    inp, view = helps, helps.partitions
    if case == "no attention":
        inp = replace(inp, partitions=None)
    if case == "no positives":
        inp = replace(inp, universe=replace(inp.universe, positive=np.zeros_like(inp.universe.positive)))
    if case == "few blocks":
        summary = replace(
            view.summary, sums=np.asarray(view.summary.sums)[:2], counts=np.asarray(view.summary.counts)[:2],
            partitions=view.table.iloc[:2], cell_partition=np.where(view.cell_partition < 2, view.cell_partition, -1),
        )  # fmt: skip
        inp = replace(inp, partitions=replace(view, summary=summary, cell_partition=summary.cell_partition))
    if case == "one state":
        summary = replace(view.summary, partitions=view.table.assign(cell_state="a"))
        inp = replace(inp, partitions=replace(view, summary=summary))
    if case == "constant":
        counts = np.asarray(view.summary.counts)
        sums = np.broadcast_to(counts[:, None, None, None] * 0.5, np.asarray(view.summary.sums).shape)
        inp = replace(inp, partitions=replace(view, summary=replace(view.summary, sums=sums)))
    found = ANALYSES[name].run(inp)
    assert sorted(r.id for r in found.records) == sorted(t.id for t in ANALYSES[name].plan(inp.request))
    if (name, case) == ("cell_count_scaling", "one state"):
        assert all(isinstance(r.estimate, Estimate) for r in found.results)
        return
    assert all(r.p_raw is None and r.undefined for r in found.records)
    assert all(isinstance(r.estimate, Undefined) for r in found.results)


def test_groups_are_state_and_donor():
    table = pd.DataFrame({"cell_state": ["a", "a", "b"], "donor": ["x", "y", "x"], "n_cells": [5, 5, 5]})
    assert len(np.unique(groups_of_blocks(table))) == 3
    assert groups_of_blocks(table[["n_cells"]]).tolist() == [0, 0, 0]
