"""Does attention say which genes respond? Worlds of screens, degenerate screens, and the level of the nested choice."""

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses.base import ANALYSES
from regulens.analyses.common import test_id as id_of
from regulens.analyses.nested_perturbations import nested_over_perturbations
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.analyses.perturbation_published import CONFIGURATIONS, published_scores, relabelled
from regulens.analyses.perturbation_recovery import DESIGNS, NAME, SPEC, TABLES, perturbed_cells_read, run
from regulens.errors import InputError, ParameterError
from regulens.testing.worlds.screens import make_screen_input, make_screen_world
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def planted():
    return make_screen_input("planted_network", seed=1, n_genes=150, n_perturbations=30)


@pytest.fixture(scope="module")
def found(planted):
    return run(planted)


def record(outcome, name):
    return next(r for r in outcome.records if r.id.endswith(f"/{name}"))


def test_every_planned_test_is_on_record_under_the_right_endpoint(planted, found):
    planned = SPEC.plan(planted.request)
    assert [t.id for t in planned] == [r.id for r in found.records]
    assert {t.endpoint for t in planned} == {Endpoint.PERTURBATION_RESPONSE}
    assert {r.endpoint for r in found.results} == {Endpoint.PERTURBATION_RESPONSE}
    assert [t.id.rsplit("/", 1)[1] for t in planned if t.confirmatory] == [d.name for d in DESIGNS[:3]]
    for name, columns in TABLES.items():
        assert set(columns) <= set(found.tables[name].columns), name


def test_a_network_that_attention_knows_is_found_beyond_coexpression(found):
    for name in ("mean_above_chance", "attention_minus_coexpression", "layer_nested_above_chance"):
        r = record(found, name)
        assert r.p_raw < (1e-3 if "nested" in name else 1e-6) and r.low > 0, name
    assert record(found, "attention_equals_coexpression").p_raw > 0.5


def test_summary_agrees_with_the_per_perturbation_table(found):
    each = found.tables["pert_auroc"]
    summary = found.tables["pert_summary"].set_index("score")
    mean = each.groupby("score")["auroc"].mean()
    for score in ("pooled", "coexpression_abs", "target_mean"):
        assert summary.loc[score, "auroc"] == pytest.approx(mean[score])
    assert found.facts["n_perturbations"] == len(set(each["perturbation"]))
    assert summary.loc["pooled target_attends", "direction"] == "target_attends"  # both directions, once
    assert set(found.tables["pert_layers"]["direction"]) == {"regulator_attends", "target_attends"}
    assert summary.loc["random", "recall_at_10"] == pytest.approx(summary.loc["random", "recall_at_10_chance"], abs=0.1)


def test_exchanged_directions_lose_the_network():
    """A broken twin: attention read the wrong way round."""
    world = make_screen_world("planted_network", seed=1, n_genes=150, n_perturbations=30)
    wrong = record(run(world.transposed().input()), "mean_above_chance")
    right = record(run(world.input()), "mean_above_chance")
    assert wrong.effect < right.effect - 0.05


def test_every_perturbation_of_the_screen_is_listed_with_its_fate(planted, found):
    fidelity = found.tables["pert_fidelity"]
    assert list(fidelity["perturbation"]) == list(planted.screen.labels.effects.perturbations)
    assert (fidelity["reason"].eq("") == fidelity["evaluated"]).all()
    assert "effect_on_target" in fidelity


def test_few_perturbations_are_undefined_with_a_reason(planted):
    few = make_screen_input("planted_network", seed=1, n_genes=60, n_perturbations=4)
    for protocol in Protocol:
        inp = replace(few, request=replace(few.request, protocol=protocol))
        outcome = run(inp)
        assert [t.id for t in SPEC.plan(inp.request)] == [r.id for r in outcome.records]
        assert all("perturbations" in r.undefined for r in outcome.records)
        assert all(isinstance(r.estimate, Undefined) for r in outcome.results)
    listed = run(few).tables["pert_fidelity"]  # which perturbations, and why not the others
    assert len(listed) == 4 and len(run(few).tables["pert_auroc"])


def test_perturbations_of_a_complex_are_left_out_together(planted, found):
    names = planted.universe.regulators
    grouped = run(replace(planted, parameters={"complexes": {f"c{k}": names[3 * k : 3 * k + 3] for k in range(9)}}))
    mine, alone = record(grouped, "mean_above_chance"), record(found, "mean_above_chance")
    assert mine.effect == alone.effect and mine.p_raw != alone.p_raw
    assert "in 12 groups" in grouped.results[0].estimate.method
    with pytest.raises(ParameterError, match="every gene in one of them"):
        run(replace(planted, parameters={"complexes": {"a": [names[0]], "b": [names[0]]}}))
    few = run(replace(planted, parameters={"complexes": {"all": list(names)}}))
    assert record(few, "mean_above_chance").undefined.startswith("1 groups of perturbations")


def test_constant_attention_is_no_crash(planted):
    flat = {d: replace(a, values=np.ones_like(a.values)) for d, a in planted.attention.items()}
    outcome = run(replace(planted, attention=flat))
    assert record(outcome, "mean_above_chance").undefined.startswith("the standard error is 0")
    assert [t.id for t in SPEC.plan(planted.request)] == [r.id for r in outcome.records]


def test_published_protocol_is_a_reproduction(planted):
    inp = replace(planted, request=replace(planted.request, protocol=Protocol.PUBLISHED))
    outcome = run(inp)
    planned = SPEC.plan(inp.request)
    assert {t.id for t in planned} == {r.id for r in outcome.records} and not any(t.confirmatory for t in planned)
    rows = outcome.tables["published"].set_index("configuration")
    assert list(rows.index) == ["primary", "baseline"] and (rows["attention"] > 0.6).all()
    labels = relabelled(inp, CONFIGURATIONS[1], use="x")
    assert labels.effects.test == "mann_whitney" and labels.rule.min_effect == 0.1
    attention, _ = published_scores(inp)
    both = [a.select(["pooled"]).values for a in inp.attention.values()]
    assert attention.observed.all() and (attention.values == np.maximum(*both)).all()


def test_published_protocol_without_cells_says_what_cannot_run():
    inp = make_screen_input("planted_network", seed=1, n_genes=100, n_perturbations=20, cells=False)
    inp = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    outcome = run(inp)
    given = {r.id.rsplit("/", 1)[1]: r.undefined for r in outcome.records}
    assert given["published_primary_above_chance"] == ""
    assert "no cells" in given["published_baseline_above_chance"]
    with pytest.raises(InputError, match="got a table of effects"):
        relabelled(inp, CONFIGURATIONS[0], use="x")


def test_ids_and_registration(planted):
    assert ANALYSES[NAME] is SPEC
    assert record(run(planted), "mean_above_chance").id == id_of(NAME, planted.request, "mean_above_chance")


# ---------------------------------------------------------------------------------------------- the nested choice


def layers_without_signal(rng, n_perturbations=20, n_genes=60, n_layers=8):
    """Genes that respond to many perturbations; layers that attend to genes of their own choice, and know nothing."""
    gene = 2 * rng.normal(size=n_genes)
    y = rng.random((n_perturbations, n_genes)) < 1 / (1 + np.exp(2.0 - gene))
    scores = rng.normal(size=(n_layers, 1, n_genes)) + 0.5 * rng.normal(size=(n_layers, *y.shape))
    i, j = (a.ravel() for a in np.indices(y.shape))
    names = tuple(f"L{k:02d}_mean" for k in range(n_layers))
    edges = LabelledEdges(
        scores=scores.reshape(n_layers, -1), names=names, label=y.ravel(), regulator=i, target=j, universe_digest="u",
        endpoint=Endpoint.PERTURBATION_RESPONSE,
    )  # fmt: skip
    return PerPerturbation.of(edges, tuple(f"P{k}" for k in range(n_perturbations))), names


def level(n_sim, seed, **world):
    rng, p = np.random.default_rng(seed), []
    for _ in range(n_sim):
        per, names = layers_without_signal(rng, **world)
        found = nested_over_perturbations(per, names, rng)
        p.append(found.p_greater())
    return float((np.array(p) < 0.05).mean())


def test_nested_choice_holds_its_level_and_the_best_layer_on_all_data_does_not():
    assert level(150, seed=3) <= 0.09
    rng, naive = np.random.default_rng(3), []
    for _ in range(60):
        per, names = layers_without_signal(rng)
        best = names[int(np.argmax(per.metrics.auroc.mean(1)))]
        naive.append(per.above_chance(best).p_greater() < 0.05)
    assert np.mean(naive) > 0.2  # the broken twin: chosen and praised on the same perturbations


def test_nested_choice_with_groups_of_perturbations_and_with_too_few():
    rng = np.random.default_rng(0)
    per, names = layers_without_signal(rng)
    grouped = replace(per, cluster=np.repeat(np.arange(10), 2)[: per.n])
    found = nested_over_perturbations(grouped, names, rng)
    assert found.effect is not None and found.bounds(0.95)[0] < found.effect.value < found.bounds(0.95)[1]
    assert nested_over_perturbations(per.restrict(slice(0, 3)), names, rng).reason.startswith("3 perturbations")
    assert nested_over_perturbations(per, (), rng).reason == "there is no layer to choose from"


@pytest.mark.long
@pytest.mark.parametrize("n_perturbations", [8, 20, 40])
@pytest.mark.parametrize("n_layers", [1, 12])
def test_level_of_the_nested_choice(n_perturbations, n_layers):
    assert level(600, seed=n_perturbations, n_perturbations=n_perturbations, n_layers=n_layers) <= 0.075


def test_perturbed_cells_that_were_read_are_counted_whatever_their_file_is_called():
    world = make_screen_world("no_signal", n_perturbations=10, n_genes=60)
    inp, own = world.input(), world.screen.cells
    n = int((~world.screen.obs["control"]).sum())
    assert perturbed_cells_read(inp) == 0 and n > 0
    assert perturbed_cells_read(replace(inp, cells=own)) == n
    assert perturbed_cells_read(replace(inp, cells=replace(own, source="renamed.h5ad"))) == n
    other = replace(own, source="other.h5ad", total_counts=own.total_counts[::-1] + 0.5)  # names alone are no proof
    assert perturbed_cells_read(replace(inp, cells=other)) == 0
    assert perturbed_cells_read(replace(inp, cells=None)) == 0
