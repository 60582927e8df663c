"""Did perturbations do to their own genes what they should, and does the screen's design let effects be told apart?

On target: the perturbed gene's own expression goes down under CRISPRi, up under CRISPRa; a knock-out breaks the
protein, so its transcript goes down or stays. What the file's labels say is checked against that, since labels are
wrong often enough. Design: replicates that carry some perturbations only, few controls, several lines. Flags are
sentences made from numbers; what to make of them is for verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from regulens.errors import InputError, examples
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.types.screens import Modality, PerturbationEffects, Screen

#: Level of the adjusted on-target p at which a gene has moved.
ALPHA = 0.05
#: Share of the genes that moved which must have moved as the modality says.
AGREE = 0.8
#: At least so many own genes must have moved (all, where fewer were measured) for a modality to be verified.
MIN_MOVED = 3
#: So many testable own genes, of which `AGREE` moved the other way, make the declared modality impossible.
MIN_REFUSED = 5
#: Control cells below which the published procedure would not run (F13).
FEW_CONTROLS = 2000
#: A perturbation with this share of its cells in one replicate comes from that replicate.
ONE_REPLICATE = 0.9
#: Perturbations with fewer cells fall into one replicate by chance.
_MIN_CELLS = 10
#: Share of the perturbations from one replicate each, and bias-corrected Cramér's V, from which a design is flagged.
_SHARE, _V = 0.1, 0.3

#: Columns of the table of checks.
COLUMNS = ("perturbation", "in_panel", "n_cells", "effect", "p", "q", "direction", "verified", "why")

_EXPECTED: dict[str, str] = {"crispri": "down", "crispra": "up", "knockout": "down"}
_WORDS: dict[str, str] = {"crispri": "CRISPRi", "crispra": "CRISPRa", "knockout": "knock-out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """Own genes of the perturbations by what they did."""

    testable: int
    down: int
    up: int

    @property
    def words(self) -> str:
        """The numbers as printed."""
        still = self.testable - self.down - self.up
        return (
            f"of {self.testable} perturbed genes that are measured {self.down} went down, {self.up} up, {still} neither"
        )


def check_screen(
    effects: PerturbationEffects, screen: Screen | None, *, modality: Modality | None
) -> tuple[pd.DataFrame, str, str, tuple[str, ...]]:
    """Hold every perturbation against its own gene, the modality against all of them, and the design against itself.

    Parameters
    ----------
    effects
        Of all perturbations.
    screen
        The cells; None for a ready table.
    modality
        As declared; by default what the screen says.

    Returns
    -------
    checks
        One row per perturbation, columns `COLUMNS`: whether its gene is measured (``in_panel``), its cells (−1 where
        a table does not say), effect, p and BH-adjusted q of its own gene (NaN where not tested), ``direction``
        (``down`` or ``up`` where q < 0.05, ``neither``, or ``""`` where not tested), whether that is what the
        modality says, and why not.
    modality
        In use; empty when nobody said.
    problem
        Why the modality is not verified, or an empty string.
    flags
        What is wrong with the design, in sentences.

    Raises
    ------
    InputError
        When at least five own genes can be tested and four in five of them moved significantly against the declared
        modality: then the declaration is wrong.

    Examples
    --------
    >>> effects = PerturbationEffects(perturbations=("A", "B", "C"), genes=("A", "B", "C"), se=None, test="welch",
    ...     effect=-np.eye(3), p=np.where(np.eye(3) > 0, 1e-9, 0.5), n_cells=np.full(3, 80), n_controls=2500)
    >>> checks, used, problem, flags = check_screen(effects, None, modality="crispri")
    >>> checks["verified"].tolist(), problem
    ([True, True, True], '')
    >>> check_screen(effects, None, modality="crispra")[2][:52]
    'declared as CRISPRa, but of 3 perturbed genes that a'
    """
    used = modality or (screen.modality if screen is not None else None)
    checks = _on_target(effects, used)
    moved = _Moved(
        testable=int((checks["direction"] != "").sum()), down=int((checks["direction"] == "down").sum()),
        up=int((checks["direction"] == "up").sum()),
    )  # fmt: skip
    if used is None:
        problem = _undeclared(moved)
    else:
        problem = _problem(used, moved)
        if effects.p is not None:
            _refuse_opposite(used, moved, screen.name if screen is not None else effects.source)
        elif not problem:
            problem = _by_sign(used, moved)
    flags = [*_about_targets(checks, used), *_about_effects(effects)]
    if screen is not None:
        flags += design_flags(screen.obs)
    return checks, used or "", problem, tuple(flags)


def _on_target(effects: PerturbationEffects, modality: Modality | None) -> pd.DataFrame:
    column = {g: j for j, g in enumerate(effects.genes)}
    rows = np.arange(len(effects.perturbations))
    at = np.array([column.get(p, -1) for p in effects.perturbations], dtype=np.int64)
    inside = at >= 0
    effect = np.where(inside, effects.effect[rows, at], np.nan)
    p = np.full(len(rows), np.nan) if effects.p is None else np.where(inside, effects.p[rows, at], np.nan)
    q = np.full(len(rows), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = p[tested] if effects.adjusted else benjamini_hochberg(p[tested])
    if effects.p is None:  # nothing but the sign is known
        known = np.isfinite(effect)
        moved = known & (effect != 0)
    else:
        known = tested & np.isfinite(effect)
        moved = known & (q < ALPHA) & (effect != 0)
    direction = np.where(moved, np.where(effect < 0, "down", "up"), np.where(known, "neither", ""))
    expected = _EXPECTED.get(str(modality), "")
    why = []
    for i in rows:
        if not inside[i]:
            why.append("the perturbed gene is not measured")
        elif not known[i]:
            why.append("its own expression could not be tested")
        elif not expected or direction[i] == expected:
            why.append("" if expected else "no modality to hold it against")
        elif direction[i] == "neither":
            stays = "; a knock-out may leave the transcript" if modality == "knockout" else ""
            why.append(f"its own expression did not move (q = {q[i]:.2g}){stays}")
        else:
            why.append(f"its own expression went {direction[i]}, not {expected}")
    return pd.DataFrame(
        {
            "perturbation": list(effects.perturbations), "in_panel": inside,
            "n_cells": np.asarray(effects.n_cells, dtype=np.int64), "effect": effect, "p": p, "q": q,
            "direction": direction.astype(object),
            "verified": (direction == expected) & bool(expected), "why": why,
        },
        columns=list(COLUMNS),
    )  # fmt: skip


def _refuse_opposite(modality: Modality, moved: _Moved, name: str) -> None:
    opposite = moved.up if _EXPECTED[modality] == "down" else moved.down
    if moved.testable >= MIN_REFUSED and opposite >= AGREE * moved.testable:
        fits = "crispra" if _EXPECTED[modality] == "down" else "crispri or knockout"
        message = (
            f"Expected perturbed genes to go {_EXPECTED[modality]} under the modality '{modality}' of {name}, got: "
            f"{moved.words}. Correct the modality ({fits} would fit), or the control label."
        )
        raise InputError(message)


def _problem(modality: Modality, moved: _Moved) -> str:
    """Why a declared modality is not verified, or an empty string."""
    declared = f"declared as {_WORDS[modality]}"
    if not moved.testable:
        return f"{declared}, which cannot be verified: no perturbed gene's own expression could be tested"
    expected, opposite = (moved.down, moved.up) if _EXPECTED[modality] == "down" else (moved.up, moved.down)
    if opposite > expected:
        return f"{declared}, but {moved.words}"
    if expected < min(MIN_MOVED, moved.testable):
        return f"{declared}, which the data do not verify: {moved.words}"
    if expected < AGREE * (expected + opposite):
        return f"{declared}, which the data leave open: {moved.words}"
    return ""


def _by_sign(modality: Modality, moved: _Moved) -> str:
    """Why the signs of effects without p do not verify a modality: they could be chance (exact binomial test)."""
    expected = moved.down if _EXPECTED[modality] == "down" else moved.up
    chance = float(binomtest(expected, moved.testable, 0.5, alternative="greater").pvalue)
    if chance < ALPHA:
        return ""
    return (
        f"declared as {_WORDS[modality]}, which signs alone do not verify, since the table has no p: {moved.words} "
        f"(by chance with p {chance:.2g})"
    )


def _undeclared(moved: _Moved) -> str:
    if not moved.testable:
        return "modality not declared, and no perturbed gene's own expression could be tested"
    n = moved.down + moved.up
    like = "do not tell one"
    if max(moved.down, moved.up) >= max(min(MIN_MOVED, moved.testable), 1) and max(moved.down, moved.up) >= AGREE * n:
        like = "look like CRISPRi or a knock-out" if moved.down > moved.up else "look like CRISPRa"
    return f"modality not declared; the data {like}: {moved.words}"


def _about_targets(checks: pd.DataFrame, modality: Modality | None) -> list[str]:
    flags = []
    outside = checks.loc[~checks["in_panel"], "perturbation"]
    if len(outside):
        flags.append(
            f"{len(outside)} of {len(checks)} perturbed genes are not measured, so that their perturbation cannot be "
            f"checked: {examples(list(outside))}"
        )
    if modality is None:
        return flags
    weak = checks.loc[(checks["direction"] != "") & ~checks["verified"], "perturbation"]
    if len(weak):
        n = int((checks["direction"] != "").sum())
        flags.append(
            f"{len(weak)} of {n} perturbed genes that are measured did not go {_EXPECTED[modality]} (weak "
            f"perturbations): {examples(list(weak))}"
        )
    return flags


def _about_effects(effects: PerturbationEffects) -> list[str]:
    flags = []
    if effects.p is None:
        flags.append("the table has effects without p: responders are told by the size of the effect alone")
    elif effects.adjusted:
        flags.append("the table has adjusted p only, which are taken as they are: over which tests is not known")
    if 0 <= effects.n_controls < FEW_CONTROLS:
        flags.append(f"{effects.n_controls} control cells; at least {FEW_CONTROLS:,} are recommended")
    elif effects.n_controls < 0:
        flags.append("the table does not say how many control cells there were")
    return flags


def design_flags(obs: pd.DataFrame) -> list[str]:
    """What is wrong with how cells are spread over replicates and cell lines, in sentences.

    Parameters
    ----------
    obs
        As in `Screen.obs`.
    """
    flags: list[str] = []
    if "replicate" not in obs:
        flags.append("no replicate is named: effects of replicates cannot be told from those of perturbations")
    else:
        known, gaps = _labelled(obs, "replicate")
        flags += gaps + _spread(known, "replicate", "replicate")
        if known["replicate"].nunique() == 1:
            flags.append(
                f"all cells come from one replicate ('{known['replicate'].iloc[0]}'): what it did to cells cannot be "
                "told from effects"
            )
    if "cell_line" in obs:
        known, gaps = _labelled(obs, "cell_line")
        flags += gaps
        lines = known["cell_line"].value_counts()
        if len(lines) > 1:
            words = examples([f"{line} ({n} cells)" for line, n in lines.items()])
            flags.append(f"cells of {len(lines)} cell lines are compared together: {words}")
            flags += _spread(known, "cell_line", "cell line")
    return flags


def _labelled(obs: pd.DataFrame, column: str) -> tuple[pd.DataFrame, list[str]]:
    """Cells with a label; and a sentence that counts the others, which are no group of their own."""
    known = obs[obs[column] != ""]
    n = len(obs) - len(known)
    if not n:
        return known, []
    word = column.replace("_", " ")
    return known, [f"{n} of {len(obs)} cells have no {word}, and are left out where {word}s are compared"]


def _spread(obs: pd.DataFrame, column: str, word: str) -> list[str]:
    """Groups that carry some perturbations only, or no controls."""
    group = np.where(obs["control"], "", obs["perturbation"].astype(str))
    counts = pd.crosstab(pd.Series(group), obs[column].astype(str).to_numpy())
    if counts.shape[1] < 2 or "" not in counts.index:
        return []
    flags = []
    controls = counts.loc[""]
    bare = [str(c) for c in counts.columns if controls[c] == 0]
    if bare:
        cells = int(counts[bare].to_numpy().sum())
        flags.append(
            f"{len(bare)} of {counts.shape[1]} {word}s have no control cells ({examples(bare)}; {cells} cells)"
        )
    perturbed = counts.drop(index="")
    enough = perturbed[perturbed.sum(axis=1) >= _MIN_CELLS]
    if not len(enough):
        return flags
    share = enough.to_numpy() / enough.to_numpy().sum(axis=1, keepdims=True)
    top = share.argmax(axis=1)
    of_controls = controls.to_numpy() / max(controls.sum(), 1)
    alone = (share.max(axis=1) >= ONE_REPLICATE) & (of_controls[top] < ONE_REPLICATE)
    v = cramers_v(counts.to_numpy())
    if alone.sum() >= max(_SHARE * len(enough), 1) or v >= _V:
        names = list(enough.index[alone])
        where = (
            f"{len(names)} of {len(enough)} perturbations have at least {ONE_REPLICATE:.0%} of their cells in one "
            f"{word} that has less of the controls ({examples(names)}); "
            if names
            else f"no perturbation lies in one {word} alone, but they are spread unevenly; "
        )
        flags.append(
            f"{word}s are confounded with perturbations: {where}Cramér's V of perturbation and {word} is {v:.2f}"
        )
    return flags


def cramers_v(counts: np.ndarray) -> float:
    """Bias-corrected Cramér's V of a table of counts (Bergsma 2013), in [0, 1]; 0 with fewer than two rows or columns.

    Examples
    --------
    >>> cramers_v(np.array([[50, 0], [0, 50]])), cramers_v(np.array([[25, 25], [25, 25]]))
    (1.0, 0.0)
    """
    counts = np.asarray(counts, dtype=np.float64)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    n, (r, k) = counts.sum(), counts.shape
    if min(r, k) < 2 or n < 2:
        return 0.0
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / n
    phi = max(float(((counts - expected) ** 2 / expected).sum()) / n - (r - 1) * (k - 1) / (n - 1), 0.0)
    rows, columns = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    return float(min(np.sqrt(phi / (min(rows, columns) - 1)), 1.0)) if min(rows, columns) > 1 else 0.0
