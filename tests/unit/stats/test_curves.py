"""Golden AICc table, curves that are recovered, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.curves import compare_curves, fit_curve, leave_one_size_out, monotone_trend
from regulens.types.estimates import Undefined

#: The published curve: nine sizes, mean AUROC of two repeats each.
SIZES = np.array([25, 50, 100, 150, 200, 300, 500, 750, 1000.0])
AUROC = np.array([0.5359, 0.5419, 0.5445, 0.5557, 0.5924, 0.5936, 0.6072, 0.6106, 0.5960])


def test_aicc_table_golden():
    table = compare_curves(SIZES, AUROC)
    assert table["family"].tolist() == ["log", "saturation", "power", "linear", "constant"]
    assert table["aicc"].round(2).tolist() == [-69.24, -66.73, -62.05, -61.27, -58.03]
    assert table["akaike_weight"].sum() == pytest.approx(1.0)
    assert table["left_out_rmse"].notna().all()
    assert (table["undefined"] == "").all()


def test_parameters_golden():
    exp, log, line = (fit_curve(f, SIZES, AUROC) for f in ("saturation", "log", "linear"))
    assert (round(exp.parameters["a"], 4), round(exp.parameters["b"], 5), round(exp.parameters["c"], 4)) == (
        0.0888, 0.00554, 0.5185,
    )  # fmt: skip
    assert (round(exp.r2, 3), round(1 / exp.parameters["b"])) == (0.900, 181)
    assert round(exp.parameters["a"] + exp.parameters["c"], 3) == 0.607
    assert (round(log.parameters["a"], 5), round(log.parameters["c"], 4), round(log.r2, 3)) == (0.02238, 0.4572, 0.831)
    assert (round(line.parameters["a"], 7), round(line.parameters["c"], 4), round(line.r2, 3)) == (
        6.83e-5, 0.5520, 0.591,
    )  # fmt: skip


def test_saturation_equals_scipy_from_the_published_start():
    def curve(n, a, b, c):
        return a * (1 - np.exp(-b * n)) + c

    wanted, _ = curve_fit(
        curve, SIZES, AUROC, p0=(np.ptp(AUROC), 0.001, AUROC.min()), ftol=1e-15, xtol=1e-15, gtol=1e-15
    )
    found = fit_curve("saturation", SIZES, AUROC)
    np.testing.assert_allclose([found.parameters[k] for k in "abc"], wanted, rtol=1e-4)
    np.testing.assert_allclose(found.predict(SIZES), curve(SIZES, *wanted), atol=1e-7)


@pytest.mark.parametrize(
    ("family", "truth"),
    [
        ("linear", lambda n: 0.001 * n + 0.4), ("log", lambda n: 0.03 * np.log(n) + 0.3),
        ("power", lambda n: -0.9 * n**-0.7 + 0.8), ("power", lambda n: 0.02 * n**0.6 + 0.1),
        ("saturation", lambda n: 0.3 * (1 - np.exp(-0.02 * n)) + 0.5),
        ("constant", lambda n: np.full_like(n, 0.6)),
    ],
)  # fmt: skip
def test_the_curve_that_made_the_points_wins(family, truth):
    n = np.repeat(np.geomspace(10, 1000, 12), 4)
    y = truth(n) + stream(0, f"curves/{family}").normal(0, 0.002, n.size)
    table = compare_curves(n, y)
    assert table.loc[0, "family"] == family
    np.testing.assert_allclose(fit_curve(family, n, y).predict(n), truth(n), atol=0.003)


def test_predictions_follow_the_printed_formula():
    power, exp = fit_curve("power", SIZES, AUROC).parameters, fit_curve("saturation", SIZES, AUROC).parameters
    np.testing.assert_allclose(
        fit_curve("power", SIZES, AUROC).predict(SIZES), power["a"] * SIZES ** power["b"] + power["c"], atol=1e-10
    )
    np.testing.assert_allclose(
        fit_curve("saturation", SIZES, AUROC).predict(SIZES), exp["a"] * (1 - np.exp(-exp["b"] * SIZES)) + exp["c"]
    )


def test_weights_count_like_repeats_in_the_curve_but_not_in_the_number_of_points():
    weight = np.array([1, 2, 3, 1, 1, 2, 1, 1, 4.0])
    times = weight.astype(int)
    for family in ("linear", "log", "saturation"):
        weighted = fit_curve(family, SIZES, AUROC, weight)
        repeated = fit_curve(family, np.repeat(SIZES, times), np.repeat(AUROC, times))
        np.testing.assert_allclose(weighted.predict(SIZES), repeated.predict(SIZES), atol=1e-8)
        assert weighted.r2 == pytest.approx(repeated.r2)
        assert weighted.n_points == 9
    scaled = fit_curve("log", SIZES, AUROC, 7 * weight)
    assert scaled.aicc == pytest.approx(fit_curve("log", SIZES, AUROC, weight).aicc)


def test_leaving_a_size_out_leaves_all_its_repeats_out():
    n, y = np.repeat(SIZES, 2), np.repeat(AUROC, 2)
    y[-2:] = 0.9  # a size that a straight line cannot foresee
    error = leave_one_size_out("linear", n, y)
    kept = fit_curve("linear", n[:-2], y[:-2])
    np.testing.assert_allclose(error[-2:], 0.9 - kept.predict(n[-2:]))


@pytest.mark.parametrize(
    ("family", "n", "y"),
    [
        ("log", SIZES[:4], AUROC[:4]), ("log", np.full(9, 50.0), AUROC), ("saturation", SIZES[:5], AUROC[:5]),
        ("constant", SIZES, np.full(9, 0.5)), ("linear", SIZES, 2 * SIZES),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_says_why(family, n, y):
    found = fit_curve(family, n, y)
    assert isinstance(found, Undefined) and found.reason
    table = compare_curves(n, y)
    assert table.set_index("family").loc[family, "undefined"] == found.reason
    assert np.isnan(table.set_index("family").loc[family, "aicc"])


def test_one_size_cannot_be_left_out():
    assert isinstance(leave_one_size_out("constant", np.full(9, 50.0), AUROC), Undefined)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_curve("cubic", SIZES, AUROC), lambda: fit_curve("log", SIZES[:3], AUROC),
        lambda: fit_curve("log", SIZES - 25, AUROC), lambda: fit_curve("log", SIZES, AUROC * np.nan),
        lambda: fit_curve("log", SIZES, AUROC, np.zeros(9)),
        lambda: monotone_trend(SIZES, AUROC, block=np.zeros(3), rng=np.random.default_rng(0)),
    ],
)  # fmt: skip
def test_refusals(call):
    with pytest.raises(ParameterError, match=r"^Expected .*got"):
        call()


def test_monotone_trend_sees_any_rising_shape_and_not_a_falling_one():
    y = np.repeat(1 - np.exp(-SIZES / 100), 3) + stream(0, "iso").normal(0, 0.05, 27)
    n = np.repeat(SIZES, 3)
    r2, p = monotone_trend(n, y, rng=stream(0, "iso/p"))
    assert r2 > 0.8 and p == 0.001
    assert monotone_trend(n, y, increasing=False, rng=stream(0, "iso/p"))[1] > 0.5
    assert monotone_trend(n, -y, increasing=False, rng=stream(0, "iso/p"))[0] == pytest.approx(r2)
    assert np.isnan(monotone_trend(n, np.ones(27), rng=stream(0, "x"))[1])


def test_monotone_trend_takes_block_effects_out():
    block = np.tile(np.arange(5), 9)
    n = np.repeat(SIZES, 5)
    rng = stream(1, "iso/block")
    y = 0.02 * np.log(n) + rng.normal(0, 1.0, 5)[block] + rng.normal(0, 0.01, n.size)
    assert monotone_trend(n, y, block=block, draws=199, rng=stream(2, "p"))[1] == 0.005
    assert monotone_trend(n, y, draws=199, rng=stream(2, "p"))[1] > 0.05


def test_monotone_trend_holds_its_level():
    rng = stream(3, "iso/level")
    p = []
    for _ in range(300):
        block = np.tile(np.arange(4), 6)
        y = rng.normal(size=24) + rng.normal(size=4)[block]
        p.append(monotone_trend(np.repeat(np.arange(1, 7), 4), y, block=block, draws=99, rng=rng)[1])
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
