"""Do strata of cell states reveal regulation that pooling over all cells dilutes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from regulens.analyses.cssi_folds import MIN_STRATUM, gains
from regulens.analyses.cssi_published import run_published
from regulens.analyses.cssi_study import (
    NAME,
    HeldOut,
    choose,
    control_rows,
    grid_rows,
    held_out_effects,
    k_scan_rows,
    make_study,
    variants_of,
)
from regulens.analyses.inference import Effect
from regulens.analyses.strata_labels import (
    BlockLabels,
    embedding_space,
    expression_space,
    leiden,
    majority,
    stability,
    ward,
)
from regulens.scorers.stratified import VARIANTS
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

DESIGNS = (
    TestDesign(
        name="gain_above_pooled",
        hypothesis="Attention joined over estimated states, by a variant and layer chosen on other cells and "
        "regulators, has a larger AUROC than the same layer pooled over all cells",
        method="t from the delete-one jackknife of the paired difference",
    ),
    TestDesign(
        name="gain_above_shuffled_labels",
        hypothesis="The same score has a larger AUROC than with state labels dealt anew among the blocks of each donor",
        method="t from the delete-one jackknife of the paired difference to the mean of shuffled labellings",
    ),
    TestDesign(
        name="gain_above_margins",
        hypothesis="The same score has a larger AUROC than the margins of the same strata (row mean times column mean "
        "within each), joined by the same variant",
        method="t from the delete-one jackknife of the paired difference",
    ),
    TestDesign(
        name="gain_rank_among_shuffled_labels",
        hypothesis="The gain over the pooled score exceeds that of shuffled labels",
        unit="block of cells",
        method="permutation of labels among blocks of one donor and about one size",
        confirmatory=False,  # blocks of a state share noise that shuffling breaks up, so they are not exchangeable
    ),
    TestDesign(
        name="annotated_gain_above_pooled",
        hypothesis="As gain_above_pooled, with the annotated states: the ceiling of what estimated ones can give",
        method="t from the delete-one jackknife of the paired difference",
        confirmatory=False,
    ),
)

TABLES = {
    "cssi": [
        "strata", "auroc_pooled", "auroc_strata", "gain", "gain_low", "gain_high", "null_mean", "null_q95", "p",
        "beyond", "beyond_low", "beyond_high", "auroc_margins", "above_margins", "above_margins_low",
        "above_margins_high", "n_pos", "n_neg", "note",
    ],
    "cssi_folds": ["strata", "fold", "layer", "variant", "gain_chosen", "gain", "n_strata", "n_blocks", "imputed"],
    "cssi_grid": ["strata", "layer", "variant", "auroc_pooled", "auroc_strata", "gain"],
    "cssi_nulls": ["strata", "null", "gain", "null_mean", "null_q95", "p", "draws", "arrangements"],
    "cssi_strata": ["strata", "stratum", "n_cells", "n_blocks", "purity", "used"],
    "cssi_kscan": ["k", "gain", "null_mean", "null_q95", "n_used"],
}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    return () if request.protocol is Protocol.PUBLISHED else plan_tests(NAME, request, DESIGNS)


def _state_labels(inp: AnalysisInput, parameters: dict[str, Any]) -> dict[str, BlockLabels | Undefined]:
    """Strata of blocks by kind, in the order of the tables."""
    view = inp.partitions
    assert view is not None
    n = len(view.table)
    found: dict[str, BlockLabels | Undefined] = {}
    spaces: dict[str, Callable[[], np.ndarray]] = {"expression": lambda: expression_space(inp.expression)}
    if inp.embedding is not None:
        make = inp.embedding
        spaces["embedding"] = lambda: embedding_space(make())
    for kind in parameters["strata"]:
        if kind == "annotation":
            if "cell_state" not in inp.obs:
                found[kind] = Undefined(reason="no column of the cells was named for states")
            else:
                found[kind] = majority(inp.obs["cell_state"].to_numpy().astype(str), view.cell_partition, n)
        elif kind not in spaces:
            found[kind] = Undefined(reason="no cell embedding of this model is at hand")
        else:
            space = spaces[kind]()
            seed = int(inp.rng(f"leiden/{NAME}/{kind}").integers(2**31))
            label = _cluster(space, parameters, seed)
            found[kind] = label if isinstance(label, Undefined) else majority(
                label, view.cell_partition, n, prefix="cluster "
            )  # fmt: skip
    return found


def _cluster(space: np.ndarray, parameters: dict[str, Any], seed: int) -> np.ndarray | Undefined:
    if parameters["clustering"] == "ward":
        return ward(space, min(int(parameters["ward_clusters"]), len(space)))
    return leiden(space, k=int(parameters["neighbours"]), resolution=float(parameters["resolution"]), seed=seed)


def _strata_rows(kind: str, made: BlockLabels, cells: np.ndarray) -> list[tuple[Any, ...]]:
    rows = []
    for s, name in enumerate(made.names):
        mine = made.label == s
        size = float(cells[mine].sum())
        purity = float((made.block_purity[mine] * cells[mine]).sum() / size)
        rows.append((kind, name, int(size), int(mine.sum()), purity, bool(size >= MIN_STRATUM)))
    return rows


def _estimate(effect: Effect | Undefined, level: float) -> Estimate | Undefined:
    return effect if isinstance(effect, Undefined) else effect.estimate(null_value=0.0, level=level)


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, level = inp.request, 1 - inp.request.settings.alpha
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    edges = edges_of(inp, inp.primary)
    reason = refusal(edges)
    if not reason and inp.partitions is None:
        reason = "the model scores pairs from its weights alone, so that there is no attention by cell"
    if reason:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("strata",))
    study, reason, apart = make_study(inp, edges, parameters)
    if study is None:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("strata",))

    made = _state_labels(inp, parameters)
    primary = str(parameters["primary_strata"])
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    effects: dict[str, HeldOut] = {}
    why: dict[str, str] = {}
    dropped = dropped_of(edges)
    for kind, labels in made.items():
        choices = [] if isinstance(labels, Undefined) else choose(study, labels)
        if isinstance(labels, Undefined):
            why[kind] = labels.reason
        elif not choices:
            why[kind] = f"no half of the cells has two strata of at least {MIN_STRATUM} cells"
        if isinstance(labels, BlockLabels):
            rows["cssi_strata"] += _strata_rows(kind, labels, study.cells)
            dropped[f"{kind}: labels that are nowhere in the majority of a block"] = labels.n_cell_labels - len(
                labels.names
            )
            small = [r for r in rows["cssi_strata"] if r[0] == kind and not r[-1]]
            dropped[f"{kind}: strata of fewer than {MIN_STRATUM} cells"] = len(small)
        if kind in why:
            rows["cssi"].append((kind, *[np.nan] * 17, why[kind]))
            continue
        assert isinstance(labels, BlockLabels)
        found = effects[kind] = held_out_effects(study, choices, kind)
        nulls = control_rows(study, choices, kind)
        rows["cssi_nulls"] += nulls
        rows["cssi_grid"] += grid_rows(study, labels, kind, inp.rng(f"grid/{NAME}/{kind}"))
        for c in choices:
            scores = study.at(c.score, c.fold.held_blocks, c.fold.sample)
            held = float(gains(scores, edges.label[c.fold.sample], c.labels, c.k, (c.variant,))[0, 0])
            used = np.unique(c.labels[c.labels >= 0])
            share = scores.imputed_share(np.searchsorted(used, c.labels), len(used))
            rows["cssi_folds"].append((kind, c.fold.name, c.score, c.variant, c.gain, held, len(used),
                                       len(c.labels), share))  # fmt: skip
        g, e = (x.cells(null_value=0.0, level=level) for x in (found.pooled, found.shuffled))
        m = {} if isinstance(found.margins, Undefined) else found.margins.cells(null_value=0.0, level=level)
        n_pos = int(sum(edges.label[c.fold.held_pairs].sum() for c in choices))
        n_all = int(sum(len(c.fold.held_pairs) for c in choices))
        rows["cssi"].append((
            kind, found.auroc_pooled, found.auroc_strata, g["value"], g["low"], g["high"], nulls[0][3], nulls[0][4],
            nulls[0][5], e["value"], e["low"], e["high"], found.auroc_margins,
            *(m.get(x, np.nan) for x in ("value", "low", "high")), n_pos, n_all - n_pos,
            f"{len(choices)} of 4 turns" if len(choices) < 4 else "",
        ))  # fmt: skip
        if kind == primary:
            rows["cssi_kscan"] = k_scan_rows(study, choices, expression_space(inp.expression))

    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    lacking = why.get(primary, f"strata by {primary} were not asked for")
    records = []
    for design, kind, which in (
        (DESIGNS[0], primary, "pooled"), (DESIGNS[1], primary, "shuffled"), (DESIGNS[2], primary, "margins"),
        (DESIGNS[4], "annotation", "pooled"),
    ):  # fmt: skip
        effect = getattr(effects[kind], which) if kind in effects else None
        if isinstance(effect, Effect):
            records.append(effect.record(ids[design.name], side="greater", level=level))
        elif isinstance(effect, Undefined):
            records.append(TestRecord(id=ids[design.name], undefined=effect.reason))
        else:
            records.append(TestRecord(id=ids[design.name], undefined=why.get(kind, "no such strata were asked for")))
    null_rows = [r for r in rows["cssi_nulls"] if r[0] == primary][:1]
    stream = inp.stream_name(f"nulls/{NAME}/labels/{primary}")
    if null_rows and null_rows[0][7] >= 20:
        _, _, observed, mean, _, p, _, _ = null_rows[0]
        records.append(
            TestRecord(id=ids[DESIGNS[3].name], effect=observed - mean, p_raw=p, n_units=len(study.cells),
                       stream=stream)
        )  # fmt: skip
    else:
        few = f"{null_rows[0][7]:.0f} arrangements of labels; at least 20 are needed" if null_rows else lacking
        records.append(TestRecord(id=ids[DESIGNS[3].name], undefined=few))

    facts: dict[str, Any] = {
        **counts_of(edges), "primary_strata": primary, "halves_by": apart, "n_blocks": len(study.cells),
        "variants": list(variants_of(study)),
    }  # fmt: skip
    labels = made.get(primary)
    if primary in effects and isinstance(labels, BlockLabels):
        own = [r for r in rows["cssi_folds"] if r[0] == primary]
        facts |= {
            "n_strata": len(labels.names), "purity": labels.purity, "chosen_layers": [r[2] for r in own],
            "chosen_variants": [r[3] for r in own], "imputed_share": float(np.mean([r[8] for r in own])),
            "n_turns": len(own), "is_estimated": primary != "annotation",
        }  # fmt: skip
        if primary != "annotation":
            facts |= _stability(inp, primary, parameters)
    else:
        facts["refused"] = lacking
    estimate, excess_estimate, margins_estimate = (
        _estimate(getattr(effects[primary], which), level) if primary in effects else Undefined(reason=lacking)
        for which in ("pooled", "shuffled", "margins")
    )
    score = "strata (chosen on other cells and genes)"
    results = (
        result_of(inp, NAME, score=f"{score} - pooled", estimate=estimate, edges=edges, metric="auroc_difference",
                  null_value=0.0, step="strata", stream=inp.stream_name(f"split/{NAME}")),
        result_of(inp, NAME, score=f"{score} - shuffled labels", estimate=excess_estimate, edges=edges,
                  metric="auroc_difference", null_value=0.0, stream=inp.stream_name(f"split/{NAME}")),
        result_of(inp, NAME, score=f"{score} - margins of the strata", estimate=margins_estimate, edges=edges,
                  metric="auroc_difference", null_value=0.0, stream=inp.stream_name(f"split/{NAME}")),
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=tuple(records),
        facts=facts, dropped=dropped,
        tables={name: pd.DataFrame(rows[name], columns=columns) for name, columns in TABLES.items()},
    )  # fmt: skip


def _stability(inp: AnalysisInput, kind: str, parameters: dict[str, Any]) -> dict[str, float]:
    """Agreement of the labels with those of nine tenths of the cells, and with annotation where there is one."""
    from sklearn.metrics import adjusted_rand_score

    space = expression_space(inp.expression) if kind == "expression" else embedding_space(inp.embedding())
    seed = int(inp.rng(f"leiden/{NAME}/{kind}").integers(2**31))
    label = _cluster(space, parameters, seed)
    assert not isinstance(label, Undefined)
    found = {
        "stability_ari": stability(
            space, label, lambda part: _cluster(part, parameters, seed), inp.rng(f"stability/{NAME}/{kind}")
        )
    }
    if "cell_state" in inp.obs:
        found["annotation_ari"] = float(adjusted_rand_score(inp.obs["cell_state"].astype(str), label))
    return {name: value for name, value in found.items() if np.isfinite(value)}


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Strata of cell states",
    question="Do strata of cell states reveal regulation that pooling over all cells dilutes?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference", "blocks"),
    plan=plan,
    run=run,
    reference="Traag, Waltman & van Eck 2019; Hubert & Arabie 1985; Phipson & Smyth 2010",
    falsified_by="A held-out gain over the pooled score that includes 0, or one that shuffled labels or the "
    "margins of the same strata reach as well.",
    parameters={
        "strata": ["annotation", "expression"],
        "primary_strata": "expression",
        "variants": [v for v in VARIANTS if v != "absmax"],  # attention is not negative: absmax is max
        "clustering": "leiden",
        "neighbours": 15,
        "resolution": 1.0,
        "ward_clusters": 8,
        "draws": 500,
        "null_negatives": 3_000,
        "size_tolerance": 1.6,
    },
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
