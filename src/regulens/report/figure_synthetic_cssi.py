"""In simulated cells, how much do strata gain as labels get worse? Gain against the accuracy of the labels."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import COLOURS, FAINT, INK, MARKS, MUTED, new_figure
from regulens.report.model import RunView, records
from regulens.report.numbers import count, is_missing
from regulens.report.wording import variant_label

#: More than the colours, so that no two settings look the same.
_MARKS = (*MARKS, "*", "<", ">")
_TABLE = ("synthetic_cssi", "simulation", "simulation", "synthetic_cssi")


def draw(view: RunView) -> Figure | None:
    """One panel per variant, one point per setting and kind of labels; None when the analysis was not run."""
    table = view.table(*_TABLE)
    if table is None:
        return None
    variants = list(dict.fromkeys(table["variant"]))
    settings = list(dict.fromkeys(table["setting"]))
    fig = new_figure(3.6 + 0.16 * len(settings))
    axes = fig.subplots(1, len(variants), squeeze=False, sharey=True)[0]
    for ax, variant in zip(axes, variants):
        for s, setting in enumerate(settings):
            rows = records(table[(table["variant"] == variant) & (table["setting"] == setting)])
            rows = sorted((r for r in rows if not is_missing(r["gain"])), key=lambda r: r["label_accuracy"])
            colour, marker = COLOURS[s % len(COLOURS)], _MARKS[s % len(_MARKS)]
            if len(rows) > 2:
                ax.plot([r["label_accuracy"] for r in rows], [r["gain"] for r in rows], color=colour, lw=0.8, zorder=2)
            for row in rows:
                x, fill = row["label_accuracy"], colour if row["labels"] == "estimated" else "white"
                ax.plot([x, x], [row["gain_low"], row["gain_high"]], color=colour, lw=1.3, zorder=3)
                ax.plot([x], [row["gain"]], marker=marker, ms=5.5, color=colour, mfc=fill, mew=1.2, zorder=4)
        ax.axhline(0, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
        ax.set_title(variant_label(variant))
        ax.set_xlabel("accuracy of labels (adjusted Rand index)")
        ax.set_xlim(-0.06, 1.06)
        ax.grid(axis="y", color=FAINT, lw=0.8)
        ax.text(0.5, 0.5, "SIMULATED", transform=ax.transAxes, ha="center", va="center", rotation=28, fontsize=26,
                color=MUTED, alpha=0.13, zorder=0)  # fmt: skip
    axes[0].set_ylabel("AUROC of strata − AUROC of pooled")
    handles = [
        Line2D([], [], color=COLOURS[s % len(COLOURS)], marker=_MARKS[s % len(_MARKS)], lw=0, ms=5.5, label=name)
        for s, name in enumerate(settings)
    ]
    handles.append(
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=0, ms=5.5, label="hollow: true or shuffled labels")
    )
    fig.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False)
    return fig


def caption(view: RunView) -> str:
    """What the points and bars are."""
    table = view.table(*_TABLE)
    worlds = "" if table is None else f" over {count(table['n_worlds'].iloc[0])} simulated worlds"
    return (
        f"Mean gain of the stratified over the pooled score{worlds}, with {100 * (1 - view.alpha):g} % t intervals, "
        "by accuracy of the state labels: true labels (1.0), the same with a share shuffled, and labels estimated by "
        "k-means (filled)."
    )


SPEC = FigureSpec(
    name="synthetic_cssi",
    analysis="synthetic_cssi",
    draw=draw,
    caption=caption,
    alt="Gain in AUROC of three ways of joining strata against the accuracy of labels, in simulated cells",
    simulated=True,
)
