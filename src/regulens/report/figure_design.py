"""Does the lead of attention depend on the design of the screen? A specification curve: every design, and its choices.

Designs stand in the order of attention's lead over co-expression; below the curve a mark says which test, controls,
threshold and genes each one is.
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
from regulens.report.numbers import count
from regulens.report.wording import design_label, interval_words

_FACTORS = ("test", "controls", "min_effect", "alpha", "genes")
#: Contrast → column, colour, mark, words.
_CONTRASTS = {
    "coexpression": ("lead_coexpression", COLOURS[0], "o", "attention − co-expression"),
    "gene_level": ("lead_gene_level", COLOURS[1], "s", "attention − best gene-level statistic"),
}


def design(view: RunView) -> Figure | None:
    """Draw one curve per model and screen; None when the analysis was not run."""
    found = [(m, r, _ordered(t), len(t) - 1) for m, r, t in view.of("design_sensitivity", "design_grid")]
    found = [one for one in found if len(one[2])]
    if not found:
        return None
    across = 2 if len(found) > 1 else 1
    down = -(-len(found) // across)
    rows = _rows([t for _, _, t, _ in found])
    depth = 0.19 * len(rows)
    fig = new_figure(down * (2.4 + depth + 0.5) + 0.5)
    grid = fig.subplots(2 * down, across, squeeze=False, height_ratios=[2.4, depth] * down)
    for k, (model, screen, table, n_all) in enumerate(found):
        top, below = grid[2 * (k // across), k % across], grid[2 * (k // across) + 1, k % across]
        _curve(top, table)
        top.set_title(shorten(f"{view.label(model)} · {screen}", 52), fontsize=8.5)
        _marks(below, table, rows, n_all=n_all, labelled=k % across == 0)
        if k % across == 0:
            top.set_ylabel("lead in mean AUROC")
    for k in range(len(found), down * across):
        for row in (2 * (k // across), 2 * (k // across) + 1):
            grid[row, k % across].set_visible(False)
    fig.legend(
        handles=[
            *(Line2D([], [], color=c, marker=m, lw=1.2, ms=4, label=w) for _, c, m, w in _CONTRASTS.values()),
            Line2D([], [], color=INK, marker="D", mfc="white", ls="", ms=5.5, label="the design of the plan"),
            Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="no lead"),
        ],
        loc="outside upper left", ncols=4, frameon=False, handlelength=1.6, columnspacing=1.6,
    )  # fmt: skip
    return fig


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Designs with numbers, in the order of the lead over co-expression; choices as text."""
    made = table[table["auroc"].notna()].sort_values("lead_coexpression", kind="stable", ignore_index=True)
    for factor in _FACTORS:
        made[factor] = [design_label(factor, v) for v in made[factor]]
    return made


def _rows(tables: list[pd.DataFrame]) -> list[tuple[str, str]]:
    """(factor, choice) of all curves: factors in order, numbers ascending; a factor that never varies is left out."""
    found: list[tuple[str, str]] = []
    for factor in _FACTORS:
        choices = {c for t in tables for c in t[factor]}
        if len(choices) > 1:
            found += [(factor, c) for c in sorted(choices, key=lambda c: (_number(c), c))]
    return found


def _number(words: str) -> float:
    kept = "".join(c for c in words if c.isdigit() or c == ".")
    return float(kept) if kept else 0.0


def _curve(ax: Axes, table: pd.DataFrame) -> None:
    x = np.arange(len(table))
    plan = np.flatnonzero(table["part"] == "study")
    shift = 0.16
    for k, (column, colour, marker, _) in enumerate(_CONTRASTS.values()):
        at = x + (k - 0.5) * 2 * shift
        ax.vlines(at, table[f"{column}_low"], table[f"{column}_high"], color=colour, lw=1.0, alpha=0.45, zorder=2)
        ax.plot(at, table[column], ls="", marker=marker, ms=3, color=colour, zorder=3)
        ax.plot(at[plan], table[column].to_numpy()[plan], ls="", marker="D", ms=6, mfc="white", mec=INK, zorder=4)
        ax.plot(at[plan], table[column].to_numpy()[plan], ls="", marker=marker, ms=2.4, color=colour, zorder=5)
    ax.axhline(0.0, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
    ax.set_xlim(-1, len(table))
    ax.set_xticks([])
    ax.grid(axis="y", color=FAINT, lw=0.8)


def _marks(ax: Axes, table: pd.DataFrame, rows: list[tuple[str, str]], *, n_all: int, labelled: bool) -> None:
    x = np.arange(len(table))
    plan = (table["part"] == "study").to_numpy()
    for y, (factor, choice) in enumerate(rows):
        mine = (table[factor] == choice).to_numpy()
        ax.plot(x[mine & ~plan], np.full((mine & ~plan).sum(), y), ls="", marker="|", ms=6, mew=1.1, color=MUTED)
        ax.plot(x[mine & plan], np.full((mine & plan).sum(), y), ls="", marker="D", ms=4, mfc="white", mec=INK)
        if y and rows[y - 1][0] != factor:
            ax.axhline(y - 0.5, color=RULE, lw=0.8)
    ax.set_xlim(-1, len(table))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [c for _, c in rows] if labelled else [""] * len(rows))
    ax.tick_params(axis="y", labelsize=7.5)
    ax.set_xticks([])
    n = int((~plan).sum())
    words = f"{count(n)} designs" if n == n_all else f"{count(n)} of {count(n_all)} designs have a number"
    ax.set_xlabel(f"{words}, by the lead over co-expression", color=MUTED)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Above: lead of attention in mean AUROC over perturbations, in every design of the grid, each with its own "
        "perturbations. Below: which test, number of control cells, smallest effect of a responder and most variable "
        f"genes each design is. {interval_words(view, 'perturbation_response')}"
    )


SPEC = FigureSpec(
    name="design", analysis="design_sensitivity", draw=design, caption=caption,
    alt="Specification curve of the lead of attention over designs of the screen",
)  # fmt: skip
