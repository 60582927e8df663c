"""Is the score a re-weighted co-expression network? Score against |ρ|, AUROC inside deciles of |ρ|, coefficients."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import feature_label, interval_words

_RIVAL = "#4B4B4B"


def dominance(view: RunView) -> Figure | None:
    """Draw three panels per context; None when the analysis was not run."""
    names = ("dominance_hexbin", "dominance_deciles", "dominance_coefficients")
    contexts = [c for c in view.contexts if any(view.table("coexpression_dominance", *c, n) is not None for n in names)]
    if not contexts:
        return None
    fig = new_figure(2.75 * len(contexts) + 0.35)
    grid = fig.subplots(len(contexts), 3, squeeze=False, width_ratios=(1, 1.15, 1))
    for line, context in zip(grid, contexts):
        drawers = (_density, _deciles, _coefficients)
        for ax, name, draw in zip(line, names, drawers):
            table = view.table("coexpression_dominance", *context, name)
            if table is None:
                ax.set_visible(False)
            else:
                draw(ax, table, mark_of(view, context[0]))
        line[0].set_title(f"{shorten(context[0], 24)} · {shorten(context[1], 16)}")
    extra = (Line2D([], [], color=_RIVAL, marker="x", ls="--", lw=1.2, ms=5, label="co-expression, |Spearman|"),)
    legend(fig, view, [m["name"] for m in view.models if any(m["name"] == c[0] for c in contexts)], extra=extra)
    return fig


def _density(ax: Axes, table: pd.DataFrame, mark: tuple[str, str]) -> None:
    """Number of pairs per bin of |ρ| and of the score's rank, on a logarithmic grey scale."""
    wide = table.pivot_table(index="y", columns="x", values="n", aggfunc="sum")
    shade = np.log10(wide.to_numpy(dtype=float))
    if wide.shape[0] > 1 and wide.shape[1] > 1:
        mesh = ax.pcolormesh(wide.columns.to_numpy(float), wide.index.to_numpy(float), np.ma.masked_invalid(shade),
                             cmap="Greys", shading="nearest", vmin=-0.4, rasterized=True)  # fmt: skip
        bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02, aspect=18, shrink=0.9)
        top = int(np.floor(np.nanmax(shade)))
        bar.set_ticks(list(range(top + 1)), labels=[f"{10**k:,}" for k in range(top + 1)])
        bar.set_label("pairs", color=MUTED)
        bar.outline.set_visible(False)  # type: ignore[operator]
    middle = table.assign(w=table["n"] * table["y"]).groupby("x")[["w", "n"]].sum()
    middle = middle[middle["n"] >= 20]  # the mean rank of a handful of pairs is noise
    ax.plot(middle.index, middle["w"] / middle["n"], color=mark[0], lw=1.8)
    ax.set_ylim(0, 1)
    ax.set_xlabel("co-expression, |ρ|")
    ax.set_ylabel("rank of attention (share)")


def _deciles(ax: Axes, table: pd.DataFrame, mark: tuple[str, str]) -> None:
    """AUROC inside deciles; the band is what a random score would give with these numbers of pairs."""
    n_pos, n_neg = table["n_pos"].to_numpy(float), table["n_neg"].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.sqrt((n_pos + n_neg + 1) / (12 * n_pos * n_neg))  # Hanley and McNeil 1982, at AUROC 0.5
    se = np.where(np.isfinite(se), se, np.nan)
    x = table["decile"].to_numpy(float)
    ax.fill_between(x, 0.5 - 1.96 * se, 0.5 + 1.96 * se, color=FAINT, lw=0, zorder=0)
    ax.axhline(0.5, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1)
    y = pd.to_numeric(table["auroc_coexpression"]).to_numpy(dtype=float, na_value=np.nan)
    ax.plot(x, y, color=_RIVAL, marker="x", ls="--", lw=1.2, ms=5, zorder=2)
    y = pd.to_numeric(table["auroc_attention"]).to_numpy(dtype=float, na_value=np.nan)
    ax.plot(x, y, color=mark[0], marker=mark[1], lw=1.5, ms=5, zorder=3)
    ax.set_xticks(x, [str(int(d)) for d in x])
    ax.set_xlabel("decile of |ρ| (weak to strong)")
    ax.set_ylabel("AUROC inside the decile")
    ax.set_title("within equal co-expression")


def _coefficients(ax: Axes, table: pd.DataFrame, mark: tuple[str, str]) -> None:
    """Logistic coefficients of standardised features, with intervals."""
    rows = [r for r in records(table) if not is_missing(r["coefficient"])]
    for y, row in enumerate(rows):
        mine = "attention" in str(row["feature"])
        point(ax, row, y, colour=mark[0] if mine else _RIVAL, marker=mark[1] if mine else "x",
              names=("coefficient", "low", "high"))  # fmt: skip
    reference_line(ax, 0.0)
    ax.set_yticks(range(len(rows)), [shorten(feature_label(r["feature"]), 28) for r in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("coefficient per SD (log odds)")
    ax.set_title("side by side")
    ax.grid(axis="x", color=FAINT, lw=0.8)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: all pairs by co-expression and by rank of attention, line: mean rank. Middle: AUROC inside deciles of "
        "|ρ|; shaded: 95 % band of a random score. Right: coefficients of a joint logistic model. "
        f"{interval_words(view)}"
    )


SPEC = FigureSpec(
    name="dominance", analysis="coexpression_dominance", draw=dominance, caption=caption,
    alt="Attention against co-expression: density, AUROC inside deciles, coefficients",
)  # fmt: skip
