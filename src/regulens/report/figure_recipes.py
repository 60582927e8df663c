"""Does the number depend on what one calls attention? A specification curve: every recipe by AUROC, and its choices.

Recipes stand in the order of their AUROC; below the curve a mark says which value, layers, direction and treatment of
missing pairs each one is. Layers that are neither the last nor the mean of all share a row.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import COLOURS, FAINT, INK, MUTED, RULE, new_figure, shorten
from regulens.report.model import RunView
from regulens.report.wording import interval_words, recipe_label

_CURVE, _NULL, _PLAN = COLOURS[0], COLOURS[1], INK
_FACTORS = ("recipe", "layers", "direction", "missing")


def recipes(view: RunView) -> Figure | None:
    """Draw one curve per model and reference; None when the analysis was not run."""
    found = [(m, r, t) for m, r, t in view.of("recipe_sensitivity", "recipes") if len(t)]
    if not found:
        return None
    across = 2 if len(found) > 1 else 1
    down = -(-len(found) // across)
    rows = _rows([t for _, _, t in found])
    depth = 0.175 * len(rows)
    fig = new_figure(down * (2.3 + depth + 0.5) + 0.4)
    grid = fig.subplots(2 * down, across, squeeze=False, height_ratios=[2.3, depth] * down)
    for k, (model, reference, table) in enumerate(found):
        top, below = grid[2 * (k // across), k % across], grid[2 * (k // across) + 1, k % across]
        ordered = table.sort_values("auroc", kind="stable", ignore_index=True)
        _curve(top, ordered)
        top.set_title(shorten(f"{view.label(model)} · {reference}", 52), fontsize=8.5)
        _marks(below, ordered, rows, labelled=k % across == 0)
        if k % across == 0:
            top.set_ylabel("AUROC")
    for k in range(len(found), down * across):
        for row in (2 * (k // across), 2 * (k // across) + 1):
            grid[row, k % across].set_visible(False)
    fig.legend(
        handles=[
            Line2D([], [], color=_CURVE, marker="o", ls="", ms=4, label="a recipe, with its interval"),
            Line2D([], [], color=_NULL, marker="_", ls="", ms=7, label="its strictest null, same pairs"),
            Line2D([], [], color=_PLAN, marker="D", ls="", ms=5.5, label="the recipe of the plan"),
            Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
        ],
        loc="outside upper left", ncols=4, frameon=False, handlelength=1.6, columnspacing=1.6,
    )  # fmt: skip
    return fig


def _shown(factor: str, choice: str) -> str:
    """Row of a choice: all layers but the last share one."""
    if factor == "layers" and choice != "all" and not choice.endswith("(last)"):
        return "another layer"
    return "last layer" if factor == "layers" and choice != "all" else choice


def _rows(tables: list[pd.DataFrame]) -> list[tuple[str, str]]:
    """(factor, choice) of all curves, factors in order, choices in order of first appearance in the tables."""
    found: dict[tuple[str, str], None] = {}
    for factor in _FACTORS:
        for table in tables:
            for choice in sorted({_shown(factor, c) for c in table[factor].astype(str)}):
                found[(factor, choice)] = None
    return list(found)


def _curve(ax: Axes, table: pd.DataFrame) -> None:
    x = np.arange(len(table))
    ax.vlines(x, table["low"], table["high"], color=_CURVE, lw=0.8, alpha=0.35, zorder=2)
    ax.plot(x, table["auroc"], ls="", marker="o", ms=2.6, color=_CURVE, zorder=3)
    ax.plot(x, table["null_auroc"], ls="", marker="_", ms=4, color=_NULL, zorder=2.5)
    plan = np.flatnonzero(table["pre_registered"].to_numpy(dtype=bool))
    ax.plot(plan, table["auroc"].to_numpy()[plan], ls="", marker="D", ms=5.5, color=_PLAN, zorder=4)
    ax.axhline(0.5, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
    ax.set_xlim(-1, len(table))
    ax.set_xticks([])
    ax.grid(axis="y", color=FAINT, lw=0.8)


def _marks(ax: Axes, table: pd.DataFrame, rows: list[tuple[str, str]], *, labelled: bool) -> None:
    x = np.arange(len(table))
    plan = table["pre_registered"].to_numpy(dtype=bool)
    for y, (factor, choice) in enumerate(rows):
        mine = np.array([_shown(factor, c) == choice for c in table[factor].astype(str)])
        ax.plot(x[mine], np.full(mine.sum(), y), ls="", marker="|", ms=5, mew=0.9, color=_CURVE)
        ax.plot(x[mine & plan], np.full((mine & plan).sum(), y), ls="", marker="D", ms=4, color=_PLAN, zorder=3)
        if y and rows[y - 1][0] != factor:
            ax.axhline(y - 0.5, color=RULE, lw=0.8)
    ax.set_xlim(-1, len(table))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [recipe_label(f, c) for f, c in rows] if labelled else [""] * len(rows))
    ax.tick_params(axis="y", labelsize=7.5)
    ax.set_xticks([])
    ax.set_xlabel(f"{len(table)} recipes, by AUROC", color=MUTED)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Above: every definition of the attention score, by its AUROC, with the strongest of gene products, "
        f"co-expression and its own margins on the same pairs. Below: what each one is. {interval_words(view)}"
    )


SPEC = FigureSpec(
    name="recipes", analysis="recipe_sensitivity", draw=recipes, caption=caption,
    alt="Specification curve of AUROC over definitions of attention",
)  # fmt: skip
