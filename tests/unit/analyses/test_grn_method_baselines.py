"""Methods against attention: signs, pairs and metrics against libraries, what is not asked for, what is imported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from regulens.analyses.base import StatisticsSettings
from regulens.analyses.grn_method_baselines import PLANNED, SPEC
from regulens.errors import ParameterError
from regulens.scorers.imported import imported_scores
from regulens.scorers.network_inference import FAST
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.testing.worlds import make_world
from regulens.types.edges import EdgeScores
from regulens.types.estimates import Undefined

QUICK = ["spearman", "pearson", "mutual_information", "partial_correlation"]


@pytest.fixture(scope="module")
def given():
    inp = make_world("planted_pairs", seed=1, n_regulators=20, n_genes=80, n_edges=160).input(
        settings=StatisticsSettings(bootstrap=200, permutations=50)
    )
    return replace(inp, parameters={**SPEC.parameters, "methods": QUICK, "top_k": [10, 100, 10**6]})


@pytest.fixture(scope="module")
def outcome(given):
    return SPEC.run(given)


def scores(inp, name, values, observed=None):
    return EdgeScores(
        values=np.asarray(values, dtype=float)[None], observed=inp.primary.observed if observed is None else observed,
        names=(name,), genes=inp.universe.genes, regulators=inp.universe.regulators,
    )  # fmt: skip


def pairs_of(inp):
    return inp.primary.observed & inp.coexpression.observed & inp.universe.candidate


def test_every_planned_test_is_recorded_and_what_was_not_asked_for_says_so(given, outcome):
    planned = [t.id for t in SPEC.plan(given.request)]
    assert sorted(planned) == sorted(r.id for r in outcome.records)
    said = {r.id.rsplit("/", 1)[-1].removesuffix("_differs_from_attention"): r for r in outcome.records}
    assert {m for m, r in said.items() if r.undefined} == {"lasso", "grnboost2"}
    assert "did not ask" in said["lasso"].undefined
    assert set(PLANNED) == {*FAST, "ensemble"}


def test_numbers_are_those_of_the_library_on_the_shared_pairs(given, outcome):
    table = outcome.tables["methods"].set_index("method")
    ok = pairs_of(given)
    y = given.universe.positive[ok]
    rho = given.coexpression.values[0][ok]
    assert table.loc["spearman", "auroc"] == pytest.approx(roc_auc_score(y, rho), abs=1e-12)
    assert table.loc["spearman", "auprc"] == pytest.approx(average_precision_score(y, rho), abs=1e-12)
    a = given.primary.values[0][ok]
    assert table.loc["pooled", "auroc"] == pytest.approx(roc_auc_score(y, a), abs=1e-12)
    assert table.loc["spearman", "rho_attention"] == pytest.approx(spearmanr(a, rho).statistic, abs=1e-12)
    gap = table.loc["spearman", "auroc"] - table.loc["pooled", "auroc"]
    assert table.loc["spearman", "difference"] == pytest.approx(gap, abs=1e-12)
    assert gap < -0.2  # attention knows the planted pairs and expression does not
    assert table.loc["spearman", "difference_high"] < 0
    assert set(outcome.facts["below_attention"]) == {*QUICK, "ensemble"}


def test_q_is_benjamini_hochberg_over_the_table(outcome):
    table = outcome.tables["methods"].iloc[1:]
    np.testing.assert_allclose(table["q"], benjamini_hochberg(table["p"].to_numpy()))


def test_precision_at_k_has_its_chance_and_no_k_beyond_the_pairs(given, outcome):
    table = outcome.tables["methods_at_k"]
    assert sorted(set(table["k"])) == [10, 100]
    assert table["precision_chance"].nunique() == 1
    assert table.loc[table["method"] == "pooled", "precision"].min() > 3 * table["precision_chance"].iloc[0]


def test_scores_that_are_handed_over_are_used_and_orientation_counts(given):
    truth = given.universe.positive + 0.01 * given.primary.values[0]
    handed = replace(given, inferred={"pearson": scores(given, "pearson", truth)})
    table = SPEC.run(handed).tables["methods"].set_index("method")
    assert table.loc["pearson", "auroc"] == 1.0
    flat = truth[given.universe.candidate]
    shuffled = truth.copy()
    shuffled[given.universe.candidate] = np.random.default_rng(0).permutation(flat)
    broken = replace(given, inferred={"pearson": scores(given, "pearson", shuffled)})
    assert abs(SPEC.run(broken).tables["methods"].set_index("method").loc["pearson", "auroc"] - 0.5) < 0.1


def test_one_method_has_no_ensemble_and_none_leaves_attention_alone(given):
    one = SPEC.run(replace(given, parameters={**given.parameters, "methods": ["pearson"]}))
    said = {r.id.rsplit("/", 1)[-1]: r.undefined for r in one.records}
    assert said["ensemble_differs_from_attention"] == "one method alone makes no ensemble"
    none = SPEC.run(replace(given, parameters={**given.parameters, "methods": []}))
    assert none.tables["methods"]["method"].tolist() == ["pooled"]
    assert all(r.undefined for r in none.records)


def test_an_imported_table_ranks_unlisted_pairs_below_all_listed(given):
    i, j = np.nonzero(given.universe.positive & pairs_of(given))
    half = slice(0, len(i), 2)
    names = (
        np.array(given.universe.regulators, dtype=object)[i[half]],
        np.array(given.universe.genes, dtype=object)[j[half]],
    )
    edges = pd.DataFrame({"source": names[0], "target": names[1], "weight": 1.0})
    table = imported_scores(edges, genes=given.universe.genes, regulators=given.universe.regulators, name="mine")
    inp = replace(given, inferred={"mine": table}, parameters={**given.parameters, "tables": {"mine": "mine.tsv"}})
    found = SPEC.run(inp).tables["methods"].set_index("method")
    assert found.loc["mine", "kind"] == "imported"
    assert found.loc["mine", "n_listed"] == len(names[0])
    share = len(names[0]) / len(i)  # listed positives beat all negatives, the others tie with them
    assert found.loc["mine", "auroc"] == pytest.approx(share + (1 - share) / 2, abs=1e-12)
    assert found["n_listed"].notna().sum() == 1


def test_a_table_that_nobody_read_and_unknown_methods_are_refused(given):
    with pytest.raises(ParameterError, match="Run the analysis in an audit"):
        SPEC.run(replace(given, parameters={**given.parameters, "tables": {"mine": "mine.tsv"}}))
    with pytest.raises(ParameterError, match="Did you mean 'genie3'"):
        SPEC.run(replace(given, parameters={**given.parameters, "methods": ["genie"]}))


def test_no_positives_is_refused_on_record(given):
    empty = replace(given, universe=replace(given.universe, positive=np.zeros_like(given.universe.positive)))
    out = SPEC.run(empty)
    assert all("needed" in r.undefined for r in out.records)
    assert all(isinstance(r.estimate, Undefined) for r in out.results)
    assert out.tables["methods"].empty


def test_constant_attention_is_one_half_and_methods_stand(given):
    flat = {d: replace(s, values=np.full_like(s.values, 0.2)) for d, s in given.attention.items()}
    out = SPEC.run(replace(given, attention=flat))
    table = out.tables["methods"].set_index("method")
    assert table.loc["pooled", "auroc"] == 0.5
    assert np.isnan(table.loc["pooled", "low"])
    assert np.isfinite(table.loc["pearson", "difference_low"])
    assert np.isnan(table.loc["pearson", "rho_attention"])


def test_expression_without_variation_is_refused_not_a_crash(given):
    still = replace(given, expression=given.expression * 0.0)
    nothing = replace(given.coexpression, observed=np.zeros_like(given.coexpression.observed))
    out = SPEC.run(replace(still, coexpression=nothing))
    assert all(r.undefined for r in out.records)
