"""In simulated cells with known states and edges, what do strata buy, with true and with estimated labels?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from regulens.analyses.base import AnalysisSpec, SimulationInput, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.synthetic_cssi_published import every_seed, printed_tests, split_half_table, table
from regulens.analyses.synthetic_cssi_world import (
    N_PAIRS,
    N_REGULATORS,
    Dials,
    adjusted_rand,
    gene_ranks,
    k_means,
    noisy,
    simulate,
    stratum_scores,
)
from regulens.provenance import digest_of
from regulens.scorers.stratified import Strata, combine
from regulens.stats.bootstrap_tests import interval, test_greater
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome, EvaluationResult

NAME = "synthetic_cssi"

_SEED = {"unit": "simulated world", "confirmatory": False}  # p-values of simulations fall with the number of worlds

DESIGNS = (
    TestDesign(
        name="gain_with_estimated_labels",
        hypothesis="In simulated cells whose states can be told apart by markers, the maximum over estimated states "
        "has a larger AUROC than the pooled score",
        method="t over worlds",
        **_SEED,
    ),
    TestDesign(
        name="gain_with_labels_of_noise",
        hypothesis="In simulated cells whose states have no marker, so that estimated labels are noise, the maximum "
        "over estimated states has a larger AUROC than the pooled score",
        method="t over worlds",
        **_SEED,
    ),
    TestDesign(
        name="gain_without_state_specific_edges",
        hypothesis="In simulated cells whose edges are alive in every state, the maximum over estimated states has a "
        "larger AUROC than the pooled score",
        method="t over worlds",
        **_SEED,
    ),
)

PRINTED = (
    TestDesign(
        name="max_above_pooled", hypothesis="F1 of the maximum over true states exceeds that of the pooled score",
        method="Wilcoxon signed rank over seeds and configurations that differ", unit="seed and configuration",
        confirmatory=False,
    ),
    TestDesign(
        name="pooled_falls_with_states", hypothesis="F1 of the pooled score changes with the number of states",
        side="two-sided", method="Spearman over seeds and configurations", unit="seed and configuration",
        confirmatory=False,
    ),
    TestDesign(
        name="max_oracle_falls_with_states",
        hypothesis="F1 of the maximum over true states changes with the number of states", side="two-sided",
        method="Spearman over seeds and configurations", unit="seed and configuration", confirmatory=False,
    ),
)  # fmt: skip

TABLES = {
    "synthetic_cssi": [
        "setting", "labels", "label_accuracy", "variant", "n_worlds", "n_true", "auroc_pooled", "auroc_strata", "gain",
        "gain_low", "gain_high", "auprc_pooled", "auprc_strata", "f1_pooled", "f1_strata", "prevalence",
    ],
}  # fmt: skip

#: Setting → what differs from the base world. "every edge in every state" is the world without anything to find
#: by strata; its edges are weak, so that the pooled score is not perfect.
SETTINGS: dict[str, dict[str, Any]] = {
    "base": {},
    "states hard to tell (separation 0.5)": {"separation": 0.5},
    "no markers (separation 0)": {"separation": 0.0},
    "every edge in every state": {"shared": 1.0, "effect": 0.25},
    "levels differ between states": {"shift": 0.5},
    "every edge in every state, levels differ": {"shared": 1.0, "effect": 0.25, "shift": 0.5},
    "20 % dropout": {"dropout": 0.2},
    "few cells": {"cells": 40},
    "twelve states": {"states": 12, "cells": 50},
}
SOURCES = ("true", "10 % shuffled", "30 % shuffled", "50 % shuffled", "estimated")


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis, once per study."""
    return plan_tests(NAME, request, PRINTED if request.protocol is Protocol.PUBLISHED else DESIGNS)


def _labels(source: str, worlds: Any, dials: Dials, rng: np.random.Generator) -> np.ndarray:
    n = len(worlds.values)
    if source == "estimated":
        return k_means(worlds.values, dials.states, rng)
    share = 0.0 if source == "true" else float(source.split(" ")[0]) / 100
    return noisy(worlds.state, share, n, rng)


def metrics(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """AUROC, average precision and F1 at the number of true pairs, every row on its own labels.

    Tied scores count one half in the AUROC and enter together in the average precision.

    Parameters
    ----------
    scores, truth
        Shape ``(..., pair)``; as many true pairs in every row.

    Returns
    -------
    Shape ``(3, ...)``.
    """
    truth = np.broadcast_to(truth, scores.shape)
    n, n_pairs = int(truth.reshape(-1, truth.shape[-1])[0].sum()), scores.shape[-1]
    area = ((rankdata(scores, axis=-1) * truth).sum(axis=-1) - n * (n + 1) / 2) / (n * (n_pairs - n))
    order = np.argsort(-scores, axis=-1, kind="stable")
    ranked, hit = np.take_along_axis(scores, order, axis=-1), np.take_along_axis(truth, order, axis=-1)
    ends = np.ones(scores.shape, dtype=bool)
    ends[..., :-1] = ranked[..., 1:] != ranked[..., :-1]
    place = np.where(ends, np.arange(n_pairs), n_pairs)
    end = np.minimum.accumulate(place[..., ::-1], axis=-1)[..., ::-1]  # last of the pairs tied with this one
    precision = np.take_along_axis(hit.cumsum(axis=-1), end, axis=-1) / (end + 1)
    return np.stack([area, (precision * hit).sum(axis=-1) / n, hit[..., :n].sum(axis=-1) / n])


def _setting(
    inp: SimulationInput, name: str, dials: Dials, variants: list[str], n_worlds: int, sources: tuple[str, ...]
) -> tuple[list[tuple[Any, ...]], dict[tuple[str, str], np.ndarray]]:
    """Rows of one setting, and the AUROC gain of every world by (labels, variant)."""
    rng = inp.rng(f"worlds/{NAME}/{name}")
    worlds = simulate(dials, n_worlds, rng)
    rank = gene_ranks(worlds.values)
    pooled = stratum_scores(rank, np.zeros(rank.shape[:2], dtype=np.int64), 1)[0][:, 0]
    base = metrics(pooled, worlds.truth)
    level = 1 - inp.request.settings.alpha
    rows, gains = [], {}
    for source in sources:
        label = _labels(source, worlds, dials, rng)
        scores, sizes = stratum_scores(rank, label, dials.states)
        strata = Strata(scores=scores, sizes=sizes, pooled=pooled)
        found = metrics(np.stack([combine(strata, v) for v in variants]), worlds.truth)
        accuracy = float(np.mean([adjusted_rand(worlds.state, own) for own in label]))
        for v, variant in enumerate(variants):
            gain = found[0, v] - base[0]
            gains[source, variant] = gain
            low, high = interval(gain.mean(), gain.std(ddof=1) / np.sqrt(n_worlds), n_worlds - 1.0, level)
            rows.append((
                name, source, accuracy, variant, n_worlds, dials.n_true, base[0].mean(), found[0, v].mean(),
                gain.mean(), float(low), float(high), base[1].mean(), found[1, v].mean(), base[2].mean(),
                found[2, v].mean(), dials.n_true / N_PAIRS,
            ))  # fmt: skip
    return rows, gains


def _mean(gain: np.ndarray, level: float) -> tuple[Estimate, float, float]:
    """Mean gain over worlds, its standard error, and the one-sided p of "above 0"."""
    n, value = len(gain), float(gain.mean())
    se = max(float(gain.std(ddof=1) / np.sqrt(n)), 1e-12)
    low, high = (float(x) for x in interval(value, se, n - 1.0, level))
    made = Estimate(
        value=value, low=min(low, value), high=max(high, value), level=level, method="t interval over worlds",
        n_units=n, unit="simulated world", se=se,
    )  # fmt: skip
    return made, se, float(test_greater(value, se, 0.0, n - 1.0))


def run(inp: SimulationInput) -> AnalysisOutcome:
    """Simulate; nothing of the study's cells, models or references is read."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return _published(inp)
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    n_worlds, variants = int(parameters["worlds"]), list(parameters["variants"])
    base = Dials(**{k: parameters[k] for k in ("states", "cells", "edges", "shared", "effect", "separation")})
    rows: list[tuple[Any, ...]] = []
    gains: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    for name, changed in SETTINGS.items():
        # shuffled labels are a dial of their own; elsewhere true labels are the ceiling of the estimated ones
        sources = SOURCES if not changed else ("true", "estimated")
        more, gains[name] = _setting(inp, name, replace(base, **changed), variants, n_worlds, sources)
        rows += more
    level = 1 - inp.request.settings.alpha
    asked = ("base", "no markers (separation 0)", "every edge in every state")
    records, results, facts = [], [], {"n_worlds": n_worlds, "variant": variants[0]}
    for design, name in zip(DESIGNS, asked):
        made, se, p = _mean(gains[name]["estimated", variants[0]], level)
        records.append(
            TestRecord(
                id=test_id(NAME, inp.request, design.name), statistic=made.value / se, effect=made.value, low=made.low,
                high=made.high, p_raw=max(p, 1e-300), n_units=n_worlds,
                stream=inp.stream_name(f"worlds/{NAME}/{name}"),
            )
        )  # fmt: skip
        dials = replace(base, **SETTINGS[name])
        results.append(_result(inp, f"simulated: {variants[0]} over estimated states, {name}", made, dials, name))
        facts[design.name] = made.value
    return AnalysisOutcome(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={NAME: pd.DataFrame(rows, columns=TABLES[NAME])}, records=tuple(records), facts=facts,
    )  # fmt: skip


def _result(inp: SimulationInput, score: str, made: Estimate, dials: Dials, name: str) -> EvaluationResult:
    return EvaluationResult(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference, score=score,
        metric="auroc_difference", estimate=made, endpoint=Endpoint.REFERENCE_RECOVERY,
        universe_digest=digest_of("simulated", str(dials)), n_pos=dials.n_true, n_neg=N_PAIRS - dials.n_true,
        n_regulators=N_REGULATORS, n_missing=0, null_value=0.0, protocol=inp.request.protocol,
        stream=inp.stream_name(f"worlds/{NAME}/{name}"),
    )  # fmt: skip


def _published(inp: SimulationInput) -> AnalysisOutcome:
    """The published tables; legacy seeds, so that nothing depends on the study's seed."""
    rows = every_seed()
    records = tuple(
        TestRecord(
            id=test_id(NAME, inp.request, name), statistic=statistic, effect=effect, p_raw=p, n_units=n,
            stream="legacy seeds 100 s + K",
        )
        for name, (statistic, effect, p, n) in printed_tests(rows).items()
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference, results=(), records=records,
        tables={"synthetic_published": table(rows), "synthetic_split_half": split_half_table()},
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Strata in simulated cells",
    question="In simulated cells with known states and edges, what do strata buy, with true and with estimated labels?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=(),
    plan=plan,
    run=run,
    reference="Hanley & McNeil 1982; Hubert & Arabie 1985; Simpson 1951",
    falsified_by="A gain with estimated labels that is not above 0, or one that is above 0 where no edge belongs to "
    "a state.",
    parameters={
        "worlds": 100, "variants": ["max", "mean", "deviation"], "states": 6, "cells": 100, "edges": 4, "shared": 0.5,
        "effect": 0.5, "separation": 1.0,
    },
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="simulation",
)  # fmt: skip
