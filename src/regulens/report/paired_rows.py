"""Attention among its rivals, and the paired differences beside it: the picture that several analyses share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_style import (
    FAINT,
    INK,
    MUTED,
    legend,
    mark_of,
    new_figure,
    offsets,
    point,
    reference_line,
    shorten,
)
from regulens.report.model import RunView, records

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRows:
    """What differs between the analyses that are drawn like this.

    Parameters
    ----------
    analysis, table
        Where the rows are; they have ``kind``, ``auroc``, ``low``, ``high``, and a name.
    name_of
        Row → its name on the axis; rows of attention have ``kind == "attention"``.
    order
        Rows of every model → names from top to bottom, attention first.
    label
        Name → as printed.
    difference
        Columns of the paired difference and its interval.
    rival, axis
        Words of the legend and of the right axis.
    """

    analysis: str
    table: str
    name_of: Callable[[dict[str, Any]], str]
    order: Callable[[list[Rows]], list[str]]
    label: Callable[[str], str]
    difference: tuple[str, str, str]
    rival: str
    axis: str


def draw_paired(view: RunView, what: PairedRows) -> Figure | None:
    """One line of panels per reference: AUROCs left, paired differences right; None when there are no rows."""
    tables: dict[str, dict[str, Rows]] = {}
    for model, reference, table in view.of(what.analysis, what.table):
        tables.setdefault(reference, {})[model] = records(table)
    if not tables:
        return None
    orders = {r: what.order(list(t.values())) for r, t in tables.items()}
    models = [m["name"] for m in view.models if any(m["name"] in t for t in tables.values())]
    heights = [0.8 + (0.14 + 0.115 * len(models)) * len(o) for o in orders.values()]
    fig = new_figure(sum(heights) + 0.25 * (1 + len(models) / 2))
    grid = fig.subplots(len(tables), 2, squeeze=False, width_ratios=(1.2, 1), height_ratios=heights)
    for (left, right), (reference, found) in zip(grid, tables.items()):
        order = orders[reference]
        for model, dy in zip(found, offsets(len(found))):
            colour, marker = mark_of(view, model)
            for row in found[model]:
                mine = row["kind"] == "attention"
                y = order.index(what.name_of(row)) + dy
                point(left, row, y, colour=colour, marker=marker, hollow=not mine)
                if not mine:
                    point(right, row, y, colour=colour, marker=marker, hollow=True, names=what.difference)
        reference_line(left, 0.5)
        reference_line(right, 0.0)
        left.axhspan(-0.5, 0.5, color=FAINT, lw=0, zorder=0)
        for ax in (left, right):
            ax.set_ylim(len(order) - 0.4, -0.6)
            ax.grid(axis="x", color=FAINT, lw=0.8)
        left.set_yticks(range(len(order)), [what.label(name) for name in order])
        right.set_yticks([])
        left.set_title(shorten(reference, 40))
        left.set_xlabel("AUROC (reference recovery)")
        right.set_title("paired difference, same pairs")
        right.set_xlabel(what.axis)
    extra = (
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label=f"hollow: {what.rival}"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance, or no difference"),
    )
    legend(fig, view, models, extra=extra)
    return fig
