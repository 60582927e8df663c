"""Do layers specialise? The profile of AUROC over depth, beside gene-level scores, and tests of its shape."""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import (
    TestDesign,
    counts_of,
    dropped_of,
    edges_of,
    plan_tests,
    refusal,
    refused,
    result_of,
    test_id,
)
from regulens.analyses.contrasts import contrast_inference
from regulens.analyses.inference import Effect, aurocs, effects_of, joint_critical
from regulens.analyses.layer_published import DEPTH_SPEARMAN, run_published
from regulens.analyses.nested_peak import nested_peak
from regulens.analyses.symmetric import is_symmetric, symmetrised
from regulens.scorers.marginal_product import marginal_product
from regulens.stats.smooth_profiles import MIN_LAYERS, depth_trend
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Undefined
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "layer_hierarchy"

_SURROGATE = "Spearman with depth against smooth surrogate profiles; interval from the delete-one jackknife"

DESIGNS = (
    TestDesign(
        name="trend_over_depth",
        hypothesis="The AUROC of layers changes over depth by more than a profile that only wanders would; the effect "
        "is the size of the change along the fitted line, first layer to last",
        side="two-sided", unit="profile", method=_SURROGATE,
    ),
    TestDesign(
        name="trend_beyond_prominence",
        hypothesis="What a layer has beyond its own marginal product changes over depth by more than a profile that "
        "only wanders would; the effect is the size of the change along the fitted line, first layer to last",
        side="two-sided", unit="profile", method=_SURROGATE,
    ),
    TestDesign(
        name="peak_above_others",
        hypothesis="The layer that is best on some genes is better than the mean of the other layers on other genes",
        method="choice and evaluation repeated on equal layers with the covariance of the delete-one jackknife",
    ),
)  # fmt: skip

TABLES = {
    "layers": [
        "layer", "auroc", "low", "high", "band_low", "band_high", "margin", "excess", "excess_low", "excess_high",
        "beyond_coexpression", "beyond_low", "beyond_high", "n_pos", "n_neg", "n_regulators",
    ],
    "layer_baselines": ["score", "kind", "auroc", "low", "high", "layers_above"],
    "layer_trend": ["profile", "n_layers", "rho", "p", "change", "change_low", "change_high", "autocorrelation",
                    "method"],
    "layer_peak": ["block", "layer", "auroc", "others", "n_pos"],
    "layer_peak_contrasts": ["quantity", "value", "low", "high"],
}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (DEPTH_SPEARMAN,))
    return plan_tests(NAME, request, DESIGNS)


def layer_names(scores: EdgeScores) -> list[str]:
    """Means over the heads of each layer, in order of depth."""
    found = [(l, n) for n, l, h in zip(scores.names, scores.layers, scores.heads) if l >= 0 and h < 0]
    return [n for _, n in sorted(found)]


def depth_weights(n: int) -> np.ndarray:
    """Weights that turn a profile into its change along the fitted straight line, first layer to last.

    Examples
    --------
    >>> (depth_weights(3) @ np.array([0.5, 0.6, 0.7])).round(6).item()
    0.2
    """
    depth = np.arange(n) - (n - 1) / 2
    return (n - 1) * depth / (depth @ depth)


def oriented(effect: Effect, level: float) -> tuple[float, float, float]:
    """Size of an effect with its interval turned to the effect's own side: a fall of 0.1 is a change of 0.1."""
    low, high = effect.bounds(level)
    return (effect.value, low, high) if effect.value >= 0 else (-effect.value, -high, -low)


def _margins(scores: EdgeScores, names: list[str]) -> EdgeScores:
    """Each layer's own marginal product, under the layer's name with ``_margin``."""
    made = [marginal_product(scores, name=n) for n in names]
    return EdgeScores(
        values=np.concatenate([m.values for m in made]), observed=scores.observed,
        names=tuple(f"{n}_margin" for n in names), genes=scores.genes, regulators=scores.regulators,
    )  # fmt: skip


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    symmetric = is_symmetric(inp)
    if symmetric:
        inp = symmetrised(inp)
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, settings = inp.request, inp.request.settings
    level = 1 - settings.alpha
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    attention = inp.attention[request.direction]
    layers = layer_names(attention)
    gene_level = [n for n in inp.baselines.names if n not in ("random", "marginal_product")]
    if not layers:
        reason = "the model has no attention layers"
        return refused(inp, NAME, DESIGNS, reason, edges=edges_of(inp, inp.primary), tables=TABLES, steps=("",))
    edges = edges_of(
        inp, attention.select(layers), _margins(attention, layers), inp.baselines.select(gene_level),
        inp.coexpression.select(["coexpression_abs"]),
    )  # fmt: skip
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("",))
    n = len(layers)
    margins = [f"{name}_margin" for name in layers]

    found = aurocs(edges, layers)
    low, high = found.interval(level)
    band_use = f"simulation/{NAME}/bands"
    critical = joint_critical(found, level=level, rng=inp.rng(band_use))
    weight = depth_weights(n) if n > 1 else np.zeros(1)
    # layer - its margin, layer - co-expression, then the two changes over depth
    one, none, column = np.eye(n), np.zeros(n), np.ones((n, 1))
    matrix = np.vstack([
        np.hstack([one, -one, 0 * column]), np.hstack([one, 0 * one, -column]),
        np.concatenate([weight, none, [0.0]]), np.concatenate([weight, -weight, [0.0]]),
    ])  # fmt: skip
    rows = np.array([edges.names.index(x) for x in [*layers, *margins, "coexpression_abs"]])
    contrasts = effects_of(
        contrast_inference(edges.scores[rows], edges.label, matrix, edges.regulator, edges.target)
    )  # fmt: skip
    excess, rival, changes = contrasts[:n], contrasts[n : 2 * n], contrasts[2 * n :]
    at = [e.cells(null_value=0.0, level=level) for e in excess]
    beyond = [e.cells(null_value=0.0, level=level) for e in rival]
    layer_table = pd.DataFrame(
        {
            "layer": layers, "auroc": found.estimate, "low": low, "high": high,
            "band_low": found.estimate - critical * found.se, "band_high": found.estimate + critical * found.se,
            "margin": found.estimate - [e.value for e in excess], "excess": [a["value"] for a in at],
            "excess_low": [a["low"] for a in at], "excess_high": [a["high"] for a in at],
            "beyond_coexpression": [b["value"] for b in beyond], "beyond_low": [b["low"] for b in beyond],
            "beyond_high": [b["high"] for b in beyond], "n_pos": edges.n_pos, "n_neg": edges.n_neg,
            "n_regulators": counts_of(edges)["n_regulators"],
        }
    )  # fmt: skip

    kinds = {**dict.fromkeys(gene_level, "gene level"), "coexpression_abs": "co-expression"}
    base = aurocs(edges, list(kinds))
    base_low, base_high = base.interval(level)
    baselines = pd.DataFrame(
        {
            "score": list(kinds), "kind": list(kinds.values()), "auroc": base.estimate, "low": base_low,
            "high": base_high, "layers_above": [int((found.estimate > b).sum()) for b in base.estimate],
        }
    )  # fmt: skip

    profiles = np.stack([found.estimate, np.array([e.value for e in excess])])
    trend_use = f"surrogate/{NAME}"
    trend = depth_trend(profiles, draws=settings.bootstrap, rng=inp.rng(trend_use))
    records: list[TestRecord] = []
    rows_of_trend = []
    for k, (name, label) in enumerate((("trend_over_depth", "AUROC"), ("trend_beyond_prominence", "excess"))):
        change = changes[k]
        size = oriented(change, level) if not change.undefined else None
        if trend.undefined[k] or size is None:
            records.append(
                TestRecord(id=ids[name], undefined=trend.undefined[k] or change.undefined, n_units=n)
            )  # fmt: skip
        else:
            records.append(
                TestRecord(
                    id=ids[name], statistic=float(trend.rho[k]), effect=size[0], low=size[1], high=size[2],
                    p_raw=float(trend.p[k]), n_units=1, stream=inp.stream_name(trend_use),
                )
            )  # fmt: skip
        c = change.cells(null_value=0.0, level=level)
        rows_of_trend.append(
            (label, n, trend.rho[k], trend.p[k], c["value"], c["low"], c["high"], trend.residual_autocorrelation[k],
             trend.undefined[k] or trend.method)
        )  # fmt: skip

    peak_use = f"split/{NAME}"
    peak = nested_peak(
        edges, tuple(layers), rivals={"coexpression": ("coexpression_abs",), "gene_level": tuple(gene_level)},
        rng=inp.rng(peak_use), draws=settings.bootstrap,
    )  # fmt: skip
    few = "" if n >= MIN_LAYERS else f"{n} layers; a hierarchy needs at least {MIN_LAYERS}"
    if peak.reason or few:
        records.append(TestRecord(id=ids["peak_above_others"], undefined=few or peak.reason))
        peak_estimate = Undefined(reason=few or peak.reason)
    else:
        above = peak.effects["others"]
        records.append(
            above.record(
                ids["peak_above_others"], side="greater", level=level, p_raw=peak.p_others,
                stream=inp.stream_name(peak_use),
            )
        )  # fmt: skip
        peak_estimate = above.estimate(null_value=0.0, level=level)
    contrast_rows = [
        (f"peak_minus_{name}", *(e.cells(null_value=0.0, level=level)[k] for k in ("value", "low", "high")))
        for name, e in peak.effects.items()
    ]
    facts = {
        **counts_of(edges),
        "n_layers": n,
        "n_gene_level": len(gene_level),
        "symmetric": symmetric,
        "peak_layers": list(peak.chosen),
        "direction_of_trend": "rising" if changes[0].value > 0 else "falling",
        "auroc_by_layer": found.estimate.tolist(),
    }
    if np.isfinite(trend.rho[0]):
        facts["rho"] = float(trend.rho[0])
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference,
        results=(
            result_of(inp, NAME, score="best layer - other layers, on other genes", metric="auroc_difference",
                      null_value=0.0, estimate=peak_estimate, edges=edges, stream=inp.stream_name(peak_use)),
            result_of(inp, NAME, score="change over depth", metric="auroc_difference", null_value=0.0,
                      estimate=changes[0].estimate(null_value=0.0, level=level), edges=edges),
        ),
        tables={
            "layers": layer_table[TABLES["layers"]],
            "layer_baselines": baselines,
            "layer_trend": pd.DataFrame(rows_of_trend, columns=TABLES["layer_trend"]),
            "layer_peak": pd.DataFrame(peak.blocks, columns=TABLES["layer_peak"]),
            "layer_peak_contrasts": pd.DataFrame(contrast_rows, columns=TABLES["layer_peak_contrasts"]),
        },
        records=tuple(records), facts=facts, dropped=dropped_of(edges),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Hierarchy of layers",
    question="Do layers specialise: does recovery of the reference change over depth?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference"),
    plan=plan,
    run=run,
    reference="Berger & Boos 1994; Theiler et al. 1992 (surrogates); Westfall & Young 1993 (max-T); Varma & Simon 2006 "
    "(nested choice)",
    falsified_by="A profile that wandering over depth explains, a best layer that is not better on other genes, or a "
    "trend that each layer's own row and column means show as well.",
    parameters={"symmetric": []},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
