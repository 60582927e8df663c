"""Every registered metric keeps what its record claims, and has a counter-example for what it does not claim."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.metrics import METRICS
from regulens.metrics.base import MetricSpec, prevalence
from regulens.metrics.thresholded import f1_at_k, f1_ceiling, recall_at_k
from regulens.rng import stream
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges

CLAIMS = {"monotone", "edge_order", "negation"}


def edges(scores: np.ndarray, label: np.ndarray, order: np.ndarray | None = None) -> LabelledEdges:
    order = np.arange(label.size) if order is None else order
    return LabelledEdges(
        scores=np.ascontiguousarray(scores[:, order]), names=tuple(f"s{k}" for k in range(len(scores))),
        label=label[order], regulator=np.arange(label.size) // 20, target=np.arange(label.size) % 20,
        universe_digest="x", endpoint=Endpoint.REFERENCE_RECOVERY,
    )  # fmt: skip


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = stream(0, "metrics")
    label = rng.random(230) < 0.2  # not 200: at k = 100 the recall of a score and of its negative would add up to 1
    return np.round(rng.normal(size=(3, 230)) + label, 1), label


def keeps(function, claim: str, scores: np.ndarray, label: np.ndarray) -> bool:
    plain = function(edges(scores, label))
    if claim == "monotone":
        return np.allclose(function(edges(np.exp(scores / 3), label)), plain, atol=1e-12)
    if claim == "edge_order":
        order = stream(1, "order").permutation(label.size)
        return np.allclose(function(edges(scores, label, order)), plain, atol=1e-12)
    return np.allclose(function(edges(-scores, label)), 1 - plain, atol=1e-12)


@pytest.mark.parametrize("name", METRICS.names())
def test_claims_hold_and_absent_claims_have_a_counter_example(name, data):
    spec = METRICS[name]
    assert isinstance(spec, MetricSpec)
    assert spec.name == name
    assert spec.invariances <= CLAIMS
    for claim in CLAIMS:
        assert keeps(spec.function, claim, *data) == (claim in spec.invariances), claim


def test_the_checker_can_fail(data):
    assert not keeps(lambda e: e.scores.mean(1), "monotone", *data)
    assert not keeps(lambda e: e.scores[:, 0], "edge_order", *data)


@pytest.mark.parametrize("name", METRICS.names())
def test_bounds_and_chance(name, data):
    spec = METRICS[name]
    rng = stream(2, name)
    label = data[1]
    found = spec.function(edges(rng.normal(size=(800, 230)), label))
    assert ((found >= spec.bounds[0]) & (found <= spec.bounds[1])).all()
    chance = spec.chance(edges(data[0], label))
    # average precision exceeds the prevalence a little in small samples
    assert abs(found.mean() - chance) < 5 * found.std() / np.sqrt(800) + (0.03 if name == "average_precision" else 0)


@pytest.mark.parametrize("name", METRICS.names())
def test_without_positives_undefined_or_zero(name, data):
    found = METRICS[name].function(edges(data[0], np.zeros(230, bool)))
    assert np.isnan(found).all() or (name == "precision_at_k" and (found == 0).all())


def test_f1_has_a_ceiling_of_two_thirds_at_twice_the_positives():
    label = np.arange(200) < 30
    perfect = edges(-np.arange(200.0)[None], label)
    assert f1_at_k(perfect, k=60)[0] == pytest.approx(2 / 3)
    assert f1_ceiling(30, k=60) == pytest.approx(2 / 3)
    assert f1_ceiling(30, k=10) == pytest.approx(0.5)
    assert recall_at_k(perfect, k=10)[0] == pytest.approx(1 / 3)
    assert np.isnan(f1_ceiling(0, k=0))
    assert np.isnan(f1_at_k(perfect, k=201)).all() and np.isnan(recall_at_k(perfect, k=201)).all()
    assert np.isnan(METRICS["precision_at_k"].function(perfect, k=201)).all()


def test_perfect_score_reaches_the_top():
    label = np.arange(200) < 30
    perfect = edges(-np.arange(200.0)[None], label)
    assert METRICS["auroc"].function(perfect)[0] == 1.0
    assert METRICS["average_precision"].function(perfect)[0] == 1.0
    assert METRICS["early_precision_ratio"].function(perfect)[0] == pytest.approx(1 / prevalence(perfect))
