"""What does the published calibration say? A loose label rule, scores squeezed to [0, 1], pairs split at random.

A reproduction: pairs of one perturbation stand on both sides of the split, missing pairs count as zero, and it feeds
no verdict. The source gives the label rule; how it split is inferred from its conformal part, which split over edges.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.analyses.probabilities import CALIBRATE, COEXPRESSION, TEST
from regulens.analyses.recovery_published import zero_filled
from regulens.stats.calibration_error import equal_width
from regulens.stats.calibrators import fit_isotonic, fit_platt
from regulens.stats.ranking import auroc
from regulens.types.edges import EdgeUniverse
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome
from regulens.types.screens import LabelRule, ResponseLabels

#: Published rule: adjusted p < .05 and |log2 fold change| > .1, or the strongest 5 % of a composite of both.
ALPHA, LOG2_EFFECT, TOP = 0.05, 0.1, 0.05
BOOTSTRAP = 1000

PUBLISHED = TestDesign(
    name="ece_drop",
    hypothesis="Isotonic calibration lowers the expected calibration error of attention on other pairs",
    unit="pair", method="bootstrap over pairs, percentile", confirmatory=False,
)  # fmt: skip

COLUMNS = ["score", "calibration", "ece", "brier", "auroc", "n_pos", "n_pairs", "prevalence"]


def published_labels(inp: AnalysisInput) -> tuple[np.ndarray, np.ndarray]:
    """Responders under the published rule and tested pairs, bool on the universe's grid.

    The composite is not defined by the source; here it is the product of |effect| and −log10 p (inferred). The
    effect's bound is translated to natural logarithms, the scale of a screen's effects, unless a table's are log2.
    """
    assert inp.screen is not None
    effects = inp.screen.labels.effects
    bound = LOG2_EFFECT * (1.0 if effects.scale.startswith("log2") else float(np.log(2)))
    labels = ResponseLabels.build(effects, LabelRule(alpha=ALPHA, min_effect=bound))
    size = np.where(labels.tested, np.abs(effects.effect), 0.0)
    if effects.p is not None:
        size = size * -np.log10(np.clip(np.where(labels.tested, effects.p, 1.0), 1e-300, 1.0))
    n = int(labels.tested.sum())
    cut = np.sort(size[labels.tested])[-max(1, round(TOP * n))] if n else np.inf
    positive = labels.positive | (labels.tested & (size >= cut) & (size > 0))
    universe = inp.universe
    column = {g: j for j, g in enumerate(effects.genes)}
    row = {p: i for i, p in enumerate(effects.perturbations)}
    i = np.array([row[p] for p in universe.regulators])
    j = np.array([column.get(g, -1) for g in universe.genes])
    tested = universe.candidate & (j >= 0) & labels.tested[i][:, j]
    return tested & positive[i][:, j], tested


def published_edges(inp: AnalysisInput) -> LabelledEdges:
    """Attention and co-expression on all tested pairs, missing as zero, under the published labels."""
    positive, tested = published_labels(inp)
    u = inp.universe
    universe = EdgeUniverse(
        genes=u.genes, regulators=u.regulators, candidate=tested, positive=positive, reference=u.reference,
        counts=u.counts, restrictions=u.restrictions, name=u.name,
    )  # fmt: skip
    return LabelledEdges.build(
        [zero_filled(inp, inp.primary), zero_filled(inp, inp.coexpression.select([COEXPRESSION]))], universe,
        endpoint=Endpoint.PERTURBATION_RESPONSE,
    )  # fmt: skip


def squeezed(score: np.ndarray) -> np.ndarray:
    """Scores between their smallest and largest as 0 to 1, a hair off both ends."""
    spread = np.ptp(score)
    u = (score - score.min()) / spread if spread > 0 else np.full(len(score), 0.5)
    return np.clip(u, 1e-9, 1 - 1e-9)


def _ece_draws(readings: list[np.ndarray], y: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """ECE of every reading when pairs are resampled, the same pairs for all, shape ``(reading, draw)``.

    Pairs of one label that every reading puts into one bin are alike, so their numbers are drawn instead of them.
    """
    bins = [equal_width(p, y) for p in readings]
    alike, cell = np.unique(np.stack([*(b.index for b in bins), y]), axis=1, return_inverse=True)
    n = np.bincount(cell.ravel())
    drawn = rng.multinomial(len(y), n / n.sum(), size=draws)
    out = []
    for p, b, index in zip(readings, bins, alike):
        mean = np.bincount(cell.ravel(), weights=p) / n
        gap = drawn * (alike[-1] - mean)
        out.append(np.abs(gap @ (index[:, None] == np.arange(len(b.n)))).sum(axis=1) / len(y))
    return np.array(out)


def run_published(inp: AnalysisInput, name: str) -> AnalysisOutcome:
    """ECE of raw, Platt-scaled and isotonic scores, half of the pairs fitted, a quarter each calibrated and judged."""
    edges = published_edges(inp)
    if reason := refusal(edges):
        return refused(inp, name, (PUBLISHED,), reason, edges=edges, tables={"published": COLUMNS}, steps=("",))
    stream = f"split/{name}/published"
    part = inp.rng(stream).permutation(np.arange(len(edges.label)) % 4)
    fit, test = part == CALIBRATE, part == TEST
    y = edges.label[test]
    if not y.any() or y.all() or not edges.label[fit].any():
        reason = "too few pairs to have both labels in every part"
        return refused(inp, name, (PUBLISHED,), reason, edges=edges, tables={"published": COLUMNS}, steps=("",))
    rows, results, record = [], [], None
    for score in edges.names:
        u = squeezed(edges.score(score))
        readings = {"raw": u[test]}
        for way, method in (("platt", fit_platt), ("isotonic", fit_isotonic)):
            readings[way] = method(u[fit], edges.label[fit])(u[test])
        for way, p in readings.items():
            ece = equal_width(p, y).ece
            rows.append(
                (score, way, ece, float(np.mean((p - y) ** 2)), float(auroc(p[None], y)[0]), edges.n_pos,
                 len(edges.label), edges.n_pos / len(edges.label))
            )  # fmt: skip
            (draws,) = _ece_draws([p], y, BOOTSTRAP, inp.rng(f"bootstrap/{name}/published/{score}/{way}"))
            estimate: Estimate | Undefined = Estimate.from_draws(
                ece, draws, method=f"bootstrap over pairs, percentile, B={BOOTSTRAP}", n_units=int(test.sum()),
                unit="pair",
            )  # fmt: skip
            results.append(
                result_of(inp, name, score=f"{score}, {way}", estimate=estimate, edges=edges, metric="ece",
                          null_value=0.0, stream=inp.stream_name(stream))
            )  # fmt: skip
        if record is None:
            drop = equal_width(readings["raw"], y).ece - equal_width(readings["isotonic"], y).ece
            rng = inp.rng(f"bootstrap/{name}/published/drop")
            null = np.subtract(*_ece_draws([readings["raw"], readings["isotonic"]], y, BOOTSTRAP, rng))
            record = TestRecord(
                id=test_id(name, inp.request, PUBLISHED.name), effect=drop, n_units=int(test.sum()),
                p_raw=float((1 + np.count_nonzero(null <= 0)) / (1 + BOOTSTRAP)), stream=inp.stream_name(stream),
            )  # fmt: skip
    assert record is not None
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=COLUMNS)}, records=(record,), facts=counts_of(edges),
    )  # fmt: skip
