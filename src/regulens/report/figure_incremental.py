"""What does attention add to gene features? Gains with intervals by split and learner, beside the equivalence band."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

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
from regulens.report.model import Row, RunView, records
from regulens.report.numbers import fixed, is_missing
from regulens.report.wording import learner_label, metric_label, split_label

NAME = "incremental_value"
_METRICS = ("auroc", "average_precision")
_GENES_ONLY = "gene features"


def incremental(view: RunView) -> Figure | None:
    """One line of two panels per screen; None when the analysis was not run or has no numbers."""
    tables: dict[str, dict[str, list[Row]]] = {}
    bands: dict[str, float] = {}
    for model, screen, table in view.of(NAME, "incremental"):
        if len(table):
            tables.setdefault(screen, {})[model] = records(table)
            bands[screen] = float(table["gain_of_interest"].iloc[0])
    if not tables:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in t for t in tables.values())]
    lines = {s: _lines(t) for s, t in tables.items()}
    heights = [0.9 + (0.2 + 0.2 * len(models)) * len(lines[s]) for s in tables]
    fig = new_figure(sum(heights) + 0.3 * (1 + len(models) / 2))
    grid = fig.subplots(len(tables), 2, squeeze=False, height_ratios=heights)
    for axes, (screen, found) in zip(grid, tables.items()):
        for ax, metric in zip(axes, _METRICS):
            _panel(ax, view, found, lines[screen], metric)
            ax.set_title(shorten(screen, 40) if ax is axes[0] else "")
            ax.set_xlabel(f"gain in mean {metric_label(metric)} (perturbation response)")
            if ax is axes[0]:
                ax.axvspan(-bands[screen], bands[screen], color=FAINT, zorder=0, lw=0)
            else:
                ax.set_yticklabels([])
    extra = (
        Line2D([], [], color=MUTED, marker="o", lw=1.4, ms=5.5, label="attention added"),
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label="co-expression added"),
        Patch(facecolor=FAINT, label=f"equivalence: ±{fixed(max(bands.values()))} AUROC"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="no gain"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def _lines(tables: dict[str, list[Row]]) -> list[tuple[str, str, str]]:
    """(base features, split, learner) of all models, in order of first appearance."""
    found = {(r["base_features"], r["split"], r["learner"]): None for t in tables.values() for r in t}
    return list(found)


def _panel(
    ax: Axes, view: RunView, found: dict[str, list[Row]], lines: list[tuple[str, str, str]], metric: str
) -> None:
    for model, dy in zip(found, offsets(len(found), 0.5)):
        colour, marker = mark_of(view, model)
        for row in found[model]:
            if row["metric"] != metric:
                continue
            y = lines.index((row["base_features"], row["split"], row["learner"])) + dy
            point(ax, row, y - 0.1, colour=colour, marker=marker, names=("delta", "delta_low", "delta_high"))
            if not is_missing(row["delta_coexpression"]):
                names = ("delta_coexpression", "coexpression_low", "coexpression_high")
                point(ax, row, y + 0.1, colour=MUTED, marker=marker, hollow=True, names=names)
    reference_line(ax, 0.0)
    ax.set_yticks(range(len(lines)), [_words(*line) for line in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.grid(axis="x", color=FAINT, lw=0.8)


def _words(base: str, split: str, learner: str) -> str:
    beside = "" if base == _GENES_ONLY else "\nand response propensity"
    return f"{split_label(split)} · {learner_label(learner)}{beside}"


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Gain by adding one score to a model of the responding gene's mean, variance and dropout, judged on what the "
        "model has not seen, averaged over perturbations. Below, the model also knows how often the gene responds to "
        f"other perturbations. {100 * (1 - view.alpha):g} % intervals from a bootstrap over perturbations that refits "
        "all models, and a jackknife over the judged genes."
    )


SPEC = FigureSpec(
    name="incremental", analysis=NAME, draw=incremental, caption=caption,
    alt="Gains by attention and by co-expression over gene features, by split and learner",
)  # fmt: skip
