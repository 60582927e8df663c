"""How often do conformal sets hold the true label, and how much do they say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regulens.analyses.probabilities import CALIBRATE, TEST
from regulens.stats.calibrators import CALIBRATORS, MAPS
from regulens.stats.conformal_sets import (
    Calibrating,
    Threshold,
    fewest_groups,
    one_of_each,
    sets,
    undercoverage_p,
)

ONE, PAIRS, CLASSES, EXPRESSION, WHOLE = (
    "one_per_perturbation", "all_pairs", "each_class", "each_expression_third", "whole_perturbation",
)  # fmt: skip

#: Ways of making sets → what holds for a perturbation that had no part in it, whatever the score.
GUARANTEES = {
    ONE: "a random pair of a new perturbation is covered",
    PAIRS: "a random pair of a new perturbation is covered",
    CLASSES: "a random responder, and a random other gene, of a new perturbation is covered",
    EXPRESSION: "a random pair of a new perturbation is covered, in each third of the genes by expression",
    WHOLE: "of the pairs of a new perturbation such a share is covered",
}

TABLES = {
    "conformal": [
        "score", "method", "alpha", "promised", "coverage", "coverage_low", "coverage_no", "coverage_yes", "kept",
        "size", "empty", "singleton", "both", "called", "called_right", "n_calibrating", "n_needed", "guarantee",
    ],
    "conformal_transfer": [
        "screen", "score", "method", "alpha", "coverage", "coverage_no", "coverage_yes", "size", "singleton",
        "n_perturbations", "n_shared", "note",
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """Pairs of some perturbations: score, label, perturbation, third of the target's expression."""

    score: np.ndarray
    label: np.ndarray
    group: np.ndarray
    third: np.ndarray

    def at(self, mask: np.ndarray) -> Side:
        """The pairs at `mask`."""
        return Side(score=self.score[mask], label=self.label[mask], group=self.group[mask], third=self.third[mask])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InScreen:
    """Sets of one score in one screen.

    Parameters
    ----------
    rows
        One per method and alpha, as in the table.
    coverage, singleton
        (method, alpha) → share of each perturbation's pairs, mean over the repeats that judged it,
        shape ``(perturbation,)``.
    tests
        alpha → p of too little coverage of every repeat, `ONE`, one random pair per judged perturbation.
    """

    rows: list[dict[str, Any]]
    coverage: dict[tuple[str, float], np.ndarray]
    singleton: dict[tuple[str, float], np.ndarray]
    tests: dict[float, list[float]]


def thresholds(
    calibrating: Mapping[str, Calibrating], method: str, alpha: float, delta: float, rng: np.random.Generator
) -> list[tuple[Threshold, Threshold]]:
    """Thresholds (no, yes): one couple, or one per third of expression.

    Parameters
    ----------
    calibrating
        From `split_up`.
    """
    if method == CLASSES:
        return [(calibrating["no"].hierarchical(alpha), calibrating["yes"].hierarchical(alpha))]
    if method == EXPRESSION:
        each = [calibrating[f"third {k}"].hierarchical(alpha) for k in range(3)]
        return [(t, t) for t in each]
    every = calibrating["all"]
    if method == ONE:
        both = every.one_per_group(alpha, rng)
    else:
        both = every.whole_group(alpha, delta) if method == WHOLE else every.hierarchical(alpha)
    return [(both, both)]


def split_up(p: np.ndarray, tie: np.ndarray, side: Side) -> dict[str, Calibrating]:
    """All calibrating pairs, those of each class and of each third of the genes, sorted once.

    Parameters
    ----------
    p
        Probability of a response of every calibrating pair.
    """
    every = Calibrating.build(np.where(side.label, 1 - p, p), tie, side.group)
    parts = {"no": ~side.label, "yes": side.label} | {f"third {k}": side.third == k for k in range(3)}
    return {"all": every} | {name: every.part(mask) for name, mask in parts.items()}


def held_sets(p: np.ndarray, tie: np.ndarray, side: Side, couples: list[tuple[Threshold, Threshold]]) -> np.ndarray:
    """Sets of judged pairs, bool ``(pair, 2)``."""
    if len(couples) == 1:
        return sets(p, tie, *couples[0])
    inside = np.zeros((len(p), 2), dtype=bool)
    for k, couple in enumerate(couples):
        at = side.third == k
        inside[at] = sets(p[at], tie[at], *couple)
    return inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counted:
    """How many pairs of every perturbation have which label and which set.

    Parameters
    ----------
    n
        Shape ``(perturbation, label, no in the set, response in the set)``.
    """

    n: np.ndarray

    @classmethod
    def of(cls, inside: np.ndarray, side: Side, n_groups: int) -> Counted:
        """Count sets, bool ``(pair, 2)``."""
        cell = ((side.group * 2 + side.label) * 2 + inside[:, 0]) * 2 + inside[:, 1]
        return cls(n=np.bincount(cell, minlength=8 * n_groups).reshape(n_groups, 2, 2, 2).astype(np.float64))

    @staticmethod
    def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)

    @property
    def covered(self) -> np.ndarray:
        """Share of each perturbation's pairs whose set holds the true label; NaN where it has no pair."""
        n = self.n
        return self._share(n[:, 0, 1].sum(axis=1) + n[:, 1, :, 1].sum(axis=1), n.sum(axis=(1, 2, 3)))

    @property
    def singleton(self) -> np.ndarray:
        """Share of each perturbation's pairs whose set holds one label."""
        n = self.n.sum(axis=1)
        return self._share(n[:, 0, 1] + n[:, 1, 0], n.sum(axis=(1, 2)))

    def row(self) -> dict[str, float]:
        """Means over perturbations, so that each counts the same.

        ``called`` is the share of pairs whose set is {response}, ``called_right`` the share of responders among them.
        """
        n, sets_of = self.n, self.n.sum(axis=1)
        total = sets_of.sum(axis=(1, 2))
        no, yes = n[:, 0], n[:, 1]
        called = n[:, :, 0, 1].sum(axis=0)
        return {
            "coverage": _mean(self.covered),
            "coverage_no": _mean(self._share(no[:, 1].sum(axis=1), no.sum(axis=(1, 2)))),
            "coverage_yes": _mean(self._share(yes[:, :, 1].sum(axis=1), yes.sum(axis=(1, 2)))),
            "size": _mean(self._share(sets_of[:, 0, 1] + sets_of[:, 1, 0] + 2 * sets_of[:, 1, 1], total)),
            "empty": _mean(self._share(sets_of[:, 0, 0], total)), "singleton": _mean(self.singleton),
            "both": _mean(self._share(sets_of[:, 1, 1], total)), "called": _mean(self._share(sets_of[:, 0, 1], total)),
            "called_right": float(called[1] / called.sum()) if called.sum() else float("nan"),
        }  # fmt: skip


def readable(side: Side, to_unit: str, calibrator: str, *others: Side) -> list[np.ndarray]:
    """Probabilities of `others` from a map and a calibrator fitted on `side`."""
    mapped = MAPS[to_unit].fit(side.score)
    fitted = CALIBRATORS[calibrator](mapped(side.score), side.label)
    return [fitted(mapped(o.score)) for o in others]


def in_screen(
    side: Side, parts: np.ndarray, *, methods: tuple[str, ...], alphas: tuple[float, ...], delta: float, to_unit: str,
    calibrator: str, rng: np.random.Generator,
) -> InScreen:  # fmt: skip
    """Sets of one score on the test quarter of every repeat, means over repeats.

    One quarter fits the probability, which has few numbers to learn; two calibrate the threshold, which counts
    perturbations; one is judged.
    """
    side = side.at(np.argsort(side.score, kind="stable"))  # maps then read memory in order
    n_groups = parts.shape[1]
    found: dict[tuple[str, float], list[dict[str, float]]] = {(m, a): [] for m in methods for a in alphas}
    coverage, singleton = ({key: np.zeros(n_groups) for key in found} for _ in range(2))
    times = np.zeros(n_groups)
    tests: dict[float, list[float]] = {a: [] for a in alphas}
    n_cal = []
    for part in parts:
        of = part[side.group]
        fit, cal, held = side.at(of == 0), side.at((of > 0) & (of <= CALIBRATE)), side.at(of == TEST)
        p_cal, p_held = readable(fit, to_unit, calibrator, cal, held)
        tie_cal, tie_held = rng.random(len(p_cal)), rng.random(len(p_held))
        chosen = one_of_each(held.group, rng)  # a random pair of every judged perturbation
        times[np.unique(held.group)] += 1
        n_cal.append(len(np.unique(cal.group)))
        calibrating = split_up(p_cal, tie_cal, cal)
        for method, alpha in found:
            inside = held_sets(p_held, tie_held, held, thresholds(calibrating, method, alpha, delta, rng))
            counted = Counted.of(inside, held, n_groups)
            each, seen = counted.covered, np.isfinite(counted.covered)
            coverage[method, alpha][seen] += each[seen]
            singleton[method, alpha][seen] += counted.singleton[seen]
            found[method, alpha].append(counted.row() | {"kept": float((each[seen] >= 1 - alpha - 1e-12).mean())})
            if method == ONE:
                hits = np.where(held.label, inside[:, 1], inside[:, 0])
                tests[alpha].append(undercoverage_p(int(hits[chosen].sum()), len(chosen), n_cal[-1], alpha))
    rows = []
    for key in found:
        coverage[key] /= np.maximum(times, 1)
        singleton[key] /= np.maximum(times, 1)
    for (method, alpha), each in found.items():
        mean = {k: _mean([r[k] for r in each]) for k in each[0]}
        rows.append(
            mean
            | {
                "method": method, "alpha": alpha, "promised": 1 - alpha,
                "coverage_low": float(np.quantile(coverage[method, alpha], 0.1)),
                "n_calibrating": min(n_cal),  # of the split with fewest
                "n_needed": fewest_groups(delta if method == WHOLE else alpha), "guarantee": GUARANTEES[method],
            }
        )  # fmt: skip
    return InScreen(rows=rows, coverage=coverage, singleton=singleton, tests=tests)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    good = np.asarray(values, dtype=np.float64)
    good = good[np.isfinite(good)]
    return float(good.mean()) if len(good) else float("nan")


def elsewhere(
    side: Side, parts: np.ndarray, other: Side, *, methods: tuple[str, ...], alphas: tuple[float, ...], delta: float,
    to_unit: str, calibrator: str, rng: np.random.Generator,
) -> tuple[list[dict[str, Any]], dict[float, list[float]]]:  # fmt: skip
    """Sets of a second screen's pairs with thresholds of the first: three quarters calibrate, means over repeats."""
    found: dict[tuple[str, float], list[dict[str, float]]] = {(m, a): [] for m in methods for a in alphas}
    tests: dict[float, list[float]] = {a: [] for a in alphas}
    n_there = int(other.group.max()) + 1
    side, other = (x.at(np.argsort(x.score, kind="stable")) for x in (side, other))
    for part in parts:
        of = part[side.group]
        fit, cal = side.at(of == 0), side.at(of > 0)
        p_cal, p_held = readable(fit, to_unit, calibrator, cal, other)
        tie_cal, tie_held = rng.random(len(p_cal)), rng.random(len(p_held))
        chosen = one_of_each(other.group, rng)
        calibrating = split_up(p_cal, tie_cal, cal)
        for method, alpha in found:
            inside = held_sets(p_held, tie_held, other, thresholds(calibrating, method, alpha, delta, rng))
            found[method, alpha].append(Counted.of(inside, other, n_there).row())
            if method == ONE:
                hit = np.where(other.label, inside[:, 1], inside[:, 0])[chosen]
                tests[alpha].append(undercoverage_p(int(hit.sum()), len(hit), len(np.unique(cal.group)), alpha))
    rows = [
        {k: _mean([r[k] for r in each]) for k in each[0]} | {"method": method, "alpha": alpha}
        for (method, alpha), each in found.items()
    ]
    return rows, tests


def combined_p(each: list[float]) -> float:
    """One p of dependent ones: twice their mean, valid however they depend (Vovk & Wang 2020).

    >>> combined_p([0.01, 0.03])
    0.04
    """
    return float(np.clip(2 * np.mean(each), np.finfo(np.float64).tiny, 1.0))
