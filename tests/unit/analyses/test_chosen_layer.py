"""Does choosing a layer cost nothing? Level, interval and power of the choice on other genes; t is too sure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from regulens.analyses.chosen_layer import Block, Moved, chosen_layer
from regulens.analyses.inference import above_half
from regulens.analyses.nested import nested_choice
from regulens.stats.inference import default_se
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges


def layers(rng, *, n_layers, n_regulators=20, n_genes=60, knows=0.0):
    """Hub genes in the reference; layers that attend to genes of their own choice, the first a little to the pairs."""
    gene = 2 * rng.normal(size=n_genes)
    label = rng.random((n_regulators, n_genes)) < 1 / (1 + np.exp(2.0 - gene))
    scores = rng.normal(size=(n_layers, 1, n_genes)) + 0.5 * rng.normal(size=(n_layers, *label.shape))
    scores[0] += knows * label
    i, j = (a.ravel() for a in np.indices(label.shape))
    return LabelledEdges(
        scores=scores.reshape(n_layers, -1), names=tuple(f"L{k:02d}_mean" for k in range(n_layers)),
        label=label.ravel(), regulator=i, target=j, universe_digest="u", endpoint=Endpoint.REFERENCE_RECOVERY,
    )  # fmt: skip


def found_in(draws, seed, **world):
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        edges = layers(rng, **world)
        found.append(nested_choice(edges, edges.names, rng))
    return found


def share(p, level):
    return float(np.mean(np.array(p) < level))


def bound(level, n):
    return level + 3 * np.sqrt(level * (1 - level) / n)


def best_of_all(edges):
    """The broken twin: a layer chosen and praised on the same pairs."""
    return max((above_half(edges, n) for n in edges.names), key=lambda e: e.value)


def test_level_of_the_choice_and_of_choosing_on_the_same_pairs():
    found = found_in(120, seed=3, n_layers=12)
    assert share([f.p_greater() for f in found], 0.05) <= bound(0.05, 120)
    assert np.mean([f.bounds(0.95)[0] > 0 or f.bounds(0.95)[1] < 0 for f in found]) <= bound(0.05, 120)
    rng = np.random.default_rng(3)
    naive = [best_of_all(layers(rng, n_layers=12)).p_greater() for _ in range(60)]
    assert share(naive, 0.05) > bound(0.05, 60)


def test_a_layer_that_knows_pairs_is_found():
    found = found_in(30, seed=4, n_layers=12, knows=1.5)
    assert share([f.p_greater() for f in found], 0.05) >= 0.9
    assert np.mean([f.chosen.count("L00_mean") >= 3 for f in found]) >= 0.9


def gaussian_blocks(rng, n_layers, n_targets=40):
    """Blocks of equal layers whose error comes from targets alone: those of one half of the targets move together."""
    halves = np.split(np.arange(n_targets), 2)
    moved = [rng.normal(size=(n_layers, n_targets // 2)) / n_targets for _ in halves]
    return [
        Block(
            area=np.full(n_layers, 0.5), by_unit=np.zeros((n_layers, 4)), units=np.arange(4), by_target=moved[b % 2],
            targets=halves[b % 2], edge=np.zeros((n_layers, n_layers)),
        )
        for b in range(4)
    ]  # fmt: skip


def test_the_null_is_the_procedure_itself_and_t_is_too_short():
    """Against a plain loop over worlds of equal layers; the broken twin, choices held and t, rejects too often."""
    rng = np.random.default_rng(0)
    n, weight, df = 6, np.array([0.3, 0.2, 0.2, 0.3]), 20.0
    blocks = gaussian_blocks(rng, n)
    found = chosen_layer(
        blocks, [str(k) for k in range(n)], weight, n_units=4, n_targets=40, draws=20_000, rng=rng,
        infer=lambda d: replace(default_se(d), df=np.array([df])),
    )  # fmt: skip
    drawn = []
    for _ in range(8000):
        areas = np.empty((4, n))
        for half in (0, 1):
            areas[half] = areas[half + 2] = blocks[half].by_target @ rng.normal(size=20)
        value, by_target = 0.0, np.zeros(40)
        for b in range(4):
            best = int(np.argmax(areas[3 - b]))
            value += weight[b] * areas[b, best]
            by_target[blocks[b].targets] += weight[b] * blocks[b].by_target[best]
        drawn.append(value / np.sqrt(np.square(by_target).sum() * rng.chisquare(df) / df))
    drawn = np.array(drawn)
    for level in (0.05, 0.01):
        critical = np.quantile(found.null, 1 - level)
        assert abs(np.mean(drawn > critical) - level) < 4 * np.sqrt(level / 8000)
        assert np.mean(drawn > student.ppf(1 - level, df)) > bound(level, 8000)


def test_the_root_is_that_of_the_two_way_covariance():
    rng = np.random.default_rng(1)
    blocks = gaussian_blocks(rng, 3)
    moved = Moved.of(blocks, n_units=4, n_targets=40)
    root = moved.root()
    np.testing.assert_allclose(root, root.T, atol=1e-14)
    np.testing.assert_allclose(root @ root, moved.target @ moved.target.T, atol=1e-12)


def test_record_and_estimate_are_of_one_interval_and_say_why_not():
    rng = np.random.default_rng(2)
    edges = layers(rng, n_layers=3, knows=1.0)
    found = nested_choice(edges, edges.names, np.random.default_rng(0))
    again = nested_choice(edges, edges.names, np.random.default_rng(0))
    assert found.p_greater() == again.p_greater() and found.bounds(0.95) == again.bounds(0.95)
    record, estimate = found.record("x", level=0.95, stream="s"), found.estimate(level=0.95)
    assert isinstance(estimate, Estimate) and "tails of the drawn choice" in estimate.method
    assert (record.low + 0.5, record.high + 0.5) == pytest.approx((estimate.low, estimate.high))
    assert record.p_raw == found.p_greater() and record.stream == "s"
    none = nested_choice(edges, (), np.random.default_rng(0))
    assert none.record("x", level=0.95, stream="s").undefined == "there is no layer to choose from"
    assert isinstance(none.estimate(level=0.95), Undefined) and np.isnan(none.p_greater())
    flat = LabelledEdges(
        scores=np.ones_like(edges.scores), names=edges.names, label=edges.label, regulator=edges.regulator,
        target=edges.target, universe_digest="u", endpoint=edges.endpoint,
    )  # fmt: skip
    constant = nested_choice(flat, edges.names, np.random.default_rng(0))
    assert constant.null is None and np.isnan(constant.p_greater())
    assert constant.record("x", level=0.95, stream="s").undefined.startswith("the standard error is 0")


@pytest.mark.long
@pytest.mark.parametrize("n_layers", [1, 3, 12, 18])
def test_long_level_of_the_choice(n_layers):
    n = 1600
    found = found_in(n, seed=n_layers, n_layers=n_layers)
    drawn, t = [f.p_greater() for f in found], [f.effect.p_greater() for f in found]
    for level in (0.05, 0.01):
        assert share(drawn, level) <= bound(level, n)
    if n_layers >= 12:
        assert share(t, 0.01) > bound(0.01, n)  # the broken twin: choices held, and t
