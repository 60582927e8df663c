"""What does the published residual say? Folds over pairs, raw scores, the pair as the unit.

A reproduction: training and test pairs share genes, missing pairs count as zero, and it feeds no verdict.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.analyses.recovery_published import pair_bootstrap, zero_filled
from regulens.analyses.residual_fit import TREES, PairFeatures
from regulens.parallel import single_thread
from regulens.stats.ranking import auroc
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

FOLDS, SEEDS, TREE_SEEDS, BOOTSTRAP = 5, 10, 1, 1000
COLUMNS = ["score", "fit", "r2", "auroc_raw", "auroc_residual", "low", "high", "retention", "seed_sd", "n_seeds"]


def _residuals(X: np.ndarray, y: np.ndarray, *, trees: bool, seed: int) -> np.ndarray:
    out = np.empty(len(y))
    for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(X):
        model = HistGradientBoostingRegressor(**TREES, random_state=seed) if trees else LinearRegression()
        out[test] = y[test] - model.fit(X[train], y[train]).predict(X[test])
    return out


def run_published(
    inp: AnalysisInput,
    name: str,
    design: TestDesign,
    features_of: Callable[[AnalysisInput, LabelledEdges], PairFeatures],
) -> AnalysisOutcome:
    """Residual AUROC of attention and co-expression with folds over pairs; least squares 10 seeds, trees one."""
    edges = LabelledEdges.build(
        [zero_filled(inp, inp.primary), zero_filled(inp, inp.coexpression.select(["coexpression_abs"]))], inp.universe
    )
    tables = {"published": COLUMNS}
    if reason := refusal(edges):
        return refused(inp, name, (design,), reason, edges=edges, tables=tables, steps=("",))
    X = features_of(inp, edges).plain()
    raw = auroc(edges.scores, edges.label)
    rows, results, record = [], [], None
    for s, score in enumerate(edges.names):
        for trees in (False, True):
            y, n_seeds = edges.scores[s], TREE_SEEDS if trees else SEEDS
            with single_thread():
                residual = np.stack([_residuals(X, y, trees=trees, seed=42 + k) for k in range(n_seeds)])
            by_seed = auroc(residual, edges.label)
            value = float(by_seed[0])
            fit = "boosted trees" if trees else "least squares"
            stream = f"bootstrap/{name}/published/{score}/{fit.replace(' ', '_')}"
            draws = pair_bootstrap(residual[0], edges.label, draws=BOOTSTRAP, rng=inp.rng(stream))
            estimate: Estimate | Undefined = Estimate.from_draws(
                value, draws, method=f"bootstrap over pairs, percentile, B={BOOTSTRAP}", n_units=len(edges.label),
                unit="pair",
            )  # fmt: skip
            spread = float(y.var())
            low, high = np.quantile(draws, [0.025, 0.975])
            rows.append(
                (score, fit, 1 - float(np.mean(residual[0] ** 2)) / spread if spread > 0 else np.nan, float(raw[s]),
                 value, low, high, (value - 0.5) / (raw[s] - 0.5) if raw[s] != 0.5 else np.nan,
                 float(by_seed.std(ddof=1)) if n_seeds > 1 else np.nan, n_seeds)
            )  # fmt: skip
            results.append(
                result_of(inp, name, score=f"{score}, residual of {fit}", estimate=estimate, edges=edges,
                          stream=inp.stream_name(stream))
            )  # fmt: skip
            if record is None:
                record = TestRecord(
                    id=test_id(name, inp.request, design.name), effect=value - 0.5, n_units=len(edges.label),
                    p_raw=float((1 + np.count_nonzero(draws <= 0.5)) / (1 + BOOTSTRAP)),
                    stream=inp.stream_name(stream),
                )  # fmt: skip
    assert record is not None
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=COLUMNS)}, records=(record,), facts=counts_of(edges),
    )  # fmt: skip
