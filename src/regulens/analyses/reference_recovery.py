"""How well does attention recover a curated network, per head, per layer and pooled?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import (
    TestDesign,
    counts_of,
    dropped_of,
    edges_of,
    having,
    plan_tests,
    refusal,
    refused,
    regulators_with_positives,
    result_of,
    test_id,
)
from regulens.analyses.inference import aurocs, differences, effects_of, part_of
from regulens.analyses.list_truncation import too_short
from regulens.analyses.nested import nested_choice
from regulens.analyses.recovery_published import run_published
from regulens.analyses.top_of_list import top_of_list
from regulens.nulls.label_shuffle import label_shuffle_within_regulator
from regulens.stats.bootstrap_tests import interval
from regulens.stats.cluster import max_t_p
from regulens.stats.power import auroc_null_se
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, NullDistribution, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "reference_recovery"

DESIGNS = (
    TestDesign(
        name="pooled_above_chance",
        hypothesis="The pre-specified attention score ranks reference edges above other pairs: AUROC > 0.5",
    ),
    TestDesign(
        name="layer_nested_above_chance",
        hypothesis="A layer chosen on some genes ranks reference edges above other pairs on other genes: AUROC > 0.5",
        method="delete-one jackknife over regulators and targets, tails drawn with the choice",
    ),
    TestDesign(
        name="pooled_above_label_shuffle",
        hypothesis="Attention ranks reference edges higher than equally many random targets of the same regulators",
        unit="pair within regulator",
        method="permutation of labels within regulator",
        confirmatory=False,  # popular targets are not exchangeable, so its p is not held to its level
    ),
    TestDesign(
        name="some_head_above_chance",
        hypothesis="At least one head ranks reference edges above other pairs: max AUROC > 0.5",
        method="studentised multiplier bootstrap over regulators and targets, max-T over heads",
    ),
)

TABLES = {
    "recovery": [
        "score", "layer", "head", "direction", "n_pos", "n_neg", "n_regulators", "auroc", "low", "high", "se", "se0",
        "auprc", "prevalence", "auprc_ratio", "epr", "p_maxt",
    ],
    "recovery_at_k": ["score", "k", "precision", "recall", "f1", "f1_ceiling", "precision_chance"],
    "recovery_nulls": ["score", "null", "observed", "null_mean", "null_sd", "z", "p", "preserves"],
    "leave_one_out": ["regulator", "n_pos", "auroc_without", "change"],
    "directions": ["direction", "auroc", "low", "high"],
    "nested": ["block", "layer", "auroc"],
}  # fmt: skip

#: Nulls of the ladder that are scores on the same pairs, and what each keeps.
LADDER = {
    "product_mean": "mean expression of both genes",
    "product_variance": "variance of both genes",
    "product_detection": "detection rate of both genes",
    "marginal_product": "attention's own row and column means",
    "coexpression_abs": "co-expression over the same cells",
    "random": "nothing",
}


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (DESIGNS[0],))
    return plan_tests(NAME, request, DESIGNS)


def _recovery(inp: AnalysisInput) -> pd.DataFrame:
    """Every head, layer and pooling, both directions."""
    level = 1 - inp.request.settings.alpha
    frames = []
    for direction, scores in inp.attention.items():
        if not inp.card.n_layers and direction != inp.request.direction:
            continue  # without attention both directions are the same numbers
        edges = edges_of(inp, scores)
        found = aurocs(edges, edges.names)
        low, high = found.interval(level)
        prevalence = edges.n_pos / len(edges.label)
        ap, early = top_of_list(edges.scores, edges.label, (edges.n_pos,))
        frame = pd.DataFrame(
            {
                "score": edges.names, "layer": scores.layers, "head": scores.heads, "direction": direction,
                "n_pos": edges.n_pos, "n_neg": edges.n_neg, "n_regulators": regulators_with_positives(edges),
                "auroc": found.estimate, "low": low, "high": high, "se": found.se,
                "se0": auroc_null_se(edges.n_pos, edges.n_neg), "auprc": ap, "prevalence": prevalence,
                "auprc_ratio": ap / prevalence, "epr": early[:, 0] / prevalence, "p_maxt": np.nan,
            }
        )  # fmt: skip
        heads = np.array(scores.heads) >= 0
        if direction == inp.request.direction and heads.any():
            rng = inp.rng(f"bootstrap/{NAME}/heads")
            joint = max_t_p(part_of(found, heads), 0.5, draws=inp.request.settings.bootstrap, rng=rng)
            frame.loc[heads, "p_maxt"] = joint["p_adjusted"]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)[TABLES["recovery"]]


def _at_k(edges: LabelledEdges, names: list[str], ks: tuple[int, ...]) -> pd.DataFrame:
    """Precision, recall and F1 at fixed depths, beside the best F1 that depth allows and the precision of chance."""
    ks = tuple(k for k in ks if k <= len(edges.label))
    if not ks:
        return pd.DataFrame(columns=TABLES["recovery_at_k"])
    precision = top_of_list(edges.scores[[edges.names.index(n) for n in names]], edges.label, ks)[1]
    n_pos, chance = edges.n_pos, edges.n_pos / len(edges.label)
    rows = [
        (name, k, p, p * k / n_pos, 2 * p * k / (k + n_pos), 2 * min(k, n_pos) / (k + n_pos), chance)
        for c, k in enumerate(ks)
        for name, p in zip(names, precision[:, c].tolist())
    ]
    return pd.DataFrame(rows, columns=TABLES["recovery_at_k"])


def _group_jackknife(edges: LabelledEdges, name: str, n_groups: int, level: float) -> list[Estimate | Undefined]:
    """AUPRC and EPR of one score with delete-a-group jackknife intervals over regulators."""
    score, label = edges.score(name), edges.label
    present = np.unique(edges.regulator)
    n_groups = min(n_groups, len(present))
    load = np.bincount(edges.regulator[label], minlength=int(present.max()) + 1)[present]
    group = np.empty(int(present.max()) + 1, dtype=np.int64)
    group[present[np.argsort(-load, kind="stable")]] = np.arange(len(present)) % n_groups

    def both(keep: np.ndarray) -> tuple[float, float]:
        y = label[keep]
        n_pos = int(y.sum())
        if n_pos == 0:
            return np.nan, np.nan
        ap, early = top_of_list(score[keep][None], y, (n_pos,))
        return float(ap[0]), float(early[0, 0] * len(y) / n_pos)

    value = np.array(both(np.ones(len(label), dtype=bool)))
    of_edge = group[edges.regulator]
    left = np.array([both(of_edge != g) for g in range(n_groups)])
    if not np.isfinite(left).all():
        return [Undefined(reason="a group of regulators holds all positives")] * 2
    se = np.sqrt((n_groups - 1) / n_groups * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    low, high = interval(value, se, float(n_groups - 1), level)
    method = f"delete-a-group jackknife over regulators, {n_groups} groups, t interval"
    return [
        Estimate(
            value=float(v), low=float(a), high=float(b), level=level, method=method, n_units=n_groups,
            unit="group of regulators", se=float(s),
        )
        for v, a, b, s in zip(value, low, high, se)
    ]  # fmt: skip


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    request, settings = inp.request, inp.request.settings
    if request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME, DESIGNS[0])
    level = 1 - settings.alpha
    primary = request.primary
    layers = [n for n, l, h in zip(inp.attention[request.direction].names, inp.attention[request.direction].layers,
                                   inp.attention[request.direction].heads) if l >= 0 and h < 0]  # fmt: skip
    names = list(dict.fromkeys([primary, *layers]))
    edges = edges_of(
        inp, inp.attention[request.direction].select(names), having(inp.baselines, list(LADDER)),
        having(inp.coexpression, list(LADDER)),
    )  # fmt: skip
    ladder = [n for n in LADDER if n in edges.names]
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("pooled", "layer"))
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    found = aurocs(edges, [primary])
    pooled = effects_of(found, null_value=0.5)[0]
    records = [pooled.record(ids["pooled_above_chance"], side="greater", level=level)]

    split = f"split/{NAME}"
    nested = nested_choice(edges, tuple(layers), inp.rng(split))
    records.append(nested.record(ids["layer_nested_above_chance"], level=level, stream=inp.stream_name(split)))
    layer_estimate = nested.estimate(level=level)

    stream = f"permutation/{NAME}/label_shuffle"
    draws = label_shuffle_within_regulator(
        edges.scores[[0]], edges.label, edges.regulator, draws=settings.permutations, rng=inp.rng(stream)
    )[0]
    null = NullDistribution(
        observed=float(found.estimate[0]), draws=draws, scheme="label shuffle within regulator",
        preserves="number of positives of every regulator, all scores", randomises="which targets they are",
        stream=inp.stream_name(stream),
    )  # fmt: skip
    z = null.z()
    if isinstance(z, Undefined):
        records.append(TestRecord(id=ids["pooled_above_label_shuffle"], undefined=z.reason))
    else:
        records.append(
            TestRecord(
                id=ids["pooled_above_label_shuffle"], statistic=z, effect=null.observed - float(draws.mean()),
                p_raw=null.p_value(), n_units=len(edges.label), stream=null.stream,
            )
        )  # fmt: skip

    recovery = _recovery(inp)
    best_head = recovery["p_maxt"].min()
    if np.isfinite(best_head):
        top = recovery.loc[recovery["p_maxt"].idxmin()]
        records.append(
            TestRecord(
                id=ids["some_head_above_chance"], statistic=float((top["auroc"] - 0.5) / top["se"]),
                effect=float(top["auroc"] - 0.5), p_raw=float(best_head), n_units=pooled.n_units,
                stream=inp.stream_name(f"bootstrap/{NAME}/heads"),
            )
        )  # fmt: skip
    else:
        records.append(TestRecord(id=ids["some_head_above_chance"], undefined="no head has a standard error"))

    gaps = effects_of(differences(edges, primary, ladder))
    base = aurocs(edges, ladder).estimate
    nulls = [
        (primary, null.scheme, null.observed, float(draws.mean()), float(draws.std(ddof=1)),
         np.nan if isinstance(z, Undefined) else z, null.p_value(), null.preserves)
    ] + [
        (primary, n, null.observed, float(b), g.se, g.value / g.se if not g.undefined else np.nan,
         g.p_greater() if not g.undefined else np.nan, LADDER[n])
        for n, b, g in zip(ladder, base, gaps)
    ]  # fmt: skip
    beaten = [(b, n) for n, b, g in zip(ladder, base, gaps) if not g.undefined and g.bounds(level)[0] > 0]
    present = np.unique(edges.regulator)
    positives = np.bincount(edges.regulator[edges.label], minlength=len(inp.universe.regulators))
    auprc, epr = _group_jackknife(edges, primary, 20, level)
    prevalence = edges.n_pos / len(edges.label)
    directions = recovery.loc[recovery["score"] == primary, TABLES["directions"]]
    tables = {
        "recovery": recovery,
        "recovery_at_k": _at_k(edges, names, tuple(inp.parameters.get("top_k", SPEC.parameters["top_k"]))),
        "recovery_nulls": pd.DataFrame(nulls, columns=TABLES["recovery_nulls"]),
        "leave_one_out": pd.DataFrame(
            {
                "regulator": np.array(inp.universe.regulators, dtype=object)[present],
                "n_pos": positives[present],
                "auroc_without": found.regulator[0] + found.estimate[0],
                "change": found.regulator[0],
            }
        ).sort_values("change", key=np.abs, ascending=False, kind="stable", ignore_index=True),
        "directions": directions.reset_index(drop=True),
        "nested": pd.DataFrame(
            [(b, c, a) for b, (c, a) in enumerate(zip(nested.chosen, nested.block_auroc))], columns=TABLES["nested"]
        ),
    }
    strictest = max(beaten)[1] if beaten else ""
    pooled_estimate = pooled.estimate(null_value=0.5, level=level)
    results = (
        result_of(inp, NAME, score=primary, estimate=pooled_estimate, edges=edges, step="pooled",
                  strictest_null=strictest),
        result_of(inp, NAME, score="layer chosen on other genes", estimate=layer_estimate, edges=edges, step="layer",
                  stream=inp.stream_name(split)),
        result_of(inp, NAME, score=primary, estimate=auprc, edges=edges, metric="auprc", null_value=prevalence),
        result_of(inp, NAME, score=primary, estimate=epr, edges=edges, metric="epr", null_value=1.0),
    )  # fmt: skip
    facts = {
        **counts_of(edges),
        "primary": primary,
        "primary_pre_specified": True,
        "list_too_short": too_short(inp, edges),
        "nested_layers": list(nested.chosen),
        "auroc": float(found.estimate[0]),
        "prevalence": prevalence,
    }
    if isinstance(pooled_estimate, Estimate):
        facts |= {"auroc_low": pooled_estimate.low, "auroc_high": pooled_estimate.high}
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, tables=tables,
        records=tuple(records), facts=facts, dropped=dropped_of(edges),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=2,
    title="Recovery of the reference network",
    question="How well does attention recover a curated network, per head, per layer and pooled?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "reference"),
    plan=plan,
    run=run,
    reference="Hanley & McNeil 1982; Pratapa et al. 2020; Romano & Wolf 2005",
    falsified_by="An AUROC whose interval includes 0.5, or that label shuffles within regulators reach as often.",
    parameters={"top_k": [20, 50, 100, 200, 500]},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
