"""Which regulators carry recovery? A forest plot: the summary, the best, all others as ticks, and the worst."""

from __future__ import annotations

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
    reference_line,
    shorten,
)
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import quantity_label

#: Regulators shown by name at either end.
_BEST, _WORST = 12, 6
_SUMMARY = ("pooled_all_pairs", "mean_of_regulators", "new_regulator")


def tf_resolution(view: RunView) -> Figure | None:
    """Draw one forest plot per reference and model; None when the analysis was not run."""
    found = {(m, r): t for m, r, t in view.of("tf_resolution", "per_tf")}
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] == a for a, _ in found)]
    references = [r for r in view.references if any(r == b for _, b in found)]
    heights = [max(_n_rows(len(found[m, r])) for m in models if (m, r) in found) for r in references]
    fig = new_figure(0.8 + sum(0.9 + 0.178 * h for h in heights))
    grid = fig.subplots(len(references), len(models), squeeze=False, height_ratios=heights, sharex=True)
    for line, reference in zip(grid, references):
        for ax, model in zip(line, models):
            if (model, reference) not in found:
                ax.set_visible(False)
                continue
            _forest(ax, view, model, reference)
    handles = (
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.0, ms=5, label="own AUROC"),
        Line2D([], [], color=MUTED, marker="o", lw=0, ms=5, label="shrunk towards the mean"),
        Line2D([], [], color=INK, marker="D", lw=1.6, ms=5, label="summary over regulators"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
    )
    legend(fig, view, models, extra=handles)
    return fig


def _n_rows(n: int) -> int:
    return len(_SUMMARY) + min(n, _BEST + 1 + _WORST)


def _forest(ax: Axes, view: RunView, model: str, reference: str) -> None:
    rows = records(view.tables[("tf_resolution", model, reference, "per_tf")])
    summary = view.table("tf_resolution", model, reference, "tf_summary")
    of = {} if summary is None else {r["quantity"]: r for r in records(summary)}
    colour, _ = mark_of(view, model)
    labels: list[str] = []
    for name in _SUMMARY:
        row = of.get(name)
        y = len(labels)
        labels.append(quantity_label(name))
        if row is None or is_missing(row["value"]):
            continue
        if not is_missing(row["low"]):
            ax.plot([row["low"], row["high"]], [y, y], color=INK, lw=1.8, solid_capstyle="butt", zorder=3)
        if name != "new_regulator":
            ax.plot([row["value"]], [y], marker="D", ms=5, color=INK, zorder=4)
    few = len(rows) <= _BEST + 1 + _WORST
    named = rows if few else [*rows[:_BEST], None, *rows[-_WORST:]]
    ax.axhline(len(labels) - 0.5, color=FAINT, lw=1.2)
    for row in named:
        y = len(labels)
        if row is None:
            between = rows[_BEST:-_WORST]
            for other in between:
                ax.plot([other["auroc"]] * 2, [y - 0.3, y + 0.3], color=colour, lw=0.7, alpha=0.5)
            labels.append(f"{len(between)} between")
            continue
        labels.append(f"{shorten(row['regulator'], 14)} ({row['n_pos']})")
        if not is_missing(row["low"]):
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.0, alpha=0.55, zorder=2)
        ax.plot([row["auroc"]], [y], marker="o", ms=4.6, color=colour, mfc="white", mew=1.1, zorder=3)
        if not is_missing(row["shrunk"]):
            ax.plot([row["shrunk"]], [y], marker="o", ms=3.6, color=colour, zorder=4)
    reference_line(ax, 0.5)
    ax.set_xlim(0, 1)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_title(f"{shorten(model, 24)} · {shorten(reference, 18)}")
    ax.set_xlabel("AUROC over the regulator's own pairs (reference recovery)")
    ax.grid(axis="x", color=FAINT, lw=0.8)


def caption(view: RunView) -> str:
    """What is drawn."""
    n = [len(t) for _, _, t in view.of("tf_resolution", "per_tf")]
    many = f"the {_BEST} highest and {_WORST} lowest by name, the others as ticks" if max(n, default=0) > 19 else "all"
    return (
        f"Every regulator against its own pairs, positives in brackets; {many}. Hollow: its own AUROC with DeLong's "
        f"{100 * (1 - view.alpha):g} % interval; filled: shrunk towards the mean of all. Above the line: the AUROC "
        "of all pairs in one ranking, the mean over regulators, and the range in which another regulator is expected. "
        "The extremes of many noisy values are extreme by chance; the shrunk values allow for that."
    )


SPEC = FigureSpec(
    name="tf_resolution", analysis="tf_resolution", draw=tf_resolution, caption=caption,
    alt="Forest plot of the AUROC of single regulators with a summary",
)  # fmt: skip
