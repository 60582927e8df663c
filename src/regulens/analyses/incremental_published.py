"""What does the published increment say? Pooled rows, models fitted once, rows resampled.

A reproduction: a row of perturbation and gene counts as independent of all others, models are not refitted, missing
pairs count as zero, and it feeds no verdict.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, test_id
from regulens.analyses.incremental_splits import SPLITS
from regulens.analyses.per_perturbation import PerPerturbation, screen_refused, screen_result_of
from regulens.analyses.perturbation_published import published_scores
from regulens.parallel import single_thread
from regulens.stats.ranking import auroc, average_precision
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

FOLDS, BOOTSTRAP = 5, 200

#: Metric and null value that a refused result would have had.
REFUSED = {"": ("auroc_difference", 0.0)}

PUBLISHED_DESIGNS = (
    TestDesign(
        name="auroc_added_perturbation_logistic", unit="row of perturbation and gene",
        method=f"bootstrap over rows, models fitted once, B={BOOTSTRAP}",
        hypothesis="Attention raises the pooled AUROC of a logistic model of gene features on other perturbations",
    ),
)  # fmt: skip
TABLES = {
    "published": ["split", "learner", "score", "n_rows", "base", "plus_score", "delta", "low", "high", "delta_auprc"]
}


def _turns(split: str, row: np.ndarray, column: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test rows, by grouped folds over perturbations, genes, or blocks of both."""

    def folds(group: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        n = min(FOLDS, len(np.unique(group)))
        return list(GroupKFold(n).split(group, groups=group))

    if split != "joint":
        return folds(row if split == "perturbation" else column)
    return [(np.intersect1d(a, c), np.intersect1d(b, d)) for a, b in folds(row) for c, d in folds(column)]


def _fitted(X: np.ndarray, y: np.ndarray, turns: list[tuple[np.ndarray, np.ndarray]], learner: str) -> np.ndarray:
    out = np.zeros(len(y))
    for train, test in turns:
        if not len(test) or y[train].all() or not y[train].any():
            continue
        mean, sd = X[train].mean(axis=0), X[train].std(axis=0)
        sd = np.where(sd > 0, sd, 1.0)
        model = (
            LogisticRegression(C=1.0, max_iter=1000)
            if learner == "logistic"
            else HistGradientBoostingClassifier(random_state=42, early_stopping=False)
        )
        model.fit((X[train] - mean) / sd, y[train])
        out[test] = model.predict_proba((X[test] - mean) / sd)[:, 1]
    return out


def run_published(inp: AnalysisInput, name: str) -> AnalysisOutcome:
    """Pooled AUROC with and without attention, and with and without co-expression, in three splits by two learners."""
    edges = LabelledEdges.build(published_scores(inp), inp.universe, endpoint=Endpoint.PERTURBATION_RESPONSE)
    per = PerPerturbation.of(edges, inp.universe.regulators)
    if per.refusal:
        return screen_refused(inp, name, PUBLISHED_DESIGNS, per.refusal, per=per, tables=TABLES, steps=REFUSED)
    edges, f = per.edges, inp.features
    y = edges.label
    base = np.column_stack([f.mean, f.variance, 1 - f.detection])[edges.target]
    scores = {
        inp.request.primary: edges.score(inp.request.primary),
        "coexpression_abs": edges.score("coexpression_abs"),
    }
    rows, results, record = [], [], None
    with single_thread():
        for split in SPLITS:
            turns = _turns(split, edges.regulator, edges.target)
            for learner in ("logistic", "trees"):
                alone = _fitted(base, y, turns, learner)
                for score, values in scores.items():
                    both = np.stack([alone, _fitted(np.column_stack([base, values]), y, turns, learner)])
                    area, precision = auroc(both, y), average_precision(both, y)
                    stream = f"bootstrap/{name}/published/{split}/{learner}/{score}"
                    draws = _resampled(both, y, inp.rng(stream))
                    delta = float(area[1] - area[0])
                    estimate: Estimate | Undefined = Estimate.from_draws(
                        delta, draws, method=f"bootstrap over rows, models fitted once, percentile, B={BOOTSTRAP}",
                        n_units=len(y), unit="row",
                    )  # fmt: skip
                    low, high = np.quantile(draws, [0.025, 0.975])
                    rows.append((split, learner, score, len(y), area[0], area[1], delta, low, high,
                                 precision[1] - precision[0]))  # fmt: skip
                    results.append(
                        screen_result_of(
                            inp, name, per, score=f"{score} added to gene features, {split} split, {learner}",
                            estimate=estimate, metric="auroc_difference", null_value=0.0,
                            stream=inp.stream_name(stream),
                        )
                    )  # fmt: skip
                    if record is None:
                        record = TestRecord(
                            id=test_id(name, inp.request, PUBLISHED_DESIGNS[0].name), effect=delta, low=float(low),
                            high=float(high), n_units=len(y), stream=inp.stream_name(stream),
                            p_raw=float((1 + np.count_nonzero(draws <= 0)) / (1 + BOOTSTRAP)),
                        )  # fmt: skip
    assert record is not None
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=TABLES["published"])}, records=(record,), facts=per.counts(),
        dropped=per.dropped(),
    )  # fmt: skip


def _resampled(both: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Difference of the AUROCs in resamples of rows, shape ``(draw,)``."""
    out = np.full(BOOTSTRAP, np.nan)
    for b in range(BOOTSTRAP):  # over draws, not rows
        take = rng.integers(len(y), size=len(y))
        if y[take].any() and not y[take].all():
            area = auroc(both[:, take], y[take])
            out[b] = area[1] - area[0]
    return out[np.isfinite(out)]
