"""Increments over gene features: leakage, oracles, refits as draws, ties that must not pay, worlds, too little data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from regulens.analyses.base import ANALYSES
from regulens.analyses.incremental_control import plant
from regulens.analyses.incremental_fit import GENES_ONLY, Grid, Task, evaluate, propensity
from regulens.analyses.incremental_logistic import curved, fit_logistic, trained_ranks
from regulens.analyses.incremental_metrics import ranked
from regulens.analyses.incremental_splits import SPLITS, Turn, Turns, assert_nothing_shared
from regulens.analyses.incremental_trees import TREES, fit_trees
from regulens.analyses.incremental_value import DESIGNS, SPEC, TABLES
from regulens.errors import ParameterError, StatisticsError
from regulens.rng import stream
from regulens.stats.by_row import Rows
from regulens.testing.worlds.screens import make_screen_input
from regulens.types.endpoints import Endpoint, Protocol

SMALL = {"draws": 40, "tree_draws": 12}


def made(n_rows=20, n_genes=90, *, signal=0.0, hidden=0.5, column=0.7, seed=0) -> Grid:
    """A screen whose responses follow gene features, a hidden property of genes, and a network."""
    rng = stream(seed, "grid")
    level, network = rng.normal(size=n_genes), rng.normal(size=(n_rows, n_genes))
    odds = level + hidden * rng.normal(size=n_genes) + 0.8 * network - 2.2
    label = rng.random((n_rows, n_genes)) < 1 / (1 + np.exp(-odds))
    label[:, :2], label[:, 2] = True, False
    use = rng.random(label.shape) < 0.95
    feature = np.column_stack([np.exp(level), np.exp(level + 0.3 * rng.normal(size=n_genes)), 1 / (1 + np.exp(level))])
    noise = rng.normal(size=(n_rows, n_genes)) + column * rng.normal(size=n_genes)
    return Grid(label=label, use=use, feature=feature, scores={"attention": np.exp(noise + signal * network)})


def task(grid: Grid, split="joint", learner="logistic", draws=0, seed=0) -> Task:
    rng = stream(seed, "task")
    n_rows, n_genes = grid.label.shape
    return Task(
        grid=grid, turns=Turns.deal(split, n_rows, n_genes, folds=3, rng=rng), learner=learner,
        models={GENES_ONLY: (), "both": ("attention",)}, contrasts=(("both", GENES_ONLY),),
        weight=rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=draws).astype(float),
    )  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_is_on_both_sides_and_every_pair_judges_once(split):
    turns = Turns.deal(split, 11, 13, folds=3, rng=stream(0, split))
    judged = np.zeros((11, 13), dtype=int)
    for turn in turns.turns:
        judged += np.outer(turn.test_row, turn.test_column)
        train = np.outer(turn.train_row, turn.train_column)
        assert not (train & np.outer(turn.test_row, turn.test_column)).any()
        assert split == "gene" or not (turn.train_row & turn.test_row).any()
        assert split == "perturbation" or not (turn.train_column & turn.test_column).any()
    assert (judged == 1).all()


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_that_leaks_is_caught(split):
    turns = Turns.deal(split, 8, 9, folds=2, rng=stream(0, split))
    first = turns.turns[0]
    rows, columns = first.train_row.copy(), first.train_column.copy()
    if split == "gene":
        columns[np.flatnonzero(first.test_column)[0]] = True
    else:
        rows[np.flatnonzero(first.test_row)[0]] = True
    leaky = replace(first, train_row=rows, train_column=columns)
    with pytest.raises(StatisticsError, match="on both sides"):
        assert_nothing_shared(split, leaky)
    with pytest.raises(StatisticsError, match="on both sides"):
        replace(turns, turns=(leaky, *turns.turns[1:]))
    with pytest.raises(StatisticsError, match="judged once"):
        replace(turns, turns=turns.turns[1:])


def test_an_unknown_split_is_refused():
    with pytest.raises(ParameterError, match="Expected a split among"):
        Turns.deal("cells", 4, 4, folds=2, rng=stream(0, "x"))


def test_logistic_fit_is_scikit_learns_and_one_step_follows_full_refits():
    grid = made(24, 120)
    gene = curved(grid.feature, grid.use.sum(axis=0))
    score = np.log(grid.scores["attention"])[None]
    fit = fit_logistic(gene, score, grid.label, grid.use)
    x = np.concatenate([np.broadcast_to(gene[None, :, 1:], (24, 120, 9)), score[0][:, :, None]], axis=2)[grid.use]
    y, row = grid.label[grid.use], np.nonzero(grid.use)[0]
    oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y)
    np.testing.assert_allclose(fit.coefficient[1:], oracle.coef_[0], atol=1e-5)
    np.testing.assert_allclose(fit.refitted(np.ones((1, 24)))[0], fit.coefficient, atol=1e-6)
    weight = stream(0, "w").multinomial(24, np.full(24, 1 / 24), size=25).astype(float)
    full = np.stack([LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(x, y, sample_weight=w[row]).coef_[0]
                     for w in weight])  # fmt: skip
    step = fit.refitted(weight)[:, 1:]
    assert np.abs(step - full).mean() < 0.15 * full.std(axis=0).mean()
    np.testing.assert_allclose(step.std(axis=0), full.std(axis=0), rtol=0.25)


def test_logistic_needs_both_classes():
    grid = made(6, 20)
    with pytest.raises(StatisticsError, match="responding and other pairs"):
        fit_logistic(np.ones((20, 1)), np.zeros((0, 6, 20)), np.zeros((6, 20), bool), grid.use)


def test_trees_are_scikit_learns_whether_pairs_come_alone_or_as_cells():
    rng = stream(1, "trees")
    code = rng.integers(0, 32, (4000, 4)).astype(np.uint8)
    code[:, 1:] = rng.integers(0, 32, (40, 3))[rng.integers(0, 40, 4000)]
    y = rng.random(4000) < 1 / (1 + np.exp(2.0 - code[:, 0] / 10 - (code[:, 1] > 16)))
    oracle = HistGradientBoostingClassifier(**TREES, max_leaf_nodes=None, early_stopping=False).fit(
        code.astype(np.float64), y
    )
    wanted = oracle.decision_function(code.astype(np.float64))
    np.testing.assert_allclose(fit_trees(code, y, np.ones(4000)).log_odds(code), wanted, atol=1e-5)
    cells, number = np.unique(code, axis=0, return_inverse=True)
    found = fit_trees(cells, np.bincount(number.ravel(), y), np.bincount(number.ravel()))
    np.testing.assert_allclose(found.log_odds(code), wanted, atol=1e-5)


def test_training_side_alone_ranks():
    train, test = np.array([1.0, 2.0, 3.0]), np.array([2.0, 99.0])
    assert trained_ranks(test, train)[0] == trained_ranks(np.array([2.0]), train)[0] == 0.5


def test_ties_count_in_expectation_so_breaking_them_pays_nothing():
    rng = stream(0, "ties")
    y = rng.random(60) < 0.2
    rows = Rows.build(y, np.zeros(60, int), np.arange(60))
    tied = rng.integers(0, 4, 60).astype(float)
    found = ranked(tied, rows)[:, 0]
    broken = np.stack([ranked(tied + 1e-6 * rng.random(60), rows)[:, 0] for _ in range(4000)])
    np.testing.assert_allclose(found, broken.mean(axis=0), atol=0.004)
    assert found[0] == pytest.approx(roc_auc_score(y, tied))
    assert average_precision_score(y, tied) < found[1] - 0.005  # over whole groups, random order would be a gain
    clear = rng.normal(size=60)
    assert ranked(clear, rows)[1, 0] == pytest.approx(average_precision_score(y, clear))


def test_propensity_leaves_out_the_test_side_and_the_own_fold():
    grid = made(12, 30)
    turns = Turns.deal("perturbation", 12, 30, folds=4, rng=stream(0, "p"))
    for turn in turns.turns:
        base = propensity(grid, turns, turn)
        flipped = grid.label.copy()
        flipped[turn.test_row] = ~flipped[turn.test_row]
        np.testing.assert_array_equal(base, propensity(replace(grid, label=flipped), turns, turn))
        g = int(np.flatnonzero(turn.train_row)[0])
        own = grid.label.copy()
        own[g] = ~own[g]
        np.testing.assert_array_equal(base[g], propensity(replace(grid, label=own), turns, turn)[g])
        assert (base != propensity(replace(grid, label=own), turns, turn)).any()


@pytest.mark.parametrize("learner", ["logistic", "trees"])
def test_labels_of_the_judged_side_move_no_prediction(learner):
    grid = made()
    given = task(grid, "joint", learner)
    first = given.turns.turns[0]
    flipped = grid.label.copy()
    block = np.ix_(first.test_row, first.test_column)
    flipped[block] = ~flipped[block]
    only = Turn(train_row=first.train_row, train_column=first.train_column, test_row=first.test_row,
                test_column=first.test_column)  # fmt: skip
    assert only.test_row.any()
    here = np.zeros(grid.label.shape, dtype=bool)
    here[block] = True
    here = here[grid.use]
    a = evaluate(given).prediction["both"]
    b = evaluate(replace(given, grid=replace(grid, label=flipped))).prediction["both"]
    np.testing.assert_array_equal(a[here], b[here])
    assert (a[~here] != b[~here]).any()


def test_a_planted_score_of_known_gain_is_found():
    grid = made(30, 150)
    planted, known = plant(grid, 0.02, stream(3, "planted"))
    assert known == pytest.approx(0.02, abs=1e-3)
    found = evaluate(task(replace(grid, scores={"attention": planted}), "perturbation", draws=40))
    gain = (found.metrics["both"] - found.metrics[GENES_ONLY])[0].mean()
    assert gain == pytest.approx(known, abs=3 * found.draws["both", GENES_ONLY][:, 0].std())


@pytest.fixture(scope="module")
def outcomes():
    inputs = {k: make_screen_input(k, seed=1, n_perturbations=24, n_genes=160, cells=False)
              for k in ("planted_network", "expression_only")}  # fmt: skip
    return {k: (i, SPEC.run(replace(i, parameters=SMALL))) for k, i in inputs.items()}


def test_the_planted_network_is_found_and_expression_alone_adds_nothing(outcomes):
    gains = {k: [r for r in o.records if "_added_" in r.id] for k, (_, o) in outcomes.items()}
    assert all(r.p_raw < 0.01 and r.low > 0 for r in gains["planted_network"])
    assert not any(r.p_raw < 0.05 for r in gains["expression_only"])
    assert min(r.high for r in gains["expression_only"] if "auroc" in r.id) < 0.005
    assert outcomes["planted_network"][1].facts["tost_p"] > 0.9


@pytest.mark.parametrize("kind", ["planted_network", "expression_only"])
def test_every_planned_test_has_a_record_and_tables_their_columns(kind, outcomes):
    inp, found = outcomes[kind]
    assert {t.id for t in SPEC.plan(inp.request)} == {r.id for r in found.records}
    assert {k: list(t.columns) for k, t in found.tables.items()} == TABLES
    assert all(r.endpoint is Endpoint.PERTURBATION_RESPONSE for r in found.results)
    table = found.tables["incremental"]
    assert set(table["split"]) == set(SPLITS)
    np.testing.assert_allclose(table["plus_attention"] - table["base"], table["delta"])
    assert (table["delta_low"] <= table["delta"]).all() and (table["delta"] <= table["delta_high"]).all()


def test_the_same_numbers_with_two_workers(outcomes):
    inp, found = outcomes["planted_network"]
    again = SPEC.run(replace(inp, parameters=SMALL, jobs=2))
    assert again.records == found.records


def test_a_constant_score_is_undefined_with_its_reason(outcomes):
    inp = outcomes["planted_network"][0]
    flat = {d: replace(s, values=np.ones_like(s.values)) for d, s in inp.attention.items()}
    found = SPEC.run(replace(inp, attention=flat, parameters=SMALL))
    gains = [r for r in found.records if "_added_" in r.id and "logistic" in r.id]
    assert all("does not vary" in r.undefined for r in gains)


def test_too_few_perturbations_are_refused(outcomes):
    inp = outcomes["planted_network"][0]
    few = np.zeros_like(inp.universe.positive)
    few[:3] = inp.universe.positive[:3]
    found = SPEC.run(replace(inp, universe=replace(inp.universe, positive=few), parameters=SMALL))
    assert len(found.records) == len(DESIGNS) and all("at least 5" in r.undefined for r in found.records)
    assert {(r.metric, r.null_value) for r in found.results} == {("auroc_difference", 0.0)}


def test_one_gene_that_responds_to_everything_is_refused(outcomes):
    """Its fold leaves the training side without responders, in the trees too."""
    inp = outcomes["planted_network"][0]
    one = np.zeros_like(inp.universe.positive)
    j = int(np.flatnonzero(inp.universe.candidate.all(axis=0))[0])
    one[:, j] = True
    found = SPEC.run(replace(inp, universe=replace(inp.universe, positive=one), parameters=SMALL))
    assert len(found.records) == len(DESIGNS)
    assert all("Expected responding and other pairs" in r.undefined for r in found.records)


@pytest.mark.parametrize("learner", ["logistic", "trees"])
def test_a_training_side_without_pairs_or_classes_is_an_error(learner):
    grid = made(8, 20)
    one = np.zeros_like(grid.label)
    one[:, 3] = True
    with pytest.raises(StatisticsError, match="responding and other pairs"):
        evaluate(task(replace(grid, label=one), "gene", learner, draws=12))
    given = task(grid, "joint", learner, draws=12)
    first = given.turns.turns[0]
    none = grid.use & ~np.outer(first.train_row, first.train_column)
    with pytest.raises(StatisticsError, match="got 0 of 0"):
        evaluate(replace(given, grid=replace(grid, use=none)))


def test_predictions_that_are_not_finite_are_refused():
    rows = Rows.build(np.array([True, False, False]), np.zeros(3, int), np.arange(3))
    with pytest.raises(StatisticsError, match="Expected finite predictions"):
        ranked(np.array([1.0, np.nan, 0.0]), rows)


def test_the_published_protocol_is_a_reproduction():
    inp = make_screen_input("planted_network", seed=1, n_perturbations=8, n_genes=60, cells=False)
    published = replace(inp, request=replace(inp.request, protocol=Protocol.PUBLISHED))
    found = SPEC.run(published)
    assert not any(t.confirmatory for t in SPEC.plan(published.request))
    assert {t.id for t in SPEC.plan(published.request)} == {r.id for r in found.records}
    assert len(found.tables["published"]) == 12
    assert ANALYSES["incremental_value"] is SPEC


def _errors(n_worlds: int, learner: str, draws: int, **options) -> tuple[np.ndarray, np.ndarray]:
    """Gains of AUROC and average precision, and their t statistics as the analysis makes them, per world and split."""
    from regulens.analyses.incremental_value import effect_of

    gain, t = [], []
    for k in range(n_worlds):
        grid = made(25, 150, seed=1000 + k, **options)
        found = [evaluate(task(grid, s, learner, draws, seed=k)) for s in SPLITS]
        effects = [effect_of(f, "both", GENES_ONLY, m) for f in found for m in ("auroc", "average_precision")]
        gain.append([e.value for e in effects])
        t.append([[e.p_greater(), *e.bounds(0.95)] for e in effects])
    return np.array(gain), np.array(t)


@pytest.mark.parametrize("options", [{}, {"hidden": 1.5, "column": 2.0}], ids=["noise", "hubs"])
def test_type_one_error_of_the_logistic_gains(options):
    gain, t = _errors(20, "logistic", 40, **options)
    assert (t[..., 0] < 0.05).mean(axis=0).max() <= 0.2  # 3 of 20 or more: 0.4 % at the level
    mean = gain.mean(axis=0)
    assert ((t[..., 1] <= mean) & (mean <= t[..., 2])).mean() > 0.9


@pytest.mark.long
@pytest.mark.parametrize("learner", ["logistic", "trees"])
@pytest.mark.parametrize(
    "options", [{}, {"hidden": 1.5, "column": 2.0}, {"signal": 0.5}], ids=["noise", "hubs", "gain"]
)
def test_type_one_error_and_coverage(learner, options):
    gain, t = _errors(200, learner, 100 if learner == "logistic" else 24, **options)
    if "signal" not in options:
        assert (t[..., 0] < 0.05).mean(axis=0).max() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    mean = gain.mean(axis=0)
    assert ((t[..., 1] <= mean) & (mean <= t[..., 2])).mean(axis=0).min() >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 200)
