"""Every scorer against a hand-written formula; missing is not zero; orientation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from regulens.errors import AlignmentError, ParameterError
from regulens.scorers import SCORERS
from regulens.scorers.attention import attention_scores
from regulens.scorers.coexpression import coexpression_scores
from regulens.scorers.gene_level import gene_level_scores
from regulens.scorers.marginal_product import marginal_product
from regulens.scorers.random import random_scores
from regulens.testing.worlds import make_world
from regulens.types.attention import Direction
from regulens.types.edges import EdgeScores


@pytest.fixture(scope="module")
def world():
    return make_world("planted_pairs", seed=3, n_regulators=8, n_genes=30, n_cells=60, n_edges=30)


def test_attention_is_sum_over_count_per_head(world):
    s = world.summary
    for direction in Direction:
        found = attention_scores(s, direction=direction, min_cells=5)
        counts, sums = s.counts.sum(axis=0), s.sums.sum(axis=0, dtype=np.float64)
        for layer in range(s.n_layers):
            for head in range(s.n_heads):
                got = found.select([f"L{layer:02d}_H{head:02d}"]).values[0]
                wanted = sums[layer, head, direction.axis][found.observed] / counts[found.observed]
                np.testing.assert_allclose(got[found.observed], wanted, rtol=1e-12)
        heads = found.values[: s.n_layers * s.n_heads].reshape(s.n_layers, s.n_heads, *counts.shape)
        np.testing.assert_allclose(found.select(["L01_mean"]).values[0], heads[1].mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.select(["pooled"]).values[0], heads.mean((0, 1)), rtol=1e-12)


def test_directions_differ_and_unobserved_pairs_stay_out(world):
    a = attention_scores(world.summary, direction="regulator_attends", min_cells=5)
    b = attention_scores(world.summary, direction="target_attends", min_cells=5)
    assert not np.allclose(a.values, b.values)
    assert np.array_equal(a.observed, (world.summary.counts.sum(axis=0) >= 5))
    more = attention_scores(world.summary, direction="regulator_attends", min_cells=35)
    assert more.observed.sum() < a.observed.sum()
    own = world.universe.regulator_columns()
    assert not a.observed[np.arange(len(own)), own].any()


def test_names_are_layer_major_and_zero_based(world):
    found = attention_scores(world.summary, direction="regulator_attends", min_cells=1)
    assert found.names[:3] == ("L00_H00", "L00_H01", "L01_H00")
    assert found.names[-1] == "pooled"
    assert found.layers[-2:] == (2, -1)
    assert found.heads[-1] == -1


def test_attention_refuses_bad_arguments(world):
    with pytest.raises(ParameterError, match="Expected min_cells of at least 1, got 0"):
        attention_scores(world.summary, direction="regulator_attends", min_cells=0)
    with pytest.raises(ParameterError, match="Expected a direction among"):
        attention_scores(world.summary, direction="up", min_cells=1)


def test_coexpression_equals_scipy_and_constant_genes_are_unobserved():
    rng = np.random.default_rng(0)
    x = rng.poisson(0.7, (50, 6)).astype(float)
    x[:, 4] = 2.0
    genes = tuple("ABCDEF")
    found = coexpression_scores(sp.csc_matrix(x), genes=genes, regulators=("B", "E"))
    for j in (0, 2, 3, 5):
        rho = spearmanr(x[:, 1], x[:, j]).statistic
        assert found.values[1, 0, j] == pytest.approx(rho, abs=1e-12)
        assert found.values[0, 0, j] == pytest.approx(abs(rho), abs=1e-12)
    assert not found.observed[0, 4]  # constant target
    assert not found.observed[1].any()  # constant regulator
    assert not found.observed[0, 1]  # itself


def test_gene_level_scores_know_no_pair():
    genes, regulators = ("A", "B", "C"), ("C", "A")
    found = gene_level_scores({"mean": np.array([1.0, 2.0, 3.0])}, genes=genes, regulators=regulators)
    assert found.values[0][0].tolist() == [3.0, 6.0, 0.0]
    assert found.values[1][1].tolist() == [0.0, 1.0, 1.0]
    assert found.values[2][1].tolist() == [0.0, 2.0, 3.0]
    with pytest.raises(AlignmentError, match="missing Z"):
        gene_level_scores({"mean": np.ones(3)}, genes=genes, regulators=("Z",))
    with pytest.raises(ParameterError, match="finite, non-negative"):
        gene_level_scores({"mean": np.array([1.0, np.nan, 1.0])}, genes=genes, regulators=regulators)


def test_marginal_product_uses_observed_pairs_only(world):
    scores = attention_scores(world.summary, direction="regulator_attends", min_cells=5).select(["pooled"])
    found = marginal_product(scores)
    a = np.where(scores.observed, scores.values[0], np.nan)
    wanted = np.nanmean(a, axis=1)[:, None] * np.nanmean(a, axis=0)[None, :]
    np.testing.assert_allclose(found.values[0][found.observed], wanted[found.observed], rtol=1e-12)
    assert np.array_equal(found.observed, scores.observed)


@pytest.mark.parametrize("kind", ["logit", "log_probability", "mean_cell_logit"])
def test_margins_of_logits_are_added(kind):
    """The sum of margins of logarithms ranks pairs as the product of their geometric margins does."""
    rng = np.random.default_rng(1)
    shares = rng.uniform(0.01, 0.9, (4, 7)) * rng.uniform(0.1, 1, (4, 1)) * rng.uniform(0.1, 1, (1, 7))
    observed = np.ones((4, 7), dtype=bool)
    made = {"genes": tuple("ABCDEFG"), "regulators": tuple("WXYZ"), "names": ("a",), "observed": observed}
    found = marginal_product(EdgeScores(values=np.log(shares)[None], provenance={"kind": kind}, **made))
    geometric = np.exp(np.log(shares).mean(1))[:, None] * np.exp(np.log(shares).mean(0))[None, :]
    assert spearmanr(found.values[0].ravel(), geometric.ravel()).statistic == pytest.approx(1)
    np.testing.assert_allclose(found.values[0].mean(), np.log(shares).mean())
    # Scores that are margins and nothing else come back as they are, of any sign; a product would turn them around.
    plain = np.array([-3.0, -1.0, 0.5, 2.0])[:, None] + np.linspace(-2, 1, 7)[None, :]
    again = marginal_product(EdgeScores(values=plain[None], **made))
    np.testing.assert_allclose(again.values[0], plain, atol=1e-12)
    assert "scale of logits" in again.provenance["form"]
    positive = marginal_product(EdgeScores(values=shares[None], **made))
    assert "form" not in positive.provenance
    # Logits that all happen to be positive are still logits.
    shifted = marginal_product(EdgeScores(values=plain[None] + 100, provenance={"kind": kind}, **made))
    np.testing.assert_allclose(shifted.values[0], plain + 100, atol=1e-10)


def test_random_scores_come_from_the_stream():
    args = {"genes": ("A", "B"), "regulators": ("A",)}
    a, b = (random_scores(**args, rng=np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(a.values, b.values)


def test_every_registered_scorer_has_a_complete_spec():
    for name in SCORERS:
        spec = SCORERS[name]
        assert spec.name == name
        assert callable(spec.function)
        assert spec.summary
        assert spec.version >= 1
