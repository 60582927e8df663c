"""Does what one screen says (best layer, threshold, who leads) hold in another one without choosing again?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulens.analyses.base import AnalysisInput, AnalysisSpec, TestRequest
from regulens.analyses.common import TestDesign, plan_tests, test_id
from regulens.analyses.design_scores import BASELINES, RIVAL
from regulens.analyses.frozen_choices import (
    Frozen,
    Side,
    apart_rows,
    choose,
    common_pairs,
    frozen_rows,
    retuned_rows,
)
from regulens.analyses.frozen_effects import EFFECTS, Found, found_of, minus
from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.per_perturbation import (
    METHOD,
    MIN_PERTURBATIONS,
    UNIT,
    screen_refused,
    screen_result_of,
)
from regulens.errors import ParameterError, RegulensError
from regulens.provenance import digest_of
from regulens.stats.heterogeneity import RandomEffects, random_effects
from regulens.types.endpoints import Endpoint
from regulens.types.ledger import PlannedTest, TestRecord
from regulens.types.results import AnalysisOutcome

NAME = "dataset_generalisation"

DESIGNS = (
    TestDesign(
        name="frozen_score_above_chance",
        hypothesis="The head or layer that did best in the other screens, on other perturbations and other genes, "
        "ranks responders above other genes here: mean AUROC > 0.5",
        unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="frozen_order_with_coexpression",
        hypothesis="Attention and co-expression stand in the order here that the other screens put them in, on other "
        "perturbations and other genes",
        unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="frozen_order_with_gene_level",
        hypothesis="Attention and the gene-level statistic that did best in the other screens stand in the order here "
        "that those put them in, on other perturbations and other genes",
        unit=UNIT, method=METHOD,
    ),
    TestDesign(
        name="frozen_calls_above_chance",
        hypothesis="Responses called by the threshold of the other screens have a mean balanced accuracy above 0.5",
        unit=UNIT, method=METHOD, confirmatory=False,  # the score's test again, at one cut
    ),
)  # fmt: skip

#: Effect → its test.
TESTED = {
    "score": "frozen_score_above_chance", "over_coexpression": "frozen_order_with_coexpression",
    "over_gene_level": "frozen_order_with_gene_level", "calls": "frozen_calls_above_chance",
}  # fmt: skip

TABLES = {
    "generalisation": [
        "universe", "chosen_in", "effect", "choice", "n_perturbations_first", "n_perturbations", "n_pos",
        "first_as_chosen", "first_nested", "frozen", "frozen_low", "frozen_high", "apart", "apart_low", "apart_high",
        "p", "retuned", "retuned_low", "retuned_high", "change", "change_low", "change_high", "cost", "cost_low",
        "cost_high", "choices_digest", "note",
    ],
    "generalisation_screens": [
        "effect", "screen", "value", "low", "high", "se", "n_perturbations", "weight", "note",
    ],
    "generalisation_left_out": ["screen", "reason"],
}  # fmt: skip

#: What is frozen on several screens at once.
ALL = "all other screens"


def plan(request: TestRequest) -> tuple[PlannedTest, ...]:
    """Tests of this analysis for one model and screen; planned, and undefined, where there is one screen only."""
    return plan_tests(NAME, request, DESIGNS, endpoint=Endpoint.PERTURBATION_RESPONSE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Transfer:
    """Choices of some screens, applied to this one.

    Parameters
    ----------
    first_frozen, first_nested
        The effects in the screens that chose: as chosen, and each perturbation by the choices of others.
    frozen, retuned
        Here: by those choices unchanged, and by choices made here.
    apart
        Here, by choices that saw neither the perturbation nor the gene; or why there are none.
    """

    universe: str
    chosen_in: str
    choices: Frozen
    digest: str
    first: list[Side]
    first_frozen: list[Found]
    first_nested: list[Found]
    frozen: Found
    retuned: Found
    apart: Found | str


def run(inp: AnalysisInput) -> AnalysisOutcome:
    """Answer the question for one model and one screen; the others are those that choices are made in."""
    given = SPEC.parameters | {k: v for k, v in inp.parameters.items() if k in SPEC.parameters}
    folds = int(given["folds"])
    if folds < 2:
        message = f"Expected at least 2 folds of perturbations, got {folds}. Set `folds` to 2 or more."
        raise ParameterError(message)
    here = Side.build(inp)
    lost: dict[str, str] = {}
    sides: dict[str, Side] = {}
    for name in inp.request.others:
        if name not in inp.others:
            lost[name] = "not at hand"
            continue
        try:
            side = Side.build(inp.others[name]())
        except RegulensError as error:
            lost[name] = str(error)
            continue
        if side.per.refusal:
            lost[name] = side.per.refusal
        else:
            sides[name] = side
    reason = here.per.refusal
    if not inp.request.others:
        reason = "the study has one screen; choices made in one must be applied to another"
    elif not reason and not sides:
        reason = "no other screen can be evaluated: " + "; ".join(f"{k}: {v}" for k, v in lost.items())
    if reason:
        outcome = screen_refused(inp, NAME, DESIGNS, reason, per=here.per, tables=TABLES)
        outcome.tables["generalisation_left_out"] = _left_out(lost)
        return outcome

    transfers = _transfers(inp, here, sides, folds, lost)
    level = 1 - inp.request.settings.alpha
    main = transfers[0]  # own pairs, all other screens
    rows = [_row(t, e, level) for t in transfers for e in EFFECTS]
    records = tuple(
        TestRecord(id=test_id(NAME, inp.request, test), undefined=main.apart, n_units=here.per.n)
        if isinstance(main.apart, str)
        else main.apart.effects[effect].record(test_id(NAME, inp.request, test), side="greater", level=level)
        for effect, test in TESTED.items()
    )
    screens, facts = _over_screens(inp, here, sides, level)
    results = tuple(
        screen_result_of(
            inp, NAME, main.frozen.per, score=f"{effect}, chosen in {main.chosen_in}: {main.choices.words(effect)}",
            estimate=main.frozen.effects[effect].estimate(null_value=0.0 if over else 0.5, level=level),
            metric="mean_perturbation_auroc_difference" if over else "mean_perturbation_auroc",
            null_value=0.0 if over else 0.5,
        )
        for effect in EFFECTS
        for over in [effect.startswith("over_")]
        if _applies(main, effect)
    )  # fmt: skip
    return AnalysisOutcome(
        analysis=NAME, model=inp.request.model, reference=inp.request.reference, results=results, records=records,
        tables={
            "generalisation": pd.DataFrame(rows, columns=TABLES["generalisation"]),
            "generalisation_screens": screens,
            "generalisation_left_out": _left_out(lost),
        },
        facts={
            **here.per.counts(), "n_screens": len(sides) + 1, "chosen_in": main.chosen_in,
            "choices": {e: main.choices.words(e) for e in EFFECTS}, "choices_digest": main.digest,
            "left_out": lost, **facts,
        },
        dropped=here.per.dropped(),
    )  # fmt: skip


def _left_out(lost: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(lost.items()), columns=TABLES["generalisation_left_out"])


def _applies(transfer: _Transfer, effect: str) -> bool:
    return effect != "layer" or bool(transfer.choices.layer)


def _transfers(
    inp: AnalysisInput, here: Side, sides: dict[str, Side], folds: int, lost: dict[str, str]
) -> list[_Transfer]:  # fmt: skip
    """Choices of each other screen and of all, on every screen's own pairs and on the pairs that they share."""
    groups = {name: [name] for name in sides}
    if len(sides) > 1:
        groups = {ALL: list(sides), **groups}
    made = [_transfer(inp, "own", who, [sides[n] for n in names], here, folds) for who, names in groups.items()]
    for who, names in groups.items():
        every = [here, *(sides[n] for n in names)]
        masks = common_pairs([s.inp for s in every])
        target, *first = [_on(side, mask) for side, mask in zip(every, masks)]
        # a perturbation may have responders in one of the screens only
        both = frozenset.intersection(*(frozenset(s.per.perturbations) for s in (target, *first)))
        if len(both) < MIN_PERTURBATIONS:
            lost[f"{who}, shared pairs"] = (
                f"{len(both)} perturbations can be evaluated in both on the same genes; at least {MIN_PERTURBATIONS} "
                "are needed"
            )
            continue
        target, *first = [_restricted(s, both) for s in (target, *first)]
        made.append(_transfer(inp, "shared", who, first, target, folds))
    return made


def _on(side: Side, mask: np.ndarray) -> Side:
    """A screen on some of its pairs; itself where these are all that it uses."""
    edges = side.per.edges
    return side if mask[edges.regulator, edges.target].all() else Side.build(side.inp, keep=mask)


def _restricted(side: Side, perturbations: frozenset[str]) -> Side:
    keep = np.array([p in perturbations for p in side.per.perturbations])
    return Side(inp=side.inp, per=side.per.restrict(keep), names=side.names, auroc=side.auroc[:, keep])


def _transfer(
    inp: AnalysisInput, universe: str, who: str, first: list[Side], here: Side, folds: int
) -> _Transfer:  # fmt: skip
    choices = choose([(s, np.ones(s.per.n, dtype=bool)) for s in first])
    pairs = [s.per.edges.universe_digest for s in first], [len(s.per.edges.label) for s in first]

    def frozen(side: Side) -> Found:
        return found_of(frozen_rows(side, choices), side.inp.universe.genes)

    def own(side: Side) -> Found:
        rng = inp.rng(f"folds/{NAME}/{universe}/{who}/{side.inp.request.reference}")
        return found_of(retuned_rows(side, folds=folds, rng=rng), side.inp.universe.genes)

    apart = apart_rows(here, first, inp.rng(f"halves/{NAME}/{universe}/{who}"))
    return _Transfer(
        universe=universe, chosen_in=who, choices=choices, digest=digest_of(choices.digest, *pairs), first=first,
        first_frozen=[frozen(s) for s in first], first_nested=[own(s) for s in first], frozen=frozen(here),
        retuned=own(here), apart=apart if isinstance(apart, str) else found_of(apart, here.inp.universe.genes),
    )  # fmt: skip


def _row(t: _Transfer, name: str, level: float) -> tuple[object, ...]:
    """One effect of one set of choices."""
    head = (t.universe, t.chosen_in, name)
    counts = (sum(s.per.n for s in t.first), t.frozen.per.n, t.frozen.per.edges.n_pos)
    if not _applies(t, name):
        return (*head, "", *counts, *([np.nan] * 18), t.digest, "the model has no layers to choose from")

    def ends(effect: Effect | None) -> tuple[float, float, float]:
        if effect is None:
            return (np.nan,) * 3
        low, high = effect.bounds(level)
        return effect.value, low, high

    def mean(found: list[Found]) -> float:
        return float(np.mean([f.effects[name].value for f in found]))

    here, best = t.frozen.effects[name], t.retuned.effects[name]
    # a difference of screens is one of two: of several that chose together, each has its own row
    change = minus(t.frozen, t.first_nested[0], name) if len(t.first) == 1 else None
    apart = None if isinstance(t.apart, str) else t.apart.effects[name]
    why = t.apart if isinstance(t.apart, str) else t.apart.effects[name].undefined
    p = np.nan if apart is None or apart.undefined else apart.p_greater()
    return (
        *head, t.choices.words(name), *counts, mean(t.first_frozen), mean(t.first_nested), *ends(here), *ends(apart), p,
        *ends(best), *ends(change), *ends(minus(t.retuned, t.frozen, name)), t.digest, here.undefined or why,
    )  # fmt: skip


def _over_screens(
    inp: AnalysisInput, here: Side, sides: dict[str, Side], level: float
) -> tuple[pd.DataFrame, dict[str, object]]:
    """What the plan fixed beforehand, screen by screen, with the random-effects mean and where another would lie."""
    named = {inp.request.reference: here, **sides}
    primary = inp.request.primary
    rows: list[tuple[object, ...]] = []
    facts: dict[str, object] = {}
    for effect in ("attention", "over_coexpression", "over_gene_level"):
        found: dict[str, Effect] = {}
        for name in sorted(named):
            per = named[name].per
            if effect == "attention":
                found[name] = per.above_chance(primary)
            else:
                best = max(BASELINES, key=lambda b, per=per: float(per.values(b).mean()))
                found[name] = effects_of(per.differences(primary, [RIVAL if effect == "over_coexpression" else best]))[
                    0
                ]
        usable = {n: e for n, e in found.items() if not e.undefined}
        summary = random_effects(
            np.array([e.value for e in usable.values()]), np.array([e.se for e in usable.values()]), level=level,
            unit="screen",
        )  # fmt: skip
        shares = dict.fromkeys(usable, np.nan)
        if isinstance(summary, RandomEffects):
            weight = 1.0 / (summary.tau2 + np.square([e.se for e in usable.values()]))
            shares = dict(zip(usable, (weight / weight.sum()).tolist()))
        for name, e in found.items():
            low, high = e.bounds(level)
            rows.append((effect, name, e.value, low, high, e.se, named[name].per.n, shares.get(name, np.nan),
                         e.undefined))  # fmt: skip
        if isinstance(summary, RandomEffects):
            words = f"I² {summary.i2:.2f}, Q {summary.q:.2f} on {summary.df} df, p {summary.p:.2g}"
            rows.append((effect, "mean of screens", summary.mean.value, summary.mean.low, summary.mean.high,
                         summary.mean.se, np.nan, np.nan, words))  # fmt: skip
            rows.append((effect, "another screen", summary.mean.value, *summary.prediction, np.nan, np.nan, np.nan,
                         "prediction interval"))  # fmt: skip
            facts[f"heterogeneity_p_{effect}"] = summary.p
        else:
            rows.append((effect, "mean of screens", *((np.nan,) * 6), summary.reason.replace("units", "screens")))
    return pd.DataFrame(rows, columns=TABLES["generalisation_screens"]), facts


SPEC = AnalysisSpec(
    name=NAME,
    version=1,
    title="Generalisation to another screen",
    question="Does what one screen says (best layer, threshold, who leads) hold in another one without choosing again?",
    endpoint=Endpoint.PERTURBATION_RESPONSE,
    needs=("attention", "expression", "screen", "other_screens"),
    plan=plan,
    run=run,
    reference="DerSimonian & Laird 1986; Hartung & Knapp 2001; Higgins, Thompson & Spiegelhalter 2009 (prediction "
    "interval)",
    falsified_by="A layer, a threshold or an order of attention and its rivals that was chosen in one screen and is no "
    "better than chance, or reversed, in another.",
    parameters={"folds": 5},
    scope="model_screen",
)  # fmt: skip
