"""What becomes of attention and its baselines under labels that do not favour well-measured genes?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.de_power import (
    OtherLabels,
    effect_size_labels,
    placebo_labels,
    planted_labels,
    power_matched_labels,
    typical_fold,
)
from regulens.analyses.de_power_cells import control_cells, linear_moments
from regulens.analyses.inference import Effect, effects_of, joint_critical
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.analyses.response_propensity import NAME as PROPENSITY
from regulens.analyses.response_propensity import leave_one_out_share
from regulens.stats.inference import Inference

POWER_TABLES = {
    "de_power": [
        "responders", "score", "n_perturbations", "n_pos", "auroc", "low", "high", "delta", "delta_low", "delta_high",
        "p",
    ],
    "de_power_labels": ["responders", "how", "n_perturbations", "n_pos", "n_genes", "note"],
}  # fmt: skip

NO_CELLS = "a table of effects has no cells that could be split or thinned"
MIN_CONTROLS = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowerControl:
    """Results under other labels.

    Parameters
    ----------
    means
        Mean AUROC of the one-gene statistics, by kind of labels.
    gaps
        Under the control: attention − each one-gene statistic, attention − the response propensity that the same
        labels give, and attention − 0.5; empty where there are no other labels.
    used
        Which labels those are: of equal power, or where no cells can be thinned, ranked by effect size.
    high
        Upper bound of attention's advantage under the control, jointly over all of them; NaN where there is none.
    undefined
        Why there is nothing, by kind of labels.
    """

    tables: dict[str, pd.DataFrame]
    means: dict[str, Inference] = field(default_factory=dict)
    gaps: dict[str, Effect] = field(default_factory=dict)
    used: str = ""
    high: float = float("nan")
    undefined: dict[str, str] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def strongest(self) -> str:
        """What attention is least above under the control, or an empty string."""
        known = [n for n, e in self.gaps.items() if not e.undefined]
        return min(known, key=lambda n: self.gaps[n].value) if known else ""


def _n_cells(inp: AnalysisInput) -> np.ndarray:
    assert inp.screen is not None
    effects = inp.screen.labels.effects
    row = {p: i for i, p in enumerate(effects.perturbations)}
    return np.maximum(effects.n_cells[[row[p] for p in inp.universe.regulators]], 2)


def _all_labels(
    inp: AnalysisInput, positive: np.ndarray, valid: np.ndarray, *, quantile: float, name: str
) -> list[OtherLabels]:
    """The called labels and those that can be made beside them."""
    assert inp.screen is not None
    count = positive.sum(axis=1)
    called = OtherLabels(
        name="called", words=inp.screen.labels.rule.words(inp.screen.labels.effects), positive=positive, valid=valid
    )
    nothing = np.zeros_like(valid)
    if inp.screen.cells is None:
        missing = [
            OtherLabels(name=kind, words="", positive=nothing, valid=nothing, reason=NO_CELLS)
            for kind in ("placebo", "planted", "power_matched")
        ]
        return [called, effect_size_labels(inp, valid, count, None), *missing]
    moments = linear_moments(inp)
    out = [called, effect_size_labels(inp, valid, count, moments)]
    pool = control_cells(inp, inp.rng(f"sample/{name}/controls"))
    size = _n_cells(inp)
    if pool.counts.shape[0] < MIN_CONTROLS:
        reason = f"{pool.counts.shape[0]} control cells; splitting them needs at least {MIN_CONTROLS}"
        out += [
            OtherLabels(name=kind, words="", positive=nothing, valid=nothing, reason=reason)
            for kind in ("placebo", "planted")
        ]
    else:
        out.append(placebo_labels(inp, pool, valid, count, size, inp.rng(f"split/{name}/placebo")))
        out.append(
            planted_labels(inp, pool, valid, count, size, inp.rng(f"split/{name}/planted"),
                           fold=typical_fold(moments, positive))
        )  # fmt: skip
    matched = power_matched_labels(inp, valid, positive, inp.rng(f"thinning/{name}"), moments, quantile=quantile)
    same_genes = OtherLabels(
        name="called_same_genes", words="called, on the genes that can be thinned to equal power",
        positive=positive & matched.valid, valid=matched.valid, reason=matched.reason,
    )  # fmt: skip
    return [*out, same_genes, matched]


def _beside(one: Inference, other: Inference) -> Inference:
    """Scores of both, in this order, for what must hold for all of them at once."""
    return replace(
        one, undefined=(*one.undefined, *other.undefined),
        **{n: np.concatenate([getattr(one, n), getattr(other, n)])
           for n in ("estimate", "se", "df", "regulator", "target")},
    )  # fmt: skip


def power_control(
    inp: AnalysisInput, per: PerPerturbation, primary: str, single: tuple[str, ...], *, quantile: float, name: str,
    cluster: np.ndarray | None = None,
) -> PowerControl:  # fmt: skip
    """Attention and the one-gene statistics under every kind of labels.

    Parameters
    ----------
    per
        Holds the scores; its pairs are the ones that are labelled anew.
    quantile
        Share of the genes that are thinned to equal power.
    name
        Of the analysis, for streams.
    cluster
        Group of every row of the universe, as in `PerPerturbation.build`.

    The propensity is made anew from each kind of labels, among the perturbations that are evaluated.
    """
    level = 1 - inp.request.settings.alpha
    edges = per.edges
    valid = np.zeros(inp.universe.candidate.shape, dtype=bool)
    valid[edges.regulator, edges.target] = True
    scores = [primary, *single, PROPENSITY, "random"]
    rows, listed, high = [], [], float("nan")
    everyone = np.arange(len(valid))
    means: dict[str, Inference] = {}
    gaps: dict[str, Effect] = {}
    used = ""
    undefined: dict[str, str] = {}
    facts: dict[str, object] = {}
    for labels in _all_labels(inp, inp.universe.positive & valid, valid, quantile=quantile, name=name):
        at = labels.valid[edges.regulator, edges.target]
        share = np.nan_to_num(leave_one_out_share(labels.positive, labels.valid, everyone))
        values = edges.scores.copy()
        values[edges.names.index(PROPENSITY)] = share[edges.regulator, edges.target]
        again = replace(edges, scores=values, label=labels.positive[edges.regulator, edges.target]).restrict(at)
        part = PerPerturbation.of(again, inp.universe.regulators, cluster=cluster)
        reason = labels.reason or part.refusal
        n_genes = int(labels.valid.any(axis=0).sum())
        listed.append((labels.name, labels.words, part.n, part.edges.n_pos, n_genes, reason))
        if reason:
            undefined[labels.name] = reason
            continue
        means[labels.name] = part.mean(list(single))
        found, apart = part.mean(scores), part.differences(primary, scores[1:])
        effects = effects_of(apart)
        low, high = found.interval(level)
        for k, score in enumerate(scores):
            row = (labels.name, score, part.n, part.edges.n_pos, found.estimate[k], low[k], high[k])
            if k:
                d_low, d_high = effects[k - 1].bounds(level)
                rows.append((*row, effects[k - 1].value, d_low, d_high, effects[k - 1].p_two_sided()))
            else:
                rows.append((*row, np.nan, np.nan, np.nan, np.nan))
        best = float(found.estimate[1 : 1 + len(single)].max())
        facts[f"{labels.name}_best_baseline_auroc"] = best
        facts[f"{labels.name}_attention_auroc"] = float(found.estimate[0])
        if labels.name in ("effect_size", "power_matched"):  # in this order: the second is the stricter
            rivals, used = [*single, PROPENSITY], labels.name
            own = part.mean([primary])
            gaps = dict(zip(rivals, effects)) | {"chance": effects_of(own, null_value=0.5)[0]}
            critical = joint_critical(
                _beside(part.differences(primary, rivals), own), level=level,
                rng=inp.rng(f"bootstrap/{name}/power_joint"),
            )  # fmt: skip
            ends = [e.value + critical * e.se for e in gaps.values() if not e.undefined]
            high = min(ends) if ends else high
    return PowerControl(
        tables={
            "de_power": pd.DataFrame(rows, columns=POWER_TABLES["de_power"]),
            "de_power_labels": pd.DataFrame(listed, columns=POWER_TABLES["de_power_labels"]),
        },
        means=means, gaps=gaps, used=used, high=high, undefined=undefined,
        facts=facts | {"power_control": used},
    )  # fmt: skip
