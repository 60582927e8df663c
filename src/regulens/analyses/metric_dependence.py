"""Do conclusions flip with the metric? Every rank metric on identical pairs, with its ceiling and its chance value."""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import counts_of, dropped_of, edges_of, having, refusal, refused, result_of
from regulens.analyses.concordance import kendall_w, tau_matrix
from regulens.analyses.inference import above_half
from regulens.analyses.layer_hierarchy import layer_names
from regulens.metrics.partial_auroc import partial_auroc
from regulens.stats.summary import ranking_summary
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest
from regulens.types.results import AnalysisOutcome

NAME = "metric_dependence"

TABLES = {
    "metric_grid": ["score", "metric", "k", "k_over_n_pos", "value", "chance", "ceiling", "place"],
    "metric_signs": ["rival", "n_metrics", "n_ahead", "n_behind", "n_equal", "disagree", "ahead_by", "behind_by"],
    "metric_agreement": ["metric", "other_metric", "kendall", "n_scores"],
    "metric_concordance": ["quantity", "value", "n_metrics", "n_scores"],
}


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """None: which metric is right is no hypothesis about the data."""
    return ()


def depths(n_pos: int, n_pairs: int, counts: list[int], multiples: list[float]) -> dict[int, float]:
    """Lengths of lists, ascending, each with its multiple of n⁺; those that do not fit are left out.

    Examples
    --------
    >>> depths(40, 1000, [20, 5000], [1, 2])
    {20: 0.5, 40: 1.0, 80: 2.0}
    """
    wanted = {int(k) for k in counts} | {round(float(m) * n_pos) for m in multiples}
    return {k: k / n_pos for k in sorted(wanted) if 1 <= k <= n_pairs}


def _grid(edges: LabelledEdges, ks: dict[int, float], max_fpr: float) -> pd.DataFrame:
    """One row per score and metric."""
    n_pos, prevalence = edges.n_pos, edges.n_pos / len(edges.label)
    found = ranking_summary(edges.scores, edges.label, k=list(ks))
    rows: list[tuple[str, float, float, np.ndarray, float, float]] = [
        ("auroc", np.nan, np.nan, found.auroc.estimate, 0.5, 1.0),
        ("partial_auroc", np.nan, np.nan, partial_auroc(edges, max_fpr=max_fpr), 0.5, 1.0),
        ("auprc_ratio", np.nan, np.nan, found.average_precision / prevalence, 1.0, 1 / prevalence),
    ]
    if found.top is not None:
        for c, (k, multiple) in enumerate(ks.items()):
            hits = found.top.true_positives[:, c]
            best = min(k, n_pos)
            if k == n_pos:
                rows.append(("epr", k, multiple, hits / k / prevalence, 1.0, 1 / prevalence))
            rows.append(("precision_at_k", k, multiple, hits / k, prevalence, best / k))
            rows.append(("f1_at_k", k, multiple, 2 * hits / (k + n_pos), 2 * k * prevalence / (k + n_pos),
                         2 * best / (k + n_pos)))  # fmt: skip
    frames = [
        pd.DataFrame(
            {"score": edges.names, "metric": metric, "k": k, "k_over_n_pos": multiple, "value": value,
             "chance": chance, "ceiling": ceiling, "place": pd.Series(-value).rank(method="average").to_numpy()}
        )
        for metric, k, multiple, value, chance, ceiling in rows
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)[TABLES["metric_grid"]]


def orderings(grid: pd.DataFrame) -> pd.DataFrame:
    """Scores × metrics that can order them differently: F1 at k and EPR order as the precision at that k does."""
    kept = grid[~grid["metric"].isin(["f1_at_k", "epr"])]
    name = kept["metric"].where(kept["k"].isna(), kept["metric"] + " " + kept["k"].fillna(0).astype(int).astype(str))
    wide = kept.assign(name=name).pivot_table(index="score", columns="name", values="value", sort=False)
    return wide.loc[list(dict.fromkeys(kept["score"]))]


def _signs(wide: pd.DataFrame, primary: str, rivals: list[str]) -> pd.DataFrame:
    """By which metrics attention is ahead of each rival, and by which behind."""
    rows = []
    for rival in rivals:
        gap = wide.loc[primary] - wide.loc[rival]
        ahead, behind = [m for m in wide.columns if gap[m] > 0], [m for m in wide.columns if gap[m] < 0]
        rows.append(
            (rival, len(gap), len(ahead), len(behind), len(gap) - len(ahead) - len(behind), bool(ahead and behind),
             ", ".join(ahead), ", ".join(behind))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=TABLES["metric_signs"])


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    request = inp.request
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    attention = inp.attention[request.direction]
    names = list(dict.fromkeys([request.primary, *layer_names(attention)]))
    rivals = [n for n in inp.coexpression.names if n == "coexpression_abs"]
    rivals += [n for n in inp.baselines.names if n.startswith(("product_", "marginal"))]
    genes = [n for n in inp.baselines.names if n not in rivals]
    edges = edges_of(
        inp, attention.select(names), having(inp.coexpression, rivals), having(inp.baselines, [*rivals, *genes]),
    )  # fmt: skip
    if reason := refusal(edges):
        return refused(inp, NAME, (), reason, edges=edges, tables=TABLES, steps=("",))
    ks = depths(edges.n_pos, len(edges.label), list(parameters["top_k"]), list(parameters["multiples"]))
    grid = _grid(edges, ks, float(parameters["max_fpr"]))
    wide = orderings(grid)
    values = wide.to_numpy().T
    varied = np.ptp(values, axis=1) > 0
    tau = tau_matrix(values)
    above = np.triu_indices(len(tau), k=1)
    metrics = list(wide.columns)
    agreement = pd.DataFrame(
        [(metrics[a], metrics[b], tau[a, b], len(wide)) for a, b in zip(*above)], columns=TABLES["metric_agreement"]
    )
    w = kendall_w(values[varied])
    signs = _signs(wide, request.primary, rivals)
    concordance = [
        ("kendall_w", w, int(varied.sum()), len(wide)),
        ("smallest_tau", float(np.nanmin(tau)) if np.isfinite(tau).any() else np.nan, int(varied.sum()), len(wide)),
    ]
    facts = {
        **counts_of(edges),
        "n_metrics": len(metrics),
        "n_scores": len(wide),
        "n_rivals_in_dispute": int(signs["disagree"].sum()),
        "disputed": signs.loc[signs["disagree"], "rival"].tolist(),
    }
    if np.isfinite(w):
        facts["kendall_w"] = w
    level = 1 - request.settings.alpha
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference,
        results=(
            result_of(inp, NAME, score=request.primary, edges=edges,
                      estimate=above_half(edges, request.primary).estimate(null_value=0.5, level=level)),
        ),
        tables={
            "metric_grid": grid,
            "metric_signs": signs,
            "metric_agreement": agreement,
            "metric_concordance": pd.DataFrame(concordance, columns=TABLES["metric_concordance"]),
        },
        records=(), facts=facts, dropped=dropped_of(edges),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Dependence on the metric",
    question="Do conclusions flip with the metric?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "reference"),
    plan=plan,
    run=run,
    reference="Kendall & Babington Smith 1939; McClish 1989; Davis & Goadrich 2006; Saito & Rehmsmeier 2015",
    falsified_by="An order of attention and its rivals that one metric reverses.",
    parameters={"top_k": [20, 50, 100, 200, 500], "multiples": [0.5, 1, 2], "max_fpr": 0.1},
)
