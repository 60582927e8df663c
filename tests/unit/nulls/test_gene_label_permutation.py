"""Renamed networks keep their shape and the kind of gene in every place; level with families of genes."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import AlignmentError, ParameterError
from regulens.nulls import NULLS
from regulens.nulls.gene_label_permutation import SPEC, gene_label_permutation, gene_strata, permuted_networks
from regulens.rng import stream
from regulens.stats.ranking import auroc


def network(seed=0, n_regulators=20, n_genes=120):
    rng = stream(seed, "renamed")
    own = np.sort(rng.choice(n_genes, n_regulators, replace=False))
    allowed = np.ones((n_regulators, n_genes), dtype=bool)
    allowed[np.arange(n_regulators), own] = False
    positive = allowed & (rng.random(allowed.shape) < 0.08)
    is_regulator = np.isin(np.arange(n_genes), own)
    columns = [positive.sum(axis=0).astype(float), rng.lognormal(size=n_genes), rng.random(n_genes)]
    return positive, allowed, own, gene_strata(columns, is_regulator=is_regulator, bins=2), columns, rng


def grids(found, allowed):
    out = np.zeros((len(found.positions), *allowed.shape), dtype=bool)
    i, j = np.nonzero(allowed)
    for d, row in enumerate(found.positions):
        kept = row[row >= 0]
        out[d, i[kept], j[kept]] = True
    return out


def test_shape_and_strata_are_preserved():
    positive, allowed, own, stratum, _, rng = network()
    found = permuted_networks(positive, allowed, own, stratum, draws=40, rng=rng)
    assert found.lost == 0.0  # all pairs but self-pairs are allowed, and no edge becomes a self-pair
    for grid in grids(found, allowed):
        assert grid.sum() == positive.sum()
        np.testing.assert_array_equal(np.sort(grid.sum(axis=1)), np.sort(positive.sum(axis=1)))
        for s in np.unique(stratum):  # the genes of a stratum exchange their in-degrees and nothing else
            at = stratum == s
            np.testing.assert_array_equal(np.sort(grid.sum(axis=0)[at]), np.sort(positive.sum(axis=0)[at]))
        shared = [np.sort((g.astype(int) @ g.T.astype(int))[np.triu_indices(len(own), 1)]) for g in (grid, positive)]
        np.testing.assert_array_equal(*shared)  # how many targets two regulators share: families stay families
    assert (found.positions != found.observed).any(axis=1).all()


def test_strata_hold_like_genes_and_regulators_apart():
    _, _, own, stratum, columns, _ = network()
    is_regulator = np.isin(np.arange(120), own)
    for s in np.unique(stratum):
        assert len(np.unique(is_regulator[stratum == s])) == 1
        for x in columns:
            assert len({bool(v > np.quantile(x, 0.5)) for v in x[stratum == s]}) == 1


def test_edges_on_pairs_that_are_not_allowed_are_lost_and_counted():
    positive, allowed, own, stratum, _, rng = network()
    hidden = allowed & (positive | (rng.random(allowed.shape) < 0.7))
    found = permuted_networks(positive, hidden, own, stratum, draws=20, rng=rng)
    assert 0.1 < found.lost < 0.5
    assert found.lost == pytest.approx((found.positions < 0).mean())
    scores = rng.normal(size=(2, hidden.sum()))
    null = gene_label_permutation(scores, positive, hidden, own, stratum, draws=20, rng=stream(9, "n"))
    drawn = permuted_networks(positive, hidden, own, stratum, draws=20, rng=stream(9, "n"))
    for d, grid in enumerate(grids(drawn, hidden)):
        np.testing.assert_allclose(null[:, d], auroc(scores, grid[hidden]), atol=1e-12)


def test_level_with_families_of_genes_in_labels_and_scores():
    """Blocks in labels and in scores without a link, where the rank among degree-preserving draws fails."""
    p = []
    for k in range(120):
        rng = np.random.default_rng([k, 3])
        n_regulators, n_genes = 20, 100
        own, allowed = np.arange(n_regulators), np.ones((n_regulators, n_genes), dtype=bool)
        allowed[own, own] = False
        family, block = rng.integers(4, size=n_genes), rng.integers(5, size=n_genes)
        odds = 2 * rng.normal(size=(4, 4))[family[own]][:, family] + rng.gumbel(size=allowed.shape)
        scores = 1.5 * rng.normal(size=(5, 5))[block[own]][:, block] + 0.5 * rng.normal(size=allowed.shape)
        positive = allowed & (odds > np.quantile(odds[allowed], 0.92))
        stratum = gene_strata([], is_regulator=np.arange(n_genes) < n_regulators, bins=1)
        flat = scores[allowed][None]
        null = gene_label_permutation(flat, positive, allowed, own, stratum, draws=39, rng=rng)[0]
        p.append((1 + (null >= auroc(flat, positive[allowed])[0]).sum()) / 40)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)


def test_single_genes_of_a_stratum_are_counted_as_fixed():
    positive, allowed, own, _, _, rng = network()
    found = permuted_networks(positive, allowed, own, np.arange(120), draws=3, rng=rng)
    assert found.n_fixed == 120
    np.testing.assert_array_equal(found.positions, np.tile(found.observed, (3, 1)))


def test_refusals_name_what_was_expected():
    positive, allowed, own, stratum, _, rng = network()
    with pytest.raises(AlignmentError, match="Expected positives inside"):
        permuted_networks(positive, allowed, own, stratum[:5], draws=1, rng=rng)
    with pytest.raises(ParameterError, match="strata of regulators only or of none"):
        permuted_networks(positive, allowed, own, stratum * 0, draws=1, rng=rng)


def test_table_of_nulls():
    assert NULLS["gene_label_permutation"] is SPEC
