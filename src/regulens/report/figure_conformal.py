"""What do sets with guaranteed coverage say? Coverage by label beside the promise, and how many labels sets hold."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import COLOURS, FAINT, INK, RULE, new_figure, shorten
from regulens.report.model import Row, RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import method_label

#: Number of labels in a set → column, colour, words.
_SIZES = (("empty", "#4B4B4B", "no label"), ("singleton", COLOURS[0], "one label"), ("both", RULE, "both labels"))
#: Pairs → column, mark, filled, words.
_LABELS = (
    ("coverage", "o", True, "all pairs"), ("coverage_no", "s", False, "no response"),
    ("coverage_yes", "D", False, "responders"),
)  # fmt: skip


def conformal(view: RunView) -> Figure | None:
    """Draw coverage beside set sizes, one row per model and screen; None when there are no sets."""
    found = [(m, r, _own(records(t))) for m, r, t in view.of("conformal", "conformal") if len(t)]
    if not found:
        return None
    heights = [1.0 + 0.19 * len(rows) for _, _, rows in found]
    fig = new_figure(0.7 + sum(heights))
    grid = fig.subplots(len(found), 2, squeeze=False, height_ratios=heights, width_ratios=(1.2, 1))
    for (left, right), (model, screen, rows) in zip(grid, found):
        _coverage(left, rows)
        _sizes(right, rows)
        left.set_title(f"{shorten(view.label(model), 26)} · {shorten(screen, 18)}")
        right.set_title("labels in a set")
    handles = [
        *(
            Line2D([], [], color=COLOURS[1], marker=m, mfc=COLOURS[1] if f else "white", lw=0, ms=5.5, label=w)
            for _, m, f, w in _LABELS
        ),
        Line2D([], [], color=INK, marker="|", lw=0, ms=9, mew=1.4, label="promised"),
        *(Patch(color=c, label=w) for _, c, w in _SIZES),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=7, frameon=False, handlelength=1.2, columnspacing=1.3)
    return fig


def _own(rows: list[Row]) -> list[Row]:
    """Rows of attention, which is read first."""
    return [r for r in rows if r["score"] == rows[0]["score"]]


def _coverage(ax: Axes, rows: list[Row]) -> None:
    for y, row in enumerate(rows):
        for column, mark, filled, _ in _LABELS:
            if not is_missing(row[column]):
                ax.plot([row[column]], [y], marker=mark, ms=5.2, color=COLOURS[1], mew=1.2, clip_on=False, zorder=3,
                        mfc=COLOURS[1] if filled else "white")  # fmt: skip
        ax.plot([row["promised"]], [y], marker="|", ms=11, mew=1.4, color=INK, zorder=4)
    ax.set_xlim(0, 1)
    ax.set_yticks(range(len(rows)), [_name(rows, y) for y in range(len(rows))])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("share of pairs whose set holds the true label")
    ax.grid(axis="x", color=FAINT, lw=0.8)


def _name(rows: list[Row], y: int) -> str:
    """Method where it begins, and the error rate that is allowed."""
    row = rows[y]
    first = y == 0 or rows[y - 1]["method"] != row["method"]
    return f"{method_label(row['method'])}   α = {row['alpha']:g}" if first else f"α = {row['alpha']:g}"


def _sizes(ax: Axes, rows: list[Row]) -> None:
    for y, row in enumerate(rows):
        start = 0.0
        for column, colour, _ in _SIZES:
            width = 0.0 if is_missing(row[column]) else float(row[column])
            ax.barh(y, width, left=start, color=colour, height=0.72, lw=0)
            start += width
    ax.set_xlim(0, 1)
    ax.set_yticks([])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("share of pairs")


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Sets of attention for pairs of perturbations that had no part in making them; means over repeated splits, "
        "each perturbation counting the same. The promise is about pairs at random: only sets made for each class "
        "promise it for responders too. Sets that hold both labels cover everything and say nothing; they are all "
        "there is where fewer perturbations calibrate than one over α, less one."
    )


SPEC = FigureSpec(
    name="conformal", analysis="conformal", draw=conformal, caption=caption,
    alt="Coverage of conformal sets by label beside the promise, and the number of labels in a set",
)  # fmt: skip
