"""How much of an edge table's AUROC is which pairs it lists, and how much is the order that it gives them?

Where pairs that are not listed tie last, the AUROC over all pairs has two parts. With p the share of positives and q
the share of negatives that the table lists, and A the AUROC over listed pairs alone,

    AUROC = [p (1 − q) + ½ (p q + (1 − p)(1 − q))] + p q (A − ½)

The bracket is the AUROC of "listed or not"; the rest is what the order of listed pairs adds. A itself is biased by the
table's own selection: a tool that lists the positives which it ranks high has few left to rank low.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import counts_of, dropped_of, edges_of, refusal, refused, result_of
from regulens.analyses.inference import above_half
from regulens.analyses.reference_slices import reference_edges
from regulens.models.edge_list import LISTED, SIGNED
from regulens.stats.ranking import auroc
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest
from regulens.types.results import AnalysisOutcome

NAME = "list_truncation"

TABLES = {
    "list_parts": ["pairs", "n_pos", "n_neg", "n_regulators", "auroc", "low", "high", "note"],
    "list_shares": ["quantity", "value"],
    "list_signs": ["n_pairs", "n_agree", "agreement", "expected", "note"],
}


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """None: what a table lists is a fact about it, no hypothesis."""
    return ()


def _part(edges: LabelledEdges, score: str, name: str, level: float) -> tuple[object, ...]:
    counts = counts_of(edges)
    head = (name, counts["n_pos"], counts["n_neg"], counts["n_regulators"])
    if not edges.n_pos or not edges.n_neg:
        return (*head, np.nan, np.nan, np.nan, "no positives or no negatives")
    if reason := refusal(edges):
        return (*head, float(auroc(edges.score(score)[None], edges.label)[0]), np.nan, np.nan, f"no interval: {reason}")
    at = above_half(edges, score)
    found = at.cells(null_value=0.5, level=level)
    return (*head, found["value"], found["low"], found["high"], at.undefined)


def ceiling(n_listed: int, n_pos: int) -> float:
    """The best AUROC that a list of so many pairs can reach against so many positives.

    >>> ceiling(50, 1000), ceiling(1000, 1000)
    (0.525, 1.0)
    """
    return 0.5 + 0.5 * min(n_listed / n_pos, 1.0) if n_pos else 0.5


def too_short(inp: AnalysisInput, edges: LabelledEdges) -> str:
    """Why a list says nothing about all positives, or an empty string: its best AUROC is hardly above 0.5."""
    scores = inp.attention[inp.request.direction]
    if LISTED not in scores.names or not edges.n_pos:
        return ""
    n = int(scores.select([LISTED]).values[0][edges.regulator, edges.target].sum())
    best = ceiling(n, edges.n_pos)
    if best - 0.5 >= 2 * inp.request.settings.seoi:
        return ""
    return (
        f"the table lists {n} of {len(edges.label)} pairs against {edges.n_pos} positives, so that its AUROC cannot "
        f"exceed {best:.3f} even if every listed pair is one"
    )


def signs(inp: AnalysisInput, edges: LabelledEdges, listed: np.ndarray) -> pd.DataFrame:
    """How often the sign of a listed reference edge is that of the reference, and how often by the margins alone."""
    columns = TABLES["list_signs"]
    if SIGNED not in edges.names:
        return pd.DataFrame(columns=columns)
    known = reference_edges(inp.universe, inp.networks.get(inp.request.reference))
    of_pair = np.zeros(inp.universe.positive.shape, dtype=np.int64)
    of_pair[known.regulator, known.target] = known.sign
    theirs = of_pair[edges.regulator, edges.target]
    mine = np.sign(edges.score(SIGNED)).astype(np.int64)
    both = listed & edges.label & (theirs != 0) & (mine != 0)
    n = int(both.sum())
    if not n:
        return pd.DataFrame([(0, 0, np.nan, np.nan, "no listed edge has a sign in both")], columns=columns)
    a, b = mine[both] > 0, theirs[both] > 0
    agree = int((a == b).sum())
    expected = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return pd.DataFrame([(n, agree, agree / n, expected, "")], columns=columns)


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one table and one reference."""
    request = inp.request
    level, primary = 1 - request.settings.alpha, request.primary
    scores = inp.attention[request.direction]
    edges = edges_of(inp, scores.select([n for n in (primary, LISTED, SIGNED) if n in scores.names]))
    if reason := refusal(edges):
        return refused(inp, NAME, (), reason, edges=edges, tables=TABLES, steps=("",))
    truncated = LISTED in edges.names
    listed = edges.score(LISTED) > 0 if truncated else np.ones(len(edges.label), dtype=bool)
    rows = [_part(edges, primary, "all pairs", level)]
    p, q = float(listed[edges.label].mean()), float(listed[~edges.label].mean())
    shares = [("share_listed", float(listed.mean())), ("positives_listed", p), ("negatives_listed", q)]
    if truncated:
        part = edges.restrict(listed)
        rows.append(_part(edges, LISTED, "listed or not", level))
        rows.append(_part(part, primary, "listed pairs only", level))
        by_listing = p * (1 - q) + 0.5 * (p * q + (1 - p) * (1 - q))
        best = ceiling(int(listed.sum()), edges.n_pos)
        shares += [("auroc_of_listing", by_listing), ("added_by_order", float(rows[0][4]) - by_listing)]
        shares += [("best_auroc_of_such_a_list", best)]
    facts = {
        **counts_of(edges),
        "truncated": truncated,
        "n_listed": int(listed.sum()),
        "n_pos_listed": int(listed[edges.label].sum()),
        "auroc": float(rows[0][4]),
        **({"auroc_listed_only": None if np.isnan(rows[2][4]) else float(rows[2][4])} if truncated else {}),
        **dict(shares),
    }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference,
        results=(
            result_of(inp, NAME, score=primary, edges=edges,
                      estimate=above_half(edges, primary).estimate(null_value=0.5, level=level)),
        ),
        tables={
            "list_parts": pd.DataFrame(rows, columns=TABLES["list_parts"]),
            "list_shares": pd.DataFrame(shares, columns=TABLES["list_shares"]),
            "list_signs": signs(inp, edges, listed),
        },
        records=(), facts=facts, dropped=dropped_of(edges),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="What a list leaves out",
    question="How much of the AUROC is which pairs a table lists, and how much is the order of listed pairs?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "reference"),
    plan=plan,
    run=run,
    reference="Bamber 1975 (a tie counts one half)",
    falsified_by="An AUROC above 0.5 to which the order of listed pairs adds nothing: then the table says which pairs, "
    "not how strong.",
)
