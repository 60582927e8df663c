"""Methods that infer networks from expression: each against a library or plain code, and what they all share."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import norm, rankdata
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso
from sklearn.metrics import mutual_info_score

from regulens.errors import AlignmentError, ParameterError
from regulens.scorers import grnboost2
from regulens.scorers.ensemble import ensemble_scores
from regulens.scorers.genie3 import genie3_scores
from regulens.scorers.lasso import lasso_scores, universal_alpha
from regulens.scorers.mutual_information import mutual_information_scores, quantile_bins
from regulens.scorers.network_inference import FAST, METHODS, check_methods, infer
from regulens.scorers.partial_correlation import partial_correlation_scores
from regulens.scorers.pearson import pearson_scores
from regulens.scorers.tree_regression import target_seeds
from regulens.types.edges import EdgeScores

GENES = tuple(f"G{j}" for j in range(12))
REGULATORS = ("G7", "G2", "G5", "G10")


def expression(seed: int = 0, n_cells: int = 120) -> np.ndarray:
    """Sparse counts, logged; G2 drives G0, G5 and G7 together drive G1; G10 is constant."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.8, (n_cells, len(GENES))).astype(float)
    counts[:, 0] = counts[:, 2] * 2 + rng.poisson(0.3, n_cells)
    counts[:, 1] = counts[:, 5] + counts[:, 7] + rng.poisson(0.2, n_cells)
    counts[:, 10] = 1.0
    return np.log1p(counts)


def score(name: str, x: np.ndarray, **kw) -> EdgeScores:
    if name == "genie3":
        return genie3_scores(x, genes=GENES, regulators=REGULATORS, n_trees=30, **kw)
    return infer(name, x, genes=GENES, regulators=REGULATORS, **kw)


@pytest.fixture(scope="module")
def found() -> dict[str, EdgeScores]:
    return {name: score(name, expression()) for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_self_pairs_and_constant_genes_have_no_score(name, found):
    observed = found[name].observed
    assert found[name].names == (name,)
    assert not observed[3].any()  # a regulator that does not vary
    assert not observed[:, 10].any()  # a target that does not vary
    own = [GENES.index(r) for r in REGULATORS]
    assert not observed[np.arange(4), own].any()
    assert observed.sum() == 3 * 10
    assert (found[name].values >= 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_planted_regulators_stand_out_and_orientation_is_regulator_by_target(name, found):
    values = found[name].values[0]
    g0, g1 = values[:, 0], values[:, 1]
    assert np.argmax(g0) == REGULATORS.index("G2")
    assert set(np.argsort(-g1)[:2]) == {REGULATORS.index("G5"), REGULATORS.index("G7")}


@pytest.mark.parametrize("name", METHODS)
def test_sparse_and_dense_and_the_order_of_targets_give_the_same(name, found):
    x = expression()
    sparse = score(name, sp.csc_matrix(x)).values
    np.testing.assert_array_equal(sparse, found[name].values)
    order = np.random.default_rng(1).permutation(len(GENES))
    genes = tuple(GENES[j] for j in order)
    if name == "genie3":
        moved = genie3_scores(x[:, order], genes=genes, regulators=REGULATORS, n_trees=30)
    else:
        moved = infer(name, x[:, order], genes=genes, regulators=REGULATORS)
    np.testing.assert_allclose(moved.values[0], found[name].values[0][:, order], atol=1e-10)


@pytest.mark.parametrize("name", ["genie3", "grnboost2"])
def test_two_workers_give_the_same_bytes_and_another_seed_other_ones(name, monkeypatch):
    monkeypatch.setattr(grnboost2, "_SMALL", 0)
    x = expression(n_cells=60)
    x = np.concatenate([x, expression(1, 60)], axis=1)  # more targets than one task holds
    genes = (*GENES, *(f"H{j}" for j in range(12)))
    args = {"n_trees": 5} if name == "genie3" else {}
    run = {"genie3": genie3_scores}.get(name) or (lambda *a, **k: infer("grnboost2", *a, **k))
    one = run(x, genes=genes, regulators=REGULATORS, jobs=1, **args)
    two = run(x, genes=genes, regulators=REGULATORS, jobs=2, **args)
    np.testing.assert_array_equal(one.values, two.values)
    other = run(x, genes=genes, regulators=REGULATORS, seed=1, **args)
    assert not np.array_equal(one.values, other.values)


def test_seeds_follow_the_gene_and_not_its_place():
    a, b = target_seeds("grnboost2", ["A", "B"], 42), target_seeds("grnboost2", ["B", "C", "A"], 42)
    assert a.tolist() == [b[2], b[0]]
    assert len(set(b.tolist())) == 3


def test_pearson_equals_numpy(found):
    x = expression()
    wanted = np.abs(np.corrcoef(np.delete(x, 10, axis=1).T))
    assert found["pearson"].values[0, 1, 8] == pytest.approx(wanted[2, 8], abs=1e-12)


def test_mutual_information_equals_scikit_learn_on_the_same_bins():
    x = expression()
    x[:, 3] = np.random.default_rng(5).normal(size=len(x))  # all values differ
    for n_bins in (2, 5, 9):
        got = mutual_information_scores(x, genes=GENES, regulators=REGULATORS, n_bins=n_bins)
        bins = quantile_bins(x, n_bins)
        for i, r in enumerate(REGULATORS[:3]):
            for j in range(len(GENES)):
                if got.observed[i, j]:
                    wanted = mutual_info_score(bins[:, GENES.index(r)], bins[:, j])
                    assert got.values[0, i, j] == pytest.approx(wanted, abs=1e-12)


def test_mutual_information_sees_what_correlation_does_not():
    rng = np.random.default_rng(0)
    a = rng.normal(size=600)
    x = np.stack([a, a**2 + 0.1 * rng.normal(size=600), rng.normal(size=600)], axis=1)
    args = {"genes": ("A", "B", "C"), "regulators": ("A",)}
    mi, rho = mutual_information_scores(x, **args).values[0, 0], pearson_scores(x, **args).values[0, 0]
    assert mi[1] > 10 * mi[2]
    assert rho[1] < 0.2


def test_zeros_are_one_bin_however_many():
    x = np.r_[np.zeros(90), np.arange(1, 11)][:, None]
    bins = quantile_bins(x, 10).ravel()
    assert len(set(bins[:90])) == 1
    assert bins[90:].min() > bins[0]


def test_partial_correlation_is_that_of_the_shrunken_precision():
    x = np.delete(expression(), 10, axis=1)
    genes = tuple(g for g in GENES if g != "G10")
    z = (x - x.mean(0)) / x.std(0)
    omega = np.linalg.inv(LedoitWolf(assume_centered=True).fit(z).covariance_)
    got = partial_correlation_scores(x, genes=genes, regulators=("G2",)).values[0, 0]
    wanted = np.abs(omega[2]) / np.sqrt(omega[2, 2] * np.diag(omega))
    np.testing.assert_allclose(np.delete(got, 2), np.delete(wanted, 2), atol=1e-10)
    other = partial_correlation_scores(x, genes=genes, regulators=("G2",), shrinkage="oas").values[0, 0]
    assert not np.allclose(got, other)


def test_partial_correlation_removes_an_indirect_link():
    rng = np.random.default_rng(2)
    a = rng.normal(size=3000)
    b = a + 0.5 * rng.normal(size=3000)
    c = b + 0.5 * rng.normal(size=3000)
    x = np.stack([a, b, c], axis=1)
    args = {"genes": ("A", "B", "C"), "regulators": ("A",)}
    assert pearson_scores(x, **args).values[0, 0, 2] > 0.7
    assert partial_correlation_scores(x, **args).values[0, 0, 2] < 0.1


def test_lasso_equals_a_plain_fit_per_target():
    x = expression()
    got = lasso_scores(x, genes=GENES, regulators=REGULATORS, alpha=0.05)
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    own = [7, 2, 5]
    for target in (0, 1, 2, 11):
        use = [r for r in own if r != target]
        wanted = np.abs(Lasso(alpha=0.05, fit_intercept=False, tol=1e-10).fit(z[:, use], z[:, target]).coef_)
        rows = [own.index(r) for r in use]
        np.testing.assert_allclose(got.values[0, rows, target], wanted, atol=1e-3)


def test_lasso_selects_in_noise_what_the_threshold_lets_through():
    """A standardised product of noise exceeds √(2 ln 30) in 0.91 % of pairs."""
    x = np.random.default_rng(3).normal(size=(400, 600))
    genes = tuple(f"N{j}" for j in range(600))
    got = lasso_scores(x, genes=genes, regulators=genes[:30])
    expected = 2 * norm.sf(np.sqrt(2 * np.log(30)))
    assert (got.values > 0)[0, :, 30:].mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / (30 * 570)))
    assert got.provenance["alpha"] == f"{universal_alpha(400, 30):.6g}"


def test_genie3_is_a_random_forest_without_the_target_itself():
    x = expression()
    got = genie3_scores(x, genes=GENES, regulators=REGULATORS, n_trees=20).values[0]
    seed = int(target_seeds("genie3", ["G5"], 42)[0])
    forest = RandomForestRegressor(n_estimators=20, max_features="sqrt", random_state=seed)
    wanted = forest.fit(x[:, [7, 2]].astype(np.float32), x[:, 5]).feature_importances_
    np.testing.assert_allclose(got[:2, 5], wanted, atol=1e-12)
    assert got[:, 0].sum() == pytest.approx(1)


def test_ensemble_is_the_mean_of_normalised_ranks(found):
    both = [found["pearson"], found["spearman"]]
    got = ensemble_scores(both)
    ok = got.observed
    wanted = np.mean([rankdata(s.values[0][ok]) / ok.sum() for s in both], axis=0)
    np.testing.assert_allclose(got.values[0][ok], wanted)
    monotone = EdgeScores(
        values=np.expm1(both[0].values), observed=ok, names=("pearson",), genes=GENES, regulators=REGULATORS
    )
    np.testing.assert_array_equal(ensemble_scores([monotone, both[1]]).values, got.values)
    with pytest.raises(ParameterError, match="at least one method"):
        ensemble_scores([])
    with pytest.raises(AlignmentError, match="one grid"):
        ensemble_scores([both[0], pearson_scores(expression(), genes=GENES, regulators=("G2",))])


def test_bad_input_is_one_sentence():
    x = expression()
    with pytest.raises(AlignmentError, match=r"Expected one column per gene \(12\)"):
        infer("pearson", x[:, :5], genes=GENES, regulators=REGULATORS)
    with pytest.raises(AlignmentError, match="missing Z9"):
        infer("lasso", x, genes=GENES, regulators=("Z9",))
    with pytest.raises(ParameterError, match=r"got 'genie'\. Did you mean 'genie3'"):
        check_methods(["genie"])
    with pytest.raises(ParameterError, match="every method once"):
        check_methods(["lasso", "lasso"])
    broken = x.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ParameterError, match="NaN or infinity"):
        infer("grnboost2", broken, genes=GENES, regulators=REGULATORS)
    with pytest.raises(ParameterError, match="at least 2 bins"):
        mutual_information_scores(x, genes=GENES, regulators=REGULATORS, n_bins=1)
    with pytest.raises(ParameterError, match="alpha > 0"):
        lasso_scores(x, genes=GENES, regulators=REGULATORS, alpha=0.0)


@pytest.mark.parametrize("name", FAST)
def test_nothing_that_varies_is_no_score_and_no_crash(name):
    got = infer(name, np.ones((5, 3)), genes=("A", "B", "C"), regulators=("A",))
    assert not got.observed.any()
    one = infer(name, np.random.default_rng(0).poisson(1, (9, 2)) * 1.0, genes=("A", "B"), regulators=("A",))
    assert one.observed.tolist() == [[False, True]]
