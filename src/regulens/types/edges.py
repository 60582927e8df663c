"""Which ordered pairs are looked at (`EdgeUniverse`), how strong each is (`EdgeScores`).

Both live on one grid ``(regulator, target)``: rows are regulators, columns are all genes of the universe.
Edges always run regulator → target; how an attention map [query, key] becomes such an edge is decided in one
place, `regulens.types.attention.Direction`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from regulens.errors import AlignmentError, InputError, ParameterError, examples
from regulens.provenance import digest_array, digest_of, digest_strings
from regulens.types.networks import ReferenceNetwork


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EdgeUniverse:
    """Candidate ordered pairs, regulators × genes without self-pairs, printed and digested.

    Parameters
    ----------
    genes
        Target genes (columns), unique symbols.
    regulators
        Regulators (rows), unique symbols, all of them in `genes`.
    candidate
        Bool, shape ``(regulator, target)``; False on self-pairs and on pairs that a restriction removed.
    positive
        Bool, same shape; True on reference edges. Subset of `candidate`.
    reference
        Name of the reference the positives come from.
    counts
        How the reference shrank: ``reference_edges``, ``mappable`` (both ends anywhere in the input cells),
        ``evaluable`` (inside this universe), ``self_pairs`` and so on.
    restrictions
        In words, what was restricted and why.
    """

    genes: tuple[str, ...]
    regulators: tuple[str, ...]
    candidate: np.ndarray
    positive: np.ndarray
    reference: str
    counts: dict[str, int]
    restrictions: tuple[str, ...] = ()
    name: str = "universe"

    def __post_init__(self) -> None:
        shape = (len(self.regulators), len(self.genes))
        if len(set(self.genes)) != len(self.genes) or len(set(self.regulators)) != len(self.regulators):
            message = "Expected unique genes and regulators in a universe, got repeats."
            raise AlignmentError(message)
        missing = sorted(set(self.regulators) - set(self.genes))
        if missing:
            message = f"Expected every regulator among the genes, missing {examples(missing)}."
            raise AlignmentError(message)
        for label in ("candidate", "positive"):
            array = np.array(getattr(self, label), dtype=bool)
            if array.shape != shape:
                message = f"Expected {label} of shape {shape} (regulator, target), got {array.shape}."
                raise AlignmentError(message)
            array.flags.writeable = False
            object.__setattr__(self, label, array)
        if (self.positive & ~self.candidate).any():
            message = "Expected positives inside the candidate pairs, got some outside."
            raise AlignmentError(message)
        own = self.regulator_columns()
        if self.candidate[np.arange(len(own)), own].any():
            message = "Expected no self-pairs among the candidates, got some."
            raise AlignmentError(message)

    @classmethod
    def build(
        cls,
        *,
        genes: tuple[str, ...] | list[str],
        reference: ReferenceNetwork,
        regulators: tuple[str, ...] | list[str] | None = None,
        restrictions: tuple[str, ...] = (),
        name: str = "universe",
        input_genes: tuple[str, ...] | list[str] | None = None,
    ) -> EdgeUniverse:
        """Regulators × genes without self-pairs, labelled by `reference`.

        Parameters
        ----------
        genes
            Genes of the universe, in order.
        reference
            Where positives come from.
        regulators
            Candidate regulators; by default every source of `reference`. Those outside `genes`, or that are
            no source of the reference, are left out and counted.
        input_genes
            All genes of the input, to count the mappable edges; by default `genes`.

        Raises
        ------
        InputError
            When no reference edge falls inside; the message says what was lost where.
        """
        genes = tuple(genes)
        position = {g: i for i, g in enumerate(genes)}
        sources = set(reference.edges["source"])
        wanted = sorted(sources if regulators is None else set(regulators))
        kept = tuple(r for r in wanted if r in position and r in sources)
        row = {r: i for i, r in enumerate(kept)}
        candidate = np.ones((len(kept), len(genes)), dtype=bool)
        for r, i in row.items():
            candidate[i, position[r]] = False
        edges = reference.edges
        anywhere = set(input_genes if input_genes is not None else genes)
        source, target = edges["source"].to_numpy(), edges["target"].to_numpy()
        mappable = np.fromiter((s in anywhere and t in anywhere for s, t in zip(source, target)), bool, len(edges))
        i = np.array([row.get(s, -1) for s in source], dtype=np.int64)
        j = np.array([position.get(t, -1) for t in target], dtype=np.int64)
        inside = (i >= 0) & (j >= 0)
        positive = np.zeros_like(candidate)
        positive[i[inside], j[inside]] = True
        positive &= candidate
        counts = {
            "reference_edges": len(edges),
            "reference_sources": len(sources),
            "mappable": int(mappable.sum()),
            "evaluable": int(positive.sum()),
            "regulators": len(kept),
            "regulators_with_positives": int(positive.any(axis=1).sum()),
            "regulators_lost": len(wanted) - len(kept),
            "genes": len(genes),
            "candidates": int(candidate.sum()),
        }
        if not positive.any():
            message = (
                f"Expected at least one edge of '{reference.name}' inside the universe, got none: of "
                f"{len(edges)} edges {counts['mappable']} have both ends in the input, and {len(kept)} of "
                f"{len(wanted)} regulators are among the {len(genes)} genes kept. Check the gene ids and the "
                f"species, widen `universe.genes`, or use another reference."
            )
            raise InputError(message)
        return cls(
            genes=genes, regulators=kept, candidate=candidate, positive=positive, reference=reference.name,
            counts=counts, restrictions=tuple(restrictions), name=name,
        )  # fmt: skip

    def regulator_columns(self) -> np.ndarray:
        """Column of each regulator among the genes, shape ``(regulator,)``."""
        position = {g: i for i, g in enumerate(self.genes)}
        return np.array([position[r] for r in self.regulators], dtype=np.int64)

    @property
    def digest(self) -> str:
        """Digest of genes, regulators, candidates and positives."""
        return digest_of(
            digest_strings(self.genes),
            digest_strings(self.regulators),
            digest_array(np.packbits(self.candidate)),
            digest_array(np.packbits(self.positive)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EdgeScores:
    """One or many scores of every pair of a grid, with which pairs were observed.

    Parameters
    ----------
    values
        Float64, shape ``(score, regulator, target)``; finite where observed, 0 elsewhere (never read there).
    observed
        Bool, shape ``(regulator, target)``; False where the pair never met in enough cells. Missing is not zero.
    names
        One unique name per score, e.g. ``"L03_H01"``, ``"L03_mean"``, ``"pooled"``, ``"coexpression_abs"``.
    layers, heads
        Zero-based position of each score, −1 where it is not of one layer or head.
    genes, regulators
        Axes of the grid.
    direction
        ``"regulator_attends"``, ``"target_attends"``, or ``"none"`` for scores that are not attention.
    """

    values: np.ndarray
    observed: np.ndarray
    names: tuple[str, ...]
    genes: tuple[str, ...]
    regulators: tuple[str, ...]
    direction: str = "none"
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    scorer: str = ""
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.names)
        object.__setattr__(self, "layers", tuple(self.layers) or (-1,) * n)
        object.__setattr__(self, "heads", tuple(self.heads) or (-1,) * n)
        values = np.asarray(self.values, dtype=np.float64)
        observed = np.array(self.observed, dtype=bool)
        shape = (n, len(self.regulators), len(self.genes))
        if values.shape != shape or observed.shape != shape[1:] or len(set(self.names)) != n:
            message = (
                f"Expected values of shape (score, regulator, target) = {shape} with unique names, got "
                f"{values.shape} and observed {observed.shape}."
            )
            raise AlignmentError(message)
        if len(self.layers) != n or len(self.heads) != n:
            message = f"Expected one layer and one head index per score, got {len(self.layers)}, {len(self.heads)}."
            raise AlignmentError(message)
        if not np.isfinite(values[:, observed]).all():
            message = "Expected finite scores on every observed pair, got NaN or infinity."
            raise ParameterError(message)
        values = np.where(observed[None], values, 0.0)
        values.flags.writeable = False
        observed.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "observed", observed)

    @property
    def n_scores(self) -> int:
        """Number of scores held."""
        return len(self.names)

    def select(self, names: list[str] | tuple[str, ...]) -> EdgeScores:
        """The scores called `names`, in that order."""
        index = []
        for name in names:
            if name not in self.names:
                message = f"Expected one of {examples(self.names)}, got score '{name}'."
                raise ParameterError(message)
            index.append(self.names.index(name))
        return EdgeScores(
            values=self.values[index], observed=self.observed, names=tuple(names), genes=self.genes,
            regulators=self.regulators, direction=self.direction, scorer=self.scorer,
            layers=tuple(self.layers[i] for i in index), heads=tuple(self.heads[i] for i in index),
            provenance=dict(self.provenance),
        )  # fmt: skip

    def on(self, universe: EdgeUniverse) -> EdgeScores:
        """The same scores on the grid of `universe` (rows and columns re-ordered by name).

        Raises
        ------
        AlignmentError
            When the scores do not cover every regulator and gene of the universe.
        """
        if self.genes == universe.genes and self.regulators == universe.regulators:
            return self
        rows = {g: i for i, g in enumerate(self.regulators)}
        cols = {g: i for i, g in enumerate(self.genes)}
        lost = [g for g in universe.regulators if g not in rows] + [g for g in universe.genes if g not in cols]
        if lost:
            message = (
                f"Expected scores for all {len(universe.regulators)} regulators and {len(universe.genes)} genes of "
                f"universe '{universe.name}', missing {examples(lost)}. Score the same genes."
            )
            raise AlignmentError(message)
        r = np.array([rows[g] for g in universe.regulators])
        c = np.array([cols[g] for g in universe.genes])
        return EdgeScores(
            values=self.values[:, r][:, :, c], observed=self.observed[r][:, c], names=self.names, genes=universe.genes,
            regulators=universe.regulators, direction=self.direction, layers=self.layers, heads=self.heads,
            scorer=self.scorer, provenance=dict(self.provenance),
        )  # fmt: skip

    def to_frame(self, name: str | None = None) -> pd.DataFrame:
        """Long table ``source, target, weight`` of one score, observed pairs only, strongest first."""
        k = 0 if name is None else self.names.index(name)
        i, j = np.nonzero(self.observed)
        frame = pd.DataFrame(
            {
                "source": np.asarray(self.regulators, dtype=object)[i],
                "target": np.asarray(self.genes, dtype=object)[j],
                "weight": self.values[k, i, j],
            }
        )
        return frame.sort_values("weight", ascending=False, kind="stable", ignore_index=True)
