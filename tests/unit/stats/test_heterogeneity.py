"""Random effects against the formulas written out, shrinkage, and Q where units do not differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.delong import delong, delong_by_unit
from regulens.stats.heterogeneity import RandomEffects, leave_one_out_means, random_effects
from regulens.stats.power import auroc_null_se, auroc_se_at
from regulens.types.estimates import Undefined


def units(k: int = 12, spread: float = 0.1, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    rng = stream(0, f"units/{k}/{spread}/{name}")
    se = rng.uniform(0.03, 0.2, k)
    return 0.6 + spread * rng.normal(size=k) + se * rng.normal(size=k), se


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_equals_statsmodels(spread):
    y, se = units(spread=spread)
    found = random_effects(y, se)
    wanted = combine_effects(y, se**2, method_re="chi2", use_t=True)
    assert found.tau2 == pytest.approx(max(wanted.tau2, 0.0))
    assert found.q == pytest.approx(wanted.q)
    assert found.p == pytest.approx(stats.chi2.sf(wanted.q, 11))
    assert (wanted.tau2 > 0) == (spread > 0)
    if wanted.tau2 > 0:  # statsmodels goes on with a negative variance
        assert found.mean.value == pytest.approx(wanted.mean_effect_re)
        assert found.mean.se == pytest.approx(max(wanted.sd_eff_w_re_hksj, wanted.sd_eff_w_re))


def test_shrinkage_moves_uncertain_units_most():
    y, se = units(spread=0.3)
    found = random_effects(y, se)
    moved = np.abs(found.shrunk - y) / np.abs(y - found.mean.value)
    assert stats.spearmanr(moved, se).statistic == pytest.approx(1.0)
    assert ((found.shrunk - found.mean.value) * (y - found.mean.value) >= 0).all()
    assert (found.shrunk_low < found.shrunk).all() and (found.shrunk < found.shrunk_high).all()


def test_equal_units_are_shrunk_to_one_value():
    found = random_effects(np.array([0.5, 0.5, 0.5, 0.5]), np.full(4, 0.1))
    assert (found.tau2, found.q, found.p, found.i2) == (0.0, 0.0, 1.0, 0.0)
    np.testing.assert_allclose(found.shrunk, 0.5)


def test_shrunken_units_are_closer_to_the_truth_and_their_intervals_cover_it():
    rng = stream(1, "shrink")
    raw, shrunk, covered, means = [], [], [], []
    for _ in range(300):
        se = rng.uniform(0.05, 0.2, 20)
        truth = 0.6 + 0.1 * rng.normal(size=20)
        y = truth + se * rng.normal(size=20)
        found = random_effects(y, se)
        raw.append(np.mean((y - truth) ** 2))
        shrunk.append(np.mean((found.shrunk - truth) ** 2))
        covered.append(np.mean((found.shrunk_low <= truth) & (truth <= found.shrunk_high)))
        means.append(found.mean.low <= 0.6 <= found.mean.high)
    assert np.mean(shrunk) < 0.8 * np.mean(raw)
    assert np.mean(covered) >= 0.945
    assert np.mean(means) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300)


def test_prediction_interval_holds_a_new_unit():
    rng = stream(2, "predict")
    hits = []
    for _ in range(400):
        se = rng.uniform(0.05, 0.1, 15)
        found = random_effects(0.6 + 0.15 * rng.normal(size=15) + se * rng.normal(size=15), se)
        hits.append(found.prediction[0] <= 0.6 + 0.15 * rng.normal() <= found.prediction[1])
    assert np.mean(hits) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 400) - 0.01


def test_q_holds_its_level_with_known_errors_and_finds_a_spread():
    rng = stream(3, "q")

    def rate(spread: float) -> float:
        p = []
        for _ in range(400):
            se = rng.uniform(0.03, 0.2, 15)
            p.append(random_effects(spread * rng.normal(size=15) + se * rng.normal(size=15), se).p)
        return float(np.mean(np.array(p) <= 0.05))

    assert rate(0.0) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert rate(0.2) > 0.8


@pytest.mark.parametrize(("shift", "sizes"), [(0.0, (3, 20)), (0.5, (3, 6)), (1.2, (3, 20))])
def test_q_over_aurocs_holds_with_the_common_error_and_not_with_each_units_own(shift, sizes):
    rng = stream(4, f"q/{shift}/{sizes}")
    common, own = [], []
    for _ in range(200):
        n = rng.integers(*sizes, 25)
        label = (np.arange(200) < n[:, None]).ravel()
        found = delong_by_unit(rng.normal(size=5000) + shift * label, label, np.repeat(np.arange(25), 200))
        common.append(random_effects(found.auroc[0], found.common_se[0], se_df=found.common_df).p)
        has = np.isfinite(found.se[0])
        own.append(random_effects(found.auroc[0][has], found.se[0][has]).p)
    assert np.mean(np.array(common) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(np.array(own) <= 0.05) > 0.2


def test_unit_aurocs_equal_delong_inside_each_unit():
    rng = stream(5, "by unit")
    unit = rng.integers(0, 6, 600) * 10
    label = rng.random(600) < 0.1
    label[unit == 50] = False
    scores = np.round(rng.normal(size=(3, 600)) + label, 1)
    found = delong_by_unit(scores, label, unit)
    assert found.units.tolist() == [0, 10, 20, 30, 40, 50]
    for u, name in enumerate(found.units[:-1]):
        one = delong(scores[:, unit == name], label[unit == name])
        np.testing.assert_allclose(found.auroc[:, u], one.estimate, atol=1e-13)
        np.testing.assert_allclose(found.se[:, u], one.se, rtol=1e-10)
        assert found.n_pos[u] == label[unit == name].sum()
    assert np.isnan(found.auroc[:, 5]).all() and np.isnan(found.common_se[:, 5]).all()
    assert found.common_df == (found.n_pos[:5] - 1).sum()
    assert np.isfinite(found.common_se[:, :5]).all()


def test_a_unit_with_one_positive_has_a_rank_and_only_the_common_error():
    label = np.zeros(60, bool)
    label[[0, 20, 25, 40, 41, 42]] = True
    found = delong_by_unit(stream(6, "one").normal(size=60), label, np.repeat([0, 1, 2], 20))
    assert np.isnan(found.se[0, 0]) and np.isfinite(found.auroc[0, 0]) and found.common_se[0, 0] > 0


def test_leaving_one_out():
    y, se = units()
    out = leave_one_out_means(y, se)
    assert out[3] == pytest.approx(random_effects(np.delete(y, 3), np.delete(se, 3)).mean.value)
    assert isinstance(leave_one_out_means(y[:3], se[:3]), Undefined)


def test_too_few_units_and_refusals():
    assert isinstance(random_effects(np.array([0.5, 0.6]), np.array([0.1, 0.1])), Undefined)
    assert isinstance(random_effects(*units()), RandomEffects)
    for call in (
        lambda: random_effects(np.array([0.5, np.nan, 0.5]), np.ones(3)),
        lambda: random_effects(np.ones(3), np.zeros(3)), lambda: random_effects(np.ones(3), np.ones(3), level=95),
        lambda: random_effects(np.ones(3), np.ones(3), se_df=0), lambda: auroc_se_at(1.0, 3, 4),
        lambda: auroc_se_at(0.6, 0, 4),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=r"^Expected .*got"):
            call()


def test_error_at_one_half_is_the_null_error():
    # exponential scores at 0.5 have the distribution-free null variance
    assert auroc_se_at(0.5, 27, 1304) == pytest.approx(auroc_null_se(27, 1304), rel=1e-3)
    assert auroc_se_at(0.9, 27, 1304) < auroc_se_at(0.6, 27, 1304)
