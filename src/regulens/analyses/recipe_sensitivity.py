"""Does the verdict depend on what one calls "the attention score"?"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from regulens.analyses.attention_recipes import (
    EXTRACTED,
    MISSING,
    Block,
    Choice,
    blocks,
    layer_names,
    left_out,
    own_value,
)
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
from regulens.analyses.inference import effects_of
from regulens.errors import ParameterError
from regulens.scorers.gene_level import gene_level_scores
from regulens.scorers.marginal_product import margins_of
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import AurocSweeps, Baseline
from regulens.stats.ranking import auroc
from regulens.stats.simultaneous import max_t_p
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "recipe_sensitivity"
MAX_T = "studentised multiplier bootstrap over regulators and targets, max-T over recipes"

DESIGNS = (
    TestDesign(
        name="some_recipe_above_chance",
        hypothesis="At least one definition of attention ranks reference edges above other pairs: max AUROC > 0.5",
        method=MAX_T,
    ),
    TestDesign(
        name="some_recipe_above_strictest_null",
        hypothesis="At least one definition of attention recovers the reference better than the strongest of gene "
        "products, co-expression and its own margins",
        method=MAX_T,
    ),
    TestDesign(
        name="pre_registered_above_chance",
        hypothesis="The definition of the plan ranks reference edges above other pairs: AUROC > 0.5",
        confirmatory=False,  # the test of reference_recovery again, beside the other recipes
    ),
)

TABLES = {
    "recipes": [
        "recipe", "layers", "direction", "missing", "pre_registered", "n_pos", "n_neg", "auroc", "low", "high",
        "strictest_null", "null_auroc", "delta", "delta_low", "delta_high", "p_recipes", "p_recipes_null",
    ],
    "recipe_factors": ["factor", "choice", "n_recipes", "auroc_mean", "auroc_min", "auroc_max", "share_above_null"],
    "recipe_summary": ["quantity", "value"],
    "recipes_left_out": ["recipe", "reason"],
}  # fmt: skip

#: Nulls that know no recipe.
LADDER = ("product_mean", "product_variance", "product_detection", "coexpression_abs")


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    return plan_tests(NAME, request, DESIGNS)


class _Pairs:
    """The pairs of one missing policy, with the strongest null that knows no recipe."""

    def __init__(self, inp: AnalysisInput, observed: np.ndarray) -> None:
        f = inp.features
        table = {"mean": f.mean, "variance": f.variance, "detection": f.detection}
        products = gene_level_scores(table, genes=inp.universe.genes, regulators=inp.universe.regulators)
        keep = observed & inp.coexpression.observed & inp.universe.candidate
        self.edges = e = LabelledEdges.build(
            [products.select(LADDER[:3]), inp.coexpression.select(LADDER[3:])], inp.universe, keep=keep
        )
        self.cells = np.ravel_multi_index((e.regulator, e.target), inp.universe.candidate.shape)
        self.regulators = np.unique(e.regulator)
        self.targets = np.unique(e.target)
        self.sweeps = AurocSweeps(e.label, e.regulator, e.target)
        at = auroc(e.scores, e.label) if self.sweeps.is_defined else np.zeros(4)
        best = int(np.argmax(at))
        self.null, self.null_auroc = LADDER[best], float(at[best])
        self.baseline = self.sweeps.baseline(e.scores[best])

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Maps ``(score, regulator, target)`` on the pairs."""
        return values.reshape(len(values), -1)[:, self.cells]

    def spread(self, found: Inference, inp: AnalysisInput) -> Inference:
        """Deviations on the axes of the universe, so that recipes on other pairs can be held beside these."""
        shape = (len(found.estimate), len(inp.universe.regulators)), (len(found.estimate), len(inp.universe.genes))
        regulator, target = np.zeros(shape[0]), np.zeros(shape[1])
        regulator[:, self.regulators] = found.regulator
        if found.target.shape[1]:
            target[:, self.targets] = found.target
        return replace(found, regulator=regulator, target=target)


class _OwnMargins:
    """Marginal products of the maps of a block before centring, and their AUROCs; swept where one is the strictest."""

    def __init__(self, block: Block, pairs: _Pairs) -> None:
        seen = block.observed
        raw = np.where(seen, block.raw, 0.0)
        made = np.stack([margins_of(one, seen, additive=bool((one < 0).any())) for one in raw])
        self._flat = pairs.flat(np.where(seen, made, 0.0))
        self._sweeps = pairs.sweeps
        self._swept: dict[int, Baseline] = {}
        self.auroc = auroc(self._flat, pairs.edges.label)

    def baseline(self, k: int) -> Baseline:
        """Map k as something that its recipes are held against."""
        if k not in self._swept:
            self._swept[k] = self._sweeps.baseline(self._flat[k])
        return self._swept[k]


def _join(parts: list[Inference]) -> Inference:
    return replace(
        parts[0],
        estimate=np.concatenate([p.estimate for p in parts]), se=np.concatenate([p.se for p in parts]),
        df=np.concatenate([p.df for p in parts]), undefined=tuple(u for p in parts for u in p.undefined),
        regulator=np.concatenate([p.regulator for p in parts]), target=np.concatenate([p.target for p in parts]),
    )  # fmt: skip


def _evaluated(
    inp: AnalysisInput, missing: tuple[str, ...]
) -> tuple[list[Choice], list[_Pairs], Inference, Inference, list[tuple[str, float]]]:
    """Every recipe: its AUROC, and the difference to the strictest of its nulls."""
    choices: list[Choice] = []
    of: list[_Pairs] = []
    own: list[Inference] = []
    gap: list[Inference] = []
    nulls: list[tuple[str, float]] = []
    pairs: dict[str, _Pairs] = {}
    margins: dict[tuple[str, ...], _OwnMargins] = {}
    for block in blocks(inp, missing):
        policy = block.choices[0].missing
        if policy not in pairs:
            pairs[policy] = _Pairs(inp, block.observed)
        at = pairs[policy]
        if refusal(at.edges):
            continue
        key = (block.base, block.choices[0].direction, policy)
        if key not in margins:
            margins.clear()  # blocks that share a map follow one another
            margins[key] = _OwnMargins(block, at)
        mine = margins[key]
        stricter = mine.auroc > at.null_auroc
        found = at.sweeps.paired(
            at.flat(block.values), [mine.baseline(k) if s else at.baseline for k, s in enumerate(stricter)]
        )
        for kept, deviations in zip((own, gap), found):
            kept.append(at.spread(default_se(deviations), inp))
        choices += block.choices
        of += [at] * len(block.choices)
        nulls += [
            ("marginal_product", float(m)) if s else (at.null, at.null_auroc) for s, m in zip(stricter, mine.auroc)
        ]
    return choices, of, _join(own), _join(gap), nulls


def pre_registered(inp: AnalysisInput) -> Choice | None:
    """The recipe of the plan; None where the plan's score is one head, since the grid averages heads."""
    names = layer_names(inp.attention[inp.request.direction])
    if inp.request.primary not in names:
        return None
    return Choice(
        recipe=own_value(inp), layers=names[inp.request.primary], direction=inp.request.direction, missing="exclude"
    )


def _factors(table: pd.DataFrame) -> pd.DataFrame:
    above = table["delta_low"] > 0
    rows = []
    for factor in ("recipe", "layers", "direction", "missing"):
        for choice in dict.fromkeys(table[factor]):
            mine = table[factor] == choice
            a = table.loc[mine, "auroc"]
            rows.append((factor, choice, int(mine.sum()), a.mean(), a.min(), a.max(), float(above[mine].mean())))
    return pd.DataFrame(rows, columns=TABLES["recipe_factors"])


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    request, settings = inp.request, inp.request.settings
    level = 1 - settings.alpha
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    missing = tuple(parameters["missing"])
    if not missing or "exclude" not in missing or set(missing) - set(MISSING):
        message = f"Expected missing policies among {', '.join(MISSING)}, 'exclude' with them, got {list(missing)}."
        raise ParameterError(message)
    edges = edges_of(inp, inp.primary)
    reason = refusal(edges)
    if inp.partitions is None:
        reason = "the model scores pairs from its weights alone; there is no attention to define in several ways"
    if reason:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("",))

    choices, pairs, own, gap, nulls = _evaluated(inp, missing)
    draws = settings.bootstrap
    p_own = max_t_p(own, 0.5, draws=draws, rng=inp.rng(f"bootstrap/{NAME}/chance"))["p_adjusted"]
    p_gap = max_t_p(gap, 0.0, draws=draws, rng=inp.rng(f"bootstrap/{NAME}/null"))["p_adjusted"]
    low, high = own.interval(level)
    delta_low, delta_high = gap.interval(level)
    planned = pre_registered(inp)
    table = pd.DataFrame([asdict(c) for c in choices]).assign(
        pre_registered=[c == planned for c in choices], n_pos=[p.edges.n_pos for p in pairs],
        n_neg=[p.edges.n_neg for p in pairs], auroc=own.estimate, low=low, high=high,
        strictest_null=[n for n, _ in nulls], null_auroc=[v for _, v in nulls],
        delta=gap.estimate, delta_low=delta_low, delta_high=delta_high,
        p_recipes=p_own, p_recipes_null=p_gap,
    )  # fmt: skip

    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    records = [
        _some(ids["some_recipe_above_chance"], own, p_own, 0.5, inp.stream_name(f"bootstrap/{NAME}/chance")),
        _some(ids["some_recipe_above_strictest_null"], gap, p_gap, 0.0, inp.stream_name(f"bootstrap/{NAME}/null")),
    ]
    effects, gaps = effects_of(own, null_value=0.5), effects_of(gap)
    test = ids["pre_registered_above_chance"]
    results = []
    if planned is None:
        records.append(TestRecord(id=test, undefined="the plan's score is one head; the grid averages heads"))
    else:
        k = choices.index(planned)
        records.append(effects[k].record(test, side="greater", level=level))
        results.append(
            result_of(inp, NAME, score="pre-registered recipe", edges=pairs[k].edges, strictest_null=nulls[k][0],
                      estimate=effects[k].estimate(null_value=0.5, level=level))
        )  # fmt: skip
        results.append(
            result_of(inp, NAME, score=f"pre-registered recipe - {nulls[k][0]}", edges=pairs[k].edges,
                      estimate=gaps[k].estimate(null_value=0.0, level=level), metric="auroc_difference", null_value=0.0)
        )  # fmt: skip

    order = np.argsort(-table["auroc"].to_numpy(), kind="stable")
    rank = int(np.flatnonzero(table["pre_registered"].to_numpy()[order])[0]) + 1 if planned in choices else None
    summary = {
        "recipes": float(len(table)),
        "auroc_smallest": float(table["auroc"].min()),
        "auroc_median": float(table["auroc"].median()),
        "auroc_largest": float(table["auroc"].max()),
        "share_above_chance": float((table["low"] > 0.5).mean()),
        "share_above_null": float((table["delta_low"] > 0).mean()),
        "share_above_null_adjusted": float((table["p_recipes_null"] < settings.alpha).mean()),
    }
    if rank is not None:
        summary |= {
            "auroc_pre_registered": float(table.loc[table["pre_registered"], "auroc"].iloc[0]),
            "rank_pre_registered": float(rank),
        }
    lost = left_out(inp, tuple(parameters["recipes"]))
    lead = np.argsort(~table["pre_registered"].to_numpy()[order], kind="stable")  # the plan's recipe first
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=tuple(results),
        tables={
            "recipes": table.iloc[order[lead]].reset_index(drop=True)[TABLES["recipes"]],
            "recipe_factors": _factors(table),
            "recipe_summary": pd.DataFrame(list(summary.items()), columns=TABLES["recipe_summary"]),
            "recipes_left_out": pd.DataFrame(list(lost.items()), columns=TABLES["recipes_left_out"]),
        },
        records=tuple(records),
        facts={**counts_of(edges), **summary, "recipes_left_out": sorted(lost), "bootstrap": draws},
        dropped=dropped_of(edges),
    )  # fmt: skip


def _some(test: str, found: Inference, p: np.ndarray, null_value: float, stream: str) -> TestRecord:
    """Record of "at least one is above": the recipe of smallest adjusted p."""
    if not np.isfinite(p).any():
        return TestRecord(id=test, undefined="no recipe has a standard error", n_units=found.n_units)
    t = (found.estimate - null_value) / found.se
    best = int(np.lexsort((-np.nan_to_num(t, nan=-np.inf), np.nan_to_num(p, nan=2.0)))[0])
    return TestRecord(
        id=test, statistic=float(t[best]), effect=float(found.estimate[best] - null_value), p_raw=float(p[best]),
        n_units=found.n_units, stream=stream,
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Sensitivity to the definition of attention",
    question="Does the verdict depend on what one calls the attention score?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference", "recipes"),
    plan=plan,
    run=run,
    reference="Simonsohn et al. 2020; Romano & Wolf 2005; Dunn et al. 2008; Kobayashi et al. 2020",
    falsified_by="No definition of attention above the strongest of gene products, co-expression and its own margins.",
    parameters={"recipes": list(EXTRACTED), "missing": list(MISSING)},
)
