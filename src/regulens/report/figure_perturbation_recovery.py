"""Does attention say which genes respond? Every perturbation against co-expression, and the profile over layers."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import FAINT, INK, MUTED, legend, mark_of, new_figure, offsets, shorten
from regulens.report.model import Row, RunView, records
from regulens.report.numbers import count, is_missing
from regulens.report.wording import direction_label

NAME = "perturbation_recovery"
_RIVAL = "coexpression_abs"
_DASH = (0, (4, 3))


def perturbation_recovery(view: RunView) -> Figure | None:
    """One line of panels per screen: perturbations left, layers right; None when the analysis was not run."""
    found: dict[str, dict[str, list[Row]]] = {}
    for model, screen, table in view.of(NAME, "pert_auroc"):
        found.setdefault(screen, {})[model] = records(table)
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in f for f in found.values())]
    layered = _has_layers(view)
    fig = new_figure(0.9 + 4.1 * len(found) + 0.12 * len(models))
    grid = fig.subplots(len(found), 2, squeeze=False, width_ratios=(1, 1.15)) if layered else None
    alone = None if layered else fig.subplots(len(found), 1, squeeze=False)
    for line, (screen, tables) in enumerate(found.items()):
        left, right = (alone[line, 0], None) if grid is None else grid[line]
        n = 0
        for (model, rows), shift in zip(tables.items(), offsets(len(tables), 0.16)):
            n = max(n, _perturbations(left, view, model, screen, rows))
            if right is not None:
                _layers(right, view, model, screen, shift)
        _frame(left, f"{shorten(screen, 30)}: {count(n)} perturbations")
        if right is None:
            continue
        right.axhline(0.5, color=INK, lw=0.9, ls=_DASH, zorder=1)
        if not right.lines[:-1]:
            right.set_visible(False)
            continue
        right.set_title("layers (shaded: co-expression)")
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.set_xlabel("layer, counted from zero")
        right.set_ylabel("mean AUROC over perturbations")
        right.grid(axis="y", color=FAINT, lw=0.8)
    means = "mean, interval; right: perturbed gene attends" if layered else "mean, interval"
    other = Line2D(
        [], [], color=MUTED, marker="o", mfc="white", lw=1.0, ls=_DASH, ms=5, label="right: the other gene attends"
    )
    extra = (
        Line2D([], [], color=MUTED, marker="o", lw=0, ms=4.5, alpha=0.5, label="one perturbation"),
        Line2D([], [], color=MUTED, marker="o", lw=1.4, ms=6, label=means),
        *((other,) if layered else ()),
        Line2D([], [], color=INK, lw=0.9, ls=_DASH, label="chance (0.5)"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def _has_layers(view: RunView) -> bool:
    """Whether some model has layers to draw; an edge table has none."""
    return any(True for _ in view.of(NAME, "pert_layers"))


def _frame(ax: Axes, title: str) -> None:
    low, high = min(ax.get_xlim()[0], ax.get_ylim()[0], 0.4), max(ax.get_xlim()[1], ax.get_ylim()[1], 0.6)
    low, high = max(low, 0.0), min(high, 1.0)
    ax.plot([low, high], [low, high], color=MUTED, lw=0.9, zorder=1)
    ax.axhline(0.5, color=INK, lw=0.9, ls=_DASH, zorder=1)
    ax.axvline(0.5, color=INK, lw=0.9, ls=_DASH, zorder=1)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_box_aspect(1)
    ax.set_title(title)
    ax.set_xlabel("AUROC of co-expression (perturbation response)")
    ax.set_ylabel("AUROC of attention (perturbation response)")


def _primary(view: RunView, model: str, screen: str) -> Row | None:
    """Row of the summary of the plan's score: the first."""
    table = view.table(NAME, model, screen, "pert_summary")
    return None if table is None else records(table)[0]


def _perturbations(ax: Axes, view: RunView, model: str, screen: str, rows: list[Row]) -> int:
    """Points of one model; the number of perturbations."""
    colour, marker = mark_of(view, model)
    summary = view.table(NAME, model, screen, "pert_summary")
    by_score = {} if summary is None else {r["score"]: r for r in records(summary)}
    own = _primary(view, model, screen)
    name = rows[0]["score"] if own is None else own["score"]
    of = {s: {r["perturbation"]: r["auroc"] for r in rows if r["score"] == s} for s in (name, _RIVAL)}
    both = [p for p in of[name] if not is_missing(of[name][p]) and not is_missing(of[_RIVAL].get(p))]
    ax.plot([of[_RIVAL][p] for p in both], [of[name][p] for p in both], color=colour, marker=marker, lw=0, ms=3.6,
            alpha=0.45, mew=0, zorder=2)  # fmt: skip
    rival = by_score.get(_RIVAL)
    if own is not None and rival is not None and not is_missing(own["low"]) and not is_missing(rival["low"]):
        ax.plot([rival["auroc"]] * 2, [own["low"], own["high"]], color=colour, lw=1.8, zorder=4)
        ax.plot([rival["low"], rival["high"]], [own["auroc"]] * 2, color=colour, lw=1.8, zorder=4)
        ax.plot([rival["auroc"]], [own["auroc"]], color=colour, marker=marker, ms=8, mec="white", zorder=5)
    return len(both)


def _layers(ax: Axes, view: RunView, model: str, screen: str, shift: float) -> None:
    """Mean AUROC of every layer in both directions, over the interval of co-expression."""
    table = view.table(NAME, model, screen, "pert_layers")
    if table is None:
        return
    colour, marker = mark_of(view, model)
    own = _primary(view, model, screen)
    first = None if own is None else own["direction"]
    rows = records(table)
    for direction in dict.fromkeys(r["direction"] for r in rows):
        line = sorted((r for r in rows if r["direction"] == direction), key=lambda r: r["layer"])
        x = [r["layer"] + shift for r in line]
        mine = direction == first
        for r in line:
            if mine and not is_missing(r["low"]):
                ax.plot([r["layer"] + shift] * 2, [r["low"], r["high"]], color=colour, lw=1.3, zorder=3)
        ax.plot(x, [r["auroc"] for r in line], color=colour, lw=1.4 if mine else 1.0, ls="-" if mine else _DASH,
                marker=marker, ms=5, mfc=colour if mine else "white", zorder=4,
                label=direction_label(direction))  # fmt: skip
    summary = view.table(NAME, model, screen, "pert_summary")
    rival = next((r for r in ([] if summary is None else records(summary)) if r["score"] == _RIVAL), None)
    if rival is not None and not is_missing(rival["low"]):
        ax.axhspan(rival["low"], rival["high"], color=FAINT, lw=0, zorder=0)
        ax.axhline(rival["auroc"], color=MUTED, lw=0.9, zorder=1)


def caption(view: RunView) -> str:
    """What is drawn."""
    layered = _has_layers(view)
    layers = (
        "Right: mean over perturbations of every layer, both directions; the shaded band is co-expression. The best of "
        "several layers is a selection; the table of the nested choice says what it is worth. "
    )
    return (
        f"{'Left: one' if layered else 'One'} point per perturbation, attention of the control cells against "
        "co-expression in the same cells; large: the means with intervals. Above the diagonal attention ranks the "
        f"genes that respond better. {layers if layered else ''}Bars: "
        f"{100 * (1 - view.alpha):g} % intervals over perturbations and target genes, which perturbations share."
    )


SPEC = FigureSpec(
    name="perturbation_recovery", analysis=NAME, draw=perturbation_recovery, caption=caption,
    alt="AUROC of attention against co-expression, one point per perturbation, and mean AUROC over layers",
)  # fmt: skip
