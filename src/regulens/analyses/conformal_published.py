"""What do the published sets say? Split conformal over pairs, at one error rate, under a loose label rule.

A reproduction: pairs of one perturbation calibrate and are judged, so what is covered are more pairs of perturbations
that were seen. Missing pairs count as zero, and it feeds no verdict.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from regulens.analyses.base import AnalysisInput
from regulens.analyses.calibration_published import published_edges, squeezed
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.analyses.probabilities import CALIBRATE, TEST
from regulens.stats.calibrators import fit_platt
from regulens.stats.conformal_sets import sets, smallest, undercoverage_p
from regulens.types.estimates import Estimate
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

ALPHA = 0.05

PUBLISHED = TestDesign(
    name="covers_too_few",
    hypothesis="Sets of attention hold the true label of another pair less often than promised",
    side="less", unit="pair", method="beta-binomial over pairs", confirmatory=False,
)  # fmt: skip

COLUMNS = ["score", "alpha", "coverage", "coverage_no", "coverage_yes", "size", "empty", "singleton", "both", "n_pairs"]


def run_published(inp: AnalysisInput, name: str) -> AnalysisOutcome:
    """Half of the pairs fit, a quarter each calibrates and is judged; Platt-scaled scores."""
    edges = published_edges(inp)
    tables = {"published": COLUMNS}
    if reason := refusal(edges):
        return refused(inp, name, (PUBLISHED,), reason, edges=edges, tables=tables, steps=("",))
    stream = f"split/{name}/published"
    rng = inp.rng(stream)
    part = rng.permutation(np.arange(len(edges.label)) % 4)
    fit, cal, test = part < CALIBRATE, part == CALIBRATE, part == TEST
    y = edges.label
    rows, results, record = [], [], None
    for score in edges.names:
        u = squeezed(edges.score(score))
        p = fit_platt(u[fit], y[fit])(u)
        tie = rng.random(len(p))
        bound = smallest(np.where(y, 1 - p, p)[cal], tie[cal], ALPHA)
        inside, held = sets(p[test], tie[test], bound, bound), y[test]
        covered, size = np.where(held, inside[:, 1], inside[:, 0]), inside.sum(axis=1)
        shares = [float(covered[at].mean()) if at.any() else np.nan for at in (~held, held)]
        rows.append(
            (score, ALPHA, float(covered.mean()), *shares, float(size.mean()), float((size == 0).mean()),
             float((size == 1).mean()), float((size == 2).mean()), int(test.sum()))
        )  # fmt: skip
        k, n = int(covered.sum()), int(test.sum())
        interval = binomtest(k, n).proportion_ci(method="wilson")
        estimate = Estimate(
            value=k / n, low=float(interval.low), high=float(interval.high), n_units=n, unit="pair",
            method="Wilson interval, pairs as independent",
        )  # fmt: skip
        results.append(
            result_of(inp, name, score=score, estimate=estimate, edges=edges, metric="coverage", null_value=1 - ALPHA,
                      stream=inp.stream_name(stream))
        )  # fmt: skip
        if record is None:
            p_value = max(undercoverage_p(k, n, int(cal.sum()), ALPHA), float(np.finfo(np.float64).tiny))
            record = TestRecord(
                id=test_id(name, inp.request, PUBLISHED.name), effect=k / n - (1 - ALPHA), p_raw=p_value, n_units=n,
                stream=inp.stream_name(stream),
            )  # fmt: skip
    assert record is not None
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=COLUMNS)}, records=(record,), facts=counts_of(edges),
    )  # fmt: skip
