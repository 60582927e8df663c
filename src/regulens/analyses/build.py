"""How do attention, cells and a universe become the `AnalysisInput` that every analysis reads?

Attention scores of both directions, gene-level baselines and co-expression are put on one grid, and all expression
statistics come from the same cells that attention was read in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.analyses.base import AnalysisInput, GeneFeatures, TestRequest
from regulens.analyses.partitions import PartitionView
from regulens.errors import AlignmentError, examples
from regulens.rng import stream
from regulens.scorers.attention import attention_scores
from regulens.scorers.coexpression import coexpression_scores
from regulens.scorers.gene_level import gene_level_scores
from regulens.scorers.marginal_product import marginal_product
from regulens.scorers.random import random_scores
from regulens.types.attention import AttentionSummary, Direction, ModelCard
from regulens.types.cells import Cells
from regulens.types.edges import EdgeScores, EdgeUniverse
from regulens.types.networks import ReferenceNetwork


def gene_features(expression: sp.csc_matrix, genes: tuple[str, ...]) -> GeneFeatures:
    """Mean, variance (population) and detection of every gene.

    Parameters
    ----------
    expression
        log1p(CP10k), CSC, shape ``(cell, gene)``.

    Examples
    --------
    >>> f = gene_features(sp.csc_matrix(np.array([[0.0, 2.0], [4.0, 2.0]])), ("A", "B"))
    >>> f.mean.tolist(), f.variance.tolist(), f.detection.tolist()
    ([2.0, 2.0], [4.0, 0.0], [0.5, 1.0])

    Without cells all three are NaN.
    """
    n = expression.shape[0]
    if not n:
        gap = np.full(expression.shape[1], np.nan)
        return GeneFeatures(genes=tuple(genes), mean=gap, variance=gap, detection=gap)
    mean = np.asarray(expression.sum(axis=0)).ravel() / n
    square = np.asarray(expression.multiply(expression).sum(axis=0)).ravel() / n
    detection = np.asarray((expression != 0).sum(axis=0)).ravel() / n
    variance = np.maximum(square - mean**2, 0.0)
    variance[variance < 1e-12 * np.maximum(square, 1e-300)] = 0.0  # rounding of a constant gene
    return GeneFeatures(genes=tuple(genes), mean=mean, variance=variance, detection=detection)


def _no_scores(universe: EdgeUniverse) -> EdgeScores:
    """No score at all, which restricts no pair."""
    return EdgeScores(
        values=np.zeros((0, *universe.candidate.shape)), observed=universe.candidate, names=(), genes=universe.genes,
        regulators=universe.regulators, scorer="coexpression",
    )  # fmt: skip


def assemble(
    *,
    attention: dict[str, EdgeScores],
    expression: sp.csc_matrix,
    universe: EdgeUniverse,
    request: TestRequest,
    card: ModelCard,
    obs: pd.DataFrame | None = None,
    partitions: PartitionView | None = None,
    networks: Mapping[str, ReferenceNetwork] | None = None,
    universes: Mapping[str, EdgeUniverse] | None = None,
    recipes: Mapping[str, AttentionSummary] | None = None,
    embedding: Callable[[], np.ndarray] | None = None,
    parameters: dict[str, Any] | None = None,
) -> AnalysisInput:
    """Add baselines, co-expression and gene features to attention scores that are already on the universe's grid.

    Parameters
    ----------
    attention
        Direction value → scores on the grid of `universe`.
    expression
        log1p(CP10k) of the cells attention was read in, shape ``(cell, gene)``, genes in the universe's order. Without
        cells there is no co-expression, and baselines are those that a score gives of itself.
    """
    genes, regulators = universe.genes, universe.regulators
    expression = sp.csc_matrix(expression, dtype=np.float64)
    features = gene_features(expression, genes)
    table = {"mean": features.mean, "variance": features.variance, "detection": features.detection}
    primary = attention[request.direction].select([request.primary])
    margin = marginal_product(primary)
    rng = stream(request.settings.seed, f"scorers/random/{request.model}/{request.reference}")
    sets = (
        *([gene_level_scores(table, genes=genes, regulators=regulators)] if expression.shape[0] else []),
        EdgeScores(  # compared on the pairs attention observed anyway; 0 elsewhere is never read
            values=margin.values, observed=np.ones_like(margin.observed), names=margin.names, genes=genes,
            regulators=regulators,
        ),
        random_scores(genes=genes, regulators=regulators, rng=rng),
    )  # fmt: skip
    baselines = EdgeScores(
        values=np.concatenate([s.values for s in sets]),
        observed=primary.observed & universe.candidate,
        names=tuple(n for s in sets for n in s.names),
        genes=genes,
        regulators=regulators,
        scorer="baselines",
    )
    return AnalysisInput(
        request=request,
        card=card,
        universe=universe,
        attention=attention,
        baselines=baselines,
        coexpression=coexpression_scores(expression, genes=genes, regulators=regulators)
        if expression.shape[0]
        else _no_scores(universe),
        features=features,
        expression=expression,
        obs=pd.DataFrame(index=range(expression.shape[0])) if obs is None else obs,
        partitions=partitions,
        networks=dict(networks or {}),
        universes={universe.reference: universe} if universes is None else dict(universes),
        recipes=dict(recipes or {}),
        embedding=embedding,
        parameters=dict(parameters or {}),
    )


def build_input(
    *,
    summary: AttentionSummary,
    cells: Cells,
    universe: EdgeUniverse,
    request: TestRequest,
    card: ModelCard,
    networks: Mapping[str, ReferenceNetwork] | None = None,
    universes: Mapping[str, EdgeUniverse] | None = None,
    recipes: Mapping[str, AttentionSummary] | None = None,
    embedding: Callable[[], np.ndarray] | None = None,
    parameters: dict[str, Any] | None = None,
) -> AnalysisInput:
    """Everything an analysis may look at, for one model and one reference.

    Parameters
    ----------
    summary
        Attention sums and counts; must cover the universe's regulators and genes.
    cells
        Exactly the cells that attention was read in (checked by number).
    universe
        Grid and labels.
    networks, universes, recipes, embedding
        As in `AnalysisInput`.
    parameters
        Overrides of an analysis's default parameters.

    Raises
    ------
    AlignmentError
        When cells and store do not hold the same number of cells, or a gene of the universe is absent.
    """
    stored = int(summary.partitions["n_cells"].sum())
    if stored != cells.n_cells:
        message = (
            f"Expected the {stored} cells that attention was read in, got {cells.n_cells}. "
            "Subset the cells to those that were extracted, so that both sides see the same ones."
        )
        raise AlignmentError(message)
    index = cells.genes.index(universe.genes)
    if (index < 0).any():
        lost = [g for g, i in zip(universe.genes, index) if i < 0]
        message = f"Expected every gene of the universe in the cells, missing {examples(lost)}. Use the same cells."
        raise AlignmentError(message)
    view = None
    if summary.cell_partition is not None:
        view = PartitionView(
            summary=summary, universe=universe, cell_partition=summary.cell_partition,
            min_cells=request.settings.min_cells,
        )  # fmt: skip
    attention = {
        str(d): attention_scores(summary, direction=d, min_cells=request.settings.min_cells).on(universe)
        for d in Direction
    }
    return assemble(
        attention=attention,
        expression=sp.csc_matrix(cells.log_normalised(index)),
        universe=universe,
        request=request,
        card=card,
        obs=cells.obs[list(cells.roles)],
        partitions=view,
        networks=networks,
        universes=universes,
        recipes=recipes,
        embedding=embedding,
        parameters=parameters,
    )
