"""Does attention tell responding genes from genes that were as likely to respond?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.incremental_logistic import normal_scores, trained_ranks
from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.per_perturbation import (
    MIN_PERTURBATIONS,
    UNIT,
    PerPerturbation,
    screen_refused,
    screen_result_of,
)
from regulens.analyses.perturbation_recovery import screen_facts
from regulens.analyses.propensity_published import PUBLISHED_DESIGNS, run_published
from regulens.analyses.propensity_sets import Sets, largest_share, overlap_weights, weighted_auroc
from regulens.errors import StatisticsError
from regulens.nulls.propensity_matched import propensity_matched
from regulens.stats.inference import Inference
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

#: Metric and null value that a refused result would have had.
REFUSED = {"": ("matched_auroc", 0.5)}

NAME = "propensity_matched"

#: Features that a unit's propensity is made of, and the largest difference in them that still counts as balanced.
FEATURES = ("target_mean", "target_variance", "target_dropout", "responds_to_others")
MAX_SMD = 0.1
COEXPRESSION = "coexpression_abs"
FOLDS = 5

METHOD = "t from the delete-one jackknife over perturbations and over genes, weights and matches held"

DESIGNS = (
    TestDesign(
        name="matched_above_chance", unit=UNIT, method=METHOD,
        hypothesis="A responding gene scores above genes of the same perturbation that were as likely to respond: mean "
        "matched AUROC > 0.5",
    ),
    TestDesign(
        name="attention_minus_coexpression", side="two-sided", unit=UNIT, method=METHOD,
        hypothesis="On matched genes attention and co-expression differ in mean AUROC over perturbations",
    ),
)  # fmt: skip

TABLES = {
    "matched_pert": [
        "score", "form", "auroc", "low", "high", "p", "n_perturbations", "n_pos", "n_neg", "balanced", "note",
    ],
    "matched_pert_perturbations": ["perturbation", "n_pos", "n_neg", "attention", "coexpression"],
    "matched_pert_balance": ["feature", "smd_before", "smd_after", "smd_overlap"],
    "matched_pert_sensitivity": ["gamma", "share_by_hidden_cause", "excess_by_attention", "p"],
}  # fmt: skip

#: Odds of a hidden cause that the sensitivity table shows.
GAMMAS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and screen."""
    designs = PUBLISHED_DESIGNS if request.protocol is Protocol.PUBLISHED else DESIGNS
    return plan_tests(NAME, request, designs, endpoint=Endpoint.PERTURBATION_RESPONSE)


def features_of(inp: AnalysisInput, per: PerPerturbation) -> np.ndarray:
    """`FEATURES` of every pair, shape ``(pair, 4)``; the last counts responses to other perturbations only."""
    f, edges = inp.features, per.edges
    gene = np.column_stack([f.mean, f.variance, 1 - f.detection])[edges.target]
    count = np.bincount(edges.target, weights=edges.label, minlength=len(inp.universe.genes))
    return np.column_stack([gene, count[edges.target] - edges.label])


def features_of_training(inp: AnalysisInput, per: PerPerturbation, fold: np.ndarray, train: np.ndarray) -> np.ndarray:
    """`FEATURES` as a fold may know them, the last from responses to *training* perturbations of other folds.

    It is the log odds of a response, ``log((y + 1/2) / (n - y + 1/2))``, over the n perturbations in which the gene was
    looked at: a gene that was looked at less often has not responded less. A count without just the perturbation at
    hand would give that perturbation's label away, so that its whole fold is left out.

    Parameters
    ----------
    fold
        Fold of every pair, integers, shape ``(pair,)``; whole perturbations.
    train
        Bool, shape ``(pair,)``; whole folds.
    """
    edges, n_genes = per.edges, len(inp.universe.genes)
    odds = np.zeros(edges.label.size)
    for f in np.unique(fold):
        others = train & (fold != f)
        y = np.bincount(edges.target[others], weights=edges.label[others], minlength=n_genes)
        n = np.bincount(edges.target[others], minlength=n_genes)
        odds[fold == f] = np.log((y + 0.5) / (n - y + 0.5))[edges.target[fold == f]]
    return np.column_stack([features_of(inp, per)[:, :3], odds])


def curved(features: np.ndarray, train: np.ndarray | None = None) -> np.ndarray:
    """Normal quantiles of the features' ranks, with squares and products: what the propensity is fitted on.

    Parameters
    ----------
    train
        Bool, shape ``(pair,)``: pairs that the ranks are those among; all by default.
    """
    among = features if train is None else features[train]
    z = np.column_stack([normal_scores(trained_ranks(x, own)) for own, x in zip(among.T, features.T)])
    n = z.shape[1]
    return np.column_stack([z, *(z[:, a] * z[:, b] for a in range(n) for b in range(a, n))])


def _overlap(features: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Overlap weights of a model that holds the features as they are, which those weights then balance exactly."""
    x = np.column_stack([features, curved(features)])
    sd = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    model = LogisticRegression(C=1e4, solver="newton-cholesky", max_iter=200, tol=1e-8).fit(x, label)
    return overlap_weights(model.decision_function(x), label)


def _balance(features: np.ndarray, label: np.ndarray, sets: Sets, weight: np.ndarray) -> pd.DataFrame:
    """Absolute standardised mean differences before, after matching, and with overlap weights.

    All are over ``sqrt((s_1^2 + s_0^2) / 2)`` before matching; a set's genes together weigh as much as its responder.
    """
    rows = []
    for k, name in enumerate(FEATURES):
        x = features[:, k]
        one, other = x[label], x[~label]
        sd = float(np.sqrt((one.var() + other.var()) / 2))
        gaps = (
            one.mean() - other.mean(),
            x[sets.positive].mean() - np.average(x[sets.negative], weights=sets.weight),
            np.average(one, weights=weight[label]) - np.average(other, weights=weight[~label]),
        )
        rows.append((name, *(abs(float(g)) / sd if sd > 0 else 0.0 for g in gaps)))
    return pd.DataFrame(rows, columns=TABLES["matched_pert_balance"])


def _effect(found: Inference, null_value: float) -> Effect:
    effect = effects_of(found, null_value=null_value)[0]
    if found.n_units < MIN_PERTURBATIONS:
        reason = f"{found.n_units} perturbations have matched sets; at least {MIN_PERTURBATIONS} are needed"
        return Effect(value=effect.value, se=np.nan, df=np.nan, method=effect.method, n_units=effect.n_units,
                      unit=UNIT, undefined=reason)  # fmt: skip
    return Effect(
        value=effect.value, se=effect.se, df=effect.df, n_units=found.n_units, unit=UNIT, undefined=effect.undefined,
        method="two-way delete-one jackknife over perturbations and genes, matches held, t interval",
    )  # fmt: skip


def _sensitivity(sets: Sets, wins: np.ndarray, level: float) -> tuple[pd.DataFrame, float]:
    """What a hidden cause of odds gamma would explain, and the largest gamma under which p stays below alpha."""

    def excess(gamma: float) -> tuple[float, Effect]:
        most = largest_share(sets.size, gamma)
        return float(sets.by_perturbation(most).mean()), _effect(sets.inference(wins, minus=most), 0.0)

    rows = []
    for gamma in GAMMAS:
        share, e = excess(gamma)
        p = np.nan if e.undefined else e.p_greater()
        rows.append((gamma, share, e.value, p))
    table = pd.DataFrame(rows, columns=TABLES["matched_pert_sensitivity"])
    if not table["p"].iloc[0] < 1 - level:
        return table, 1.0
    low, high = 1.0, 20.0
    for _ in range(20):
        middle = np.sqrt(low * high)
        e = excess(middle)[1]
        low, high = (middle, high) if not e.undefined and e.p_greater() < 1 - level else (low, middle)
    return table, float(low)


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME, features_of)
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    per = PerPerturbation.build(inp, inp.primary, inp.coexpression.select([COEXPRESSION]))
    if reason := per.refusal:
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=REFUSED)
    features, label, row = features_of(inp, per), per.edges.label, per.rows.row()
    stream = f"split/{NAME}"
    fold = inp.rng(stream).permutation(np.arange(per.n) % min(FOLDS, per.n))[row]
    try:
        found = propensity_matched(
            curved(features), [str(k) for k in range(curved(features[:2]).shape[1])], label, fold,
            ratio=int(parameters["ratio"]), caliper=float(parameters["caliper"]), within=row,
            of_training=lambda train: curved(features_of_training(inp, per, fold, train), train),
        )  # fmt: skip
    except StatisticsError as error:
        reason = f"too few responders to fit propensities out of fold: {error}"
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=REFUSED)
    matched = found.matched
    if not len(matched.positive):
        reason = "no responder has a gene of equal propensity inside the caliper"
        return screen_refused(inp, NAME, DESIGNS, reason, per=per, tables=TABLES, steps=REFUSED)
    inside = np.column_stack([found.log_odds, curved(features)[:, : len(FEATURES)]])
    sets, weight = Sets.of(matched, row, per.edges.target, inside), _overlap(features, label)
    balance = _balance(features, label, sets, weight)
    worst = balance.loc[balance["smd_after"].idxmax()]
    is_balanced = bool((balance["smd_after"] < MAX_SMD).all())
    scores = {primary: per.edges.score(primary), COEXPRESSION: per.edges.score(COEXPRESSION),
              "propensity": found.log_odds}  # fmt: skip
    wins = {name: sets.wins(s) for name, s in scores.items()}
    effects = {name: _effect(sets.inference(w), 0.5) for name, w in wins.items()}
    gap = _effect(sets.inference(wins[primary] - wins[COEXPRESSION]), 0.0)
    used = len(np.unique(matched.negative))
    rows = [_matched_row(n, e, sets, used, is_balanced=is_balanced, level=level) for n, e in effects.items()]
    overlap = {n: weighted_auroc(s, label, weight, row) for n, s in scores.items()}
    overlap_balanced = bool((balance["smd_overlap"] < MAX_SMD).all())
    for name, values in overlap.items():
        e = effects_of(per.mean_of(values), null_value=0.5)[0]
        at = e.cells(null_value=0.5, level=level)
        rows.append(
            {"score": name, "form": "overlap weights", "auroc": at["value"], "low": at["low"], "high": at["high"],
             "p": np.nan if e.undefined else e.p_greater(), "n_perturbations": per.n, "n_pos": per.edges.n_pos,
             "n_neg": per.edges.n_neg, "balanced": overlap_balanced,
             "note": e.undefined or "genes and weights held fixed"}
        )  # fmt: skip
    sensitivity, gamma = _sensitivity(sets, wins[primary], level)
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    unbalanced = (
        ""
        if is_balanced
        else f"not balanced: matching left {worst['feature'].replace('_', ' ')} with a standardised mean difference of "
        f"{worst['smd_after']:.2f}, {MAX_SMD} or more"
    )
    records = tuple(
        TestRecord(id=ids[name], undefined=unbalanced, n_units=e.n_units)
        if unbalanced
        else e.record(ids[name], side=side, level=level, stream=inp.stream_name(stream))
        for name, e, side in (
            ("matched_above_chance", effects[primary], "greater"),
            ("attention_minus_coexpression", gap, "two-sided"),
        )
    )
    facts: dict[str, Any] = {
        **per.counts(), **screen_facts(inp), "n_matched": len(matched.positive), "n_negatives": used,
        "largest_reuse": matched.largest_reuse, "coverage": matched.coverage, "is_balanced": is_balanced,
        "max_smd": float(worst["smd_after"]), "max_smd_feature": str(worst["feature"]).replace("_", " "),
        "gamma": gamma, "overlap_auroc": float(np.nanmean(overlap[primary])),
    }  # fmt: skip
    counted = {"n_pos": len(matched.positive), "n_neg": used, "n_regulators": len(sets.perturbations)}
    results = [
        _counted(screen_result_of(inp, NAME, per, score=f"{n}, matched", step="matched_pert" if n == primary else "",
                                  estimate=e.estimate(null_value=0.5, level=level), metric="matched_auroc",
                                  stream=inp.stream_name(stream)), counted)
        for n, e in effects.items()
    ]  # fmt: skip
    results.append(
        _counted(
            screen_result_of(inp, NAME, per, score=f"{primary} - {COEXPRESSION}, matched", metric="auroc_difference",
                             estimate=gap.estimate(null_value=0.0, level=level), null_value=0.0,
                             stream=inp.stream_name(stream)), counted)
    )  # fmt: skip
    shares = {n: sets.by_perturbation(sets.share(w)) for n, w in wins.items()}
    per_row = np.bincount(sets.row), np.bincount(sets.row[sets.owner])
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=tuple(results), records=records,
        facts=facts,
        tables={
            "matched_pert": pd.DataFrame(rows)[TABLES["matched_pert"]],
            "matched_pert_perturbations": pd.DataFrame(
                {
                    "perturbation": np.array(per.perturbations, dtype=object)[sets.perturbations], "n_pos": per_row[0],
                    "n_neg": per_row[1], "attention": shares[primary], "coexpression": shares[COEXPRESSION],
                }
            ),
            "matched_pert_balance": balance,
            "matched_pert_sensitivity": sensitivity,
        },
        dropped=per.dropped() | matched.counts(),
    )  # fmt: skip


def _counted(result: Any, counted: dict[str, int]) -> Any:
    return replace(result, **counted)


def _matched_row(
    name: str, effect: Effect, sets: Sets, used: int, *, is_balanced: bool, level: float
) -> dict[str, object]:  # fmt: skip
    at = effect.cells(null_value=0.5, level=level)
    note = effect.undefined or ("" if is_balanced else "not balanced")
    return {"score": name, "form": "matched", "auroc": at["value"], "low": at["low"], "high": at["high"],
            "p": np.nan if effect.undefined else effect.p_greater(), "n_perturbations": len(sets.perturbations),
            "n_pos": len(sets.gene), "n_neg": used, "balanced": is_balanced, "note": note}  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=2,
    title="Genes of equal propensity",
    question="Does attention tell responding genes from genes that were as likely to respond?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen"),
    plan=plan,
    run=run,
    reference="Rosenbaum & Rubin 1983; Austin 2011 (caliper); Rosenbaum 2002 (sensitivity); Li et al. 2018",
    falsified_by="A matched AUROC of 0.5, or matched genes that are not alike.",
    parameters={"ratio": 5, "caliper": 0.2},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
    scope="model_screen",
)  # fmt: skip
