"""In which layer and head does recovery sit? AUROC per head, one row of maps per model and reference."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import INK, MUTED, new_figure, shorten
from regulens.report.model import RunView, records
from regulens.report.numbers import fixed, is_missing

_WORDS = {"regulator_attends": "regulator attends to target", "target_attends": "target attends to regulator"}


def layer_head(view: RunView) -> Figure | None:
    """Draw the maps; None when no head was scored."""
    panels = []
    for model, reference, table in view.of("reference_recovery", "recovery"):
        heads = table[_of_a_layer(table)]
        if heads.empty:  # a model without attention
            continue
        panels.append((model, reference, table, sorted(heads["direction"].astype(str).unique())))
    if not panels:
        return None
    values = pd.concat([t["auroc"] for _, _, t, _ in panels]).astype(float).dropna()
    spread = max(0.05, float((values - 0.5).abs().max()) if len(values) else 0.05)
    norm = TwoSlopeNorm(vmin=0.5 - spread, vcenter=0.5, vmax=0.5 + spread)
    columns = max(len(d) for *_, d in panels)
    heights = [min(3.4, max(1.0, 0.21 * (int(t["layer"].max()) + 1))) + 0.75 for _, _, t, _ in panels]
    fig = new_figure(sum(heights) + 0.2)
    grid = fig.subplots(len(panels), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for line, (model, reference, table, directions) in zip(grid, panels):
        for ax in line[len(directions) :]:
            ax.set_visible(False)
        for ax, direction in zip(line, directions):
            part = table[table["direction"].astype(str) == direction]
            _panel(ax, part, norm=norm, alpha=view.alpha)
            title = f"{shorten(model, 30)} · {shorten(reference, 22)}"
            ax.set_title(f"{title}\n{_WORDS.get(direction, direction)}{_pooled(part)}", fontsize=8.5, weight="normal")
    mappable = mpl.cm.ScalarMappable(norm=norm, cmap="PuOr")
    bar = fig.colorbar(mappable, ax=grid, shrink=min(1.0, 2.6 / sum(heights)), aspect=14, pad=0.015)
    bar.set_label("AUROC (0.5 = chance)")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return fig


def _of_a_layer(table: pd.DataFrame) -> pd.Series:
    """Rows of one layer; the score pooled over layers carries −1 or nothing there, and is no cell of the map."""
    return table["layer"].notna() & (table["layer"].fillna(-1).astype(int) >= 0)


def _pooled(part: pd.DataFrame) -> str:
    row = next(iter(records(part[part["score"] == "pooled"])), {})
    return "" if is_missing(row.get("auroc")) else f" · pooled {fixed(row['auroc'])}"


def _panel(ax: Axes, part: pd.DataFrame, *, norm: TwoSlopeNorm, alpha: float) -> None:
    rows = records(part[_of_a_layer(part)])
    n_layers = 1 + max(int(r["layer"]) for r in rows)
    heads = sorted({int(r["head"]) for r in rows if str(r["head"]).isdigit()})
    n_heads = 1 + max(heads, default=-1)
    gap = 0.3
    edges = np.array([*range(n_heads + 1), n_heads + gap, n_heads + gap + 1.2])  # heads, a gap, the mean over heads
    image = np.full((n_layers, len(edges) - 1), np.nan)
    for row in rows:
        x = int(row["head"]) if str(row["head"]).isdigit() else n_heads + 1
        image[int(row["layer"]), x] = np.nan if row["auroc"] is None else row["auroc"]
    ax.pcolormesh(
        edges, np.arange(n_layers + 1), np.ma.masked_invalid(image), cmap="PuOr", norm=norm, ec="white", lw=0.6
    )
    centre = (edges[:-1] + edges[1:]) / 2
    for row in rows:
        x = int(row["head"]) if str(row["head"]).isdigit() else n_heads + 1
        if not is_missing(row.get("p_maxt")) and row["p_maxt"] < alpha:
            place, width = (edges[x] + 0.06, int(row["layer"]) + 0.06), edges[x + 1] - edges[x] - 0.12
            ax.add_patch(Rectangle(place, width, 0.88, fill=False, ec=INK, lw=1.4, zorder=3))
    if image.size <= 150:
        for (y, x), value in np.ndenumerate(image):
            if np.isfinite(value):
                far = abs(value - 0.5) > 0.62 * (norm.vmax - 0.5)
                ax.text(centre[x], y + 0.5, f"{value:.2f}".removeprefix("0"), ha="center", va="center", fontsize=7,
                        color="white" if far else INK)  # fmt: skip
    step = 1 if n_heads <= 12 else 3
    shown = [*range(0, n_heads, step)]
    ax.set_xticks([*[i + 0.5 for i in shown], centre[-1]], [*map(str, shown), "mean"])
    down = 1 if n_layers <= 8 else 2 if n_layers <= 16 else 3
    ax.set_ylim(n_layers, 0)
    ax.set_yticks([i + 0.5 for i in range(0, n_layers, down)], [str(i) for i in range(0, n_layers, down)])
    ax.set_xlabel("head", color=MUTED, labelpad=2)
    ax.set_ylabel("layer", color=MUTED)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "AUROC of every attention head and of the mean over heads of each layer. Outlined: above chance after max-T "
        f"adjustment over all heads (p < {view.alpha:g}). The strongest cell of a map is a selection, not a result. "
        f"Models: {', '.join(view.label(m['name']) for m in view.models)}."
    )


SPEC = FigureSpec(
    name="layer_head", analysis="", draw=layer_head, caption=caption,
    alt="Heat maps of AUROC per layer and head",
)  # fmt: skip
