"""What does the published comparison say? All pairs pooled, pairs resampled, sources shuffled 400 times.

A reproduction: pairs count as independent, effects that are exactly zero stay, perturbed genes are targets as well, and
it feeds no verdict.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, test_id
from regulens.analyses.consistency_pairs import Matched
from regulens.analyses.consistency_record import result
from regulens.stats.permutation import permutation_p
from regulens.stats.permuted_labels import twice_ranks
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

PUBLISHED_COLUMNS = [
    "intervention", "measure", "value", "low", "high", "null_mean", "null_sd", "z", "p", "draws_used", "n_pairs",
    "n_perturbations", "share_zero_model", "note",
]  # fmt: skip

BOOTSTRAP, SHUFFLES, MIN_PAIRS = 1000, 400, 10

#: Test name → measure.
TESTED = {"signed_rank_consistency": "signed", "absolute_rank_consistency": "absolute"}


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rho of two vectors, average ranks; NaN where one is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.5
    """
    a, b = (0.5 * (twice_ranks(np.asarray(v, dtype=np.float64)) - (len(v) + 1)) for v in (x, y))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def sign_agreement(x: np.ndarray, y: np.ndarray) -> float:
    """Share of equal signs among pairs where neither is zero (F12); NaN without any.

    >>> sign_agreement(np.array([1.0, -1.0, 0.0]), np.array([2.0, 3.0, 4.0]))
    0.5
    """
    there = (x != 0) & (y != 0)
    return float((np.sign(x[there]) == np.sign(y[there])).mean()) if there.any() else float("nan")


def controlled(x: np.ndarray, y: np.ndarray, covariates: np.ndarray) -> float:
    """Spearman of the least-squares residuals of ``|x|`` and ``|y|`` on 1 and `covariates` (pair, covariate) (F12)."""
    design = np.column_stack([np.ones(len(x)), covariates])
    left = [np.abs(v) - design @ np.linalg.lstsq(design, np.abs(v), rcond=None)[0] for v in (x, y)]
    return spearman(*left)


def run_published(inp: AnalysisInput, name: str, designs: tuple[TestDesign, ...], matched: Matched) -> AnalysisOutcome:
    """Pooled rho of sizes and of signed effects, sign agreement, and the controlled rho, for every change."""
    rows, results, records = [], [], {}
    for change in matched.effects:
        model = matched.model[change]
        both = np.isfinite(model) & np.isfinite(matched.observed)
        x, y = model[both], matched.observed[both]
        n, n_sources = len(x), int(both.any(axis=1).sum())
        zero = float((x == 0).mean()) if n else np.nan
        columns = [np.broadcast_to(matched.baseline, both.shape)[both]]
        if matched.shift_of:
            columns.append(np.broadcast_to(matched.shift[:, None], both.shape)[both])
        measures: dict[str, tuple[np.ndarray, np.ndarray]] = {"absolute": (np.abs(model), np.abs(matched.observed))}
        if matched.signed:
            measures["signed"] = (model, matched.observed)
        for measure, (a, b) in measures.items():
            use = f"published/{name}/{change}/{measure}"
            value = spearman(a[both], b[both]) if n >= MIN_PAIRS else float("nan")
            note = "" if np.isfinite(value) else f"{n} matched pairs, or effects of one value"
            tested = change == "ablate" and not note  # of swaps only the correlation is published
            draws = _shuffled(a, b, inp.rng(use)) if tested else np.empty(0)
            estimate: Estimate | Undefined = Undefined(reason=note)
            if tested:
                estimate = _resampled(a[both], b[both], value, inp.rng(f"{use}/bootstrap"))
            low, high = (estimate.low, estimate.high) if isinstance(estimate, Estimate) else (np.nan, np.nan)
            sd = float(draws.std(ddof=1)) if draws.size > 1 else np.nan
            mean = float(draws.mean()) if draws.size else np.nan
            p = float(permutation_p(value, draws)[0]) if draws.size else np.nan
            z = (value - mean) / sd if sd > 0 else np.nan
            rows.append((change, measure, value, low, high, mean, sd, z, p, draws.size, n, n_sources, zero, note))
            if change == "ablate":
                why = note or ("" if draws.size else "no draw has 10 matched pairs")
                records[measure] = (value, z, p, why, n, inp.stream_name(use))
                results.append(
                    result(inp, name, matched, score="ablation", metric=f"spearman_{measure}", estimate=estimate,
                           null_value=0.0, step=measure, stream=inp.stream_name(use))
                )  # fmt: skip
        others = {"absolute_controlled": controlled(x, y, np.column_stack(columns)) if n >= MIN_PAIRS else np.nan}
        if matched.signed:
            others["sign_agreement"] = sign_agreement(x, y)
        rows += [(change, k, v, *[np.nan] * 6, 0, n, n_sources, zero, "") for k, v in others.items()]
    made, no_direction = [], f"the model gives no direction: {matched.effects['ablate'].readout}"
    for design in designs:
        at = test_id(name, inp.request, design.name)
        value, z, p, why, n, stream = records.get(TESTED[design.name], (0.0, 0.0, 0.0, no_direction, 0, ""))
        made.append(
            TestRecord(id=at, undefined=why, n_units=n)
            if why
            else TestRecord(
                id=at, statistic=z if np.isfinite(z) else None, effect=value, p_raw=p, n_units=n, stream=stream
            )
        )  # fmt: skip
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference, results=tuple(results),
        tables={"published": pd.DataFrame(rows, columns=PUBLISHED_COLUMNS)}, records=tuple(made),
        facts={"readout": matched.effects["ablate"].readout},
        dropped={"perturbations that the model cannot be asked about": len(matched.effects["ablate"].lost)},
    )  # fmt: skip


def _shuffled(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pooled rho when sources' labels are shuffled and targets kept; draws of fewer than 10 pairs are dropped."""
    out = []
    for _ in range(SHUFFLES):
        moved = a[rng.permutation(len(a))]
        both = np.isfinite(moved) & np.isfinite(b)
        if both.sum() >= MIN_PAIRS and np.isfinite(rho := spearman(moved[both], b[both])):
            out.append(rho)
    return np.array(out)


def _resampled(x: np.ndarray, y: np.ndarray, value: float, rng: np.random.Generator) -> Estimate | Undefined:
    """Percentile interval over pairs; how often each pair is drawn is a weight, so nothing is sorted again."""
    number = [np.unique(v, return_inverse=True)[1] for v in (x, y)]

    def ranks(code: np.ndarray, weight: np.ndarray) -> np.ndarray:
        size = np.bincount(code, weights=weight)
        return (np.cumsum(size) - (size - 1) / 2)[code] - (len(x) + 1) / 2

    draws = np.empty(BOOTSTRAP)
    for k in range(BOOTSTRAP):
        weight = np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x)).astype(np.float64)
        a, b = (ranks(code, weight) for code in number)
        scale = np.sqrt((weight @ (a * a)) * (weight @ (b * b)))
        draws[k] = weight @ (a * b) / scale if scale > 0 else np.nan
    return Estimate.from_draws(
        value, draws, method=f"bootstrap over pairs, percentile, B={BOOTSTRAP}", n_units=len(x), unit="pair"
    )
