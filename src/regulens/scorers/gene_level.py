"""How far does one get with a statistic of each gene alone? Products, source-only and target-only scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from regulens.errors import AlignmentError, ParameterError, examples
from regulens.scorers.base import ScorerSpec
from regulens.types.edges import EdgeScores


def gene_level_scores(
    features: Mapping[str, np.ndarray], *, genes: tuple[str, ...], regulators: tuple[str, ...]
) -> EdgeScores:
    """Scores that know nothing of the pair: ``x_i * x_j``, ``x_i`` and ``x_j`` for every feature x.

    Parameters
    ----------
    features
        Feature name (``mean``, ``variance``, ``detection``) to values, shape ``(gene,)``, finite and non-negative.
    genes, regulators
        Axes of the grid; every regulator is one of the genes.

    Returns
    -------
    For every feature ``product_<x>``, ``source_<x>`` (of the regulator) and ``target_<x>``, in that order; observed
    everywhere but on self-pairs.

    Examples
    --------
    >>> s = gene_level_scores({"mean": np.array([1.0, 2.0, 3.0])}, genes=("A", "B", "C"), regulators=("B",))
    >>> s.names
    ('product_mean', 'source_mean', 'target_mean')
    >>> s.values[0].tolist()
    [[2.0, 0.0, 6.0]]
    """
    position = {g: j for j, g in enumerate(genes)}
    lost = [r for r in regulators if r not in position]
    if lost:
        message = f"Expected every regulator among the genes, missing {examples(lost)}. Add them to the genes."
        raise AlignmentError(message)
    own = np.array([position[r] for r in regulators], dtype=np.int64)
    shape = (len(regulators), len(genes))
    observed = np.ones(shape, dtype=bool)
    observed[np.arange(len(own)), own] = False
    names: list[str] = []
    values = np.empty((3 * len(features), *shape))
    for k, (name, x) in enumerate(features.items()):
        x = np.asarray(x, dtype=np.float64)
        if x.shape != (len(genes),) or not np.isfinite(x).all() or (x < 0).any():
            message = f"Expected feature '{name}' finite, non-negative, one per gene ({len(genes)}), got {x.shape}."
            raise ParameterError(f"{message} Compute it from the cells.")
        values[3 * k] = x[own][:, None] * x[None, :]
        values[3 * k + 1] = x[own][:, None]
        values[3 * k + 2] = x[None, :]
        names += [f"product_{name}", f"source_{name}", f"target_{name}"]
    return EdgeScores(
        values=values, observed=observed, names=tuple(names), genes=genes, regulators=regulators, scorer="gene_level"
    )


SPEC = ScorerSpec(
    name="gene_level",
    version=1,
    function=gene_level_scores,
    summary="x_i * x_j, x_i or x_j, for x = mean, variance and detection of log1p(CP10k)",
    source="",
    needs=("expression",),
    pairwise=False,
)
