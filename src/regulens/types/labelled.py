"""Scores and labels of the pairs of one universe, flattened and ready for a metric: `LabelledEdges`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.errors import AlignmentError
from regulens.types.edges import EdgeScores, EdgeUniverse
from regulens.types.endpoints import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledEdges:
    """Scores and labels of the observed candidate pairs of one universe, flattened for a metric.

    Parameters
    ----------
    scores
        Float64, shape ``(score, edge)``; larger is stronger.
    label
        Bool, shape ``(edge,)``.
    regulator, target
        Int64, shape ``(edge,)``: row and column in the universe; the clusters of resampling.
    n_missing, n_missing_positive
        Candidate pairs (and positives among them) that left because they were not observed.
    """

    scores: np.ndarray
    names: tuple[str, ...]
    label: np.ndarray
    regulator: np.ndarray
    target: np.ndarray
    universe_digest: str
    endpoint: Endpoint
    n_missing: int = 0
    n_missing_positive: int = 0

    def __post_init__(self) -> None:
        n = len(self.label)
        if self.scores.shape != (len(self.names), n) or len(self.regulator) != n or len(self.target) != n:
            message = (
                f"Expected scores of shape ({len(self.names)}, {n}) and one regulator and target per edge, got "
                f"{self.scores.shape}, {len(self.regulator)}, {len(self.target)}."
            )
            raise AlignmentError(message)
        for label in ("scores", "label", "regulator", "target"):
            getattr(self, label).flags.writeable = False

    @classmethod
    def build(
        cls, scores: EdgeScores | list[EdgeScores], universe: EdgeUniverse, *, keep: np.ndarray | None = None,
        endpoint: Endpoint = Endpoint.REFERENCE_RECOVERY,
    ) -> LabelledEdges:  # fmt: skip
        """Flatten one or several score sets over the pairs that *all* of them observed.

        Parameters
        ----------
        scores
            Score sets that cover the universe; they are compared on identical pairs.
        keep
            Optional bool mask ``(regulator, target)`` that restricts the pairs further.
        """
        sets = [scores] if isinstance(scores, EdgeScores) else list(scores)
        sets = [s.on(universe) for s in sets]
        pairs = universe.candidate if keep is None else universe.candidate & keep
        observed = pairs.copy()
        for s in sets:
            observed &= s.observed
        i, j = np.nonzero(observed)
        lost = pairs & ~observed
        return cls(
            scores=np.concatenate([s.values[:, i, j] for s in sets]),
            names=tuple(n for s in sets for n in s.names),
            label=universe.positive[i, j],
            regulator=i.astype(np.int64),
            target=j.astype(np.int64),
            universe_digest=universe.digest,
            endpoint=endpoint,
            n_missing=int(lost.sum()),
            n_missing_positive=int((lost & universe.positive).sum()),
        )

    @property
    def n_pos(self) -> int:
        """Number of positives."""
        return int(self.label.sum())

    @property
    def n_neg(self) -> int:
        """Number of negatives."""
        return int(len(self.label) - self.label.sum())

    def restrict(self, mask: np.ndarray) -> LabelledEdges:
        """The edges at `mask` (bool or index, shape ``(edge,)``)."""
        return LabelledEdges(
            scores=self.scores[:, mask], names=self.names, label=self.label[mask], regulator=self.regulator[mask],
            target=self.target[mask], universe_digest=self.universe_digest, endpoint=self.endpoint,
            n_missing=self.n_missing, n_missing_positive=self.n_missing_positive,
        )  # fmt: skip

    def score(self, name: str) -> np.ndarray:
        """The score called `name`, shape ``(edge,)``."""
        return self.scores[self.names.index(name)]
