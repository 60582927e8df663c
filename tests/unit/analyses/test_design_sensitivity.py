"""The grid of designs: levels the data can give, numbers of the study's own design, the model run again, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses.base import StatisticsSettings
from regulens.analyses.design_labels import comparisons, with_enough_cells
from regulens.analyses.design_scores import levels_of, primary_map, set_scores, way_of
from regulens.analyses.design_sensitivity import DESIGNS, SPEC, TABLES
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.errors import ParameterError
from regulens.scorers.attention import attention_scores
from regulens.stats.screen_effects import effects_of
from regulens.testing.worlds.screens import make_screen_input, make_screen_world
from regulens.types.endpoints import Endpoint
from regulens.types.screens import LabelRule

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SETTINGS = StatisticsSettings(bootstrap=100, permutations=99)
SMALL = {"controls": [100, 400], "genes": [60, 120], "min_effect": [0.25, 0.5]}
SIZE = {"n_perturbations": 20, "n_genes": 120}


def made(kind, *, parameters=SMALL, **options):
    inp = make_screen_input(kind, seed=2, settings=SETTINGS, **SIZE, **options)
    return replace(inp, parameters=dict(parameters))


@pytest.fixture(scope="module")
def planted():
    return made("planted_network")


@pytest.fixture(scope="module")
def outcome(planted):
    return SPEC.run(planted)


def record(outcome, name):
    return next(r for r in outcome.records if r.id.endswith(f"/{name}"))


def test_every_planned_test_is_recorded_under_the_endpoint_of_screens(planted, outcome):
    planned = SPEC.plan(planted.request)
    assert [t.id for t in planned] == [r.id for r in outcome.records]
    assert {t.endpoint for t in planned} == {Endpoint.PERTURBATION_RESPONSE}
    assert {r.endpoint for r in outcome.results} == {Endpoint.PERTURBATION_RESPONSE}
    for name, columns in TABLES.items():
        assert list(outcome.tables[name].columns) == columns
    assert len([t for t in planned if t.confirmatory]) == len(DESIGNS) == 2  # one test per contrast, not one per design


def test_the_grid_holds_every_combination_once(outcome):
    grid = outcome.tables["design_grid"].query("part == 'grid'")
    assert len(grid) == 2 * 2 * 2 * 2
    assert not grid.duplicated(["test", "controls", "min_effect", "alpha", "genes"]).any()
    assert outcome.facts["n_designs"] == outcome.facts["n_designs_asked"] == 16
    assert outcome.facts["n_designs_collapsed"] == 0


def test_a_network_that_attention_knows_leads_in_the_grid(outcome):
    for name in ("attention_leads_gene_level", "attention_leads_coexpression"):
        r = record(outcome, name)
        assert r.statistic == 1.0
        assert r.p_raw <= 0.02
        assert r.low > 0
    summary = outcome.tables["design_summary"].set_index("contrast")
    assert (summary["p_share_alone"] > 0.05).all()  # why the share alone is not the test


@pytest.mark.parametrize("kind", ["no_signal", "expression_only"])
def test_nothing_is_found_beyond_gene_level_where_there_is_nothing(kind):
    found = SPEC.run(made(kind))
    assert record(found, "attention_leads_gene_level").p_raw > 0.2


def test_the_cell_of_the_plans_design_has_the_numbers_of_the_study(planted, outcome):
    grid = outcome.tables["design_grid"]
    own = grid.query("part == 'study'").iloc[0]
    same = grid.query(
        "part == 'grid' and test == 'welch' and controls == 400 and min_effect == 0.5 and genes == 120"
    ).iloc[0]
    for column in ("n_perturbations", "n_pos", "auroc", "low", "high", "lead_coexpression", "lead_gene_level"):
        assert own[column] == pytest.approx(same[column]), column
    per = PerPerturbation.build(planted, planted.primary)
    assert own["auroc"] == pytest.approx(per.values("pooled").mean())


def test_levels_that_the_data_cannot_give_are_cut_and_counted():
    assert levels_of([500, 2000, 10000], 450) == {450: (500, 2000, 10000)}
    found = SPEC.run(made("planted_network", parameters={}))
    assert found.facts["n_designs_asked"] == 54
    assert found.facts["n_designs"] == 3 * 2  # three thresholds, two tests, one number of controls, one set of genes
    assert found.facts["n_designs_collapsed"] == 48
    levels = found.tables["design_levels"].query("factor == 'genes'")
    assert list(levels["asked"]) == ["1,000", "2,000", "5,000"]
    assert set(levels["used"]) == {"120"}
    assert levels["note"].str.contains("3 levels asked for are one").all()


def test_fewer_controls_are_part_of_more_and_what_is_known_is_not_compared_again(planted, monkeypatch):
    seen = []

    def spy(screen, *, controls, **options):
        seen.append(np.sort(controls))
        return effects_of(screen, controls=controls, **options)

    monkeypatch.setattr("regulens.analyses.design_labels.effects_of", spy)
    given = {
        "tests": ["welch"], "controls": [100, 200, 400], "genes": frozenset(planted.universe.genes),
        "perturbations": with_enough_cells(planted),
    }  # fmt: skip
    found = list(comparisons(planted, **given))
    assert [c.controls for c in found] == [100, 200, 400]
    assert [len(s) for s in seen] == [100, 200]  # all 400 by Welch is the study's own comparison
    assert set(seen[0]) < set(seen[1])
    own = planted.screen.labels.effects
    np.testing.assert_array_equal(found[-1].effects.effect, own.effect)
    again = effects_of(planted.screen.cells, controls=seen[0], perturbations=found[0].effects.perturbations)
    np.testing.assert_allclose(found[0].effects.p, again.p)


def test_designs_of_one_gene_set_are_on_the_same_pairs(outcome):
    grid = outcome.tables["design_grid"].query("part == 'grid' and genes == 120")
    whole = grid[grid["n_perturbations"] == grid["n_perturbations"].max()]
    assert (whole["n_pos"] + whole["n_neg"]).nunique() == 1


def test_common_perturbations_stand_beside_each_designs_own(outcome):
    grid = outcome.tables["design_grid"].query("part == 'grid'")
    assert grid["n_common"].nunique() == 1
    assert grid["n_common"].iloc[0] == outcome.facts["n_common_perturbations"] <= grid["n_perturbations"].min()


def test_a_table_of_effects_varies_thresholds_and_genes_only():
    found = SPEC.run(made("planted_network", cells=False))
    grid = found.tables["design_grid"].query("part == 'grid'")
    assert set(grid["alpha"]) == {0.01, 0.05, 0.1}
    assert grid["test"].nunique() == grid["controls"].nunique() == 1
    assert len(grid) == 3 * 2 * 2
    notes = found.tables["design_levels"].set_index("factor")["note"]
    assert "table of effects" in notes["controls"]
    assert "table of effects" in notes["test"]


def test_a_table_without_p_varies_effects_and_genes_only():
    world = make_screen_world("planted_network", seed=2, cells=False, **SIZE)
    bare = replace(world, effects=replace(world.effects, p=None, se=None))
    found = SPEC.run(replace(bare.input(settings=SETTINGS), parameters=dict(SMALL)))
    grid = found.tables["design_grid"].query("part == 'grid'")
    assert len(grid) == 2 * 2
    assert (grid["auroc"] > 0.5).all()


@pytest.fixture(scope="module")
def toy():
    """A study whose attention is that of a model that can be run again."""
    pytest.importorskip("torch", reason="runs a model, which needs the extra `models`")
    from regulens.attention.extract import extract
    from regulens.testing.toy_model import ToyAdapter

    world = make_screen_world("planted_network", seed=1, n_perturbations=12, n_genes=60, n_controls=300)
    genes = world.controls.genes.symbols
    adapter = ToyAdapter(genes, n_layers=2)
    found = extract(adapter, world.controls, genes=genes, regulators=world.summary.regulators, partition_by=(), seed=42)
    world = replace(world, summary=found.summary)
    inp = world.input(settings=SETTINGS, rule=LabelRule(min_effect=0.3))
    return replace(inp, adapter=adapter)


def sets(inp, sizes, **options):
    return list(
        set_scores(
            inp, sizes, measured=frozenset(inp.screen.labels.effects.genes), perturbations=with_enough_cells(inp),
            **({"way": "reextract", "max_cells": None, "memory": None} | options),
        )
    )  # fmt: skip


def test_the_model_run_again_on_all_genes_gives_the_studys_map(toy):
    whole = sets(toy, [60])[0]
    row = {p: i for i, p in enumerate(whole.perturbations)}
    rows = [row[p] for p in toy.universe.regulators]
    assert whole.targets == toy.universe.genes
    np.testing.assert_allclose(
        whole.values[0][rows], np.where(whole.observed[rows], toy.primary.values[0], 0.0), atol=1e-7
    )
    np.testing.assert_allclose(
        whole.values[1][rows], np.where(whole.observed[rows], toy.coexpression.values[0], 0.0), atol=1e-12
    )


def test_on_fewer_genes_attention_is_another_and_coexpression_the_same(toy):
    again, read = sets(toy, [20])[0], sets(toy, [20], way="read")[0]
    assert again.targets == read.targets
    assert len(again.targets) == 20
    rows = [again.perturbations.index(p) for p in read.perturbations]
    seen = again.observed[rows] & read.observed
    np.testing.assert_array_equal(again.values[1][rows][seen], read.values[1][seen])
    assert np.abs(again.values[0][rows][seen] - read.values[0][seen]).max() > 1e-3
    # what a token attends to is shared by fewer genes, so that each gets more
    assert again.values[0][rows][seen].mean() > read.values[0][seen].mean()


def test_cells_of_the_model_run_again_can_be_fewer_and_are_said(toy):
    found = SPEC.run(replace(toy, parameters={**SMALL, "genes": [20, 60], "max_cells": 50}))
    assert found.facts["gene_sets"] == "reextract"
    assert max(found.facts["n_cells_read"]) <= 50
    last = found.tables["design_levels"].iloc[-1]
    assert last["used"].startswith("reextract, in 50 cells")


def test_without_a_model_at_hand_maps_are_read_and_the_reason_is_given(toy, planted):
    assert way_of(toy, "reextract") == ("reextract", "")
    assert way_of(toy, "read") == ("read", "")
    assert way_of(planted, "reextract")[1].startswith("the model is not at hand")
    static = replace(toy, card=replace(toy.card, n_layers=0))
    assert way_of(static, "reextract")[1].startswith("the model scores pairs without reading cells")


@pytest.mark.parametrize("name", ["pooled", "L01_mean", "L00_H01"])
@pytest.mark.parametrize("direction", ["regulator_attends", "target_attends"])
def test_one_map_is_that_of_the_scorer(planted, name, direction):
    summary = make_screen_world("planted_network", seed=2, **SIZE).summary
    values, observed = primary_map(summary, name, direction=direction, min_cells=5)
    wanted = attention_scores(summary, direction=direction, min_cells=5).select([name])
    np.testing.assert_array_equal(observed, wanted.observed)
    np.testing.assert_allclose(values[observed], wanted.values[0][observed], rtol=1e-12)


def test_too_few_perturbations_leave_every_test_undefined_with_its_reason():
    inp = made("planted_network")
    few = SPEC.run(replace(inp, parameters={**SMALL, "min_effect": [9.0]}))
    assert all("none of" in r.undefined for r in few.records)
    assert [(r.metric, r.mde) for r in few.results] == [("mean_perturbation_auroc_difference", None)]
    grid = few.tables["design_grid"].query("part == 'grid'")
    assert len(grid) == 8
    assert grid["auroc"].isna().all()
    assert (grid["n_perturbations"] == 0).all()
    assert grid["note"].str.contains("at least 5 are needed").all()


def test_genes_in_too_few_cells_make_no_set_and_that_is_said(planted):
    rare = replace(planted, request=replace(planted.request, settings=replace(SETTINGS, min_cells=10_000)))
    found = SPEC.run(rare)
    assert {r.id for r in found.records} == {t.id for t in SPEC.plan(planted.request)}
    assert all("in enough cells" in r.undefined for r in found.records)


@pytest.mark.parametrize(
    "wrong",
    [{"controls": [1]}, {"genes": []}, {"tests": ["t"]}, {"min_effect": [-1]}, {"gene_sets": "both"}, {"max_cells": 0},
     {"alpha_of_tables": [2.0]}],
)  # fmt: skip
def test_a_level_that_is_none_is_refused(planted, wrong):
    with pytest.raises(ParameterError, match="Expected"):
        SPEC.run(replace(planted, parameters=wrong))


def test_workers_and_models_change_no_number(planted, outcome):
    again = SPEC.run(replace(planted, jobs=2))
    for name in TABLES:
        assert outcome.tables[name].equals(again.tables[name])
