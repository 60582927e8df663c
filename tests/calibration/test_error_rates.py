"""Type-I error, coverage and power of the tests that analyses use.

Seeds are fixed. A procedure passes with at most alpha plus three Monte Carlo standard errors, so a sound one with
exactly level alpha would fail about once in 700 seeds. The long versions make ``docs/calibration.tsv``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regulens.rng import stream
from regulens.stats.cluster import auroc_difference, auroc_inference, mean_inference
from regulens.testing.calibration import TRIALS, WORLDS, PairWorld, Trial, independent_pairs, level, p_values

BY_NAME = {w.name: w for w in WORLDS}
QUICK_WORLDS = ("8 regulators", "8 regulators, strong hubs", "25 regulators", "25 regulators, strong hubs")
DEFAULTS = [t for t in TRIALS if t.default]
TRIAL = {t.name: t for t in TRIALS}


def rate(trial: Trial, world: PairWorld, n_worlds: int):
    world = replace(world, n_scores=trial.n_scores)
    return level(p_values(trial.procedure, world, n_worlds=n_worlds, name=f"test/{trial.name}"))


@pytest.mark.parametrize("world", QUICK_WORLDS)
@pytest.mark.parametrize("trial", DEFAULTS, ids=lambda t: t.name)
def test_default_tests_hold_their_level(trial, world):
    found = rate(trial, BY_NAME[world], 300 if trial.n_scores < 10 else 100)
    assert found.holds, found
    assert found.n_undefined <= 6


@pytest.mark.parametrize("trial", DEFAULTS, ids=lambda t: t.name)
def test_default_tests_hold_with_many_regulators_and_hubs_only(trial):
    found = rate(trial, BY_NAME["150 regulators, hubs only"], 50 if trial.n_scores < 10 else 20)
    assert found.holds, found


@pytest.mark.parametrize("world", QUICK_WORLDS)
def test_the_check_catches_a_test_that_counts_pairs(world):
    found = level(p_values(independent_pairs, BY_NAME[world], n_worlds=300, name="twin"))
    assert not found.holds
    assert found.rate > 0.1


def test_the_check_catches_clustering_by_regulator_only():
    trial = TRIAL["AUROC > 0.5, jackknife by regulator only"]
    assert not rate(trial, BY_NAME["150 regulators, hubs only"], 100).holds


def test_the_check_catches_unadjusted_selection_of_scores():
    assert not rate(TRIAL["smallest of 10 unadjusted p"], BY_NAME["25 regulators"], 200).holds


def test_label_shuffle_holds_where_targets_are_exchangeable_and_not_with_hubs():
    trial = TRIAL["AUROC > label shuffle within regulator"]
    exchangeable = replace(BY_NAME["25 regulators"], target_label=0.0, name="exchangeable")
    assert rate(trial, exchangeable, 400).holds
    assert not rate(trial, BY_NAME["25 regulators, strong hubs"], 300).holds


def test_independent_pairs_hold_where_pairs_are_independent():
    # the twin fails for its assumption, not for its arithmetic
    world = BY_NAME["25 regulators, no effects in scores"]
    assert level(p_values(independent_pairs, world, n_worlds=400, name="twin")).holds


def test_mean_of_units_holds_its_level():
    rng = stream(0, "calibration/mean")
    p = []
    for _ in range(400):
        i, j = rng.integers(0, 20, 200), rng.integers(0, 80, 200)
        values = rng.normal(size=20)[i] + rng.normal(size=80)[j] + rng.normal(size=200)
        p.append(mean_inference(values[None], i, j).p_two_sided(0.0)[0])
    assert level(np.array(p)).holds
    assert not level(np.array(p) / 4).holds


def covered(world: PairWorld, *, truth: float, n_worlds: int, name: str) -> np.ndarray:
    rng = stream(42, f"calibration/coverage/{name}")
    hits = np.zeros(n_worlds)
    for k in range(n_worlds):
        low, high = auroc_inference(*world.draw(rng)).interval(0.95)
        hits[k] = low[0] <= truth <= high[0]
    return hits


@pytest.mark.parametrize("world", ["8 regulators", "25 regulators"])
def test_intervals_cover_the_truth_with_signal(world):
    signal = replace(BY_NAME[world], signal=0.7)
    rng = stream(42, f"calibration/truth/{world}")
    truth = float(np.mean([auroc_inference(*signal.draw(rng)).estimate[0] for _ in range(1500)]))
    hits = covered(signal, truth=truth, n_worlds=400, name=world)
    assert hits.mean() >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400) - 0.005  # the truth itself has an error
    assert covered(signal, truth=truth + 0.25, n_worlds=200, name=world).mean() < 0.8


def test_power_rises_with_signal_and_with_regulators():
    def power(n_regulators: int, signal: float) -> float:
        world = PairWorld(name="power", n_regulators=n_regulators, n_targets=200, signal=signal)
        p = p_values(
            TRIAL["AUROC > 0.5, default"].procedure, world, n_worlds=120, name=f"power/{n_regulators}/{signal}"
        )
        return level(p).rate

    few, more, many = power(20, 0.2), power(20, 0.5), power(20, 1.0)
    assert few < more < many
    assert many > 0.7
    assert power(60, 0.5) > more


def test_paired_difference_is_sharper_than_two_intervals():
    rng = stream(0, "calibration/paired")
    scores, label, i, j = BY_NAME["25 regulators"].draw(rng)
    better = scores + 0.3 * label
    paired = auroc_difference(better, scores[0], label, i, j)
    alone = auroc_inference(better, label, i, j)
    assert paired.se[0] < 0.5 * alone.se[0]
    assert paired.p_greater(0.0)[0] < 0.05


@pytest.mark.long
@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)
@pytest.mark.parametrize("trial", DEFAULTS, ids=lambda t: t.name)
def test_default_tests_hold_their_level_everywhere(trial, world):
    found = rate(trial, world, 2000)
    assert found.holds, found
