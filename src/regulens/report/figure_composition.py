"""Number of cells or mixture of states? AUROC by cells at one composition, and by entropy at one number of cells."""

from __future__ import annotations

from matplotlib.figure import Figure

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import FAINT, legend, mark_of, new_figure, plain_log
from regulens.report.model import RunView

_ARMS = 3


def draw(view: RunView) -> Figure | None:
    """One row of panels per reference, one panel per arm; None when the analysis was not run."""
    found: dict[str, list[str]] = {}
    for model, reference, _ in view.of("composition_control", "composition"):
        found.setdefault(reference, []).append(model)
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in f for f in found.values())]
    fig = new_figure(0.6 + 2.4 * len(found))
    grid = fig.subplots(len(found), _ARMS, squeeze=False, sharey="row")
    for axes, (reference, names) in zip(grid, found.items()):
        for model in names:
            colour, marker = mark_of(view, model)
            table = view.tables[("composition_control", model, reference, "composition")]
            for ax, (arm, rows) in zip(axes, table.groupby("arm", sort=False)):
                x = "n_cells" if str(arm).startswith("fixed") else "entropy"
                ax.plot(rows[x], rows["auroc"], ls="", marker=marker, ms=3.2, color=colour, alpha=0.4, zorder=2)
                mean = rows.groupby("n_blocks" if x == "n_cells" else "n_states")[[x, "auroc"]].mean()
                ax.plot(mean[x], mean["auroc"], color=colour, lw=1.4, zorder=3)
                ax.set_title(f"{reference}: {arm}" if ax is axes[0] else str(arm))
                ax.set_xlabel("cells" if x == "n_cells" else "entropy of cell states (nats)")
                ax.grid(axis="y", color=FAINT, lw=0.8)
        axes[0].set_xscale("log")
        plain_log(axes[0])
        axes[0].set_ylabel("AUROC")
    legend(fig, view, models)
    return fig


def caption(view: RunView) -> str:
    """What points and lines are."""
    return (
        "Unions of blocks of cells on the same pairs. Left: nested draws of one composition. The others: draws of one "
        "number of blocks from one, two, … cell states. Dots are draws, lines their means."
    )


SPEC = FigureSpec(
    name="composition",
    analysis="composition_control",
    draw=draw,
    caption=caption,
    alt="AUROC against the number of cells at one composition, and against the entropy of cell states at one size",
)
