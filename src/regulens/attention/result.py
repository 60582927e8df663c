"""What can one ask of extracted attention: edges of a head or layer, all scores, and proof that they are right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from regulens.errors import ParameterError
from regulens.io.store import open_store
from regulens.models.spec import portable
from regulens.types.attention import AttentionSummary, Direction, ModelCard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regulens.models.base import AbstractAdapter
    from regulens.types.cells import Cells
    from regulens.types.edges import EdgeScores


def stored_content(
    *, genes: Sequence[str], regulators: Sequence[str], partitions: pd.DataFrame, card: ModelCard, seed: int, kind: str
) -> dict[str, Any]:
    """What a store says of itself, facts excepted, for `Attention.open` to read."""
    return {
        "genes": list(genes),
        "regulators": list(regulators),
        "partitions": json.loads(partitions.to_json(orient="split", index=False)),
        # Without the folder that the model happened to lie in.
        "card": {**dataclasses.asdict(card), "spec": portable(card.spec)},
        "seed": seed,
        "kind": kind,
    }


class Attention:
    """Attention of one model over some cells, summed per partition; immutable, read from disk as needed.

    Parameters
    ----------
    summary
        Sums and counts.
    adapter, cells, seed
        What they were made from; only `verify` needs them.

    See Also
    --------
    regulens.attention.extract.extract : makes one.
    """

    def __init__(
        self,
        summary: AttentionSummary,
        *,
        adapter: AbstractAdapter | None = None,
        cells: Cells | None = None,
        seed: int = 0,
    ) -> None:
        self.summary = summary
        self._adapter, self._cells, self._seed = adapter, cells, seed

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        key: str | None = None,
        card: ModelCard | None = None,
        adapter: AbstractAdapter | None = None,
        cells: Cells | None = None,
        seed: int | None = None,
    ) -> Attention:
        """Open a finished store.

        Parameters
        ----------
        key
            Digest that the store must have; any by default.
        card
            Replaces the stored one, in which the model's folder is cut off.

        Raises
        ------
        StoreError
            When the store is missing, damaged, of another version or of other inputs.
        """
        content, found, sums, counts = open_store(Path(path), key=key)
        stored = {k: tuple(v) if isinstance(v, list) else v for k, v in content["card"].items()}
        summary = AttentionSummary(
            sums=sums,
            counts=counts,
            partitions=pd.DataFrame(content["partitions"]["data"], columns=content["partitions"]["columns"]),
            genes=tuple(content["genes"]),
            regulators=tuple(content["regulators"]),
            card=ModelCard(**stored) if card is None else card,
            kind=content["kind"],
            digest=found,
            facts=content["facts"],
        )
        return cls(summary, adapter=adapter, cells=cells, seed=content["seed"] if seed is None else seed)

    @property
    def genes(self) -> tuple[str, ...]:
        """Symbols of the targets."""
        return self.summary.genes

    @property
    def regulators(self) -> tuple[str, ...]:
        """Symbols of the regulators."""
        return self.summary.regulators

    @property
    def facts(self) -> dict[str, Any]:
        """Cells run and left out, median tokens, pairs that met."""
        return dict(self.summary.facts)

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"Attention of {s.card.label()}: {len(s.partitions)} partitions, {s.n_layers} layers x {s.n_heads} heads, "
            f"{len(s.regulators)} regulators x {len(s.genes)} genes"
        )

    def edges(
        self,
        *,
        layer: int,
        head: int | Literal["mean"] = "mean",
        direction: Direction | str = Direction.REGULATOR_ATTENDS,
        partitions: Sequence[int] | None = None,
        min_cells: int = 1,
    ) -> pd.DataFrame:
        """Mean attention of every pair that met in at least `min_cells` cells.

        Returns
        -------
        Columns ``source`` (regulator), ``target``, ``weight`` (mean attention over the cells in which both are
        tokens; in [0, 1] for recipe ``probability``) and ``n_cells``; pairs that did not meet are missing, not zero.
        """
        s = self.summary
        if head != "mean" and not 0 <= int(head) < s.n_heads:
            message = f"Expected head 'mean' or in [0, {s.n_heads - 1}], got {head!r}. Heads count from zero."
            raise ParameterError(message)
        if min_cells < 1:
            message = f"Expected min_cells >= 1, got {min_cells}."
            raise ParameterError(message)
        sums = s.layer_sums(layer, Direction(direction), partitions)
        total = sums.mean(axis=0) if head == "mean" else sums[int(head)]
        n = s.pair_counts(partitions)
        r, t = np.nonzero(n >= min_cells)
        return pd.DataFrame(
            {
                "source": np.array(s.regulators, dtype=object)[r],
                "target": np.array(s.genes, dtype=object)[t],
                "weight": total[r, t] / n[r, t],
                "n_cells": n[r, t],
            }
        )

    def scores(
        self,
        *,
        direction: Direction | str = Direction.REGULATOR_ATTENDS,
        min_cells: int = 1,
        partitions: Sequence[int] | None = None,
    ) -> EdgeScores:
        """Scores of all heads, layers and their mean; see `regulens.scorers.attention.attention_scores`."""
        from regulens.scorers.attention import attention_scores

        return attention_scores(
            self.summary, direction=Direction(direction), min_cells=min_cells, partitions=partitions
        )

    def verify(self, n_cells: int = 4) -> pd.DataFrame:
        """Compare the streamed blocks of a few cells with the explicit softmax; see `verify.verify_blocks`."""
        from regulens.attention.verify import verify_blocks

        if self._adapter is None or self._cells is None:
            message = "Expected the model and the cells, got a store alone. Call extract again; it reuses the store."
            raise ParameterError(message)
        return verify_blocks(
            self._adapter,
            self._cells,
            genes=self.genes,
            regulators=self.regulators,
            n_cells=n_cells,
            seed=self._seed,
            recipe=self.summary.kind,
        )
