"""Which genes respond under another test, other controls, another threshold? The choices a screen leaves open.

Differential expression is made again for every number of control cells and every test; thresholds are applied to it.
A ready table of effects has its controls and its test behind it: only thresholds can vary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from regulens.analyses.base import AnalysisInput
from regulens.analyses.design_scores import levels_of
from regulens.rng import stream
from regulens.stats.screen_effects import effects_of
from regulens.types.screens import Comparison, PerturbationEffects, ResponseLabels, Screen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparisons:
    """Effects by one test against one number of control cells.

    Parameters
    ----------
    controls
        Control cells; -1 where a table does not say.
    asked
        Numbers of the plan that this stands for.
    """

    test: str
    controls: int
    asked: tuple[int, ...]
    effects: PerturbationEffects


def with_enough_cells(inp: AnalysisInput) -> tuple[str, ...]:
    """Perturbations that every labelling of the grid may keep: those with the cells that the rule asks for."""
    assert inp.screen is not None
    labels = inp.screen.labels
    effects, least = labels.effects, labels.rule.min_cells
    return tuple(p for p, n in zip(effects.perturbations, effects.n_cells) if n < 0 or n >= least)


def comparisons(
    inp: AnalysisInput, *, tests: list[str], controls: list[int], genes: frozenset[str], perturbations: tuple[str, ...]
) -> Iterator[Comparisons]:
    """Effects for every distinct test and number of controls, on the genes that some set holds.

    Controls are the first of one random order, so that fewer are a part of more. What the study has compared already
    is not compared again.
    """
    assert inp.screen is not None
    own, screen = inp.screen.labels.effects, inp.screen.cells
    if screen is None:
        yield Comparisons(test=own.test, controls=own.n_controls, asked=(), effects=_part(own, genes, perturbations))
        return
    row = np.flatnonzero(screen.obs["control"].to_numpy(dtype=bool))
    # one order for all models: their labels must be the same
    seed, name = inp.request.settings.seed, inp.request.reference
    order = stream(seed, f"subsample/design_sensitivity/controls/{name}").permutation(row)
    columns = np.flatnonzero(np.array([g in genes for g in screen.cells.genes.symbols]))
    part = Screen(
        name=screen.name, cells=screen.cells.subset(gene_index=columns), obs=screen.obs, modality=screen.modality
    )
    for used, asked in levels_of(controls, len(row)).items():
        for test in tests:
            if test == own.test and used == own.n_controls == len(row):
                effects = _part(own, genes, perturbations)
            else:
                effects = effects_of(
                    part, test=cast(Comparison, test), controls=order[:used], perturbations=perturbations,
                    jobs=inp.jobs,
                )  # fmt: skip
            yield Comparisons(test=test, controls=used, asked=asked, effects=effects)


def _part(effects: PerturbationEffects, genes: frozenset[str], perturbations: tuple[str, ...]) -> PerturbationEffects:
    row = {p: i for i, p in enumerate(effects.perturbations)}
    column = np.flatnonzero(np.array([g in genes for g in effects.genes]))
    at = np.ix_([row[p] for p in perturbations], column)
    return replace(
        effects, perturbations=perturbations, genes=tuple(effects.genes[j] for j in column), effect=effects.effect[at],
        p=None if effects.p is None else effects.p[at], se=None if effects.se is None else effects.se[at],
        n_cells=np.asarray(effects.n_cells)[at[0].ravel()],
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetLabels:
    """Labels of one comparison on the grid of one gene set, before the threshold of the effect.

    Parameters
    ----------
    significant
        Adjusted p below the level (everything tested, where effects have no p), ``(perturbation, target)``.
    size
        Absolute effect, 0 where not tested.
    tested
        Never the perturbed gene itself.
    """

    significant: np.ndarray
    size: np.ndarray
    tested: np.ndarray

    def positive(self, min_effect: float) -> np.ndarray:
        """Responders."""
        return self.significant & (self.size > min_effect)


def on_set(
    effects: PerturbationEffects, inp: AnalysisInput, *, perturbations: tuple[str, ...], targets: tuple[str, ...],
    alpha: float,
) -> SetLabels:  # fmt: skip
    """Labels of perturbed genes × targets; p are adjusted over the genes of the set that were tested (F13)."""
    assert inp.screen is not None
    made = _part(effects, frozenset(targets), perturbations)
    rule = replace(inp.screen.labels.rule, alpha=alpha, min_effect=0.0)
    labels = ResponseLabels.build(made, rule)
    column = {g: j for j, g in enumerate(made.genes)}
    order = np.array([column[g] for g in targets])
    size = np.where(labels.tested, np.abs(np.where(labels.tested, made.effect, 0.0)), 0.0)
    return SetLabels(
        significant=labels.positive[:, order], size=size[:, order], tested=labels.tested[:, order]
    )  # fmt: skip
