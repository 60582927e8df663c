"""How does recovery change with the number of cells? Nested draws, their mean, and the curve that fits best."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import FAINT, INK, MUTED, legend, mark_of, new_figure, plain_log
from regulens.report.model import RunView, records
from regulens.report.wording import interval_words

_PANELS = (("auroc", "AUROC", 0.5), ("auprc", "average precision", None), ("f1_n_pos", "F1 at K = n⁺", None))


def draw(view: RunView) -> Figure | None:
    """One row of panels per reference; None when the analysis was not run."""
    found: dict[str, list[str]] = {}
    for model, reference, _ in view.of("cell_count_scaling", "scaling"):
        found.setdefault(reference, []).append(model)
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in f for f in found.values())]
    fig = new_figure(0.7 + 2.5 * len(found))
    grid = fig.subplots(len(found), len(_PANELS), squeeze=False)
    for axes, (reference, names) in zip(grid, found.items()):
        for ax, (metric, label, chance) in zip(axes, _PANELS):
            for model in names:
                colour, marker = mark_of(view, model)
                draws = view.tables[("cell_count_scaling", model, reference, "scaling")]
                mean = view.tables[("cell_count_scaling", model, reference, "scaling_mean")]
                ax.plot(draws["n_cells"], draws[metric], ls="", marker=".", ms=3, color=colour, alpha=0.35, zorder=2)
                ax.plot(mean["n_cells"], mean[metric], color=colour, marker=marker, ms=4.5, lw=1.3, zorder=4)
                if metric == "auroc":
                    for row in records(mean):
                        if row["low"] is not None:
                            ax.plot([row["n_cells"]] * 2, [row["low"], row["high"]], color=colour, lw=1, zorder=3)
                    _weights(ax, view, model, reference, names.index(model), colour)
            if chance is not None:
                ax.axhline(chance, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
            ax.set_xscale("log")
            plain_log(ax)
            ax.set_xlabel("cells")
            ax.set_title(reference if metric == "auroc" else label)
            ax.set_ylabel(label if metric == "auroc" else "")
            ax.grid(axis="y", color=FAINT, lw=0.8)
    extra = (Line2D([], [], color=MUTED, marker=".", lw=0, label="one draw"),)
    legend(fig, view, models, extra=extra)
    return fig


def _weights(ax, view: RunView, model: str, reference: str, row: int, colour: str) -> None:
    """Name the best curve with its Akaike weight."""
    fits = view.table("cell_count_scaling", model, reference, "scaling_fits")
    if fits is None or not fits["akaike_weight"].notna().any():
        return
    best = fits.loc[fits["akaike_weight"].idxmax()]
    ax.text(0.02, 0.94 - 0.08 * row, f"{best['family']}, Akaike weight {best['akaike_weight']:.2f}", color=colour,
            fontsize=7.5, ha="left", transform=ax.transAxes)  # fmt: skip


def caption(view: RunView) -> str:
    """What points, lines and bars are."""
    return (
        "Nested draws of blocks of cells of one composition, always on the same pairs: dots are draws, lines their "
        f"mean. {interval_words(view)} Draws share cells and genes; their spread is no error. The curve named is the "
        "one of largest mean Akaike weight over draws."
    )


SPEC = FigureSpec(
    name="scaling",
    analysis="cell_count_scaling",
    draw=draw,
    caption=caption,
    alt="AUROC, average precision and F1 against the number of cells, nested draws with their mean",
)
