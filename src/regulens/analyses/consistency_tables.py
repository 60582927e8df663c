"""Which tables does the comparison of in-silico and measured effects leave?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtri

from regulens.analyses.base import AnalysisInput
from regulens.analyses.consistency_agreement import STEPS, Agreement, measured_pairs
from regulens.analyses.consistency_pairs import Matched
from regulens.stats.power import correlation_n
from regulens.stats.row_agreement import fisher, rows_with_rows, signs_with_signs

TABLES = {
    "rank_consistency": [
        "intervention", "measure", "value", "low", "high", "boot_low", "boot_high", "null_mean", "null_low",
        "null_high", "z", "p", "pooled", "n_perturbations", "n_pairs", "note",
    ],
    "rank_null": ["intervention", "measure", "draws", "dropped", "mean", "sd", "q025", "q50", "q95", "q975"],
    "rank_by_perturbation": [
        "intervention", "perturbation", "n_targets", "n_cells", "partner", "signed", "signed_low", "signed_high",
        "signed_null_low", "signed_null_high", "absolute", "absolute_low", "absolute_high", "absolute_null_low",
        "absolute_null_high", "sign_agreement", "share_zero_model", "share_zero_measured", "share_tied_model", "note",
    ],
    "rank_power": ["rho", "pairs_needed", "pairs", "detectable_rho", "detectable_above_null"],
}  # fmt: skip


def zero_share(values: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Share of a row's matched pairs that are exactly zero, shape ``(row,)``; NaN for a row without pairs."""
    n = both.sum(axis=1)
    return np.divide((both & (values == 0)).sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)


def tied_share(values: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Share of a row's matched pairs whose value another one of the row has as well, shape ``(row,)``."""
    out = np.full(len(values), np.nan)
    for i, (row, there) in enumerate(zip(values, both)):  # over perturbations
        if there.any():
            _, n = np.unique(row[there], return_counts=True)
            out[i] = n[n > 1].sum() / there.sum()
    return out


def summary_table(found: dict[tuple[str, str], Agreement], m: Matched) -> pd.DataFrame:
    """Mean agreement by change and measure, with its interval, its null, and the same over all pairs pooled."""
    rows = []
    for (change, name), a in found.items():
        x, y = measured_pairs(m, change, name)
        there = np.isfinite(x) & np.isfinite(y)
        pool = signs_with_signs if name == "sign_agreement" else rows_with_rows
        pooled = float(pool(x[there][None], y[there][None])[0][0, 0]) if there.any() else np.nan
        draws = a.null.draws
        tails = np.quantile(draws, [0.025, 0.975]) if draws.size else np.full(2, np.nan)
        mean = draws.mean() if draws.size else np.nan
        rows.append(
            (change, name, *(float(a.back(v)) for v in (a.null.observed, a.low, a.high, *a.boot, mean, *tails)),
             a.z, a.p, pooled, a.n, int(there.sum()), a.refusal)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=TABLES["rank_consistency"])


def null_table(found: dict[tuple[str, str], Agreement]) -> pd.DataFrame:
    """Draws of exchanged perturbations; `sd` is on the scale of Fisher's z."""
    rows = []
    for (change, name), a in found.items():
        draws = a.null.draws
        if not draws.size:
            rows.append((change, name, 0, a.null.dropped, *[np.nan] * 6))
            continue
        of = a.back(np.quantile(draws, [0.025, 0.5, 0.95, 0.975]))
        sd = float(draws.std(ddof=1)) if draws.size > 1 else np.nan
        rows.append((change, name, draws.size, a.null.dropped, float(a.back(draws.mean())), sd, *of))
    return pd.DataFrame(rows, columns=TABLES["rank_null"])


def perturbation_table(found: dict[tuple[str, str], Agreement], m: Matched, inp: AnalysisInput) -> pd.DataFrame:
    """Every perturbation, with an interval that takes its genes as independent, and what others' effects reach."""
    tables = []
    for change, values in m.model.items():
        both = np.isfinite(values) & np.isfinite(m.observed)
        own = m.effects.get(change)  # type: ignore[call-overload]
        columns: dict[str, object] = {
            "intervention": change, "perturbation": m.sources, "n_targets": both.sum(axis=1),
            "n_cells": inp.expression.shape[0] if own is None else own.cells_of,
            "partner": own.partner if own is not None and own.partner else "",
        }  # fmt: skip
        for step in STEPS:
            a = found.get((change, step))
            if a is None:
                continue
            others = np.where(np.eye(len(m.sources), dtype=bool), np.nan, a.value)
            some = np.isfinite(others).any(axis=0)
            band = np.full((2, len(m.sources)), np.nan)
            band[:, some] = np.nanquantile(others[:, some], [0.025, 0.975], axis=0)
            n = np.diagonal(a.count)
            half = float(ndtri(1 - inp.request.settings.alpha / 2)) / np.sqrt(np.maximum(n - 3, 1))
            columns |= {
                step: a.own, f"{step}_low": np.tanh(fisher(a.own) - half),
                f"{step}_high": np.tanh(fisher(a.own) + half),
                f"{step}_null_low": band[0], f"{step}_null_high": band[1],
            }  # fmt: skip
        if (change, "sign_agreement") in found:
            columns["sign_agreement"] = found[change, "sign_agreement"].own
        columns |= {
            "share_zero_model": zero_share(values, both), "share_zero_measured": zero_share(m.observed, both),
            "share_tied_model": tied_share(values, both),
            "note": ["" if own is None else own.lost.get(s, "") for s in m.sources],
        }  # fmt: skip
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True).reindex(columns=TABLES["rank_by_perturbation"])


def power_table(found: dict[tuple[str, str], Agreement], m: Matched, *, alpha: float) -> pd.DataFrame:
    """F28: pairs that a rho needs if all were independent, beside what this screen's own null allows to be seen."""
    n = int(m.both.sum())
    z = float(ndtri(1 - alpha) + ndtri(0.8))
    a = found.get(("ablate", "signed"), found["ablate", "absolute"])
    spread = float(a.null.draws.std(ddof=1)) if a.null.draws.size > 1 else np.nan
    one = float(np.tanh(z / np.sqrt(max(n - 3, 1))))
    rows = [
        (rho, int(np.ceil(correlation_n(rho, alpha=alpha, sides=1))), n, one, float(np.tanh(z * spread)))
        for rho in (0.05, 0.1, 0.2, 0.3)
    ]
    return pd.DataFrame(rows, columns=TABLES["rank_power"])
