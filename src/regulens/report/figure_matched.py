"""Does attention separate true pairs from equally expressed ones? AUROC on matched pairs, and how well they match."""

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
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing
from regulens.report.wording import feature_label, form_label, interval_words, score_label, side_label

_BALANCE_GOAL = 0.1


def matched(view: RunView) -> Figure | None:
    """Draw matched AUROCs beside the balance; None when the analysis was not run."""
    found: dict[str, list[str]] = {}
    for model, reference, _ in view.of("expression_matched", "matched"):
        found.setdefault(reference, []).append(model)
    if not found:
        return None
    models = [m["name"] for m in view.models if any(m["name"] in f for f in found.values())]
    plans = {r: _rows(view, r, ms) for r, ms in found.items()}
    heights = [0.8 + (0.15 + 0.115 * len(models)) * max(len(a), len(b)) for a, b in plans.values()]
    fig = new_figure(sum(heights) + 0.25 * (1 + len(models) / 2))
    grid = fig.subplots(len(found), 2, squeeze=False, width_ratios=(1.15, 1), height_ratios=heights)
    for (left, right), (reference, names) in zip(grid, found.items()):
        scores, features = plans[reference]
        for model, dy in zip(names, offsets(len(names))):
            colour, marker = mark_of(view, model)
            for row in records(view.tables[("expression_matched", model, reference, "matched")]):
                y = scores.index((row["score"], row["form"])) + dy
                point(left, row, y, colour=colour, marker=marker, hollow=not _is_attention(row["score"]))
            balance = view.table("expression_matched", model, reference, "matched_balance")
            for row in [] if balance is None else records(balance):
                _balance(right, row, features.index((row["side"], row["feature"])) + dy, colour, marker)
        reference_line(left, 0.5)
        left.set_yticks(range(len(scores)), [_name(s, f) for s, f in scores])
        left.set_ylim(len(scores) - 0.4, -0.6)
        left.set_title(shorten(reference, 34))
        left.set_xlabel("AUROC on matched pairs (reference recovery)")
        left.grid(axis="x", color=FAINT, lw=0.8)
        if not features:
            right.set_visible(False)
            continue
        right.axvline(_BALANCE_GOAL, color=INK, lw=0.9, ls=(0, (1, 2)), zorder=1)
        right.set_xlim(left=0)
        right.set_yticks(range(len(features)), [f"{side_label(side)}'s {feature_label(f)}" for side, f in features])
        right.set_ylim(len(features) - 0.4, -0.6)
        right.set_title("balance of the match (dotted: goal)")
        right.set_xlabel("standardised mean difference")
        right.grid(axis="x", color=FAINT, lw=0.8)
    extra = (
        Line2D([], [], color=MUTED, marker="o", mfc="white", lw=1.4, ms=5.5,
               label="left, hollow: a rival; right, hollow: before matching"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance (0.5)"),
    )  # fmt: skip
    legend(fig, view, models, extra=extra)
    return fig


def _name(score: str, form: str) -> str:
    """Row label; "together" is the form that pools all matched pairs (not the score pooled over heads)."""
    words = "attention" if score == "pooled" else score_label(score)
    return f"{words} · {form_label(form)}"


def _is_attention(score: str) -> bool:
    return score in ("attention", "pooled") or (score[:1] == "L" and score[1:3].isdigit())


def _rows(view: RunView, reference: str, models: list[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(score, form) and (side, feature) of all models, in order of first appearance."""
    scores: dict[tuple[str, str], None] = {}
    features: dict[tuple[str, str], None] = {}
    for model in models:
        for row in records(view.tables[("expression_matched", model, reference, "matched")]):
            scores[(row["score"], row["form"])] = None
        balance = view.table("expression_matched", model, reference, "matched_balance")
        for row in [] if balance is None else records(balance):
            features[(row["side"], row["feature"])] = None
    return list(scores), list(features)


def _balance(ax: Axes, row: dict[str, object], y: float, colour: str, marker: str) -> None:
    before, after = (None if is_missing(row[k]) else abs(float(row[k])) for k in ("smd_before", "smd_after"))  # type: ignore[arg-type]
    if before is not None and after is not None:
        ax.plot([before, after], [y, y], color=colour, lw=0.9, alpha=0.45, zorder=2)
    for value, fill in ((before, "white"), (after, colour)):
        if value is not None:
            ax.plot([value], [y], marker=marker, ms=5, color=colour, mfc=fill, mew=1.1, zorder=3, clip_on=False)


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: each true pair against pairs of equally expressed genes (conditional), and all such pairs together. "
        f"Right: standardised mean difference before (hollow) and after (filled) matching. {interval_words(view)}"
    )


SPEC = FigureSpec(
    name="matched", analysis="expression_matched", draw=matched, caption=caption,
    alt="AUROC on expression-matched pairs and balance of the match",
)  # fmt: skip
