"""Do strata help? Held-out gain by kind of strata beside that of shuffled labels, and over the number of strata."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import FAINT, INK, MUTED, legend, mark_of, new_figure, offsets, point, reference_line
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import interval_words, strata_label


def draw(view: RunView) -> Figure | None:
    """One row of panels per reference; None when the analysis was not run."""
    found: dict[str, list[str]] = {}
    for model, reference, _ in view.of("cssi", "cssi"):
        found.setdefault(reference, []).append(model)
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in f for f in found.values())]
    fig = new_figure(0.6 + 2.6 * len(found))
    grid = fig.subplots(len(found), 2, squeeze=False, width_ratios=(1.2, 1))
    for (left, right), (reference, names) in zip(grid, found.items()):
        kinds: list[str] = []
        for model in names:
            kinds += [k for k in view.tables[("cssi", model, reference, "cssi")]["strata"] if k not in kinds]
        for model, dy in zip(names, offsets(len(names))):
            colour, marker = mark_of(view, model)
            for row in records(view.tables[("cssi", model, reference, "cssi")]):
                y = kinds.index(row["strata"]) + dy
                if not is_missing(row["null_mean"]):
                    left.plot([row["null_mean"], row["null_q95"]], [y + 0.1, y + 0.1], color=MUTED, lw=3.2, alpha=0.45,
                              solid_capstyle="butt", zorder=2)  # fmt: skip
                point(left, row, y, colour=colour, marker=marker, hollow=row["strata"] == "annotation",
                      names=("gain", "gain_low", "gain_high"))  # fmt: skip
            scan = view.table("cssi", model, reference, "cssi_kscan")
            if scan is not None:
                right.plot(scan["k"], scan["gain"], color=colour, marker=marker, ms=4.5, lw=1.2, zorder=3)
                right.fill_between(scan["k"], scan["null_mean"], scan["null_q95"], color=colour, alpha=0.13, lw=0)
        reference_line(left, 0)
        right.axhline(0, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
        left.set_yticks(range(len(kinds)), [strata_label(k) for k in kinds])
        left.set_ylim(len(kinds) - 0.4, -0.6)
        left.set_xlabel("AUROC of strata − AUROC of pooled (held out)")
        left.set_title(reference)
        left.grid(axis="x", color=FAINT, lw=0.8)
        right.set_xlabel("number of strata (Ward clusters of blocks)")
        right.set_ylabel("gain (held out)")
        right.set_title("how many strata")
        right.grid(axis="y", color=FAINT, lw=0.8)
    extra = (
        Line2D([], [], color=INK, marker="o", mfc="white", lw=1.4, ms=5.5, label="hollow: annotated states"),
        Patch(color=MUTED, alpha=0.3, label="shuffled labels: mean to 95th percentile"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def caption(view: RunView) -> str:
    """What the points, bars and bands are."""
    return (
        "Gain of strata over the score pooled over all cells; layer and way of joining strata were chosen on other "
        f"cells and other regulators. {interval_words(view)} Bands: the same with state labels dealt anew among the "
        "blocks of cells of each donor. Right: blocks clustered into more and more strata by expression."
    )


SPEC = FigureSpec(
    name="cssi",
    analysis="cssi",
    draw=draw,
    caption=caption,
    alt="Held-out gain in AUROC of strata over the pooled score, by kind of strata and by number of strata, beside "
    "shuffled labels",
)
