"""Is the AUROC more than degrees? Null histogram with the observed value, for attention and co-expression alike."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import FAINT, INK, MUTED, mark_of, new_figure, reference_line, shorten
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import score_label

_RIVAL = "#4B4B4B"
_SCORES = 3  # attention, co-expression, closeness of mean expression


def degree(view: RunView) -> Figure | None:
    """Draw one panel per reference and model; None when the analysis was not run or has no numbers."""
    found = {(m, r): t for m, r, t in view.of("degree_null", "degree_draws") if len(t)}
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] == a for a, _ in found)]
    references = [r for r in view.references if any(r == b for _, b in found)]
    fig = new_figure(0.7 + 2.3 * len(references))
    grid = fig.subplots(len(references), len(models), squeeze=False, sharex=True)
    for line, reference in zip(grid, references):
        shown = [(ax, m) for ax, m in zip(line, models) if (m, reference) in found]
        for ax, model in shown:
            _panel(ax, view, model, reference, named=ax is shown[0][0])
        for ax, model in zip(line, models):
            ax.set_visible((model, reference) in found)
    handles = [
        Patch(facecolor=FAINT, edgecolor=MUTED, lw=0.6, label="networks with the same degrees"),
        Line2D([], [], color=MUTED, marker="D", lw=0, ms=5.5, label="observed; bar: interval of the excess"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False, handlelength=1.8, columnspacing=2.0)
    return fig


def _panel(ax: Axes, view: RunView, model: str, reference: str, *, named: bool) -> None:
    draws = view.tables[("degree_null", model, reference, "degree_draws")]
    rows = records(view.tables[("degree_null", model, reference, "degree_null")])[:_SCORES]
    for y, row in enumerate(rows):
        colour = mark_of(view, model)[0] if y == 0 else _RIVAL
        own = draws[draws["score"] == row["score"]]
        height = own["draws"].to_numpy(float)
        scaled = 0.72 * height / max(float(height.max()), 1.0)
        left, right = own["low"].to_numpy(float), own["high"].to_numpy(float)
        edge = np.concatenate([left, right[-1:]])
        ax.stairs(y - scaled, edge, baseline=y, fill=True, facecolor=FAINT, edgecolor=MUTED, lw=0.6, zorder=2)
        if not is_missing(row["pair_low"]):
            at = row["null_mean"]
            ax.plot([at + row["pair_low"], at + row["pair_high"]], [y + 0.12] * 2, color=colour, lw=1.6, zorder=3)
        ax.plot([row["auroc"]], [y + 0.12], marker="D", ms=5, color=colour, zorder=4)
    reference_line(ax, 0.5)
    labels = ["attention" if k == 0 else score_label(r["score"]) for k, r in enumerate(rows)]
    ax.set_yticks(range(len(rows)), labels if named else [""] * len(rows))
    ax.set_ylim(len(rows) - 0.65, -0.95)
    ax.set_title(shorten(f"{reference} · {view.label(model)}", 38))
    ax.set_xlabel("AUROC (reference recovery)")
    ax.grid(axis="x", color=FAINT, lw=0.8)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Grey: AUROC of networks in which every regulator keeps its number of targets and every target its number of "
        "regulators. Diamond: the observed AUROC; bar: mean of the grey plus the "
        f"{100 * (1 - view.alpha):g} % interval of the excess (jackknife over regulators and targets), which is wider "
        "than the grey where few genes carry it. Co-expression and closeness of mean expression on the same networks."
    )


SPEC = FigureSpec(
    name="degree", analysis="degree_null", draw=degree, caption=caption,
    alt="Histograms of AUROC among networks with the same degrees, with the observed values",
)  # fmt: skip
