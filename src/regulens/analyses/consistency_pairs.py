"""Which in-silico effect belongs to which measured one? Both on one grid of perturbations and genes, with confounders.

Perturbations need no responders here, so those that cannot be evaluated for want of responders are compared as well.
Perturbed genes are no targets here (`perturbed_targets=False`): the own gene of a perturbation is left out of its row,
so a perturbation's own effects would meet its measured ones on other columns than another's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput
from regulens.analyses.in_silico import Change, InSilicoEffects, cannot_run, in_silico_effects
from regulens.errors import ParameterError
from regulens.scorers.coexpression import coexpression_scores
from regulens.types.screens import ResponseLabels, Screen

#: Columns that a composition can be of, the first with two values or more is taken.
COMPOSITION = ("cell_state", "cell_line", "replicate")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """In-silico and measured effects of the same perturbations on the same genes.

    Parameters
    ----------
    sources, targets
        Rows and columns.
    model
        By change, shape ``(source, target)``, NaN where missing; turned so that agreement is positive (an activation
        screen measures the opposite of a loss). ``coexpression`` needs no model: minus the signed Spearman correlation
        of the two genes over the same cells, as if every neighbour fell with the gene; on the pairs of the ablation.
    observed
        Measured effect, same shape, NaN where not tested, at the perturbed gene itself, and at genes left out.
    baseline
        ``log1p`` of the mean counts per 10,000 of every target in the cells the model read.
    shift
        Composition shift of every source (F12); NaN where no column says what cells are.
    shift_of
        Column that the shift is of, or an empty string.
    positive
        Genes that respond under the rule, bool, same shape as `observed`.
    effects
        What the model was asked, by change.
    n_not_asked
        Perturbations beyond the number that may be asked about.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    model: dict[str, np.ndarray]
    observed: np.ndarray
    baseline: np.ndarray
    shift: np.ndarray
    shift_of: str
    positive: np.ndarray
    effects: dict[Change, InSilicoEffects]
    n_not_asked: int

    @property
    def signed(self) -> bool:
        """Whether effects of the model have a direction."""
        return self.effects["ablate"].signed

    @property
    def both(self) -> np.ndarray:
        """Pairs with an ablation effect and a measured one, bool ``(source, target)``."""
        return np.isfinite(self.model["ablate"]) & np.isfinite(self.observed)

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """What is left of `values` after least squares on 1, baseline expression and composition shift, NaN kept.

        Fitted on matched pairs in double precision (F12), taken away everywhere.
        """
        terms = [np.ones(values.shape), np.broadcast_to(self.baseline, values.shape)]
        if self.shift_of:
            terms.append(np.broadcast_to(self.shift[:, None], values.shape))
        design, fit = np.stack(terms, axis=-1), self.both & np.isfinite(values)
        if not fit.any():
            return values
        left = values - design @ np.linalg.lstsq(design[fit], values[fit], rcond=None)[0]
        # rounding of values that the design says completely is no ranking
        return np.where(np.abs(left) <= 1e-12 * np.abs(values[fit]).max(), np.where(np.isnan(left), left, 0.0), left)


def composition_shift(screen: Screen | None, sources: tuple[str, ...]) -> tuple[np.ndarray, str]:
    r"""How differently perturbed and control cells are composed, :math:`\sum_c |p_c(control) - p_c(perturbed)|`.

    Returns
    -------
    shift
        Shape ``(source,)``, in [0, 2]; NaN where it is not known.
    column
        What cells were counted by; empty where no column has two values.
    """
    nothing = np.full(len(sources), np.nan)
    if screen is None:
        return nothing, ""
    own = screen.cells.obs.reset_index(drop=True)
    table = screen.obs.reset_index(drop=True)
    for name in COMPOSITION:
        column = table[name] if name in table else own.get(name)
        if column is None or column.nunique() < 2:
            continue
        code, levels = pd.factorize(column.astype(str))
        control = table["control"].to_numpy(dtype=bool)
        base = np.bincount(code[control], minlength=len(levels)) / max(int(control.sum()), 1)
        number = pd.Series(range(len(sources)), index=list(sources))
        row = table["perturbation"].map(number).fillna(-1).to_numpy(dtype=np.int64)
        kept = (row >= 0) & ~control
        count = np.zeros((len(sources), len(levels)))
        np.add.at(count, (row[kept], code[kept]), 1.0)
        total = count.sum(axis=1, keepdims=True)
        share = np.divide(count, total, out=np.tile(base, (len(sources), 1)), where=total > 0)
        return np.abs(share - base).sum(axis=1), name
    return nothing, ""


def chosen_sources(inp: AnalysisInput, labels: ResponseLabels, *, most: int) -> tuple[tuple[str, ...], int]:
    """Perturbations to ask about, and how many more there were.

    Those of the universe, then others with cells enough, in a random order, of which the first are taken; all need to
    be genes of the universe. A perturbation without responders is as good as another: its genes have ranks as well.
    """
    rule, there, evaluable = labels.rule, set(inp.universe.genes), set(inp.universe.regulators)
    enough = [
        p for p, n in zip(labels.effects.perturbations, labels.effects.n_cells)
        if p in there and p not in evaluable and not 0 <= n < rule.min_cells
    ]  # fmt: skip
    order = inp.rng("in_silico/perturbations").permutation(len(enough))
    wanted = [*inp.universe.regulators, *(enough[i] for i in order)]
    return tuple(sorted(wanted[:most])), max(len(wanted) - most, 0)


def match(inp: AnalysisInput, parameters: dict[str, Any], *, perturbed_targets: bool) -> Matched | str:
    """Run the model on changed cells and lay its answers beside the measured effects; or why that cannot be done.

    Parameters
    ----------
    parameters
        ``cells``, ``perturbations``, ``rule`` as in the analysis.
    perturbed_targets
        Whether genes that are perturbed themselves are targets of the others.
    """
    if inp.screen is None:
        return "there is no screen"
    if inp.cells is None or (reason := cannot_run(inp.adapter, parameters["rule"])):
        return reason if inp.cells is not None else "the cells that the model read are not at hand"
    genes, labels, settings = inp.universe.genes, inp.screen.labels, inp.request.settings
    sources, n_not_asked = chosen_sources(inp, labels, most=int(parameters["perturbations"]))
    try:
        effects = in_silico_effects(
            inp.adapter, inp.cells, sources=sources, targets=genes, rule=parameters["rule"],
            cells_per_source=int(parameters["cells"]), min_cells=settings.min_cells, seed=settings.seed,
            rng=lambda use: inp.rng(f"in_silico/{use}"),
        )  # fmt: skip
    except ParameterError as error:
        return f"the model could not be run on changed cells: {error}"
    row = {p: i for i, p in enumerate(labels.effects.perturbations)}
    column = {g: j for j, g in enumerate(labels.effects.genes)}
    i = np.array([row[s] for s in sources], dtype=np.int64)
    j = np.array([column.get(g, -1) for g in genes], dtype=np.int64)
    place = {g: k for k, g in enumerate(genes)}
    own = np.array([place[s] for s in sources], dtype=np.int64)
    seen = np.where(j >= 0, labels.tested[i][:, j], False)
    seen[np.arange(len(sources)), own] = False
    if not perturbed_targets:
        seen[:, own] = False
    turned = -1.0 if inp.screen.modality == "crispra" else 1.0
    model: dict[str, np.ndarray] = {
        c: (turned if c == "ablate" and e.signed else 1.0) * e.effect for c, e in effects.items()
    }
    rival = coexpression_scores(inp.expression, genes=genes, regulators=sources).select(["coexpression_signed"])
    same = rival.observed & np.isfinite(model["ablate"])
    model["coexpression"] = np.where(same, -turned * rival.values[0], np.nan)
    shift, shift_of = composition_shift(inp.screen.cells, sources)
    return Matched(
        sources=sources, targets=genes, model=model,
        observed=np.where(seen, labels.effects.effect[i][:, j], np.nan),
        baseline=np.log1p(np.asarray(inp.expression.expm1().mean(axis=0)).ravel()), shift=shift, shift_of=shift_of,
        positive=np.where(j >= 0, labels.positive[i][:, j], False), effects=effects, n_not_asked=n_not_asked,
    )  # fmt: skip
