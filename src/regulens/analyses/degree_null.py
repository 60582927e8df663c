"""Is recovery more than the degrees of regulators and targets?"""

from __future__ import annotations

from dataclasses import dataclass

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
from regulens.analyses.degree_excess import Excess, auroc_without_regulator, degree_excess
from regulens.analyses.degree_published import run_published
from regulens.analyses.inference import Effect, effects_of
from regulens.nulls.degree_preserving import DegreeDraws, degree_preserving_draws
from regulens.nulls.rank_sums import auroc_at, mid_ranks
from regulens.stats.inference import Inference
from regulens.types.edges import EdgeScores
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, NullDistribution, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "degree_null"

DESIGNS = (
    TestDesign(
        name="above_degree",
        hypothesis="Attention ranks reference edges higher than the degrees of both genes explain: AUROC above the "
        "mean AUROC of degree-preserving networks",
    ),
    TestDesign(
        name="above_degree_without_any_regulator",
        hypothesis="The same holds whichever single regulator is left out",
        method="intersection-union: the largest p of the delete-one jackknife over all regulators left out",
    ),
    # All networks with the same degrees are equally likely only where pairs have no structure but degree: regulators of
    # one family share targets, and their attention is alike. Then this p is too small; it describes.
    TestDesign(
        name="observed_among_draws",
        hypothesis="The AUROC is larger than that of networks with the same degrees",
        unit="network",
        method="rank among degree-preserving draws",
        confirmatory=False,
    ),
    TestDesign(
        name="coexpression_above_degree",
        hypothesis="Co-expression ranks reference edges higher than the degrees of both genes explain",
        confirmatory=False,
    ),
)

TABLES = {
    "degree_null": [
        "score", "auroc", "null_mean", "null_sd", "z", "p_draws", "share_margin", "share_pair", "pair_low",
        "pair_high", "p",
    ],
    "degree_leave_one_out": ["regulator", "n_pos", "auroc_without", "null_mean", "z", "share_pair", "pair_low", "p"],
    "degree_checks": ["check", "value", "bar", "passed"],
    "degree_draws": ["score", "low", "high", "draws"],
}  # fmt: skip

#: Scores beside attention: one that passes without being a model, one that is made of expression, one of one gene.
COEXPRESSION, CLOSENESS, MARGIN = "coexpression_abs", "mean_closeness", "target_variance"
#: Stands in for the last where there is no expression: mean score of a target over regulators.
OWN_MARGIN = "target_margin"

ONE_GENE = {MARGIN: "variance of the target", OWN_MARGIN: "mean score of the target"}

#: Bars of the self-tests.
MIN_TRADES = 5.0
MOST_OVERLAP = 0.05  # of the way from mixed to identical that draws may fall short of chains eight times as long
NO_SPREAD = 1e-9
#: Networks with these degrees overlap so much with the observed one that nothing is left to compare.
DETERMINED = 0.9
#: Draws that the z without each regulator is made of.
LEAVE_OUT_DRAWS = 200
BINS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A self-test of the null; not a test of a hypothesis."""

    check: str
    value: float
    bar: float
    passed: bool


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    if request.protocol is Protocol.PUBLISHED:
        return plan_tests(NAME, request, (DESIGNS[2],))
    return plan_tests(NAME, request, DESIGNS)


def closeness(inp: AnalysisInput) -> EdgeScores:
    """Minus the difference of both genes' mean expression: pairs that are expressed alike score high."""
    mean, own = inp.features.mean, inp.universe.regulator_columns()
    return EdgeScores(
        values=-np.abs(mean[own][:, None] - mean[None, :])[None], observed=inp.coexpression.observed,
        names=(CLOSENESS,), genes=inp.universe.genes, regulators=inp.universe.regulators, scorer=CLOSENESS,
    )  # fmt: skip


def target_margin(inp: AnalysisInput) -> EdgeScores:
    """Mean primary score of every target over its observed regulators: a score of one gene that needs no cells."""
    one = inp.primary
    mean = one.values[0].sum(axis=0) / np.maximum(one.observed.sum(axis=0), 1)
    return EdgeScores(
        values=np.broadcast_to(mean, one.values.shape).copy(), observed=one.observed, names=(OWN_MARGIN,),
        genes=one.genes, regulators=one.regulators, scorer=OWN_MARGIN,
    )  # fmt: skip


def self_tests(
    edges: LabelledEdges, draws: DegreeDraws, null: np.ndarray, *, margin: int, n_regulators: int, n_genes: int
) -> list[Check]:
    """What the null promises, measured on the draws of this run.

    Parameters
    ----------
    null
        AUROCs of the draws, shape ``(score, draw)``; row `margin` is a score of one gene alone.
    """

    def margins(of_pair: np.ndarray, n: int) -> int:
        flat = of_pair[draws.positions] + n * np.arange(len(draws.positions))[:, None]
        counts = np.bincount(flat.ravel(), minlength=n * len(draws.positions)).reshape(-1, n)
        return int((counts != np.bincount(of_pair[draws.observed], minlength=n)).sum())

    wrong = margins(edges.regulator, n_regulators) + margins(edges.target, n_genes)
    repeats = int((np.diff(np.sort(draws.positions, axis=1), axis=1) == 0).sum())
    mixed, mean = draws.jaccard_mixed, float(draws.jaccard.mean())
    spread = float(null[margin].std())
    bar = mixed + MOST_OVERLAP * (1 - mixed)
    return [
        Check(check="regulators or targets whose degree differs in a draw", value=wrong, bar=0, passed=wrong == 0),
        Check(check="pairs drawn twice in one network", value=repeats, bar=0, passed=repeats == 0),
        Check(
            check="draws identical to the reference", value=draws.n_identical, bar=0, passed=draws.n_identical == 0
        ),
        Check(
            check="fewest effective trades of a draw per regulator", value=draws.trades_per_row, bar=MIN_TRADES,
            passed=draws.trades_per_row >= MIN_TRADES,
        ),
        Check(check="mean Jaccard index of draws and reference", value=mean, bar=bar, passed=mean <= bar),
        Check(
            check="the same after chains eight times as long", value=mixed, bar=DETERMINED, passed=mixed < DETERMINED
        ),
        Check(
            check="smallest Jaccard index that the degrees leave room for", value=draws.jaccard_floor, bar=1.0,
            passed=bool((draws.jaccard >= draws.jaccard_floor - 1e-12).all()),
        ),
        Check(
            check=f"null SD of a score of one gene ({ONE_GENE[edges.names[margin]]})", value=spread, bar=NO_SPREAD,
            passed=spread < NO_SPREAD,
        ),
    ]  # fmt: skip


def _null_of(observed: float, draws: np.ndarray, stream: str) -> NullDistribution:
    return NullDistribution(
        observed=observed, draws=draws, scheme="degree-preserving (curveball)",
        preserves="degrees of regulators and of targets, all scores",
        randomises="which regulator goes with which target", stream=stream,
    )  # fmt: skip


def _rows(
    names: list[str], observed: np.ndarray, null: np.ndarray, effects: list[Effect], level: float
) -> list[dict[str, object]]:
    rows = []
    for name, value, draws, effect in zip(names, observed, null, effects):
        mean, sd = float(draws.mean()), float(draws.std(ddof=1))
        still = sd < NO_SPREAD
        low, high = (np.nan, np.nan) if effect.undefined or still else effect.bounds(level)
        rows.append(
            {
                "score": name, "auroc": value, "null_mean": mean, "null_sd": 0.0 if still else sd,
                "z": 0.0 if still and abs(value - mean) < NO_SPREAD else (value - mean) / sd,
                "p_draws": np.nan if still else (1 + np.count_nonzero(draws >= value)) / (1 + len(draws)),
                "share_margin": mean - 0.5, "share_pair": value - mean, "pair_low": low, "pair_high": high,
                "p": np.nan if effect.undefined or still else effect.p_greater(),
            }
        )  # fmt: skip
    return rows


def _leave_one_out(
    inp: AnalysisInput, edges: LabelledEdges, ranks: np.ndarray, draws: DegreeDraws, excess: Excess, level: float
) -> pd.DataFrame:
    """One row per regulator with positives: what is left without it."""
    rows = excess.regulators
    null, seen = auroc_without_regulator(
        ranks, edges.regulator, rows, draws.positions[:LEAVE_OUT_DRAWS], draws.observed
    )
    effects = effects_of(excess.without)
    sd = null.std(axis=1, ddof=1) if null.shape[1] > 1 else np.full(len(rows), np.nan)
    gap = seen - null.mean(axis=1)
    z = np.divide(gap, sd, out=np.full(len(rows), np.nan), where=sd > NO_SPREAD)
    frame = pd.DataFrame(
        {
            "regulator": np.array(inp.universe.regulators, dtype=object)[rows],
            "n_pos": np.bincount(edges.regulator[edges.label], minlength=len(inp.universe.regulators))[rows],
            "auroc_without": seen,
            "null_mean": null.mean(axis=1),
            "z": z,
            "share_pair": excess.without.estimate,
            "pair_low": [np.nan if e.undefined else e.bounds(level)[0] for e in effects],
            "p": [np.nan if e.undefined else e.p_greater() for e in effects],
        }
    )
    return frame.sort_values(["share_pair", "regulator"], kind="stable", ignore_index=True)


def _weakest(without: Inference, name: str, level: float) -> tuple[TestRecord, int | None]:
    """Record of the intersection-union test, and which entry it rests on."""
    effects = effects_of(without)
    if bad := next((e for e in effects if e.undefined), None):
        return TestRecord(id=name, n_units=bad.n_units, undefined=f"without one regulator: {bad.undefined}"), None
    p = [e.p_greater() for e in effects]
    k = int(np.argmax(p))
    return effects[k].record(name, side="greater", level=level), k


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME, DESIGNS[2])
    request, settings = inp.request, inp.request.settings
    level, primary = 1 - settings.alpha, request.primary
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    by_expression = inp.has_expression
    beside = (
        (inp.coexpression.select([COEXPRESSION]), closeness(inp), inp.baselines.select([MARGIN]))
        if by_expression
        else (target_margin(inp),)
    )
    edges = edges_of(inp, inp.primary, *beside)
    steps = ("degree", "degree_excess")
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=steps)
    names = list(edges.names)
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    allowed = np.zeros(inp.universe.positive.shape, dtype=bool)
    allowed[edges.regulator, edges.target] = True
    stream = f"permutation/{NAME}/curveball"
    draws = degree_preserving_draws(
        inp.universe.positive & allowed, allowed, draws=settings.permutations, rng=inp.rng(stream),
        trades_per_row=float(parameters["trades_per_row"]),
    )  # fmt: skip
    ranks = mid_ranks(edges.scores)
    null = auroc_at(ranks, draws.positions)
    observed = auroc_at(ranks, draws.observed[None])[:, 0]
    checks = self_tests(
        edges, draws, null, margin=len(names) - 1, n_regulators=len(inp.universe.regulators),
        n_genes=len(inp.universe.genes),
    )  # fmt: skip
    check_table = pd.DataFrame([(c.check, c.value, c.bar, c.passed) for c in checks], columns=TABLES["degree_checks"])
    size = np.bincount(edges.regulator[edges.label], minlength=len(inp.universe.regulators))
    common_facts = {
        **counts_of(edges),
        "n_regulators_3": int((size >= 3).sum()),
        "self_tests_failed": [c.check for c in checks if not c.passed],
    }
    if common_facts["self_tests_failed"]:
        failed = "; ".join(common_facts["self_tests_failed"])
        outcome = refused(
            inp, NAME, DESIGNS, f"the degree null failed its self-test: {failed}", edges=edges, tables=TABLES,
            steps=steps,
        )  # fmt: skip
        outcome.tables["degree_checks"] = check_table
        outcome.facts.update(common_facts)
        return outcome

    share = np.bincount(draws.positions.ravel(), minlength=len(edges.label)) / len(draws.positions)
    excess = degree_excess(ranks, edges.label, share, edges.regulator, edges.target)
    effects = effects_of(excess.found)
    weakest, k = _weakest(excess.without, ids["above_degree_without_any_regulator"], level)
    left = _leave_one_out(inp, edges, ranks[0], draws, excess, level)
    rows = _rows(names, observed, null, effects, level)
    whole = _null_of(float(observed[0]), null[0], inp.stream_name(stream))
    z = whole.z()
    if isinstance(z, Undefined):
        among = TestRecord(id=ids["observed_among_draws"], undefined=z.reason)
    else:
        among = TestRecord(
            id=ids["observed_among_draws"], statistic=z, effect=float(rows[0]["share_pair"]), p_raw=whole.p_value(),
            n_units=len(null[0]), stream=whole.stream,
        )  # fmt: skip
    rival = ids["coexpression_above_degree"]
    records = (
        effects[0].record(ids["above_degree"], side="greater", level=level, stream=whole.stream),
        weakest,
        among,
        effects[1].record(rival, side="greater", level=level, stream=whole.stream)
        if by_expression
        else TestRecord(id=rival, undefined="there are no cells to read co-expression in", n_units=effects[0].n_units),
    )
    low, high = np.quantile(null[0], [settings.alpha / 2, 1 - settings.alpha / 2])
    mean = float(null[0].mean())
    results = (
        result_of(
            inp, NAME, score="degrees of both genes", edges=edges, step="degree", stream=whole.stream,
            estimate=Estimate(
                value=mean, low=float(min(low, mean)), high=float(max(high, mean)), level=level,
                method=f"range of degree-preserving draws, D={len(null[0])}", n_units=len(null[0]), unit="network",
                se=float(null[0].std(ddof=1)),
            ),
        ),
        result_of(
            inp, NAME, score=f"{primary} - degrees of both genes", metric="auroc_difference", null_value=0.0,
            edges=edges, step="degree_excess", estimate=effects[0].estimate(null_value=0.0, level=level),
        ),
    )  # fmt: skip
    if by_expression:
        estimate = effects[1].estimate(null_value=0.0, level=level)
        results += (
            result_of(
                inp, NAME, score=f"{COEXPRESSION} - degrees of both genes", metric="auroc_difference", null_value=0.0,
                edges=edges, estimate=estimate,
            ),
        )  # fmt: skip
    facts = common_facts | {
        "trades_per_regulator": draws.trades_per_row,
        "jaccard": float(draws.jaccard.mean()),
        "weakest_without": "" if k is None else inp.universe.regulators[int(excess.regulators[k])],
        "smallest_z_without": float(left["z"].min()) if left["z"].notna().any() else None,
        "tost_p": None if effects[0].undefined else effects[0].p_equivalent(settings.seoi),
    }
    if by_expression:
        facts |= {
            "coexpression_excess": float(rows[1]["share_pair"]),
            "coexpression_low": None if effects[1].undefined else effects[1].bounds(level)[0],
            "coexpression_passes": bool(not effects[1].undefined and effects[1].bounds(level)[0] > settings.seoi),
        }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=records, facts=facts,
        tables={
            "degree_null": pd.DataFrame(rows, columns=TABLES["degree_null"]),
            "degree_leave_one_out": left[TABLES["degree_leave_one_out"]],
            "degree_checks": check_table,
            "degree_draws": _histogram(names[:3], null),
        },
        dropped=dropped_of(edges),
    )  # fmt: skip


def _histogram(names: list[str], null: np.ndarray) -> pd.DataFrame:
    """Draws in bins of equal width per score, for the figure."""
    frames = []
    for name, draws in zip(names, null):
        count, edge = np.histogram(draws, bins=BINS)
        frames.append(pd.DataFrame({"score": name, "low": edge[:-1], "high": edge[1:], "draws": count}))
    return pd.concat(frames, ignore_index=True)


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Beyond the degrees of the genes",
    question="Is recovery more than the degrees of regulators and targets?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "reference"),
    plan=plan,
    run=run,
    reference="Strona et al. 2014, doi:10.1038/ncomms5114; Besag & Clifford 1989, doi:10.1093/biomet/76.4.633",
    falsified_by="An AUROC no higher than that of networks with the same degrees, or an excess that rests on one "
    "regulator.",
    parameters={"trades_per_row": 10.0},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
