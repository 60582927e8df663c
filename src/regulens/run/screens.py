"""From a screen in the plan to effects, labels and the pairs they make: `PreparedScreen`. Nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from regulens.analyses.base import ScreenView
from regulens.errors import InputError, PlanError, examples, nearest
from regulens.plan import Plan, ScreenSection
from regulens.provenance import digest_frame, digest_of, sha256_file
from regulens.types.cells import Cells
from regulens.types.edges import EdgeUniverse
from regulens.types.screens import LabelRule, PerturbationEffects, ResponseLabels, Screen

if TYPE_CHECKING:
    from regulens.io.gene_ids import GeneMap

#: Keys of cells and of screens that say how a file is read.
_READING = ("counts", "log1p_cp10k", "total_counts", "gene_column", "duplicates")


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedScreen:
    """A screen with its labels, before it is known which genes are looked at.

    Parameters
    ----------
    cells
        Single cells; None for a ready table of effects.
    checks, modality, modality_problem, flags
        As in `regulens.analyses.base.ScreenView`.
    unlisted
        Perturbations that edge tables leave out, with the reason.
    """

    section: ScreenSection
    name: str
    cells: Screen | None
    labels: ResponseLabels
    checks: pd.DataFrame
    modality: str
    modality_problem: str
    flags: tuple[str, ...]
    unlisted: dict[str, str] = field(default_factory=dict)

    def lost(self, universe: EdgeUniverse) -> dict[str, str]:
        """Why each perturbation that is not in the universe is not evaluated."""
        return self.labels.kept(universe.genes)[1] | self.unlisted

    def universe(self, genes: tuple[str, ...], *, cells: str, restrictions: tuple[str, ...]) -> EdgeUniverse:
        """Perturbed genes × `genes`, positive where a gene responds."""
        words = self.labels.rule.words(self.labels.effects)
        return self.labels.universe(
            genes=genes, screen=self.name, name=f"{self.name} on {cells}",
            restrictions=(*restrictions, f"responder: {words}"),
        )  # fmt: skip

    def view(self, universe: EdgeUniverse) -> ScreenView:
        """What analyses see."""
        return ScreenView(
            name=self.name, labels=self.labels, cells=self.cells, checks=self.checks, modality=self.modality,
            modality_problem=self.modality_problem, lost=self.lost(universe), flags=self.flags,
        )  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """Digest of cells, effects, labels and checks."""
        cells = "" if self.cells is None else self.cells.digest
        return digest_of(cells, self.labels.digest, digest_frame(self.checks), self.modality, self.flags)

    def record(self, universe: EdgeUniverse) -> dict[str, object]:
        """What the run record says of it."""
        effects = self.labels.effects
        controls = effects.n_controls
        return {
            "name": self.name,
            "source": effects.source,
            "digest": self.digest,
            "kind": "table of effects" if self.cells is None else "cells",
            "rule": self.labels.rule.words(effects),
            "test": effects.test,
            "scale": effects.scale,
            "n_controls": None if controls < 0 else controls,
            "n_cells": None if self.cells is None else self.cells.cells.n_cells,
            "modality": self.modality,
            "modality_problem": self.modality_problem,
            "flags": list(self.flags),
            "dropped": {} if self.cells is None else dict(self.cells.dropped),
            "notes": [] if self.cells is None else list(self.cells.notes),
            "lost": self.lost(universe),
            "counts": dict(universe.counts),
        }


def screen_name(section: ScreenSection) -> str:
    """Name of a screen: as given, else the stem of its file, with the cell line where one is kept."""
    if section.name:
        return section.name
    name = Path(section.source).name
    for ending in (".gz", ".bz2", ".xz", ".zip", ".tsv", ".csv", ".txt", ".parquet", ".h5ad", ".zarr"):
        name = name.removesuffix(ending)
    return f"{name}-{section.only}" if section.only else name


def same_file(plan: Plan, one: str, other: str) -> bool:
    """Whether two sources of a plan are one file, however their paths are written.

    A copy of the same name counts, since a plan is known by the names of its files and by what they hold.
    """
    first, second = (Path(plan.resolve(source)).resolve() for source in (one, other))
    if first == second:
        return True
    if first.name != second.name or not (first.is_file() and second.is_file()):
        return False
    return first.stat().st_size == second.stat().st_size and sha256_file(first) == sha256_file(second)


def check_controls(plan: Plan) -> None:
    """A control label of the cells needs a column, or a screen of the same file that names it.

    Raises
    ------
    PlanError
        When a control label is named without a column.
    """
    cells = plan.cells
    if cells.control is None or cells.perturbation is not None:
        return
    if not any(same_file(plan, s.source, cells.source) for s in plan.screens):
        message = (
            f"The plan has 1 problem: cells.control: expected the column that '{cells.control}' stands in, got "
            "none; name it as cells.perturbation"
        )
        raise PlanError(message)


def own_screens(plan: Plan, screens: dict[str, PreparedScreen]) -> dict[str, Screen]:
    """Screens whose cells lie in the file that the cells are read from, by name."""
    source = plan.cells.source
    cells = {name: s.cells for name, s in screens.items() if same_file(plan, s.section.source, source)}
    return {name: found for name, found in cells.items() if found is not None}


def control_cells(cells: Cells, plan: Plan, screens: dict[str, PreparedScreen]) -> tuple[Cells, str]:
    """The control cells only, where the cells carry perturbations; and what was done, in words.

    Raises
    ------
    InputError
        When no cell has the label, or none is a control.
    PlanError
        When cells with perturbations are read beside a screen and no label says which are unperturbed.
    """
    c, own = plan.cells, own_screens(plan, screens)
    keep, words = np.ones(cells.n_cells, dtype=bool), ""
    if c.control is not None and "perturbation" in cells.roles:
        labels = cells.obs["perturbation"].astype(str)
        keep = (labels == c.control).to_numpy()
        words = f"cells labelled '{c.control}'"
        if not keep.any():
            known = sorted(set(labels))
            message = f"Expected the control label among {examples(known)}, got '{c.control}'."
            raise InputError(f"{message}{nearest(c.control, known)} Name the label of unperturbed cells.")
    if own:
        # One set of cells serves every screen: the controls of all, without cells that any of them counts as perturbed.
        control, perturbed = np.zeros(cells.n_cells, dtype=bool), np.zeros(cells.n_cells, dtype=bool)
        for screen in own.values():
            of_control = screen.obs["control"].to_numpy(dtype=bool)
            control |= cells.obs.index.isin(screen.obs.index[of_control])
            perturbed |= cells.obs.index.isin(screen.obs.index[~of_control])
        keep &= control & ~perturbed
        words = f"control cells of {examples(list(own))}"
    elif screens and not words and "perturbation" in cells.roles:
        message = (
            "The plan has 1 problem: cells.control: expected the label of unperturbed cells, since perturbed cells "
            "must not be read beside a screen; name it"
        )
        raise PlanError(message)
    if not words:
        return cells, ""
    if not keep.any():
        message = f"Expected {words} among the {cells.n_cells} cells, got none. Check the control label."
        raise InputError(message)
    return cells.subset(np.flatnonzero(keep)), f"read in the {int(keep.sum())} {words} of {cells.n_cells} cells"


def _reading(plan: Plan, section: ScreenSection) -> dict[str, Any]:
    """How the file of a screen is read: as its section says; where that is silent and the file is also that of the
    cells, as these are, so that one file never has two library sizes or two sets of genes."""
    own = same_file(plan, section.source, plan.cells.source)
    default = ScreenSection(source=section.source)
    return {
        key: getattr(plan.cells if own and getattr(section, key) == getattr(default, key) else section, key)
        for key in _READING
    }


def prepare_screen(plan: Plan, section: ScreenSection, *, gene_map: GeneMap) -> PreparedScreen:
    """Read a screen, make its effects where it is cells, label and check it.

    Raises
    ------
    InputError, SchemaError, ScaleError
        As `regulens.io.screens.read_screen`.
    """
    from regulens.analyses.screen_checks import check_screen
    from regulens.io.screens import read_screen
    from regulens.stats.screen_effects import effects_of

    name = screen_name(section)
    found = read_screen(
        plan.resolve(section.source), name=name, perturbation=section.perturbation, control=section.control,
        guide=section.guide, replicate=section.replicate, cell_line=section.cell_line, only=section.only,
        modality=section.modality, backed=section.backed, gene_map=gene_map, **_reading(plan, section),
    )  # fmt: skip
    screen = found if isinstance(found, Screen) else None
    effects: PerturbationEffects = effects_of(found, test=section.test) if screen is not None else found
    rule = LabelRule(
        alpha=section.alpha, min_effect=section.min_effect, min_cells=section.min_cells,
        min_positives=section.min_responders,
    )  # fmt: skip
    checks, modality, problem, flags = check_screen(effects, screen, modality=section.modality)
    return PreparedScreen(
        section=section, name=name, cells=screen, labels=ResponseLabels.build(effects, rule), checks=checks,
        modality=modality, modality_problem=problem, flags=tuple(flags),
    )  # fmt: skip


def screen_needs_unmet(needs: tuple[str, ...], screen: PreparedScreen, others: tuple[str, ...]) -> str:
    """Reason why an analysis of this screen cannot run, or an empty string."""
    if "screen_cells" in needs and screen.cells is None:
        return "needs the cells of the screen; a table of effects has none"
    if "other_screens" in needs and not others:
        return "needs a second screen (--perturbation SCREEN, repeated)"
    return ""
