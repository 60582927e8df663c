"""Do in-silico effects rank genes as measured ones do? Rho, its interval, and the band of exchanged perturbations."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import (
    FAINT,
    INK,
    MUTED,
    RULE,
    legend,
    mark_of,
    new_figure,
    offsets,
    point,
    reference_line,
    shorten,
)
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import intervention_label

_NAME = "rank_consistency"

#: Perturbations shown by name at either end.
_BEST, _WORST = 12, 6

#: Rows of the summary.
_SUMMARY = ("ablate", "swap", "coexpression")

#: Panels: measure, title, label of the axis.
_PANELS = (
    ("signed", "with direction", "Spearman of in-silico and measured effects"),
    ("absolute", "sizes only", "Spearman of their sizes"),
)


def consistency(view: RunView) -> Figure | None:
    """Draw the mean and every perturbation, per screen; None when no model could be asked."""
    found: dict[str, list[str]] = {}
    for model, reference, _ in view.of(_NAME, "rank_by_perturbation"):
        found.setdefault(reference, []).append(model)
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in ms for ms in found.values())]
    plans = {r: _order(view, r, ms) for r, ms in found.items()}
    heights = [0.9 + (0.14 + 0.085 * len(found[r])) * (len(_SUMMARY) + len(p)) for r, p in plans.items()]
    fig = new_figure(sum(heights) + 0.25 * (2 + len(models) / 2))
    grid = fig.subplots(len(found), 2, squeeze=False, height_ratios=heights)
    for line, (reference, names) in zip(grid, plans.items()):
        for ax, panel in zip(line, _PANELS):
            _draw(ax, view, reference, found[reference], names, panel)
        line[1].set_yticklabels([])
    handles = (
        Line2D([], [], color=RULE, lw=6, solid_capstyle="butt", label="perturbations exchanged, genes kept"),
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.0, ms=5, label="one perturbation"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="no agreement (0)"),
    )
    legend(fig, view, models, extra=handles)
    return fig


def _order(view: RunView, reference: str, models: list[str]) -> list[str | None]:
    """Perturbations from the best agreement to the worst, over models; None stands for those in between."""
    values: dict[str, list[float]] = {}
    for model in models:
        for row in records(view.tables[(_NAME, model, reference, "rank_by_perturbation")]):
            value = row["absolute"] if is_missing(row["signed"]) else row["signed"]
            if row["intervention"] == "ablate" and not is_missing(value):
                values.setdefault(str(row["perturbation"]), []).append(float(value))
    names: list[str | None] = [*sorted(values, key=lambda p: (-float(np.mean(values[p])), p))]
    return names if len(names) <= _BEST + 1 + _WORST else [*names[:_BEST], None, *names[-_WORST:]]


def _draw(
    ax: Axes, view: RunView, reference: str, models: list[str], names: list[str | None], panel: tuple[str, str, str]
) -> None:
    measure, title, label = panel
    gap = len(_SUMMARY)
    for model, dy in zip(models, offsets(len(models))):
        colour, marker = mark_of(view, model)
        summary = view.table(_NAME, model, reference, "rank_consistency")
        of = {} if summary is None else {(r["intervention"], r["measure"]): r for r in records(summary)}
        for k, change in enumerate(_SUMMARY):
            row = of.get((change, measure), {})
            _band(ax, row.get("null_low"), row.get("null_high"), k + dy, wide=len(models) == 1)
            point(ax, row, k + dy, colour=colour, marker=marker, hollow=change != "ablate",
                  names=("value", "low", "high"))  # fmt: skip
        own = {
            str(r["perturbation"]): r
            for r in records(view.tables[(_NAME, model, reference, "rank_by_perturbation")])
            if r["intervention"] == "ablate"
        }
        for k, name in enumerate(names):
            if name is None:
                between = [r for n, r in own.items() if n not in names and not is_missing(r[measure])]
                for r in between:
                    ax.plot([r[measure]] * 2, [gap + k + dy - 0.2, gap + k + dy + 0.2], color=colour, lw=0.7, alpha=0.5)
                continue
            _one(ax, own.get(name, {}), gap + k + dy, measure, colour, marker, wide=len(models) == 1)
    ax.axhline(gap - 0.5, color=FAINT, lw=1.2)
    reference_line(ax, 0.0)
    n = max(len(_all(view, m, reference)) for m in models)
    between_label = f"{n - _BEST - _WORST} between"
    labels = [*map(intervention_label, _SUMMARY), *(between_label if p is None else shorten(p, 14) for p in names)]
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_title(f"{shorten(reference, 26)} · {title}")
    ax.set_xlabel(f"{label} (perturbation response)")
    ax.grid(axis="x", color=FAINT, lw=0.8)


def _all(view: RunView, model: str, reference: str) -> list[dict[str, Any]]:
    rows = records(view.tables[(_NAME, model, reference, "rank_by_perturbation")])
    return [r for r in rows if r["intervention"] == "ablate" and not is_missing(r["absolute"])]


def _band(ax: Axes, low: object, high: object, y: float, *, wide: bool) -> None:
    if not is_missing(low) and not is_missing(high):
        ax.plot([low, high], [y, y], color=RULE, lw=8 if wide else 4.5, solid_capstyle="butt", zorder=1.2)


def _one(ax: Axes, row: dict[str, Any], y: float, measure: str, colour: str, marker: str, *, wide: bool) -> None:
    if is_missing(row.get(measure)):
        return
    _band(ax, row[f"{measure}_null_low"], row[f"{measure}_null_high"], y, wide=wide)
    ax.plot([row[f"{measure}_low"], row[f"{measure}_high"]], [y, y], color=colour, lw=1.0, alpha=0.55, zorder=2)
    ax.plot([row[measure]], [y], marker=marker, ms=4.2, color=colour, mfc="white", mew=1.1, zorder=3)


def caption(view: RunView) -> str:
    """What is drawn."""
    level = f"{100 * (1 - view.alpha):g} %"
    return (
        f"Above the line: mean over perturbations with its {level} interval (perturbations drawn, genes held fixed), "
        "for a gene taken away in the model, for its value swapped with another gene's, and for co-expression. Below: "
        f"single perturbations; their {level} intervals take genes as independent and are too narrow. Grey: the middle "
        "95 % when perturbations are exchanged and genes stay, so that what all perturbations move is in it; below the "
        "line, what the other perturbations' in-silico effects reach against this one's measured effects."
    )


SPEC = FigureSpec(
    name="rank_consistency", analysis=_NAME, draw=consistency, caption=caption,
    alt="Rank correlation of in-silico and measured effects, on average and by perturbation, with the band of "
    "exchanged perturbations",
)  # fmt: skip
