"""What an analysis is: a frozen `AnalysisSpec` that names its question, plans its tests and answers it.

Tests are planned from names alone (models, references, parameters), before any data is read. The answer is made
from an `AnalysisInput`, which holds the values of the earlier stages and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.analyses.partitions import PartitionView
from regulens.registry import Registry
from regulens.rng import stream
from regulens.types.attention import AttentionSummary, ModelCard
from regulens.types.cells import Cells
from regulens.types.edges import EdgeScores, EdgeUniverse
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import PlannedTest
from regulens.types.networks import ReferenceNetwork
from regulens.types.results import AnalysisOutcome
from regulens.types.screens import ResponseLabels, Screen


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsSettings:
    """Numbers that every analysis shares; the defaults of `docs/concepts.md`.

    Parameters
    ----------
    bootstrap, permutations
        Draws.
    alpha
        Level of tests and, as 1 − alpha, of intervals.
    seoi
        Smallest AUROC difference of interest, over the null.
    min_cells
        A pair must have met in at least this many cells to be observed.
    """

    seed: int = 42
    bootstrap: int = 2000
    permutations: int = 1000
    alpha: float = 0.05
    seoi: float = 0.02
    min_cells: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRequest:
    """What is known when tests are planned: names and settings, no data.

    Parameters
    ----------
    reference
        Name of the curated network, or of the screen, that scores are held against.
    others
        Names of the other screens of the study, where `reference` is a screen.
    """

    __test__ = False

    model: str
    reference: str
    others: tuple[str, ...] = ()
    protocol: Protocol = Protocol.CORRECTED
    primary: str = "pooled"
    direction: str = "regulator_attends"
    settings: StatisticsSettings = StatisticsSettings()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneFeatures:
    """Statistics of the universe's genes over the cells that attention was read in.

    Parameters
    ----------
    genes
        Symbols, the universe's order.
    mean, variance
        Of log1p(CP10k), float64, shape ``(gene,)``.
    detection
        Share of cells with a non-zero count, in [0, 1].
    """

    genes: tuple[str, ...]
    mean: np.ndarray
    variance: np.ndarray
    detection: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScreenView:
    """A screen as analyses see it; which genes respond is also in the universe, on the universe's genes.

    Parameters
    ----------
    labels
        Effects, rule and labels over all measured genes and all perturbations.
    cells
        The screen's cells, for comparisons that have to be made again; None for a ready table of effects.
    checks
        One row per perturbation: whether its own target moved as the modality says (`analyses.screen_checks`).
    modality
        As declared or recognised; empty when nobody said.
    modality_problem
        Why the modality is not verified, or an empty string.
    lost
        Perturbations that are not in the universe, with the reason.
    flags
        What is wrong with the design of the screen (replicates confounded with perturbations, ...), in sentences.
    """

    name: str
    labels: ResponseLabels
    cells: Screen | None
    checks: pd.DataFrame
    modality: str = ""
    modality_problem: str = ""
    lost: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnalysisInput:
    """Everything an analysis may look at for one model and one reference.

    Parameters
    ----------
    attention
        Scores of both directions' maps: a dict from direction value to `EdgeScores` that holds every head
        (``L00_H00``), every layer's mean over heads (``L00_mean``) and ``pooled``, on the universe's grid.
    baselines
        Gene-level scores: ``product_mean``, ``product_variance``, ``product_detection``, ``source_mean`` ...,
        ``target_mean`` ..., ``marginal_product`` (of the primary attention score), ``random``.
    coexpression
        ``coexpression_abs`` and ``coexpression_signed`` (Spearman over the same cells).
    expression
        log1p(CP10k) of the same cells, CSC, shape ``(cell, gene)``, genes in the universe's order. Without cells
        (`has_expression`), `baselines` and `coexpression` hold only what needs none, and features are NaN.
    obs
        Role columns (``cell_state``, ``donor``, ... as far as named) of the same cells, one row per cell.
    partitions
        Attention by partition; None for a model that scores pairs from its weights alone.
    networks, universes
        Every reference of the study by name, and its universe on the same genes; the analysis' own is among them.
    recipes
        Attention under other recipes than the study's own, by recipe, extracted for the analyses that need them.
    embedding
        Makes the model's own embedding of every cell, float64, shape ``(cell, width)``, NaN for a cell without tokens;
        None for a model that reads no cells. Costs a forward pass over all cells the first time.
    recipe_gaps
        Recipes that were asked for and could not be extracted, with the reason.
    inferred
        Scores of methods that infer networks from expression, and of imported edge tables, by name; made once per
        study and handed to the analyses that need them.
    screen
        The screen that scores are held against; None where it is a curated network. The rows of `universe` are then
        its perturbed genes, its positives the responders.
    others
        Makes the same input for each other screen of the study, by name.
    adapter, cells
        The loaded model and the cells that it read, for analyses that run it again; None where there is none.
    jobs
        Worker processes that an analysis may use; no number depends on it.
    """

    request: TestRequest
    card: ModelCard
    universe: EdgeUniverse
    attention: dict[str, EdgeScores]
    baselines: EdgeScores
    coexpression: EdgeScores
    features: GeneFeatures
    expression: sp.csc_matrix
    obs: pd.DataFrame = field(default_factory=pd.DataFrame)
    partitions: PartitionView | None = None
    networks: Mapping[str, ReferenceNetwork] = field(default_factory=dict)
    universes: Mapping[str, EdgeUniverse] = field(default_factory=dict)
    recipes: Mapping[str, AttentionSummary] = field(default_factory=dict)
    embedding: Callable[[], np.ndarray] | None = None
    recipe_gaps: Mapping[str, str] = field(default_factory=dict)
    inferred: Mapping[str, EdgeScores] = field(default_factory=dict)
    screen: ScreenView | None = None
    others: Mapping[str, Callable[[], AnalysisInput]] = field(default_factory=dict)
    adapter: Any = None
    cells: Cells | None = None
    jobs: int = 1
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def has_expression(self) -> bool:
        """Whether there are cells: an edge table can be held against a reference without any."""
        return self.expression.shape[0] > 0

    @property
    def primary(self) -> EdgeScores:
        """The pre-specified attention score, alone."""
        return self.attention[self.request.direction].select([self.request.primary])

    def stream_name(self, use: str) -> str:
        """Name of a random stream of this analysis, model and reference."""
        return f"{use}/{self.request.model}/{self.request.reference}"

    def rng(self, use: str) -> np.random.Generator:
        """Generator for a named use; the same for the same plan whatever else runs."""
        return stream(self.request.settings.seed, self.stream_name(use))


#: Model and reference of an analysis that simulates its data, in test ids, tables and files.
SIMULATION = "simulation"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationInput:
    """What an analysis that simulates its own data may look at: settings, parameters and named streams."""

    request: TestRequest
    parameters: dict[str, Any] = field(default_factory=dict)

    def stream_name(self, use: str) -> str:
        """Name of a random stream of this analysis."""
        return f"{use}/{self.request.model}/{self.request.reference}"

    def rng(self, use: str) -> np.random.Generator:
        """Generator for a named use; the same for the same plan whatever else runs."""
        return stream(self.request.settings.seed, self.stream_name(use))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSpec:
    """A registered analysis.

    Parameters
    ----------
    version
        Bumped on any change of meaning; part of the cache key.
    plan
        Names → planned tests. Pure; called before data is read.
    run
        `AnalysisInput` (`SimulationInput` where the scope says so) → `AnalysisOutcome`; must record every planned
        test.
    needs
        What the input must hold: ``attention``, ``expression``, ``reference``; a role of the cells (``donor``);
        ``blocks``, random blocks of cells in the store; ``recipes``, attention under other recipes, those that its
        parameter of that name lists; ``inferred``, scores of its parameters ``methods`` and ``tables``.
    parameters
        Default parameters with their values; a plan may override these names and no others.
    protocols
        Protocols that the analysis knows.
    scope
        ``model_reference``: runs for every model and reference. ``model_screen``: runs for every model and screen of
        perturbations. ``simulation``: makes its own data, reads no cells,
        model or reference, and runs once per study; its numbers are marked as simulated wherever they are shown.
    """

    name: str
    version: int
    title: str
    question: str
    endpoint: Endpoint
    needs: tuple[str, ...]
    plan: Callable[[TestRequest], tuple[PlannedTest, ...]]
    run: Callable[[Any], AnalysisOutcome]
    reference: str
    falsified_by: str
    parameters: dict[str, Any] = field(default_factory=dict)
    protocols: tuple[Protocol, ...] = (Protocol.CORRECTED,)
    scope: Literal["model_reference", "model_screen", "simulation"] = "model_reference"


#: Built-in analyses, in the order they are run and reported.
ANALYSES: Registry[AnalysisSpec] = Registry(
    "analysis",
    {
        "reference_recovery": "regulens.analyses.reference_recovery:SPEC",
        "gene_level_baselines": "regulens.analyses.gene_level_baselines:SPEC",
        "expression_matched": "regulens.analyses.expression_matched:SPEC",
        "coexpression_dominance": "regulens.analyses.coexpression_dominance:SPEC",
        "degree_null": "regulens.analyses.degree_null:SPEC",
        "cross_fitted_residual": "regulens.analyses.cross_fitted_residual:SPEC",
        "tf_resolution": "regulens.analyses.tf_resolution:SPEC",
        "reference_sensitivity": "regulens.analyses.reference_sensitivity:SPEC",
        "grn_method_baselines": "regulens.analyses.grn_method_baselines:SPEC",
        "recipe_sensitivity": "regulens.analyses.recipe_sensitivity:SPEC",
        "layer_hierarchy": "regulens.analyses.layer_hierarchy:SPEC",
        "cssi": "regulens.analyses.cssi:SPEC",
        "synthetic_cssi": "regulens.analyses.synthetic_cssi:SPEC",
        "cell_count_scaling": "regulens.analyses.cell_count_scaling:SPEC",
        "composition_control": "regulens.analyses.composition_control:SPEC",
        "metric_dependence": "regulens.analyses.metric_dependence:SPEC",
        "list_truncation": "regulens.analyses.list_truncation:SPEC",
        "perturbation_recovery": "regulens.analyses.perturbation_recovery:SPEC",
        "perturbation_baselines": "regulens.analyses.perturbation_baselines:SPEC",
        "incremental_value": "regulens.analyses.incremental_value:SPEC",
        "propensity_matched": "regulens.analyses.propensity_matched:SPEC",
        "design_sensitivity": "regulens.analyses.design_sensitivity:SPEC",
        "rank_consistency": "regulens.analyses.rank_consistency:SPEC",
        "dataset_generalisation": "regulens.analyses.dataset_generalisation:SPEC",
        "calibration": "regulens.analyses.calibration:SPEC",
        "conformal": "regulens.analyses.conformal:SPEC",
    },
    group="regulens.analyses",
)
