"""What do scores say on another set of genes? Read from the study's maps, or by the model run again on those genes.

A gene that the model does not see takes no attention: leaving genes out of a map afterwards and leaving them out of
the cells are two questions. Both take co-expression and gene-level statistics from the very cells of the attention.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp

from regulens.analyses.base import AnalysisInput
from regulens.analyses.build import gene_features
from regulens.errors import InputError
from regulens.io.genes_selection import most_variable, select_genes
from regulens.rng import stream
from regulens.scorers.coexpression import coexpression_scores
from regulens.types.attention import AttentionSummary, Direction
from regulens.types.cells import Cells

#: How the attention of a set of genes is had.
GeneSets = Literal["read", "reextract"]

RIVAL = "coexpression_abs"
BASELINES = ("target_mean", "target_variance", "target_detection")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetScores:
    """Attention, co-expression and gene-level statistics of perturbed genes × the genes of one set.

    Parameters
    ----------
    asked
        Sizes of the plan that this set stands for: several where the data have fewer genes.
    perturbations
        Perturbed genes (rows); they need not be in the set.
    targets
        The genes of the set (columns).
    names
        Attention first, then `RIVAL` and `BASELINES`.
    values
        Shape ``(score, perturbation, target)``, finite where observed.
    observed
        Pairs that attention and co-expression both observed, bool ``(perturbation, target)``; never a self-pair.
    n_cells
        Cells that all of it was read in.
    """

    asked: tuple[int, ...]
    perturbations: tuple[str, ...]
    targets: tuple[str, ...]
    names: tuple[str, ...]
    values: np.ndarray
    observed: np.ndarray
    n_cells: int


def way_of(inp: AnalysisInput, asked: str) -> tuple[GeneSets, str]:
    """How gene sets are had for this model, and why not as `asked` where that cannot be."""
    if asked == "read":
        return "read", ""
    if inp.card.n_layers == 0:
        return "read", "the model scores pairs without reading cells; nothing can be extracted again"
    if inp.adapter is None or inp.cells is None:
        return "read", "the model is not at hand; only its finished maps are"
    return "reextract", ""


def levels_of(asked: list[int], available: int) -> dict[int, tuple[int, ...]]:
    """Level that the data can give → levels asked for, ascending.

    >>> levels_of([500, 2000, 10000], 2386)
    {500: (500,), 2000: (2000,), 2386: (10000,)}
    >>> levels_of([1000, 2000], 299)
    {299: (1000, 2000)}
    """
    found: dict[int, tuple[int, ...]] = {}
    for level in sorted(asked):
        used = min(level, available)
        found[used] = (*found.get(used, ()), level)
    return found


def set_scores(
    inp: AnalysisInput, sizes: list[int], *, measured: frozenset[str], perturbations: tuple[str, ...], way: GeneSets,
    max_cells: int | None, memory: int | str | None,
) -> Iterator[SetScores]:  # fmt: skip
    """Scores of the most variable genes, one set after the other, smallest first.

    Parameters
    ----------
    measured
        Genes that the screen measured; others cannot respond and belong to no set.
    perturbations
        Perturbed genes with enough cells. By reading, only those whose attention the study kept are had.
    max_cells, memory
        Of the extraction.
    """
    if way == "read":
        yield from _read(inp, sizes, measured)
    else:
        yield from _extracted(inp, sizes, measured, perturbations, max_cells=max_cells, memory=memory)


def _read(inp: AnalysisInput, sizes: list[int], measured: frozenset[str]) -> Iterator[SetScores]:
    """Columns of the study's own maps."""
    genes, regulators = inp.universe.genes, inp.universe.regulators
    counts = inp.expression.copy()  # log1p(CP10k), and variable genes are found on CP10k
    np.expm1(counts.data, out=counts.data)
    n = max(counts.shape[0], 1)
    detected = np.diff(counts.indptr)
    mean = np.asarray(counts.sum(axis=0)).ravel() / n
    counts.data **= 2
    variance = (np.asarray(counts.sum(axis=0)).ravel() / n - mean**2) * (n / max(n - 1, 1))
    inside = np.array([g in measured for g in genes]) & (detected >= inp.request.settings.min_cells)
    candidates = np.flatnonzero(inside)
    if not len(candidates):  # no gene in enough cells: there is no set
        return
    ranked = candidates[most_variable(mean[candidates], variance[candidates], len(candidates))]
    values = np.concatenate(
        [inp.primary.values, inp.coexpression.select([RIVAL]).values, inp.baselines.select(list(BASELINES)).values]
    )
    observed = inp.primary.observed & inp.coexpression.observed
    for size, asked in levels_of(sizes, len(ranked)).items():
        columns = np.sort(ranked[:size])
        yield SetScores(
            asked=asked, perturbations=regulators, targets=tuple(genes[j] for j in columns),
            names=(inp.request.primary, RIVAL, *BASELINES), values=values[:, :, columns],
            observed=observed[:, columns], n_cells=inp.expression.shape[0],
        )  # fmt: skip


def _extracted(
    inp: AnalysisInput, sizes: list[int], measured: frozenset[str], perturbations: tuple[str, ...], *,
    max_cells: int | None, memory: int | str | None,
) -> Iterator[SetScores]:  # fmt: skip
    """The model run again on cells that hold the genes of the set and the perturbed genes, and no others."""
    cells, settings = inp.cells, inp.request.settings
    assert cells is not None
    if max_cells is not None and cells.n_cells > max_cells:
        # one draw for all models and screens, so that they are compared in the same cells
        rows = stream(settings.seed, "subsample/design_sensitivity/cells")
        cells = cells.subset(np.sort(rows.choice(cells.n_cells, size=max_cells, replace=False)))
    known = inp.adapter.gene_tokens(cells.genes) >= 0
    symbols = np.array(cells.genes.symbols, dtype=object)
    inside = known & np.array([g in measured for g in symbols])
    wanted = frozenset(perturbations)
    rows_of = np.flatnonzero(known & np.array([g in wanted for g in symbols]))
    candidates = np.flatnonzero(inside)
    if not len(candidates) or not len(rows_of):
        return
    least = min(settings.min_cells, cells.n_cells)
    pool = cells.subset(gene_index=candidates)
    try:
        available = len(select_genes(pool, n_top=None, regulators=(), min_cells=least)[0])
    except InputError:  # no gene in enough cells: there is no set
        return
    for size, asked in levels_of(sizes, available).items():
        chosen = candidates[select_genes(pool, n_top=size, regulators=(), min_cells=least)[0]]
        yield _extract_one(inp, cells.subset(gene_index=np.union1d(chosen, rows_of)), asked,
                           targets=tuple(symbols[chosen]), perturbations=tuple(symbols[rows_of]),
                           memory=memory)  # fmt: skip


def _extract_one(
    inp: AnalysisInput, cells: Cells, asked: tuple[int, ...], *, targets: tuple[str, ...],
    perturbations: tuple[str, ...], memory: int | str | None,
) -> SetScores:  # fmt: skip
    from regulens.attention.extract import extract

    settings = inp.request.settings
    known = inp.adapter.gene_tokens(cells.genes) >= 0
    (seen,) = cells.genes_detected(known)
    cells = cells.subset(np.flatnonzero(seen > 0))  # a cell without any of these genes has nothing to be read
    genes = cells.genes.symbols
    own = inp.partitions.summary if inp.partitions is not None else None
    how = {} if own is None else {k: own.facts[k] for k in ("device", "precision") if k in own.facts}
    with tempfile.TemporaryDirectory(prefix="regulens-") as folder:
        found = extract(
            inp.adapter, cells, genes=genes, regulators=perturbations, partition_by=(), n_blocks=1,
            seed=settings.seed, jobs=inp.jobs, out=Path(folder) / "attention.zarr", memory=memory,
            recipe="probability" if own is None else own.kind, **how,
        )  # fmt: skip
        attention, met = primary_map(
            found.summary, inp.request.primary, direction=inp.request.direction, min_cells=settings.min_cells
        )
    expression = sp.csc_matrix(cells.log_normalised())
    rho = coexpression_scores(expression, genes=genes, regulators=perturbations).select([RIVAL])
    features = gene_features(expression, genes)
    position = {g: j for j, g in enumerate(genes)}
    columns = np.array([position[g] for g in targets])
    shape = (len(perturbations), len(columns))
    gene_level = [np.broadcast_to(x[columns], shape) for x in (features.mean, features.variance, features.detection)]
    observed = (met & rho.observed)[:, columns]
    values = np.stack([attention[:, columns], rho.values[0][:, columns], *gene_level])
    return SetScores(
        asked=asked, perturbations=perturbations, targets=targets, names=(inp.request.primary, RIVAL, *BASELINES),
        values=np.where(observed, values, 0.0), observed=observed, n_cells=cells.n_cells,
    )  # fmt: skip


def primary_map(
    summary: AttentionSummary, name: str, *, direction: str, min_cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """One score of `regulens.scorers.attention.attention_scores`, without holding those of all heads.

    Parameters
    ----------
    name
        ``pooled``, ``L03_mean`` or ``L03_H01``.

    Returns
    -------
    Values, and which pairs were observed, shape ``(regulator, target)`` each.
    """
    counts = summary.pair_counts()
    observed = counts >= min_cells
    position = {g: j for j, g in enumerate(summary.genes)}
    for i, regulator in enumerate(summary.regulators):
        if regulator in position:
            observed[i, position[regulator]] = False
    named = re.fullmatch(r"L(\d+)_(?:mean|H(\d+))", name)
    layers = range(summary.n_layers) if named is None else [int(named[1])]
    maps = []
    for layer in layers:
        heads = summary.layer_sums(layer, Direction(direction))
        if named is not None and named[2] is not None:
            heads = heads[[int(named[2])]]
        maps.append(np.divide(heads, counts, out=np.zeros(heads.shape), where=observed).mean(axis=0))
    return np.mean(maps, axis=0), observed
