"""The Python interface in one place: what `import regulens as rl` offers, composed from the stages.

Every function here is a few lines over the stage that does the work; read that stage for how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from regulens.errors import AlignmentError, SchemaError, examples
from regulens.plan import Plan
from regulens.progress import SILENT, Progress
from regulens.rng import stream
from regulens.run.audit import Run
from regulens.types.cells import Cells
from regulens.types.edges import EdgeScores, EdgeUniverse
from regulens.types.labelled import LabelledEdges
from regulens.types.networks import ReferenceNetwork

if TYPE_CHECKING:
    from anndata import AnnData

    from regulens.attention.result import Attention
    from regulens.models.base import AbstractAdapter


def audit(
    plan: Plan, *, out: Path | str | None = None, jobs: int | None = None, progress: Progress = SILENT,
    overwrite: bool = False,
) -> Run:  # fmt: skip
    """Run, resume or find finished a whole study, and write its report.

    Parameters are those of `regulens.run.audit.audit`; ``report.html`` and ``report.md`` lie in ``run.path``.
    """
    from regulens.report.build import build_report
    from regulens.run.audit import audit as run_stages

    run = run_stages(plan, out=out, jobs=jobs, progress=progress, overwrite=overwrite)
    stage = progress.stage("report")
    try:
        build_report(run.path)
    finally:
        stage.close()
    return run


def score(
    edges: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    reference: str | Path | Sequence[str | Path] = "bundled:dorothea", expression: str | Path | None = None, *,
    out: Path | str | None = None, jobs: int | None = None, progress: Progress = SILENT, overwrite: bool = False,
    **options: Any,
) -> Run:  # fmt: skip
    """Hold edge tables of any tool against networks, as ``regulens score`` does; a run folder with a report.

    Parameters
    ----------
    edges
        One file, several, ``NAME=FILE``, or a mapping from names to files; see `regulens.io.edge_tables`.
    reference
        One network or several.
    expression
        Cells for co-expression and baselines; without them what needs none is run, and the rest says why not.
    options
        ``absent``, ``column``, ``key``, ``rows``, ``name``, ``screens``, ``overrides``: see
        `regulens.run.score.plan_of_edges`. The others are those of `audit`.
    """
    from regulens.run.score import plan_of_edges

    plan = plan_of_edges(edges, reference, expression=expression, **options)
    return audit(plan, out=out, jobs=jobs, progress=progress, overwrite=overwrite)


def as_cells(data: Cells | AnnData | str | Path, **roles: Any) -> Cells:
    """Cells from an AnnData or an ``.h5ad`` (see `regulens.io.cells.read_cells`); `Cells` pass through."""
    from regulens.io.cells import read_cells

    return data if isinstance(data, Cells) else read_cells(data, **roles)


def extract(
    model: AbstractAdapter, data: Cells | AnnData | str | Path, *, regulators: tuple[str, ...] | list[str],
    genes: tuple[str, ...] | list[str] | None = None, partition: str | tuple[str, ...] = (), seed: int = 42,
    jobs: int = 1, out: Path | str | None = None, **options: Any,
) -> Attention:  # fmt: skip
    """Stream exact attention of `model` over cells into a partitioned store.

    Parameters
    ----------
    model
        A loaded model, ``regulens.models.load("scgpt:DIR")``.
    data
        Cells, AnnData with raw counts, or a path. Not changed.
    regulators, genes
        Symbols of the two axes; `genes` defaults to every gene that the model knows.
    partition
        Column or columns of ``obs`` whose combinations are kept apart: the first is taken as the cell state.
    out
        Folder of the store; in memory when None.

    Raises
    ------
    AlignmentError
        When a regulator is not among the genes.
    """
    from regulens.attention.extract import extract as run_extraction

    cells, roles, genes, kept = _axes(model, data, regulators, genes, partition)
    return run_extraction(
        model, cells, genes=genes, regulators=kept, partition_by=roles, seed=seed, jobs=jobs,
        out=None if out is None else Path(out), **options,
    )  # fmt: skip


def mean_cell_attention(
    model: AbstractAdapter, data: Cells | AnnData | str | Path, *, regulators: tuple[str, ...] | list[str],
    genes: tuple[str, ...] | list[str] | None = None, partition: str | tuple[str, ...] = (), seed: int = 42,
    recipe: str = "probability", **options: Any,
) -> Attention:  # fmt: skip
    """Attention of `model` in the mean cell of every group: the map of the mean, not the mean of the maps.

    Parameters
    ----------
    model, data, regulators, genes, partition
        As for `extract`; without `partition`, one mean cell of all cells.
    recipe
        ``"probability"``, ``"logit"`` or ``"log_probability"``.
    options
        See `regulens.attention.mean_cell.mean_cell_attention`.

    Returns
    -------
    Scores, edges and partitions as those of `extract`, of kind ``mean_cell``.

    Raises
    ------
    AlignmentError
        When a regulator is not among the genes.
    ParameterError
        When the model is causal, or does not say how a layer makes queries and keys.
    """
    from regulens.attention.mean_cell import mean_cell_attention as run

    cells, roles, genes, kept = _axes(model, data, regulators, genes, partition)
    return run(model, cells, genes=genes, regulators=kept, partition_by=roles, seed=seed, recipe=recipe, **options)


def _axes(
    model: AbstractAdapter, data: Cells | AnnData | str | Path, regulators: tuple[str, ...] | list[str],
    genes: tuple[str, ...] | list[str] | None, partition: str | tuple[str, ...],
) -> tuple[Cells, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:  # fmt: skip
    """Cells, roles to divide them by, genes, and the regulators among them."""
    columns = (partition,) if isinstance(partition, str) else tuple(partition)
    names = ("cell_state", "donor", "batch", "perturbation")
    if isinstance(data, Cells):
        roles = tuple(c for c in columns)
        cells = data
    else:
        roles = names[: len(columns)]
        cells = as_cells(data, **dict(zip(names, columns)))
    if genes is None:
        known = model.gene_tokens(cells.genes) >= 0
        genes = tuple(g for g, k in zip(cells.genes.symbols, known) if k)
    usable = set(genes)
    kept = tuple(r for r in dict.fromkeys(regulators) if r in usable)
    if not kept:
        message = (
            f"Expected regulators among the {len(usable)} genes that {model.card.name} and the cells share, got none "
            f"of {examples(list(regulators))}. Check the gene ids."
        )
        raise AlignmentError(message)
    return cells, roles, tuple(genes), kept


def scores_from_table(
    edges: pd.DataFrame, universe: EdgeUniverse, *, source: str = "source", target: str = "target",
    weight: str = "weight", name: str = "score",
) -> EdgeScores:  # fmt: skip
    """Put a long edge table on the grid of a universe; pairs that it does not list are unobserved, not zero.

    Raises
    ------
    SchemaError
        When a column is absent, a weight is not finite, or a pair is listed twice.
    """
    lost = [c for c in (source, target, weight) if c not in edges.columns]
    if lost:
        message = f"Expected columns {source}, {target}, {weight}, got {examples([str(c) for c in edges.columns])}."
        raise SchemaError(message)
    row = {g: i for i, g in enumerate(universe.regulators)}
    column = {g: i for i, g in enumerate(universe.genes)}
    i = edges[source].map(row)
    j = edges[target].map(column)
    inside = (i.notna() & j.notna()).to_numpy()
    i, j = i[inside].to_numpy(dtype=np.int64), j[inside].to_numpy(dtype=np.int64)
    value = edges[weight].to_numpy(dtype=np.float64)[inside]
    if not np.isfinite(value).all():
        message = (
            f"Expected finite weights in column '{weight}', got {int((~np.isfinite(value)).sum())} others. Drop them."
        )
        raise SchemaError(message)
    shape = (len(universe.regulators), len(universe.genes))
    observed = np.zeros(shape, dtype=bool)
    observed[i, j] = True
    if int(observed.sum()) != len(i):
        message = f"Expected every pair once, got {len(i) - int(observed.sum())} repeats. Collapse them first."
        raise SchemaError(message)
    values = np.zeros(shape)
    values[i, j] = value
    return EdgeScores(
        values=values[None], observed=observed & universe.candidate, names=(name,), genes=universe.genes,
        regulators=universe.regulators, scorer="table",
    )  # fmt: skip


def evaluate(
    edges: pd.DataFrame | EdgeScores, reference: ReferenceNetwork, universe: EdgeUniverse, *,
    expression: Cells | AnnData | str | Path | None = None, permutations: int = 1000, seed: int = 42,
) -> pd.DataFrame:  # fmt: skip
    """Recovery of a reference by an edge table, beside trivial scores on identical pairs.

    Parameters
    ----------
    edges
        Long table ``source, target, weight`` or scores.
    universe
        Built from the same `reference`; its positives are the labels.
    expression
        Cells to compute |Spearman| co-expression and gene-level products from; optional.

    Returns
    -------
    One row per score: ``auroc`` with ``low``, ``high`` (95 %, clustered by regulator, and by target where there
    are enough), ``auprc``, ``prevalence``, ``epr`` (precision among the first n⁺ pairs over prevalence),
    ``p_shuffle`` (labels permuted within regulators), ``n_pos``, ``n_neg``; ``undefined`` says why an interval is
    missing.
    """
    from regulens.nulls.label_shuffle import label_shuffle_within_regulator
    from regulens.stats.cluster import auroc_inference
    from regulens.stats.permutation import permutation_p
    from regulens.stats.ranking import average_precision, early_precision

    if reference.name != universe.reference:
        message = f"Expected a universe built from '{reference.name}', got one from '{universe.reference}'."
        raise AlignmentError(message)
    sets = [edges if isinstance(edges, EdgeScores) else scores_from_table(edges, universe)]
    if expression is not None:
        import scipy.sparse as sp

        from regulens.analyses.build import gene_features
        from regulens.scorers.coexpression import coexpression_scores
        from regulens.scorers.gene_level import gene_level_scores

        cells = as_cells(expression)
        index = cells.genes.index(universe.genes)
        if (index < 0).any():
            lost = [g for g, k in zip(universe.genes, index) if k < 0]
            message = f"Expected every gene of the universe in the cells, missing {examples(lost)}. Use the same genes."
            raise AlignmentError(message)
        matrix = sp.csc_matrix(cells.log_normalised(index))
        features = gene_features(matrix, universe.genes)
        axes = {"genes": universe.genes, "regulators": universe.regulators}
        table = {"mean": features.mean, "variance": features.variance, "detection": features.detection}
        sets += [coexpression_scores(matrix, **axes), gene_level_scores(table, **axes)]
    labelled = LabelledEdges.build(sets, universe)
    n_pos, n = labelled.n_pos, len(labelled.label)
    inference = auroc_inference(labelled.scores, labelled.label, labelled.regulator, labelled.target)
    low, high = inference.interval()
    draws = label_shuffle_within_regulator(
        labelled.scores, labelled.label, labelled.regulator, draws=permutations,
        rng=stream(seed, "evaluate/label_shuffle"),
    )  # fmt: skip
    precision = average_precision(labelled.scores, labelled.label)
    early = early_precision(labelled.scores, labelled.label, k=n_pos)
    prevalence = n_pos / n
    return pd.DataFrame(
        {
            "score": labelled.names,
            "auroc": inference.estimate,
            "low": pd.array(low, dtype="Float64"),
            "high": pd.array(high, dtype="Float64"),
            "auprc": precision,
            "prevalence": prevalence,
            "epr": early / prevalence,
            "p_shuffle": [permutation_p(o, d) for o, d in zip(inference.estimate, draws)],
            "n_pos": n_pos,
            "n_neg": n - n_pos,
            "interval": inference.method,
            "undefined": inference.undefined,
        }
    )
