"""What does the published matching on propensity say? Five nearest negatives anywhere, whatever the distance.

A reproduction: propensities are fitted on the pairs they are read on, negatives may come from other perturbations,
balance is shown and not required, missing pairs count as zero, and perturbations count as independent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, test_id
from regulens.analyses.per_perturbation import MIN_PERTURBATIONS, PerPerturbation, screen_refused, screen_result_of
from regulens.analyses.perturbation_published import published_scores
from regulens.nulls.nearest import balance_table, nearest_negatives
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

#: Metric and null value that a refused result would have had.
REFUSED = {"": ("matched_auroc", 0.5)}

NEAREST = 5
FEATURES = ["target_mean", "target_variance", "target_dropout", "responds_to_others"]
PUBLISHED_DESIGNS = (
    TestDesign(
        name="matched_above_chance", side="two-sided", unit="perturbation",
        method="one-sample t over perturbations, taken as independent",
        hypothesis="On matched pairs the mean AUROC of attention over perturbations is not 0.5",
    ),
)  # fmt: skip
TABLES = {
    "published": ["score", "n_perturbations", "n_pairs", "share_positive", "auroc", "sd", "p"],
    "published_balance": ["feature", "smd_before", "smd_after"],
}


def run_published(
    inp: AnalysisInput, name: str, features_of: Callable[[AnalysisInput, PerPerturbation], np.ndarray]
) -> AnalysisOutcome:
    """AUROC per perturbation among all responders and their nearest negatives."""
    edges = LabelledEdges.build(published_scores(inp), inp.universe, endpoint=Endpoint.PERTURBATION_RESPONSE)
    per = PerPerturbation.of(edges, inp.universe.regulators)
    if per.refusal:
        return screen_refused(inp, name, PUBLISHED_DESIGNS, per.refusal, per=per, tables=TABLES, steps=REFUSED)
    x, label = features_of(inp, per), per.edges.label
    sd = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    log_odds = LogisticRegression(C=1.0, max_iter=1000).fit(z, label).decision_function(z)
    matched = nearest_negatives(log_odds, label, ratio=NEAREST, caliper=np.inf)
    keep = np.zeros(label.size, dtype=bool)
    keep[matched.positive] = keep[matched.negative] = True
    part = PerPerturbation.of(per.edges.restrict(keep), inp.universe.regulators)
    rows, results = [], []
    few = f"{part.n} perturbations have responders and others among the matched pairs"
    reason = few if part.n < MIN_PERTURBATIONS else "all perturbations have one value"
    record = TestRecord(id=test_id(name, inp.request, PUBLISHED_DESIGNS[0].name), n_units=part.n, undefined=reason)
    for score in part.names:
        value = part.values(score)
        enough = part.n >= MIN_PERTURBATIONS and float(value.std()) > 0
        p = float(stats.ttest_1samp(value, 0.5).pvalue) if enough else np.nan
        spread = float(value.std(ddof=1)) if part.n > 1 else np.nan
        rows.append((score, part.n, int(keep.sum()), float(label[keep].mean()), value.mean(), spread, p))
        estimate: Estimate | Undefined = Undefined(reason=reason)
        if enough:
            half = float(stats.t.ppf(0.975, part.n - 1)) * spread / np.sqrt(part.n)
            mean = float(value.mean())
            estimate = Estimate(
                value=mean, low=mean - half, high=mean + half, method="t over perturbations, taken as independent",
                n_units=part.n, unit="perturbation",
            )  # fmt: skip
            if score == inp.request.primary:
                record = TestRecord(id=record.id, effect=mean - 0.5, low=mean - half - 0.5, high=mean + half - 0.5,
                                    p_raw=max(p, 1e-300), n_units=part.n)  # fmt: skip
        results.append(screen_result_of(inp, name, part, score=f"{score}, matched", estimate=estimate))
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={
            "published": pd.DataFrame(rows, columns=TABLES["published"]),
            "published_balance": balance_table(x, FEATURES, label, matched),
        },
        records=(record,), facts=per.counts(), dropped=per.dropped() | matched.counts(),
    )  # fmt: skip
