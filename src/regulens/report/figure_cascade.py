"""Does attention stay above chance when the comparisons get stricter? One row per rung, one panel per reference."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

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
from regulens.report.model import RunView
from regulens.report.numbers import estimate, is_missing
from regulens.report.wording import interval_words, score_label
from regulens.types.nouns import ATTENTION

#: Rungs in order: (group, step, label, whether the score is attention itself).
RUNGS: tuple[tuple[str, str, str, bool], ...] = (
    ("All pairs: attention", "pooled", "pooled over layers and heads", True),
    ("All pairs: attention", "layer", "layer chosen on other pairs", True),
    ("All pairs: what knows nothing of pairs", "baseline", "strongest one-gene score", False),
    ("All pairs: what knows nothing of pairs", "gene_model", "fitted gene-only model", False),
    ("All pairs: what knows nothing of pairs", "marginal", "marginal-attention product", False),
    ("All pairs: co-expression", "coexpression", "|Spearman| over the same cells", False),
    ("All pairs: degrees of the network", "degree", "mean over networks of the same degrees", False),
    ("Expression-matched pairs", "matched", "attention", True),
    ("Expression-matched pairs", "matched_baseline", "marginal-attention product", False),
    ("All pairs: residual on both genes' expression", "residual", "attention", True),
)

#: Screens have a figure of their own: numbers of two endpoints never stand in one cascade.
ENDPOINT = "reference_recovery"

#: Distance between two models of one rung, in rows.
_GAP = 0.56


def cascade(view: RunView) -> Figure | None:
    """Draw the cascade; None when the run has no rung."""
    found = {
        (m, r, s): row for m, r in view.contexts_of(ENDPOINT) for _, s, _, _ in RUNGS if (row := view.step(m, r, s))
    }
    if not found:
        return None
    rungs = [g for g in RUNGS if any(step == g[1] for _, _, step in found)]
    if view.noun != ATTENTION:  # there are no layers and heads to pool over or to choose from
        rungs = [(*g[:2], "|weight|" if g[1] == "pooled" else g[2], g[3]) for g in rungs if g[1] != "layer"]
        found = {k: row for k, row in found.items() if k[2] != "layer"}
    references = [r for r in view.references if any(ref == r for _, ref, _ in found)]
    models = [m["name"] for m in view.models if any(name == m["name"] for name, _, _ in found)]
    places, headings, y, last = {}, [], 0.0, None
    pitch = max(1.0, _GAP * len(models) + 0.4)
    for group, step, _, _ in rungs:
        if group != last:
            y += 0.25 if last is not None else 0.0
            headings.append((y, group))
            y += 0.85
            last = group
        places[step] = y
        y += pitch
    columns = min(3, len(references))
    lines = math.ceil(len(references) / columns)
    fig = new_figure(lines * (0.245 * y + 0.75) + 0.3 + 0.22 * math.ceil((len(models) + 3) / 2))
    grid = fig.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    limits = _limits(found)
    for i, ax in enumerate(grid.flat):
        if i >= len(references):
            ax.set_visible(False)
            continue
        _panel(ax, view, found, rungs, references[i], models, places)
        ax.set_xlim(*limits)
        ax.set_ylim(y - 0.35, -0.7)
        ax.set_xlabel("AUROC (endpoint: reference recovery)" if columns < 3 else "AUROC (reference recovery)")
        ax.tick_params(labelbottom=True)
        first = i % columns == 0
        ax.set_yticks([places[s] for _, s, _, _ in rungs], [_name(found, s, label) for _, s, label, _ in rungs])
        ax.tick_params(axis="y", labelleft=first, pad=6)
        if first:
            for where, group in headings:
                ax.annotate(group, (0, where), xycoords=("axes fraction", "data"), xytext=(-6, 0),
                            textcoords="offset points", ha="right", va="center", fontsize=8.5, weight="bold",
                            color=INK)  # fmt: skip
    extra = (
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5, label="hollow: a rival of attention"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
        Patch(color=FAINT, label="too close to chance to be detected (power 0.8)"),
    )
    legend(fig, view, models, extra=extra)  # type: ignore[arg-type]
    return fig


def _name(found: dict[tuple[str, str, str], dict[str, object]], step: str, label: str) -> str:
    """Label of a rung; a layer says how it was chosen, as the analysis put it."""
    said = {str(row.get("score", "")) for (_, _, s), row in found.items() if s == step}
    if len(said) != 1:
        return label
    score = next(iter(said))
    if step == "pooled" and score not in ("", "pooled"):  # the plan named another score in advance
        return score_label(score)
    return score if step == "layer" and "chosen" in score else label


def _limits(found: dict[tuple[str, str, str], dict[str, object]]) -> tuple[float, float]:
    values = [0.47, 0.6]
    for row in found.values():
        values += [float(row[k]) for k in ("value", "low", "high", "mde") if not is_missing(row.get(k))]  # type: ignore[arg-type]
    low, high = max(0.0, min(values)), min(1.0, max(values))
    pad = 0.04 * (high - low)
    return low - pad, high + pad


def _panel(ax: Axes, view: RunView, found, rungs, reference: str, models: list[str], places: dict[str, float]) -> None:  # type: ignore[no-untyped-def]
    alone = len(view.references) == 1
    height = _GAP * len(models) + 0.25
    for _, step, _, is_attention in rungs:
        rows = [(m, found[(m, reference, step)]) for m in models if (m, reference, step) in found]
        blind = [float(r["mde"]) for _, r in rows if not is_missing(r.get("mde"))]
        if blind:
            ax.fill_between([0.5, max(blind)], places[step] - height / 2, places[step] + height / 2, color=FAINT,
                            lw=0, zorder=0)  # fmt: skip
        for (model, row), dy in zip(rows, offsets(len(rows), _GAP * (len(rows) - 1))):
            colour, marker = mark_of(view, model)
            y = places[step] + dy
            point(ax, row, y, colour=colour, marker=marker, hollow=not is_attention, names=("value", "low", "high"))
            if alone and not is_missing(row.get("value")):
                ax.annotate(estimate(row["value"], row["low"], row["high"]), (1, y),
                            xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points", va="center",
                            fontsize=8, color=colour, annotation_clip=False)  # fmt: skip
    reference_line(ax, 0.5)
    n_pos = sorted({int(found[k]["n_pos"]) for k in found if k[1] == reference and k[2] == "pooled"})
    words = f" · {n_pos[0]:,} positive pairs" if len(n_pos) == 1 and alone else ""
    ax.set_title(shorten(reference, 34) + words)
    ax.grid(axis="x", color=FAINT, lw=0.8)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "From the easiest comparison to the strictest. Filled marks are attention, hollow marks scores it has to beat; "
        "the dashed line is chance, the grey bar what these numbers of pairs cannot tell from chance. "
        f"{interval_words(view)}"
    )


SPEC = FigureSpec(
    name="cascade", analysis="", draw=cascade, caption=caption,
    alt="AUROC with intervals for each rung of the cascade",
)  # fmt: skip
