"""Does the lead of attention survive another reference or a shorter list? AUROC by slice, and as edges are dropped."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
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
    point,
    reference_line,
    shorten,
)
from regulens.report.model import Row, RunView, records
from regulens.report.numbers import count, is_missing

_RIVAL = "#4B4B4B"


def reference_sensitivity(view: RunView) -> Figure | None:
    """Draw slices beside curves of incompleteness, one line per reference and model."""
    contexts = [(m, r) for m, r, _ in view.of("reference_sensitivity", "reference_grid")]
    if not contexts:
        return None
    rows = {c: records(view.tables[("reference_sensitivity", *c, "reference_grid")]) for c in contexts}
    heights = [max(2.3, 0.75 + 0.2 * len(rows[c])) for c in contexts]
    fig = new_figure(0.55 + sum(heights))
    grid = fig.subplots(len(contexts), 2, squeeze=False, width_ratios=(1.25, 1), height_ratios=heights)
    for (left, right), context in zip(grid, contexts):
        colour, marker = mark_of(view, context[0])
        _slices(left, rows[context], colour, marker)
        left.set_title(f"{shorten(context[0], 24)} · {shorten(context[1], 18)}")
        table = view.table("reference_sensitivity", *context, "reference_incompleteness")
        if table is None:
            right.set_visible(False)
        else:
            _curves(right, records(table), colour)
    extra = (
        Line2D([], [], color=_RIVAL, marker="x", lw=0, ms=5, label="co-expression, same pairs"),
        Line2D([], [], color=MUTED, lw=1.4, label="right: edges dropped at random"),
        Line2D([], [], color=MUTED, lw=1.4, ls="--", label="right: whole regulators dropped"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
    )
    legend(fig, view, list(dict.fromkeys(m for m, _ in contexts)), extra=extra)
    return fig


def _slices(ax: Axes, rows: list[Row], colour: str, marker: str) -> None:
    labels = []
    for y, row in enumerate(rows):
        point(ax, row, y, colour=colour, marker=marker)
        if not is_missing(row["coexpression"]):
            ax.plot([row["coexpression"]], [y], marker="x", ms=5, color=_RIVAL, zorder=5, lw=0)
        part = str(row["part"]).removeprefix("pairs ")
        name = str(row["slice"])
        plain = part in ("whole reference", "sign", "source", "evidence")
        words = shorten(name, 26) if plain else f"{shorten(part, 24)}: {shorten(name, 18)}"
        labels.append(f"{words} ({count(row['n_pos'])})")
    reference_line(ax, 0.5)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlabel("AUROC (reference recovery)")
    ax.grid(axis="x", color=FAINT, lw=0.8)


def _curves(ax: Axes, rows: list[Row], colour: str) -> None:
    for scheme, style in (("edges at random", "-"), ("whole regulators", "--")):
        for score in dict.fromkeys(str(r["score"]) for r in rows):
            own = [r for r in rows if r["scheme"] == scheme and r["score"] == score and not is_missing(r["auroc"])]
            shade = _RIVAL if score.startswith("coexpression") else colour
            x = [100 * float(r["dropped"]) for r in own]
            ax.plot(x, [r["auroc"] for r in own], color=shade, ls=style, lw=1.4, zorder=3)
            if scheme == "edges at random":
                low, high = ([np.nan if is_missing(r[k]) else float(r[k]) for r in own] for k in ("low", "high"))
                ax.fill_between(x, low, high, color=shade, alpha=0.15, lw=0)
    ax.axhline(0.5, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
    ax.set_xlabel("dropped from the reference (%)")
    ax.set_ylabel("AUROC")
    ax.set_title("as the list gets shorter")
    ax.grid(axis="y", color=FAINT, lw=0.8)


def caption(view: RunView) -> str:
    """What is drawn."""
    draws = {int(t["n_draws"].max()) for _, _, t in view.of("reference_sensitivity", "reference_incompleteness")}
    many = f" over {max(draws)} draws" if draws else ""
    return (
        "Left: AUROC by part of the reference, its positives in brackets; edges outside the part leave the pairs. Bars "
        f"are {100 * (1 - view.alpha):g} % intervals. Right: mean AUROC{many} when a share of the edges is not listed; "
        "the band holds 95 % of the draws of edges. It shows what another list of the same kind would give, not the "
        "error over genes."
    )


SPEC = FigureSpec(
    name="reference_sensitivity", analysis="reference_sensitivity", draw=reference_sensitivity, caption=caption,
    alt="AUROC of attention and co-expression by part of the reference and as edges are dropped",
)  # fmt: skip
