"""From a plan to checked inputs: cells, models, references, genes, universes. Nothing is written here.

Everything that can be refused is refused in this file, so that a bad input never leaves a half-made run folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from regulens.analyses.base import ANALYSES, SIMULATION, AnalysisSpec, StatisticsSettings, TestRequest
from regulens.errors import InputError, NamespaceError, PlanError, examples, nearest
from regulens.models.spec import parse
from regulens.plan import AnalysisSection, CellsSection, Plan, ReferenceSection
from regulens.progress import SILENT, Progress
from regulens.rng import stream
from regulens.types.cells import ROLES, Cells
from regulens.types.edges import EdgeUniverse
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
        wanted = {r for u in self.universes.values() for r in u.regulators}
        return tuple(g for g in self.genes if g in wanted)


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
    _unique(models, "model")
    _unique(references, "reference")
    settings = settings_of(plan)
    planned = []

    def register(sections: list[AnalysisSection], model: str, reference: str) -> None:
        for section in sections:
            spec = ANALYSES[section.name]
            request = TestRequest(
                model=model, reference=reference, protocol=section.protocol, primary=plan.primary,
                direction=plan.direction, settings=settings,
            )  # fmt: skip
            planned.append(PlannedAnalysis(section=section, spec=spec, request=request, tests=spec.plan(request)))

    simulated = [s for s in plan.analyses if ANALYSES[s.name].scope == "simulation"]
    for model in models:
        for reference in references:
            register([s for s in plan.analyses if s not in simulated], model, reference)
    register(simulated, SIMULATION, SIMULATION)
    return tuple(planned)


def unmet_needs(spec: AnalysisSpec, cells: Cells) -> str:
    """Reason why an analysis cannot run on these cells, or an empty string."""
    lost = [need for need in spec.needs if need in ROLES and need not in cells.roles]
    if not lost:
        return ""
    option = lost[0].replace("_", "-")
    return f"needs {examples(lost)}, which no column of the cells was named for (--{option} COLUMN)"


def _read_cells(plan: Plan) -> Cells:
    from regulens.io.cells import read_cells
    from regulens.io.demo import DEMOS, load_demo

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
    return read_cells(
        plan.resolve(c.source), cell_state=c.cell_state, donor=c.donor, batch=c.batch, perturbation=c.perturbation,
        counts=c.counts, log1p_cp10k=c.log1p_cp10k, gene_column=c.gene_column, duplicates=c.duplicates,
        total_counts=c.total_counts, name=c.name, backed=c.backed,
    )  # fmt: skip


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
    stage = progress.stage("reading inputs", 2 + len(plan.models) + len(plan.references))
    try:
        cells = _subsample(_read_cells(plan), plan)
        stage.advance()
        gene_map = GeneMap.bundled()
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
        gene_index, words = select_genes(
            cells, n_top=plan.universe.genes, regulators=sorted(candidates),
            min_cells=min(plan.universe.min_cells_expressing, cells.n_cells),
        )  # fmt: skip
        # A gene that no model can see would only add pairs that are missing everywhere.
        seen = np.zeros(cells.n_genes, dtype=bool)
        for known in vocabulary.values():
            seen |= known
        unseen = int((~seen[gene_index]).sum())
        gene_index = gene_index[seen[gene_index]]
        restrictions = [words]
        if unseen:
            restrictions.append(f"{unseen} genes left out that no model of this run has in its vocabulary")
        genes = tuple(cells.genes.symbols[i] for i in gene_index)
        if len(genes) < 2:
            message = f"Expected at least 2 genes to make pairs of, got {len(genes)}. Check the gene ids."
            raise InputError(message)
        universes = {
            name: EdgeUniverse.build(
                genes=genes, reference=reference, restrictions=tuple(restrictions), name=f"{name} on {cells.name}",
                regulators=None if listed is None else listed, input_genes=cells.genes.symbols,
            )
            for name, reference in references.items()
        }  # fmt: skip
        stage.advance()
    finally:
        stage.close()
    return Prepared(
        plan=plan, settings=settings, analyses=analyses, cells=cells, adapters=adapters, references=references,
        gene_index=gene_index, universes=universes, vocabulary=vocabulary, notes=tuple(restrictions),
        dropped={"genes_unseen_by_any_model": unseen, "cells_without_a_known_gene": unreadable},
    )  # fmt: skip
