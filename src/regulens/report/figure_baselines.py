"""Do scores that know one gene at a time do as well as attention? AUROC and paired difference per baseline."""

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
from regulens.report.wording import interval_words, score_label

#: Kinds from top to bottom.
KINDS = ("attention", "gene_model", "product", "marginal", "source", "target", "coexpression", "random")


def baselines(view: RunView) -> Figure | None:
    """Draw attention among its baselines; None when the analysis was not run."""
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for model, reference, table in view.of("gene_level_baselines", "baselines"):
        tables.setdefault(reference, {})[model] = records(table)
    if not tables:
        return None
    orders = {r: _order(list(t.values())) for r, t in tables.items()}
    models = [m["name"] for m in view.models if any(m["name"] in t for t in tables.values())]
    heights = [0.8 + (0.13 + 0.115 * len(models)) * len(o) for o in orders.values()]
    fig = new_figure(sum(heights) + 0.25 * (1 + len(models) / 2))
    grid = fig.subplots(len(tables), 2, squeeze=False, width_ratios=(1.25, 1), height_ratios=heights)
    for (left, right), (reference, found) in zip(grid, tables.items()):
        order = orders[reference]
        for model, dy in zip(found, offsets(len(found))):
            colour, marker = mark_of(view, model)
            for row in found[model]:
                y = order.index(row["baseline"]) + dy
                mine = row["kind"] == "attention"
                point(left, row, y, colour=colour, marker=marker, hollow=not mine)
                if not mine:
                    point(right, row, y, colour=colour, marker=marker, hollow=True,
                          names=("delta", "delta_low", "delta_high"))  # fmt: skip
        reference_line(left, 0.5)
        reference_line(right, 0.0)
        left.axhspan(-0.5, 0.5, color=FAINT, lw=0, zorder=0)
        for ax in (left, right):
            ax.set_ylim(len(order) - 0.4, -0.6)
            ax.grid(axis="x", color=FAINT, lw=0.8)
        left.set_yticks(range(len(order)), [score_label(b) for b in order])
        right.set_yticks([])
        left.set_title(shorten(reference, 40))
        left.set_xlabel("AUROC (reference recovery)")
        right.set_title("paired difference, same pairs")
        right.set_xlabel("attention − baseline (positive: attention is better)")
    extra = (
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label="hollow: a baseline"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance, or no difference"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def _order(tables: list[list[dict[str, Any]]]) -> list[str]:
    """Baselines of all models: by kind, then by the largest AUROC over models."""
    best: dict[str, tuple[int, float]] = {}
    for table in tables:
        for row in table:
            kind = KINDS.index(row["kind"]) if row["kind"] in KINDS else len(KINDS)
            value = -1.0 if row["auroc"] is None else float(row["auroc"])
            best[row["baseline"]] = (kind, min(-value, best.get(row["baseline"], (0, 1.0))[1]))
    return sorted(best, key=lambda b: (best[b], b))


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: AUROC of attention (filled, shaded row) and of its rivals, on identical pairs. "
        f"Right: paired differences. {interval_words(view)}"
    )


SPEC = FigureSpec(
    name="baselines", analysis="gene_level_baselines", draw=baselines, caption=caption,
    alt="AUROC of attention and of gene-level baselines, with paired differences",
)  # fmt: skip
