"""What is left once both genes' expression is taken out? Raw and residual AUROC side by side, for two kinds of fit."""

from __future__ import annotations

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
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import score_label


def residual(view: RunView) -> Figure | None:
    """Draw one panel per reference; None when the analysis was not run or has no numbers."""
    found = {(m, r): records(t) for m, r, t in view.of("cross_fitted_residual", "residual") if len(t)}
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] == a for a, _ in found)]
    references = [r for r in view.references if any(r == b for _, b in found)]
    fig = new_figure(0.8 + (0.9 + 0.42 * 4) * len(references))
    for ax, reference in zip(fig.subplots(len(references), 1, squeeze=False)[:, 0], references):
        labels: list[str] = []
        for model, dy in zip(models, offsets(len(models))):
            colour, marker = mark_of(view, model)
            for k, row in enumerate(found.get((model, reference), [])):
                rival = row["score"].startswith("coexpression")
                if k == len(labels):
                    labels.append(f"{score_label(row['score']) if rival else 'attention'} · {row['fit']}")
                if not is_missing(row["auroc_raw"]) and not is_missing(row["auroc_residual"]):
                    y = [k + dy, k + dy]
                    ax.plot([row["auroc_raw"], row["auroc_residual"]], y, color=colour, lw=0.9, alpha=0.45, zorder=2)
                    ax.plot([row["auroc_raw"]], y[:1], marker="|", ms=9, mew=1.6, color=colour, zorder=3)
                names = ("auroc_residual", "low", "high")
                point(ax, row, k + dy, colour=colour, marker=marker, hollow=rival, names=names)
        reference_line(ax, 0.5)
        ax.set_yticks(range(len(labels)), labels)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.set_title(shorten(reference, 46))
        ax.set_xlabel("AUROC (reference recovery)")
        ax.grid(axis="x", color=FAINT, lw=0.8)
    extra = (
        Line2D([], [], color=MUTED, marker="|", lw=0, ms=9, mew=1.6, label="raw score"),
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label="residual; hollow: a rival"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
    )
    legend(fig, view, models, extra=extra)
    return fig


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Tick: AUROC of the score as it is. Point: AUROC of what mean, variance and detection of both genes do not "
        f"predict, with its {100 * (1 - view.alpha):g} % interval; the prediction of a pair was learned on pairs that "
        "share no gene with it. Below: the same for co-expression over the same cells."
    )


SPEC = FigureSpec(
    name="residual", analysis="cross_fitted_residual", draw=residual, caption=caption,
    alt="AUROC of raw scores and of their residuals on both genes' expression",
)  # fmt: skip
