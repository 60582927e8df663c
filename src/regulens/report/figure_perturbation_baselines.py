"""Do gene-level baselines predict responses as well, and do they once every gene is seen with the same power?"""

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
    offsets,
    point,
    reference_line,
    shorten,
)
from regulens.report.model import Row, RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import responders_label, score_label

NAME = "perturbation_baselines"
_PROPENSITY = "response_propensity"
_DIFFERENCE = ("delta", "delta_low", "delta_high")


def perturbation_baselines(view: RunView) -> Figure | None:
    """Per screen: attention among baselines, paired differences, and below them other kinds of responders."""
    tables: dict[str, dict[str, list[Row]]] = {}
    for model, screen, table in view.of(NAME, "pert_baselines"):
        tables.setdefault(screen, {})[model] = records(table)
    if not tables:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in t for t in tables.values())]
    step = 0.14 + 0.115 * len(models)
    orders = {s: _order(list(t.values())) for s, t in tables.items()}
    powers = {s: _power(view, s, list(t)) for s, t in tables.items()}
    heights = []
    for screen in tables:
        kinds = _kinds(powers[screen])
        heights += [0.8 + step * len(orders[screen]), 0.9 + 1.6 * step * len(kinds)]
    fig = new_figure(sum(heights) + 0.3 * (1 + len(models) / 2))
    grid = fig.subplots(2 * len(tables), 2, squeeze=False, width_ratios=(1.2, 1), height_ratios=heights)
    for k, (screen, found) in enumerate(tables.items()):
        _called(grid[2 * k], view, screen, found, orders[screen])
        _other_labels(grid[2 * k + 1], view, powers[screen])
    extra = (
        Line2D(
            [], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label="hollow: a baseline, below the best"
        ),
        Line2D([], [], color=MUTED, marker="o", lw=1.4, ms=5.5, label="filled: attention"),
        Line2D([], [], color=MUTED, marker="|", lw=1.4, ms=7, label="below, bar: responses to other perturbations"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance, or no difference"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def _order(tables: list[list[Row]]) -> list[str]:
    """Attention first, gene-level baselines by the largest AUROC over models, then the others."""
    late = {"margins": 1, "co-expression": 2, "random": 3}
    best: dict[str, tuple[int, float]] = {}
    for table in tables:
        for row in table:
            place = -1 if row["kind"] == "attention" else late.get(row["kind"], 0)
            value = 0.0 if is_missing(row["auroc"]) else -float(row["auroc"])
            best[row["baseline"]] = (place, min(value, best.get(row["baseline"], (0, 1.0))[1]))
    return sorted(best, key=lambda b: (best[b], b))


def _called(axes: tuple[Axes, Axes], view: RunView, screen: str, found: dict[str, list[Row]], order: list[str]) -> None:
    left, right = axes
    for model, dy in zip(found, offsets(len(found))):
        colour, marker = mark_of(view, model)
        for row in found[model]:
            mine = row["kind"] == "attention"
            y = order.index(row["baseline"]) + dy
            point(left, row, y, colour=colour, marker=marker, hollow=not mine)
            if not mine:
                point(right, row, y, colour=colour, marker=marker, hollow=True, names=_DIFFERENCE)
    reference_line(left, 0.5)
    reference_line(right, 0.0)
    left.axhspan(-0.5, 0.5, color=FAINT, lw=0, zorder=0)
    for ax in (left, right):
        ax.set_ylim(len(order) - 0.4, -0.6)
        ax.grid(axis="x", color=FAINT, lw=0.8)
    left.set_yticks(range(len(order)), [score_label(n) for n in order])
    right.set_yticks([])
    left.set_title(shorten(screen, 40))
    left.set_xlabel("mean AUROC (perturbation response)")
    right.set_title("paired difference, same pairs")
    right.set_xlabel("attention − baseline (positive: attention is better)")


def _power(view: RunView, screen: str, models: list[str]) -> dict[str, list[Row]]:
    out = {}
    for model in models:
        table = view.table(NAME, model, screen, "de_power")
        if table is not None:
            out[model] = records(table)
    return out


def _kinds(tables: dict[str, list[Row]]) -> list[str]:
    """Kinds of responders, in the order of the tables."""
    return list(dict.fromkeys(r["responders"] for rows in tables.values() for r in rows))


def _strongest(rows: list[Row], kind: str) -> tuple[Row | None, Row | None, Row | None]:
    """Rows of attention, of the strongest one-gene statistic and of the propensity under one kind of responders."""
    mine = [r for r in rows if r["responders"] == kind]
    single = [r for r in mine if str(r["score"]).startswith("target_") and not is_missing(r["auroc"])]
    best = max(single, key=lambda r: float(r["auroc"]), default=None)
    return (mine[0] if mine else None), best, next((r for r in mine if r["score"] == _PROPENSITY), None)


def _other_labels(axes: tuple[Axes, Axes], view: RunView, tables: dict[str, list[Row]]) -> None:
    """AUROC of attention, best one-gene statistic and propensity by kind of responders, and the differences."""
    left, right = axes
    kinds = _kinds(tables)
    if not kinds:
        left.set_visible(False)
        right.set_visible(False)
        return
    for model, dy in zip(tables, offsets(len(tables), 0.2)):
        colour, marker = mark_of(view, model)
        for y, kind in enumerate(kinds):
            attention, best, propensity = _strongest(tables[model], kind)
            for row, shift, mark in ((attention, -0.26, marker), (best, 0.0, marker), (propensity, 0.26, "|")):
                if row is None:
                    continue
                own = row is attention
                point(left, row, y + dy + shift, colour=colour, marker=mark, hollow=not own)
                if not own:
                    point(right, row, y + dy + shift, colour=colour, marker=mark, hollow=True, names=_DIFFERENCE)
    reference_line(left, 0.5)
    reference_line(right, 0.0)
    for ax in (left, right):
        for y in range(0, len(kinds), 2):
            ax.axhspan(y - 0.5, y + 0.5, color=FAINT, alpha=0.6, lw=0, zorder=0)
        ax.set_ylim(len(kinds) - 0.45, -0.55)
    left.set_yticks(range(len(kinds)), [responders_label(k) for k in kinds])
    right.set_yticks([])
    left.set_title("by how responders were told")
    left.set_xlabel("mean AUROC (perturbation response)")
    right.set_title("paired difference")
    right.set_xlabel("attention − baseline (positive: attention is better)")


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Above: attention (filled, shaded row) among numbers that know the responding gene alone, with paired "
        "differences. Below: the same against other responders. Where equal changes were planted in random genes, "
        "whatever predicts the calls measures the power to call them; where every gene was thinned to the same power, "
        "what is left is no matter of power. Per kind: attention, the strongest one-gene statistic, and how often the "
        f"gene responds to other perturbations. Bars: {100 * (1 - view.alpha):g} % intervals over perturbations and "
        "target genes."
    )


SPEC = FigureSpec(
    name="perturbation_baselines", analysis=NAME, draw=perturbation_baselines, caption=caption,
    alt="AUROC of attention and of gene-level baselines of responses, with paired differences, under several labels",
)  # fmt: skip
