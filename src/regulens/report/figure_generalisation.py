"""Does what another screen chose hold in this one? Frozen choices beside those made here, on own and shared pairs."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import (
    COLOURS,
    FAINT,
    INK,
    MUTED,
    new_figure,
    offsets,
    point,
    reference_line,
    shorten,
)
from regulens.report.model import Row, RunView, records
from regulens.report.numbers import count, is_missing
from regulens.report.wording import effect_label, interval_words

_UNIVERSES = {"own": "each screen's own pairs", "shared": "pairs that the screens share"}
#: What is drawn of an effect → columns, colour, mark, hollow, words.
_MARKS = (
    (("first_nested", "", ""), COLOURS[7], "o", True, "where it was chosen (cross-fitted)"),
    (("frozen", "frozen_low", "frozen_high"), COLOURS[0], "o", False, "here, unchanged"),
    (("apart", "apart_low", "apart_high"), COLOURS[1], "s", False, "here, apart from perturbation and gene (tested)"),
    (("retuned", "retuned_low", "retuned_high"), COLOURS[2], "D", True, "here, chosen here (cross-fitted)"),
)


def generalisation(view: RunView) -> Figure | None:
    """Draw effects of choices, own pairs beside shared pairs; None when the analysis was not run."""
    found = []
    for model, screen, table in view.of("dataset_generalisation", "generalisation"):
        rows = records(table)
        first = rows[0]["chosen_in"]
        found.append((model, screen, str(first), [r for r in rows if r["chosen_in"] == first]))
    if not found:
        return None
    fig = new_figure(0.75 + 3.1 * len(found))
    grid = fig.subplots(len(found), 2, squeeze=False, sharex="row")
    for axes, (model, screen, first, rows) in zip(grid, found):
        for ax, (universe, words) in zip(axes, _UNIVERSES.items()):
            mine = [r for r in rows if r["universe"] == universe]
            if not mine:
                ax.set_visible(False)
                continue
            _effects(ax, mine, labelled=universe == "own")
            n = count(mine[0]["n_perturbations"])
            ax.set_title(f"{words}: {n} perturbations", fontsize=8.5)
        axes[0].set_ylabel(shorten(f"{view.label(model)}\n{first} → {screen}", 60), fontsize=8)
    fig.legend(
        handles=[
            *(
                Line2D([], [], color=c, marker=m, mfc="white" if hollow else c, lw=1.3, ms=5, label=words)
                for _, c, m, hollow, words in _MARKS
            ),
            Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance, or no difference"),
        ],
        loc="outside upper left", ncols=3, frameon=False, handlelength=1.6, columnspacing=1.6,
    )  # fmt: skip
    return fig


def _effects(ax: Axes, rows: list[Row], *, labelled: bool) -> None:
    rows = [r for r in rows if r["choice"]]
    for y, row in enumerate(rows):
        for (names, colour, marker, hollow, _), shift in zip(_MARKS, offsets(len(_MARKS), 0.6)):
            if not is_missing(row.get(names[0])):
                point(ax, row, y + shift, colour=colour, marker=marker, hollow=hollow, names=names)
    reference_line(ax, 0.0)
    words = [f"{effect_label(r['effect'])}\n{shorten(str(r['choice']), 36)}" for r in rows]
    ax.set_yticks(range(len(rows)), words if labelled else [""] * len(rows))
    ax.tick_params(axis="y", labelsize=7.5)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("mean AUROC − 0.5, or difference of mean AUROC", color=MUTED)
    ax.grid(axis="x", color=FAINT, lw=0.8)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "What another screen of the study chose (second line of each label), and what it is worth: where it was "
        "chosen, each perturbation by the choices of others; in this screen, unchanged; in this screen by choices that "
        "saw neither the perturbation nor the gene, which is what is tested; and what choices made in this screen "
        "give. "
        "An order of two scores counts above 0 where it is as the other screen has it. "
        f"{interval_words(view, 'perturbation_response')}"
    )


SPEC = FigureSpec(
    name="generalisation", analysis="dataset_generalisation", draw=generalisation, caption=caption,
    alt="Effects of choices made in another screen, in that screen and in this one",
)  # fmt: skip
