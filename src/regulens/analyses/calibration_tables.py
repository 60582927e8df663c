"""Which rows do tables of calibration hold?"""

from __future__ import annotations

from typing import Any

import numpy as np

from regulens.analyses.calibration_transfer import BASE_FROZEN, BASE_LOCAL, FROZEN, LOCAL, SHIFTED, WAYS, Transferred
from regulens.analyses.judged import METRICS, RAW, Judged
from regulens.analyses.per_perturbation import PerPerturbation

_NUMBERS = [
    "ece", "ece_sd", "ece_mass", "brier", "skill", "reliability", "resolution", "uncertainty", "within_bins",
    "log_loss", "auroc",
]  # fmt: skip

TABLES = {
    "calibration": ["score", "calibration", *_NUMBERS, "n_repeats", "note"],
    "calibration_curve": ["score", "calibration", "bin", "n_pairs", "predicted", "observed", "low", "high"],
    "calibration_rules": [
        "rule", "min_effect", "n_perturbations", "n_pos", "prevalence", "calibration", "ece", "ece_mass", "brier",
        "skill", "resolution", "auroc", "note",
    ],
    "calibration_transfer": [
        "screen", "score", "calibration", "ece", "ece_mass", "brier", "skill", "resolution", "log_loss", "auroc",
        "prevalence_first", "prevalence", "n_perturbations", "n_shared", "note",
    ],
}  # fmt: skip

#: What a reading needs of the second screen.
_NEEDS = {
    SHIFTED: "needs the base rate of the second screen",
    LOCAL: "needs labelled perturbations of the second screen",
    BASE_LOCAL: "needs labelled perturbations of the second screen",
}

#: Bins of a reliability diagram.
CURVE_BINS = 10


def _skill(brier: float, base: float) -> float:
    """Share of the base rate's Brier score that a reading takes away; 0 is the base rate, below 0 is worse."""
    return 1 - brier / base if base > 0 else float("nan")


def reading_row(score: str, way: str, judged: Judged, base: Judged, note: str) -> dict[str, Any]:
    """One score read in one way: means over repeats."""
    row: dict[str, Any] = {m: judged.mean(m) for m in METRICS}
    return row | {
        "score": score, "calibration": way, "ece_sd": judged.sd("ece"),
        "skill": _skill(judged.mean("brier"), base.mean("brier")), "n_repeats": len(judged.metrics), "note": note,
    }  # fmt: skip


def curve_rows(
    score: str, way: str, p: np.ndarray, y: np.ndarray, group: np.ndarray, draws: np.ndarray, level: float
) -> list[dict[str, Any]]:
    """Reliability diagram: bins of equal mass, with the band that resampling perturbations gives each bin.

    Parameters
    ----------
    p
        Mean out-of-sample probability of every pair.
    draws
        How often each perturbation is drawn, shape ``(draw, perturbation)``.
    """
    inner = np.unique(np.quantile(p, np.linspace(0, 1, CURVE_BINS + 1)[1:-1]))
    index = np.searchsorted(inner, p)
    n_groups, size = draws.shape[1], len(inner) + 1
    flat = group * size + index

    def by_group(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(flat, weights=weights, minlength=n_groups * size).reshape(n_groups, size)

    n, sum_p, sum_y = by_group(None), by_group(p), by_group(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (draws @ sum_y) / (draws @ n)
    rows = []
    for b in range(size):
        total = int(n[:, b].sum())
        good = share[np.isfinite(share[:, b]), b]
        if not total:
            continue
        low, high = np.quantile(good, [(1 - level) / 2, (1 + level) / 2]) if len(good) else (np.nan, np.nan)
        observed = float(sum_y[:, b].sum() / total)
        rows.append(
            {
                "score": score, "calibration": way, "bin": len(rows), "n_pairs": total,
                "predicted": float(sum_p[:, b].sum() / total), "observed": observed,
                "low": float(min(low, observed)), "high": float(max(high, observed)),
            }
        )  # fmt: skip
    return rows


def transfer_rows(
    screen: str, score: str, found: Transferred, per: PerPerturbation, there: PerPerturbation
) -> list[dict[str, Any]]:
    """One score on a second screen, every way; base rates only beside the first score."""
    shared = len(set(per.perturbations) & set(there.perturbations))
    base = found.of(BASE_LOCAL)["brier"]
    rows = []
    for way in WAYS:
        if way in (BASE_FROZEN, BASE_LOCAL) and score != per.names[0]:
            continue
        of = found.of(way)
        rows.append(
            {m: of[m] for m in METRICS}
            | {
                "screen": screen, "score": "" if way in (BASE_FROZEN, BASE_LOCAL) else score, "calibration": way,
                "skill": _skill(of["brier"], base),
                "prevalence_first": per.edges.n_pos / len(per.edges.label),
                "prevalence": there.edges.n_pos / len(there.edges.label), "n_perturbations": there.n,
                "n_shared": shared,
                "note": _NEEDS.get(way, ""),
            }
        )  # fmt: skip
        if way not in (RAW, FROZEN):
            rows[-1]["auroc"] = np.nan  # quarters have base rates of their own, and AUROC would compare across them
    return rows
