"""The joint test of a grid: against all sign patterns, its level with shared genes, and the twin that fails there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import stdtrit

from regulens.errors import AlignmentError, ParameterError
from regulens.stats.by_row import Rows, mean_auroc_deviations
from regulens.stats.inference import default_se
from regulens.stats.specification_curve import flipped_curve, two_way_loading


def test_flips_are_all_sign_patterns():
    rng = np.random.default_rng(0)
    loading = rng.normal(size=(5, 9)) + 0.15
    estimate = loading.sum(axis=1)
    drawn = np.array(list(itertools.product([-1.0, 1.0], repeat=9))) @ loading.T
    share, mean = (estimate > 0).mean(), estimate.mean()
    shares, means = (drawn > 0).mean(1), drawn.mean(1)
    exact = ((shares > share) | ((shares == share) & (means >= mean - 1e-12))).mean()
    found = flipped_curve(estimate, loading, draws=20_000, rng=rng)
    assert found.share == share
    assert found.p == pytest.approx(exact, abs=0.012)
    assert found.p_share == pytest.approx((shares >= share).mean(), abs=0.012)


def test_a_share_alone_cannot_be_significant_where_specifications_go_together():
    loading = np.repeat(np.full((1, 30), 0.02), 27, axis=0)
    found = flipped_curve(loading.sum(axis=1), loading, draws=999, rng=np.random.default_rng(1))
    assert found.share == 1.0
    assert found.p == 0.001
    assert found.p_share > 0.4


def test_undefined_specifications_leave_and_nothing_to_flip_is_none():
    loading = np.array([[0.1, 0.2], [0.3, 0.1], [0.0, 0.0]])
    found = flipped_curve(np.array([0.3, 0.4, np.nan]), loading, draws=99, rng=np.random.default_rng(2))
    assert found.n == 2
    assert flipped_curve(np.array([np.nan]), loading[:1], draws=9, rng=np.random.default_rng(2)) is None
    assert flipped_curve(np.array([0.0]), np.zeros((1, 3)), draws=9, rng=np.random.default_rng(2)) is None
    with pytest.raises(AlignmentError, match="one row of contributions"):
        flipped_curve(np.zeros(2), loading, draws=9, rng=np.random.default_rng(2))
    with pytest.raises(ParameterError, match="at least one draw"):
        flipped_curve(np.zeros(3), loading, draws=0, rng=np.random.default_rng(2))


def _world(rng, *, n=25, genes=120, propensity=1.0, margin=1.0):
    """Nested label sets of one screen, two scores that know nothing; genes have habits of their own in both."""
    pull = propensity * rng.normal(size=genes) + rng.gumbel(size=(n, genes))
    scores = margin * rng.normal(size=(2, 1, genes)) + rng.normal(size=(2, n, genes))
    i, j = (a.ravel() for a in np.indices((n, genes)))
    parts, flips, estimate = [], [], []
    for share in (0.05, 0.1, 0.2):
        cut = -np.sort(-pull, axis=1)[:, int(share * genes) - 1]
        rows = Rows.build((pull >= cut[:, None]).ravel(), i, j)
        d = mean_auroc_deviations(scores[0].reshape(1, -1), rows, baseline=scores[1].ravel())
        parts.append(default_se(d))
        gap = rows.placements(scores[0].ravel())[1] - rows.placements(scores[1].ravel())[1]
        flips.append(gap / n)
        estimate.append(d.estimate[0])
    return np.array(estimate), two_way_loading(parts), np.array(flips)


def rejections(worlds, seed):
    """Share of worlds in which the two-way test, and the twin that flips perturbations alone, reject at 5 %.

    Last, the share in which the 95 % interval of the mean over the grid holds the truth.
    """
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(worlds):
        estimate, two_way, alone = _world(rng)
        rejected = [flipped_curve(estimate, load, draws=199, rng=rng).p <= 0.05 for load in (two_way, alone)]
        se = np.sqrt(np.square(two_way.mean(axis=0)).sum())
        out.append([*rejected, abs(estimate.mean()) <= stdtrit(24, 0.975) * se])
    return np.mean(out, axis=0)


def test_level_holds_when_genes_are_shared_and_flips_of_perturbations_alone_do_not():
    two_way, alone, held = rejections(120, seed=3)
    assert two_way <= 0.11
    assert alone >= 0.12
    assert held >= 0.89


@pytest.mark.long
def test_level_in_many_worlds():
    two_way, alone, held = rejections(1000, seed=4)
    assert two_way <= 0.07
    assert alone >= 0.15
    assert held >= 0.93


def test_the_loading_has_the_two_way_standard_error():
    rng = np.random.default_rng(5)
    i, j = (a.ravel() for a in np.indices((12, 40)))
    rows = Rows.build(rng.random(480) < 0.2, i, j)
    part = default_se(mean_auroc_deviations(rng.normal(size=(1, 480)), rows))
    assert np.sqrt(np.square(two_way_loading([part])).sum()) == pytest.approx(part.se[0])
