"""Does attention recover the reference better with more cells, and does it level off or decline?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.blocks import BlockScores
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
from regulens.analyses.inference import Effect, effects_of, joint_critical
from regulens.analyses.nested_draws import (
    areas,
    grid_of_sizes,
    groups_of_blocks,
    load_blocks,
    met_in_all,
    nested_orders,
    prefixes,
    thinned,
)
from regulens.analyses.scaling_published import run_published
from regulens.analyses.top_of_list import top_of_list
from regulens.stats.curves import FAMILIES, compare_curves, monotone_trend
from regulens.stats.inference import default_se
from regulens.stats.ranking import auroc
from regulens.stats.simultaneous import max_t_p
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "cell_count_scaling"

DESIGNS = (
    TestDesign(
        name="slope_of_log_cells",
        hypothesis="The AUROC of attention changes with the logarithm of the number of cells",
        side="two-sided",
        unit="regulator, target and group of blocks of cells",
        method="t from the jackknife over genes and over groups of blocks, slopes within nested draws averaged",
    ),
    TestDesign(
        name="best_size_above_all_cells",
        hypothesis="Some smaller number of cells gives a larger AUROC than all cells: max - last > 0",
        method="max-T over sizes, delete-one jackknife of the paired differences to all cells",
    ),
)

TABLES = {
    "scaling": ["n_cells", "n_blocks", "replicate", "auroc", "auprc", "f1_100", "f1_n_pos", "prevalence"],
    "scaling_mean": [
        "n_cells", "n_blocks", "auroc", "low", "high", "auroc_sd", "auprc", "f1_100", "f1_100_ceiling", "f1_n_pos",
    ],
    "scaling_fits": [
        "family", "formula", "a", "b", "c", "r2", "aicc", "akaike_weight", "replicates_best", "left_out_rmse",
        "undefined",
    ],
    "scaling_summary": ["quantity", "value", "low", "high", "note"],
}  # fmt: skip

#: Positives that the fixed pairs should keep, at least so many and at least this share.
_MIN_KEPT, _GROUPS, _GROUP_REPLICATES = 20, 10, 4


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    return () if request.protocol is Protocol.PUBLISHED else plan_tests(NAME, request, DESIGNS)


def slopes(log_n: np.ndarray) -> np.ndarray:
    """Weights that turn values into the mean of the least-squares slopes within replicates.

    Parameters
    ----------
    log_n
        Shape ``(replicate, size)``.

    Returns
    -------
    Shape ``(replicate * size,)``. In a balanced design this is the slope of a mixed model with an intercept per
    replicate.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0, 2.0]])
    >>> float(slopes(x) @ (3.0 * x).ravel())
    3.0
    """
    centred = log_n - log_n.mean(axis=1, keepdims=True)
    return (centred / np.square(centred).sum(axis=1, keepdims=True) / len(log_n)).ravel()


def _fixed_pairs(
    scores: BlockScores, edges: LabelledEdges, orders: np.ndarray, sizes: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray, str]:
    """Sizes to use and pairs that met in every draw of all of them: the positives are the same for every size."""
    wanted = max(_MIN_KEPT, share * edges.n_pos)
    for first in range(len(sizes)):
        if len(sizes) - first < 4:
            break
        keep = met_in_all(scores, prefixes(orders, sizes[first : first + 1]))
        if edges.label[keep].sum() >= wanted and (~edges.label[keep]).sum() >= _MIN_KEPT:
            return sizes[first:], keep, ""
    reason = f"fewer than 4 sizes at which {wanted:.0f} positives have met in every draw"
    return sizes[:0], np.zeros(len(edges.label), dtype=bool), reason


def _cells_error(
    scores: BlockScores, label: np.ndarray, group: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> tuple[float, int]:
    """Standard error of the mean slope by leaving out groups of blocks, and the number of groups.

    Blocks are dealt to groups so that every state is spread over them.
    """
    n_blocks = len(group)
    n_groups = min(_GROUPS, n_blocks // 2)
    dealt = np.empty(n_blocks, dtype=np.int64)
    dealt[nested_orders(group, 1, rng)[0]] = np.arange(n_blocks) % n_groups
    found = []
    for g in range(n_groups):
        left = np.flatnonzero(dealt != g)
        part = scores.at(blocks=left)
        own = np.unique(np.minimum(np.round(sizes * len(left) / n_blocks).astype(np.int64), len(left)))
        own = own[own > 0]
        orders = nested_orders(group[left], _GROUP_REPLICATES, rng)
        weight = prefixes(orders, own)
        met = met_in_all(part, prefixes(orders, own[:1]))  # as in the draws themselves: missing is not zero
        log_n = np.log(weight @ part.cells).reshape(_GROUP_REPLICATES, -1)
        found.append(float(slopes(log_n) @ auroc(part.at(pairs=met).means(weight)[0], label[met])))
    spread = np.array(found)
    if not np.isfinite(spread).all():
        return float("nan"), n_groups
    return float(np.sqrt((n_groups - 1) / n_groups * np.square(spread - spread.mean()).sum())), n_groups


def _with_cells(effect: Effect, se_cells: float, n_groups: int) -> Effect:
    """The same effect with the error of genes and of cells added."""
    if effect.undefined:
        return effect
    if not np.isfinite(se_cells):
        return replace(effect, undefined="without some group of blocks no positives met in every draw")
    return Effect(
        value=effect.value, se=float(np.hypot(effect.se, se_cells)), df=min(effect.df, n_groups - 1.0),
        method=f"{effect.method}, and delete-a-group jackknife over {n_groups} groups of blocks", unit=effect.unit,
        n_units=min(effect.n_units, n_groups),
    )  # fmt: skip


def _fits(n: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """Curves fitted to each replicate by itself, and to the means over replicates.

    Parameters
    ----------
    n, y
        Cells and AUROC, shape ``(replicate, size)``.
    """
    own = [compare_curves(a, b).set_index("family")["aicc"] for a, b in zip(n, y)]
    aicc = pd.concat(own, axis=1)
    best = aicc.idxmin().value_counts() if aicc.notna().any(axis=None) else pd.Series(dtype=np.int64)
    likelihood = np.exp(-0.5 * (aicc - aicc.min()))
    weight = (likelihood / likelihood.sum()).mean(axis=1)
    table = compare_curves(n.mean(axis=0), y.mean(axis=0)).set_index("family")
    table = table.assign(
        aicc=aicc.mean(axis=1), akaike_weight=weight, replicates_best=best.reindex(table.index).fillna(0).astype(int)
    )
    return table.reindex(list(FAMILIES)).sort_values("aicc", kind="stable").reset_index()[TABLES["scaling_fits"]]


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, level = inp.request, 1 - inp.request.settings.alpha
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    edges = edges_of(inp, inp.primary)
    steps = ("scaling",)
    reason = refusal(edges)
    if not reason and inp.partitions is None:
        reason = "the model scores pairs from its weights alone, so that there is no attention by cell"
    if not reason and inp.partitions is not None and len(inp.partitions.table) < 6:
        reason = f"{len(inp.partitions.table)} blocks of cells; at least 6 are needed"
    if reason:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=steps)
    assert inp.partitions is not None
    whole = load_blocks(inp, edges)
    group = groups_of_blocks(inp.partitions.table)
    replicates = int(parameters["replicates"])
    orders = nested_orders(group, replicates, inp.rng(f"draws/{NAME}"))
    sizes, keep, reason = _fixed_pairs(
        whole, edges, orders, grid_of_sizes(len(group), int(parameters["sizes"])), float(parameters["keep"])
    )
    if reason:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=steps)
    pairs = thinned(edges, keep, int(parameters["negatives"]), inp.rng(f"negatives/{NAME}"))
    fixed, scores = edges.restrict(pairs), whole.at(pairs=pairs)
    weight = prefixes(orders, sizes)
    values = scores.means(weight)[0]
    shape = (replicates, len(sizes))
    n = (weight @ scores.cells).reshape(shape)
    found = areas(values, fixed)
    y = found.deviations.estimate.reshape(shape)
    ks = tuple(k for k in (100, fixed.n_pos) if k <= len(fixed.label))
    ap, precision = top_of_list(values, fixed.label, ks)
    f1 = [2 * precision[:, c] * k / (k + fixed.n_pos) for c, k in enumerate(ks)]
    f1 = [np.full(len(ap), np.nan)] * (2 - len(f1)) + f1

    of_genes = effects_of(default_se(found.combined(slopes(np.log(n)))))[0]
    se_cells, n_groups = _cells_error(scores, fixed.label, group, sizes, inp.rng(f"groups/{NAME}"))
    slope = _with_cells(of_genes, se_cells, n_groups)
    mean = np.kron(np.ones((1, replicates)) / replicates, np.eye(len(sizes)))
    gap = default_se(found.combined(mean[:-1] - mean[-1:]))
    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    records = [slope.record(ids["slope_of_log_cells"], side="two-sided", level=level)]
    stream = f"max_t/{NAME}"
    adjusted = max_t_p(gap, 0.0, draws=request.settings.bootstrap, rng=inp.rng(stream))["p_adjusted"]
    drop: Estimate | Undefined
    if np.isfinite(adjusted).any():
        best = int(np.nanargmin(adjusted))
        wide = joint_critical(gap, level=level, rng=inp.rng(f"joint/{NAME}")) * float(gap.se[best])
        value = float(gap.estimate[best])
        drop = Estimate(
            value=value, low=value - wide, high=value + wide, level=level, method=f"{gap.method}, joint over sizes",
            n_units=gap.n_units, unit=gap.unit, se=float(gap.se[best]),
        )  # fmt: skip
        records.append(
            TestRecord(
                id=ids["best_size_above_all_cells"], statistic=value / float(gap.se[best]), effect=value, low=drop.low,
                high=drop.high, p_raw=float(adjusted[best]), n_units=gap.n_units, stream=inp.stream_name(stream),
            )
        )  # fmt: skip
        best_cells = float(n.mean(axis=0)[best])
    else:
        words = "no size differs from all cells: scores do not vary"
        drop, best_cells = Undefined(reason=words), float("nan")
        records.append(TestRecord(id=ids["best_size_above_all_cells"], undefined=words))

    at = effects_of(default_se(found.combined(mean)), null_value=0.5)
    rows = [e.cells(null_value=0.5, level=level) for e in at]
    whole_cells = np.round(n.mean(axis=0)).astype(np.int64)
    scaling = pd.DataFrame(
        {
            "n_cells": n.ravel().astype(np.int64), "n_blocks": np.tile(sizes, replicates),
            "replicate": np.repeat(np.arange(replicates), len(sizes)), "auroc": y.ravel(), "auprc": ap,
            "f1_100": f1[0], "f1_n_pos": f1[1], "prevalence": fixed.n_pos / len(fixed.label),
        }
    )  # fmt: skip
    averaged = pd.DataFrame(
        {
            "n_cells": whole_cells, "n_blocks": sizes, "auroc": y.mean(axis=0), "low": [r["low"] for r in rows],
            "high": [r["high"] for r in rows], "auroc_sd": y.std(axis=0, ddof=1) if replicates > 1 else np.nan,
            "auprc": ap.reshape(shape).mean(axis=0), "f1_100": f1[0].reshape(shape).mean(axis=0),
            "f1_100_ceiling": 2 * min(100, fixed.n_pos) / (100 + fixed.n_pos),
            "f1_n_pos": f1[1].reshape(shape).mean(axis=0),
        }
    )  # fmt: skip
    fits = _fits(n, y)
    rising = monotone_trend(n.ravel(), y.ravel(), block=np.repeat(np.arange(replicates), len(sizes)), draws=199,
                            rng=inp.rng(f"isotonic/{NAME}"))  # fmt: skip
    summary = _summary(slope, of_genes, se_cells, drop, best_cells, rising, y, n, level)
    facts: dict[str, Any] = {
        **counts_of(fixed), "replicates": replicates, "n_blocks": len(group), "sizes": whole_cells.tolist(),
        "best_curve": str(fits["family"].iloc[0]), "n_pos_all": edges.n_pos,
    }  # fmt: skip
    results = (
        result_of(inp, NAME, score=f"{request.primary}, slope per ln(cells)", metric="auroc_slope", null_value=0.0,
                  estimate=slope.estimate(null_value=0.0, level=level), edges=fixed, step="scaling",
                  stream=inp.stream_name(f"draws/{NAME}")),
        result_of(inp, NAME, score=f"{request.primary}, best size - all cells", metric="auroc_difference",
                  null_value=0.0, estimate=drop, edges=fixed, stream=inp.stream_name(f"draws/{NAME}")),
    )  # fmt: skip
    dropped = dropped_of(edges) | {
        "positives that did not meet in every draw": edges.n_pos - fixed.n_pos,
        "negatives that did not meet in every draw": int((~edges.label & ~keep).sum()),
        "negatives not drawn": int((~edges.label & keep).sum()) - fixed.n_neg,
    }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=tuple(records),
        facts=facts, dropped=dropped,
        tables={"scaling_mean": averaged, "scaling_summary": summary, "scaling_fits": fits, "scaling": scaling},
    )  # fmt: skip


def _summary(
    slope: Effect, of_genes: Effect, se_cells: float, drop: Estimate | Undefined, best_cells: float,
    rising: tuple[float, float], y: np.ndarray, n: np.ndarray, level: float,
) -> pd.DataFrame:  # fmt: skip
    own = np.array([np.polyfit(np.log(a), b, 1)[0] for a, b in zip(n, y)])
    at = slope.cells(null_value=0.0, level=level)
    rows = [
        ("slope_per_ln_cells", at["value"], at["low"], at["high"], "error of genes and of cells"),
        ("se_of_genes", of_genes.se, np.nan, np.nan, "two-way jackknife"),
        ("se_of_cells", se_cells, np.nan, np.nan, "groups of blocks left out"),
        ("slope_min_replicate", own.min(), np.nan, np.nan, "smallest slope of a replicate"),
        ("slope_max_replicate", own.max(), np.nan, np.nan, "largest slope of a replicate"),
        ("isotonic_r2", rising[0], np.nan, np.nan, "share of variance that any rising curve explains"),
        ("isotonic_p", rising[1], np.nan, np.nan, "draws share cells and genes: describes, does not test"),
    ]
    if isinstance(drop, Estimate):
        rows.append(("best_minus_all", drop.value, drop.low, drop.high, f"at {best_cells:.0f} cells"))
    return pd.DataFrame(rows, columns=TABLES["scaling_summary"])


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Number of cells",
    question="Does attention recover the reference better with more cells, and does it level off or decline?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference", "blocks"),
    plan=plan,
    run=run,
    reference="Hurvich & Tsai 1989 (AICc); Barlow et al. 1972 (isotonic); Golub & Pereyra 1973",
    falsified_by="A slope whose interval includes 0; for a decline, a joint interval of best - last that includes 0.",
    parameters={"replicates": 12, "sizes": 12, "keep": 0.5, "negatives": 20_000},
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
