"""How often does a test answer in a world, and is that what was declared?

One world is one task; tasks run in parallel and their order changes no number. A test *answers* when its p-value is
below 0.05 and its effect points where its hypothesis does. A claim answers when it is supported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from regulens.analyses.base import ANALYSES, StatisticsSettings
from regulens.testing.worlds.expectations import EXPECTATIONS, SETTINGS, SMALLER, Expectation
from regulens.testing.worlds.judge import judge
from regulens.testing.worlds.kinds import make_world
from regulens.testing.worlds.screen_expectations import SCREEN_SETTINGS
from regulens.testing.worlds.screens import make_screen_world

ALPHA = 0.05
#: A test that must answer does so in at least this share of the worlds.
SENSITIVITY = 0.8
#: Draws: enough for p-values of 0.05, few enough for hundreds of worlds.
SETTINGS_OF_TESTS = StatisticsSettings(bootstrap=400, permutations=199)

COLUMNS = (
    "analysis", "test", "world", "expected", "n_worlds", "n_undefined", "n_answers", "share", "low", "high",
    "n_not_supported", "n_inconclusive", "as_expected", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One world and what is asked of it.

    Parameters
    ----------
    setting
        Key of `SETTINGS`.
    """

    setting: str
    seed: int
    analyses: tuple[str, ...]
    twin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one test or claim said of one world.

    Parameters
    ----------
    state
        ``answers``, ``silent`` or ``undefined``; of a claim ``supported``, ``not supported`` or ``inconclusive``.
    """

    analysis: str
    test: str
    setting: str
    seed: int
    state: str
    p: float = float("nan")
    effect: float = float("nan")


def asked_of(setting: str, analyses: Collection[str] = ()) -> tuple[str, ...]:
    """Analyses that some expectation asks of a setting, claims with all that they need; only `analyses` if given."""
    wanted = {
        name
        for e in EXPECTATIONS
        if setting in (*e.answers, *e.silent)
        for name in (e.needs or (e.analysis,))
        if name in ANALYSES.names() and (not analyses or name in analyses)
    }
    return tuple(n for n in ANALYSES.names() if n in wanted)


def tasks_of(settings: Iterable[str], *, n_worlds: int, first_seed: int, analyses: Collection[str] = ()) -> list[Task]:
    """One task per world; seeds are consecutive. Settings of which nothing is asked have none."""
    return [
        Task(setting=s, seed=first_seed + k, analyses=asked)
        for s in settings
        if (asked := asked_of(s, analyses))
        for k in range(n_worlds)
    ]


def unanswered(tasks: Iterable[Task], answers: Sequence[Answer]) -> list[Task]:
    """What is left of `tasks` when `answers` are known: analyses of which some test, or a claim, has no answer yet."""
    known = {(a.setting, a.seed, a.analysis, a.test) for a in answers}
    left = []
    for task in tasks:
        missing = {
            name
            for e in EXPECTATIONS
            if task.setting in (*e.answers, *e.silent)
            and set(e.needs or (e.analysis,)) <= set(task.analyses)
            and (task.setting, task.seed, e.analysis, e.test) not in known
            for name in (e.needs or (e.analysis,))
        }
        if missing:
            left.append(replace(task, analyses=tuple(n for n in task.analyses if n in missing)))
    return left


def answers_of(task: Task) -> list[Answer]:
    """Make one world, run what is asked, and note what every expected test and claim says."""
    kind, sizes = SETTINGS[task.setting]
    world = (make_screen_world if task.setting in SCREEN_SETTINGS else make_world)(kind, seed=task.seed, **sizes)
    if task.twin:
        world = getattr(world, task.twin)()
    inp = world.input(settings=SETTINGS_OF_TESTS)
    _, ledger, verdicts = judge(inp, task.analyses, parameters=SMALLER)
    table = ledger.table().set_index("id")
    found = []
    for e in EXPECTATIONS:
        if task.setting not in (*e.answers, *e.silent) or e.is_claim or e.analysis not in task.analyses:
            continue
        row = table.loc[f"{e.analysis}/{inp.request.model}/{inp.request.reference}/{e.test}"]
        base = {"analysis": e.analysis, "test": e.test, "setting": task.setting, "seed": task.seed}
        if row["undefined"]:
            found.append(Answer(**base, state="undefined"))
            continue
        p = float(row["p_raw"])
        effect = float("nan") if pd.isna(row["effect"]) else float(row["effect"])
        right_way = not e.upwards or np.isnan(effect) or effect > 0
        found.append(Answer(**base, state="answers" if p < ALPHA and right_way else "silent", p=p, effect=effect))
    states = {v.claim: str(v.state) for v in verdicts}
    for e in EXPECTATIONS:
        complete = e.is_claim and e.test in states and set(e.needs) <= set(task.analyses)
        if complete and task.setting in (*e.answers, *e.silent):
            found.append(
                Answer(analysis="claim", test=e.test, setting=task.setting, seed=task.seed, state=states[e.test])
            )
    return found


def _as_expected(e: Expectation, setting: str, n: int, hits: int) -> bool:
    if setting in e.answers:
        return hits >= SENSITIVITY * n
    rate = e.alarms
    return hits <= n * rate + 3 * np.sqrt(n * rate * (1 - rate))


def summarise_answers(answers: Sequence[Answer]) -> pd.DataFrame:
    """One row per expectation and setting: how often it answered, with a 95 % Wilson interval, and was it declared.

    A test that must stay silent may answer in alpha of the worlds plus three binomial standard errors, a claim in one
    of a hundred plus as much. Undefined counts as no answer.
    """
    rows = []
    for e in EXPECTATIONS:
        for setting in (*e.answers, *e.silent):
            own = [a for a in answers if (a.analysis, a.test, a.setting) == (e.analysis, e.test, setting)]
            if not own:
                continue
            states = [a.state for a in own]
            hits = states.count("supported" if e.is_claim else "answers")
            interval = binomtest(hits, len(own)).proportion_ci(confidence_level=0.95, method="wilson")
            expected = "answers" if setting in e.answers else "silent"
            rows.append(
                (
                    e.analysis, e.test, setting, expected, len(own), states.count("undefined"), hits,
                    round(hits / len(own), 4), round(interval.low, 4), round(interval.high, 4),
                    states.count("not supported"), states.count("inconclusive"),
                    "yes" if _as_expected(e, setting, len(own), hits) else "no", e.why.get(setting, ""),
                )
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def merged(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows of `old` that are still declared, with those of `new` in their place, in the order of declaration."""
    key = ["analysis", "test", "world"]
    both = pd.concat([t for t in (old, new) if len(t)], ignore_index=True)
    both = both.drop_duplicates(key, keep="last").set_index(key)
    declared = [(e.analysis, e.test, s) for e in EXPECTATIONS for s in (*e.answers, *e.silent)]
    return both.loc[[k for k in declared if k in both.index]].reset_index()[list(COLUMNS)]
