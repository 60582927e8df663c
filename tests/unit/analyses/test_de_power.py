"""Labels without a cause in common with the baselines: each against its definition, and what it does to power."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from regulens.analyses.de_power import (
    called,
    effect_size_labels,
    placebo_labels,
    planted_labels,
    power_matched_labels,
    shrunken,
    top_by,
    typical_fold,
)
from regulens.analyses.de_power_cells import ControlCells, control_cells, linear_moments, thinning, welch_between
from regulens.analyses.response_propensity import leave_one_out_share, response_propensity
from regulens.stats.ranking import auroc
from regulens.testing.worlds.screens import make_screen_input
from regulens.types.screens import LabelRule

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def inp():
    return make_screen_input("no_signal", seed=3, n_perturbations=20, n_genes=200)


@pytest.fixture(scope="module")
def grid(inp):
    valid = inp.universe.candidate
    return valid, inp.universe.positive & valid


def mean_auroc(values, positive, valid):
    """Mean over rows of the AUROC of one number per gene."""
    found = [auroc(values[v], y[v])[0] for y, v in zip(positive, valid) if 0 < y[v].sum() < v.sum()]
    return float(np.mean(found))


def test_propensity_leaves_the_perturbation_out(inp):
    rng = np.random.default_rng(0)
    y, tested = rng.random((6, 9)) < 0.4, rng.random((6, 9)) < 0.8
    found = leave_one_out_share(y, tested, np.arange(6))
    for g in range(6):
        others = np.arange(6) != g
        looks = tested[others].sum(0)
        expected = (y & tested)[others].sum(0) / np.where(looks, looks, np.nan)
        assert found[g] == pytest.approx(expected, nan_ok=True)
    scores = response_propensity(inp)
    labels = inp.screen.labels
    p = inp.universe.regulators[0]
    rows = [i for i, name in enumerate(labels.effects.perturbations) if name != p]
    j = labels.effects.genes.index(inp.universe.genes[5])
    assert scores.values[0, 0, 5] == pytest.approx(labels.positive[rows, j].sum() / labels.tested[rows, j].sum())


def test_top_by_and_called_are_their_definitions():
    values = np.array([[3.0, np.nan, 2.0, 9.0], [1.0, 1.0, 1.0, 1.0]])
    valid = np.array([[True, True, True, False], [True] * 4])
    got = top_by(values, np.array([2, 1]), valid)
    assert got.tolist() == [[True, False, True, False], [True, False, False, False]]
    p = np.array([[1e-9, 1e-9, 1e-9, 1e-9, 0.9], [0.2, 0.3, 0.1, 0.9, 0.8]])
    effect = np.array([[1.0, -1.0, 0.7, 0.1, 2.0], np.ones(5)])
    found = called(effect, p, np.ones((2, 5), dtype=bool), LabelRule(), np.array([3, 2]))
    assert found[0].tolist() == [True, True, True, False, False]
    assert found[1].tolist() == [True, False, True, False, False]  # none passes: the two smallest p


def test_shrinkage_pulls_uncertain_effects_more():
    effect, se = np.array([[2.0, 2.0, 0.1, -0.1]]), np.array([[0.1, 1.5, 0.1, 0.1]])
    found = shrunken(effect, se)
    assert found[0, 0] > 2 * found[0, 1] > 0 and np.isnan(shrunken(effect, np.full(se.shape, np.nan))).all()


def test_welch_between_equals_scipy_with_and_without_planted_changes():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(2, 1, (60, 8))).astype(np.float64)
    pool = ControlCells(counts=sp.csc_matrix(counts), scale=rng.uniform(0.5, 2, 60))
    chosen = [np.sort(rng.choice(60, 20, replace=False)) for _ in range(3)]
    splits = sp.csr_matrix((np.ones(60), np.concatenate(chosen), [0, 20, 40, 60]), shape=(3, 60))
    effect, p = welch_between(pool, splits)
    x = np.log1p(counts * pool.scale[:, None])
    for s, rows in enumerate(chosen):
        rest = np.setdiff1d(np.arange(60), rows)
        want = stats.ttest_ind(x[rows], x[rest], equal_var=False)
        assert p[s] == pytest.approx(want.pvalue) and effect[s] == pytest.approx(x[rows].mean(0) - x[rest].mean(0))
    planted = np.zeros((3, 8), dtype=np.int8)
    planted[0, 2], planted[0, 5] = -1, 1
    changed, _ = welch_between(pool, splits, planted=planted, keep=0.0, rng=rng)
    assert changed[0, 2] == pytest.approx(-x[np.setdiff1d(np.arange(60), chosen[0]), 2].mean())
    assert changed[0, 5] == pytest.approx(x[chosen[0], 5].mean())
    planted[:] = 0
    assert welch_between(pool, splits, planted=planted, keep=0.5, rng=rng)[1] == pytest.approx(p)


def test_thinning_gives_every_gene_one_coefficient_of_variation(inp):
    moments = linear_moments(inp)
    keep, share = thinning(moments, quantile=0.5)
    assert keep.sum() == pytest.approx(100, abs=2) and (share[keep] > 0).all() and (share <= 1).all()
    thinned = linear_moments(inp, keep=np.where(keep, share, 0.0), rng=np.random.default_rng(0)).moments
    before = moments.moments
    cv = [m.variance[-1][keep] / m.mean[-1][keep] ** 2 for m in (before, thinned)]
    assert np.std(np.log(cv[1])) < 0.35 * np.std(np.log(cv[0]))
    assert thinned.mean[-1][keep] == pytest.approx(before.mean[-1][keep] * share[keep], rel=0.35)
    assert (thinned.mean[-1][~keep] == 0).all()


def test_thinning_does_not_depend_on_how_cells_are_read(inp):
    """Counts in a file come in blocks; the draws are the same."""
    cells = inp.screen.cells.cells

    class Blocks:
        def __init__(self, matrix):
            self.matrix = matrix

        def blocks(self):
            for start in range(0, self.matrix.shape[0], 37):
                yield start, self.matrix[start : start + 37]

    keep = np.full(len(inp.universe.genes), 0.4)
    whole = linear_moments(inp, keep=keep, rng=np.random.default_rng(1)).moments
    from regulens.analyses import de_power_cells

    columns = np.arange(len(inp.universe.genes))

    def read(blocks):
        fake = type("C", (), {"blocks": blocks, "total_counts": cells.total_counts, "n_genes": cells.n_genes})()
        found = list(de_power_cells._blocks(fake, columns, keep, np.random.default_rng(1)))
        return sp.vstack([b for _, b in found])

    parts, one = read(lambda self: Blocks(cells.counts).blocks()), read(lambda self: iter([(0, cells.counts)]))
    assert abs(parts - one).max() == 0 and np.isfinite(whole.mean).all()


def test_power_favours_well_measured_genes_and_equal_power_does_not(inp, grid):
    """Who responds knows nothing of expression here: called labels do, equal-power labels must not."""
    valid, positive = grid
    level = inp.features.mean
    rng = np.random.default_rng(0)
    moments, pool = linear_moments(inp), control_cells(inp, rng)
    count, size = positive.sum(1), np.full(len(valid), 60)
    planted = planted_labels(inp, pool, valid, count, size, rng, fold=typical_fold(moments, positive))
    placebo = placebo_labels(inp, pool, valid, count, size, rng)
    matched = power_matched_labels(inp, valid, positive, rng, moments)
    found = {
        "called": mean_auroc(level, positive, valid),
        "planted": mean_auroc(level, planted.positive, planted.valid),
        "placebo": mean_auroc(level, placebo.positive, placebo.valid),
        "matched": mean_auroc(level, matched.positive, matched.valid),
        "effect": mean_auroc(level, effect_size_labels(inp, valid, count, moments).positive, valid),
    }
    assert found["called"] > 0.6 and found["planted"] > 0.7
    assert abs(found["matched"] - 0.5) < 0.05 and abs(found["placebo"] - 0.5) < 0.05
    assert 0.5 < found["effect"] < found["called"]
    assert (matched.positive.sum(1) == (positive & matched.valid).sum(1)).all()  # as many as called


def test_a_table_of_effects_is_ranked_by_what_it_has(inp, grid):
    valid, positive = grid
    count = positive.sum(1)
    with_se = effect_size_labels(inp, valid, count, None)
    assert "after shrinkage" in with_se.words and (with_se.positive.sum(1) == count).all()
    effects = inp.screen.labels.effects
    for p in (effects.p, None):
        bare = replace(effects, se=None, p=p)
        again = replace(inp, screen=replace(inp.screen, labels=replace(inp.screen.labels, effects=bare)))
        found = effect_size_labels(again, valid, count, None)
        assert ("not shrunken" in found.words) == (p is None) and (found.positive.sum(1) == count).all()


def test_an_effect_of_unknown_error_is_no_small_effect(inp, grid):
    """A table without the error of some genes cannot rank them: they leave, and are not taken for silent."""
    valid, positive = grid
    count, effects = positive.sum(1), inp.screen.labels.effects
    gone = np.zeros(effects.effect.shape, dtype=bool)
    gone[:, ::7] = True
    bare = replace(effects, se=np.where(gone, np.nan, effects.se))
    again = replace(inp, screen=replace(inp.screen, labels=replace(inp.screen.labels, effects=bare)))
    found = effect_size_labels(again, valid, count, None)
    column = [effects.genes.index(g) for g in inp.universe.genes]
    lost = gone[0][column]
    assert lost.any() and not found.valid[:, lost].any()
    silent = effects.effect[[effects.perturbations.index(p) for p in inp.universe.regulators]][:, column] == 0
    np.testing.assert_array_equal(found.valid[:, ~lost] | silent[:, ~lost], valid[:, ~lost])


def test_too_few_genes_for_equal_power_is_a_reason(inp, grid):
    valid, positive = grid
    few = np.zeros_like(valid)
    few[:, :3] = valid[:, :3]
    moments = linear_moments(inp)
    found = power_matched_labels(inp, few, positive, np.random.default_rng(0), moments, quantile=0.02)
    assert "at least 10 are needed" in found.reason and not found.positive.any()
