"""Are matched genes alike, and does attention still tell responders from them? AUROCs, and a love plot of balance."""

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
from regulens.report.wording import feature_label, form_label, score_label

NAME = "propensity_matched"
_GOAL = 0.1
_SMD = (("smd_before", "o", False), ("smd_after", "o", True), ("smd_overlap", "D", True))


def propensity(view: RunView) -> Figure | None:
    """One line of two panels per screen; None when the analysis was not run or has no numbers."""
    tables: dict[str, dict[str, list[Row]]] = {}
    for model, screen, table in view.of(NAME, "matched_pert"):
        if len(table):
            tables.setdefault(screen, {})[model] = records(table)
    if not tables:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in t for t in tables.values())]
    lines = {s: list({_key(r): None for t in found.values() for r in t}) for s, found in tables.items()}
    heights = [0.9 + (0.16 + 0.16 * len(models)) * len(lines[s]) for s in tables]
    fig = new_figure(sum(heights) + 0.3 * (1 + len(models) / 2))
    grid = fig.subplots(len(tables), 2, squeeze=False, height_ratios=heights, width_ratios=(1.25, 1))
    for (left, right), (screen, found) in zip(grid, tables.items()):
        for model, dy in zip(found, offsets(len(found))):
            colour, marker = mark_of(view, model)
            for row in found[model]:
                rival = row["score"] in ("coexpression_abs", "propensity")
                point(left, row, lines[screen].index(_key(row)) + dy, colour=colour, marker=marker, hollow=rival)
        reference_line(left, 0.5)
        left.set_yticks(range(len(lines[screen])), [_words(k, found) for k in lines[screen]])
        left.set_ylim(len(lines[screen]) - 0.4, -0.6)
        left.set_title(shorten(screen, 40))
        left.set_xlabel("mean AUROC (perturbation response)")
        left.grid(axis="x", color=FAINT, lw=0.8)
        _love(right, view, screen, list(found))
    extra = (
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label="left, hollow: a rival"),
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=0, ms=5, label="right: before matching"),
        Line2D([], [], color=MUTED, marker="o", lw=0, ms=5, label="right: matched"),
        Line2D([], [], color=MUTED, marker="D", lw=0, ms=5, label="right: overlap weights"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def _key(row: Row) -> tuple[str, str]:
    return str(row["score"]), str(row["form"])


def _words(key: tuple[str, str], found: dict[str, list[Row]]) -> str:
    """Row label; says where matching did not balance in some model."""
    score, form = key
    name = score if score == "propensity" else score_label(score)
    rows = [r for t in found.values() for r in t if _key(r) == key]
    mark = " (not balanced)" if not all(bool(r["balanced"]) for r in rows) else ""
    return f"{name} · {form_label(form)}{mark}"


def _love(ax: Axes, view: RunView, screen: str, models: list[str]) -> None:
    """Standardised mean differences of every feature, before and after."""
    features: list[str] = []
    for model, dy in zip(models, offsets(len(models))):
        colour = mark_of(view, model)[0]
        for row in records(view.tables[(NAME, model, screen, "matched_pert_balance")]):
            if row["feature"] not in features:
                features.append(row["feature"])
            y = features.index(row["feature"]) + dy
            values = [float(row[c]) for c, *_ in _SMD if not is_missing(row[c])]
            if values:
                ax.plot([min(values), max(values)], [y, y], color=colour, lw=0.9, alpha=0.45, zorder=2)
            for column, marker, is_filled in _SMD:
                if not is_missing(row[column]):
                    ax.plot([float(row[column])], [y], marker=marker, ms=5, color=colour, mew=1.1, zorder=3,
                            mfc=colour if is_filled else "white", clip_on=False)  # fmt: skip
    ax.axvline(_GOAL, color=INK, lw=0.9, ls=(0, (1, 2)), zorder=1)
    ax.set_xlim(left=0)
    ax.set_yticks(range(len(features)), [feature_label(f) for f in features])
    ax.set_ylim(len(features) - 0.4, -0.6)
    ax.set_title("balance (dotted: goal)")
    ax.set_xlabel("standardised mean difference")
    ax.grid(axis="x", color=FAINT, lw=0.8)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: responding genes against genes of the same perturbation that were as likely to respond (matched), and "
        "against all genes with overlap weights; propensity itself must stay near 0.5. Right: balance of what the "
        f"propensity is made of. {100 * (1 - view.alpha):g} % intervals, jackknife over perturbations and genes "
        "(overlap weights: over perturbations)."
    )


SPEC = FigureSpec(
    name="propensity", analysis=NAME, draw=propensity, caption=caption,
    alt="AUROC against genes of equal propensity, and balance of the match",
)  # fmt: skip
