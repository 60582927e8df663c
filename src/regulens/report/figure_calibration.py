"""Do responses happen as often as scores say? Reliability diagrams, raw and calibrated, with bands."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import COLOURS, FAINT, INK, MARKS, new_figure, shorten
from regulens.report.model import Row, RunView, records
from regulens.report.wording import reading_label, score_label

#: Rivals of attention in the left panel.
_RIVALS = ("coexpression_abs", "target_variance")
_CALIBRATED = ("platt", "isotonic", "beta")


def calibration(view: RunView) -> Figure | None:
    """Draw raw scores beside calibrated attention, one row per model and screen; None when there are no curves."""
    found = [(m, r, records(t)) for m, r, t in view.of("calibration", "calibration_curve") if len(t)]
    if not found:
        return None
    fig = new_figure(0.7 + 3.1 * len(found))
    grid = fig.subplots(len(found), 2, squeeze=False)
    attention = ""
    for (left, right), (model, screen, rows) in zip(grid, found):
        attention = rows[0]["score"]  # attention is read first
        base = _base_rate(rows)
        for k, score in enumerate((attention, *_RIVALS)):
            _curve(left, [r for r in rows if (r["score"], r["calibration"]) == (score, "raw")], k)
        for k, way in enumerate(_CALIBRATED):
            _curve(right, [r for r in rows if (r["score"], r["calibration"]) == (attention, way)], k + 3)
        for ax in (left, right):
            top = max((r["high"] for r in rows if ax is left or r["score"] == attention), default=1.0)
            shown = [r["predicted"] for r in rows if r["score"] == attention and r["calibration"] in _CALIBRATED]
            end = 1.0 if ax is left else min(1.0, 1.1 * max(max(shown, default=1.0), top, base))
            ax.plot([0, end], [0, end], color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
            ax.axhline(base, color=INK, lw=0.9, ls=(0, (1, 2)), zorder=1.5)
            ax.set_xlim(0, end)
            ax.set_ylim(0, end)
            ax.grid(color=FAINT, lw=0.8)
            ax.set_xlabel("probability of a response, as said")
        left.set_ylabel("share that responded")
        left.set_title(f"{shorten(view.label(model), 26)} · {shorten(screen, 18)}: raw")
        right.set_title(f"{score_label(attention)}, calibrated")
    handles = [
        *(
            Line2D([], [], color=COLOURS[k], marker=MARKS[k], lw=1.2, ms=4.5, label=f"{score_label(s)}, raw")
            for k, s in enumerate((attention, *_RIVALS))
        ),
        *(
            Line2D([], [], color=COLOURS[k + 3], marker=MARKS[k + 3], lw=1.2, ms=4.5, label=reading_label(w))
            for k, w in enumerate(_CALIBRATED)
        ),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="as often as said"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (1, 2)), label="base rate"),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False, handlelength=1.8, columnspacing=1.8)
    return fig


def _base_rate(rows: list[Row]) -> float:
    """Share of responders over all pairs: that of any one reading's bins together."""
    one = [r for r in rows if (r["score"], r["calibration"]) == (rows[0]["score"], "raw")]
    return sum(r["observed"] * r["n_pairs"] for r in one) / max(sum(r["n_pairs"] for r in one), 1)


def _curve(ax: Axes, rows: list[Row], k: int) -> None:
    if not rows:
        return
    colour = COLOURS[k % len(COLOURS)]
    x = [r["predicted"] for r in rows]
    ax.fill_between(x, [r["low"] for r in rows], [r["high"] for r in rows], color=colour, alpha=0.13, lw=0, zorder=2)
    ax.plot(x, [r["observed"] for r in rows], color=colour, marker=MARKS[k % len(MARKS)], ms=4.2, lw=1.2, zorder=3)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Pairs in bins of equal size by their probability, each made while the pair's perturbation was left out. "
        f"Bands: {100 * (1 - view.alpha):g} % intervals from resampling perturbations. Left: scores as they are "
        "mapped to [0, 1], without a look at labels. Right: attention after calibration, on the range that it reaches. "
        "A curve along the dotted line is the base rate: calibrated, and silent."
    )


SPEC = FigureSpec(
    name="calibration", analysis="calibration", draw=calibration, caption=caption,
    alt="Reliability diagrams of raw scores and of calibrated attention",
)  # fmt: skip
