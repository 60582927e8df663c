"""Strata: merged scores against loops, planted states found, shuffled labels not, refusals with reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from regulens.analyses import cssi
from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.analyses.blocks import BlockScores, block_sums
from regulens.analyses.common import edges_of
from regulens.analyses.cssi_folds import gains, halves_of_blocks, make_folds, usable
from regulens.analyses.cssi_margins import stratified_margins
from regulens.analyses.strata_labels import by_size, expression_space, leiden, majority, neighbour_graph, ward
from regulens.nulls.label_permuted_strata import permuted_strata
from regulens.scorers.stratified import combine
from regulens.testing.worlds import make_world
from regulens.types.endpoints import Protocol
from regulens.types.estimates import Estimate, Undefined

FAST = {"draws": 60, "null_negatives": 1500, "strata": ["annotation"], "primary_strata": "annotation",
        "variants": ["max", "mean", "deviation", "excess", "lower"]}  # fmt: skip
SMALL = {"n_regulators": 25, "n_genes": 90, "n_edges": 90, "n_layers": 2, "n_heads": 1}


def run(inp, **changed):
    return cssi.run(replace(inp, parameters=FAST | changed))


@pytest.fixture(scope="module")
def specific():
    return make_world("state_specific", seed=2, n_regulators=30, n_genes=150, n_edges=220, n_layers=2, n_heads=1).input(
        settings=StatisticsSettings()
    )


@pytest.fixture(scope="module")
def outcome(specific):
    return run(specific)


def blocks(seed=0, n_blocks=6, n_pairs=50, min_cells=3):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (n_blocks, n_pairs)).astype(float)
    return BlockScores(
        sums=counts * rng.random((n_blocks, n_pairs)), counts=counts, cells=rng.integers(4, 30, n_blocks).astype(float),
        min_cells=min_cells,
    )  # fmt: skip


def test_strata_are_means_over_their_blocks_and_lacking_pairs_take_the_pooled_score():
    b = blocks()
    labels = np.array([0, 0, 1, 1, 1, -1])
    made = b.strata(labels, 2)
    pooled = b.sums.sum(0) / b.counts.sum(0)
    imputed = 0
    for k in range(2):
        for e in range(50):
            n = b.counts[labels == k, e].sum()
            wanted = b.sums[labels == k, e].sum() / n if n >= 3 else pooled[e]
            imputed += n < 3
            assert made.scores[k, e] == pytest.approx(wanted, rel=1e-12)
        assert made.sizes[k] == b.cells[labels == k].sum()
    assert b.imputed_share(labels, 2) == pytest.approx(imputed / 100)


def test_many_labellings_at_once_are_each_alone():
    b, rng = blocks(1), np.random.default_rng(2)
    labels = rng.integers(-1, 3, (7, 6))
    together = b.strata(labels, 3, errors=True)
    for d in range(7):
        alone = b.strata(labels[d], 3, errors=True)
        np.testing.assert_allclose(together.scores[d], alone.scores)
        np.testing.assert_allclose(together.se[d], alone.se)


def test_standard_errors_are_the_spread_of_blocks_within_strata():
    b = blocks(3, min_cells=0)
    labels = np.array([0, 0, 0, 1, 1, 1])
    se, e = b.strata(labels, 2, errors=True).se, 7
    c, m = b.counts[:, e], np.divide(b.sums[:, e], b.counts[:, e], out=np.zeros(6), where=b.counts[:, e] > 0)
    rss = df = 0.0
    for k in range(2):
        own = (labels == k) & (c > 0)
        centre = np.average(m[own], weights=c[own])
        rss += (c[own] * (m[own] - centre) ** 2).sum()
        df += own.sum() - 1
    assert se[0, e] == pytest.approx(np.sqrt(rss / df / c[labels == 0].sum()))


def test_block_sums_of_a_head_a_layer_and_all_agree(specific):
    view, d = specific.partitions, specific.request.direction
    layers = [block_sums(view, f"L0{l}_mean", direction=d) for l in range(2)]
    np.testing.assert_allclose(block_sums(view, "pooled", direction=d), (layers[0] + layers[1]) / 2)
    np.testing.assert_allclose(block_sums(view, "L01_H00", direction=d), layers[1])
    assert not np.allclose(layers[1], block_sums(view, "L01_mean", direction="target_attends"))


def test_gains_equal_scikit_learn():
    b, rng = blocks(4), np.random.default_rng(5)
    label, labels = rng.random(50) < 0.3, rng.integers(0, 2, (3, 6))
    found = gains(b, label, labels, 2, ("max", "range"))
    for v, variant in enumerate(("max", "range")):
        for d in range(3):
            joined = combine(b.strata(usable(labels[d], b.cells, 2), 2), variant)
            wanted = roc_auc_score(label, joined) - roc_auc_score(label, b.pooled)
            assert found[v, d] == pytest.approx(wanted, abs=1e-12)


def test_planted_states_are_found_beyond_shuffled_labels(outcome):
    of = {r.id.rsplit("/", 1)[1]: r for r in outcome.records}
    assert of["gain_above_pooled"].low > 0
    assert of["gain_above_shuffled_labels"].low > 0
    assert of["gain_rank_among_shuffled_labels"].p_raw < 0.05
    assert outcome.facts["purity"] == 1.0 and outcome.facts["halves_by"] == "donor" and outcome.facts["n_turns"] == 4
    nulls = outcome.tables["cssi_nulls"].set_index("null")
    assert (nulls["gain"] > nulls["null_q95"]).all()


def test_states_that_mean_nothing_give_nothing_beyond_shuffled_labels():
    found = run(make_world("planted_pairs", seed=3, n_cells=240, **SMALL).input())
    of = {r.id.rsplit("/", 1)[1]: r for r in found.records}
    assert of["gain_above_shuffled_labels"].p_raw > 0.05
    assert of["gain_above_pooled"].p_raw > 0.05
    assert "strata" in found.results[0].step and isinstance(found.results[0].estimate, Estimate)


def test_labels_exchanged_between_states_lose_the_gain(specific, outcome):
    """Broken twin: the same analysis with cells filed under random blocks' states."""
    table = specific.partitions.table
    other = permuted_strata(
        table["cell_state"].to_numpy().astype(str), donor=table["donor"].to_numpy().astype(str),
        size=table["n_cells"].to_numpy(float), draws=1, rng=np.random.default_rng(3), tolerance=2.0,
    )  # fmt: skip
    obs = specific.obs.copy()
    obs["cell_state"] = other.strata[other.labels[0]][specific.partitions.cell_partition]
    twin = run(replace(specific, obs=obs))
    beyond = [float(o.tables["cssi"].loc[0, "beyond"]) for o in (outcome, twin)]
    assert beyond[1] < beyond[0] / 2


def test_every_test_is_recorded_and_tables_are_as_agreed(specific, outcome):
    planned = [t.id for t in ANALYSES["cssi"].plan(specific.request)]
    assert sorted(planned) == sorted(r.id for r in outcome.records)
    for name, columns in cssi.TABLES.items():
        assert list(outcome.tables[name].columns) == columns
        assert len(outcome.tables[name]), name


def test_the_same_numbers_twice_and_with_blocks_in_any_order(specific, outcome):
    again = run(specific)
    for name, table in outcome.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


def test_transposed_attention_does_not_carry_the_planted_states():
    world = make_world("state_specific", seed=2, **SMALL)
    found = run(world.transposed().input())
    of = {r.id.rsplit("/", 1)[1]: r for r in found.records}
    assert of["gain_above_shuffled_labels"].p_raw > 0.01


def test_folds_share_no_cell_and_no_regulator(specific):
    edges = edges_of(specific, specific.primary)
    rng = np.random.default_rng(6)
    half, apart = halves_of_blocks(specific.partitions.table, rng)
    folds, reason = make_folds(edges, half, negatives=100, rng=rng)
    assert apart == "donor" and not reason and len(folds) == 4
    for f in folds:
        assert not set(f.train_blocks) & set(f.held_blocks)
        assert not set(edges.regulator[f.train_pairs]) & set(edges.regulator[f.held_pairs])
        assert edges.label[f.sample].sum() == edges.label[f.held_pairs].sum()
        assert len(f.sample) == edges.label[f.sample].sum() + 100
    donor = specific.partitions.table["donor"].to_numpy()
    assert not set(donor[half == 0]) & set(donor[half == 1])


def test_without_donors_every_state_is_in_both_halves(specific):
    table = specific.partitions.table.assign(donor="all")
    half, apart = halves_of_blocks(table, np.random.default_rng(7))
    assert apart == "block"
    for state in set(table["cell_state"]):
        mine = half[(table["cell_state"] == state).to_numpy()]
        assert abs((mine == 0).sum() - (mine == 1).sum()) <= 1


def test_estimated_strata_find_states_that_expression_tells():
    rng = np.random.default_rng(8)
    truth = np.repeat(np.arange(3), 60)
    space = rng.normal(size=(180, 5)) + 6 * np.eye(3, 5)[truth]
    label = leiden(space, seed=1)
    pytest.importorskip("igraph", reason="Leiden needs igraph, in the extra 'demo'")
    coarse = leiden(space, resolution=0.1, seed=1)
    assert adjusted_rand_score(truth, coarse) == 1.0
    assert len(np.unique(label)) >= 3
    np.testing.assert_array_equal(leiden(space, seed=1), label)
    assert adjusted_rand_score(truth, ward(space, 3)) == 1.0
    assert (np.diff(np.bincount(by_size(truth[:100]))) <= 0).all()
    graph = neighbour_graph(space, k=10)
    assert (graph.row < graph.col).all() and 0 < graph.data.min() <= graph.data.max() <= 1


def test_blocks_take_the_majority_and_purity_says_what_was_lost():
    label = np.array(["x", "x", "y", "y", "y", "z"])
    made = majority(label, np.array([0, 0, 0, 1, 1, -1]), 3)
    assert made.label.tolist() == [0, 1, -1]
    assert made.names == ("x", "y") and made.n_cell_labels == 2
    assert made.purity == pytest.approx(4 / 5)
    assert made.block_purity.tolist() == pytest.approx([2 / 3, 1, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("one state", "no half of the cells has two strata"),
        ("no states", "no column of the cells was named for states"),
        ("one block", "a half of the cells has"),
        ("no attention", "no attention by cell"),
        ("no positives", "positives among the observed pairs"),
        ("no embedding", "no cell embedding"),
    ],
)
def test_too_little_is_undefined_with_its_reason(specific, change, words):
    inp, changed = specific, {}
    if change == "one state":
        inp = replace(inp, obs=inp.obs.assign(cell_state="a"))
    if change == "no states":
        inp = replace(inp, obs=inp.obs.drop(columns="cell_state"))
    if change == "one block":
        view = inp.partitions
        summary = replace(
            view.summary, sums=np.asarray(view.summary.sums)[:1], counts=np.asarray(view.summary.counts)[:1],
            partitions=view.table.iloc[:1], cell_partition=np.where(view.cell_partition == 0, 0, -1),
        )  # fmt: skip
        inp = replace(inp, partitions=replace(view, summary=summary, cell_partition=summary.cell_partition))
    if change == "no attention":
        inp = replace(inp, partitions=None)
    if change == "no positives":
        inp = replace(inp, universe=replace(inp.universe, positive=np.zeros_like(inp.universe.positive)))
    if change == "no embedding":
        changed = {"strata": ["embedding"], "primary_strata": "embedding"}
    found = run(inp, **changed)
    assert sorted(r.id for r in found.records) == sorted(t.id for t in ANALYSES["cssi"].plan(inp.request))
    primary = [r for r in found.records if not r.id.endswith("annotated_gain_above_pooled")]
    assert all(r.p_raw is None for r in primary)
    assert any(words in r.undefined for r in primary), primary
    assert isinstance(found.results[0].estimate, Undefined)
    assert found.facts["refused"]


def test_a_constant_score_is_no_gain(specific):
    view = specific.partitions
    counts = np.asarray(view.summary.counts)
    sums = np.broadcast_to(counts[:, None, None, None] * 0.5, np.asarray(view.summary.sums).shape)
    inp = replace(specific, partitions=replace(view, summary=replace(view.summary, sums=sums)))
    found = run(inp)
    assert found.tables["cssi"]["gain"].abs().max() == 0
    assert all(r.p_raw is None or r.p_raw == 1 for r in found.records)


def test_the_embedding_is_asked_for_only_where_strata_need_it(specific):
    calls = []

    def embedding():
        calls.append(1)
        return expression_space(specific.expression)

    inp = replace(specific, embedding=embedding)
    run(inp)
    assert not calls
    found = run(inp, strata=["embedding"], primary_strata="embedding", clustering="ward", ward_clusters=3)
    assert calls
    assert found.tables["cssi"]["strata"].tolist() == ["embedding"]


def test_published_protocol_is_a_reproduction(specific):
    inp = replace(specific, request=replace(specific.request, protocol=Protocol.PUBLISHED))
    assert ANALYSES["cssi"].plan(inp.request) == ()
    found = cssi.run(inp).tables["cssi_published"]
    assert (found["gain"] == found["auroc_strata"] - found["auroc_pooled"]).all()
    assert found["layer"].tolist() == ["L00_mean", "L01_mean"]


def test_margins_are_means_over_met_pairs_of_a_stratum():
    b, rng = blocks(8, n_blocks=6, n_pairs=60, min_cells=6), np.random.default_rng(9)
    regulator, target = np.repeat(np.arange(6), 10), np.tile(np.arange(10), 6)
    labels = np.array([0, 0, 1, 1, 1, -1])
    made = b.strata(labels, 2, errors=True)
    for additive in (False, True):
        found = stratified_margins(b, made, labels, 2, regulator, target, additive=additive)
        lacking = 0
        for k in range(2):
            met = b.counts[labels == k].sum(0) >= 6
            for e in rng.choice(60, 25, replace=False):
                own, values = (met, made.scores[k]) if met[e] else (b.counts.sum(0) > 0, made.pooled)
                row, column = (values[own & (gene == gene[e])].mean() for gene in (regulator, target))
                mean = values[own].mean()
                wanted = row + column - mean if additive else row * column / mean
                assert found.scores[k, e] == pytest.approx(wanted, rel=1e-9)
                lacking += not met[e]
        assert lacking and found.se.shape == made.se.shape and (found.se > 0).any()
        np.testing.assert_array_equal(found.sizes, made.sizes)
    for one in ("regulator", "target"):
        genes = {"regulator": regulator, "target": target} | {one: np.zeros(60, dtype=int)}
        assert one in stratified_margins(b, made, labels, 2, **genes, additive=False)


def test_scores_that_are_margins_have_nothing_above_them():
    regulator, target = np.repeat(np.arange(8), 15), np.tile(np.arange(15), 8)
    rng, labels = np.random.default_rng(10), np.array([0, 0, 1, 1])
    counts, by_state = np.full((4, 120), 9.0), rng.lognormal(size=(2, 8))[:, regulator] * rng.random((2, 15))[:, target]
    b = BlockScores(sums=counts * by_state[labels], counts=counts, cells=np.full(4, 9.0), min_cells=3)
    made = b.strata(labels, 2)
    margins = stratified_margins(b, made, labels, 2, regulator, target, additive=False)
    np.testing.assert_allclose(margins.scores, made.scores, rtol=1e-9)
    own = replace(b, sums=b.sums * np.where(rng.random(120) < 0.2, 3.0, 1.0))  # broken twin: pairs of their own
    twin = stratified_margins(own, own.strata(labels, 2), labels, 2, regulator, target, additive=False)
    assert not np.allclose(twin.scores, own.strata(labels, 2).scores, rtol=0.05)


def test_states_that_only_genes_mark_do_not_lead_their_margins(outcome):
    """The reference follows markers of states: the strata lead pooled and shuffled scores, not their own margins."""
    of = {r.id.rsplit("/", 1)[1]: r for r in outcome.records}
    assert of["gain_above_margins"].low > 0  # pairs in one state
    row = outcome.tables["cssi"].iloc[0]
    assert row["above_margins"] == pytest.approx(row["auroc_strata"] - row["auroc_margins"])
    marked = run(make_world("composition", seed=1).input())
    of = {r.id.rsplit("/", 1)[1]: r for r in marked.records}
    assert of["gain_above_pooled"].low > 0 and of["gain_above_shuffled_labels"].low > 0
    assert of["gain_above_margins"].p_raw > 0.5
