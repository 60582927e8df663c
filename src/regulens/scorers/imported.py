"""How strong does another tool find a pair? Weights of its edge table, on the grid of a universe.

Tools write the edges that they found, not those that they did not find. A pair that a table does not list is
therefore one that its tool ranked below all that it lists: it gets the score −1, below every weight. That is another
thing than a pair that was never looked at, which no edge table can tell.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.errors import ParameterError
from regulens.scorers.base import ScorerSpec
from regulens.types.edges import EdgeScores


def imported_scores(
    edges: pd.DataFrame, *, genes: tuple[str, ...], regulators: tuple[str, ...], name: str
) -> EdgeScores:
    """Weights of listed pairs, −1 for the others.

    Parameters
    ----------
    edges
        Columns ``source``, ``target``, ``weight`` (≥ 0), unique pairs.
    genes, regulators
        Axes of the grid.
    name
        Name of the score.

    Returns
    -------
    One score, observed everywhere but on self-pairs; ``provenance["listed"]`` counts the listed pairs of the grid.

    Examples
    --------
    >>> table = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [2.0]})
    >>> imported_scores(table, genes=("A", "B", "C"), regulators=("A",), name="tool").values[0].tolist()
    [[0.0, 2.0, -1.0]]
    """
    weight = edges["weight"].to_numpy(dtype=np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any():
        message = "Expected finite weights >= 0, got others. Read the table with read_edge_table."
        raise ParameterError(message)
    row = edges["source"].map({g: i for i, g in enumerate(regulators)})
    column = edges["target"].map({g: j for j, g in enumerate(genes)})
    inside = (row.notna() & column.notna()).to_numpy()
    values = np.full((len(regulators), len(genes)), -1.0)
    values[row[inside].astype(int), column[inside].astype(int)] = weight[inside]
    observed = np.ones(values.shape, dtype=bool)
    position = {g: j for j, g in enumerate(genes)}
    for i, regulator in enumerate(regulators):
        if regulator in position:
            observed[i, position[regulator]] = False
    return EdgeScores(
        values=values[None], observed=observed, names=(name,), genes=tuple(genes), regulators=tuple(regulators),
        scorer="imported", provenance={"listed": str(int(inside.sum()))},
    )  # fmt: skip


SPEC = ScorerSpec(
    name="imported",
    version=1,
    function=imported_scores,
    summary="weight of a pair in another tool's edge table, −1 where the table does not list it",
    source="",
    needs=("scores",),
    pairwise=True,
)
