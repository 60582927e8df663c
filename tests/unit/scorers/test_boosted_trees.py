"""Compiled boosting against scikit-learn: equal where nothing is drawn, the same ranking where something is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.ensemble import GradientBoostingRegressor

from regulens.errors import ParameterError
from regulens.scorers.boosted_trees import boost, sorted_above_minimum
from regulens.scorers.grnboost2 import grnboost2_scores


def data(seed: int, n: int = 200, p: int = 6, *, kind: str = "dense") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    if kind == "sparse":
        x = np.where(rng.random((n, p)) < 0.3, np.abs(x), 0.0)
    if kind == "three levels":  # no two regulators make the same cut, as they do where one cell is cut off
        x = np.digitize(x, [-0.5, 0.5]).astype(float)
    y = x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * rng.normal(size=n)
    return x.astype(np.float32), y


def ours(x, y, *, own=-1, max_features=None, depth=3, trees=20, rate=0.1, subsample=1.0, window=0, seed=1):
    return boost(
        np.ascontiguousarray(x.T), x.min(axis=0), *sorted_above_minimum(x), y, own,
        x.shape[1] if max_features is None else max_features, depth, trees, rate, subsample, window, seed,
    )  # fmt: skip


def theirs(x, y, **kw) -> np.ndarray:
    """Impurity reductions by feature, summed over trees, in units of summed squared error."""
    model = GradientBoostingRegressor(**{"n_estimators": 20, "random_state": 0, **kw}).fit(x, y)
    return sum(t[0].tree_.compute_feature_importances(normalize=False) for t in model.estimators_) * len(y)


@pytest.mark.parametrize(("kind", "depth"), [("dense", 1), ("sparse", 1), ("three levels", 2), ("three levels", 3)])
def test_without_draws_every_reduction_equals_scikit_learn(kind, depth):
    for seed in range(3):
        x, y = data(seed, n=600, kind=kind)
        got, trees = ours(x, y, depth=depth)
        assert trees == 20
        np.testing.assert_allclose(got, theirs(x, y, max_depth=depth), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_deep_trees_of_continuous_values_reduce_as_much_error_in_all(kind):
    """Several regulators may cut off the same cell, and such ties are broken at random: the sum stays."""
    for seed in range(3):
        x, y = data(seed, kind=kind)
        np.testing.assert_allclose(ours(x, y)[0].sum(), theirs(x, y, max_depth=3).sum(), rtol=2e-3)


def test_the_comparison_notices_a_wrong_learning_rate():
    x, y = data(0, kind="three levels")
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(ours(x, y, depth=2, rate=0.101)[0], theirs(x, y, max_depth=2), rtol=1e-6)


def test_the_target_itself_takes_no_part():
    x, y = data(1, n=600, kind="three levels")
    x[:, 4] = np.digitize(y, [-1.0, 0.0, 1.0])
    assert np.argmax(ours(x, y)[0]) == 4
    got = ours(x, y, own=4)[0]
    assert got[4] == 0
    np.testing.assert_allclose(np.delete(got, 4), theirs(np.delete(x, 4, axis=1), y), rtol=1e-6)


def test_noise_stops_at_once_and_signal_goes_on():
    rng = np.random.default_rng(0)
    x, y = data(2, n=400)
    few = [ours(x, rng.normal(size=400), max_features=1, subsample=0.9, rate=0.01, trees=500, window=25, seed=s)[1]
           for s in range(10)]  # fmt: skip
    many = [ours(x, y, max_features=1, subsample=0.9, rate=0.01, trees=500, window=25, seed=s)[1] for s in range(10)]
    assert min(few) >= 25
    assert np.median(few) < 60
    assert np.median(many) > 200


def test_no_regulator_is_no_importance():
    got, _ = ours(np.zeros((10, 2), np.float32), np.arange(10.0))
    assert got.tolist() == [0, 0]
    got, _ = ours(np.arange(10, dtype=np.float32)[:, None], np.arange(10.0), own=0)
    assert got.tolist() == [0]
    got, _ = ours(np.arange(10, dtype=np.float32)[:, None], np.full(10, 0.1))
    assert got.tolist() == [0]


def test_draws_of_cells_and_regulators_are_distributed_as_in_scikit_learn():
    """Mean reduction per regulator over 60 seeds: the same in both, within the error of the means."""
    x, y = data(3, n=150, p=10, kind="sparse")
    some = {"trees": 25, "rate": 0.2, "max_features": 3, "subsample": 0.6}
    mine = np.array([ours(x, y, seed=s, **some)[0] for s in range(60)])
    theirs_too = {"n_estimators": 25, "learning_rate": 0.2, "max_features": 3, "subsample": 0.6}
    # scikit-learn gives shares of the cells in the bag, and sums over these
    other = np.array([theirs(x, y, random_state=s, **theirs_too) for s in range(60)]) * 0.6
    error = np.sqrt(mine.var(0, ddof=1) / 60 + other.var(0, ddof=1) / 60)
    assert np.abs((mine.mean(0) - other.mean(0)) / error).max() < 3.5
    greedy = np.array([ours(x, y, seed=s, **(some | {"max_features": 10}))[0] for s in range(60)])
    assert np.abs((greedy.mean(0) - other.mean(0)) / error).max() > 7  # another rule of drawing is noticed


@pytest.fixture(scope="module")
def panel() -> dict[str, object]:
    """Three programmes, gamma-Poisson counts; 20 regulators, 24 genes."""
    rng = np.random.default_rng(7)
    programme = rng.gamma(1.0, 1.0, (150, 3))
    counts = rng.poisson(programme @ rng.gamma(0.5, 0.6, (3, 24)))
    genes = tuple(f"G{j}" for j in range(24))
    return {"expression": np.log1p(counts), "genes": genes, "regulators": genes[:20]}


def test_the_ranking_is_that_of_scikit_learn_up_to_its_own_seeds(panel):
    """Agreement with scikit-learn is measured against the agreement of scikit-learn with itself."""
    args = {**panel, "max_trees": 60}
    peers = [grnboost2_scores(**args, engine="scikit-learn", seed=s) for s in (1, 2, 3)]
    mine = [grnboost2_scores(**args, seed=s) for s in (4, 5, 6)]
    ok = peers[0].observed
    peers, mine = ([s.values[0][ok] for s in group] for group in (peers, mine))
    pairs = [(peers[0], peers[1]), (peers[0], peers[2]), (peers[1], peers[2])]
    across = [(a, b) for a in mine for b in peers]
    assert agreement(across) > agreement(pairs) - 0.03
    assert overlap(across) > overlap(pairs) - 3
    shuffled = np.random.default_rng(0).permutation(mine[0])  # the yardstick tells a ranking from another one
    assert agreement([(shuffled, p) for p in peers]) < agreement(pairs) - 0.5


def agreement(pairs) -> float:
    """Mean Spearman correlation."""
    return float(np.mean([spearmanr(a, b).statistic for a, b in pairs]))


def overlap(pairs, k: int = 50) -> float:
    """Mean number of pairs among the k strongest of both."""
    top = [[set(np.argsort(-v)[:k].tolist()) for v in pair] for pair in pairs]
    return float(np.mean([len(a & b) for a, b in top]))


def test_importances_of_a_target_add_up_to_its_trees(panel):
    got = grnboost2_scores(**panel, max_trees=40).values[0]
    sums = got.sum(axis=0)
    assert np.all((sums < 1e-9) | ((sums > 25 - 1e-9) & (sums < 40 + 1e-9)))


def test_bad_settings_are_refused(panel):
    with pytest.raises(ParameterError, match="max_trees of at least 1"):
        grnboost2_scores(**panel, max_trees=0)
    with pytest.raises(ParameterError, match="'compiled' or 'scikit-learn'"):
        grnboost2_scores(**panel, engine="arboreto")
