"""Which columns does each table of a run folder have? Draws one example of each, from a random stream.

The values follow no data: intervals are normal around drawn AUROCs so that they look like intervals, no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

N_POS, N_NEG, N_REGULATORS = 412, 24_898, 52
_SE = 0.017

#: Counts of what each analysis left out.
DROPPED: dict[str, dict[str, int]] = {
    "reference_recovery": {"pairs never observed together": 2190},
    "expression_matched": {"positives without a match": 3},
}

_BASELINES = {
    "product_mean": "product", "product_variance": "product", "product_detection": "product", "source_mean": "source",
    "source_variance": "source", "target_mean": "target", "target_detection": "target", "marginal_product": "marginal",
    "gene_model": "gene_model", "coexpression_abs": "coexpression", "random": "random",
}  # fmt: skip

_TESTS: dict[str, tuple[tuple[str, str, str, bool], ...]] = {
    "reference_recovery": (
        ("pooled_above_chance", "greater", "The pooled AUROC exceeds 0.5.", True),
        ("layer_nested_above_chance", "greater", "The AUROC of a layer chosen on other regulators exceeds 0.5.", True),
        ("pooled_above_label_shuffle", "greater", "The pooled AUROC exceeds label shuffles within regulator.", True),
        ("some_head_above_chance", "greater", "The AUROC of some head exceeds 0.5.", True),
    ),
    "gene_level_baselines": (
        ("attention_above_best_baseline", "greater", "Attention exceeds the strongest gene-level score.", True),
        ("attention_above_gene_model", "greater", "Attention exceeds the fitted gene-only model.", True),
        ("attention_above_marginal_product", "greater", "Attention exceeds its own marginal product.", True),
    ),
    "expression_matched": (
        ("matched_above_chance", "greater", "The AUROC on expression-matched pairs exceeds 0.5.", True),
        ("matched_above_marginal_product", "two-sided", "Attention and marginal product differ on matches.", True),
        ("matching_balanced", "two-sided", "The expression product is at chance on matched pairs.", False),
    ),
    "coexpression_dominance": (
        ("attention_differs_from_coexpression", "two-sided", "Attention and co-expression differ in AUROC.", True),
        ("attention_coefficient", "greater", "The coefficient of attention beside co-expression is positive.", True),
    ),
}

_STEPS = {
    "reference_recovery": {"pooled": 0.561, "layer": 0.553},
    "gene_level_baselines": {"baseline": 0.572, "gene_model": 0.566, "marginal": 0.549, "coexpression": 0.541},
    "expression_matched": {"matched": 0.512, "matched_baseline": 0.508},
    "coexpression_dominance": {},
}


def _interval(value: float, se: float = _SE) -> dict[str, float]:
    return {"auroc": value, "low": value - 1.96 * se, "high": value + 1.96 * se}


def draw(analysis: str, rng: np.random.Generator, *, n_layers: int, n_heads: int) -> dict[str, pd.DataFrame]:
    """Tables of one analysis by name, columns as a run folder has them."""
    if analysis == "reference_recovery":
        return _recovery(rng, n_layers, n_heads)
    if analysis == "gene_level_baselines":
        return {"baselines": _baselines(rng)}
    if analysis == "expression_matched":
        return _matched(rng)
    return _dominance(rng)


def _recovery(rng: np.random.Generator, n_layers: int, n_heads: int) -> dict[str, pd.DataFrame]:
    names: list[tuple[str, Any, str]] = [("pooled", None, "")]
    for layer in range(n_layers):
        names.append((f"L{layer:02d}_mean", layer, "mean"))
        names += [(f"L{layer:02d}_H{head:02d}", layer, str(head)) for head in range(n_heads)]
    rows = []
    for direction in ("regulator_attends", "target_attends"):
        for name, layer, head in names:
            value = 0.54 + (0.02 if name == "pooled" else 0.035 * float(rng.standard_normal()))
            p = float(min(1.0, np.exp(-max(0.0, value - 0.5) * 60) * (3 if "H" in name else 1)))
            rows.append({"score": name, "layer": layer, "head": head, "direction": direction, "n_pos": N_POS,
                         "n_neg": N_NEG, "n_regulators": N_REGULATORS} | _interval(value)
                        | {"se": _SE, "se0": 0.0144, "auprc": 0.016 * (1 + 4 * (value - 0.5)),
                           "prevalence": N_POS / (N_POS + N_NEG), "auprc_ratio": 1 + 4 * (value - 0.5),
                           "epr": 1 + 6 * (value - 0.5),
                           "p_maxt": p if direction == "regulator_attends" else None})  # fmt: skip
    recovery = pd.DataFrame(rows).astype({"layer": "Int64", "p_maxt": "Float64"})
    chance = N_POS / (N_POS + N_NEG)
    at_k = [{"score": "pooled", "k": k, "precision": 2 * chance, "recall": 2 * chance * k / N_POS,
             "f1": 4 * chance * k / (k + N_POS), "f1_ceiling": 2 * min(k, N_POS) / (k + N_POS),
             "precision_chance": chance} for k in (20, 50, 100, 200, 500)]  # fmt: skip
    nulls = [{"score": "pooled", "null": "label shuffle within regulator", "observed": 0.56, "null_mean": 0.521,
              "null_sd": 0.0136, "z": 2.87, "p": 0.004,
              "preserves": "scores, pairs and positives per regulator"}]  # fmt: skip
    loo = [{"regulator": f"TF{i}", "n_pos": int(40 - i), "auroc_without": 0.56 + 0.001 * (i - 6),
            "change": 0.001 * (i - 6)} for i in range(N_REGULATORS)]  # fmt: skip
    both = [{"direction": d} | _interval(v) for d, v in (("regulator_attends", 0.56), ("target_attends", 0.552))]
    return {"recovery": recovery, "recovery_at_k": pd.DataFrame(at_k), "recovery_nulls": pd.DataFrame(nulls),
            "leave_one_out": pd.DataFrame(loo), "directions": pd.DataFrame(both)}  # fmt: skip


def _baselines(rng: np.random.Generator) -> pd.DataFrame:
    attention = 0.561
    rows = [{"baseline": "pooled", "kind": "attention"} | _interval(attention)]
    for name, kind in _BASELINES.items():
        value = 0.5 if kind == "random" else 0.545 + 0.02 * float(rng.standard_normal())
        delta = attention - value
        rows.append({"baseline": name, "kind": kind} | _interval(value)
                    | {"delta": delta, "delta_low": delta - 0.03, "delta_high": delta + 0.03,
                       "p": float(np.exp(-max(delta, 0) * 80)), "tost_p": float(min(1, abs(delta) * 20))})  # fmt: skip
    return pd.DataFrame(rows)


def _matched(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    rows = []
    for score in ("attention", "marginal_product", "product_mean", "coexpression_abs"):
        for form in ("conditional", "pooled"):
            value = 0.508 + 0.01 * float(rng.standard_normal())
            rows.append({"score": score, "form": form} | _interval(value, 0.02)
                        | {"n_pos": N_POS - 3, "n_neg": 14_910, "n_regulators": N_REGULATORS})  # fmt: skip
    balance = [
        {
            "side": side,
            "feature": feature,
            "smd_before": float(rng.uniform(0.1, 0.7)),
            "smd_after": float(rng.uniform(0, 0.12)),
        }
        for side in ("source", "target")
        for feature in ("mean", "variance", "detection", "out_degree")
    ]
    lost = [{"regulator": f"TF{i}", "target": "GENE1", "reason": "fewer than 5 matches"} for i in range(3)]
    return {"matched": pd.DataFrame(rows), "matched_balance": pd.DataFrame(balance),
            "matched_unmatched": pd.DataFrame(lost)}  # fmt: skip


def _dominance(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    quantities = [
        ("spearman_abs", 0.31, "all pairs"),
        ("spearman_within_regulator", 0.22, "rows"),
        ("auroc_attention", 0.561, ""),
        ("auroc_coexpression", 0.541, ""),
        ("auroc_difference", 0.02, ""),
    ]
    dominance = [{"quantity": q, "value": v, "low": v - 0.03, "high": v + 0.03, "note": n} for q, v, n in quantities]
    deciles = [
        {
            "decile": i + 1,
            "rho_low": 0.03 * i,
            "rho_high": 0.03 * (i + 1),
            "n_pos": 30 + 2 * i,
            "n_neg": 2490,
            "auroc_attention": 0.53 + 0.02 * float(rng.standard_normal()) if i else None,
            "auroc_coexpression": 0.52 + 0.02 * float(rng.standard_normal()) if i else None,
        }
        for i in range(10)
    ]
    rho = np.abs(rng.normal(0, 0.12, 20_000))
    quantile = (rng.normal(0, 1, rho.size) + 4 * rho).argsort().argsort() / rho.size
    counts, xs, ys = np.histogram2d(rho, quantile, bins=(24, 24), range=((0, 0.5), (0, 1)))
    i, j = np.nonzero(counts)
    hexbin = pd.DataFrame({"x": (xs[i] + xs[i + 1]) / 2, "y": (ys[j] + ys[j + 1]) / 2, "n": counts[i, j].astype(int)})
    features = ("attention", "coexpression_abs", "source_mean", "target_mean", "target_detection")
    coefficients = [{"feature": f, "coefficient": c, "low": c - 0.08, "high": c + 0.08, "p": 0.03}
                    for f, c in zip(features, (0.07, 0.11, 0.21, 0.02, -0.05), strict=True)]  # fmt: skip
    return {"dominance": pd.DataFrame(dominance), "dominance_deciles": pd.DataFrame(deciles),
            "dominance_hexbin": hexbin, "dominance_coefficients": pd.DataFrame(coefficients)}  # fmt: skip


def results(analysis: str, model: str, reference: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows of the results table: one per step of the cascade."""
    rows = []
    for step, centre in _STEPS[analysis].items():
        value = centre + 0.006 * float(rng.standard_normal())
        limits = _interval(value)
        rows.append({
            "analysis": analysis, "model": model, "reference": reference, "score": step, "step": step,
            "metric": "auroc", "value": value, "low": limits["low"], "high": limits["high"], "level": 0.95, "se": _SE,
            "interval": "regulator-cluster, t", "n_units": N_REGULATORS, "unit": "regulator", "undefined": "",
            "null_value": 0.5, "n_pos": N_POS, "n_neg": N_NEG, "n_regulators": N_REGULATORS, "n_missing": 2190,
            "se0": 0.0144, "mde": 0.545, "strictest_null": "gene_model" if step == "pooled" else "",
            "endpoint": "reference_recovery", "protocol": "corrected", "universe_digest": "3333333333333333",
            "stream": f"example/{analysis}",
        })  # fmt: skip
    return rows


def tests(
    analysis: str, model: str, reference: str, rng: np.random.Generator, *, undefined: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of the test table, without adjustment."""
    rows = []
    for name, side, hypothesis, confirmatory in _TESTS[analysis]:
        effect = float(rng.normal(0.015, 0.015))
        lost = name in undefined
        rows.append({
            "id": f"{analysis}/{model}/{reference}/{name}", "analysis": analysis, "model": model,
            "reference": reference, "hypothesis": hypothesis, "family": "reference_recovery", "side": side,
            "unit": "regulator", "method": "regulator-cluster t", "endpoint": "reference_recovery",
            "protocol": "corrected", "confirmatory": confirmatory, "statistic": None if lost else effect / _SE,
            "effect": None if lost else effect, "low": None if lost else effect - 0.033,
            "high": None if lost else effect + 0.033, "p_raw": None if lost else float(np.exp(-abs(effect) * 90)),
            "n_units": None if lost else N_REGULATORS, "undefined": "too few positives (3 of 5)" if lost else "",
            "stream": f"example/{name}",
        })  # fmt: skip
    return rows


def close(frame: pd.DataFrame) -> pd.DataFrame:
    """Add q-value (Benjamini-Hochberg within family), adjustment and family size."""
    frame = frame.copy()
    frame["q_value"] = np.nan
    frame["adjustment"], frame["family_size"] = "", 0
    usable = frame["confirmatory"].astype(bool) & frame["p_raw"].notna() if len(frame) else []
    for _, part in frame[usable].groupby("family") if len(frame) else ():
        order = part["p_raw"].astype(float).sort_values(ascending=False)
        m = len(order)
        q = np.minimum.accumulate(order.to_numpy() * m / np.arange(m, 0, -1)).clip(max=1.0)
        frame.loc[order.index, "q_value"] = q
        frame.loc[order.index, "adjustment"] = "Benjamini-Hochberg"
        frame.loc[order.index, "family_size"] = m
    for name in ("statistic", "effect", "low", "high", "p_raw", "q_value"):
        if name in frame:
            frame[name] = frame[name].astype("Float64")
    if "n_units" in frame:
        frame["n_units"] = frame["n_units"].astype("Int64")
    return frame


def gene_ids() -> pd.DataFrame:
    """A few rows of the account of gene identifiers."""
    rows = [("CD3D", "kept", "CD3D", "ENSG00000167286", ""), ("MLL", "renamed", "KMT2A", "ENSG00000118058", "previous"),
            ("RP11-1", "unknown", "", "", "not in the gene table")]  # fmt: skip
    return pd.DataFrame(rows, columns=["input", "status", "symbol", "ensembl", "reason"])
