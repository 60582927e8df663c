"""Does the order of scores depend on the metric? Place of every score under every metric, a line each."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import FAINT, legend, mark_of, new_figure, shorten
from regulens.report.model import RunView, records
from regulens.report.numbers import count, fixed, is_missing
from regulens.report.wording import metric_label, score_label

_RIVAL, _GENE = "#4B4B4B", "#c9ced6"


def metric_dependence(view: RunView) -> Figure | None:
    """Draw one slope chart per reference and model; None when the analysis was not run."""
    found = {(m, r): t for m, r, t in view.of("metric_dependence", "metric_grid")}
    if not found:
        return None
    height = [0.9 + 0.165 * t["score"].nunique() for t in found.values()]
    fig = new_figure(0.5 + sum(height))
    axes = fig.subplots(len(found), 1, squeeze=False, height_ratios=height)[:, 0]
    for ax, ((model, reference), table) in zip(axes, found.items()):
        _slopes(ax, table, mark_of(view, model))
        ax.set_title(f"{shorten(model, 24)} · {shorten(reference, 18)}{_agreement(view, model, reference)}")
    models = [m["name"] for m in view.models if any(m["name"] == a for a, _ in found)]
    extra = (
        Line2D([], [], color=_RIVAL, lw=1.6, marker="x", ms=5, label="co-expression, marginal product, products"),
        Line2D([], [], color=_GENE, lw=1.2, label="statistics of one gene, random score"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def _slopes(ax: Axes, table: pd.DataFrame, mark: tuple[str, str]) -> None:
    kept = table[~table["metric"].isin(["f1_at_k", "epr"])]
    columns = list(dict.fromkeys(zip(kept["metric"], kept["k"].fillna(-1))))
    first = kept["score"].iloc[0]
    ends = {}
    for score, rows in kept.groupby("score", sort=False):
        place = dict(zip(zip(rows["metric"], rows["k"].fillna(-1)), rows["place"]))
        y = [place[c] for c in columns]
        attention = score == first or str(score)[:1] == "L"
        rival = str(score).startswith(("coexpression", "marginal", "product"))
        colour = mark[0] if attention else _RIVAL if rival else _GENE
        ax.plot(
            range(len(columns)),
            y,
            color=colour,
            lw=2.4 if score == first else 1.1,
            zorder=4 if score == first else 2,
            marker=mark[1] if score == first else "x" if rival else None,
            ms=4.5,
            alpha=1 if score == first or rival else 0.6,
        )
        ends.setdefault(y[0], []).append(score_label(score))
    ax.set_yticks(list(ends), [shorten(" / ".join(v), 40) for v in ends.values()])
    ax.set_xticks(range(len(columns)), [_head(m, k) for m, k in columns])
    ax.invert_yaxis()
    ax.set_xlim(-0.2, len(columns) - 0.8)
    ax.grid(axis="x", color=FAINT, lw=0.8)
    ax.set_ylabel("place (best on top)")


def _head(metric: str, k: float) -> str:
    return metric_label(metric).replace(" ", "\n", 1) if k < 0 else f"P at\n{count(k)}"


def _agreement(view: RunView, model: str, reference: str) -> str:
    table = view.table("metric_dependence", model, reference, "metric_concordance")
    for row in [] if table is None else records(table):
        if row["quantity"] == "kendall_w" and not is_missing(row["value"]):
            return f" (Kendall's W {fixed(row['value'], 2)})"
    return ""


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Place of every score among all scores by each metric, on identical pairs; P at K is the precision of the K "
        "strongest pairs. Thick: the pre-specified attention score, thin in its colour: layers. Crossing lines are "
        "conclusions that depend on the metric. No error is drawn: neighbouring places may be equal."
    )


SPEC = FigureSpec(
    name="metric_dependence", analysis="metric_dependence", draw=metric_dependence, caption=caption,
    alt="Slope chart of the places of all scores by metric",
)  # fmt: skip
