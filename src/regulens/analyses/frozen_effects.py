"""What are choices worth on a screen, and by how much does that differ between two screens or two ways of choosing?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.per_perturbation import UNIT, PerPerturbation
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import Deviations

#: All of them are above 0 where the choice holds; ``over_*`` are contrasts, the others AUROCs minus 0.5.
EFFECTS = ("score", "layer", "baseline", "over_coexpression", "over_gene_level", "calls")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The effects of some choices on the pairs of a screen, with the inference behind each.

    Parameters
    ----------
    genes
        Genes of the universe that targets are numbered in.
    """

    per: PerPerturbation
    effects: dict[str, Effect]
    inference: dict[str, Inference]
    genes: tuple[str, ...]

    def influence(self, name: str) -> np.ndarray:
        """What every pair contributes to an effect, shape ``(pair,)``; sums to 0 in every perturbation and class."""
        rows = self.per.rows
        names = [name, f"{name} rival"] if name.startswith("over_") else [name]
        row = rows.row()
        out = np.zeros(len(row))
        for sign, score in zip((1.0, -1.0), names):
            place, area = rows.placements(self.per.edges.score(score))
            out += sign * (place - area[row])
        size = np.where(rows.label, rows.n_pos[row], rows.n_neg[row])
        return out / size / self.per.n


def found_of(per: PerPerturbation, genes: tuple[str, ...]) -> Found:
    """Effects of the scores that `regulens.analyses.frozen_choices.applied` makes."""
    inference = {
        name: per.differences(name, [f"{name} rival"]) if name.startswith("over_") else per.mean([name])
        for name in EFFECTS
    }
    units = per.n if per.cluster is None else len(np.unique(per.cluster))  # halves of a perturbation are one unit
    effects = {
        name: replace(effects_of(found, null_value=0.0 if name.startswith("over_") else 0.5)[0], n_units=units)
        for name, found in inference.items()
    }
    return Found(per=per, effects=effects, inference=inference, genes=genes)


def minus(one: Found, other: Found, name: str) -> Effect:
    """Effect in `one` minus effect in `other`, with the error of perturbations and genes that they may share.

    What a perturbation, a gene or a pair contributes to both is subtracted before it is squared: screens that share
    genes, perturbations or pairs are compared as paired as they are.
    """
    a, b = one.effects[name], other.effects[name]
    if reason := a.undefined or b.undefined:
        return Effect(value=a.value - b.value, se=np.nan, df=np.nan, method="", n_units=0, unit=UNIT, undefined=reason)
    moved = [_gap(_by(one, name, axis), _by(other, name, axis)) for axis in ("regulator", "target")]
    perturbation = {p: i for i, p in enumerate(sorted({*one.per.perturbations, *other.per.perturbations}))}
    gene = {g: j for j, g in enumerate(sorted({*one.genes, *other.genes}))}
    psi = np.zeros(len(perturbation) * len(gene))
    for sign, found in ((1.0, one), (-1.0, other)):
        i = np.array([perturbation[p] for p in found.per.perturbations])[found.per.rows.row()]
        j = np.array([gene[g] for g in found.genes])[found.per.edges.target]
        psi += sign * np.bincount(i * len(gene) + j, weights=found.influence(name), minlength=psi.size)
    d = Deviations(
        estimate=np.array([a.value - b.value]), regulator=moved[0][None], target=moved[1][None],
        edge_variance=np.array([np.square(psi).sum()]),
    )  # fmt: skip
    (made,) = effects_of(default_se(d))
    words = f"two-way delete-one jackknife over {len(moved[0])} perturbations and {len(moved[1])} target genes"
    return Effect(
        value=made.value, se=made.se, df=made.df, method=f"{words}, t interval", n_units=made.n_units, unit=UNIT,
        undefined=made.undefined.replace("regulator", "perturbation"),
    )  # fmt: skip


def _by(found: Found, name: str, axis: str) -> pd.Series:
    """Deviations of an effect by the name of the perturbation or gene that is left out."""
    values = getattr(found.inference[name], axis)[0]
    if axis == "regulator":
        keys = found.per.perturbations
    else:
        keys = tuple(found.genes[j] for j in np.unique(found.per.edges.target))
    return pd.Series(values, index=pd.Index(keys[: len(values)], dtype=object))


def _gap(one: pd.Series, other: pd.Series) -> np.ndarray:
    return one.sub(other, fill_value=0.0).sort_index().to_numpy()
