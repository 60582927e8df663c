"""Do methods that see only the cells recover the network as well as attention? AUROC and paired difference each."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
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
from regulens.report.numbers import is_missing
from regulens.report.wording import interval_words, method_label

_ATTENTION = "attention"


def methods(view: RunView) -> Figure | None:
    """Draw attention among the methods; None when the analysis was not run."""
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for model, reference, table in view.of("grn_method_baselines", "methods"):
        if len(table):
            tables.setdefault(reference, {})[model] = records(table)
    if not tables:
        return None
    orders = {r: _order(list(t.values())) for r, t in tables.items()}
    models = [m["name"] for m in view.models if any(m["name"] in t for t in tables.values())]
    heights = [0.8 + (0.15 + 0.115 * len(models)) * len(o) for o in orders.values()]
    fig = new_figure(sum(heights) + 0.25 * (1 + len(models) / 2))
    grid = fig.subplots(len(tables), 2, squeeze=False, width_ratios=(1.15, 1), height_ratios=heights)
    for (left, right), (reference, found) in zip(grid, tables.items()):
        order = orders[reference]
        for model, dy in zip(found, offsets(len(found))):
            colour, marker = mark_of(view, model)
            for row in found[model]:
                mine = row["kind"] == "attention"
                y = order.index(_ATTENTION if mine else row["method"]) + dy
                point(left, row, y, colour=colour, marker=marker, hollow=not mine)
                if not mine:
                    point(right, row, y, colour=colour, marker=marker, hollow=True,
                          names=("difference", "difference_low", "difference_high"))  # fmt: skip
        reference_line(left, 0.5)
        reference_line(right, 0.0)
        left.axhspan(-0.5, 0.5, color=FAINT, lw=0, zorder=0)
        for ax in (left, right):
            ax.set_ylim(len(order) - 0.4, -0.6)
            ax.grid(axis="x", color=FAINT, lw=0.8)
        left.set_yticks(range(len(order)), [method_label(m) for m in order])
        right.set_yticks([])
        left.set_title(shorten(reference, 40))
        left.set_xlabel("AUROC (reference recovery)")
        right.set_title("paired difference, same pairs")
        right.set_xlabel("method − attention (positive: the method is better)")
    extra = (
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label="hollow: a method that sees cells"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance, or no difference"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def _order(tables: list[list[dict[str, Any]]]) -> list[str]:
    """Attention first, then methods by their largest AUROC over models; the ensemble keeps its place among them."""
    best: dict[str, float] = {}
    for table in tables:
        for row in table:
            if row["kind"] == "attention":
                continue
            value = -1.0 if is_missing(row["auroc"]) else float(row["auroc"])
            best[row["method"]] = max(value, best.get(row["method"], -1.0))
    return [_ATTENTION, *sorted(best, key=lambda m: (-best[m], m))]


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: AUROC of attention (filled, shaded row) and of methods that infer networks from the same cells, genes "
        f"and regulators, on identical pairs. Right: paired differences. {interval_words(view)}"
    )


SPEC = FigureSpec(
    name="methods", analysis="grn_method_baselines", draw=methods, caption=caption,
    alt="AUROC of attention and of network-inference methods, with paired differences",
)  # fmt: skip
