"""Each analysis: every planned test recorded, tables as agreed, refusals with reasons, published protocol apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.analyses.build import build_input, gene_features
from regulens.analyses.common import edges_of
from regulens.errors import AlignmentError
from regulens.stats.ranking import auroc
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Protocol
from regulens.types.estimates import Estimate, Undefined

NAMES = ("reference_recovery", "gene_level_baselines", "expression_matched", "coexpression_dominance")
COLUMNS = {
    "recovery": "score layer head direction n_pos n_neg n_regulators auroc low high se se0 auprc prevalence "
    "auprc_ratio epr p_maxt",
    "recovery_at_k": "score k precision recall f1 f1_ceiling precision_chance",
    "recovery_nulls": "score null observed null_mean null_sd z p preserves",
    "leave_one_out": "regulator n_pos auroc_without change",
    "directions": "direction auroc low high",
    "matched": "score form auroc low high n_pos n_neg n_regulators",
    "matched_balance": "side feature smd_before smd_after",
    "matched_unmatched": "regulator target reason",
    "dominance": "quantity value low high note",
    "dominance_deciles": "decile rho_low rho_high n_pos n_neg auroc_attention auroc_coexpression",
    "dominance_hexbin": "x y n",
    "dominance_coefficients": "feature coefficient low high p",
}
FAST = StatisticsSettings(bootstrap=200, permutations=50)


@pytest.fixture(scope="module")
def given():
    return make_world("planted_pairs", seed=1).input(settings=FAST)


@pytest.fixture(scope="module")
def outcomes(given):
    return {n: ANALYSES[n].run(given) for n in NAMES}


def with_positives(inp, positive):
    return replace(inp, universe=replace(inp.universe, positive=positive))


def with_attention(inp, values, observed=None):
    """The same input with other scores for every head, layer and pooling."""
    made = {
        d: EdgeScores(
            values=np.broadcast_to(values, s.values.shape), observed=s.observed if observed is None else observed,
            names=s.names, genes=s.genes, regulators=s.regulators, direction=d, layers=s.layers, heads=s.heads,
        )
        for d, s in inp.attention.items()
    }  # fmt: skip
    return replace(inp, attention=made)


@pytest.mark.parametrize("name", NAMES)
def test_every_planned_test_is_recorded_once(name, given, outcomes):
    planned = [t.id for t in ANALYSES[name].plan(given.request)]
    assert sorted(planned) == sorted(r.id for r in outcomes[name].records)
    assert len(set(planned)) == len(planned)
    assert all(r.p_raw is not None for r in outcomes[name].records)


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_the_agreed_columns(name, outcomes):
    for table, frame in outcomes[name].tables.items():
        if table in COLUMNS:
            assert list(frame.columns) == COLUMNS[table].split()
    if name == "gene_level_baselines":
        wanted = ["baseline", "kind", "auroc", "low", "high", "delta", "delta_low", "delta_high", "p", "tost_p"]
        assert set(wanted) <= set(outcomes[name].tables["baselines"].columns)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_complete(name, outcomes):
    for r in outcomes[name].results:
        assert isinstance(r.estimate, Estimate)
        assert r.estimate.method
        assert r.estimate.n_units > 2
        assert r.n_pos > 0
        assert r.universe_digest
        if r.metric == "auroc":
            assert 0 < r.se0 < 0.1
            assert 0.5 < r.mde < 1


def test_inputs_are_not_written_to(given):
    before = {d: s.values.copy() for d, s in given.attention.items()}
    for name in NAMES:
        ANALYSES[name].run(given)
    assert all(np.array_equal(before[d], given.attention[d].values) for d in before)


def test_numbers_do_not_depend_on_what_else_ran(given, outcomes):
    again = ANALYSES["expression_matched"].run(given)
    assert again.tables["matched"].equals(outcomes["expression_matched"].tables["matched"])


def test_leave_one_out_equals_recomputation(given, outcomes):
    edges = edges_of(given, given.primary)
    table = outcomes["reference_recovery"].tables["leave_one_out"].set_index("regulator")
    for row in (0, 7):
        keep = edges.regulator != row
        wanted = auroc(edges.scores[:, keep], edges.label[keep])[0]
        assert table.loc[given.universe.regulators[row], "auroc_without"] == pytest.approx(wanted, abs=1e-12)


def test_f1_at_k_has_its_ceiling(outcomes):
    table = outcomes["reference_recovery"].tables["recovery_at_k"]
    assert (table["f1"] <= table["f1_ceiling"] + 1e-12).all()
    n_pos = outcomes["reference_recovery"].facts["n_pos"]
    row = table.iloc[0]
    assert row["f1_ceiling"] == pytest.approx(2 * min(row["k"], n_pos) / (row["k"] + n_pos))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["no positives", "four positives", "two regulators"])
def test_too_little_data_is_refused_and_on_record(name, case, given):
    positive = np.zeros_like(given.universe.positive)
    i, j = np.nonzero(given.universe.positive & given.primary.observed)
    if case == "four positives":
        positive[i[::80][:4], j[::80][:4]] = True
    if case == "two regulators":
        few = np.isin(i, np.unique(i)[:2])
        positive[i[few], j[few]] = True
    outcome = ANALYSES[name].run(with_positives(given, positive))
    assert len(outcome.records) == len(ANALYSES[name].plan(given.request))
    assert all(r.p_raw is None and "needed" in r.undefined for r in outcome.records)
    assert all(isinstance(r.estimate, Undefined) for r in outcome.results)
    assert "needed" in outcome.facts["refused"]


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_score_is_one_half_without_a_test(name, given):
    outcome = ANALYSES[name].run(with_attention(given, np.full(given.universe.candidate.shape, 0.25)))
    assert len(outcome.records) == len(ANALYSES[name].plan(given.request))
    if name == "reference_recovery":
        assert (outcome.tables["recovery"]["auroc"] == 0.5).all()
        assert all(r.p_raw is None for r in outcome.records)
    if name == "expression_matched":
        rows = outcome.tables["matched"].set_index(["score", "form"])
        assert rows.loc[("pooled", "conditional"), "auroc"] == 0.5


def test_missing_pairs_leave_and_are_counted(given):
    rng = np.random.default_rng(0)
    observed = given.primary.observed & (rng.random(given.universe.candidate.shape) < 0.5)
    fewer = with_attention(given, given.primary.values[0], observed)
    counted = [ANALYSES[n].run(fewer).dropped["positives among them"] for n in NAMES]
    lost = int((given.universe.positive & ~observed).sum())
    assert counted == [lost] * 4
    assert ANALYSES["reference_recovery"].run(fewer).facts["n_pos"] == int((given.universe.positive & observed).sum())


@pytest.mark.parametrize("name", NAMES)
def test_published_protocol_is_a_reproduction(name, given):
    inp = replace(given, request=replace(given.request, protocol=Protocol.PUBLISHED))
    tests = ANALYSES[name].plan(inp.request)
    assert all(t.protocol is Protocol.PUBLISHED and not t.confirmatory for t in tests)
    corrected = {t.id for t in ANALYSES[name].plan(given.request)}
    assert not corrected & {t.id for t in tests}
    outcome = ANALYSES[name].run(inp)
    assert {r.id for r in outcome.records} == {t.id for t in tests}
    assert all(r.protocol is Protocol.PUBLISHED for r in outcome.results)
    again = ANALYSES[name].run(inp)
    assert again.tables["published"].equals(outcome.tables["published"])


def test_published_counts_missing_pairs_as_zero(given):
    observed = given.primary.observed.copy()
    observed[:, ::2] = False
    inp = with_attention(given, given.primary.values[0], observed)
    inp = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    outcome = ANALYSES["reference_recovery"].run(inp)
    assert outcome.facts["n_pos"] == int(given.universe.positive.sum())


def test_gene_only_model_is_reported_beside_the_strictest_null(outcomes):
    facts = outcomes["gene_level_baselines"].facts
    assert facts["strictest_null"] in set(outcomes["gene_level_baselines"].tables["baselines"]["baseline"])
    assert facts["strictest_high"] > facts["strictest_delta"]


def test_build_input_wants_the_same_cells_and_genes():
    world = make_world("no_signal", seed=0, n_regulators=6, n_genes=30, n_edges=20)
    request = world.input(settings=FAST).request
    common = {"summary": world.summary, "universe": world.universe, "request": request, "card": world.summary.card}
    with pytest.raises(AlignmentError, match=r"Expected the 240 cells .*, got 10\. Subset the cells"):
        build_input(cells=world.cells.subset(cell_index=np.arange(10)), **common)
    with pytest.raises(AlignmentError, match="Expected every gene of the universe"):
        build_input(cells=world.cells.subset(gene_index=np.arange(20)), **common)


def test_gene_features_are_those_of_the_cells():
    world = make_world("no_signal", seed=0, n_regulators=6, n_genes=30, n_edges=20)
    dense = world.cells.log_normalised().toarray()
    found = gene_features(world.input(settings=FAST).expression, world.universe.genes)
    np.testing.assert_allclose(found.mean, dense.mean(0), atol=1e-12)
    np.testing.assert_allclose(found.variance, dense.var(0), atol=1e-12)
    np.testing.assert_allclose(found.detection, (dense > 0).mean(0), atol=1e-12)
