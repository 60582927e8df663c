"""What does a model offer to the analyses? Attention read in cells, or scores of gene pairs from its weights alone.

Both answer the same questions: under which digest is it known, was it verified, what is recorded of it, and what is
the `AnalysisInput` for one universe. The audit does not ask which kind it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from regulens.io.atomic import read_json, write_json
from regulens.io.outcomes import table_stem
from regulens.io.tables import write_table
from regulens.models.spec import options_of
from regulens.progress import Progress
from regulens.provenance import digest_of
from regulens.run.prepare import Prepared
from regulens.run.recipes import read_recipes

if TYPE_CHECKING:
    import pandas as pd

    from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
    from regulens.attention.result import Attention
    from regulens.models.score_model import AbstractScoreModel
    from regulens.types.attention import AttentionSummary
    from regulens.types.edges import EdgeScores

#: Cells whose attention is recomputed with the plain softmax after every extraction.
VERIFY_CELLS = 4


class AbstractEvidence(ABC):
    """What one model offers."""

    digest: str

    @abstractmethod
    def input(self, prepared: Prepared, request: TestRequest) -> AnalysisInput:
        """Everything the analyses may look at, for the universe of the request's reference."""

    @abstractmethod
    def facts(self, prepared: Prepared) -> dict[str, Any]:
        """What the record says of it, under ``attention``."""

    @abstractmethod
    def checked(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Verify it: the table of checks, and what the record says of them."""

    def digest_for(self, spec: AnalysisSpec) -> str:
        """Digest of what one analysis reads of it."""
        return self.digest

    def verification(self, *, folder: Path, model: str) -> dict[str, Any]:
        """Verify once per digest; the table goes to ``tables/``."""
        path = folder / "state" / f"{table_stem('verification', model, 'plain', 'softmax')}.json"
        if path.is_file() and (found := read_json(path)).get("key") == self.digest:
            return dict(found["verification"])
        table, found = self.checked()
        write_table(table, folder / "tables" / f"verification__{model.replace('/', '-')}")
        write_json(path, {"key": self.digest, "verification": found})
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionEvidence(AbstractEvidence):
    """Attention streamed over the cells, and under other recipes where an analysis asks for them."""

    attention: Attention
    digest: str
    recipes: Mapping[str, AttentionSummary] = field(default_factory=dict)
    folder: Path | None = None
    recipe_gaps: Mapping[str, str] = field(default_factory=dict)

    def digest_for(self, spec: AnalysisSpec) -> str:
        """The store's, and those of the other recipes where the analysis reads them."""
        if "recipes" not in spec.needs:
            return self.digest
        others = [(name, summary.digest) for name, summary in self.recipes.items()]
        return digest_of(self.digest, others, dict(self.recipe_gaps))

    def input(self, prepared: Prepared, request: TestRequest) -> AnalysisInput:
        """Scores from the store, on the universe's grid."""
        from regulens.analyses.build import build_input

        given = build_input(
            summary=self.attention.summary, cells=prepared.cells, universe=prepared.universe_of(request.reference),
            request=request, card=prepared.adapters[request.model].card, networks=prepared.references,
            universes=prepared.universes, recipes=self.recipes,
            embedding=partial(self._embedding, prepared, request.model),
        )  # fmt: skip
        return replace(given, recipe_gaps=dict(self.recipe_gaps))

    def _embedding(self, prepared: Prepared, model: str) -> np.ndarray:
        """The model's embedding of every cell, kept in the run folder beside its attention."""
        from regulens.attention.embedding import cell_embeddings

        out = None if self.folder is None else self.folder / "attention" / f"{model.replace('/', '-')}.embedding.npz"
        plan = prepared.plan
        return cell_embeddings(
            prepared.adapters[model], prepared.cells, seed=plan.seed, device=plan.extraction.device, out=out
        )

    def facts(self, prepared: Prepared) -> dict[str, Any]:
        """Cells, partitions and pairs of the store."""
        summary = self.attention.summary
        counts = summary.pair_counts()
        return {
            "kind": summary.kind,
            "digest": summary.digest,
            "n_partitions": len(summary.partitions),
            "n_cells": int(summary.partitions["n_cells"].sum()),
            "n_pairs": int(counts.size - len(prepared.regulators)),
            "n_pairs_observed": int((counts >= prepared.settings.min_cells).sum()),
            **{k: v for k, v in summary.facts.items() if isinstance(v, (int, float, str))},
        }

    def checked(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Recompute a few cells with the plain softmax."""
        table = self.attention.verify(n_cells=VERIFY_CELLS)
        return table, {
            "n_cells": VERIFY_CELLS,
            "max_abs_difference": float(table["max_abs_difference"].max()),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreEvidence(AbstractEvidence):
    """Scores of gene pairs that need no cell."""

    model: AbstractScoreModel
    scores: dict[str, EdgeScores]
    digest: str
    prepared: Prepared

    def input(self, prepared: Prepared, request: TestRequest) -> AnalysisInput:
        """The same scores under both directions, beside the baselines of the cells."""
        from regulens.analyses.build import assemble

        universe = prepared.universe_of(request.reference)
        expression = sp.csc_matrix((0, len(universe.genes)))
        if prepared.cells.n_cells:
            expression = sp.csc_matrix(prepared.cells.log_normalised(prepared.cells.genes.index(universe.genes)))
        return assemble(
            attention={d: s.on(universe) for d, s in self.scores.items()}, universe=universe, request=request,
            expression=expression, card=self.model.card,
            obs=prepared.cells.obs[list(prepared.cells.roles)], networks=prepared.references,
            universes=prepared.universes,
        )  # fmt: skip

    def facts(self, prepared: Prepared) -> dict[str, Any]:
        """Pairs that the model scores, and of an edge table what kind of list it is."""
        from regulens.models.edge_list import EdgeListModel
        from regulens.run.listed import listed_facts

        universes = prepared.universes | prepared.screen_universes
        first = next(iter(self.scores.values()))
        return {
            "kind": "scores",
            "digest": self.digest,
            "n_partitions": 0,
            "n_cells": 0,
            "n_pairs": int(first.observed.size - len(prepared.regulators)),
            "n_pairs_observed": int(first.observed.sum()),
            "primary": self.model.primary,
            **(listed_facts(self.model, universes) if isinstance(self.model, EdgeListModel) else {}),
        }

    def checked(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Checks that make sense without attention."""
        from regulens.models.score_model import verify_scores

        table = verify_scores(self.model, self.prepared.cells)
        return table, {"n_cells": 0, "checks_passed": int(table["passed"].sum()), "checks": len(table)}


def gather(prepared: Prepared, model: str, *, folder: Path, jobs: int, progress: Progress) -> AbstractEvidence:
    """Extract attention into the run folder, or ask a model without attention for its scores."""
    adapter = prepared.adapters[model]
    if model in prepared.without_attention:
        from regulens.models.score_model import as_directions

        scores = adapter.edge_scores(prepared.cells.genes.take(prepared.gene_index), prepared.regulators)
        digest = digest_of(
            adapter.card.sha256, "scores", options_of(adapter.card.spec), scores.names, prepared.genes,
            prepared.regulators,
        )  # fmt: skip
        both = as_directions(scores, primary=adapter.primary, floor=adapter.floor)
        return ScoreEvidence(model=adapter, scores=both, digest=digest, prepared=prepared)

    attention, recipes, gaps = read_recipes(prepared, model, folder=folder, jobs=jobs, progress=progress)
    return AttentionEvidence(
        attention=attention, digest=attention.summary.digest, folder=folder, recipes=recipes, recipe_gaps=gaps
    )
