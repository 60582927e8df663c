"""Do strata of cell states reveal regulation that pooling over all cells dilutes?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.blocks import BlockScores, block_sums
from regulens.analyses.common import (
    TestDesign,
    counts_of,
    dropped_of,
    edges_of,
    plan_tests,
    refusal,
    refused,
    result_of,
    test_id,
)
from regulens.analyses.cssi_folds import (
    MIN_STRATUM,
    Fold,
    drawn_pairs,
    gains,
    halves_of_blocks,
    joint,
    make_folds,
    paired,
    stratified,
    usable,
)
from regulens.analyses.cssi_published import run_published
from regulens.analyses.inference import Effect
from regulens.analyses.strata_labels import (
    BlockLabels,
    embedding_space,
    expression_space,
    leiden,
    majority,
    stability,
    ward,
)
from regulens.nulls.label_permuted_strata import permuted_strata
from regulens.scorers.stratified import VARIANTS, combine
from regulens.stats.jackknife import Deviations, auroc_deviations
from regulens.stats.permutation import permutation_p
from regulens.stats.ranking import auroc, influence
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "cssi"

DESIGNS = (
    TestDesign(
        name="gain_above_pooled",
        hypothesis="Attention joined over estimated states, by a variant and layer chosen on other cells and "
        "regulators, has a larger AUROC than the same layer pooled over all cells",
        method="t from the delete-one jackknife of the paired difference",
    ),
    TestDesign(
        name="gain_above_shuffled_labels",
        hypothesis="The same score has a larger AUROC than with state labels dealt anew among the blocks of each donor",
        method="t from the delete-one jackknife of the paired difference to the mean of shuffled labellings",
    ),
    TestDesign(
        name="gain_rank_among_shuffled_labels",
        hypothesis="The gain over the pooled score exceeds that of shuffled labels",
        unit="block of cells",
        method="permutation of labels among blocks of one donor and about one size",
        confirmatory=False,  # blocks of a state share noise that shuffling breaks up, so they are not exchangeable
    ),
    TestDesign(
        name="annotated_gain_above_pooled",
        hypothesis="As gain_above_pooled, with the annotated states: the ceiling of what estimated ones can give",
        method="t from the delete-one jackknife of the paired difference",
        confirmatory=False,
    ),
)

TABLES = {
    "cssi": [
        "strata", "auroc_pooled", "auroc_strata", "gain", "gain_low", "gain_high", "null_mean", "null_q95", "p",
        "beyond", "beyond_low", "beyond_high", "n_pos", "n_neg", "note",
    ],
    "cssi_folds": ["strata", "fold", "layer", "variant", "gain_chosen", "gain", "n_strata", "n_blocks", "imputed"],
    "cssi_grid": ["strata", "layer", "variant", "auroc_pooled", "auroc_strata", "gain"],
    "cssi_nulls": ["strata", "null", "gain", "null_mean", "null_q95", "p", "draws", "arrangements"],
    "cssi_strata": ["strata", "stratum", "n_cells", "n_blocks", "purity", "used"],
    "cssi_kscan": ["k", "gain", "null_mean", "null_q95", "n_used"],
}  # fmt: skip

#: Label-shuffled scores whose mean the strata are held against, with the full error of both.
_NULL_SCORES = 12
_K_SCAN = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and reference."""
    return () if request.protocol is Protocol.PUBLISHED else plan_tests(NAME, request, DESIGNS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Study:
    """What all kinds of strata share: pairs, folds, and block scores of the sampled pairs by layer."""

    inp: AnalysisInput
    edges: LabelledEdges
    folds: list[Fold]
    thin: dict[str, BlockScores]
    place: np.ndarray  # position of a pair among the sampled ones, -1 elsewhere
    load: Callable[[str], BlockScores]
    donor: np.ndarray
    cells: np.ndarray
    parameters: dict[str, Any]

    def at(self, score: str, blocks: np.ndarray, pairs: np.ndarray) -> BlockScores:
        """Block scores of some sampled pairs."""
        return self.thin[score].at(blocks=blocks, pairs=self.place[pairs])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Choice:
    """What a fold chose, and the labels of its held-out blocks."""

    fold: Fold
    score: str
    variant: str
    gain: float
    labels: np.ndarray
    k: int


def _state_labels(inp: AnalysisInput, parameters: dict[str, Any]) -> dict[str, BlockLabels | Undefined]:
    """Strata of blocks by kind, in the order of the tables."""
    view = inp.partitions
    assert view is not None
    n = len(view.table)
    found: dict[str, BlockLabels | Undefined] = {}
    spaces: dict[str, Callable[[], np.ndarray]] = {"expression": lambda: expression_space(inp.expression)}
    if inp.embedding is not None:
        make = inp.embedding
        spaces["embedding"] = lambda: embedding_space(make())
    for kind in parameters["strata"]:
        if kind == "annotation":
            if "cell_state" not in inp.obs:
                found[kind] = Undefined(reason="no column of the cells was named for states")
            else:
                found[kind] = majority(inp.obs["cell_state"].to_numpy().astype(str), view.cell_partition, n)
        elif kind not in spaces:
            found[kind] = Undefined(reason="no cell embedding of this model is at hand")
        else:
            space = spaces[kind]()
            seed = int(inp.rng(f"leiden/{NAME}/{kind}").integers(2**31))
            label = _cluster(space, parameters, seed)
            found[kind] = label if isinstance(label, Undefined) else majority(
                label, view.cell_partition, n, prefix="cluster "
            )  # fmt: skip
    return found


def _cluster(space: np.ndarray, parameters: dict[str, Any], seed: int) -> np.ndarray | Undefined:
    if parameters["clustering"] == "ward":
        return ward(space, min(int(parameters["ward_clusters"]), len(space)))
    return leiden(space, k=int(parameters["neighbours"]), resolution=float(parameters["resolution"]), seed=seed)


def _study(inp: AnalysisInput, edges: LabelledEdges, parameters: dict[str, Any]) -> tuple[_Study | None, str, str]:
    """Folds and block scores; without them the reason. Third: what the halves keep apart."""
    view = inp.partitions
    assert view is not None
    rng = inp.rng(f"split/{NAME}")
    half, apart = halves_of_blocks(view.table, rng)
    negatives = int(parameters["null_negatives"])
    folds, reason = make_folds(edges, half, negatives=negatives, rng=rng)
    if not folds:
        return None, reason, apart
    i, j = edges.regulator, edges.target
    cells = view.table["n_cells"].to_numpy(dtype=np.float64)
    counts = view.counts()[:, i, j].astype(np.float64)

    def full(score: str) -> BlockScores:
        sums = block_sums(view, score, direction=inp.request.direction)[:, i, j]
        return BlockScores(sums=sums, counts=counts, cells=cells, min_cells=view.min_cells)

    wanted = np.unique(np.concatenate([p for f in folds for p in (f.train_pairs, f.sample)]))
    place = np.full(len(edges.label), -1, dtype=np.int64)
    place[wanted] = np.arange(len(wanted))
    scores = inp.attention[inp.request.direction]
    layers = [n for n, l, h in zip(scores.names, scores.layers, scores.heads) if l >= 0 and h < 0]
    thin = {n: full(n).at(pairs=wanted) for n in dict.fromkeys([inp.request.primary, *layers])}
    donor = view.table["donor"].to_numpy().astype(str) if "donor" in view.table else np.full(len(cells), "all")
    return (
        _Study(
            inp=inp, edges=edges, folds=folds, thin=thin, place=place, load=full, donor=donor, cells=cells,
            parameters=parameters,
        ),
        "",
        apart,
    )  # fmt: skip


def _variants(study: _Study) -> tuple[str, ...]:
    return tuple(study.parameters["variants"])


def _choose(study: _Study, made: BlockLabels) -> list[_Choice]:
    """Per fold the score and variant of largest gain on the training half; folds with one stratum are left out."""
    k, variants, out = len(made.names), _variants(study), []
    for fold in study.folds:
        train = usable(made.label[fold.train_blocks], study.cells[fold.train_blocks], k)
        held = usable(made.label[fold.held_blocks], study.cells[fold.held_blocks], k)
        if min(len(np.unique(x[x >= 0])) for x in (train, held)) < 2:
            continue
        label = study.edges.label[fold.train_pairs]
        table = np.stack(
            [
                gains(study.at(s, fold.train_blocks, fold.train_pairs), label, train, k, variants)[:, 0]
                for s in study.thin
            ]
        )
        best = np.unravel_index(int(np.argmax(table)), table.shape)
        out.append(
            _Choice(
                fold=fold, score=list(study.thin)[best[0]], variant=variants[best[1]], gain=float(table[best]),
                labels=held, k=k,
            )
        )  # fmt: skip
    return out


def _null_gains(study: _Study, choices: list[_Choice], deal: Callable[[_Choice], np.ndarray]) -> np.ndarray:
    """Gains on the sampled pairs, weighted over folds by positives, shape ``(draw,)``.

    Parameters
    ----------
    deal
        Labels of the held-out blocks of a fold, shape ``(draw, block)``.
    """
    weights = np.array([study.edges.label[c.fold.sample].sum() for c in choices], dtype=np.float64)
    total = 0.0
    for weight, c in zip(weights / weights.sum(), choices):
        scores = study.at(c.score, c.fold.held_blocks, c.fold.sample)
        label = study.edges.label[c.fold.sample]
        total = total + weight * gains(scores, label, deal(c), c.k, (c.variant,))[0]
    return np.asarray(total)


def _shuffled(study: _Study, c: _Choice, draws: int, rng: np.random.Generator) -> Any:
    blocks = c.fold.held_blocks
    return permuted_strata(
        c.labels, donor=study.donor[blocks], size=study.cells[blocks], draws=draws, rng=rng,
        tolerance=float(study.parameters["size_tolerance"]),
    )  # fmt: skip


def _as_labels(draws: Any) -> np.ndarray:
    """Labels of draws as they were before `permuted_strata` numbered them."""
    return np.asarray(draws.strata)[draws.labels]


def _effects(study: _Study, choices: list[_Choice], kind: str) -> tuple[Effect, Effect, float, float]:
    """Held-out gain over the pooled score, and over the mean of label-shuffled scores, on all pairs; both AUROCs."""
    edges = study.edges
    n_reg, n_tgt = int(edges.regulator.max()) + 1, int(edges.target.max()) + 1
    weight = np.array([edges.label[c.fold.held_pairs].sum() for c in choices], dtype=np.float64)
    weight /= weight.sum()
    full = {s: study.load(s) for s in dict.fromkeys(c.score for c in choices)}
    gain, excess, pooled_auroc, strata_auroc = [], [], 0.0, 0.0
    for w, c in zip(weight, choices):
        pairs = c.fold.held_pairs
        scores = full[c.score].at(blocks=c.fold.held_blocks, pairs=pairs)
        joined, made = stratified(scores, c.labels, c.k, c.variant)
        present = np.unique(edges.regulator[pairs]), np.unique(edges.target[pairs])
        gain.append((w, paired(joined, made.pooled, edges, pairs), *present))
        rng = study.inp.rng(f"nulls/{NAME}/scores/{kind}/{c.fold.name}")
        shuffled = usable(_as_labels(_shuffled(study, c, _NULL_SCORES, rng)), scores.cells, c.k)
        null = np.concatenate(
            [
                combine(scores.strata(shuffled[part], c.k, errors=c.variant == "lower"), c.variant)
                for part in scores.chunks(_NULL_SCORES, c.k)
            ]
        )
        own, other = (
            auroc_deviations(x, edges.label[pairs], edges.regulator[pairs], edges.target[pairs])
            for x in (joined[None], null)
        )
        own_psi, null_psi = (influence(x, edges.label[pairs])[1].mean(axis=0) for x in (joined[None], null))
        difference = Deviations(
            estimate=own.estimate - other.estimate.mean(keepdims=True),
            regulator=own.regulator - other.regulator.mean(axis=0, keepdims=True),
            target=own.target - other.target.mean(axis=0, keepdims=True),
            edge_variance=np.square(own_psi - null_psi).sum(keepdims=True),
        )
        excess.append((w, difference, *present))
        strata_auroc += w * float(own.estimate[0])
        pooled_auroc += w * float(auroc(made.pooled, edges.label[pairs])[0])
    return joint(gain, n_reg, n_tgt), joint(excess, n_reg, n_tgt), pooled_auroc, strata_auroc


def _controls(study: _Study, choices: list[_Choice], kind: str) -> list[tuple[Any, ...]]:
    """Rows of `cssi_nulls`: gain of the labels and of labels that mean nothing, on the sampled pairs."""
    inp, draws = study.inp, int(study.parameters["draws"])
    fewer = max(20, draws // 5)
    observed = float(_null_gains(study, choices, lambda c: c.labels[None])[0])
    least = np.inf

    def within_donor(c: _Choice) -> np.ndarray:
        nonlocal least
        made = _shuffled(study, c, draws, inp.rng(f"nulls/{NAME}/labels/{kind}/{c.fold.name}"))
        least = min(least, made.n_arrangements)
        return _as_labels(made)

    def sizes_only(c: _Choice) -> np.ndarray:
        rng = inp.rng(f"nulls/{NAME}/sizes/{kind}/{c.fold.name}")
        return rng.permuted(np.tile(c.labels, (fewer, 1)), axis=1)

    def random(c: _Choice) -> np.ndarray:
        rng = inp.rng(f"nulls/{NAME}/random/{kind}/{c.fold.name}")
        return rng.integers(len(np.unique(c.labels[c.labels >= 0])), size=(fewer, len(c.labels)))

    rows = []
    for name, deal in (
        ("labels dealt anew within donors", within_donor),
        ("random strata of the same sizes", sizes_only),
        ("random strata", random),
    ):
        null = _null_gains(study, choices, deal)
        arrangements = least if deal is within_donor else np.nan
        rows.append((kind, name, observed, float(null.mean()), float(np.quantile(null, 0.95)),
                     float(permutation_p(observed, null[None])[0]), len(null), arrangements))  # fmt: skip
    return rows


def _grid(study: _Study, made: BlockLabels, kind: str, rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Every layer and variant in all blocks, on all positives and sampled negatives: descriptive, nothing held out."""
    sampled = np.flatnonzero(study.place >= 0)
    keep = sampled[drawn_pairs(study.edges.label[sampled], int(study.parameters["null_negatives"]), rng)]
    label, k, blocks = study.edges.label[keep], len(made.names), np.arange(len(study.cells))
    rows = []
    for score in study.thin:
        scores = study.at(score, blocks, keep)
        pooled = float(auroc(scores.pooled, label)[0])
        for variant, gain in zip(_variants(study), gains(scores, label, made.label, k, _variants(study))[:, 0]):
            rows.append((kind, score, variant, pooled, pooled + float(gain), float(gain)))
    return rows


def _k_scan(study: _Study, choices: list[_Choice], space: np.ndarray) -> list[tuple[Any, ...]]:
    """Gain by the number of strata: blocks clustered by their mean place in expression space (Ward)."""
    inp, view = study.inp, study.inp.partitions
    assert view is not None
    centre = np.stack([space[view.cell_partition == p].mean(axis=0) for p in range(len(study.cells))])
    rows = []
    most = min(len(c.labels) for c in choices)
    for k in (k for k in _K_SCAN if k < most):
        label = ward(centre, k)
        own = [
            _Choice(fold=c.fold, score=c.score, variant=c.variant, gain=c.gain, labels=label[c.fold.held_blocks], k=k)
            for c in choices
        ]
        observed = float(_null_gains(study, own, lambda c: c.labels[None])[0])
        null = _null_gains(
            study, own, lambda c: _as_labels(_shuffled(study, c, 25, inp.rng(f"nulls/{NAME}/k{c.k}/{c.fold.name}")))
        )
        used = float(np.mean([len(np.unique(usable(c.labels, study.cells[c.fold.held_blocks], k))) for c in own]))
        rows.append((k, observed, float(null.mean()), float(np.quantile(null, 0.95)), used))
    return rows


def _strata_rows(kind: str, made: BlockLabels, cells: np.ndarray) -> list[tuple[Any, ...]]:
    rows = []
    for s, name in enumerate(made.names):
        mine = made.label == s
        size = float(cells[mine].sum())
        purity = float((made.block_purity[mine] * cells[mine]).sum() / size)
        rows.append((kind, name, int(size), int(mine.sum()), purity, bool(size >= MIN_STRATUM)))
    return rows


def _estimate(effect: Effect, level: float) -> Estimate | Undefined:
    return effect.estimate(null_value=0.0, level=level)


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one reference."""
    if inp.request.protocol is Protocol.PUBLISHED:
        return run_published(inp, NAME)
    request, level = inp.request, 1 - inp.request.settings.alpha
    parameters = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    edges = edges_of(inp, inp.primary)
    reason = refusal(edges)
    if not reason and inp.partitions is None:
        reason = "the model scores pairs from its weights alone, so that there is no attention by cell"
    if reason:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("strata",))
    study, reason, apart = _study(inp, edges, parameters)
    if study is None:
        return refused(inp, NAME, DESIGNS, reason, edges=edges, tables=TABLES, steps=("strata",))

    made = _state_labels(inp, parameters)
    primary = str(parameters["primary_strata"])
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    effects: dict[str, tuple[Effect, Effect]] = {}
    why: dict[str, str] = {}
    dropped = dropped_of(edges)
    for kind, labels in made.items():
        choices = [] if isinstance(labels, Undefined) else _choose(study, labels)
        if isinstance(labels, Undefined):
            why[kind] = labels.reason
        elif not choices:
            why[kind] = f"no half of the cells has two strata of at least {MIN_STRATUM} cells"
        if isinstance(labels, BlockLabels):
            rows["cssi_strata"] += _strata_rows(kind, labels, study.cells)
            dropped[f"{kind}: labels that are nowhere in the majority of a block"] = labels.n_cell_labels - len(
                labels.names
            )
            small = [r for r in rows["cssi_strata"] if r[0] == kind and not r[-1]]
            dropped[f"{kind}: strata of fewer than {MIN_STRATUM} cells"] = len(small)
        if kind in why:
            rows["cssi"].append((kind, *[np.nan] * 13, why[kind]))
            continue
        assert isinstance(labels, BlockLabels)
        gain, excess, pooled, joined = _effects(study, choices, kind)
        effects[kind] = gain, excess
        nulls = _controls(study, choices, kind)
        rows["cssi_nulls"] += nulls
        rows["cssi_grid"] += _grid(study, labels, kind, inp.rng(f"grid/{NAME}/{kind}"))
        for c in choices:
            scores = study.at(c.score, c.fold.held_blocks, c.fold.sample)
            held = float(gains(scores, edges.label[c.fold.sample], c.labels, c.k, (c.variant,))[0, 0])
            used = np.unique(c.labels[c.labels >= 0])
            share = scores.imputed_share(np.searchsorted(used, c.labels), len(used))
            rows["cssi_folds"].append((kind, c.fold.name, c.score, c.variant, c.gain, held, len(used),
                                       len(c.labels), share))  # fmt: skip
        g, e = (x.cells(null_value=0.0, level=level) for x in (gain, excess))
        n_pos = int(sum(edges.label[c.fold.held_pairs].sum() for c in choices))
        n_all = int(sum(len(c.fold.held_pairs) for c in choices))
        rows["cssi"].append((
            kind, pooled, joined, g["value"], g["low"], g["high"], nulls[0][3], nulls[0][4], nulls[0][5], e["value"],
            e["low"], e["high"], n_pos, n_all - n_pos, f"{len(choices)} of 4 turns" if len(choices) < 4 else "",
        ))  # fmt: skip
        if kind == primary:
            rows["cssi_kscan"] = _k_scan(study, choices, expression_space(inp.expression))

    ids = {d.name: test_id(NAME, request, d.name) for d in DESIGNS}
    lacking = why.get(primary, f"strata by {primary} were not asked for")
    records = []
    for design, kind, which in (
        (DESIGNS[0], primary, 0), (DESIGNS[1], primary, 1), (DESIGNS[3], "annotation", 0),
    ):  # fmt: skip
        if kind in effects:
            records.append(effects[kind][which].record(ids[design.name], side="greater", level=level))
        else:
            records.append(TestRecord(id=ids[design.name], undefined=why.get(kind, "no such strata were asked for")))
    null_rows = [r for r in rows["cssi_nulls"] if r[0] == primary][:1]
    stream = inp.stream_name(f"nulls/{NAME}/labels/{primary}")
    if null_rows and null_rows[0][7] >= 20:
        _, _, observed, mean, _, p, _, _ = null_rows[0]
        records.append(
            TestRecord(id=ids[DESIGNS[2].name], effect=observed - mean, p_raw=p, n_units=len(study.cells),
                       stream=stream)
        )  # fmt: skip
    else:
        few = f"{null_rows[0][7]:.0f} arrangements of labels; at least 20 are needed" if null_rows else lacking
        records.append(TestRecord(id=ids[DESIGNS[2].name], undefined=few))

    facts: dict[str, Any] = {
        **counts_of(edges), "primary_strata": primary, "halves_by": apart, "n_blocks": len(study.cells),
        "variants": list(_variants(study)),
    }  # fmt: skip
    labels = made.get(primary)
    if primary in effects and isinstance(labels, BlockLabels):
        own = [r for r in rows["cssi_folds"] if r[0] == primary]
        facts |= {
            "n_strata": len(labels.names), "purity": labels.purity, "chosen_layers": [r[2] for r in own],
            "chosen_variants": [r[3] for r in own], "imputed_share": float(np.mean([r[8] for r in own])),
            "n_turns": len(own), "is_estimated": primary != "annotation",
        }  # fmt: skip
        if primary != "annotation":
            facts |= _stability(inp, primary, parameters)
    else:
        facts["refused"] = lacking
    estimate = _estimate(effects[primary][0], level) if primary in effects else Undefined(reason=lacking)
    excess_estimate = _estimate(effects[primary][1], level) if primary in effects else Undefined(reason=lacking)
    score = "strata (chosen on other cells and genes)"
    results = (
        result_of(inp, NAME, score=f"{score} - pooled", estimate=estimate, edges=edges, metric="auroc_difference",
                  null_value=0.0, step="strata", stream=inp.stream_name(f"split/{NAME}")),
        result_of(inp, NAME, score=f"{score} - shuffled labels", estimate=excess_estimate, edges=edges,
                  metric="auroc_difference", null_value=0.0, stream=inp.stream_name(f"split/{NAME}")),
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=request.model, reference=request.reference, results=results, records=tuple(records),
        facts=facts, dropped=dropped,
        tables={name: pd.DataFrame(rows[name], columns=columns) for name, columns in TABLES.items()},
    )  # fmt: skip


def _stability(inp: AnalysisInput, kind: str, parameters: dict[str, Any]) -> dict[str, float]:
    """Agreement of the labels with those of nine tenths of the cells, and with annotation where there is one."""
    from sklearn.metrics import adjusted_rand_score

    space = expression_space(inp.expression) if kind == "expression" else embedding_space(inp.embedding())
    seed = int(inp.rng(f"leiden/{NAME}/{kind}").integers(2**31))
    label = _cluster(space, parameters, seed)
    assert not isinstance(label, Undefined)
    found = {
        "stability_ari": stability(
            space, label, lambda part: _cluster(part, parameters, seed), inp.rng(f"stability/{NAME}/{kind}")
        )
    }
    if "cell_state" in inp.obs:
        found["annotation_ari"] = float(adjusted_rand_score(inp.obs["cell_state"].astype(str), label))
    return found


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Strata of cell states",
    question="Do strata of cell states reveal regulation that pooling over all cells dilutes?",
    endpoint=Endpoint.REFERENCE_RECOVERY,
    needs=("attention", "expression", "reference", "blocks"),
    plan=plan,
    run=run,
    reference="Traag, Waltman & van Eck 2019; Hubert & Arabie 1985; Phipson & Smyth 2010",
    falsified_by="A held-out gain over the pooled score that includes 0, or one that shuffled labels reach as well.",
    parameters={
        "strata": ["annotation", "expression"],
        "primary_strata": "expression",
        "variants": [v for v in VARIANTS if v != "absmax"],  # attention is not negative: absmax is max
        "clustering": "leiden",
        "neighbours": 15,
        "resolution": 1.0,
        "ward_clusters": 8,
        "draws": 500,
        "null_negatives": 3_000,
        "size_tolerance": 1.6,
    },
    protocols=(Protocol.CORRECTED, Protocol.PUBLISHED),
)
