"""Is it the number of cells or the mixture of cell states that changes how well attention recovers the reference?"""

from __future__ import annotations

from dataclasses import replace
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
from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.nested_draws import (
    Areas,
    areas,
    groups_of_blocks,
    load_blocks,
    met_in_all,
    nested_orders,
    prefixes,
    thinned,
)
from regulens.analyses.top_of_list import top_of_list
from regulens.stats.inference import default_se
from regulens.types.endpoints import Endpoint
from regulens.types.ledger import PlannedTest
from regulens.types.results import AnalysisOutcome

NAME = "composition_control"

_WHY = {
    "side": "two-sided",
    "unit": "regulator, target and draw of blocks",
    "method": "t from the delete-one jackknife over genes and the spread over draws",
    "confirmatory": False,  # a handful of states is no sample of states, and draws share their blocks
}

DESIGNS = (
    TestDesign(
        name="effect_of_cell_number",
        hypothesis="At one composition the AUROC of attention changes with the logarithm of the number of cells",
        **_WHY,
    ),
    TestDesign(
        name="effect_of_composition",
        hypothesis="At one number of cells the AUROC of attention changes with the entropy of cell states",
        **_WHY,
    ),
    TestDesign(
        name="interaction",
        hypothesis="The change of the AUROC with the number of cells depends on the entropy of cell states",
        **_WHY,
    ),
)

TABLES = {
    "composition_model": ["term", "model", "value", "low", "high", "se_genes", "se_draws", "note"],
    "composition_mean": [
        "arm",
        "n_blocks",
        "n_states",
        "n_cells",
        "entropy",
        "auroc",
        "auroc_sd",
        "auprc",
        "n_draws",
    ],
    "composition": [
        "arm",
        "replicate",
        "n_blocks",
        "n_cells",
        "n_states",
        "entropy",
        "auroc",
        "auprc",
        "f1_n_pos",
    ],
}

#: What a coefficient is per unit of.
_TERMS = ("ln(cells)", "entropy", "ln(cells) x entropy")


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    return plan_tests(NAME, request, DESIGNS)


def entropy(states: np.ndarray, cells: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Shannon entropy (nats) of the cell states of unions of blocks, shape ``(union,)``.

    Examples
    --------
    >>> entropy(np.array([0, 1]), np.array([5.0, 5.0]), np.array([[1.0, 1.0], [1.0, 0.0]])).round(3).tolist()
    [0.693, 0.0]
    """
    member = states[:, None] == np.arange(int(states.max()) + 1)
    size = (weight * cells) @ member
    share = size / size.sum(axis=1, keepdims=True)
    return -np.sum(np.where(share > 0, share * np.log(np.where(share > 0, share, 1.0)), 0.0), axis=1) + 0.0


def mixtures(
    states: np.ndarray, donors: np.ndarray, size: int, replicates: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Unions of `size` blocks of 1, 2, … states, evenly from each, donors dealt in turn.

    Only states that can fill a draw alone take part: otherwise small states would be found in mixtures only, and what
    they are like would be taken for what mixing does.

    Parameters
    ----------
    states, donors
        Of each block, int64, shape ``(block,)``.

    Returns
    -------
    Weights ``(union, block)`` and replicate of each union.
    """
    able = np.flatnonzero(np.bincount(states) >= size)
    weights, of_replicate = [], []
    for k in range(1, min(len(able), size) + 1):
        for r in range(replicates):
            chosen = rng.choice(able, size=k, replace=False)
            queues = {int(s): _donors_in_turn(np.flatnonzero(states == s), donors, rng) for s in chosen}
            picked: list[int] = []
            while len(picked) < size:
                for s in rng.permutation(chosen):
                    if queues[int(s)] and len(picked) < size:
                        picked.append(queues[int(s)].pop())
            row = np.zeros(len(states))
            row[picked] = 1.0
            weights.append(row)
            of_replicate.append(r)
    return np.array(weights).reshape(-1, len(states)), np.array(of_replicate, dtype=np.int64)


def _donors_in_turn(blocks: np.ndarray, donors: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Blocks in random order, taken from the donors in turn."""
    order = nested_orders(donors[blocks], 1, rng)[0]
    return [int(b) for b in blocks[order]]


def two_way_weights(n: np.ndarray, h: np.ndarray) -> np.ndarray | None:
    """Weights that turn values into the coefficients of ln n, entropy and their product (both centred), all draws.

    Returns
    -------
    Shape ``(3, union)``; None where the draws cannot tell the three apart.
    """
    x, z = np.log(n) - np.log(n).mean(), h - h.mean()
    design = np.column_stack([np.ones(len(n)), x, z, x * z])
    scale = np.abs(design).max(axis=0)
    if (scale == 0).any() or np.linalg.cond(design / np.where(scale > 0, scale, 1.0)) > 1e6:
        return None
    return np.linalg.pinv(design)[1:]


def arm_weights(arm: np.ndarray, replicate: np.ndarray, n: np.ndarray, h: np.ndarray) -> np.ndarray | None:
    """Weights of the effects within arms: ln n in arm 0, entropy in arms 1 and 2, and its change between these.

    Parameters
    ----------
    arm
        0 for draws of one composition, 1 and 2 for draws of one small and one large size; shape ``(union,)``.

    Returns
    -------
    Shape ``(3, union)``; None where an arm does not vary.
    """
    out = np.zeros((3, len(n)))
    replicates = np.unique(replicate[arm == 0])
    for r in replicates:
        own = (arm == 0) & (replicate == r)
        x = np.log(n[own]) - np.log(n[own]).mean()
        if not np.square(x).sum() > 1e-12:
            return None
        out[0, own] = x / np.square(x).sum() / len(replicates)
    level = []
    for a in (1, 2):
        own = arm == a
        if not own.any() or np.ptp(h[own]) < 1e-9:
            return None
        level.append(float(np.log(n[own]).mean()))
        z = h[own] - h[own].mean()
        out[1, own] = z
        out[2, own] = (1 if a == 2 else -1) * z / np.square(z).sum()
    out[1] /= np.square(out[1]).sum()
    if abs(level[1] - level[0]) < 1e-9:
        return None
    out[2] /= level[1] - level[0]
    return out


def _effects(
    found: Areas, weights: np.ndarray, arm: np.ndarray, n: np.ndarray, h: np.ndarray
) -> list[tuple[Effect, float]]:
    """Effects with the error of genes and of draws added, and the error of draws (residuals from lines within arms)."""
    y = found.deviations.estimate
    residual = np.empty(len(y))
    for a in np.unique(arm):
        own = arm == a
        design = np.column_stack([np.ones(own.sum()), h[own] if a else np.log(n[own])])  # what varies in the arm
        residual[own] = y[own] - design @ np.linalg.lstsq(design, y[own], rcond=None)[0]
    out = []
    for weight, effect in zip(weights, effects_of(default_se(found.combined(weights)))):
        se = float(np.sqrt(np.square(weight * residual).sum()))
        if not effect.undefined:
            df = min(effect.df, max(np.count_nonzero(weight) - 2.0, 1.0))
            effect = replace(effect, se=float(np.hypot(effect.se, se)), df=df, method=f"{effect.method}, and draws")
        out.append((effect, se))
    return out


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    request, level = inp.request, 1 - inp.request.settings.alpha
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    edges = edges_of(inp, inp.primary)

    def stop(reason: str) -> AnalysisOutcome:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("composition",))

    if reason := refusal(edges):
        return stop(reason)
    if inp.partitions is None:
        return stop("the model scores pairs from its weights alone, so that there is no attention by cell")
    table = inp.partitions.table
    states = _codes(table, "cell_state")
    donors = _codes(table, "donor")
    n_states, per_state = int(states.max()) + 1, np.sort(np.bincount(states))[::-1]
    if n_states < 2 or per_state[1] < 2:
        return stop(f"{n_states} states, the second largest with {per_state[min(1, n_states - 1)]} blocks of cells; "
                    "at least 2 states of 2 blocks are needed")  # fmt: skip
    replicates = int(parameters["replicates"])
    whole = load_blocks(inp, edges)
    # the largest size that three states (two, where a third is too small) can fill alone, and half of it
    large = int(per_state[2] if n_states > 2 and per_state[2] >= 2 else per_state[1])
    able = np.bincount(states) >= large
    small = max(1, large // 2)
    rng = inp.rng(f"draws/{NAME}")
    arms: list[tuple[str, np.ndarray, np.ndarray]] = []
    orders = nested_orders(groups_of_blocks(table), replicates, rng)
    sizes = np.unique([small, large, (large + len(states)) // 2, len(states)])
    arms.append(("fixed composition", prefixes(orders, sizes), np.repeat(np.arange(replicates), len(sizes))))
    for size in dict.fromkeys((small, large)):
        own = np.flatnonzero(able[states])
        made, of_replicate = mixtures(
            np.unique(states[own], return_inverse=True)[1], donors[own], size, replicates, rng
        )
        whole_rows = np.zeros((len(made), len(states)))
        whole_rows[:, own] = made
        arms.append((f"{size} blocks of cells", whole_rows, of_replicate))
    weight = np.concatenate([w for _, w, _ in arms])
    keep = met_in_all(whole, weight)
    pairs = thinned(edges, keep, int(parameters["negatives"]), inp.rng(f"negatives/{NAME}"))
    fixed, scores = edges.restrict(pairs), whole.at(pairs=pairs)
    if reason := refusal(fixed):
        return stop(f"of the pairs that met in every draw: {reason}")
    n, h = weight @ scores.cells, entropy(states, scores.cells, weight)
    arm = np.repeat(np.arange(len(arms)), [len(w) for _, w, _ in arms])
    replicate = np.concatenate([r for _, _, r in arms])
    within, joint = arm_weights(arm, replicate, n, h), two_way_weights(n, h)
    if within is None or joint is None:
        return stop("the draws cannot tell the number of cells from their composition")
    found = areas(scores.means(weight)[0], fixed)
    ap, precision = top_of_list(scores.means(weight)[0], fixed.label, (fixed.n_pos,))
    effects = _effects(found, within, arm, n, h)
    y = found.deviations.estimate
    draws = pd.DataFrame(
        {
            "arm": np.array([a for a, _, _ in arms], dtype=object)[arm], "replicate": replicate,
            "n_blocks": weight.sum(axis=1).astype(np.int64), "n_cells": n.astype(np.int64),
            "n_states": (weight @ (states[:, None] == np.arange(n_states)) > 0).sum(axis=1), "entropy": h, "auroc": y,
            "auprc": ap, "f1_n_pos": precision[:, 0],
        }
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for model, pairs_of in (("within arms", effects), ("all draws", _effects(found, joint, arm, n, h))):
        for term, (effect, se) in zip(_TERMS, pairs_of):
            at = effect.cells(null_value=0.0, level=level)
            genes = float(np.sqrt(max(effect.se**2 - se**2, 0.0)))
            rows.append((term, model, at["value"], at["low"], at["high"], genes, se, effect.undefined))
    grouped = draws.groupby(["arm", "n_blocks", "n_states"], sort=False)
    mean = grouped[["n_cells", "entropy", "auroc", "auprc"]].mean().reset_index()
    mean["auroc_sd"], mean["n_draws"] = grouped["auroc"].std(ddof=1).to_numpy(), grouped.size().to_numpy()
    records = tuple(
        e.record(test_id(NAME, request, d.name), side="two-sided", level=level) for d, (e, _) in zip(DESIGNS, effects)
    )
    results = tuple(
        result_of(inp, NAME, score=f"{request.primary}, {term}", metric="auroc_slope", null_value=0.0, edges=fixed,
                  estimate=e.estimate(null_value=0.0, level=level), step="composition" if not k else "",
                  stream=inp.stream_name(f"draws/{NAME}"))
        for k, (term, (e, _)) in enumerate(zip(_TERMS, effects))
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=records,
        tables={
            "composition_model": pd.DataFrame(rows, columns=TABLES["composition_model"]),
            "composition_mean": mean[TABLES["composition_mean"]],
            "composition": draws[TABLES["composition"]],
        },
        facts={**counts_of(fixed), "n_states": n_states, "n_blocks": len(states), "replicates": replicates,
               "n_pos_all": edges.n_pos, "n_states_mixed": int(able.sum())},
        dropped=dropped_of(edges) | {
            "states too small to fill a draw alone": int((~able).sum()),
            "positives that did not meet in every draw": edges.n_pos - fixed.n_pos,
            "negatives that did not meet in every draw": int((~edges.label & ~keep).sum()),
        },
    )  # fmt: skip


def _codes(table: pd.DataFrame, column: str) -> np.ndarray:
    """Values of a column as numbers; zeros where it is absent."""
    if column not in table:
        return np.zeros(len(table), dtype=np.int64)
    return np.unique(table[column].to_numpy().astype(str), return_inverse=True)[1].astype(np.int64)


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Number of cells or mixture of states",
    question="Is it the number of cells or the mixture of cell states that changes how well attention recovers the "
    "reference?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference", "cell_state", "blocks"),
    plan=plan,
    run=run,
    reference="Shannon 1948; Cameron, Gelbach & Miller 2011",
    falsified_by="Coefficients of the number of cells and of entropy whose intervals include 0.",
    parameters={"replicates": 10, "negatives": 20_000},
)
