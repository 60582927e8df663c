"""From a plan to checked inputs: cells, models, references, screens, genes, universes. Nothing is written here.

Everything that can be refused is refused in this file, so that a bad input never leaves a half-made run folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from regulens.analyses.base import ANALYSES, SIMULATION, AnalysisSpec, StatisticsSettings, TestRequest
from regulens.errors import InputError, NamespaceError, PlanError, examples, nearest
from regulens.models.spec import parse
from regulens.plan import LISTED, NO_CELLS, AnalysisSection, CellsSection, Plan, ReferenceSection
from regulens.progress import SILENT, Progress
from regulens.provenance import digest_of
from regulens.rng import stream
from regulens.run.listed import (
    check_listed,
    enough_listed,
    listed_genes,
    listed_perturbations,
    listed_regulators,
    no_cells,
    with_listed,
)
from regulens.run.screens import (
    PreparedScreen,
    check_controls,
    control_cells,
    own_screens,
    prepare_screen,
    screen_name,
    screen_needs_unmet,
)
from regulens.types.cells import ROLES, Cells
from regulens.types.edges import EdgeUniverse
from regulens.types.endpoints import Endpoint
from regulens.types.ledger import PlannedTest
from regulens.types.networks import ReferenceNetwork

if TYPE_CHECKING:
    from regulens.models.base import AbstractAdapter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedAnalysis:
    """One analysis of one model against one reference, with the tests it registered."""

    section: AnalysisSection
    spec: AnalysisSpec
    request: TestRequest
    tests: tuple[PlannedTest, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Checked inputs of a run.

    Parameters
    ----------
    cells
        The cells attention is read in, all genes; already subsampled.
    gene_index
        Columns of `cells` that are target genes of some universe, ascending.
    universes
        One per reference, by reference name.
    screens, screen_universes
        Screens of perturbations, and the pairs that each makes, by name of the screen.
    vocabulary
        Per model: bool, shape ``(gene,)`` of `cells`; True where the model knows the gene.
    """

    plan: Plan
    settings: StatisticsSettings
    analyses: tuple[PlannedAnalysis, ...]
    cells: Cells
    adapters: dict[str, AbstractAdapter]
    references: dict[str, ReferenceNetwork]
    gene_index: np.ndarray
    universes: dict[str, EdgeUniverse]
    vocabulary: dict[str, np.ndarray]
    screens: dict[str, PreparedScreen] = field(default_factory=dict)
    screen_universes: dict[str, EdgeUniverse] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def without_attention(self) -> frozenset[str]:
        """Names of models that score pairs from their weights alone."""
        return frozenset(name for name, adapter in self.adapters.items() if adapter.card.n_layers == 0)

    @property
    def n_blocks(self) -> int | Literal["auto"]:
        """Random blocks of cells per group of the store: as asked, else only where an analysis resamples cells."""
        asked = self.plan.extraction.blocks
        if asked != "auto":
            return asked
        return "auto" if any("blocks" in item.spec.needs for item in self.analyses) else 1

    @property
    def genes(self) -> tuple[str, ...]:
        """Symbols of the target axis of extraction."""
        return tuple(self.cells.genes.symbols[i] for i in self.gene_index)

    @property
    def regulators(self) -> tuple[str, ...]:
        """Regulators of any universe, in gene order."""
        universes = (*self.universes.values(), *self.screen_universes.values())
        wanted = {r for u in universes for r in u.regulators}
        return tuple(g for g in self.genes if g in wanted)

    def universe_of(self, name: str) -> EdgeUniverse:
        """Universe of a reference or of a screen."""
        return self.screen_universes[name] if name in self.screen_universes else self.universes[name]

    @property
    def labels_digest(self) -> str:
        """Digest of every network and every screen that an analysis may hold scores against."""
        return digest_of(
            [(n, r.digest, self.universes[n].digest) for n, r in self.references.items()],
            [(n, s.digest, self.screen_universes[n].digest) for n, s in self.screens.items()],
        )


def settings_of(plan: Plan) -> StatisticsSettings:
    """Statistics of the plan as the analyses take them."""
    s = plan.statistics
    return StatisticsSettings(
        seed=plan.seed, bootstrap=s.bootstrap, permutations=s.permutations, alpha=s.alpha, seoi=s.seoi,
        min_cells=s.min_cells,
    )  # fmt: skip


def _unique(names: list[str], what: str) -> None:
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        message = (
            f"Expected one name per {what}, got {examples(repeated)} more than once. Give each a `name` in the plan."
        )
        raise PlanError(message)


def reference_name(section: ReferenceSection) -> str:
    """Name of a reference: as given, else the stem of its file or bundled name."""
    if section.name:
        return section.name
    source = section.source.removeprefix("bundled:")
    name = Path(source).name if not section.source.startswith("bundled:") else source.replace(":", "-")
    for ending in (".gz", ".bz2", ".xz", ".zip", ".tsv", ".csv", ".txt", ".parquet", ".sif", ".graphml"):
        name = name.removesuffix(ending)
    return name


def model_names(plan: Plan) -> list[str]:
    """Names of the models: as given, else the last part of the place, with the values of options."""
    return [m.name or parse(m.spec).name for m in plan.models]


def plan_analyses(plan: Plan) -> tuple[PlannedAnalysis, ...]:
    """Register every test from names alone: no file has been opened when this runs."""
    models = model_names(plan)
    references = [reference_name(r) for r in plan.references]
    screens = [screen_name(s) for s in plan.screens]
    _unique(models, "model")
    _unique([*references, *screens], "reference or screen")
    settings = settings_of(plan)
    planned = []

    # A simulation says something about numbers of its endpoint; a study without these has no use for it.
    asked = ((Endpoint.REFERENCE_RECOVERY, references), (Endpoint.PERTURBATION_RESPONSE, screens))
    endpoints = {endpoint for endpoint, names in asked if names}

    def register(scope: str, model: str, reference: str, others: tuple[str, ...] = ()) -> None:
        for section in plan.analyses:
            spec = ANALYSES[section.name]
            if spec.scope != scope or (scope == "simulation" and spec.endpoint not in endpoints):
                continue
            request = TestRequest(
                model=model, reference=reference, others=others, protocol=section.protocol, primary=plan.primary,
                direction=plan.direction, settings=settings,
            )  # fmt: skip
            planned.append(PlannedAnalysis(section=section, spec=spec, request=request, tests=spec.plan(request)))

    for model in models:
        for reference in references:
            register("model_reference", model, reference)
        for screen in screens:
            register("model_screen", model, screen, tuple(s for s in screens if s != screen))
    register("simulation", SIMULATION, SIMULATION)
    if not planned:
        names = [s.name for s in plan.analyses]
        wanted = "screen (--perturbation SCREEN)" if not screens else "reference (--reference NETWORK)"
        message = f"Expected an analysis that this study can run, got only {examples(names)}. Add a {wanted}."
        raise PlanError(message)
    return tuple(planned)


def unmet_needs(item: PlannedAnalysis, prepared: Prepared) -> str:
    """Reason why an analysis cannot run on these inputs, or an empty string."""
    needs, name = item.spec.needs, item.request.reference
    lost = [need for need in needs if need in ROLES and need not in prepared.cells.roles]
    if lost:
        option = lost[0].replace("_", "-")
        return f"needs {examples(lost)}, which no column of the cells was named for (--{option} COLUMN)"
    if "expression" in needs and not prepared.cells.n_cells:
        return "needs expression, and the study has no cells (--expression CELLS)"
    if name in prepared.screens:
        return screen_needs_unmet(needs, prepared.screens[name], item.request.others)
    return ""


def _read_cells(plan: Plan, screens: dict[str, PreparedScreen]) -> Cells:
    from regulens.io.cells import read_cells
    from regulens.io.demo import DEMOS, load_demo
    from regulens.io.screens import some_cells

    c = plan.cells
    if c.source.startswith("demo:"):
        name = c.source.removeprefix("demo:")
        if name not in DEMOS:
            message = f"Expected demo cells among {examples(list(DEMOS))}, got '{name}'.{nearest(name, list(DEMOS))}"
            raise PlanError(message)
        defaults = CellsSection()
        odd = [
            k
            for k in CellsSection.model_fields
            if k not in ("source", "name") and getattr(c, k) != getattr(defaults, k)
        ]
        if odd:
            message = (
                f"Expected no options for the embedded cells '{c.source}', got {examples(odd)}. "
                "They come with counts and cell states; leave these out."
            )
            raise PlanError(message)
        return load_demo(name)
    path = plan.resolve(c.source)
    source, own = path, own_screens(plan, screens)
    if own and all(screens[name].section.only for name in own):
        # Lines that no screen keeps may be on another scale, and are not looked at here either.
        source = some_cells(path, [n for s in own.values() for n in s.cells.obs.index], c.backed)
    cells = read_cells(
        source, cell_state=c.cell_state, donor=c.donor, batch=c.batch, perturbation=c.perturbation,
        counts=c.counts, log1p_cp10k=c.log1p_cp10k, gene_column=c.gene_column, duplicates=c.duplicates,
        total_counts=c.total_counts, name=c.name or Path(path).stem, backed=c.backed if source is path else "auto",
    )  # fmt: skip
    return cells if source is path else replace(cells, source=cells.source.replace("AnnData", Path(path).name, 1))


def _subsample(cells: Cells, plan: Plan) -> Cells:
    limit = plan.extraction.max_cells
    if limit is None or cells.n_cells <= limit:
        return cells
    rows = stream(plan.seed, "cells/subsample").choice(cells.n_cells, size=limit, replace=False)
    return cells.subset(np.sort(rows))


def _regulators(plan: Plan) -> tuple[str, ...] | None:
    from regulens.io.references import read_regulators

    wanted = plan.universe.regulators
    if wanted == "reference":
        return None
    return read_regulators(wanted if wanted.startswith("bundled:") else plan.resolve(wanted))


def check_primary(plan: Plan, adapters: dict[str, AbstractAdapter]) -> None:
    """Refuse a pre-specified layer or head that a model does not have."""
    if plan.primary == "pooled":
        return
    layer = int(plan.primary[1:3])
    head = int(plan.primary[5:7]) if plan.primary[4] == "H" else 0
    for name, adapter in adapters.items():
        if adapter.card.n_layers == 0:
            message = (
                f"Expected a primary score that every model has, got '{plan.primary}': {name} has no attention layers. "
                "Set `primary: pooled`."
            )
            raise PlanError(message)
        if layer >= adapter.card.n_layers or head >= adapter.card.n_heads:
            message = (
                f"Expected a primary score that every model has, got '{plan.primary}': {name} has layers "
                f"0-{adapter.card.n_layers - 1} and heads 0-{adapter.card.n_heads - 1}. Set `primary: pooled`."
            )
            raise PlanError(message)


def prepare(plan: Plan, *, progress: Progress = SILENT) -> Prepared:
    """Read and check every input of the plan.

    Raises
    ------
    PlanError, InputError, ModelError
        In one sentence each: what was expected, what was found, what to do.
    """
    from regulens import models
    from regulens.io.gene_ids import GeneMap
    from regulens.io.genes_selection import select_genes
    from regulens.io.references import read_reference

    analyses = plan_analyses(plan)
    settings = settings_of(plan)
    stage = progress.stage("reading inputs", 2 + len(plan.models) + len(plan.references) + len(plan.screens))
    try:
        gene_map = GeneMap.bundled()
        check_controls(plan)
        screens = {}
        for section in plan.screens:
            screens[screen_name(section)] = prepare_screen(plan, section, gene_map=gene_map)
            stage.advance()
        cells, words_of_controls = None, ""
        if plan.cells.source != NO_CELLS:
            cells, words_of_controls = control_cells(_read_cells(plan, screens), plan, screens)
            cells = _subsample(cells, plan)
        stage.advance()
        references = {
            reference_name(r): read_reference(
                plan.resolve(r.source), gene_map=gene_map, name=reference_name(r), levels=r.levels or None
            )
            for r in plan.references
        }
        stage.advance(len(references))
        adapters = {}
        for name, m in zip(model_names(plan), plan.models):
            adapters[name] = models.load(plan.resolve(m.spec), name=name)
            stage.advance()
        check_primary(plan, adapters)
        check_listed(plan, adapters)
        cells = no_cells(adapters) if cells is None else cells
        vocabulary = {}
        for name, adapter in adapters.items():
            known = adapter.gene_tokens(cells.genes) >= 0
            if not known.any():
                message = (
                    f"Expected genes that {name} knows, got none of {cells.n_genes} in common with its vocabulary of "
                    f"{adapter.card.vocabulary_size} ({adapter.card.namespace}; cells start with "
                    f"{examples(cells.genes.symbols, limit=3)}). Check the gene ids (--gene-column) and the species."
                )
                raise NamespaceError(message)
            vocabulary[name] = known
        # Every model is judged on the same cells, so a cell that one of them cannot read leaves all of them.
        readable = np.ones(cells.n_cells, dtype=bool)
        reading = [k for name, k in vocabulary.items() if adapters[name].card.n_layers > 0]  # others read no cells
        for detected in cells.genes_detected(*reading):
            readable &= detected > 0
        unreadable = int((~readable).sum())
        if unreadable:
            if unreadable == cells.n_cells:
                message = f"Expected cells with genes that every model knows, got none of {cells.n_cells}."
                raise NamespaceError(message)
            cells = cells.subset(np.flatnonzero(readable))
        listed = _regulators(plan)
        candidates = {s for r in references.values() for s in r.edges["source"]}
        if listed is not None:
            candidates &= set(listed)
        for screen in screens.values():
            candidates |= set(screen.labels.effects.perturbations)
        min_cells = min(plan.universe.min_cells_expressing, cells.n_cells)
        only_listed = plan.universe.genes == LISTED
        if plan.universe.genes == LISTED:
            gene_index, words = listed_genes(cells, adapters, min_cells=min_cells)
        else:
            gene_index, words = select_genes(
                cells, n_top=plan.universe.genes, regulators=sorted(candidates), min_cells=min_cells
            )
        # A gene that no model can see would only add pairs that are missing everywhere.
        seen = np.zeros(cells.n_genes, dtype=bool)
        for known in vocabulary.values():
            seen |= known
        unseen = int((~seen[gene_index]).sum())
        gene_index = gene_index[seen[gene_index]]
        restrictions = [words] + ([words_of_controls] if words_of_controls else [])
        if unseen:
            restrictions.append(f"{unseen} genes left out that no model of this run has in its vocabulary")
        genes = tuple(cells.genes.symbols[i] for i in gene_index)
        if len(genes) < 2:
            message = f"Expected at least 2 genes to make pairs of, got {len(genes)}. Check the gene ids."
            raise InputError(message)
        universes = {}
        for name, reference in references.items():
            wanted = listed
            if only_listed:
                by_tables = listed_regulators(adapters, reference)
                wanted = by_tables if listed is None else tuple(r for r in by_tables if r in set(listed))
            universe = EdgeUniverse.build(
                genes=genes, reference=reference, restrictions=tuple(restrictions), name=f"{name} on {cells.name}",
                regulators=wanted, input_genes=cells.genes.symbols,
            )  # fmt: skip
            sources = universe.counts["reference_sources"] if only_listed else 0
            universes[name] = with_listed(universe, adapters, sources=sources)
        screen_universes = {}
        for name, screen in screens.items():
            universe = screen.universe(genes, cells=cells.name, restrictions=tuple(restrictions))
            unlisted: dict[str, str] = {}
            if only_listed:
                universe, unlisted = listed_perturbations(universe, adapters)
            universe, too_few = enough_listed(universe, adapters, screen.labels.rule)
            screens[name] = replace(screen, unlisted=unlisted | too_few)
            screen_universes[name] = with_listed(universe, adapters)
        stage.advance()
    finally:
        stage.close()
    return Prepared(
        plan=plan, settings=settings, analyses=analyses, cells=cells, adapters=adapters, references=references,
        gene_index=gene_index, universes=universes, vocabulary=vocabulary, screens=screens,
        screen_universes=screen_universes, notes=tuple(restrictions),
        dropped={"genes_unseen_by_any_model": unseen, "cells_without_a_known_gene": unreadable},
    )  # fmt: skip
