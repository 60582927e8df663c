"""Does the conclusion survive another reference, another evidence filter, or a list that is shorter than it is?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import (
    TestDesign,
    counts_of,
    dropped_of,
    edges_of,
    having,
    plan_tests,
    refusal,
    refused,
    result_of,
    test_id,
)
from regulens.analyses.contrasts import contrast_inference
from regulens.analyses.incompleteness import Thinned, random_subsets, thin_edges, wins_between
from regulens.analyses.inference import Effect, aurocs, effects_of
from regulens.analyses.reference_pairs import Shared, interaction, share, swap_rows
from regulens.analyses.reference_slices import reference_edges, slices
from regulens.analyses.symmetric import is_symmetric, symmetrised
from regulens.metrics.ceilings import ceilings
from regulens.stats.permutation import permutation_p
from regulens.stats.ranking import auroc
from regulens.types.endpoints import Endpoint
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "reference_sensitivity"
RIVAL = "coexpression_abs"
NO_RIVAL = "there are no cells to read co-expression in, so that attention has no lead"

DESIGNS = (
    TestDesign(
        name="lead_depends_on_reference",
        hypothesis="The lead of attention over co-expression is not the same by this reference and by the first one of "
        "the study, on the pairs that both could list",
        side="two-sided",
        method="t from the delete-one jackknife of the difference of paired differences",
    ),
)

TABLES = {
    "reference_grid": [
        "part", "slice", "n_pos", "n_neg", "n_regulators", "auroc", "low", "high", "coexpression", "delta",
        "delta_low", "delta_high", "note",
    ],
    "reference_pairs": [
        "other", "n_regulators", "n_pairs", "n_pos", "n_pos_other", "overlap", "interaction", "interaction_low",
        "interaction_high", "p", "p_swap", "n_scores", "spearman", "kendall", "note",
    ],
    "reference_incompleteness": [
        "scheme", "dropped", "score", "auroc", "low", "high", "auprc_ratio", "same_sign", "auroc_ceiling",
        "auprc_ceiling", "n_pos", "n_draws",
    ],
}  # fmt: skip


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    return plan_tests(NAME, request, DESIGNS)


def _row(edges: LabelledEdges, primary: str, part: str, name: str, level: float) -> tuple[object, ...]:
    """Attention and co-expression on some pairs, and attention's lead, or why there are no numbers."""
    counts = counts_of(edges)
    head = (part, name, counts["n_pos"], counts["n_neg"], counts["n_regulators"])
    if reason := refusal(edges):
        return (*head, *([np.nan] * 7), reason)
    if RIVAL not in edges.names:  # without cells attention stands alone, and has no lead
        own = effects_of(aurocs(edges, [primary]), null_value=0.5)[0]
        a = own.cells(null_value=0.5, level=level)
        return (*head, a["value"], a["low"], a["high"], *([np.nan] * 4), own.undefined)
    rows = [edges.names.index(n) for n in (primary, RIVAL)]
    matrix = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
    own, rival, lead = effects_of(
        contrast_inference(edges.scores[rows], edges.label, matrix, edges.regulator, edges.target)
    )
    a, d = (e.cells(null_value=0.0, level=level) for e in (own, lead))
    return (*head, a["value"], a["low"], a["high"], rival.value, d["value"], d["low"], d["high"], own.undefined)


def _grid(
    inp: AnalysisInput, edges: LabelledEdges, others: dict[str, Shared | None], max_sources: int
) -> pd.DataFrame:  # fmt: skip
    level, primary, mine = 1 - inp.request.settings.alpha, inp.request.primary, inp.request.reference
    rows = [_row(edges, primary, "whole reference", mine, level)]
    listed = reference_edges(inp.universe, inp.networks.get(mine))
    for kind, name, mask in slices(listed, max_sources=max_sources):
        grid = np.zeros(inp.universe.positive.shape, dtype=bool)
        grid[listed.regulator[mask], listed.target[mask]] = True
        # the other edges of the reference leave the pairs; they are no negatives
        part = edges.restrict(~edges.label | grid[edges.regulator, edges.target])
        rows.append(_row(part, primary, kind, name, level))
    for other, shared in others.items():
        if shared is None:
            continue
        rows.append(_row(shared.edges, primary, f"pairs shared with {other}", mine, level))
        rows.append(_row(_relabelled(shared), primary, f"pairs shared with {other}", other, level))
    return pd.DataFrame(rows, columns=TABLES["reference_grid"])


def _relabelled(shared: Shared) -> LabelledEdges:
    e = shared.edges
    return LabelledEdges(
        scores=e.scores, names=e.names, label=shared.other_label, regulator=e.regulator, target=e.target,
        universe_digest=e.universe_digest, endpoint=e.endpoint,
    )  # fmt: skip


def _pair_row(inp: AnalysisInput, other: str, shared: Shared | None) -> tuple[tuple[object, ...], Effect | None]:
    """How much two references agree, on the pairs and in the order of the scores."""
    nothing = (np.nan,) * 11
    if shared is None:
        return (other, 0, 0, *nothing, "no regulator is in both universes"), None
    a, b = shared.edges, _relabelled(shared)
    head = (other, shared.n_regulators, len(a.label), a.n_pos, b.n_pos)
    common, either = int((a.label & b.label).sum()), int((a.label | b.label).sum())
    overlap = common / either if either else np.nan
    if reason := refusal(a) or refusal(b):
        return (*head, overlap, *nothing[:8], reason), None
    order = [auroc(a.scores, y) for y in (a.label, shared.other_label)]
    varied = all(np.ptp(o) > 0 for o in order) and len(order[0]) > 2
    rho = float(spearmanr(*order).statistic) if varied else np.nan
    tau = float(kendalltau(*order).statistic) if varied else np.nan
    if RIVAL not in a.names:
        return (*head, overlap, *nothing[:5], len(order[0]), rho, tau, NO_RIVAL), None
    names = (inp.request.primary, RIVAL)
    effect = interaction(a, shared.other_label, names)
    at = effect.cells(null_value=0.0, level=1 - inp.request.settings.alpha)
    p = np.nan if effect.undefined else effect.p_two_sided()
    observed, null = swap_rows(
        a, shared.other_label, names, draws=inp.request.settings.permutations,
        rng=inp.rng(f"permutation/{NAME}/swap/{other}"),
    )  # fmt: skip
    null = null[np.isfinite(null)]
    p_swap = float(permutation_p(observed, null, side="two-sided")[0]) if len(null) and np.ptp(null) > 0 else np.nan
    row = (*head, overlap, at["value"], at["low"], at["high"], p, p_swap, len(order[0]), rho, tau, effect.undefined)
    return row, effect


def _thinned_rows(
    scheme: str, dropped: float, names: list[str], found: Thinned, n_true: int, lead: float
) -> list[tuple[object, ...]]:  # fmt: skip
    """Mean and range over draws, per score; the share of draws in which attention keeps its side of co-expression."""
    rows = []
    usable = np.isfinite(found.auroc).all(axis=0)
    gap = found.auroc[0, usable] - found.auroc[1, usable] if len(names) > 1 else np.zeros(0)
    for s, name in enumerate(names):
        x = found.auroc[s, usable]
        low, high = np.quantile(x, [0.025, 0.975]) if len(x) else (np.nan, np.nan)
        ratio, top, top_ap = np.nan, np.nan, np.nan
        if found.average_precision is not None and len(x):
            m, pairs = int(found.n_pos[0]), int(found.n_pairs[0])
            ratio = float(found.average_precision[s, usable].mean() * pairs / m)
            best = ceilings(m, pairs, completeness=m / n_true)
            top, top_ap = best.auroc, best.average_precision * pairs / m
        kept = float((np.sign(gap) == np.sign(lead)).mean()) if s == 0 and len(gap) else np.nan
        rows.append((scheme, dropped, name, float(x.mean()) if len(x) else np.nan, low, high, ratio, kept, top, top_ap,
                     float(found.n_pos[usable].mean()) if len(x) else np.nan, len(x)))  # fmt: skip
    return rows


def _incompleteness(inp: AnalysisInput, edges: LabelledEdges, *, shares: list[float], draws: int) -> pd.DataFrame:
    """Fewer edges, at random or regulator by regulator."""
    names = [n for n in (inp.request.primary, RIVAL) if n in edges.names]
    scores = edges.scores[[edges.names.index(n) for n in names]]
    lead = float(np.subtract(*auroc(scores, edges.label))) if len(names) > 1 else np.nan
    rows, where = np.unique(edges.regulator, return_inverse=True)
    tables = [wins_between(s, edges.label, where, len(rows)) for s in scores]
    out: list[tuple[object, ...]] = []
    keeps = [
        random_subsets(
            edges.n_pos, round((1 - x) * edges.n_pos), draws=draws, rng=inp.rng(f"subsample/{NAME}/edges/{x:g}")
        )
        for x in shares
    ]
    for dropped, found in zip(shares, thin_edges(scores, edges.label, keeps)):
        out += _thinned_rows("edges at random", dropped, names, found, edges.n_pos, lead)
    for dropped in shares:
        rng = inp.rng(f"subsample/{NAME}/regulators/{dropped:g}")
        member = random_subsets(len(rows), round((1 - dropped) * len(rows)), draws=draws, rng=rng)
        found = Thinned(
            auroc=np.stack([t.auroc(member) for t in tables]), average_precision=None,
            n_pos=member @ tables[0].n_pos, n_pairs=member @ (tables[0].n_pos + tables[0].n_neg),
        )  # fmt: skip
        out += _thinned_rows("whole regulators", dropped, names, found, edges.n_pos, lead)
    return pd.DataFrame(out, columns=TABLES["reference_incompleteness"])


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    request = inp.request
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    symmetric = frozenset(str(n) for n in parameters["symmetric"])
    plain = inp
    if is_symmetric(inp):
        inp = symmetrised(inp)
    attention = inp.attention[request.direction]
    names = {
        "attention": list(attention.names), "coexpression": [n for n in inp.coexpression.names if n == RIVAL],
        "baselines": ["product_mean", "product_variance", "product_detection", "marginal_product"],
    }  # fmt: skip
    names["attention"] = [request.primary, *(n for n in attention.names if n != request.primary)]
    test = test_id(NAME, request, DESIGNS[0].name)
    edges = edges_of(inp, inp.primary, having(inp.coexpression, [RIVAL]))
    if reason := refusal(edges):
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("",))
    first = next(iter(inp.universes), request.reference)
    others = {o: share(plain, o, names, symmetric=symmetric) for o in inp.universes if o != request.reference}
    pair_rows, effects = [], {}
    for other, shared in others.items():
        row, effects[other] = _pair_row(inp, other, shared)
        pair_rows.append(row)
    estimate: Estimate | Undefined
    effect = effects.get(first)
    if len(inp.universes) < 2:
        reason = "the study has one reference"
    elif first == request.reference:
        reason = "this is the first reference of the study, which the others are held against"
    elif not inp.has_expression:
        reason = NO_RIVAL
    elif effect is None:
        reason = str(pair_rows[list(others).index(first)][-1])
    else:
        reason = effect.undefined
    if reason or effect is None:
        record = TestRecord(id=test, undefined=reason, n_units=counts_of(edges)["n_regulators"])
        estimate = Undefined(reason=reason)
    else:
        record = effect.record(test, side="two-sided", level=1 - request.settings.alpha)
        estimate = effect.estimate(null_value=0.0, level=1 - request.settings.alpha)
    grid = _grid(inp, edges, others, int(parameters["max_sources"]))
    shares = [float(x) for x in parameters["dropped"]]
    incomplete = _incompleteness(inp, edges, shares=shares, draws=int(parameters["draws"]))
    leads = grid.loc[grid["delta"].notna(), "delta"]
    facts = {
        **counts_of(edges),
        "n_references": len(inp.universes),
        "n_slices": len(grid),
        "n_slices_attention_leads": int((leads > 0).sum()),
        "n_slices_defined": len(leads),
    }
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference,
        results=(
            result_of(inp, NAME, score=f"lead of {request.primary}, this reference - first", metric="auroc_difference",
                      null_value=0.0, estimate=estimate, edges=edges),
        ),
        tables={
            "reference_grid": grid,
            "reference_pairs": pd.DataFrame(pair_rows, columns=TABLES["reference_pairs"]),
            "reference_incompleteness": incomplete,
        },
        records=(record,), facts=facts, dropped=dropped_of(edges),
    )  # fmt: skip


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Sensitivity to the reference",
    question="Does the conclusion survive another reference, another evidence filter, or an incomplete list?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "reference"),
    plan=plan,
    run=run,
    reference="Badia-i-Mompel et al. 2023 (references of regulation); Claesen et al. 2015 (metrics under missing "
    "labels)",
    falsified_by="A lead of attention over co-expression that changes its sign with the reference, with the evidence "
    "that is asked for, or with the edges that happen to be listed.",
    parameters={
        "dropped": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "draws": 200, "max_sources": 8, "symmetric": [],
    },
)  # fmt: skip
